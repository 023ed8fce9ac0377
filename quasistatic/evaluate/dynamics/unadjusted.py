"""One mode of a Gaussian model under the unadjusted Langevin algorithm: the chain that is really run.

    x <- x - eps j x + sqrt(2 eps) xi,     q = (1 - eps j)^2,     c_n = s q^n + 2 eps (1 - q^n) / (1 - q)         (A6)

is the variance after `n` moves; time is counted in moves and `k = n eps` compares with continuous time. The error of
the discretisation is absorbed in what is learned: sampling for `n` moves gives the data's variance exactly. No move
makes a variance below that of its noise, `2 eps`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from quasistatic.evaluate.dynamics.base import (
    AbstractScalarModel,
    OutOfReach,
    Real,
    geometric,
    positive,
    remembered,
    variance,
)


@dataclass(frozen=True, kw_only=True)
class UnadjustedMode(AbstractScalarModel):
    """Gaussian mode in discrete time; the parameter is its stiffness `j <= 1/eps`, the moment its variance.

    Stiffer ones, up to `2/eps`, overshoot and give the same variances again (`twin`).

    Args:
        start: variance `s` of the walkers at the start, 0 for a point.
        step: `eps`, the step size of the kernel (times beta when energies are not reduced).
    """

    start: float = 1.0
    step: float = 0.1
    sign: ClassVar[int] = -1

    def __post_init__(self) -> None:
        positive(self.step, "the step")
        variance(self.start)

    @property
    def is_discrete(self) -> bool:
        return True

    def moment(self, theta: Real, t: Real) -> Real:
        n = self._times(t)
        q = (1 - self.step * np.asarray(theta)) ** 2
        with np.errstate(over="ignore"):
            return (remembered(self.start, q**n) + 2 * self.step * geometric(q, n))[()]

    def decay(self, theta: Real, t: Real) -> Real:
        """`(1 - eps j)^n`: how much of its start the mean remembers."""
        return ((1 - self.step * np.asarray(theta)) ** self._times(t))[()]

    def response(self, theta: Real, t: Real) -> Real:
        """`(1 - (1 - eps j)^n) / j`: mean after `n` moves per unit of field."""
        q, n = np.broadcast_arrays(1 - self.step * np.asarray(theta, float), self._times(t))
        plain = (1 - q**n) / np.where(q == 1, 1.0, 1 - q)  # the branch that overshoots has q < 0
        return (self.step * np.where(q >= 0, geometric(np.abs(q), n), plain))[()]

    def equilibrium(self, theta: float) -> float:
        """Stationary variance `1 / (j (1 - eps j / 2))`, infinite outside `0 < j < 2/eps`."""
        return 1 / (theta * (1 - self.step * theta / 2)) if 0 < theta < 2 / self.step else math.inf

    def at_equilibrium(self, data: float) -> float:
        if not data >= 2 * self.step:
            raise OutOfReach(f"moves of step {self.step} have no variance below {2 * self.step:.6g}, got {data:.6g}")
        return (1 - math.sqrt(1 - 2 * self.step / data)) / self.step

    def reach(self, k: float) -> tuple[float, float]:
        # one move from a point forgets nothing but makes only noise
        return 2 * self.step, math.inf if self.start or k > 1 else 2 * self.step

    def like(self, data: float) -> UnadjustedMode:
        return replace(self, start=data)

    def twin(self, theta: float) -> float:
        """The other stiffness with the same variances, `2/eps - j`: its chain overshoots at every move."""
        return 2 / self.step - theta

    def slope(self, theta: float, k: float) -> float:
        """`dc_n/dj = -2 eps (1 - eps j) dc_n/dq`, the sum over moves term by term."""
        root = 1 - self.step * theta
        m = np.arange(1, int(k))
        dq = self.start * k * root ** (2 * k - 2) + 2 * self.step * float(np.sum(m * root ** (2.0 * (m - 1))))
        return -2 * self.step * root * dq

    def by_start(self, data: float, k: float) -> float:
        """`dj*/ds = -q^n / slope`."""
        j = self.learned(data, k)
        return -((1 - self.step * j) ** (2 * k)) / self.slope(j, k)

    def _domain(self) -> tuple[float, float]:
        return -math.inf, 1 / self.step
