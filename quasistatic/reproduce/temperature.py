"""Endogenous temperature: the published law, the thermostat that works, and whether temperature does anything at all.

Three parts: the recorded flip rates of the published figure through the law (where the record is at hand); small
models that freeze (`freezing`); and PCD-1 on MNIST at fixed, published and regulated temperature (`tempered_mnist`),
with likelihoods of the right sign from a bracket. The code of the paper adds the work of annealing with the wrong sign,
which makes its log Z tend to `2 log Z_0 - log Z`; its printed test log-likelihood of -675.9 nats corresponds to about
-86.8.

With a folder, every MNIST run has a file of its own there, and calling again goes on where it stopped.

Reference:
    Süleymanoğlu 2026 (arXiv 2603.02525); the reference values are those of its author's logs, likelihoods corrected.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from quasistatic.datasets.idx import ENVIRONMENT
from quasistatic.errors import InputError
from quasistatic.reproduce import freezing_rows
from quasistatic.reproduce import tempered_mnist as mnist
from quasistatic.reproduce.rows import Row
from quasistatic.reproduce.tempered_figures import freezing_figure, recorded_figure, training_figure
from quasistatic.reproduce.tempered_mnist import CONDITIONS, FULL, QUICK, Finished, Size
from quasistatic.train.checkpoint import write_text

SIZE_FILE = "size.csv"
TABLE = (
    "flip_rate temperature norm norm_over_t spectral_over_t ll_test ll_test_lower ll_train log_z log_z_stderr gap "
    "gap_stderr ess reconstruction free_energy_chains free_energy_long tau tau_stderr r_hat conductance "
    "conductance_stderr n_rungs round_trips seconds_per_epoch"
).split()


def check(key: jax.Array, is_quick: bool = False, folder: Path | None = None) -> tuple[list[Row], dict[str, Any]]:
    """All rows, and the figures.

    Args:
        key: random key; seeds are folded from it.
        is_quick: short scenarios, and a small RBM for a few epochs that shows the machinery; numbers of the paper are
            then not compared.
        folder: where the runs keep their files.

    Raises:
        InputError: no folder for the full size, a folder of another size, or MNIST is not found.
    """
    if folder is None and not is_quick:
        raise InputError("the runs on MNIST take hours; give --out DIR, where they keep their state, or --quick")
    size = QUICK if is_quick else FULL
    check_folder(folder, size)
    data = mnist.images(size)
    rows, traces = freezing_rows.rows(is_quick)
    figures = {"freezing": freezing_figure(traces)}
    table = recorded_table()
    if table is not None:
        more, course = freezing_rows.recorded(table)
        rows += more
        figures["recorded"] = recorded_figure(table, course)
    runs: dict[str, list[Finished]] = {condition: [] for condition in CONDITIONS}
    for seed in range(size.n_seeds):
        for condition in CONDITIONS:
            path = None if folder is None else folder / f"{condition}-{seed}.npz"
            runs[condition].append(mnist.run(jax.random.fold_in(key, seed), condition, data, size, path))
            if folder is not None:
                write_text(folder / "table.csv", text_of(runs))
    print(text_of(runs), file=sys.stderr)
    figures["mnist"] = training_figure(runs)
    return rows + gauge_rows(runs, is_quick) + ([] if is_quick else published_rows(runs)), figures


def check_folder(folder: Path | None, size: Size) -> None:
    """Raises InputError when a folder holds runs of another size; notes the size in a new one."""
    if folder is None:
        return
    line = ",".join(str(number) for number in size) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SIZE_FILE
    if path.is_file() and path.read_text(encoding="utf-8").splitlines(keepends=True)[-1] != line:
        raise InputError(f"{folder} holds runs of another size (full or --quick); choose another --out")
    if not path.is_file() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no runs of this reproduction; choose another --out")
    write_text(path, ",".join(Size._fields) + "\n" + line)


def recorded_table() -> dict[str, np.ndarray] | None:
    """Columns of the digitised published figure, or None when the data folder does not hold it."""
    root = os.environ.get(ENVIRONMENT)
    path = Path(root or ".").expanduser() / "temperature" / "seed1_curves.csv"
    if not root or not path.is_file():
        return None
    with open(path, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def value(run: Finished, name: str) -> float:
    """A number of the table; NaN where it was withheld."""
    if name == "seconds_per_epoch":
        return float(np.median(run.column("seconds")))
    if name == "flip_rate":
        return float(run.column("flip_rate")[-1])
    found = run.judged.get(name)
    return np.nan if found is None else float(found)


def text_of(runs: dict[str, list[Finished]]) -> str:
    """The table of all runs as CSV: condition, seed, and the columns `TABLE`."""
    lines = [",".join(["condition", "seed", *TABLE])]
    for condition, finished in runs.items():
        for seed, run in enumerate(finished):
            cells = ("" if np.isnan(x) else f"{x:.6g}" for x in (value(run, name) for name in TABLE))
            lines.append(",".join([condition, str(seed), *cells]))
    return "\n".join(lines) + "\n"


def gauge_rows(runs: dict[str, list[Finished]], is_quick: bool) -> list[Row]:
    """T-27: T = 0.9225 and the rescaled run at T = 1 are the same; what temperature itself does is next to nothing."""
    rewritten = _paired("T-27 fixed T = 0.9225 minus gauge: test log-likelihood [nats]", runs, "fixed-0.9225", "gauge")
    early = [
        np.abs(a.column("flip_rate")[:2] / b.column("flip_rate")[:2] - 1).max()
        for a, b in zip(runs["fixed-0.9225"], runs["gauge"], strict=True)
    ]
    found = [Row("T-27 the same: largest relative difference of early flip rates", 0.0, float(max(early)), None, 0.02)]
    if is_quick:
        return found
    gaps = [abs(value(run, "gap")) for finished in runs.values() for run in finished]
    return [
        *found,
        rewritten,
        _paired("T-27 published law minus fixed T = 1: test log-likelihood [nats]", runs, "published", "fixed-1"),
        _paired("T-27 published law minus gauge: test log-likelihood [nats]", runs, "published", "gauge"),
        Row("widest bracket of log Z [nats]", 0.0, float(np.max(gaps)), None, 0.5),
    ]


def published_rows(runs: dict[str, list[Finished]]) -> list[Row]:
    """T-26: the published law on MNIST beside the author's logs (likelihood corrected)."""
    expected = {
        "temperature": (0.9225, 0.003),
        "flip_rate": (0.055, 0.005),
        "norm": (66.0, 1.0),
        "ll_test": (-87.0, 2.0),
        "log_z": (604.5, 6.0),
        "reconstruction": (0.0160, 0.0006),
    }
    finished = runs["published"]
    rows = [
        _over_seeds(f"T-26 published law: {name}", target, [value(run, name) for run in finished], tolerance)
        for name, (target, tolerance) in expected.items()
    ]
    gaps = [float(run.column("gap")[-1]) for run in finished]
    lowest = min(float(run.column("temperature").min()) for run in finished)
    first = [float(run.column("flip_rate")[0]) for run in finished]
    second = [float(run.column("temperature")[1]) for run in finished]
    return [
        _over_seeds("T-26 published law: flip rate of the first epoch", 0.3234, first, 0.004),
        _over_seeds("T-26 published law: T after the first epoch", 0.8799, second, 0.003),
        *rows,
        _over_seeds("T-26 published law: gap of the last epoch [nats]", -13.0, gaps, 2.0),
        Row("T-26 published law: lowest T", 0.88, lowest, None, 0.01),
    ]


def _paired(quantity: str, runs: dict[str, list[Finished]], a: str, b: str) -> Row:
    differences = [value(x, "ll_test") - value(y, "ll_test") for x, y in zip(runs[a], runs[b], strict=True)]
    return _over_seeds(quantity, 0.0, differences, 0.5)


def _over_seeds(quantity: str, expected: float, values: list[float], tolerance: float) -> Row:
    mean = float(np.mean(values))
    stderr = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return Row(quantity, expected, mean if np.isfinite(mean) else None, stderr, tolerance)
