"""One mode of a Gaussian model under overdamped Langevin dynamics.

    u(x) = j x^2 / 2,   dx = -j x dt + sqrt(2) dW,   <x(0)^2> = s,

    c_t(j) = s e^(-2jt) + (1 - e^(-2jt)) / j        (j = 0: s + 2t)                                        (A1)

is the variance after time `t`. It falls with `j` from infinity to zero: every data variance `d` is learned with every
`k > 0`, by exactly one `j*(d, k, s)`. What is learned is `1/d` only if `s = d` or `k` is long; it is negative, a model
without equilibrium, where `d > s + 2k`. The relaxation time of the variance being about `d/2`, the leading principal
components leave equilibrium first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from scipy.special import lambertw

from quasistatic.errors import InputError
from quasistatic.evaluate.dynamics.base import AbstractScalarModel, Real, positive, remembered, shrink, variance


@dataclass(frozen=True, kw_only=True)
class LangevinMode(AbstractScalarModel):
    """Gaussian mode in continuous time; the parameter is its stiffness `j`, the moment its variance.

    Args:
        start: variance `s` of the walkers at the start, 0 for a point.
    """

    start: float = 1.0
    sign: ClassVar[int] = -1

    def __post_init__(self) -> None:
        variance(self.start)

    def moment(self, theta: Real, t: Real) -> Real:
        t = self._times(t)
        with np.errstate(over="ignore"):
            kept = remembered(self.start, np.exp(-2 * np.asarray(theta) * t))
            return (kept + 2 * t * shrink(2 * np.asarray(theta) * t))[()]

    def decay(self, theta: Real, t: Real) -> Real:
        """`e^(-jt)`: how much of its start the mean remembers."""
        return np.exp(-np.asarray(theta) * self._times(t))[()]

    def response(self, theta: Real, t: Real) -> Real:
        """`(1 - e^(-jt)) / j`: mean after `t` per unit of field."""
        t = self._times(t)
        return (t * shrink(np.asarray(theta) * t))[()]

    def equilibrium(self, theta: float) -> float:
        return 1 / theta if theta > 0 else math.inf

    def at_equilibrium(self, data: float) -> float:
        return 1 / positive(data, "a variance")

    def reach(self, k: float) -> tuple[float, float]:
        return 0.0, math.inf

    def like(self, data: float) -> LangevinMode:
        return replace(self, start=data)

    def learned(self, data: float, k: float) -> float:
        positive(data, "a variance")
        # walkers that start with the data's variance keep it under the equilibrium parameter, for any k
        return 1 / data if data == self.start else super().learned(data, k)

    def lambert(self, data: float, k: float) -> float:
        """`j*` of walkers that start at a point, in closed form.

        With `r = d/2k`: `j* = [1/r + W_b(-e^(-1/r)/r)] / 2k`, branch `b = 0` for `r < 1`, `-1` for `r > 1`.  (A2)

        Raises:
            InputError: a start that is not a point.
        """
        if self.start != 0:
            raise InputError(f"the closed form is that of a point start (start = 0), not of start = {self.start}")
        r = positive(data, "a variance") / (2 * self._steps(k))
        if r == 1:
            return 0.0
        return float(1 / r + lambertw(-math.exp(-1 / r) / r, 0 if r < 1 else -1).real) / (2 * k)

    def slope(self, theta: float, k: float) -> float:
        """`-{ 2ks e^(-y) + [1 - (1+y) e^(-y)] / j^2 }`, `y = 2jk`: minus the learning rate's factor.  (A4)"""
        y = 2 * theta * k
        if abs(y) < 1e-2:
            bracket = sum((-y) ** m / (math.factorial(m) * (m + 2)) for m in range(8))
        else:
            bracket = (1 - (1 + y) * math.exp(-y)) / y**2
        return -(2 * k * self.start * math.exp(-y) + 4 * k**2 * bracket)

    def by_time(self, data: float, k: float) -> float:
        """`dj*/dk = -2 e^(-2jk) (1 - js) / slope`."""
        j = self.learned(data, k)
        return -2 * math.exp(-2 * j * k) * (1 - j * self.start) / self.slope(j, k)

    def by_start(self, data: float, k: float) -> float:
        """`dj*/ds = -e^(-2jk) / slope`: forgotten only when `k` is long."""
        j = self.learned(data, k)
        return -math.exp(-2 * j * k) / self.slope(j, k)

    def widest(self, k: float) -> float:
        """Variance `s + 2k` above which what is learned has no equilibrium: free diffusion."""
        return self.start + 2 * self._steps(k)


def equilibrium_learning(
    data: float, theta: float, times: Float[np.ndarray, " n"], *, rate: float = 1.0
) -> Float[np.ndarray, " n"]:
    """Learning curve at equilibrium, `j(tau) = [1 + W_0(-u0 e^(-u0 - rate d^2 tau))] / d`, `u0 = 1 - d j0`.  (A3)

    Solves `dj/dtau = rate (1/j - d)`.

    Args:
        data: variance `d` of the data.
        theta: `j0 > 0`.
        times: learning times `tau`.
        rate: learning rate.
    """
    u0 = 1 - positive(data, "a variance") * positive(theta, "the stiffness at the start")
    return (1 + lambertw(-u0 * np.exp(-u0 - rate * data**2 * np.asarray(times, float))).real) / data


def persistent_learning(
    data: float, sampled: float, rate: float, *, theta: float, variance: float, n_updates: int
) -> Float[np.ndarray, "n 2"]:
    """Stiffness and variance of persistent walkers after each update (PCD in the limit of many walkers).

    `c <- e^(-2jT) c + (1 - e^(-2jT)) / j`, then `j <- j + g (c - d)`: the fixed point is `(1/d, d)` for any `T`.

    Args:
        data: variance `d` of the data.
        sampled: sampling time `T` per update.
        rate: learning rate `g`.
        theta: `j` before the first update.
        variance: `c` before the first update.
        n_updates: updates; row 0 of the result is the start.
    """
    rows = [(theta, variance)]
    for _ in range(n_updates):
        c = float(LangevinMode(start=rows[-1][1]).moment(rows[-1][0], sampled))
        rows.append((rows[-1][0] + rate * (c - data), c))
    return np.array(rows)


def restarted_learning(
    mode: LangevinMode, data: float, k: float, rate: float, *, theta: float, n_updates: int
) -> Float[np.ndarray, " n"]:
    """Stiffness after each update of size `rate`: walkers restarted from the start of `mode` (`mode.like(d)`: CD-k)."""
    path = [theta]
    for _ in range(n_updates):
        path.append(path[-1] + rate * (float(mode.moment(path[-1], k)) - data))
    return np.array(path)


def persistent_limits(data: float, sampled: float) -> tuple[float, float]:
    """Learning rates beyond which persistent walkers make the stiffness oscillate, and beyond which they diverge.  (A5)

    `g d^2 > tanh(T/2d)` and `g d^2 > 2 (1 + a) / (1 - a)`, `a = e^(-2T/d)`: slow modes oscillate first.

    Args:
        data: variance `d` of the data.
        sampled: sampling time `T` per update.
    """
    x = positive(sampled, "the sampling time") / positive(data, "a variance")
    return math.tanh(x / 2) / data**2, 2 / math.tanh(x) / data**2
