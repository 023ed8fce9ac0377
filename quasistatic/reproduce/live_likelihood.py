"""The live likelihood against the exact one, while a real model trains.

The recipe `digits-rbm` is trained from many seeds. At log-spaced ages the auditor's `log Z` and its standard error are
kept, and after training every age is enumerated (2^24 hidden states). The table says how often the truth lies within 3
standard errors and inside the 95 % interval, and how far off the driver's own value is: the walkers that make the
gradient flatter themselves.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from quasistatic._keys import named
from quasistatic._results import Estimate
from quasistatic._types import Key
from quasistatic.cli.build import build, make_model
from quasistatic.cli.config import load_config
from quasistatic.evaluate.exact import log_partition_exact
from quasistatic.reproduce.rows import Row
from quasistatic.train.loop import Plan
from quasistatic.train.record import live_log_z
from quasistatic.train.step import run_chunk

N_AGES = 25


def check(key: Key, is_quick: bool = False) -> list[Row]:
    """All rows.

    Args:
        key: random key; run keys are folded from it.
        is_quick: 3 seeds of 1,000 updates instead of 20 seeds of the recipe's length.
    """
    live, driver, exact = compare(key, n_seeds=3 if is_quick else 20, n_steps=1000 if is_quick else None)
    stderr = np.array([[e.stderr for e in row] for row in live])
    z = (np.array([[e.value for e in row] for row in live]) - exact) / stderr
    inside = [
        [lo <= x <= hi for (lo, hi), x in zip(map(_interval, row), xs, strict=True)]
        for row, xs in zip(live, exact, strict=True)
    ]
    final = driver[:, -1] - exact[:, -1]
    optimistic = f"runs whose driver overstates the likelihood (by {-final.mean():.1f} nats on average), fraction"
    coverage = 0.2 if is_quick else 0.045  # few runs, and the ages of a run are not independent
    return [
        Row("ages with |z| < 3, fraction", 1.0, float((np.abs(z) < 3).mean()), None, 0.03),
        Row("ages inside the 95 % interval, fraction", 0.945, float(np.mean(inside)), None, coverage),
        Row("largest standard error of log Z, nats", 0.0, float(stderr.max()), None, 0.3),
        Row(optimistic, 1.0, float((final < 0).mean()), None, 0.1),
    ]


def compare(
    key: Key, *, n_seeds: int, n_steps: int | None = None
) -> tuple[list[list[Estimate]], np.ndarray, np.ndarray]:
    """Live, driver's and exact log Z.

    Args:
        key: random key.
        n_seeds: number of runs.
        n_steps: updates of each, default the recipe's.

    Returns:
        The auditor's estimates by run and age; the driver's values, shape `(n_seeds, n_ages)`; the exact ones.
    """
    config = load_config("digits-rbm", [] if n_steps is None else [f"run.n_steps={n_steps}"])
    _, trainer, _, dataset = build(config)
    data = jnp.asarray(dataset.train, float)
    ages = Plan(config.run.n_steps, n_ages=N_AGES).ages
    live, driver, exact = [], [], []
    for seed in range(n_seeds):
        key_run = jax.random.fold_in(named(key, "live"), seed)
        model, _ = make_model(config, key_run, np.asarray(dataset.train))
        state = trainer.init(key_run, model)
        states = []
        for age in ages:
            state = run_chunk(trainer, state, data, jnp.asarray(age, jnp.int32))
            states.append(state)
        live.append([live_log_z(s.auditor, s.auditor_ledger) for s in states])
        driver.append([float(s.ensemble.log_partition_groups()[0]) for s in states])
        exact.append([log_partition_exact(s.model, float(s.controls.beta)) for s in states])
    return live, np.array(driver), np.array(exact, dtype=float)


def _interval(estimate: Estimate) -> tuple[float, float]:
    found = estimate.interval(0.95)
    return found if found is not None else (np.inf, -np.inf)
