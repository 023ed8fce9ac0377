"""Infinite ring of Ising spins under Glauber dynamics, `u = -K sum s_i s_(i+1)`, heat bath at unit rate per spin.

Pair correlations `C_n = <s_i s_(i+n)>` close (Glauber 1963): with `gamma = tanh 2K`, `eta = tanh K`

    dC_n/dt = -2 C_n + gamma (C_(n-1) + C_(n+1)),   C_0 = 1,
    C_n(t) = eta^n + e^(-2t) sum_{m >= 1} (C_m(0) - eta^m) [ I_(n-m)(2 gamma t) - I_(n+m)(2 gamma t) ] .

However strong the coupling, random spins have not ordered after `k`: `C_1 < 1 - e^(-2k) [I_0(2k) + I_1(2k)]`. Data with
more order cannot be learned, and training drives the coupling to infinity.

Reference:
    R. J. Glauber, J. Math. Phys. 4, 294 (1963), for the equations; their solution by images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.special import ive

from quasistatic.errors import InputError
from quasistatic.evaluate.dynamics.base import AbstractScalarModel, OutOfReach, Real


@dataclass(frozen=True, kw_only=True)
class IsingRing(AbstractScalarModel):
    """Infinite ring; the parameter is the reduced coupling `K`, the moment the correlation `C_1` of neighbours.

    Args:
        start: coupling in whose equilibrium the walkers start; 0: random spins.
    """

    start: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.start):
            raise InputError(f"the coupling of the start must be finite, got {self.start}")

    def correlations(self, theta: float, t: float, n: int) -> Float[np.ndarray, " n"]:
        """`C_1 .. C_n` after `t`, shape `(n,)`.

        Args:
            theta: coupling; `inf` and `-inf` give the limits.
            t: time.
            n: largest distance.
        """
        t = float(self._times(t))
        gamma, eta, eta_start = math.tanh(2 * theta), math.tanh(theta), math.tanh(self.start)
        # what the start contributes at distance m spreads by diffusion: beyond this range it is below rounding
        m = np.arange(1, n + 40 + math.ceil(12 * math.sqrt(2 * t)))
        excess = np.exp(-2 * t * (1 - abs(gamma))) * (eta_start**m - eta**m)
        places = np.arange(1, n + 1)[:, None]
        kernel = ive(places - m, 2 * gamma * t) - ive(places + m, 2 * gamma * t)
        return eta ** places[:, 0] + kernel @ excess

    def moment(self, theta: Real, t: Real) -> Real:
        def one(coupling: float, time: float) -> float:
            return float(self.correlations(coupling, time, 1)[0])

        if np.ndim(theta) == np.ndim(t) == 0:
            return one(float(theta), float(t))
        return np.vectorize(one, otypes=[float])(theta, t)

    def equilibrium(self, theta: float) -> float:
        return math.tanh(theta)

    def at_equilibrium(self, data: float) -> float:
        if not -1 < data < 1:
            raise OutOfReach(f"a correlation of {data:.6g} needs an infinite coupling", limits=(-1.0, 1.0))
        return math.atanh(data)

    def reach(self, k: float) -> tuple[float, float]:
        """Correlations between those of `K = -inf` and `K = inf`, ordering from the start as fast as can be."""
        return float(self.moment(-math.inf, k)), float(self.moment(math.inf, k))

    def like(self, data: float) -> IsingRing:
        return replace(self, start=self.at_equilibrium(data))
