"""Maximum likelihood: the two-phase contrast.

    -d/dtheta mean log p(x) = < du/dtheta >_data - sum_i w_i du(X_i)/dtheta .

With uniform weights over persistent, restarted or noise-started walkers this is PCD, CD or short-run training; with the
weights of the account it is Jarzynski-corrected training. The rule is the same: the regulators differ. Its auxiliary
value `scores` holds the rows that the gradient is made of, for optimisers that use their metric.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._keys import named
from quasistatic._types import Key, ScalarLike
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.potential import Potential
from quasistatic.energies.rbm import RBM
from quasistatic.energies.starts import states_of
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel
from quasistatic.metric import scores_of
from quasistatic.rules.base import AbstractRule
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble

POSITIVE = ("exact", "sampled")
"""How the data phase treats hidden units."""


class MaximumLikelihood(AbstractRule):
    """Gradient of the negative log-likelihood.

    Args:
        weighted: use the walkers' account weights (True) or uniform weights.
        centred: centred gradient (models that define it: RBM).
        positive: `"exact"` hidden means or `"sampled"` hidden states in the data phase.
        l1: coefficient of `sum |w|` over interactions, nats.
        l2: coefficient of `1/2 sum w^2` over interactions, nats.
        beta_power: powers of beta left in the contrast of data and walkers (penalties are as given). 1: the gradient of
            the log-likelihood. 0: the factor `1/T` is dropped, as codes that put T into the conditionals alone do (a
            step then moves `theta / T` by `1/T` times what it would at T = 1). -1: `theta / T` moves at the same pace
            whatever T is.
        has_noise: form the model phase from two halves of the walkers and report the noise of it: `aux["noise"]`, and
            `aux["response"]`, the change of the descended gradient by that noise. Costs no further pass.
        data_noise: standard deviation of Gaussian noise that every batch gets anew (continuous samples): the model
            learns the blurred data.

    Reference:
        Carbone et al. 2023, section 2 (arXiv 2305.19414); Tieleman, ICML 2008 (PCD); Hinton, Neural Comput. 14 (2002)
        (CD).
    """

    weighted: bool = eqx.field(static=True, default=False)
    centred: bool = eqx.field(static=True, default=False)
    positive: str = eqx.field(static=True, default="exact")
    l1: float = 0.0
    l2: float = 0.0
    beta_power: int = eqx.field(static=True, default=1)
    has_noise: bool = eqx.field(static=True, default=False)
    data_noise: float = eqx.field(static=True, default=0.0)

    def __check_init__(self):
        if self.beta_power not in (-1, 0, 1):
            raise InputError(f"beta_power must be -1, 0 or 1, got {self.beta_power}")
        if self.positive not in POSITIVE:
            raise InputError(f"positive must be one of {POSITIVE}, got {self.positive!r}")
        for name in ("l1", "l2", "data_noise"):
            value = getattr(self, name)
            if isinstance(value, (int, float)) and not value >= 0:
                raise InputError(f"{name} must be a number >= 0, got {value}")

    def init(self, energy: AbstractEnergy) -> None:
        return None

    def check(self, energy: AbstractEnergy) -> None:
        if self.data_noise and states_of(energy, 1) is not None:
            raise InputError("data_noise is for continuous samples; set it to 0")
        if self.centred and not hasattr(energy, "centred"):
            raise InputError(f"{type(energy).__name__} has no centred gradient; set centred = false")
        if self.positive == "sampled" and not hasattr(energy, "sampled_gradient"):
            raise InputError(f"{type(energy).__name__} has no hidden units to sample; set positive = 'exact'")

    def gradient(
        self,
        key: Key,
        potential: Potential,
        kernel: AbstractKernel,
        batch: Float[Array, "batch ..."],
        ensemble: Ensemble,
        controls: Controls,
        rule_state: None,
    ) -> tuple[AbstractEnergy, dict[str, Any], None]:
        del controls
        energy: Any = potential.energy
        beta = potential.beta
        n = ensemble.n_walkers
        if self.data_noise:
            blur = jax.random.normal(named(key, "data noise"), batch.shape, batch.dtype)
            batch = batch + self.data_noise * blur
        weights = ensemble.weights() if self.weighted else jnp.full((n,), 1.0 / n, ensemble.u.dtype)
        uniform = jnp.full((len(batch),), 1.0 / len(batch), ensemble.u.dtype)
        scores = scores_of(
            potential,
            ensemble.x,
            batch,
            weights,
            uniform,
            cache=kernel.shared(ensemble.cache),
            is_centred=self.centred and isinstance(energy, RBM),
            is_weighted=self.weighted,
        )
        aux: dict[str, Any] = {}
        if self.positive == "sampled":
            data_phase = energy.sampled_gradient(key, batch, uniform, beta)
        else:
            data_phase = scores.data_phase()
        if self.has_noise:
            model_phase, noise = _in_halves(energy, kernel, ensemble, weights, beta)
            _, response = jax.jvp(lambda m: self._contrast(energy, data_phase, m, beta), (model_phase,), (noise,))
            aux |= {"noise": noise, "response": response}
        else:
            model_phase = scores.model_phase()
        gradient = self._contrast(energy, data_phase, model_phase, beta)
        penalty = self._penalty(gradient, energy)
        if penalty is not None:
            gradient = jax.tree.map(jnp.add, gradient, penalty)
        # sampled hidden states, or another power of beta, are not the rows that the gradient is made of
        if self.positive == "exact" and self.beta_power == 1:
            aux["scores"] = eqx.tree_at(lambda s: s.extra, scores, penalty, is_leaf=lambda leaf: leaf is None)
        return gradient, aux, rule_state

    def curvature(
        self, potential: Potential, batch: Float[Array, "batch ..."], ensemble: Ensemble, direction: Any
    ) -> Any:
        """Change of the gradient per unit of `direction`, its walkers reweighted to the shifted model.

        The Hessian of the negative log-likelihood as data and weighted walkers see it (with the penalties; centred
        where the gradient is). One forward derivative of the gradient.

        Args:
            potential: present model; `ensemble.u` belongs to it.
            batch: data, samples first.
            ensemble: the driver.
            direction: shaped like the trained parameters.
        """
        trained, fixed = eqx.partition(potential.energy, eqx.is_inexact_array)
        uniform = jnp.full((len(batch),), 1.0 / len(batch), ensemble.u.dtype)
        log_w = jnp.log(ensemble.weights())

        def gradient(parameters: Any) -> Any:
            energy: Any = eqx.combine(parameters, fixed)
            u = jax.vmap(Potential(energy, potential.beta))(ensemble.x, ensemble.context)
            weights = jax.nn.softmax(log_w - (u - ensemble.u))
            data = energy.weighted_gradient(batch, uniform, potential.beta)
            model = energy.weighted_gradient(ensemble.x, weights, potential.beta)
            contrast = self._contrast(energy, data, model, potential.beta)
            penalty = self._penalty(contrast, energy)
            return contrast if penalty is None else jax.tree.map(jnp.add, contrast, penalty)

        return jax.jvp(gradient, (trained,), (direction,))[1]

    def _contrast(self, energy: Any, data_phase: Any, model_phase: Any, beta: ScalarLike) -> Any:
        gradient = jax.tree.map(jnp.subtract, data_phase, model_phase)
        gradient = energy.centred(gradient, data_phase, model_phase, beta) if self.centred else gradient
        if self.beta_power == 1:
            return gradient
        factor = jnp.asarray(beta) ** (self.beta_power - 1)
        return jax.tree.map(lambda leaf: factor.astype(leaf.dtype) * leaf, gradient)

    def _penalty(self, gradient: AbstractEnergy, energy: AbstractEnergy) -> Any:
        """Gradient of the penalties, or None without any."""
        if not any(isinstance(c, Array) or c for c in (self.l1, self.l2)):
            return None

        def slope(part, parameter, is_interaction):
            if part is None:
                return None
            if not is_interaction:
                return jnp.zeros_like(part)
            return self.l1 * jnp.sign(parameter) + self.l2 * parameter

        return jax.tree.map(slope, gradient, energy, energy.interaction_mask(), is_leaf=lambda leaf: leaf is None)


def _in_halves(
    energy: Any, kernel: AbstractKernel, ensemble: Ensemble, weights: Float[Array, " n"], beta: ScalarLike
) -> tuple[Any, Any]:
    """Model phase as the sum over two halves `A`, `B` of the walkers, and a vector with the covariance of its noise.

    With `W` the halves' shares of the weight and `g` their own averages, that vector is `sqrt(W_A W_B) (g_A - g_B)`.
    """
    half = ensemble.n_walkers // 2
    cache = kernel.shared(ensemble.cache)

    def part(chosen: slice) -> Any:
        some = jax.tree.map(lambda leaf: leaf[chosen], cache)
        return energy.weighted_gradient(ensemble.x[chosen], weights[chosen], beta, some)

    a, b = part(slice(0, half)), part(slice(half, None))
    ratio = jnp.sqrt(jnp.sum(weights[half:]) / jnp.sum(weights[:half]))
    noise = jax.tree.map(lambda x, y: ratio.astype(x.dtype) * x - y / ratio.astype(x.dtype), a, b)
    return jax.tree.map(jnp.add, a, b), noise
