"""A kernel whose step size and temperature change from sweep to sweep: the schedule of a short run.

Sweep `i` of a run of `k` has the step size and the temperature of the kernel times

    first ** (1 - i / (k - 1)) ,      i = 0, ..., k - 1 ,

which falls (or rises) from `first` to 1 in equal ratios and stays there if the run goes on. Sweeps are counted since
the model was last switched, which is where a restarted walker begins. Each sweep reports its own heat, under its own
potential; the sum is the heat of the path, so that the books close as for any kernel, with a shadow work that measures
how far the ramp is from equilibrium.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from quasistatic._random import fold
from quasistatic._types import IntScalarLike, Key, Sample, Scalar, ScalarLike
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel, Info, KernelState, repeat


class Ramped(AbstractKernel):
    """Another kernel along a schedule.

    A ramp of temperature evaluates the potential once more per sweep (the caches of kernels belong to one potential).

    Args:
        kernel: what moves.
        k: sweeps of the schedule.
        first_step: step size of the first sweep over that of the last.
        first_temperature: temperature of the first sweep over that of the last.
    """

    kernel: AbstractKernel
    k: int = eqx.field(static=True)
    first_step: float = eqx.field(static=True, default=1.0)
    first_temperature: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        if self.k < 1:
            raise InputError(f"a schedule has k >= 1 sweeps, got {self.k}")
        for name in ("first_step", "first_temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{name} is a ratio to the last sweep, positive and finite, got {getattr(self, name)}")
        if self.kernel.moves_with_switch:
            raise InputError("a fused move has no schedule; set is_fused = False")

    @property
    def rates(self) -> tuple[str, ...]:
        return self.kernel.rates

    def init(self, potential: Potential, x: Sample, context: Any = None) -> KernelState:
        state = self.kernel.init(potential, x, context)
        return KernelState(state.x, state.u, (state.cache, jnp.zeros((), jnp.int32)))

    def step(
        self, key: Key, after: Potential, state: KernelState, controls: Any, context: Any = None
    ) -> tuple[KernelState, Scalar, Info]:
        cache, n_done = state.cache
        once = eqx.tree_at(lambda c: c.n_sweeps, controls, jnp.ones_like(jnp.asarray(controls.n_sweeps)))

        def sweep(i: Any, carry: tuple) -> tuple:
            walker, heat, _ = carry
            settings = eqx.tree_at(lambda c: c.step_size, once, controls.step_size * self._ratio(n_done + i, "step"))
            potential = after
            if self.first_temperature != 1:
                potential = Potential(after.energy, after.beta / self._ratio(n_done + i, "temperature"))
                walker = self.kernel.init(potential, walker.x, context)
            walker, heat_own, info = self.kernel.step(fold(key, i), potential, walker, settings, context)
            return walker, heat + heat_own, info

        zero = jnp.zeros_like(state.u)
        carry = (KernelState(state.x, state.u, cache), zero, {name: zero for name in self.kernel.rates})
        walker, heat, info = repeat(controls.n_sweeps, sweep, carry)
        if self.first_temperature != 1:
            walker = self.kernel.init(after, walker.x, context)
        n_done = n_done + jnp.asarray(controls.n_sweeps, jnp.int32)
        return KernelState(walker.x, walker.u, (walker.cache, n_done)), heat, info

    def shared(self, cache: Any) -> Any:
        return self.kernel.shared(cache[0])

    def check(self, energy: AbstractEnergy) -> None:
        self.kernel.check(energy)

    def _ratio(self, i: IntScalarLike, what: str) -> ScalarLike:
        first = self.first_step if what == "step" else self.first_temperature
        fraction = jnp.minimum(i / max(self.k - 1, 1), 1.0) if self.k > 1 else 1.0
        return jnp.asarray(first, float) ** (1.0 - fraction)


def ramped(
    kernel: AbstractKernel, k: int, *, first_step: float = 1.0, first_temperature: float = 1.0
) -> AbstractKernel:
    """The kernel along a schedule, or the kernel itself where nothing changes."""
    if first_step == first_temperature == 1:
        return kernel
    return Ramped(kernel, k, first_step, first_temperature)
