"""Who is first at a given likelihood: natural-gradient steps against the best of a grid of plain PCD.

An RBM of 784 x 500 units learns thresholded MNIST by PCD with 500 walkers, 500 samples, centred gradients (plain ones
for Adam, which would scale the parts of a centred gradient apart that have to balance). At updates 60, 125, 180, 250,
375, ... the clock stops and annealing finds the test log-likelihood of the parameters and of their running average; the
better of the two counts, for every candidate alike. A candidate is through when it has passed the target; updates and
seconds at the target are interpolated between the looks. Compilation is not counted.

    python -m benchmarks.race [--target LL] [--only NAME] [--longest N] [--json]
"""

import argparse
import json
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import quasistatic as qs
from quasistatic.datasets import mnist
from quasistatic.evaluate.annealing import ais
from quasistatic.evaluate.paths import base_at
from quasistatic.metric import natural_gradient
from quasistatic.train.step import run_chunk

LOOKS = (60, 125, 180, 250, 375, 500, 750, 1000, 1500, 2000, 3000, 4000, 6000, 8000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=float, default=-70.0)
    parser.add_argument("--only", help="candidates whose names contain this")
    parser.add_argument("--longest", type=int, default=4000, help="updates at which a candidate gives up")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    data = mnist(None, with_test=True)
    found = {}
    for name, settings in candidates().items():
        if options.only and options.only not in name:
            continue
        rows = raced(name, data.train, data.test, options.target, options.longest, **settings)
        found[name] = rows
        print(f"{name:32s} {reached(rows, options.target)}", flush=True)
    if options.json:
        print(json.dumps(found))


def candidates() -> dict[str, dict[str, Any]]:
    """Optimiser, sweeps and rows of each candidate."""
    made: dict[str, dict[str, Any]] = {}
    for k in (1, 2, 5):
        for rate in (0.1, 0.2, 0.4, 0.8, 1.6):
            made[f"pcd-{k} sgd {rate:g}"] = {"optimiser": optax.sgd(rate), "k": k}
        for rate in (3e-4, 1e-3, 3e-3):
            made[f"pcd-{k} adam {rate:g}"] = {"optimiser": optax.adam(rate), "k": k, "is_centred": False}
    for k in (1, 2):
        for damping in (0.3, 1.0, 3.0):
            for rate in (1.0, 2.0, 4.0, 8.0):
                made[f"natural-{k} damping {damping:g} rate {rate:g}"] = {
                    "optimiser": natural_gradient(rate, damping=damping),
                    "k": k,
                }
    # the recipe mnist-rbm-natural
    falling = optax.linear_schedule(6.0, 0.0, 600, 300)
    made["natural-2 damping 1 rate 6 falling"] = {"optimiser": natural_gradient(falling, damping=1.0), "k": 2}
    return made


def raced(
    name: str,
    train: Any,
    test: Any,
    target: float,
    longest: int,
    *,
    optimiser: Any,
    k: int,
    is_centred: bool = True,
    n: int = 500,
) -> list[dict[str, float]]:
    """Looks of one candidate: updates, seconds of training so far, log-likelihoods with standard errors."""
    model = qs.RBM.initialise(jax.random.key(1), train.shape[1], 500, data=train)
    trainer = qs.pcd(
        qs.BlockGibbs(), optimiser, k=k, centred=is_centred, n_walkers=n, batch_size=n, auditor_groups=0, ema=0.99
    )
    state, x = trainer.init(jax.random.key(0), model), jnp.asarray(train)
    jax.block_until_ready(run_chunk(trainer, state, x, jnp.asarray(1, jnp.int32)))
    rows, seconds = [], 0.0
    for look in LOOKS:
        if look > longest:
            break
        started = time.perf_counter()
        state = jax.block_until_ready(run_chunk(trainer, state, x, jnp.asarray(look, jnp.int32)))
        seconds += time.perf_counter() - started
        row = {"updates": float(look), "seconds": seconds}
        for which, judged in (("last", state.model), ("averaged", state.averaged)):
            row[which], row[f"{which}_stderr"] = log_likelihood(judged, train, test)
        row["ll"] = np.nanmax([row["last"], row["averaged"], -1e9])
        rows.append(row)
        print(
            f"{name:32s} {look:5d} updates {seconds:7.1f} s   LL {row['last']:8.2f} +- {row['last_stderr']:.2f}, "
            f"averaged {row['averaged']:8.2f} +- {row['averaged_stderr']:.2f}",
            flush=True,
        )
        if row["ll"] > target or not math.isfinite(row["last"]):
            break
    return rows


def log_likelihood(model: Any, train: Any, test: Any) -> tuple[float, float]:
    """Test log-likelihood and the standard error that `log Z` leaves it, in nats."""
    found = ais(jax.random.key(7), model, base_at(train, model.visible, 1.0), n_temperatures=1001, n_chains=128)
    if found.value is None:
        return math.nan, math.nan
    return -float(jnp.mean(jax.vmap(model)(jnp.asarray(test)))) - found.value, float(found.stderr or 0.0)


def reached(rows: list[dict[str, float]], target: float) -> str:
    """Updates and seconds at the target, or the best that was seen."""
    best = max(rows, key=lambda row: row["ll"])
    if best["ll"] <= target:
        return f"not reached: best {best['ll']:.2f} at {best['updates']:.0f} updates, {best['seconds']:.1f} s"
    lls = np.maximum.accumulate([row["ll"] for row in rows])
    updates, seconds = (float(np.interp(target, lls, [r[key] for r in rows])) for key in ("updates", "seconds"))
    return f"{target:g} after {updates:6.0f} updates, {seconds:6.1f} s"


if __name__ == "__main__":
    main()
