"""What training with k steps learns, for models with one parameter and one moment.

Walkers start from a law that does not depend on the parameter and make `k` steps; training moves the parameter until

    F(k; theta*) = data,        F(t; theta) = <f>_t ,                                                         (1)

where `f` is the statistic conjugate to `theta`. `F` is monotone in `theta` for every model of this package, so that
`theta*` is unique, found by bisection, and exists exactly when the data lie between the limits of `F(k; .)`. Sampling
with `theta*` for exactly `k` steps gives the data's moment; any other number of steps does not, unless `k` is long
beside the relaxation time.

Everything is in reduced units: parameters are those of `u = beta E`; divide what is learned by beta to have it in
units of the energy.

Reference:
    E. Agoritsas, G. Catania, A. Decelle, B. Seoane, ICML 2023 (arXiv:2301.09428), for the statement; the closed forms
    of this package are derived and checked against enumeration and integration in `tests/dynamics`.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar, TypeVar

import numpy as np
from jaxtyping import Float, Shaped
from scipy.integrate import solve_ivp
from scipy.optimize import root_scalar

from quasistatic.errors import InputError

Real = float | Shaped[np.ndarray, "..."]
"""One number or an array of them."""
Self = TypeVar("Self", bound="AbstractScalarModel")
LARGEST = 1e6
"""Parameters beyond this count as infinite."""


class OutOfReach(InputError):
    """No parameter reproduces the data after k steps; training would drive the parameter to a limit and never arrive.

    Args:
        message: what is out of reach, and what to do.
        limits: what can be reached.
    """

    def __init__(self, message: str, *, limits: tuple[float, float] | None = None):
        super().__init__(message)
        self.limits = limits


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractScalarModel(abc.ABC):
    """A model with one parameter, one moment and a known law of the walkers after `t` steps.

    A member says what `moment`, `equilibrium`, `at_equilibrium`, `reach` and `like` are; the rest follows.

    Args:
        start: parameter of the law from which walkers start; its meaning is the model's.
    """

    start: float
    sign: ClassVar[int] = 1
    """Whether the moment rises (1) or falls (-1) with the parameter."""
    domain: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    @property
    def is_discrete(self) -> bool:
        """Whether time is counted in whole steps."""
        return False

    @abc.abstractmethod
    def moment(self, theta: Real, t: Real) -> Real:
        """`F(t; theta)`. Args: parameters; times `t >= 0` (whole where time is discrete); they broadcast."""

    @abc.abstractmethod
    def equilibrium(self, theta: float) -> float:
        """`F(inf; theta)`; infinite where the model has no equilibrium."""

    @abc.abstractmethod
    def at_equilibrium(self, data: float) -> float:
        """Parameter whose stationary law has the data's moment: the maximum-likelihood one if the chain is exact.

        Raises:
            OutOfReach: there is none.
        """

    @abc.abstractmethod
    def reach(self, k: float) -> tuple[float, float]:
        """Open interval of the moments that some parameter reaches after `k` steps."""

    @abc.abstractmethod
    def like(self: Self, data: float) -> Self:
        """The same model, its walkers started with the data's moment: what CD-k does."""

    def learned(self, data: float, k: float) -> float:
        """Parameter `theta*` with `F(k; theta*) = data`, to rounding.

        Args:
            data: moment of the data.
            k: training steps; `inf` for training at equilibrium.

        Raises:
            OutOfReach: no parameter has that moment after `k` steps; `limits` of the error are what can be reached.
        """
        if k == math.inf:
            return self.at_equilibrium(data)
        low, high = self.reach(self._steps(k))
        if not low < data < high:
            raise OutOfReach(
                f"a moment of {data:.6g} cannot be learned with k = {k:g}: only ({low:.6g}, {high:.6g}) is reached; "
                "train with more steps or start the walkers nearer to the data",
                limits=(low, high),
            )
        return increasing_root(lambda theta: self.sign * (float(self.moment(theta, k)) - data), self._domain())

    def generated(self, data: float, k: float, times: Real) -> Real:
        """Sampling curve: the moment after `times` steps with the parameter learned with `k`. Raises: OutOfReach."""
        return self.moment(self.learned(data, k), times)

    def velocity(self, theta: float, data: float, k: float) -> float:
        """Training flow `d theta/d tau = +-(data - F(k; theta))` at unit learning rate."""
        reached = self.equilibrium(theta) if k == math.inf else float(self.moment(theta, k))
        return self.sign * (data - reached)

    def learning(
        self, data: float, k: float, theta: float, times: Float[np.ndarray, " n"], *, rate: float = 1.0
    ) -> Float[np.ndarray, " n"]:
        """Learning curve `theta(tau)`, by integration of the training flow (relative error 1e-11).

        Args:
            data: moment of the data; it need not be learnable.
            k: training steps, `inf` for equilibrium.
            theta: parameter at `tau = 0`.
            times: learning times `tau`, rising.
            rate: learning rate.
        """
        times = np.asarray(times, float)
        if times.ndim != 1 or times.size == 0 or times[0] < 0 or np.any(np.diff(times) <= 0):
            raise InputError("learning times are a rising sequence of numbers >= 0")
        found = solve_ivp(
            lambda _, y: [rate * self.velocity(float(y[0]), data, k)],
            (0.0, float(times[-1])),
            [theta],
            "DOP853",
            times,
            rtol=1e-12,
            atol=1e-14,
        )
        if not found.success:
            raise OutOfReach(f"the parameter ran away at learning time {found.t[-1] if found.t.size else 0:.3g}")
        return found.y[0]

    def slope(self, theta: float, k: float) -> float:
        """`dF(k; theta)/d theta`; times the learning rate it is the rate at which a fixed point is approached."""
        h = 6e-6 * max(1.0, abs(theta))
        return (float(self.moment(theta + h, k)) - float(self.moment(theta - h, k))) / (2 * h)

    def by_time(self, data: float, k: float) -> float:
        """Sensitivity `d theta*/dk` of what is learned to the number of steps; discrete time: to one more step."""
        if self.is_discrete:
            return self.learned(data, k + 1) - self.learned(data, k)
        h = 1e-4 * k
        return (self.learned(data, k + h) - self.learned(data, k - h)) / (2 * h)

    def by_start(self, data: float, k: float) -> float:
        """Sensitivity `d theta*/d start` of what is learned to the law that walkers start from."""
        h = 1e-4 * max(abs(self.start), 0.1)
        high, low = (dataclasses.replace(self, start=self.start + x) for x in (h, -h))
        return (high.learned(data, k) - low.learned(data, k)) / (2 * h)

    def least_time(self, data: float) -> float:
        """Training steps below which the data cannot be learned (0 when any number does); discrete time: the least.

        Raises:
            OutOfReach: no number of steps does.
        """

        def margin(k: float) -> float:
            low, high = self.reach(k)
            return min(high - data, data - low, 1.0)

        first = 1.0 if self.is_discrete else 1e-9
        if margin(first) > 0:
            return first if self.is_discrete else 0.0
        k = first
        while margin(k) <= 0:
            k *= 2
            if k > LARGEST:
                raise OutOfReach(f"a moment of {data:.6g} cannot be learned with any number of steps")
        if not self.is_discrete:
            return float(root_scalar(margin, bracket=(k / 2, k), method="brentq", xtol=1e-13, rtol=1e-14).root)
        low, high = int(k // 2), int(k)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if margin(middle) > 0 else (middle, high)
        return float(high)

    def _domain(self) -> tuple[float, float]:
        return self.domain

    def _steps(self, k: float) -> float:
        if not (k > 0 and math.isfinite(k)) or self.is_discrete and k != int(k):
            kind = "a whole number of at least 1" if self.is_discrete else "a positive time"
            raise InputError(f"k must be {kind}, got {k}")
        return k

    def _times(self, t: Real) -> np.ndarray:
        """Times as an array. Raises InputError for negative ones, and for parts of a step."""
        times = np.asarray(t, float)
        if not np.all(np.isfinite(times)) or np.any(times < 0):
            raise InputError(f"times must be finite and at least 0, got {t}")
        if self.is_discrete and np.any(times != np.round(times)):
            raise InputError(f"time is counted in whole steps here, got {t}")
        return times


def increasing_root(f: Callable[[float], float], domain: tuple[float, float]) -> float:
    """Root of an increasing function, bracketed by doubling from -1 and 1. Raises: OutOfReach without one."""

    def g(x: float) -> float:
        value = f(x)
        if np.isnan(value):
            raise OutOfReach(f"the moment at the parameter {x:.6g} is not a number; it cannot be solved for")
        return float(np.clip(value, -1e300, 1e300))

    low, high = max(-1.0, domain[0]), min(1.0, domain[1])
    while g(low) > 0:
        if low == domain[0] or -low > LARGEST:
            raise OutOfReach("the parameter that would reproduce the data is infinite to rounding")
        low = max(2 * min(low, -1.0), domain[0])
    while g(high) < 0:
        if high == domain[1] or high > LARGEST:
            raise OutOfReach("the parameter that would reproduce the data is infinite to rounding")
        high = min(2 * max(high, 1.0), domain[1])
    return float(root_scalar(g, bracket=(low, high), method="brentq", xtol=1e-15, rtol=1e-14).root)


def shrink(x: Real) -> Float[np.ndarray, ...]:
    """`(1 - exp(-x)) / x`, 1 at 0."""
    x = np.asarray(x, float)
    return np.where(x == 0, 1.0, -np.expm1(-x) / np.where(x == 0, 1.0, x))


def remembered(start: float, factor: Real) -> Float[np.ndarray, ...]:
    """`start * factor`, and 0 from a point however large the factor."""
    return np.multiply(start, factor) if start else np.zeros(np.shape(factor))


def geometric(q: Real, n: Real) -> Float[np.ndarray, ...]:
    """`1 + q + ... + q^(n-1)` for `q >= 0`."""
    q, n = np.broadcast_arrays(np.asarray(q, float), np.asarray(n, float))
    log_q = np.log(np.where(q > 0, q, 1.0))
    with np.errstate(over="ignore"):
        total = -np.expm1(n * log_q) / np.where(q == 1, 1.0, 1 - q)
    return np.select([n == 0, q == 0, q == 1], [np.zeros_like(n), np.ones_like(n), n], total)


def positive(value: float, name: str) -> float:
    """The value. Raises: InputError unless positive and finite."""
    if not (value > 0 and math.isfinite(value)):
        raise InputError(f"{name} must be positive and finite, got {value}")
    return value


def variance(value: float) -> float:
    """A variance at the start, 0 for a point. Raises: InputError unless it is finite and at least 0."""
    if not (value >= 0 and math.isfinite(value)):
        raise InputError(f"the variance at the start must be at least 0, got {value}")
    return value
