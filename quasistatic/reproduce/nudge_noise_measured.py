"""Measured signal-to-noise ratio of every estimator, those included that follow a dynamics.

A layered network of spins, 4-6-3, small enough to enumerate: for gradient `g` of groups of walkers and `G` the exact
target, the noise is `E |g - G|^2`, bias included, and

    n_1 = n E |g - G|^2 / |G|^2 ,   SNR = sqrt(n / n_1) ,

where `n` counts the states that enter an estimate: walkers times phases, with every node of a path integral. Sweeps are
equal per phase; a ramp spends them in its steps.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from quasistatic._keys import named
from quasistatic._random import split
from quasistatic._results import Estimate
from quasistatic._types import Key
from quasistatic.energies.costs import SquaredError
from quasistatic.energies.hopfield import Layered
from quasistatic.energies.interactions import Dense
from quasistatic.energies.nudged import Example
from quasistatic.energies.units import units
from quasistatic.equilibrium import ESTIMATORS, Options, Setup, contrast, covariance, estimate, gradient, table
from quasistatic.kernels.layered import LayeredGibbs
from quasistatic.reproduce.rows import Row
from quasistatic.thermo.controls import Controls

NUDGES = (0.01, 0.03, 0.1, 0.3, 1.0)
N_PHASES = {"path-integral": 4, "reweighting": 1, "covariance": 1, "holomorphic": 1}
"""Phases whose states enter an estimate; 2 where none is given."""
N_WALKERS, SIZES, TEMPERATURE = 250, (4, 6, 3), 0.8
OPTIONS = Options(n_nodes=4, n_steps=4, n_points=4, radius=0.2)


def network() -> tuple[Layered, Example]:
    """Couplings `0.4 sin(1.3 i + 2.7 j)`, fields `0.3 cos(1.1 i)`; one example with targets 1, -1, 1."""
    i, j, k = (np.arange(1, n + 1) for n in SIZES)
    weights = [0.4 * np.sin(1.3 * a[:, None] + 2.7 * b) for a, b in ((i, j), (j, k))]
    fields = tuple(jnp.asarray(0.3 * np.cos(1.1 * a), float) for a in (j, k))
    dense = tuple(Dense(jnp.asarray(w, float)) for w in weights)
    inputs, target = jnp.asarray([[0.2, 0.9, 0.4, 0.7]], float), jnp.asarray([[1.0, -1.0, 1.0]], float)
    return Layered(dense, fields, (units("spin", SIZES[1]), units("spin", SIZES[2]))), Example(inputs, target)


def targets(model: Layered, examples: Example, nudge: float) -> dict[str, np.ndarray]:
    """Exact gradients of `dA / b`, of `(A_b - A_-b) / 2b` and of the loss. Args: network; one example; nudge."""
    setup = Setup(model, SquaredError(), LayeredGibbs(), TEMPERATURE)
    states = jnp.asarray(list(itertools.product((-1.0, 1.0), repeat=sum(SIZES[1:]))), float)
    example = jax.tree.map(lambda leaf: leaf[0], examples)
    down, free, up = (table(setup, states, example, b) for b in (-nudge, 0.0, nudge))
    terms = {
        "one-sided": contrast(free, up).scale(1 / nudge),
        "centred": contrast(down, up).scale(0.5 / nudge),
        "loss": covariance(free, TEMPERATURE),
    }
    return {
        name: flat(gradient(model, SquaredError(), jax.tree.map(lambda leaf: leaf[None], each), examples))
        for name, each in terms.items()
    }


def target_of(name: str) -> str:
    """Which of the targets an estimator has. Args: its name."""
    if name in ("covariance", "holomorphic"):
        return "loss"
    return "centred" if name in ("centred", "random-sign") else "one-sided"


def flat(tree: Any) -> np.ndarray:
    """All parameters in one row. Args: gradient."""
    return np.concatenate([np.asarray(leaf, float).ravel() for leaf in jax.tree.leaves(tree)])


def measured(key: Key, n_groups: int) -> dict[str, list[Estimate]]:
    """`n_1` of every estimator at every nudge of `NUDGES`, with standard errors over groups.

    Args:
        key: random key.
        n_groups: independent repetitions.
    """
    model, examples = network()
    setup, controls = Setup(model, SquaredError(), LayeredGibbs(), TEMPERATURE), Controls.of(n_sweeps=30)
    start = jnp.broadcast_to(model.join(model.zeros()), (1, N_WALKERS, sum(SIZES[1:])))

    @jax.jit
    def groups(keys: Key, nudge: Any) -> dict[str, Any]:
        def group(key: Key) -> dict[str, Any]:
            free = setup.relaxed(named(key, "free"), setup.open(start, examples), 0.0, Controls.of(n_sweeps=40))
            return {
                n: estimate(n, named(key, n), setup, free, examples, nudge, controls, OPTIONS).gradient
                for n in ESTIMATORS
            }

        return jax.lax.map(group, keys)

    found: dict[str, list[Estimate]] = {name: [] for name in ESTIMATORS}
    for i, nudge in enumerate(NUDGES):
        slopes = groups(split(named(key, f"nudge {i}"), n_groups), jnp.asarray(nudge, float))
        exact = targets(model, examples, nudge)
        for name, slope in slopes.items():
            goal, n = exact[target_of(name)], N_WALKERS * N_PHASES.get(name, 2)
            rows = np.concatenate([np.asarray(leaf, float).reshape(n_groups, -1) for leaf in jax.tree.leaves(slope)], 1)
            needed = n * np.sum((rows - goal) ** 2, 1) / np.sum(goal**2)
            error = float(needed.std(ddof=1) / np.sqrt(n_groups))
            found[name].append(Estimate(float(needed.mean()), error, None, "none", name))
    return found


def measured_rows(found: dict[str, list[Estimate]]) -> list[Row]:
    """What theory says of them: the exact noise of a contrast, and that common numbers and conditional means lower it.

    Args:
        found: result of `measured`.
    """
    model, examples = network()
    setup = Setup(model, SquaredError(), LayeredGibbs(), TEMPERATURE)
    states = jnp.asarray(list(itertools.product((-1.0, 1.0), repeat=sum(SIZES[1:]))), float)
    example = jax.tree.map(lambda leaf: leaf[0], examples)
    statistic = _statistics(model, states, examples)

    def variance(nudge: float) -> float:
        p = np.asarray(table(setup, states, example, nudge).weight, float)
        return float(p @ ((statistic - p @ statistic) ** 2).sum(1))

    rows = []
    for i, nudge in enumerate(NUDGES):
        goal = targets(model, examples, nudge)["one-sided"]
        expected = 2 * (variance(0.0) + variance(nudge)) / (nudge**2 * np.sum(goal**2))
        name = f"samples for SNR 1, measured, contrast, nudge {nudge:g}"
        rows.append(Row.of(name, expected, found["contrast"][i]))
    for name in ("coupled", "rao-blackwell"):
        ratio = float(found[name][0].value or 0.0) / float(found["contrast"][0].value or 1.0)
        label = f"noise of {name} over the contrast's, nudge {NUDGES[0]:g} (0 to 1)"
        rows.append(Row(label, 0.5, ratio, None, 0.5))
    return rows


def _statistics(model: Layered, states: Any, examples: Example) -> np.ndarray:
    """`dE/dtheta` of every state, one row each, in the order of the leaves."""
    h, o = (np.asarray(part) for part in model.split(states))
    x = np.asarray(examples.inputs)[0]
    by_name = {
        "w0": -(x[None, :, None] * h[:, None, :]).reshape(len(h), -1),
        "w1": -(h[:, :, None] * o[:, None, :]).reshape(len(h), -1),
    }
    return np.concatenate([by_name["w0"], by_name["w1"], -h, -o], 1)


def draw_measured(ax: Any, found: dict[str, list[Estimate]]) -> None:
    """SNR from 1,000 samples against the nudge. Args: axes; result of `measured`."""
    for i, (name, values) in enumerate(found.items()):
        n_1 = np.array([float(v.value or np.nan) for v in values])
        ax.plot(NUDGES, np.sqrt(1000 / n_1), marker="osv^D"[i % 5], ls="-" if i < 5 else "--", label=name)
    ax.axhline(1.0, color="0.5", ls=":", lw=1)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("nudge (measured, layered spins)")
