"""Least work by feedback: the model is put where the walkers' mean says it should be.

For a Gaussian whose mean is learned, with `u` the mean of the walkers, `th*` that of the data and walkers that keep a
share `a` of their lag in one relaxation, update `j` of `K` puts

    th = u + (th* - u) / [(1 + a) + (K - j)(1 - a)] ,     th = th* for j >= K .

This is the optimal protocol, both jumps included, with an unknown target. It forgives noise: a walker mean that is off
is led from where it is. The rule returns `th_old - th` as the gradient: descend it with `optax.sgd(1.0)`.

Reference:
    Hnybida, Verret 2025 (arXiv:2510.03137) for the protocol; the feedback form is `dissipation.SteppedTrap.set_point`.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from quasistatic._types import Key
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.gaussian import Gaussian
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel
from quasistatic.rules.base import AbstractRule
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble


class SetPoint(AbstractRule):
    """Set-point law for the mean of a `Gaussian`; its precision stays as it is. Walkers start in equilibrium.

    Args:
        n_relaxations: `K`; train for `K + 1` updates.
        lag: `a`, the same in all directions: `1 - h k` for one Langevin sweep of step `h` in a Gaussian of precision
            `k` (of the potential, beta included).
    """

    n_relaxations: int = eqx.field(static=True)
    lag: float

    def __check_init__(self):
        if self.n_relaxations < 1:
            raise InputError(f"n_relaxations must be at least 1, got {self.n_relaxations}")
        if isinstance(self.lag, (int, float)) and not -1 < self.lag < 1:
            raise InputError(f"lag is the share kept in one relaxation, in (-1, 1), got {self.lag}")

    def init(self, energy: AbstractEnergy) -> Int[Array, ""]:
        return jnp.zeros((), jnp.int32)

    def check(self, energy: AbstractEnergy) -> None:
        if not isinstance(energy, Gaussian):
            raise InputError(f"the set-point law moves the mean of a Gaussian, not of {type(energy).__name__}")

    def gradient(
        self,
        key: Key,
        potential: Potential,
        kernel: AbstractKernel,
        batch: Float[Array, "batch ..."],
        ensemble: Ensemble,
        controls: Controls,
        rule_state: Int[Array, ""],
    ) -> tuple[AbstractEnergy, dict[str, Any], Int[Array, ""]]:
        del key, kernel, controls
        energy: Any = potential.energy
        u, target = jnp.mean(ensemble.x, axis=0), jnp.mean(batch, axis=0)
        left = jnp.maximum(self.n_relaxations - rule_state, 0)
        led = u + (target - u) / ((1 + self.lag) + left * (1 - self.lag))
        mean = jnp.where(left > 0, led, target)
        zero = jax.tree.map(jnp.zeros_like, eqx.filter(energy, eqx.is_inexact_array))
        return eqx.tree_at(lambda e: e.mean, zero, energy.mean - mean), {}, rule_state + 1
