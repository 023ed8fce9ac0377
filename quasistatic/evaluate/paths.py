"""Paths of laws from a base with known Z to a model, for annealing in either direction.

A path has laws for fractions `s` in [0, 1], from the base to the model at one beta. For RBMs it is the path of
Salakhutdinov and Murray on the visible marginal: at `s` the model is itself an RBM with

    weights s W,   hidden bias s c,   visible bias (1 - s) b_base + s b ,

so block Gibbs stays available. All hidden inputs of the path are `s (c + v'W)`: kernels cache the unscaled
`c + v'W`, and the work of a step along the path needs no further matrix product. Other energies mix potentials,
`u_s = (1 - s) u_base + s u`.

Reference:
    R. Salakhutdinov and I. Murray, ICML 2008, section 4; R. M. Neal, Stat. Comput. 11, 125 (2001).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._types import Scalar, ScalarLike
from quasistatic.energies.base import AbstractEnergy, AbstractTractable
from quasistatic.energies.gaussian import IndependentUnits
from quasistatic.energies.pairwise import Pairwise
from quasistatic.energies.potential import Potential
from quasistatic.energies.rbm import RBM
from quasistatic.energies.units import AbstractUnits
from quasistatic.energies.wrappers import Interpolated
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel, KernelState
from quasistatic.kernels.gibbs import BlockGibbs, Gibbs
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.process import switch


class AnnealedRBM(AbstractEnergy):
    """RBM at a fraction of its path from independent visible units, with the RBM's interface to block Gibbs.

    Its `hidden_inputs` are those of the full model; the fraction scales them where natural parameters are made, so they
    stay valid as the fraction changes.

    Args:
        target: the model at `s = 1`.
        base_fields: `b_base`, shape `(n_visible,)`.
        fraction: `s`, a traced scalar in [0, 1].
    """

    target: RBM
    base_fields: Float[Array, " n_visible"]
    fraction: ScalarLike

    @property
    def visible(self) -> AbstractUnits:
        return self.target.visible

    @property
    def hidden(self) -> AbstractUnits:
        return self.target.hidden

    @property
    def visible_bias(self) -> Float[Array, " n_visible"]:
        return (1 - self.fraction) * self.base_fields + self.fraction * self.target.visible_bias

    def hidden_inputs(self, v: Float[Array, "*n n_visible"]) -> Float[Array, "*n n_hidden"]:
        return self.target.hidden_inputs(v)

    def hidden_natural(self, inputs: Float[Array, " n_hidden"], beta: ScalarLike) -> Any:
        return self.target.hidden_natural(self.fraction * inputs, beta)

    def visible_inputs(self, h: Float[Array, "*n n_hidden"]) -> Float[Array, "*n n_visible"]:
        return self.visible_bias + self.fraction * (h @ self.target.weights.T)

    def visible_natural(self, inputs: Float[Array, " n_visible"], beta: ScalarLike) -> Any:
        return self.target.visible_natural(inputs, beta)

    def reduced_from_inputs(
        self, v: Float[Array, " n_visible"], inputs: Float[Array, " n_hidden"], beta: ScalarLike
    ) -> Scalar:
        visible_part = beta * (jnp.sum(self.visible.energies(v)) - self.visible_bias @ v)
        return visible_part - jnp.sum(self.hidden.cgf(self.hidden_natural(inputs, beta)))

    def reduced(self, x: Float[Array, " n_visible"], beta: ScalarLike, context: Any = None) -> Scalar:
        del context
        return self.reduced_from_inputs(x, self.hidden_inputs(x), beta)

    def __call__(self, x: Float[Array, " n_visible"]) -> Scalar:
        return self.reduced(x, 1.0)

    def work(
        self,
        v: Float[Array, " n_visible"],
        inputs: Float[Array, " n_hidden"],
        beta: ScalarLike,
        fraction: ScalarLike,
    ) -> Scalar:
        """`u_new(v) - u(v)` of a step to another fraction, unit by unit: small numbers, not two large sums."""
        after = AnnealedRBM(self.target, self.base_fields, fraction)
        visible_part = (self.fraction - fraction) * beta * ((self.target.visible_bias - self.base_fields) @ v)
        change = self.hidden.cgf(after.hidden_natural(inputs, beta)) - self.hidden.cgf(
            self.hidden_natural(inputs, beta)
        )
        return visible_part - jnp.sum(change)


class AnnealedPairwise(AbstractEnergy):
    """Pairwise model at a fraction of its path from independent units, with the interface to its Gibbs kernel.

    Args:
        target: the model at `s = 1`.
        matrix: its coupling matrix, made once for the whole path.
        base_fields: fields at `s = 0`, shape `(n,)`.
        fraction: `s`, a traced scalar in [0, 1].
    """

    target: Pairwise
    matrix: Float[Array, "n n"]
    base_fields: Float[Array, " n"]
    fraction: ScalarLike

    @property
    def units(self) -> AbstractUnits:
        return self.target.units

    @property
    def fields(self) -> Float[Array, " n"]:
        return (1 - self.fraction) * self.base_fields + self.fraction * self.target.fields

    def coupling_matrix(self) -> Float[Array, "n n"]:
        return self.fraction * self.matrix

    def local_fields(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.fields + self.fraction * (self.matrix @ x)

    def energy_from_fields(self, x: Float[Array, " n"], local: Float[Array, " n"]) -> Scalar:
        return -0.5 * jnp.sum(x * (local + self.fields))

    def __call__(self, x: Float[Array, " n"]) -> Scalar:
        return self.energy_from_fields(x, self.local_fields(x))


def path_at(
    energy: AbstractEnergy, base: AbstractTractable, fraction: ScalarLike, matrix: Array | None = None
) -> AbstractEnergy:
    """Law at a fraction of the path from `base` to `energy`; `matrix`: couplings of a pairwise model, if at hand."""
    if isinstance(energy, RBM) and isinstance(base, IndependentUnits):
        return AnnealedRBM(energy, base.fields, fraction)
    if isinstance(energy, Pairwise) and isinstance(base, IndependentUnits):
        return AnnealedPairwise(energy, energy.coupling_matrix() if matrix is None else matrix, base.fields, fraction)
    return Interpolated(base, energy, fraction)


def log_partition_start(energy: AbstractEnergy, base: AbstractTractable, beta: ScalarLike) -> Scalar:
    """`log Z` of the path at fraction 0: the base, and the free hidden units of an RBM."""
    log_z = base.log_partition(beta)
    if isinstance(energy, RBM) and isinstance(base, IndependentUnits):
        log_z = log_z + jnp.sum(energy.hidden.cgf(energy.hidden_natural(jnp.zeros_like(energy.hidden_bias), beta)))
    return log_z


def switch_along(
    kernel: AbstractKernel, before: AbstractEnergy, after: AbstractEnergy, beta: ScalarLike, ensemble: Ensemble
) -> Ensemble:
    """Switches walkers from one law of a path to another and books the work."""
    if not isinstance(before, AnnealedRBM) or not isinstance(after, AnnealedRBM):
        return switch(kernel, Potential(after, beta), ensemble)[0]
    work = jax.vmap(lambda v, inputs: before.work(v, inputs, beta, after.fraction))(ensemble.x, ensemble.cache)
    zeros = jnp.zeros_like(work)
    account = ensemble.account.book(work=work, heat=zeros, shadow_work=zeros)
    return ensemble.with_state(KernelState(ensemble.x, ensemble.u + work, ensemble.cache), account)


def default_kernel(energy: AbstractEnergy) -> AbstractKernel:
    """Kernel that anneals an energy: block Gibbs for RBMs, Gibbs for pairwise models (coloured where that is cheaper).

    Raises:
        InputError: any other energy; the caller has to name a kernel.
    """
    if isinstance(energy, RBM):
        return BlockGibbs()
    if isinstance(energy, Pairwise):
        coloured = Gibbs.coloured(energy)
        return coloured if coloured.n_colours <= max(2, energy.units.size // 8) else Gibbs()
    raise InputError(
        f"annealing a {type(energy).__name__} needs a kernel: MALA() (with a step_size) for continuous samples "
        "or SiteGibbs(levels) for two-state ones"
    )


def base_at(
    data: Float[Array | np.ndarray, "n_samples n"], units: AbstractUnits, beta: float = 1.0
) -> IndependentUnits:
    """Independent units with the (smoothed) means of data at `beta`: the base of every path to a trained model.

    Args:
        data: samples of these units.
        units: the unit type.
        beta: inverse temperature at which the base is used.
    """
    if units.levels is None:
        raise InputError(f"{type(units).__name__} units have no levels to smooth their means with; give a base")
    x = np.asarray(data, np.float64)
    units.validate(x)
    # one pseudo-sample per level keeps the fields finite where a unit never changes
    mean = (x.sum(0) + sum(units.levels)) / (len(x) + len(units.levels))
    return IndependentUnits(units.field_of_mean(jnp.asarray(mean, jnp.result_type(float))) / beta, units)
