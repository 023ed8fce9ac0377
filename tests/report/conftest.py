"""Fabricated run folders: the files of a training run without the training, with believable numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quasistatic._results import RESULTS

COLUMNS = (
    "step log_z log_z_stderr ll_train ll_heldout ll_stderr ess_driver ess_auditor work heat shadow_work "
    "excess_work flip_rate beta log_z_driver ll_heldout_driver feedback_bias feedback_bias_stderr "
    "gradient_norm n_resampled accept_rate n_sweeps score log_z_exact excess_work_stderr ll_approximate minimal_work "
    "efficiency predicted_work feedback_work predicted_ratio relaxation time_elapsed time_step"
).split()

MEASURED = ("excess_work", "excess_work_stderr", "efficiency", "predicted_ratio")  # with the auditor's log Z

CONFIGS = {
    "rbm": """
[run]
recipe = "digits-rbm"
seed = 0
n_steps = 8000
[data]
source = "digits"
batch_size = 128
[model]
kind = "rbm"
n_hidden = 24
units = "binary"
weight_scale = 0.01
[kernel]
kind = "block_gibbs"
n_sweeps = 1
fused = false
[training]
method = "pcd"
n_walkers = 256
resample_below = 0.5
resample_method = "systematic"
centred = true
positive = "exact"
l1 = 0.0
l2 = 1e-4
[optimiser]
kind = "sgd"
rate = 0.05
schedule = "linear"
decay_from = 0.5
momentum = 0.0
ema = 0.0
[auditor]
n_groups = 16
n_walkers = 64
[record]
every = 20
n_ages = 20
checkpoint_every = 500
""",
    "pairwise": """
[run]
recipe = "ising"
seed = 1
n_steps = 8000
[data]
source = "ising"
batch_size = 0
[model]
kind = "pairwise"
units = "spin"
[kernel]
kind = "gibbs"
n_sweeps = 1
[training]
method = "jarzynski"
n_walkers = 512
[auditor]
n_groups = 16
n_walkers = 64
""",
    "mixture": """
[run]
recipe = "mixture"
seed = 2
n_steps = 8000
[data]
source = "mixture"
[model]
kind = "mixture"
n_components = 4
[kernel]
kind = "ula"
step_size = 0.01
fused = true
[training]
method = "jarzynski"
n_walkers = 1024
[auditor]
n_groups = 16
n_walkers = 64
""",
}


@pytest.fixture
def fake_run(tmp_path: Path) -> Callable[..., Path]:
    """Function (kind, **options) -> folder of a fabricated run; see `fabricate`."""

    def make(kind: str = "rbm", **options: Any) -> Path:
        folder = tmp_path / f"{kind}-{len(list(tmp_path.iterdir())):03d}"
        fabricate(folder, kind, **options)
        return folder

    return make


def fabricate(
    folder: Path,
    kind: str = "rbm",
    *,
    has_auditor: bool = True,
    has_exact: bool = True,
    has_images: bool = True,
    result: str | None = "ok",
    n_rows: int = 400,
    seed: int = 0,
) -> None:
    """Write a run folder.

    Args:
        folder: New folder.
        kind: "rbm" (64 x 24, 8x8 images), "pairwise" (16 spins) or "mixture" (2-D, continuous).
        has_auditor: Whether live numbers exist; without, they are empty cells and withheld estimates.
        has_exact: Whether the exact log Z was computed at 20 log-spaced rows.
        has_images: Whether the environment says that an event is an image.
        result: Name of the outcome, or `None` for a run that is not finished.
        n_rows: Rows of metrics.csv.
        seed: Of everything random here.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    config = CONFIGS[kind].lstrip()
    if not has_auditor:
        config = config.replace("n_groups = 16\nn_walkers = 64", "n_groups = 16\nn_walkers = 0")
    (folder / "config.toml").write_text(config)
    table = _table(rng, kind, n_rows, has_auditor, has_exact)
    _write_table(folder / "metrics.csv", table)
    event_shape = [8, 8] if kind == "rbm" and has_images else None
    environment = {
        "python": "3.12.4",
        "quasistatic": "0.1.0",
        "packages": {"jax": "0.10.2", "numpy": "2.4.6"},
        "device": "cpu",
        "precision": "float32",
        "data": {"name": kind, "event_shape": event_shape, "n_train": 1437, "n_heldout": 360, "n_test": None},
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    leaves = _leaves(rng, kind, has_auditor)
    for name in ("last", "best"):
        write_archive(folder / "checkpoints" / f"{name}.npz", leaves, step=8000)
    for step in np.unique(np.geomspace(1, 8000, 20).astype(int)):
        model = {name: leaf for name, leaf in leaves.items() if name.startswith("model/")}
        if kind == "rbm":
            grown = 1 - np.exp(-step / 1000)
            noise = rng.normal(scale=0.1, size=model["model/weights"].shape)
            model["model/weights"] = grown * model["model/weights"] + (1 - grown) * noise
        write_archive(folder / "ages" / f"age-{step:08d}.npz", model, step=int(step))
    if result is not None:
        (folder / "result.json").write_text(json.dumps(_result(result, table, has_auditor, has_exact)))


def write_archive(path: Path, leaves: dict[str, np.ndarray], **meta: Any) -> None:
    """Write arrays and their meta data the way a checkpoint is written."""
    path.parent.mkdir(exist_ok=True)
    note = np.frombuffer(json.dumps({"format": 1, **meta}).encode(), np.uint8)
    np.savez(path, **leaves, __meta__=note)


def _table(rng, kind, n_rows, has_auditor, has_exact) -> dict[str, np.ndarray]:
    step = np.linspace(20, 20 * n_rows, n_rows)
    t = step / step[-1]
    start, end = {"rbm": (-44.4, -18.2), "pairwise": (-11.1, -8.4), "mixture": (-4.1, -2.7)}[kind]
    scale = (end - start) / 26.2
    log_z0 = {"rbm": 44.4, "pairwise": 11.1, "mixture": 0.0}[kind]
    exact_log_z = log_z0 + 30 * scale * t**0.7
    exact = {
        part: start + (end + d - start) * (1 - np.exp(-5 * t**0.6)) for part, d in (("train", 0.9), ("heldout", 0.0))
    }
    stderr = scale * (0.01 + 0.12 * np.sqrt(t))
    noise = np.empty(n_rows)
    noise[0] = rng.normal()
    for i in range(1, n_rows):
        noise[i] = 0.98 * noise[i - 1] + np.sqrt(1 - 0.98**2) * rng.normal()
    live_log_z = exact_log_z + noise * stderr
    driver_log_z = exact_log_z - 28.6 * scale * t**1.5
    work = 0.02 * scale * rng.normal(size=n_rows).cumsum() + 40 * scale * t
    shadow = 0.4 * t + 0.01 * rng.normal(size=n_rows) if kind == "mixture" else np.zeros(n_rows)
    table = {
        "log_z": live_log_z,
        "log_z_stderr": stderr,
        "ll_train": exact["train"] + exact_log_z - live_log_z,
        "ll_heldout": exact["heldout"] + exact_log_z - live_log_z,
        "ll_stderr": stderr,
        "ess_driver": 0.2 + 0.6 * np.abs(np.sin(9 * t)) + 0.02 * rng.normal(size=n_rows),
        "ess_auditor": np.where((step // 1000) % 2 == 0, 0.9, 0.7) - 0.25 * (step % 1000) / 1000,
        "work": work,
        "heat": -work * 0.93 + 0.1 * rng.normal(size=n_rows),
        "shadow_work": shadow,
        "excess_work": 3 * scale * t + 0.05 * np.abs(rng.normal(size=n_rows)),
        "excess_work_stderr": np.hypot(stderr, 0.02),
        "ll_approximate": exact["train"] + 3 * scale * t,
        "minimal_work": 1.1 * scale * t,
        "efficiency": 0.4 - 0.1 * t,
        "predicted_work": 2.6 * scale * t,
        "feedback_work": 1.9 * scale * t,
        "predicted_ratio": np.full(n_rows, 2.6 / 3),
        "relaxation": 1 + 4 * t,
        "flip_rate": 0.45 * np.exp(-2 * t) + 0.02 * rng.normal(size=n_rows),
        "beta": np.ones(n_rows),
        "log_z_driver": driver_log_z,
        "ll_heldout_driver": exact["heldout"] + exact_log_z - driver_log_z,
        "feedback_bias": -28.1 * scale * t**1.5,
        "feedback_bias_stderr": 0.3 * scale * t,
        "gradient_norm": np.exp(-3 * t) + 0.02 * np.abs(rng.normal(size=n_rows)),
        "n_resampled": np.floor(t * 12),
        "accept_rate": np.full(n_rows, np.nan),
        "n_sweeps": np.ones(n_rows),
        "score": exact["heldout"] / 1.5,
        "log_z_exact": np.full(n_rows, np.nan),
        "time_elapsed": 0.1 * np.arange(n_rows),
        "time_step": np.full(n_rows, 0.002),
        "step": step,
    }
    if has_exact:
        rows = np.unique(np.geomspace(1, n_rows, 20).astype(int)) - 1
        table["log_z_exact"][rows] = exact_log_z[rows]
    if not has_auditor:
        for name in ("log_z", "log_z_stderr", "ll_train", "ll_heldout", "ll_stderr", "ess_auditor", *MEASURED):
            table[name] = np.full(n_rows, np.nan)
    if kind == "mixture":
        table["flip_rate"] = np.full(n_rows, np.nan)
    return table


def _write_table(path: Path, table: dict[str, np.ndarray]) -> None:
    rows = np.stack([table[name] for name in COLUMNS], axis=1)
    lines = [",".join("" if np.isnan(x) else repr(float(x)) for x in row) for row in rows]
    lines = [line.replace(".0,", ",", 1) for line in lines]  # the step is an integer
    path.write_text("\n".join([",".join(COLUMNS), *lines, ""]))


def _result(name, table, has_auditor, has_exact) -> dict[str, Any]:
    outcome = {"result": name, "step": 8000, "n_steps": 8000}
    if name != "ok":
        failure = RESULTS.__members__.get(name)
        message = f"{failure.message} (step 8000); {failure.remedy}" if failure is not None else name
        return {**outcome, "message": message, "final": None}
    last = {column: float(values[-1]) if np.isfinite(values[-1]) else None for column, values in table.items()}
    withheld = {"value": None, "stderr": None, "ess": None, "bias": "unknown", "method": "auditor (Jarzynski)"}
    withheld["reason"] = "the run has no auditor"
    final: dict[str, Any] = {"parameters": "raw"}
    for quantity in ("log_z", "ll_train", "ll_heldout"):
        estimate = {"value": last[quantity], "stderr": last["ll_stderr"], "ess": 0.93, "bias": "none"}
        final[quantity] = {**estimate, "method": "mean over independent groups"} if has_auditor else withheld
    final["driver"] = {"log_z": last["log_z_driver"], "ll_heldout": last["ll_heldout_driver"]}
    bias = {"value": last["feedback_bias"], "stderr": last["feedback_bias_stderr"], "ess": None, "bias": "unknown"}
    final["driver"]["feedback_bias"] = {**bias, "method": "halves of the driver"}
    final["exact"] = None
    if has_exact:
        heldout = last["ll_heldout_driver"] + last["log_z_driver"] - last["log_z_exact"]
        final["exact"] = {"log_z": last["log_z_exact"], "ll_train": heldout + 0.9, "ll_heldout": heldout}
    final.update({column: last[column] for column in ("ess_driver", "ess_auditor", "excess_work")})
    return {**outcome, "message": "trained 8000 steps", "final": final, "report": None, "time_total": 41.5}


def _leaves(rng, kind, has_auditor) -> dict[str, np.ndarray]:
    if kind == "rbm":
        leaves, draw = _rbm(rng)
    elif kind == "pairwise":
        leaves, draw = _pairwise(rng)
    else:
        leaves, draw = _mixture(rng)
    populations = {"ensemble": 256, "auditor": 1024} if has_auditor else {"ensemble": 256}
    for name, n_walkers in populations.items():
        leaves[f"{name}/x"] = draw(n_walkers)
        leaves[f"{name}/log_z/hi"] = rng.normal(size=16 if name == "auditor" else 1)
        log_weight = rng.normal(scale=0.4 if name == "auditor" else 0.9, size=n_walkers).astype(np.float32)
        leaves[f"{name}/account/log_weight/hi"] = log_weight
        leaves[f"{name}/account/log_weight/lo"] = np.zeros_like(log_weight)
    return leaves


def _rbm(rng):
    y, x = np.mgrid[:8, :8]
    filters = []
    for _ in range(24):
        angle, offset, width = rng.uniform(0, np.pi), rng.normal(scale=1.5), rng.uniform(0.7, 1.5)
        along = (x - 3.5) * np.cos(angle) + (y - 3.5) * np.sin(angle)
        across = (y - 3.5) * np.cos(angle) - (x - 3.5) * np.sin(angle) - offset
        stroke = (1 - (across / width) ** 2) * np.exp(-((across / width) ** 2) / 2) * np.exp(-((along / 3) ** 2))
        filters.append((2 * rng.choice([-1, 1]) * stroke + 0.1 * rng.normal(size=(8, 8))).ravel())
    weights = np.stack(filters, axis=1).astype(np.float32)
    model = {
        "model/weights": weights,
        "model/visible_bias": np.full(64, -0.5, np.float32),
        "model/hidden_bias": np.zeros(24, np.float32),
    }

    def draw(n):
        hidden = rng.random((n, 24)) < 0.35
        visible = 1 / (1 + np.exp(-(2 * hidden @ weights.T - 0.5)))
        return (rng.random((n, 64)) < visible).astype(np.float32)

    return model, draw


def _pairwise(rng):
    n = 16
    couplings = np.zeros((n, n))
    for i in range(n):  # a 4 x 4 periodic lattice
        for j in (i // 4 * 4 + (i + 1) % 4, (i + 4) % n):
            couplings[min(i, j), max(i, j)] = 0.4
    values = couplings[np.triu_indices(n, 1)] + 0.03 * rng.normal(size=n * (n - 1) // 2)
    model = {"model/couplings": values.astype(np.float32), "model/fields": 0.05 * rng.normal(size=n)}
    return model, lambda n_walkers: rng.choice([-1.0, 1.0], size=(n_walkers, n)).astype(np.float32)


def _mixture(rng):
    means = np.array([[2.0, 0.0], [-2.0, 0.5], [0.0, 2.2], [0.3, -2.0]])
    model = {"model/means": means, "model/log_weights": np.log(np.array([0.4, 0.3, 0.2, 0.1]))}

    def draw(n):
        return means[rng.choice(4, size=n, p=[0.4, 0.3, 0.2, 0.1])] + 0.4 * rng.normal(size=(n, 2))

    return model, draw
