"""What training costs in time and in excess work, and what it buys: constant rates, cosines, natural steps, least work.

A centred RBM is trained by PCD-2 with every schedule for several horizons. Afterwards annealing finds `log Z` of the
raw final parameters, which gives the test log-likelihood, and, with the work of the walkers, the excess work: by so
much would their own likelihood be too high. Values at one likelihood are interpolated between horizons.

    python -m benchmarks.least_work [--small] [--json] [--target LL] [--longest N]

784 x 500 units on MNIST (where QUASISTATIC_DATA has it), or 64 x 24 on the embedded digits with exact sums (`--small`).
"""

import argparse
import json
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import optax

import quasistatic as qs
from quasistatic import Estimate
from quasistatic.datasets import digits, mnist
from quasistatic.evaluate.annealing import ais
from quasistatic.evaluate.exact import log_partition_exact
from quasistatic.evaluate.paths import base_at
from quasistatic.metric import minimal_dissipation, natural_gradient
from quasistatic.train.dissipated import excess_work
from quasistatic.train.step import run_chunk

N_ROWS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--target", type=float)
    parser.add_argument("--longest", type=int, default=2000, help="longest horizon, in updates")
    parser.add_argument("--only", help="schedules whose names contain this")
    options = parser.parse_args()
    dataset = digits() if options.small else mnist(None, with_test=True)
    test = dataset.heldout if options.small else dataset.test
    horizons = [n for n in (60, 125, 250, 500, 1000, 2000, 4000) if n <= options.longest]
    rows = []
    for name, make in schedules(options.small).items():
        if options.only and options.only not in name:
            continue
        for n in horizons:
            row = {"schedule": name, "updates": n} | trained(make(n), n, dataset.train, test, options.small)
            rows.append(row)
            print(
                f"{name:26s} {n:6d} updates {row['seconds']:7.1f} s   LL {row['ll']:8.2f} +- {row['ll_stderr']:.2f}   "
                f"excess work {row['excess']:8.2f} +- {row['excess_stderr']:.2f} nats, expected {row['lag']:.2f} by "
                f"lag, {row['feedback']:.2f} by feedback",
                flush=True,
            )
    target = options.target if options.target is not None else common(rows)
    for name in dict.fromkeys(row["schedule"] for row in rows):
        at = interpolated([row for row in rows if row["schedule"] == name], target)
        print(
            f"at LL {target:.2f}: {name:26s} excess work {at['excess']:8.2f} +- {at['stderr']:.2f} nats, "
            f"{at['seconds']:6.1f} s, {at['updates']:.0f} updates"
        )
    if options.json:
        print(json.dumps({"target": target, "rows": rows}))


def interpolated(rows: list[dict[str, Any]], target: float) -> dict[str, float]:
    """Numbers of one schedule at a likelihood, NaN outside its rows; the error has that of both ends' likelihoods."""
    own = sorted(rows, key=lambda row: row["ll"])
    for low, high in zip(own, own[1:], strict=False):
        if not low["ll"] <= target <= high["ll"]:
            continue
        far = (target - low["ll"]) / (high["ll"] - low["ll"])
        slope = (high["excess"] - low["excess"]) / (high["ll"] - low["ll"])
        errors = [weight * math.hypot(row["excess_stderr"], slope * row["ll_stderr"])
                  for row, weight in ((low, 1 - far), (high, far))]  # fmt: skip
        at = {key: low[key] + far * (high[key] - low[key]) for key in ("excess", "seconds", "updates")}
        return at | {"stderr": math.hypot(*errors)}
    return dict.fromkeys(("excess", "stderr", "seconds", "updates"), math.nan)


def common(rows: list[dict[str, Any]]) -> float:
    """Largest likelihood that every schedule reaches."""
    names = {row["schedule"] for row in rows}
    return min(max(row["ll"] for row in rows if row["schedule"] == name) for name in names)


def schedules(is_small: bool) -> dict[str, Any]:
    """Optimisers by name, as functions of the number of updates."""
    made: dict[str, Any] = {}
    for rate in (0.05, 0.1, 0.2) if is_small else (0.1, 0.2, 0.4):
        made[f"constant {rate:g}"] = lambda n, rate=rate: optax.sgd(rate)
        made[f"cosine {2 * rate:g}"] = lambda n, rate=rate: optax.sgd(optax.cosine_decay_schedule(2 * rate, n))
    for damping, rate in ((0.1, 0.1), (0.1, 0.5)) if is_small else ((1.0, 1.0), (1.0, 2.0)):
        made[f"natural {rate:g}"] = lambda n, rate=rate, damping=damping: natural_gradient(rate, damping=damping)
    for damping, inflation in ((0.1, 1), (0.03, 1), (0.01, 1)) if is_small else ((1.0, 100),):
        name = f"least work, damping {damping:g}" if is_small else f"least work, inflation {inflation}"
        made[name] = lambda n, damping=damping, inflation=inflation: minimal_dissipation(
            n, damping=damping, inflation=inflation, relaxation=None, max_kl=0.5 if is_small else 0.05
        )
    return made


def trained(optimiser: Any, n: int, train: Any, test: Any, is_small: bool) -> dict[str, float]:
    """One training: time without compilation, test log-likelihood, excess work, with standard errors."""
    key = jax.random.key(0)
    n_visible, n_hidden = train.shape[1], 24 if is_small else 500
    model = qs.RBM.initialise(jax.random.key(1), n_visible, n_hidden, data=train)
    trainer = qs.pcd(
        qs.BlockGibbs(), optimiser, k=2, centred=True, n_walkers=N_ROWS, batch_size=N_ROWS, auditor_groups=0
    )
    state, x = trainer.init(key, model), jnp.asarray(train)
    log_z_start = float(state.ensemble.log_z.value[0])
    state = run_chunk(trainer, state, x, jnp.asarray(1, jnp.int32))
    started = time.perf_counter()
    state = jax.block_until_ready(run_chunk(trainer, state, x, jnp.asarray(n, jnp.int32)))
    seconds = time.perf_counter() - started
    log_z = found(state.model, train)
    lag = math.nan if state.ledger.response is None else float(state.ledger.response.excess_work)
    feedback = math.nan if state.feedback is None else -float(state.feedback.bias.value)
    expected = {"seconds": seconds, "lag": lag, "feedback": feedback}
    if log_z.value is None:
        return expected | dict.fromkeys(("ll", "ll_stderr", "excess", "excess_stderr"), math.nan)
    excess = excess_work(state.ledger, log_z, log_z_start)
    ll = -float(jnp.mean(jax.vmap(state.model)(jnp.asarray(test)))) - log_z.value
    return expected | {
        "ll": ll,
        "ll_stderr": float(log_z.stderr or 0.0),
        "excess": float(excess.value or 0.0),
        "excess_stderr": float(excess.stderr or 0.0),
    }


def found(model: Any, train: Any) -> Estimate:
    """`log Z`, exactly where that is feasible."""
    exact = log_partition_exact(model, 1.0) if model.hidden.size <= 24 else None
    if exact is not None:
        return Estimate(exact, 0.0, None, "none", "exact")
    base = base_at(train, model.visible, 1.0)
    return ais(jax.random.key(7), model, base, n_temperatures=2001, n_chains=128)


if __name__ == "__main__":
    main()
