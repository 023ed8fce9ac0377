"""A budget of excess work: the learning rate follows what an update costs.

The work `w_i` that the coming switch will do on every walker is known before it is done. Its excess over the change of
free energy is

    P = mean w + log sum_i W_i exp(-w_i)        with account weights W, or
    P = (1/2 + relaxation) Var w                in linear response, friction in units of the Fisher metric,

but at least `Var w / 2`, the cost of the jump itself (weights that have degenerated say less, even less than nothing),
and grows with the square of the step. The scale on the updates to come is multiplied by `(budget / P)^(gain / 2)`.

Reference:
    Sivak and Crooks, Phys. Rev. Lett. 108, 190602 (2012): at constant excess power a protocol of given length and
    duration dissipates least.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import Key, Scalar
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel
from quasistatic.metric.friction import excess_work
from quasistatic.regulators.base import AbstractRegulator, Reading
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble


class Spent(NamedTuple):
    """Averaged excess work per update at scale 1, nats (0 before the first), and the weight of that average."""

    per_scale: Scalar
    weight: Scalar


class SpendWork(AbstractRegulator):
    """Sets `controls.lr_scale` so that updates cost a given excess work.

    Args:
        budget: excess work per update, nats.
        relaxation: None measures with the account's weights (keep them good: put a `Resample` before it); a number is
            the sum of autocorrelations at 1, 2, ... updates.
        gain: share of the deviation corrected per update, in (0, 1].
        memory: decay of the average of the measured work, whose error for `n` walkers is about `sqrt(2 P / n)`.
        most: largest factor on the optimiser's updates; `1 / most` is the smallest.
    """

    budget: float
    relaxation: float | None = None
    gain: float = 0.5
    memory: float = 0.8
    most: float = 100.0

    def __check_init__(self):
        given = {"budget": self.budget, "gain": self.gain, "memory": self.memory, "most": self.most}
        if any(not isinstance(value, (int, float)) for value in given.values()):
            return  # traced, or a pytree of something else
        if not (self.budget > 0 and 0 < self.gain <= 1 and 0 <= self.memory < 1 and self.most > 1):
            raise InputError(f"budget > 0, gain in (0, 1], memory in [0, 1) and most > 1 are needed, got {given}")
        if self.relaxation is not None and not self.relaxation >= 0:
            raise InputError(f"relaxation is a sum of autocorrelations >= 0 or None, got {self.relaxation}")

    def init(self) -> Spent:
        return Spent(jnp.zeros(()), jnp.zeros(()))

    @property
    def sets_rate(self) -> bool:
        return True

    def update(
        self,
        key: Key,
        reading: Reading,
        potential: Potential,
        kernel: AbstractKernel,
        batch: Float[Array, "batch ..."],
        ensemble: Ensemble,
        controls: Controls,
        state: Any,
    ) -> tuple[Controls, Ensemble, Any]:
        met = jax.vmap(lambda state, context: kernel.meet(potential, state, context).u)(
            ensemble.state, ensemble.context
        )
        change = met - ensemble.u + reading.ahead
        jump = 0.5 * jnp.var(change)
        if self.relaxation is None:
            # what has been done already is in the present weights; where walkers were resampled since, the jump is left
            before = jnp.log(ensemble.weights()) + reading.ahead
            spent = jnp.maximum(excess_work(change, jax.nn.softmax(before)).value, jump)
        else:
            spent = (1.0 + 2.0 * self.relaxation) * jump
        scale = jnp.asarray(controls.lr_scale)
        is_measured = reading.step > 0  # nothing was changed before the first update
        weight = jnp.where(is_measured, self.memory * state.weight + (1 - self.memory), state.weight)
        average = self.memory * state.per_scale + (1 - self.memory) * spent / scale**2
        average = jnp.where(is_measured, average, state.per_scale)
        expected = scale**2 * average / jnp.where(weight > 0, weight, 1.0)
        # an average below a hundredth of the budget (or negative, by its error) is as good as nothing
        factor = (self.budget / jnp.maximum(expected, 0.01 * self.budget)) ** (0.5 * self.gain)
        new = jnp.clip(scale * jnp.where(is_measured, factor, 1.0), 1 / self.most, self.most)
        controls = eqx.tree_at(lambda c: c.lr_scale, controls, new.astype(scale.dtype))
        return controls, ensemble, Spent(average.astype(state.per_scale.dtype), weight.astype(state.weight.dtype))
