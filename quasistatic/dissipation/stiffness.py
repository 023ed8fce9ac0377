"""A trap whose stiffness changes: least work from `lam_i` to `lam_f` in a given time.

    E(x) = lam x^2 / 2,   w = <x^2>,   dw/dt = -2 mu lam w + 2 mu T ,   W = 1/2 int w dlam

The optimum lets the width grow linearly, `w(t) = (T/lam_i)(1 + c t)^2`, with `lam = T/w - c / (mu (1 + c t))` between
jumps at both ends, and `z = c tau` solves `(2 + a_f) z^2 + 2 (1 + a_f) z + a_f - a_i = 0` with `a = lam mu tau`.

Reference:
    T. Schmiedl, U. Seifert, Phys. Rev. Lett. 98, 108301 (2007), case study II.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp

from quasistatic.errors import InputError


@dataclass(frozen=True)
class StiffnessChange:
    """Change of stiffness in a given time, from equilibrium.

    Args:
        start: `lam_i`.
        end: `lam_f`.
        duration: `tau`.
        mobility: `mu`.
        beta: inverse temperature.
    """

    start: float
    end: float
    duration: float
    mobility: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        for name in ("start", "end", "duration", "mobility", "beta"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} of a stiffness change must be positive, got {getattr(self, name)}")

    @property
    def stretch(self) -> float:
        """`z = c tau`: the standard deviation grows by the factor `1 + z`."""
        a_start, a_end = (s * self.mobility * self.duration for s in (self.start, self.end))
        return (-(1 + a_end) + np.sqrt(1 + 2 * a_start + a_start * a_end)) / (2 + a_end)

    @property
    def free_energy_change(self) -> float:
        """`(1/2) ln(lam_f / lam_i)`, nats."""
        return 0.5 * np.log(self.end / self.start)

    @property
    def minimal_work(self) -> float:
        """Least work, free energy included, nats."""
        z = self.stretch
        arrived = 0.5 * (self.end / self.start * (1 + z) ** 2 - 1) - np.log1p(z)
        return arrived + z**2 / (self.start * self.mobility * self.duration)

    @property
    def minimal_excess_work(self) -> float:
        """Least work beyond the free-energy change, nats."""
        return self.minimal_work - self.free_energy_change

    @property
    def slow_limit(self) -> float:
        """`(1/mu tau) (lam_i^-1/2 - lam_f^-1/2)^2`, nats: the excess work for long durations, above it otherwise."""
        return (self.start**-0.5 - self.end**-0.5) ** 2 / (self.mobility * self.duration)

    def stiffness(self, t: float) -> float:
        """Optimal `lam(t)` for `0 < t < tau`, between the jumps."""
        c = self.stretch / self.duration
        grown = 1 + c * t
        return self.start / grown**2 - c / (self.mobility * grown)

    def excess_work_of(self, stiffness: Callable[[float], float]) -> float:
        """Excess work of any protocol, nats, by integration of `W = 1/2 [lam w] - 1/2 int lam dw` (error 1e-10).

        Args:
            stiffness: `lam(t)` on `(0, tau)`; where it misses `lam_i` or `lam_f`, the stiffness jumps.
        """
        w_start = 1 / (self.beta * self.start)

        def flow(t: float, y: np.ndarray) -> list[float]:
            widening = 2 * self.mobility * (1 / self.beta - stiffness(t) * y[0])
            return [widening, -0.5 * self.beta * stiffness(t) * widening]

        found = solve_ivp(flow, (0, self.duration), [w_start, 0.0], "DOP853", rtol=1e-11, atol=1e-13)
        w_end, work = found.y[:, -1]
        ends = 0.5 * self.beta * (self.end * w_end - self.start * w_start)
        return float(ends + work - self.free_energy_change)
