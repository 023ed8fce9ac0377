"""A thermostat that works: proportional-integral control of log T, heating only, on a signal of the driver.

    s  <- (1 - a) s + a signal                   smoothed; begins at the first signal
    e   = clip((set_point - s) / set_point)      to [-1, 1], positive when heat is needed
    I  <- clip(I + k_i e, least, most)           no further than where u meets its upper limit
    u   = clip(k_p e + I, least, most),  |du| <= slew,       T = T_0 e^u

(`s - set_point` where the signal grows with freezing: excess work.) It acts through `controls.beta`, so every change of
temperature is booked as work, for driver and auditor alike, and `log Z` reported is that of `(theta, beta)`.

*What it does to the model.* T is a gauge: `(theta, T)` and `(theta / T, 1)` are the same law, and heating by a factor
is shrinking all parameters by it. A regulated run fits a blunter model for as long as it must, no more; parameters
and T may then grow together without end, so look at `norm_over_t`, or decay the parameters. Flips are local: a flip
rate at its set-point says nothing about moves between modes. Use replica moves or more sweeps for these, and this as
the last resort against freezing.

*One-sided.* `least = 0` by default: a two-sided loop cools a young model (which flips a lot) to its lower limit and
multiplies its learning rate by 1/T on the way, which wrecks it. `least < 0` is for models that are not trained.

With `x = (dr/du) / r*`, the relative slope of the stationary signal, the loop without limits and slew is stable where
`a x (2 k_p + k_i) < 4 - 2 a` (the Jury criterion of its two-dimensional linear map).

Reference:
    K. J. Åström and R. M. Murray, *Feedback Systems* (2008), chapter 10 (PI control, anti-windup). The law this
    replaces: `endogenous`.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from quasistatic._results import RESULTS
from quasistatic._types import IntScalarLike, Key, Scalar, ScalarLike
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel
from quasistatic.regulators.base import AbstractRegulator, Reading
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble

SIGNALS = {"flip_rate": 1, "ess": 1, "excess_work": -1}
"""Signals of the driver, and the sign of what heating does to them."""
ROUNDING = 1e-5
"""Distance in log T within which the output is at its limit."""


class Regulated(NamedTuple):
    """State of a thermostat: smoothed signal, whether it has begun, integral, log(T / T_0), updates pinned in a row."""

    smoothed: Scalar
    has_begun: Bool[Array, ""]
    integral: Scalar
    u: Scalar
    n_clamped: Int[Array, ""]


class Thermostat(AbstractRegulator):
    """One-sided PI controller of the temperature.

    Args:
        set_point: value of the signal to keep: flips per unit and update (0.05), ESS fraction of the driver (0.3), or
            excess work per update in nats (0.1). All are intensive in walkers, the first in units too.
        signal: `"flip_rate"` and `"ess"` are kept from falling below, `"excess_work"` from rising above it.
        smoothing: `a`, weight of the newest signal.
        k_p: proportional gain, log temperature per relative error.
        k_i: integral gain, per update; less than `slew`.
        most: upper limit of `log(T / T_0)`.
        least: lower limit, 0 for training.
        slew: largest change of `log T` per update (every change costs work, hence effective sample size).
        patience: updates in a row at a limit after which the run ends as `temperature_clamped`. The floor of a
            one-sided thermostat is no limit.
        beta: inverse temperature `1 / T_0` where it is inactive.
    """

    set_point: float = 0.05
    signal: str = eqx.field(static=True, default="flip_rate")
    smoothing: float = 0.1
    k_p: float = 0.5
    k_i: float = 0.02
    most: float = 6.0
    least: float = 0.0
    slew: float = 0.1
    patience: int = 1000
    beta: float = 1.0

    def __check_init__(self):
        if self.signal not in SIGNALS:
            raise InputError(f"unknown signal {self.signal!r}; choose one of {', '.join(SIGNALS)}")
        given = {name: getattr(self, name) for name in ("set_point", "smoothing", "k_p", "k_i", "slew", "beta")}
        limits = (self.least, self.most, self.patience)
        if any(not isinstance(value, (int, float)) for value in (*given.values(), *limits)):
            return  # traced, or a pytree of something else
        for name, value in given.items():
            if not value > 0 and not (name in ("k_p", "k_i") and value == 0):
                raise InputError(f"{name} of a thermostat must be positive, got {value}")
        if self.smoothing > 1 or self.k_i >= self.slew:
            raise InputError(
                f"smoothing <= 1 and k_i < slew are needed, got {self.smoothing}, {self.k_i} and {self.slew}: an "
                "integral faster than the slew limit winds up"
            )
        if self.signal != "excess_work" and self.set_point >= 1:
            raise InputError(f"a set-point of {self.signal} lies in (0, 1), got {self.set_point}")
        if not self.least <= 0 <= self.most or self.patience < 1:
            raise InputError(f"least <= 0 <= most and patience >= 1 are needed, got {limits}")

    def init(self) -> Regulated:
        zero = jnp.zeros(())
        return Regulated(zero, jnp.zeros((), bool), zero, zero, jnp.zeros((), jnp.int32))

    def error(self, smoothed: ScalarLike) -> Any:
        """Relative error of the smoothed signal, in [-1, 1]; positive when heat is needed."""
        return jnp.clip(SIGNALS[self.signal] * (self.set_point - smoothed) / self.set_point, -1.0, 1.0)

    def integrated(self, integral: ScalarLike, error: ScalarLike) -> Any:
        """The integral after an update: what would push the output beyond its limits is not gathered (anti-windup).

        Upwards it ends where the output meets its limit, which is left as soon as the error shrinks; downwards at the
        lower limit itself, so that a thermostat which was needed once is exactly off again.
        """
        moved = jnp.clip(integral + self.k_i * error, self.least, self.most)
        return jnp.where(error > 0, jnp.minimum(moved, jnp.maximum(integral, self.most - self.k_p * error)), moved)

    def advanced(self, state: Regulated, signal: ScalarLike) -> Regulated:
        """State after a reading of the signal; NaN is no reading and leaves everything as it is."""
        is_read = jnp.isfinite(signal)
        smoothed = (1 - self.smoothing) * state.smoothed + self.smoothing * signal
        smoothed = jnp.where(state.has_begun, smoothed, signal)
        error = self.error(smoothed)
        integral = self.integrated(state.integral, error)
        wanted = jnp.clip(self.k_p * error + integral, self.least, self.most)
        u = jnp.clip(wanted, state.u - self.slew, state.u + self.slew)
        is_top = (u >= self.most - ROUNDING) & (error > 0)
        is_floor = (u <= self.least + ROUNDING) & (error < 0) & (jnp.asarray(self.least) < 0)
        n_clamped = jnp.where(is_top | is_floor, state.n_clamped + 1, 0)
        new = Regulated(smoothed, jnp.asarray(True), integral, u, n_clamped)
        return jax.tree.map(lambda a, b: jnp.where(is_read, a, b).astype(jnp.asarray(b).dtype), new, state)

    def is_stable(self, slope: float) -> bool:
        """Whether the linearised loop is stable. Args: slope, `(ds/du) / set_point` of the stationary signal, > 0."""
        gain = self.smoothing * slope * (2 * self.k_p + self.k_i)
        return self.k_i > 0 and slope > 0 and gain < 4 - 2 * self.smoothing

    def result(self, state: Regulated) -> IntScalarLike:
        return jnp.where(state.n_clamped >= self.patience, int(RESULTS.temperature_clamped), 0)

    def update(
        self,
        key: Key,
        reading: Reading,
        potential: Potential,
        kernel: AbstractKernel,
        batch: Float[Array, "batch ..."],
        ensemble: Ensemble,
        controls: Controls,
        state: Regulated,
    ) -> tuple[Controls, Ensemble, Regulated]:
        signal = jnp.where(reading.step > 0, getattr(reading, self.signal), jnp.nan)
        state = self.advanced(state, signal)
        beta = (self.beta * jnp.exp(-state.u)).astype(jnp.asarray(controls.beta).dtype)
        return eqx.tree_at(lambda c: c.beta, controls, beta), ensemble, state
