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

from quasistatic._types import Key
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.potential import Potential
from quasistatic.energies.rbm import RBM
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

    Reference:
        Carbone et al. 2023, section 2 (arXiv 2305.19414); Tieleman, ICML 2008 (PCD); Hinton, Neural Comput. 14 (2002)
        (CD).
    """

    weighted: bool = eqx.field(static=True, default=False)
    centred: bool = eqx.field(static=True, default=False)
    positive: str = eqx.field(static=True, default="exact")
    l1: float = 0.0
    l2: float = 0.0

    def __check_init__(self):
        if self.positive not in POSITIVE:
            raise InputError(f"positive must be one of {POSITIVE}, got {self.positive!r}")
        for name in ("l1", "l2"):
            value = getattr(self, name)
            if isinstance(value, (int, float)) and not value >= 0:
                raise InputError(f"{name} must be a number >= 0, got {value}")

    def init(self, energy: AbstractEnergy) -> None:
        return None

    def check(self, energy: AbstractEnergy) -> None:
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
        n = ensemble.n_walkers
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
        model_phase, aux = scores.model_phase(), {}
        if self.positive == "sampled":
            data_phase = energy.sampled_gradient(key, batch, uniform, potential.beta)
        else:
            data_phase = scores.data_phase()
        gradient = jax.tree.map(jnp.subtract, data_phase, model_phase)
        if self.centred:
            gradient = energy.centred(gradient, data_phase, model_phase, potential.beta)
        penalty = self._penalty(gradient, energy)
        if penalty is not None:
            gradient = jax.tree.map(jnp.add, gradient, penalty)
        if self.positive == "exact":  # sampled hidden states are not the rows that the gradient is made of
            aux["scores"] = eqx.tree_at(lambda s: s.extra, scores, penalty, is_leaf=lambda leaf: leaf is None)
        return gradient, aux, rule_state

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
