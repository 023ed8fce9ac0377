"""Minimal-dissipation learning: the six published figures with measured work, the trap's table, and a quartic energy.

The figures of the paper are drawn from closed forms; here the work of the walkers stands beside them. Its general law
is checked on an energy that is not Gaussian, where least work is not known in closed form but the ranking of the laws
is: the schedules with friction dissipate less than a straight line with known target, and this less than natural
gradient without friction and plain gradient descent.

Reference:
    J. Hnybida, S. Verret, Minimal-dissipation learning for energy-based models, 2025 (arXiv:2510.03137).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from quasistatic._keys import named
from quasistatic._types import Key
from quasistatic.dissipation import SteppedTrap, Trap
from quasistatic.reproduce import quartic
from quasistatic.reproduce.rows import SIGMAS, Row
from quasistatic.reproduce.trap_learning import (
    Setting,
    Trajectory,
    gains,
    population,
    protocol_work,
    settings,
    walkers,
)

TABLE = {  # nu tau: least work, work of the linear protocol, both over kap D^2
    0.1: (0.476190, 0.483742),
    1.0: (0.333333, 0.367879),
    2.0: (0.250000, 0.283834),
    5.0: (0.142857, 0.160270),
    10.0: (0.083333, 0.090000),
    50.0: (0.019231, 0.019600),
    100.0: (0.009804, 0.009900),
}
N_MOVES = 100
SCRIPT_STEP = 1 / 99  # of the published figures: 100 moves, one more than their horizon holds


class Way(NamedTuple):
    """One curve of the figure of excess work, `D = mu = 1`, `tau = 5`.

    Attributes:
        label: legend.
        kind: schedule.
        centre: `th_0`.
        mean: `u_0`.
        published: work at the end in the published figure.
    """

    label: str
    kind: str
    centre: float
    mean: float
    published: float


WAYS = (
    Way("constant rate 0.5", "constant", -1.0, -1.0, 0.248316),
    Way("continuous, right lag at the start", "continuous", -1.0, -1.2, 0.2),
    Way("continuous, from equilibrium", "continuous", -1.0, -1.0, 0.160270),
    Way("discontinuous", "discontinuous", -1.0, -1.0, 0.142857),
)
HORIZON, WAY_STEP = 5.0, 0.01


def check(key: Key, is_quick: bool = False) -> tuple[list[Row], dict[str, Any]]:
    """All rows, and the figures.

    Args:
        key: random key; those of the parts are derived from it.
        is_quick: 8 runs of each figure instead of 40, fewer walkers elsewhere.
    """
    rows, drawn = _table(named(key, "table"), 20_000 if is_quick else 100_000), {}
    found = _figures(named(key, "figures"), 8 if is_quick else 40)
    ways = _ways(named(key, "ways"), 10_000 if is_quick else 40_000)
    learned = _quartic(named(key, "quartic"), 4_000 if is_quick else 40_000)
    rows += found[0] + ways[0] + learned[0]
    from quasistatic.reproduce import dissipation_figures as figures

    for name, (setting, trajectory) in found[1].items():
        drawn[f"dissipation-{name}"] = figures.ridge(setting, trajectory, SCRIPT_STEP)
    drawn["dissipation-excess-work"] = figures.ways(ways[1], HORIZON)
    drawn["dissipation-quartic"] = figures.quartic(learned[1], learned[2])
    return rows, drawn


def _table(key: Key, n_walkers: int) -> list[Row]:
    """Closed forms against the table, walkers against the exact discrete-time forms."""
    trap, rows = Trap(), []
    jumps: dict[str, dict[float, np.ndarray]] = {"least": {}, "linear": {}}
    for s, (least, linear) in TABLE.items():
        rows.append(Row(f"trap, nu tau = {s:g}: least work", least, trap.minimal_work(1.0, s), 0.0, 1e-6))
        rows.append(Row(f"trap, nu tau = {s:g}: linear protocol", linear, trap.linear_work(1.0, s), 0.0, 1e-6))
        jumps["least"][s] = _stepped(s).optimal_jumps(1.0, N_MOVES)
        jumps["linear"][s] = np.r_[np.full(N_MOVES, 1 / N_MOVES), 0.0]
    for name, table in jumps.items():
        measured = protocol_work(named(key, name), table, n=N_MOVES, n_walkers=n_walkers)
        for s, (work, stderr) in measured.items():
            exact = _stepped(s).work(jumps[name][s])
            rows.append(Row(f"trap, nu tau = {s:g}: {name}, walkers", exact, work, stderr, SIGMAS * stderr))
    return rows


def _stepped(s: float) -> SteppedTrap:
    return SteppedTrap.langevin(Trap(), s / N_MOVES)


def _figures(key: Key, n_runs: int) -> tuple[list[Row], dict[str, tuple[Setting, Trajectory]]]:
    """The five figures of walkers: learned centre, walkers' mean and work against the published script's."""
    rows, found = [], {}
    for name, setting in settings().items():
        numbers = (setting.mobility, setting.centre, setting.mean)
        gain = gains(setting.kind, setting.mobility, duration=1.0, step=SCRIPT_STEP, n=N_MOVES)
        run = walkers(named(key, name), gain, numbers, step=SCRIPT_STEP, n_walkers=1000, n_runs=n_runs)
        found[name] = setting, run
        parts = zip(
            ("learned centre", "mean of the walkers", "work [nats]"),
            setting.expected,
            (run.centre, run.mean, run.work),
            strict=True,
        )
        for what, (value, spread), part in parts:
            stderr = float(part[:, -1].std(ddof=1) / np.sqrt(n_runs))
            # the spread from run to run is given with the reference, a mean over 100 of them
            tolerance = SIGMAS * spread * np.sqrt(1 / n_runs + 1 / 100)
            rows.append(Row(f"figure {name}: {what}", value, float(part[:, -1].mean()), stderr, tolerance))
    return rows, found


def _ways(key: Key, n_walkers: int) -> tuple[list[Row], list[tuple[Way, Trajectory, np.ndarray, np.ndarray]]]:
    """The figure of excess work: closed forms, the exact course of the same steps, and walkers."""
    trap, rows, found = Trap(), [], []
    n = round(HORIZON / WAY_STEP)
    t = np.arange(n + 1) * WAY_STEP
    for way in WAYS:
        gain = gains(way.kind, 1.0, duration=HORIZON, step=WAY_STEP, n=n, rate=0.5)
        numbers = (1.0, way.centre, way.mean)
        run = walkers(named(key, way.label), gain, numbers, step=WAY_STEP, n_walkers=n_walkers, n_runs=1)
        exact = population(gain, numbers, step=WAY_STEP)[2]
        stderr = float(run.stderr[0, -1])
        closed = _closed_form(way, trap, t)
        rows.append(Row(f"{way.label}: work, closed form", way.published, float(closed[-1]), 0.0, 1e-6))
        rows.append(
            Row(f"{way.label}: work, walkers", float(exact[-1]), float(run.work[0, -1]), stderr, SIGMAS * stderr)
        )
        found.append((way, run, exact, closed))
    return rows, found


def _closed_form(way: Way, trap: Trap, t: np.ndarray) -> np.ndarray:
    """Work against time as in the published figure: fast walkers for the constant rate, a ramp for slow driving."""
    if way.kind == "constant":
        return 0.25 * (1 - np.exp(-t))
    if way.kind == "discontinuous":
        start, drive, end = trap.work_split(1.0, HORIZON)
        return start + drive * t / HORIZON + end * (t == t[-1])
    lag = way.mean != way.centre
    return t / HORIZON**2 - (0 if lag else 1) * (1 - np.exp(-t)) / HORIZON**2


def _quartic(key: Key, n_walkers: int) -> tuple[list[Row], dict[float, dict[str, Any]], dict[str, Any]]:
    """The quartic energy: population against the table, walkers against the population."""
    rows, exact = [], {}
    for duration, table in quartic.TABLE.items():
        exact[duration] = {rule: quartic.population(rule, duration) for rule in quartic.RULES}
        for rule, (divergence, excess) in table.items():
            found, where = exact[duration][rule], f"quartic, tau = {duration:g}, {rule}"
            rows.append(Row(f"{where}: excess work [nats]", excess, found.excess, 0.0, 0.002 * excess))
            # given to two digits
            digit = 10.0 ** np.floor(np.log10(divergence)) / 10 if divergence else 1e-9
            rows.append(Row(f"{where}: divergence", divergence, found.divergence, 0.0, 0.6 * digit))
        rows.append(_ranked(f"quartic, tau = {duration:g}", RANKING if duration > 10 else COARSE, exact[duration]))
    # the same random numbers for every rule: differences are then better known than the values
    measured = {rule: quartic.walkers(key, rule, 20.0, n_walkers=n_walkers) for rule in quartic.RULES}
    for rule, found in measured.items():
        rows.append(
            Row(
                f"quartic, tau = 20, {rule}: excess work of walkers [nats]",
                exact[20.0][rule].excess,
                found.excess,
                found.stderr,
                SIGMAS * found.stderr,
            )
        )
    rows.append(_ranked("quartic, tau = 20, walkers", RANKING if n_walkers > 10_000 else COARSE, measured))
    return rows, exact, measured


RANKING = ("discontinuous", "continuous", "line", "no friction", "gradient")
COARSE = ("discontinuous", "continuous", "line", "gradient")
"""The ranking of a horizon of 20; without friction, a short horizon or few walkers do not settle the place."""


def _ranked(where: str, rules: tuple[str, ...], found: dict[str, quartic.Learned]) -> Row:
    """Row that is 1 when the rules dissipate in this order."""
    values = [found[rule].excess for rule in rules]
    is_rising = all(a < b for a, b in zip(values, values[1:], strict=False))
    return Row(f"{where}: work of {' < '.join(rules)}", 1.0, float(is_rising), 0.0, 0.0)
