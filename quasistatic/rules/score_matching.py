"""Denoising score matching: no walkers, no log Z; the baseline that learns local slopes.

    L(theta) = sigma^2 / 2  E | grad u_theta(x + sigma e) - e / sigma |^2 ,     e ~ N(0, I),

minimal where `exp(-u)` is the law of the *noisy* data (variance `sigma^2` more per coordinate). A score knows nothing
of the relative mass of separated modes, which is what the weights of `quasistatic.jarzynski` are for.

Reference:
    P. Vincent, Neural Comput. 23, 1661 (2011).
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


class ScoreMatching(AbstractRule):
    """Gradient of the denoising score-matching loss.

    Args:
        sigma: standard deviation of the noise, in the units of the samples.
    """

    sigma: float = 0.1

    def __check_init__(self):
        if isinstance(self.sigma, (int, float)) and not self.sigma > 0:
            raise InputError(f"the noise needs sigma > 0, got {self.sigma}")

    def init(self, energy: AbstractEnergy) -> None:
        return None

    def check(self, energy: AbstractEnergy) -> None:
        if levels_of(energy) is not None:
            raise InputError(f"score matching is for continuous samples; {type(energy).__name__} has discrete ones")

    def loss(self, key: Key, potential: Potential, batch: Float[Array, "batch ..."]) -> Scalar:
        """The loss of a batch, with fresh noise."""
        noise = jax.random.normal(key, batch.shape, batch.dtype)

        def one(x, e):
            slope = jax.grad(potential)(x + self.sigma * e)
            return 0.5 * jnp.sum((self.sigma * slope - e) ** 2)

        return jnp.mean(jax.vmap(one)(batch, noise))

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
        del kernel, ensemble, controls
        return gradient_of(lambda p: self.loss(key, p, batch), potential), {}, rule_state
