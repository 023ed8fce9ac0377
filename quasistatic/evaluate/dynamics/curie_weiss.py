"""Curie-Weiss model, `u = -(J/2N) M^2`, Glauber heat bath at unit rate per spin, random spins at the start.

Of N spins only `M` matters: a birth-death chain on `-N, -N+2, .., N` whose matrix is exponentiated. For `N -> inf`
and below the transition, `v = <M^2>/N` obeys

    dv/dt = -2 (1 - J) v + 2 ,

a Langevin mode of stiffness `1 - J`. What is learned exceeds the coupling that made the data for every finite `k`; for
`k <= J_T / (2 (1 - J_T))` paramagnetic data make a model that is ferromagnetic at equilibrium.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.linalg import expm
from scipy.special import expit, gammaln

from quasistatic.errors import InputError
from quasistatic.evaluate.dynamics.base import AbstractScalarModel, OutOfReach, Real, increasing_root, positive
from quasistatic.evaluate.dynamics.langevin import LangevinMode


@dataclass(frozen=True, kw_only=True)
class CurieWeissLimit(AbstractScalarModel):
    """Infinitely many spins below the transition; the parameter is the reduced coupling, the moment `<M^2>/N`.

    Args:
        start: coupling `J_0 < 1` in whose equilibrium the walkers start; 0: random spins.
    """

    start: float = 0.0

    def __post_init__(self) -> None:
        if not self.start < 1:
            raise InputError(f"the start must be paramagnetic, a coupling below 1, got {self.start}")

    @property
    def mode(self) -> LangevinMode:
        """The Langevin mode that this is, with stiffness `1 - J`."""
        return LangevinMode(start=1 / (1 - self.start))

    def moment(self, theta: Real, t: Real) -> Real:
        return self.mode.moment(1 - np.asarray(theta, float), t)

    def equilibrium(self, theta: float) -> float:
        return self.mode.equilibrium(1 - theta)

    def at_equilibrium(self, data: float) -> float:
        return 1 - self.mode.at_equilibrium(data)

    def reach(self, k: float) -> tuple[float, float]:
        return self.mode.reach(k)

    def like(self, data: float) -> CurieWeissLimit:
        return replace(self, start=self.at_equilibrium(data))

    def learned(self, data: float, k: float) -> float:
        return 1 - self.mode.learned(data, k)

    def slope(self, theta: float, k: float) -> float:
        return -self.mode.slope(1 - theta, k)

    def by_time(self, data: float, k: float) -> float:
        return -self.mode.by_time(data, k)

    @staticmethod
    def ferromagnetic_time(teacher: float) -> float:
        """Training steps `J_T / (2 (1 - J_T))` up to which the learned model is ferromagnetic, random start."""
        if not 0 < teacher < 1:
            raise InputError(f"the data must be paramagnetic with a coupling in (0, 1), got {teacher}")
        return teacher / (2 * (1 - teacher))


@dataclass(frozen=True, kw_only=True)
class CurieWeiss(AbstractScalarModel):
    """Finite number of spins; the parameter is the reduced coupling, the moment `<M^2>/N`.

    Args:
        start: coupling in whose equilibrium the walkers start; 0: random spins.
        n_spins: `N`, at most 2000.
        in_attempts: time counts single updates of random spins and not updates per spin in continuous time.
    """

    start: float = 0.0
    n_spins: int = 20
    in_attempts: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.n_spins <= 2000:
            raise InputError(f"between 1 and 2000 spins are possible here, got {self.n_spins}")
        if not math.isfinite(self.start):
            raise InputError(f"the coupling of the start must be finite, got {self.start}")

    @property
    def is_discrete(self) -> bool:
        return self.in_attempts

    @property
    def levels(self) -> Float[np.ndarray, " m"]:
        """Values of `M`, shape `(N + 1,)`."""
        return np.arange(-self.n_spins, self.n_spins + 1, 2).astype(float)

    def generator(self, theta: float) -> Float[np.ndarray, "m m"]:
        """Rates from column to row, `dp/dt = R p`. The field of a spin excludes the spin itself.

        Args:
            theta: coupling; `inf` and `-inf` give the limits.
        """
        m, n = self.levels, self.n_spins
        up = (n - m) / 2 * _chance(theta, 2 * (m + 1) / n)
        down = (n + m) / 2 * _chance(theta, -2 * (m - 1) / n)
        rates = np.diag(up[:-1], -1) + np.diag(down[1:], 1)
        return rates - np.diag(rates.sum(0))

    def law(self, theta: float, t: float) -> Float[np.ndarray, " m"]:
        """Law of `M` after `t`, shape `(N + 1,)`."""
        time = float(self._times(t))
        rates = self.generator(theta)
        if self.in_attempts:
            chain = np.eye(len(rates)) + rates / self.n_spins
            return np.linalg.matrix_power(chain, int(time)) @ self.equilibrium_law(self.start)
        return expm(rates * time) @ self.equilibrium_law(self.start)

    def moment(self, theta: Real, t: Real) -> Real:
        def one(coupling: float, time: float) -> float:
            return float(self.levels**2 @ self.law(coupling, time)) / self.n_spins

        if np.ndim(theta) == np.ndim(t) == 0:
            return one(float(theta), float(t))
        return np.vectorize(one, otypes=[float])(theta, t)

    def equilibrium_law(self, theta: float) -> Float[np.ndarray, " m"]:
        """Boltzmann law of `M`, shape `(N + 1,)`."""
        n, up = self.n_spins, (self.n_spins + self.levels) / 2
        log_p = gammaln(n + 1) - gammaln(up + 1) - gammaln(n - up + 1) + theta * self.levels**2 / (2 * n)
        p = np.exp(log_p - log_p.max())
        return p / p.sum()

    def equilibrium(self, theta: float) -> float:
        return float(self.levels**2 @ self.equilibrium_law(theta)) / self.n_spins

    def at_equilibrium(self, data: float) -> float:
        low, high = float(self.n_spins % 2) / self.n_spins, float(self.n_spins)
        if not low < data < high:
            raise OutOfReach(
                f"<M^2>/N of {self.n_spins} spins is in ({low:.6g}, {high:.6g}), got {data:.6g}", limits=(low, high)
            )
        return increasing_root(lambda theta: self.equilibrium(theta) - data, self.domain)

    def reach(self, k: float) -> tuple[float, float]:
        return float(self.moment(-math.inf, k)), float(self.moment(math.inf, k))

    def like(self, data: float) -> CurieWeiss:
        return replace(self, start=self.at_equilibrium(positive(data, "<M^2>/N")))


def _chance(theta: float, field: np.ndarray) -> np.ndarray:
    """Heat-bath probability at `theta * field`, with 1/2 without field for an infinite coupling as well."""
    safe = np.where(field == 0, 1.0, field)
    return np.where(field == 0, 0.5, expit(theta * safe))
