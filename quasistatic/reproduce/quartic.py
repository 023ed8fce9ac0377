"""Learning of a one-dimensional energy that is not Gaussian: six ways, exactly and with walkers.

    E = th_1 x + th_2 x^2 / 2 + x^4 / 4,   b = mu = 1,   th from (0, 1) to (0.5, -2) in the time tau

The population is a density on a grid that relaxes by an implicit step of the Fokker-Planck equation (rates between
neighbours `exp(-(E_j - E_i)/2) / dx^2`, in detailed balance); the walkers are those of the package. The learning-rate
matrix is `steer` with covariance and friction by quadrature. The reference values are those of an independent
implementation; orders of magnitude for the divergence, which is a small difference.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import solve_banded

from quasistatic._types import Key, Scalar, ScalarLike
from quasistatic.dissipation import excess_work, line_metric, steer
from quasistatic.energies.base import AbstractTractable
from quasistatic.energies.potential import Potential
from quasistatic.kernels import Langevin
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.process import relax, switch

GRID = np.linspace(-4.0, 4.0, 401)
START, TARGET = np.array([0.0, 1.0]), np.array([0.5, -2.0])
FEATURES = np.stack([GRID, GRID**2 / 2])

RULES = ("discontinuous", "continuous", "weighted", "line", "no friction", "gradient")
"""Ways to learn. `line`: straight in `th` with known target; `no friction`: natural gradient of lagging walkers;
`gradient`: plain descent at rate 1."""

TABLE = {  # tau: rule: divergence of the learned law, excess work [nats]
    5.0: {
        "continuous": (6.9e-4, 0.1493),
        "discontinuous": (1.1e-4, 0.1462),
        "weighted": (2.3e-6, 0.1565),
        "no friction": (4.5e-2, 0.2516),
        "gradient": (1.3e-1, 0.2460),
        "line": (0.0, 0.1642),
    },
    20.0: {
        "continuous": (6.4e-6, 0.04572),
        "discontinuous": (2.8e-6, 0.04483),
        "weighted": (1.5e-7, 0.04593),
        "no friction": (2.2e-3, 0.05166),
        "gradient": (5.4e-6, 0.26521),
        "line": (0.0, 0.05135),
    },
}


class Quartic(AbstractTractable):
    """`E = th_1 x + th_2 x^2 / 2 + x^4 / 4` on a line; `log Z` and exact samples from a grid.

    Args:
        theta: `(th_1, th_2)`, shape `(2,)`.
    """

    theta: Float[Array, " 2"]

    def __call__(self, x: Float[Array, " 1"]) -> Scalar:
        return self.theta[0] * x[0] + self.theta[1] * x[0] ** 2 / 2 + x[0] ** 4 / 4

    def on_grid(self) -> Float[Array, " n"]:
        """Energy on the grid."""
        return self.theta @ FEATURES + GRID**4 / 4

    def log_partition(self, beta: ScalarLike) -> Scalar:
        return jax.nn.logsumexp(-beta * self.on_grid()) + jnp.log(GRID[1] - GRID[0])

    def sample_exact(self, key: Key, beta: ScalarLike, n: int) -> Float[Array, "n 1"]:
        cumulated = jnp.cumsum(jax.nn.softmax(-beta * self.on_grid()))
        u = jax.random.uniform(key, (n,))
        return jnp.interp(u, cumulated, jnp.asarray(GRID) + 0.5 * (GRID[1] - GRID[0]))[:, None]

    def metric(self) -> tuple[Array, Array]:
        """Covariance of the features and friction tensor."""
        return line_metric(jnp.asarray(GRID), jnp.asarray(FEATURES), self.on_grid())


class Learned(NamedTuple):
    """Outcome of a run.

    Attributes:
        divergence: KL of the target from the learned law, nats.
        excess: excess work, nats.
        stderr: its standard error; 0 for a population.
        ess: effective sample size of the walkers by their work, as a fraction.
    """

    divergence: float
    excess: float
    stderr: float
    ess: float


def density(theta: np.ndarray) -> np.ndarray:
    """Equilibrium law on the grid, summing to 1."""
    weight = theta @ FEATURES + GRID**4 / 4
    p = np.exp(weight.min() - weight)
    return p / p.sum()


def free_energy(theta: np.ndarray) -> float:
    """`-log Z`, nats."""
    energy = theta @ FEATURES + GRID**4 / 4
    return float(energy.min() - np.log(np.exp(energy.min() - energy).sum() * (GRID[1] - GRID[0])))


def divergence(theta: np.ndarray) -> float:
    """`KL(target | law of theta)`, nats."""
    change = (np.asarray(theta) - TARGET) @ FEATURES
    return float(density(TARGET) @ change - free_energy(np.asarray(theta)) + free_energy(TARGET))


_metric = jax.jit(lambda theta: Quartic(theta).metric())


def population(rule: str, duration: float, *, step: float = 0.005) -> Learned:
    """One way to learn, with infinitely many walkers in continuous time (first order in `step`)."""
    n = round(duration / step)
    theta, p, work = START.copy(), density(START), 0.0
    wanted = FEATURES @ density(TARGET)
    for k in range(n + 1):
        if k:
            p = _relaxed(p, theta, step)
        gap = FEATURES @ (density(theta) if rule == "weighted" else p) - wanted
        is_end, is_start = k == n, k == 0
        for part in ("jump", "drive"):
            if part == "jump" and (rule != "discontinuous" or not (is_start or is_end)) or part == "drive" and is_end:
                continue
            d = _jump(theta, gap, duration, is_start) if part == "jump" else _drive(rule, theta, gap, n - k, n, step)
            work += float(d @ FEATURES @ p)
            theta = theta + d
    return Learned(divergence(theta), work - (free_energy(theta) - free_energy(START)), 0.0, np.nan)


def _jump(theta: np.ndarray, gap: np.ndarray, duration: float, is_start: bool) -> np.ndarray:
    """Jumps of the discontinuous law."""
    covariance, friction = (np.asarray(m) for m in _metric(jnp.asarray(theta)))
    if not is_start:
        return 0.5 * np.linalg.solve(covariance, gap)
    return np.linalg.solve(covariance, friction @ np.linalg.solve(duration * covariance + 2 * friction, gap))


def _drive(rule: str, theta: np.ndarray, gap: np.ndarray, n_left: int, n: int, step: float) -> np.ndarray:
    """Change of parameters in one step of time, `n_left` of `n` to go."""
    if rule == "line":
        return (TARGET - START) / n
    if rule == "gradient":
        return step * gap
    covariance, friction = (np.asarray(m) for m in _metric(jnp.asarray(theta)))
    left = n_left * step
    if rule in ("weighted", "no friction"):
        return step * np.linalg.solve(covariance, gap) / (left + (0.01 if rule == "weighted" else 0.1))
    return step * np.linalg.solve(left * covariance + (2 if rule == "discontinuous" else 1) * friction, gap)


def _relaxed(p: np.ndarray, theta: np.ndarray, step: float) -> np.ndarray:
    rise = np.diff(theta @ FEATURES + GRID**4 / 4)
    scale = step / (GRID[1] - GRID[0]) ** 2
    up, down = scale * np.exp(-0.5 * rise), scale * np.exp(0.5 * rise)
    bands = np.zeros((3, p.size))
    bands[0, 1:], bands[2, :-1] = -down, -up
    bands[1] = 1.0
    bands[1, :-1] += up
    bands[1, 1:] += down
    return solve_banded((1, 1), bands, p)


def walkers(key: Key, rule: str, duration: float, *, n_walkers: int = 4000, step: float = 0.01) -> Learned:
    """One way to learn, with walkers of the package (unadjusted Langevin moves) and `steer`; work from their books."""
    index = jnp.asarray(RULES.index(rule))
    theta, work = _walkers(key, index, n=round(duration / step), step=step, n_walkers=n_walkers)
    found = excess_work.from_jarzynski(np.asarray(work, np.float64))
    assert found.value is not None and found.stderr is not None and found.ess is not None
    return Learned(divergence(np.asarray(theta, np.float64)), found.value, found.stderr, found.ess)


@eqx.filter_jit
def _walkers(key: Key, rule: Array, *, n: int, step: float, n_walkers: int) -> tuple[Array, Array]:
    """Parameters and work per walker; one compilation serves all rules."""
    kernel, controls = Langevin(), Controls.of(step_size=step)
    wanted = jnp.asarray(FEATURES @ density(TARGET))
    start = Quartic(jnp.asarray(START))
    x = start.sample_exact(jax.random.fold_in(key, n + 1), 1.0, n_walkers)
    opened = Ensemble.open(kernel, Potential(start, 1.0), x, log_z=start.log_partition(1.0))

    def metric(theta: Array) -> tuple[Array, Array]:
        covariance, friction = Quartic(theta).metric()
        return covariance, friction / step - 0.5 * covariance

    laws = {
        "discontinuous": steer(metric, n, kind="discontinuous"),
        "continuous": steer(metric, n, kind="continuous"),
        "weighted": steer(metric, n, kind="weighted", offset=0.1 / step),
    }

    def update(k: Any, carry: tuple[Ensemble, Array]) -> tuple[Ensemble, Array]:
        ensemble, theta = carry
        ensemble, _ = relax(jax.random.fold_in(key, k), kernel, Potential(Quartic(theta), 1.0), ensemble, controls)
        seen = jnp.stack([ensemble.x[:, 0], ensemble.x[:, 0] ** 2 / 2])
        plain, weighted = wanted - jnp.mean(seen, 1), wanted - seen @ ensemble.weights()

        def steered(kind: str, gradient: Array) -> Any:
            return laws[kind].update(gradient, jnp.asarray(k, jnp.int32), theta)[0]

        is_running = k < n
        change = jax.lax.switch(
            rule,
            [
                lambda: steered("discontinuous", plain),
                lambda: steered("continuous", plain),
                lambda: steered("weighted", weighted),
                lambda: jnp.where(is_running, (TARGET - START) / n, 0.0),
                lambda: steered("weighted", plain),
                lambda: jnp.where(is_running, -step * plain, 0.0),
            ],
        )
        theta = theta + change
        return switch(kernel, Potential(Quartic(theta), 1.0), ensemble)[0], theta

    ensemble, theta = jax.lax.fori_loop(0, n + 1, update, (opened, jnp.asarray(START)))
    return theta, ensemble.account.work.value
