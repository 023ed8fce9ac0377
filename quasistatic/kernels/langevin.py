"""Unadjusted Langevin algorithm, with exact books.

    x' = x - h g(x) + sqrt(2h) xi,     g = grad u,
    heat = log K(x' -> x) - log K(x -> x') = ( |x' - x + h g(x)|^2 - |x - x' + h g'(x')|^2 ) / (4h).

The chain does not leave `exp(-u)` invariant; `du - heat` (the shadow work) is exactly what corrects the weights for it,
at any step size. In the **fused** move the forward density uses the old model and the backward density `g'` the new
one, so a parameter update needs no second gradient evaluation; work and shadow work are then one number.

Reference:
    Carbone, Hua, Coste and Vanden-Eijnden, NeurIPS 2023, proposition 1 and algorithm 1 (arXiv 2305.19414).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import Key, Scalar, ScalarLike
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.gaussian import UniformBox
from quasistatic.energies.potential import Potential
from quasistatic.energies.wrappers import Interpolated
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel, Info, KernelState, repeat


def log_forward(
    x: Float[Array, "*d"], y: Float[Array, "*d"], gradient: Float[Array, "*d"], step_size: ScalarLike
) -> Scalar:
    """`log K(x -> y)` of one Langevin move up to its normalisation, `-|y - x + h g(x)|^2 / (4h)`."""
    return -jnp.sum((y - x + step_size * gradient) ** 2) / (4 * step_size)


def propose(key: Key, x: Float[Array, "*d"], gradient: Float[Array, "*d"], step_size: ScalarLike) -> Float[Array, "*d"]:
    """`x - h g + sqrt(2h) xi` (noise variance `2h`: anything else samples another temperature)."""
    noise = jax.random.normal(key, jnp.shape(x), x.dtype)
    return x - step_size * gradient + jnp.sqrt(2 * step_size) * noise


class Langevin(AbstractKernel):
    """Unadjusted Langevin kernel.

    Args:
        is_fused: False: switch, then relax (one extra gradient per update, slightly better weights). True: the paper's
            move, the first sweep of a step also carries the parameter change.
    """

    is_fused: bool = eqx.field(static=True, default=False)

    @property
    def moves_with_switch(self) -> bool:
        return self.is_fused

    def init(self, potential: Potential, x: Float[Array, "*d"], context: Any = None) -> KernelState:
        u, gradient = jax.value_and_grad(potential)(x, context)
        return KernelState(x, u, gradient)

    def step(
        self, key: Key, after: Potential, state: KernelState, controls: Any, context: Any = None
    ) -> tuple[KernelState, Scalar, Info]:
        h = jnp.asarray(controls.step_size, state.x.dtype)

        def move(i, carry):
            old, heat = carry
            y = propose(jax.random.fold_in(key, i), old.x, old.cache, h)
            new = self.init(after, y, context)
            return new, heat + log_forward(y, old.x, new.cache, h) - log_forward(old.x, y, old.cache, h)

        state, heat = repeat(controls.n_sweeps, move, (state, jnp.zeros_like(state.u)))
        return state, heat, {}

    def check(self, energy: AbstractEnergy) -> None:
        if getattr(energy, "levels", None) is not None or hasattr(energy, "units") or hasattr(energy, "visible"):
            raise InputError(
                f"Langevin kernels move continuous samples, but {type(energy).__name__} has discrete ones; use Gibbs"
            )
        if isinstance(energy, UniformBox) or (isinstance(energy, Interpolated) and isinstance(energy.base, UniformBox)):
            raise InputError("unadjusted Langevin walkers leave a box; use MALA with a uniform base")
