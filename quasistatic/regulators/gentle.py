"""Gentleness: updates shortened, and sweeps added, so that the driver's weights survive them.

An update of the parameters costs effective sample size: to second order `ess'/ess = exp(-dtheta' F dtheta)` with
`F = Cov(du/dtheta)`, that is `exp(-2 KL)` between the old model and the new. A bound on that loss is a trust region in
relative entropy, and needs one evaluation of the driver's potential per trial.

Both read the driver only. The auditor follows whatever path results, and stays unbiased for it.

Reference:
    Carbone et al., NeurIPS 2023 (arXiv 2305.19414), algorithm 1, whose weights these are; the loss of a mean shift
    `d` of a Gaussian, `exp(-d' Sigma^-1 d)`, is exact and is what the tests hold this against.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._numerics import ess_fraction
from quasistatic._types import Key, Scalar
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel
from quasistatic.regulators.base import AbstractRegulator, Reading
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble


class KeepESS(eqx.Module):
    """Shortens an update until the driver keeps a fraction of its effective sample size.

    Args:
        fraction: smallest allowed `ess(after) / ess(before)` of one update, in (0, 1).
        factor: what a refused update is multiplied by.
        max_trials: updates shorter than `factor^max_trials` are made in any case.
    """

    fraction: float = 0.9
    factor: float = 0.5
    max_trials: int = eqx.field(static=True, default=12)

    def __check_init__(self):
        for name in ("fraction", "factor"):
            value = getattr(self, name)
            if isinstance(value, (int, float)) and not 0 < value < 1:
                raise InputError(f"{name} must lie strictly between 0 and 1, got {value}")
        if self.max_trials < 1:
            raise InputError(f"max_trials must be at least 1, got {self.max_trials}")

    def scale(self, potential: Potential, updates: Any, ensemble: Ensemble) -> Scalar:
        """Factor on the update, 1 where it is gentle enough.

        Args:
            potential: present model; `ensemble.u` belongs to it.
            updates: proposed change of the trained parameters, a pytree like them.
            ensemble: the driver.
        """
        trained, fixed = eqx.partition(potential.energy, eqx.is_inexact_array)
        log_weight = ensemble.by_group(ensemble.log_weight())
        least = self.fraction * jnp.min(ess_fraction(log_weight, axis=-1))

        def ess_after(scale: Any) -> Scalar:
            moved = jax.tree.map(lambda p, d: p + (scale * d).astype(p.dtype), trained, updates)
            energy: AbstractEnergy = eqx.combine(moved, fixed)
            u = jax.vmap(Potential(energy, potential.beta))(ensemble.x, ensemble.context)
            return jnp.min(ess_fraction(log_weight - ensemble.by_group(u - ensemble.u), axis=-1))

        def is_violent(carry: tuple) -> Any:
            _, trial, ess = carry
            return (trial < self.max_trials) & ~(ess >= least)  # NaN is violent

        def shorten(carry: tuple) -> tuple:
            scale, trial, _ = carry
            scale = scale * self.factor
            return scale, trial + 1, ess_after(scale)

        one = jnp.ones((), ensemble.u.dtype)
        return jax.lax.while_loop(is_violent, shorten, (one, jnp.zeros((), jnp.int32), ess_after(one)))[0]


class Sweeps(AbstractRegulator):
    """More sweeps per update while the driver's effective sample size is low, fewer while it is high.

    The number of sweeps is doubled below `low` and reduced by one above `high`, within bounds.

    Args:
        low: ESS fraction below which sweeps are added.
        high: ESS fraction above which they are taken back.
        n_min: fewest sweeps.
        n_max: most sweeps.
        every: updates between two changes.
    """

    low: float = 0.5
    high: float = 0.8
    n_min: int = eqx.field(static=True, default=1)
    n_max: int = eqx.field(static=True, default=64)
    every: int = eqx.field(static=True, default=10)

    def __check_init__(self):
        if not 1 <= self.n_min <= self.n_max or self.every < 1:
            raise InputError(
                f"sweeps lie between 1 <= n_min <= n_max and change every n >= 1 updates, got {self.n_min}, "
                f"{self.n_max} and {self.every}"
            )
        if not 0 <= self.low <= self.high <= 1:
            raise InputError(f"ESS fractions 0 <= low <= high <= 1 are needed, got {self.low} and {self.high}")

    def init(self) -> None:
        return None

    def update(
        self,
        key: Key,
        reading: Reading,
        potential: Potential,
        kernel: AbstractKernel,
        batch: Float[Array, "batch ..."],
        ensemble: Ensemble,
        controls: Controls,
        state: None,
    ) -> tuple[Controls, Ensemble, None]:
        n = jnp.asarray(controls.n_sweeps)
        wanted = jnp.where(reading.ess < self.low, 2 * n, jnp.where(reading.ess > self.high, n - 1, n))
        is_time = reading.step % self.every == 0
        n = jnp.where(is_time, jnp.clip(wanted, self.n_min, self.n_max), n).astype(n.dtype)
        return eqx.tree_at(lambda c: c.n_sweeps, controls, n), ensemble, state
