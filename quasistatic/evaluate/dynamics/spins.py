"""Independent spins at unit rate of heat-bath updates.

    dm/dt = -m + tanh theta,     m(t) = m_0 e^(-t) + (1 - e^(-t)) tanh theta .

A mean is learned only if the walkers can get there in `k`: with `m_0 = 0`, `|m_D| < 1 - e^(-k)`. In sequential sweeps
every spin forgets its start at its first update, and nothing of this remains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from quasistatic.errors import InputError
from quasistatic.evaluate.dynamics.base import AbstractScalarModel, OutOfReach, Real


@dataclass(frozen=True, kw_only=True)
class IndependentSpin(AbstractScalarModel):
    """A spin in a field; the parameter is the reduced field `theta`, the moment the mean.

    Args:
        start: mean `m_0` at the start, in [-1, 1].
        in_sweeps: time counts sequential sweeps and not the mean number of updates per spin.
    """

    start: float = 0.0
    in_sweeps: bool = False

    def __post_init__(self) -> None:
        if not -1 <= self.start <= 1:
            raise InputError(f"the mean of a spin is in [-1, 1], got {self.start}")

    @property
    def is_discrete(self) -> bool:
        return self.in_sweeps

    def moment(self, theta: Real, t: Real) -> Real:
        kept = self._kept(t)
        return (self.start * kept + (1 - kept) * np.tanh(theta))[()]

    def equilibrium(self, theta: float) -> float:
        return math.tanh(theta)

    def at_equilibrium(self, data: float) -> float:
        if not -1 < data < 1:
            raise OutOfReach(f"a mean of {data:.6g} needs an infinite field; means are in (-1, 1)", limits=(-1.0, 1.0))
        return math.atanh(data)

    def reach(self, k: float) -> tuple[float, float]:
        kept = float(self._kept(k))
        return self.start * kept - (1 - kept), self.start * kept + (1 - kept)

    def like(self, data: float) -> IndependentSpin:
        return replace(self, start=data)

    def by_start(self, data: float, k: float) -> float:
        """`dtheta*/dm_0 = -q / ((1 - q) (1 - tanh^2 theta*))`, `q = e^-k` what is left of the start."""
        kept = float(self._kept(k))
        return -kept / ((1 - kept) * (1 - math.tanh(self.learned(data, k)) ** 2))

    def _kept(self, t: Real) -> np.ndarray:
        times = self._times(t)
        return np.asarray(np.where(times == 0, 1.0, 0.0) if self.in_sweeps else np.exp(-times))
