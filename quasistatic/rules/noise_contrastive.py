"""Noise-contrastive estimation: tell data from noise, and learn `log Z` as the threshold.

With log odds `G(x) = -u(x) - c - log q(x)` for a noise law `q`,

    L(theta, c) = - E_data log sigmoid(G) - E_q log sigmoid(-G) ,

minimal at the data law with `c = log Z`. The loss is convex in `c`, which is solved for on every batch (Newton), so
that the gradient in `theta` is taken at the best threshold; `c` is kept in the state of the rule.

Reference:
    M. Gutmann and A. Hyvarinen, J. Mach. Learn. Res. 13, 307 (2012).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import Key, Scalar
from quasistatic.energies.base import AbstractEnergy, AbstractTractable
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel
from quasistatic.rules.base import AbstractRule, gradient_of
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble


class NoiseContrastive(AbstractRule):
    """Gradient of the noise-contrastive loss; the state of the rule is the threshold `c`, an estimate of `log Z`.

    Args:
        noise: law of the noise, at beta = 1. Its samples must cover the data, and resemble them to be of use.
    """

    noise: AbstractTractable

    def __check_init__(self):
        if not isinstance(self.noise, AbstractTractable):
            raise InputError(f"the noise must be a law with known log Z, got {type(self.noise).__name__}")

    def init(self, energy: AbstractEnergy) -> Scalar:
        return jnp.zeros(())

    def log_odds(self, potential: Potential, x: Float[Array, "n ..."]) -> Float[Array, " n"]:
        """`-u(x) - log q(x)`: the log odds for data up to the threshold."""
        return jax.vmap(lambda a: self.noise.reduced(a, 1.0) - potential(a))(x) + self.noise.log_partition(1.0)

    def threshold(self, data: Float[Array, " n"], noise: Float[Array, " n"]) -> Scalar:
        """`c` that minimises the loss: as many noise samples are taken for data as data for noise."""

        def newton(_, c):
            p_data, p_noise = jax.nn.sigmoid(data - c), jax.nn.sigmoid(noise - c)
            slope = jnp.sum(1 - p_data) - jnp.sum(p_noise)
            curvature = jnp.sum(p_data * (1 - p_data)) + jnp.sum(p_noise * (1 - p_noise))
            return c - jnp.clip(slope / jnp.maximum(curvature, 1e-6 * data.size), -5.0, 5.0)

        start = 0.5 * (jnp.mean(data) + jnp.mean(noise))
        return jax.lax.stop_gradient(jax.lax.fori_loop(0, 60, newton, start))

    def gradient(
        self,
        key: Key,
        potential: Potential,
        kernel: AbstractKernel,
        batch: Float[Array, "batch ..."],
        ensemble: Ensemble,
        controls: Controls,
        rule_state: Scalar,
    ) -> tuple[AbstractEnergy, dict[str, Any], Scalar]:
        del kernel, ensemble, controls
        noise = self.noise.sample_exact(key, 1.0, len(batch)).astype(batch.dtype)
        c = self.threshold(self.log_odds(potential, batch), self.log_odds(potential, noise))

        def loss(p: Potential) -> Scalar:
            on_data, on_noise = self.log_odds(p, batch) - c, self.log_odds(p, noise) - c
            return jnp.mean(jax.nn.softplus(-on_data)) + jnp.mean(jax.nn.softplus(on_noise))

        return gradient_of(loss, potential), {}, c.astype(rule_state.dtype)
