"""The published law of endogenous temperature, exactly: a reference, not a remedy.

Once per epoch, from the epoch's mean flip rate `r` and mean gap `g = <F>_data - <F>_walkers`,

    q <- (1 - eps) q + eps r                     reference: the smoothed flip rate itself
    y <- y - eta (r - q)                         micro: log temperature, with the updated reference
    e <- e + (g - e) / (t + 1)                   macro: running mean of the gap
    T  = clip(exp(y) + gam e, low, high)

with `eta = eps = 0.01`, `gam = 0.001`, `y = q = e = 0` at the start. It is kept because its numbers can be checked
against published ones. It is **not** a thermostat: since `r - q = (1 - eps)/eps dq`,

    y + kap q = const,     kap = eta (1 - eps) / eps                       (for any flip rates whatsoever)

so the micro part is a proportional law `T = exp(-kap q)` with the set-point `q = 0`: it lies in `[exp(-kap), 1]`, never
heats above its start, and a frozen population (`r = q = 0`) is a fixed point of it. The macro part is extensive (it
grows with the number of units until it drives `T` into the clamp), reacts ever less (gain `1/t`), and cools where
walkers are stuck in a state that learning has made unlikely. `Thermostat` is what works.

Reference:
    Süleymanoğlu 2026 (arXiv 2603.02525) and its public code; invariant, fixed points and scaling are derived in the
    docstrings and tests here, not in the paper.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from quasistatic._results import RESULTS
from quasistatic._types import IntScalarLike, Key, Scalar, ScalarLike
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel
from quasistatic.regulators.base import AbstractRegulator, Reading
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble

LOWEST, HIGHEST = 1e-6, 1e3
"""The published clamp of T."""


def micro(
    y: ScalarLike, q: ScalarLike, flip_rate: ScalarLike, *, gain: ScalarLike = 0.01, smoothing: ScalarLike = 0.01
) -> tuple[Any, Any]:
    """Log temperature and reference after an epoch.

    Args:
        y: log temperature of the micro part.
        q: reference, in [0, 1].
        flip_rate: mean flip rate of the epoch, per unit.
        gain: `eta`.
        smoothing: `eps`.
    """
    q = (1 - smoothing) * q + smoothing * flip_rate
    return y - gain * (flip_rate - q), q


def macro(mean: ScalarLike, gap: ScalarLike, n_epochs: IntScalarLike) -> Any:
    """Running mean of the gap after one more epoch. Args: mean of the `n_epochs` before; gap of this one, nats."""
    return mean + (gap - mean) / (n_epochs + 1)


def invariant(y: ScalarLike, q: ScalarLike, *, gain: ScalarLike = 0.01, smoothing: ScalarLike = 0.01) -> Any:
    """`y + kap q`, which no flip rate can change."""
    return y + gain * (1 - smoothing) / smoothing * q


class Endogenous(NamedTuple):
    """State of the law: `y`, `q` and `e`, epochs so far, sums of the open epoch, and how often the clamp bound.

    `gap` is the mean gap of the last epoch, nats; `temperature` what the law asks for before the clamp.
    """

    y: Scalar
    q: Scalar
    gap_mean: Scalar
    n_epochs: Int[Array, ""]
    flips: Scalar
    gaps: Scalar
    n: Int[Array, ""]
    gap: Scalar
    temperature: Scalar
    n_clamped: Int[Array, ""]


class EndogenousTemperature(AbstractRegulator):
    """Reference implementation of the published law, whose invariant prevents heating; for help use `Thermostat`.

    Acts on `controls.beta` at the first update of every epoch. Flips are those of visible units in the last sweep of an
    update (with one sweep, as published, of the update). The published gradient lacks the factor `1/T`:
    `MaximumLikelihood(beta_power=0)`. Where the published code goes on at its clamp, the run ends as
    `temperature_clamped`.

    Args:
        every: updates per epoch.
        gain: `eta`.
        smoothing: `eps`.
        gap_scale: `gam`.
        start: `T_0`; the run must begin at `beta = 1 / start`.
        n_units: the gap is divided by this number; 1 as published, the number of visible units for an intensive law.
        lowest: lower end of the clamp.
        highest: upper end.

    Reference:
        Süleymanoğlu 2026 (arXiv 2603.02525), constants and order of operations of its public code.
    """

    every: int = eqx.field(static=True)
    gain: float = 0.01
    smoothing: float = 0.01
    gap_scale: float = 0.001
    start: float = 1.0
    n_units: int = 1
    lowest: float = LOWEST
    highest: float = HIGHEST

    def __check_init__(self):
        if self.every < 1 or self.n_units < 1:
            raise InputError(f"every and n_units must be at least 1, got {self.every} and {self.n_units}")
        given = (self.gain, self.smoothing, self.gap_scale, self.start, self.lowest, self.highest)
        if any(not isinstance(value, (int, float)) for value in given):
            return  # traced, or a pytree of something else
        if not (self.gain >= 0 and 0 < self.smoothing <= 1 and 0 < self.lowest < self.start < self.highest):
            raise InputError(
                "gain >= 0, smoothing in (0, 1] and 0 < lowest < start < highest are needed, got "
                f"{self.gain}, {self.smoothing} and {self.lowest}, {self.start}, {self.highest}"
            )

    def init(self) -> Endogenous:
        zero, none = jnp.zeros(()), jnp.zeros((), jnp.int32)
        start = jnp.asarray(self.start, float)
        return Endogenous(jnp.log(start), zero, zero, none, zero, zero, none, zero, start, none)

    def temperature(self, y: ScalarLike, gap_mean: ScalarLike) -> Any:
        """`exp(y) + gam e`, before the clamp. Args: log temperature; mean gap, nats."""
        return jnp.exp(y) + self.gap_scale * gap_mean / self.n_units

    def after_epoch(self, state: Endogenous, flip_rate: ScalarLike, gap: ScalarLike) -> Endogenous:
        """State after an epoch. Args: state; mean flip rate of the epoch; its mean gap, nats."""
        y, q = micro(state.y, state.q, flip_rate, gain=self.gain, smoothing=self.smoothing)
        mean = macro(state.gap_mean, gap, state.n_epochs)
        wanted = self.temperature(y, mean)
        is_clamped = (wanted < self.lowest) | (wanted > self.highest)
        none = jnp.zeros_like(state.n)
        found = Endogenous(
            y, q, mean, state.n_epochs + 1, jnp.zeros_like(state.flips), jnp.zeros_like(state.gaps), none,
            jnp.asarray(gap), wanted, state.n_clamped + is_clamped,
        )  # fmt: skip
        return jax.tree.map(lambda new, old: jnp.asarray(new, jnp.asarray(old).dtype), found, state)

    @property
    def needs_gap(self) -> bool:
        return True

    def result(self, state: Endogenous) -> IntScalarLike:
        return jnp.where(state.n_clamped > 0, int(RESULTS.temperature_clamped), 0)

    def update(
        self,
        key: Key,
        reading: Reading,
        potential: Potential,
        kernel: AbstractKernel,
        batch: Float[Array, "batch ..."],
        ensemble: Ensemble,
        controls: Controls,
        state: Endogenous,
    ) -> tuple[Controls, Ensemble, Endogenous]:
        is_read = jnp.isfinite(reading.flip_rate)
        state = state._replace(
            flips=state.flips + jnp.where(is_read, reading.flip_rate, 0.0),
            gaps=state.gaps + jnp.where(is_read, reading.gap, 0.0),
            n=state.n + is_read,
        )
        is_end = is_read & (reading.step % self.every == 0)
        n = jnp.maximum(state.n, 1)
        new = self.after_epoch(state, state.flips / n, state.gaps / n)
        state = jax.tree.map(lambda a, b: jnp.where(is_end, a, b), new, state)
        beta = jnp.asarray(controls.beta)
        found = (1 / jnp.clip(state.temperature, self.lowest, self.highest)).astype(beta.dtype)
        return eqx.tree_at(lambda c: c.beta, controls, jnp.where(is_end, found, beta)), ensemble, state
