"""The moving harmonic trap: least work in a given time, the schedules that reach it, and what other schedules cost.

    E(x) = kap/2 (x - th)^2,   walkers of mobility mu at inverse temperature b,   nu = mu kap,   u = <x>
    du/dt = nu (th - u),       W_ex = b kap int (th - u) dth                 [nats]

The optimum moves the mean `u` at constant speed `m = D / (tau + 2/nu)`; the centre leads it by the constant lag `m/nu`
and jumps by as much at both ends. In `d` dimensions replace `D^2` by `|D|^2`. Learning follows
`dth/dt = eta(t) b kap (th* - u)`, where `th*` is the mean of the data. Works are in nats: `b` times the energies of
the literature.

Reference:
    T. Schmiedl, U. Seifert, Phys. Rev. Lett. 98, 108301 (2007), the moving trap;
    J. Hnybida, S. Verret 2025 (arXiv:2510.03137), the schedules as learning rates. Their discontinuous schedule is
    written for mu = kap = 1; the general one, with `2/nu` for their `2/mu^2`, is derived in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.integrate import solve_ivp

from quasistatic.errors import InputError

Rate = Callable[[float], float]
"""Learning rate `eta(t)`: the centre moves at `eta` times the gradient of the log-likelihood."""


class Course(NamedTuple):
    """What a schedule does to the trap, at chosen times.

    Attributes:
        time: times.
        centre: `th`, parameters; the first entry follows the start jump, the last one precedes the end jump.
        mean: `u`, mean of the walkers.
        work: excess work so far, nats; start jump included.
    """

    time: Float[np.ndarray, " n"]
    centre: Float[np.ndarray, " n"]
    mean: Float[np.ndarray, " n"]
    work: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Trap:
    """Harmonic trap with overdamped walkers, in continuous time.

    Args:
        stiffness: `kap`, energy per length squared.
        mobility: `mu`, velocity per force.
        beta: inverse temperature.
    """

    stiffness: float = 1.0
    mobility: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        for name in ("stiffness", "mobility", "beta"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} of a trap must be positive, got {getattr(self, name)}")

    @property
    def rate(self) -> float:
        """Relaxation rate `nu = mu kap`, per unit of time."""
        return self.mobility * self.stiffness

    def minimal_work(self, distance: float, duration: float) -> float:
        """Least work from equilibrium to a centre `distance` away: `b kap D^2 / (nu tau + 2)`, nats."""
        return self.beta * self.stiffness * distance**2 / (self.rate * _positive(duration, "duration") + 2)

    def speed(self, distance: float, duration: float) -> float:
        """Speed `m = D / (tau + 2/nu)` of walkers and centre under the optimum."""
        return distance / (_positive(duration, "duration") + 2 / self.rate)

    def jump(self, distance: float, duration: float) -> float:
        """Jump of the centre at each end of the optimum, `D / (nu tau + 2)`: also its lead over the walkers."""
        return self.speed(distance, duration) / self.rate

    def final_lag(self, distance: float, duration: float) -> float:
        """What the walkers are short of the target at the end of the optimum, twice the jump."""
        return 2 * self.jump(distance, duration)

    def work_split(self, distance: float, duration: float) -> tuple[float, float, float]:
        """Optimal work in the start jump, on the way and in the end jump, nats; the jumps are as 1/2 to 3/2."""
        lead = self.jump(distance, duration)
        jumps = self.beta * self.stiffness * lead**2
        way = self.beta * self.speed(distance, duration) ** 2 * duration / self.mobility
        return 0.5 * jumps, way, 1.5 * jumps

    def linear_work(self, distance: float, duration: float) -> float:
        """Work of moving the centre at constant speed without jumps, nats."""
        s = self.rate * _positive(duration, "duration")
        return self.beta * self.stiffness * distance**2 / s * (1 + np.expm1(-s) / s)

    def constant_rate_work(self, rate: float, gap_start: float, gap_end: float) -> float:
        """Work of learning at a constant rate, `(b kap r / 2 nu) (y_0^2 - y^2)` with `r = b eta kap`, nats.

        Args:
            rate: `eta`.
            gap_start: `y_0 = th* - u` at the start.
            gap_end: `y` at the end.
        """
        r = self.beta * rate * self.stiffness
        return self.beta * self.stiffness * r / (2 * self.rate) * (gap_start**2 - gap_end**2)

    def continuous_rate(self, duration: float) -> Rate:
        """`eta(t) = (1/b) / (kap (tau - t) + 1/mu)`: no jumps; optimal when the start already has the right lag."""
        return self._hyperbolic(duration, 1.0)

    def discontinuous_rate(self, duration: float) -> Rate:
        """`eta(t) = (1/b) / (kap (tau - t) + 2/mu)` between the jumps: optimal from equilibrium."""
        return self._hyperbolic(duration, 2.0)

    def continuous_error(self, centre: float, mean: float, target: float, duration: float) -> float:
        """Where the continuous schedule ends, `th(tau) - th*`, from any start.

        `-exp(-nu tau) [ (th* - th_0) - nu tau (th_0 - u_0) ]`.
        """
        s = self.rate * _positive(duration, "duration")
        return -np.exp(-s) * ((target - centre) - s * (centre - mean))

    def learned(
        self,
        rate: Rate,
        centre: float,
        mean: float,
        target: float,
        duration: float,
        *,
        jumps: bool = False,
        n_times: int = 101,
    ) -> Course:
        """Course of learning at a rate, by integration of the closed loop (relative error 1e-10).

        Args:
            rate: `eta(t)`.
            centre: `th_0`.
            mean: `u_0`.
            target: `th*`, mean of the data.
            duration: `tau`.
            jumps: whether the centre jumps by `(th* - u_0) / (nu tau + 2)` at the start (the end jump, half the
                remaining gap, is not part of the course).
            n_times: number of times.
        """
        k = self.beta * self.stiffness
        start, work = centre, 0.0
        if jumps:
            start = centre + (target - mean) / (self.rate * duration + 2)
            work = 0.5 * k * ((start - mean) ** 2 - (centre - mean) ** 2)

        def flow(t: float, y: np.ndarray) -> list[float]:
            velocity = rate(t) * k * (target - y[1])
            return [velocity, self.rate * (y[0] - y[1]), k * (y[0] - y[1]) * velocity]

        time = np.linspace(0, _positive(duration, "duration"), n_times)
        found = solve_ivp(flow, (0, duration), [start, mean, work], "DOP853", time, rtol=1e-10, atol=1e-12)
        return Course(time, *found.y)

    def _hyperbolic(self, duration: float, c: float) -> Rate:
        _positive(duration, "duration")
        return lambda t: 1 / (self.beta * (self.stiffness * (duration - t) + c / self.mobility))


@dataclass(frozen=True)
class SteppedTrap:
    """The trap in discrete time, exact at any step: jumps of the centre with one relaxation between two of them.

    A relaxation multiplies the lag `u - th` by `a`. For any protocol of jumps `d_0 .. d_K` with `sum d = D`

        W_ex = (b kap / 2) sum_jk d_j d_k a^|j-k| ,

    least for equal jumps `y = D / [(1 + a) + K (1 - a)]` at both ends and `(1 - a) y` between them.

    Args:
        lag: `a`, in (-1, 1): `1 - nu h` for unadjusted Langevin moves, `exp(-nu h)` for exact ones.
        stiffness: `kap`.
        beta: inverse temperature.
    """

    lag: float
    stiffness: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        if not -1 < self.lag < 1:
            raise InputError(f"a relaxation shrinks the lag by a factor in (-1, 1), got {self.lag}; lower the step")
        Trap(self.stiffness, 1.0, self.beta)

    @classmethod
    def langevin(cls, trap: Trap, step: float) -> SteppedTrap:
        """Unadjusted Langevin moves of time step `h`: `a = 1 - nu h`."""
        return cls(1 - trap.rate * _positive(step, "step"), trap.stiffness, trap.beta)

    @classmethod
    def exact(cls, trap: Trap, step: float) -> SteppedTrap:
        """Exact Ornstein-Uhlenbeck moves of time `h`: `a = exp(-nu h)`."""
        return cls(float(np.exp(-trap.rate * _positive(step, "step"))), trap.stiffness, trap.beta)

    @property
    def friction(self) -> float:
        """`Z / (b C) = (1 + a) / (2 (1 - a))`, friction over curvature, in updates: what schedules ask for."""
        return (1 + self.lag) / (2 * (1 - self.lag))

    def work(self, jumps: Float[np.ndarray, " n"]) -> float:
        """Excess work of any protocol from equilibrium, nats. Args: jumps of the centre, a relaxation between two."""
        d = np.asarray(jumps, float)
        behind, work = 0.0, 0.0  # behind: centre minus walkers, before the jump
        for jump in d:
            work += jump * behind + 0.5 * jump**2
            behind = self.lag * (behind + jump)
        return self.beta * self.stiffness * work

    def minimal_work(self, distance: float, n_relaxations: int) -> float:
        """Least work `b kap D^2 (1 + a) / (2 [(1 + a) + K (1 - a)])`, nats, with `K` relaxations between jumps."""
        a = self.lag
        return self.beta * self.stiffness * distance**2 * (1 + a) / (2 * self._denominator(n_relaxations, a))

    def optimal_jumps(self, distance: float, n_relaxations: int) -> Float[np.ndarray, " n"]:
        """The `K + 1` jumps of least work."""
        y = distance / self._denominator(n_relaxations, self.lag)
        jumps = np.full(n_relaxations + 1, (1 - self.lag) * y)
        jumps[[0, -1]] = y
        return jumps

    def linear_work(self, distance: float, n_relaxations: int) -> float:
        """Work of `K` equal jumps `D/K`, each followed by a relaxation, nats."""
        a, n = self.lag, n_relaxations
        total = n / 2 + a / (1 - a) * (n - (1 - a**n) / (1 - a))
        return self.beta * self.stiffness * (distance / n) ** 2 * total

    def work_variance(self, work: float, variance: float) -> float:
        """Variance of a walker's work when its mean is `work`, nats squared.

        `2 W_ex (b kap var x)`, Gaussian; equal to `2 W_ex` for exact moves.

        Args:
            work: excess work, nats.
            variance: stationary variance of the walkers: `1/(b kap)` for exact moves, `1/(b kap (1 - nu h/2))` for
                unadjusted Langevin moves, from which they must start.
        """
        return 2 * work * self.beta * self.stiffness * variance

    def set_point(self, mean: float, target: float, n_done: int, n_relaxations: int) -> float:
        """Where to put the centre, from the walkers' mean alone: the optimum as a feedback law.

        `th = u + (th* - u) / [(1 + a) + (K - j)(1 - a)]` after jump `j < K`, `th = th*` after the last.

        Args:
            mean: `u`, measured before the jump.
            target: `th*`.
            n_done: `j`, jumps made before this one.
            n_relaxations: `K`.
        """
        if n_done >= n_relaxations:
            return target
        return mean + (target - mean) / self._denominator(n_relaxations - n_done, self.lag)

    @staticmethod
    def _denominator(n: int, a: float) -> float:
        if n < 0:
            raise InputError(f"a number of relaxations is at least 0, got {n}")
        return (1 + a) + n * (1 - a)


def exponential_work(distance: float, residual: float, duration: float, mobility: float, beta: float = 1.0) -> float:
    """Slow work of an exponential approach that leaves `residual`: `(b D^2 / mu tau) ln(D/eps) / 2 (1 - eps^2/D^2)`.

    What a horizon of unknown length costs beside the optimum `b D^2 / (mu tau)`; for `nu tau >> ln(D/eps)`.

    Args:
        distance: `D`.
        residual: `eps`, what is left after `duration`.
        duration: `tau`.
        mobility: `mu`.
        beta: inverse temperature.
    """
    share = residual / distance
    return beta * distance**2 / (mobility * duration) * 0.5 * np.log(1 / share) * (1 - share**2)


def _positive(value: float, name: str) -> float:
    if not value > 0:
        raise InputError(f"{name} must be positive, got {value}")
    return value
