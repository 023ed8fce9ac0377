"""A moving trap learned by walkers of the package: parameters, walkers and work, update by update.

    E = (x - th)^2 / 2,  b = 1;  each update: walkers move, then  dth = gain * (th* - mean of the walkers),  th* = 0

The five runs are those of the published figures: step `tau/99`, 100 moves, 1,000 walkers. `population` is the same in
the limit of many walkers, exactly.

Reference:
    Hnybida, Verret 2025 (arXiv:2510.03137) and the script that draws its figures. The reference values of learned
    centre, mean and work are those of 100 repetitions with the script's step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._types import Key
from quasistatic.dissipation import Trap
from quasistatic.energies import Gaussian, Potential
from quasistatic.kernels import Langevin
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.process import relax, switch


class Setting(NamedTuple):
    """One published figure.

    Attributes:
        title: what it shows.
        mobility: `mu`.
        centre: `th_0`.
        mean: `u_0`, mean of the walkers at the start.
        kind: schedule: constant (eta = 10), continuous or discontinuous.
        expected: learned centre, mean and work with their spread from run to run, of 100 repetitions.
        closed_form: work in continuous time, nats.
    """

    title: str
    mobility: float
    centre: float
    mean: float
    kind: str
    expected: tuple[tuple[float, float], ...]
    closed_form: float


def _constant(mobility: float, centre: float, mean: float) -> float:
    trap = Trap(mobility=mobility)
    course = trap.learned(lambda t: 10.0, centre, mean, 0.0, 1.0)
    return trap.constant_rate_work(10.0, -mean, -float(course.mean[-1]))


def settings() -> dict[str, Setting]:
    """The five figures of walkers, by name."""
    slow = Trap(mobility=5.0)
    course = slow.learned(slow.continuous_rate(1.0), -10, -10, 0.0, 1.0)
    return {
        "constant": Setting(
            "constant rate, start far from equilibrium", 10.0, 10.0, -10.0, "constant",
            ((0.003, 0.034), (0.084, 0.031), (37.97, 0.41)), _constant(10.0, 10.0, -10.0),
        ),
        "quasi-static": Setting(
            "constant rate, fast walkers", 100.0, -10.0, -10.0, "constant",
            ((-0.002, 0.009), (0.005, 0.053), (2.63, 0.12)), _constant(100.0, -10.0, -10.0),
        ),
        "continuous": Setting(
            "continuous schedule, start with the right lag", 1.0, -5.0, -10.0, "continuous",
            ((0.017, 0.016), (-4.958, 0.031), (24.89, 0.23)), 25.0,
        ),
        "discontinuous": Setting(
            "discontinuous schedule: least work", 1.0, -10.0, -10.0, "discontinuous",
            ((0.005, 0.019), (-6.636, 0.034), (33.20, 0.34)), Trap().minimal_work(10.0, 1.0),
        ),
        "slow": Setting(
            "continuous schedule from equilibrium", 5.0, -10.0, -10.0, "continuous",
            ((-0.055, 0.020), (-2.122, 0.031), (15.52, 0.21)), float(course.work[-1]),
        ),
    }  # fmt: skip


def gains(kind: str, mobility: float, *, duration: float, step: float, n: int, rate: float = 10.0) -> np.ndarray:
    """Factor of `th* - u` in each update: before the first move, then after each of `n` moves (end jump included)."""
    trap, found = Trap(mobility=mobility), np.zeros(n + 1)
    t = np.arange(n) * step
    if kind == "constant":
        found[1:] = rate * step
    elif kind == "continuous":
        found[1:] = step * np.array([trap.continuous_rate(duration)(s) for s in t])
    else:
        found[1:] = step * np.array([trap.discontinuous_rate(duration)(s) for s in t])
        found[0] = 1 / (trap.rate * duration + 2)
        found[-1] += 0.5
    return found


class Trajectory(NamedTuple):
    """Learning of several populations.

    Attributes:
        centre: `th` after each update, shape `(populations, n + 1)`.
        mean: mean of the walkers at each update.
        work: mean work so far, nats.
        stderr: its standard error over walkers.
        x: walkers of the first population at each update, shape `(n + 1, walkers)`.
    """

    centre: np.ndarray
    mean: np.ndarray
    work: np.ndarray
    stderr: np.ndarray
    x: np.ndarray


def walkers(
    key: Key, gain: np.ndarray, setting: tuple[float, float, float], *, step: float, n_walkers: int, n_runs: int
) -> Trajectory:
    """Independent runs with measured work. Args: setting, `(mu, th_0, u_0)`; walkers start with unit variance."""
    mobility, centre, mean = setting
    keys = jax.random.split(key, n_runs)
    found = _walkers(keys, jnp.asarray(gain), jnp.asarray([mobility * step, centre, mean], float), n_walkers=n_walkers)
    return Trajectory(*(np.asarray(part) for part in found))


@eqx.filter_jit
def _walkers(keys: Any, gain: Array, numbers: Float[Array, " 3"], *, n_walkers: int) -> tuple[Array, ...]:
    step_size, start, mean = numbers
    kernel, controls = Langevin(), eqx.tree_at(lambda c: c.step_size, Controls.of(), step_size)

    def potential(centre: Array) -> Potential:
        return Potential(Gaussian(centre[None], jnp.eye(1)), 1.0)

    def run(key: Array) -> tuple[Array, ...]:
        x = mean + jax.random.normal(jax.random.fold_in(key, gain.size), (n_walkers, 1))
        ensemble = Ensemble.open(kernel, potential(start), x)

        def learn(ensemble: Ensemble, centre: Array, factor: Array) -> tuple[tuple[Ensemble, Array], tuple[Array, ...]]:
            u = jnp.mean(ensemble.x)
            centre = centre - factor * u
            ensemble, _ = switch(kernel, potential(centre), ensemble)
            work = ensemble.account.work.value
            seen = (centre, u, jnp.mean(work), jnp.std(work) / jnp.sqrt(n_walkers), ensemble.x[:, 0])
            return (ensemble, centre), seen

        def update(carry: Any, k: Array) -> Any:
            ensemble, centre = carry
            ensemble, _ = relax(jax.random.fold_in(key, k), kernel, potential(centre), ensemble, controls)
            return learn(ensemble, centre, gain[k])

        carry, first = learn(ensemble, start, gain[0])
        _, rest = jax.lax.scan(update, carry, jnp.arange(1, gain.size))
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)

    centre, u, work, stderr, x = jax.lax.map(run, keys)
    return centre, u, work, stderr, x[0]


def population(gain: np.ndarray, setting: tuple[float, float, float], *, step: float) -> tuple[np.ndarray, ...]:
    """Centre, mean and work after each update for infinitely many walkers."""
    mobility, centre, mean = setting
    rows, work = [], 0.0
    for k, factor in enumerate(gain):
        if k:
            mean += mobility * step * (centre - mean)
        after = centre - factor * mean
        work += 0.5 * ((after - mean) ** 2 - (centre - mean) ** 2)
        centre = after
        rows.append((centre, mean, work))
    return tuple(np.array(rows).T)


def protocol_work(
    key: Key, table: dict[float, np.ndarray], *, n: int, n_walkers: int
) -> dict[float, tuple[float, float]]:
    """Mean work of walkers along prescribed jumps in a trap of `mu = kap = b = 1`, and its standard error.

    Args:
        key: random key.
        table: jumps by duration; `n` relaxations between the first and the last.
        n: relaxations.
        n_walkers: walkers, which start from the stationary law of the Langevin moves.
    """
    found = {}
    for i, (duration, jumps) in enumerate(table.items()):
        numbers = jnp.asarray([duration / n, 1 / np.sqrt(1 - 0.5 * duration / n)])
        work = _protocol(jax.random.fold_in(key, i), jnp.asarray(np.cumsum(jumps)), numbers, n_walkers=n_walkers)
        found[duration] = float(work.mean()), float(work.std(ddof=1) / np.sqrt(n_walkers))
    return found


@eqx.filter_jit
def _protocol(key: Any, centres: Array, numbers: Float[Array, " 2"], *, n_walkers: int) -> Array:
    kernel, controls = Langevin(), eqx.tree_at(lambda c: c.step_size, Controls.of(), numbers[0])

    def potential(centre: Array) -> Potential:
        return Potential(Gaussian(centre[None], jnp.eye(1)), 1.0)

    x = numbers[1] * jax.random.normal(key, (n_walkers, 1))
    ensemble = Ensemble.open(kernel, potential(jnp.zeros(())), x)
    ensemble, _ = switch(kernel, potential(centres[0]), ensemble)

    def stride(k: Any, ensemble: Ensemble) -> Ensemble:
        moved, _ = relax(jax.random.fold_in(key, k), kernel, potential(centres[k - 1]), ensemble, controls)
        return switch(kernel, potential(centres[k]), moved)[0]

    return jax.lax.fori_loop(1, centres.size, stride, ensemble).account.work.value
