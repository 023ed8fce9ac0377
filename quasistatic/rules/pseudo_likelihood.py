"""Pseudo-likelihood: every unit predicted from all others; exact, without walkers, and not the likelihood.

    L(theta) = - mean sum_i log p(x_i | x_rest) = mean sum_i log( 1 + exp( u(x) - u(x with i flipped) ) ) .

Reference:
    J. Besag, The Statistician 24, 179 (1975).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import Key, Scalar
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel
from quasistatic.rules.base import AbstractRule, gradient_of, levels_of
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble


class PseudoLikelihood(AbstractRule):
    """Gradient of the negative pseudo-log-likelihood of two-state samples.

    Args:
        n_sites: units per sample and update, drawn at random and counted up to all of them; 0 for all.
    """

    n_sites: int = 0

    def __check_init__(self):
        if self.n_sites < 0:
            raise InputError(f"n_sites is a number of units per sample, 0 for all; got {self.n_sites}")

    def init(self, energy: AbstractEnergy) -> None:
        return None

    def check(self, energy: AbstractEnergy) -> None:
        levels = levels_of(energy)
        if levels is None or len(levels) != 2:
            raise InputError(f"the pseudo-likelihood is for two-state samples; {type(energy).__name__} has others")

    def loss(self, key: Key, potential: Potential, batch: Float[Array, "batch n"]) -> Scalar:
        """The loss of a batch."""
        low, high = levels_of(potential.energy) or (0.0, 1.0)
        n = batch.shape[1]
        n_sites = self.n_sites or n

        def one(key_sample, x):
            chosen = jnp.arange(n) if n_sites >= n else jax.random.choice(key_sample, n, (n_sites,), replace=False)
            u = potential(x)
            flipped = jax.vmap(lambda i: potential(x.at[i].set(low + high - x[i])))(chosen)
            return n / chosen.size * jnp.sum(jax.nn.softplus(u - flipped))

        return jnp.mean(jax.vmap(one)(jax.random.split(key, len(batch)), batch))

    def gradient(
        self,
        key: Key,
        potential: Potential,
        kernel: AbstractKernel,
        batch: Float[Array, "batch n"],
        ensemble: Ensemble,
        controls: Controls,
        rule_state: None,
    ) -> tuple[AbstractEnergy, dict[str, Any], None]:
        del kernel, ensemble, controls
        return gradient_of(lambda p: self.loss(key, p, batch), potential), {}, rule_state
