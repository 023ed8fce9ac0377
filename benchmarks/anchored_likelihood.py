"""The live likelihood of a large RBM against annealing afterwards, age by age, and what it costs.

    python -m benchmarks.anchored_likelihood RUN [--temperatures 4001] [--chains 128]   compares a run
    python -m benchmarks.anchored_likelihood --overhead [--updates 1500]   times mnist-rbm, with and without

`RUN` was trained with `auditor.mode = "anchors"` (the recipe `mnist-rbm`). For every stored age that has an anchor the
audited parameters are annealed forward and backward with other walkers, and the held-out log-likelihood of the anchor
is compared with both ends. The overhead compares the times of two trainings in turns, all work of the audit included.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import quasistatic
from quasistatic.cli.build import build
from quasistatic.cli.config import load_config
from quasistatic.cli.data import load_data
from quasistatic.evaluate.annealing import log_partition_bracket
from quasistatic.train.loop import Plan, fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?")
    parser.add_argument("--temperatures", type=int, default=4001)
    parser.add_argument("--chains", type=int, default=128)
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--updates", type=int, default=2400)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.overhead:
        overhead(options.updates, options.rounds)
    if options.run:
        compare(options.run, options.temperatures, options.chains)


def compare(folder: str, n_temperatures: int, n_chains: int) -> None:
    """Anchors of a run beside brackets of their own."""
    run = quasistatic.load(folder)
    which = "averaged" if run.settings.optimiser.ema and run.settings.auditor.averaged else "raw"
    dataset = load_data(run.settings)
    heldout = jnp.asarray(dataset.heldout)
    anchors = {int(row["step"]): row for row in run.anchors}
    worst = 0.0
    for step, _ in run.ages():
        if step == 0 or step not in anchors:
            print(f"step {step:6d}  no anchor")
            continue
        row = anchors[step]
        if row["log_z"] is None:
            print(f"step {step:6d}  withheld: {row['reason']}")
            continue
        model = run.model_at(step, which)
        bracket = log_partition_bracket(
            jax.random.key(11), model, dataset.train, n_temperatures=n_temperatures, n_chains=n_chains,
            n_equilibrate=1000,
        )  # fmt: skip
        mean = float(jnp.mean(jax.lax.map(model, heldout, batch_size=500)))
        upper, lower = -(bracket.forward.value or np.nan) - mean, -(bracket.reverse.value or np.nan) - mean
        off = max(abs(row["ll_heldout"] - upper), abs(row["ll_heldout"] - lower))
        worst = max(worst, off)
        print(
            f"step {step:6d}  live {row['ll_heldout']:8.2f} +- {row['log_z_stderr']:.2f} (ready at {row['ready_at']})"
            f"  forward {upper:8.2f} +- {bracket.forward.stderr:.2f}  reverse {lower:8.2f} +- "
            f"{bracket.reverse.stderr or np.nan:.2f}  farthest {off:.2f}",
            flush=True,
        )
    print(f"largest distance of the live value from either end of the bracket: {worst:.2f} nats")


def overhead(n_updates: int, n_rounds: int) -> None:
    """Time per update of mnist-rbm with anchors over that without, audited as often as in the full run."""
    n_ages = max(1, round(20 * n_updates / 16000))
    ratios = []
    for _ in range(n_rounds):
        seconds = {}
        for name, settings in (("without", ["auditor.n_groups=0"]), ("with", [])):
            sizes = [f"run.n_steps={n_updates}", f"record.every={n_updates}", f"record.checkpoint_every={n_updates}"]
            parts = build(load_config("mnist-rbm", [*settings, *sizes]))
            with tempfile.TemporaryDirectory() as folder:
                for name_run, stop in (("warm", 20), ("run", n_updates)):
                    plan = Plan(stop, record_every=stop, n_ages=n_ages, checkpoint_every=stop)
                    started = time.perf_counter()
                    place = Path(folder) / name_run
                    place.mkdir()
                    fit(parts.key, parts.trainer, parts.model, parts.dataset, plan, folder=place)
                seconds[name] = time.perf_counter() - started
        ratios.append(seconds["with"] / seconds["without"])
        print({name: round(value, 1) for name, value in seconds.items()}, f"overhead {ratios[-1] - 1:.1%}", flush=True)
    print(f"median overhead {statistics.median(ratios) - 1:.1%}")


if __name__ == "__main__":
    main()
