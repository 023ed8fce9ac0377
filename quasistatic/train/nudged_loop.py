"""The loop around compiled epochs: rows, checkpoints, interruption, named failures, resume."""

import csv
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from quasistatic._results import RESULTS
from quasistatic._types import Key
from quasistatic.datasets.labelled import Labelled, Valued
from quasistatic.energies.hopfield import Layered
from quasistatic.errors import InputError, RunFailure
from quasistatic.run import Archive
from quasistatic.train import checkpoint
from quasistatic.train.loop import NoProgress, Progress
from quasistatic.train.nudged import NudgedState, NudgedTrainer, epoch_order, predict, run_steps
from quasistatic.train.signals import StopSignals

COLUMNS = (
    "step epoch cost error cost_heldout error_heldout error_heldout_stderr delta_a saturation distance n_sweeps "
    "residual gradient_norm time_elapsed time_step"
).split()
"""Columns of metrics.csv: means over an epoch's steps, before each update; held-out numbers at its end."""


@dataclass(frozen=True)
class NudgedPlan:
    """When a run stops and saves.

    Args:
        n_epochs: epochs of the whole run.
        checkpoint_every: epochs between checkpoints.
        max_minutes: wall-clock limit of this session, after which it stops, resumable.
        n_sweeps_evaluated: sweeps of a free phase from zero that gives an answer; 0 for those of training.
    """

    n_epochs: int
    checkpoint_every: int = 1
    max_minutes: float | None = None
    n_sweeps_evaluated: int = 0

    def __post_init__(self) -> None:
        for name in ("n_epochs", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class NudgedFit:
    """Outcome of `fit_nudged`. Args: final state; rows; whether it stopped before the end, resumable."""

    state: NudgedState
    rows: list[dict[str, Any]]
    is_interrupted: bool


def fit_nudged(
    key: Key,
    trainer: NudgedTrainer,
    network: Layered,
    data: Labelled | Valued,
    plan: NudgedPlan,
    *,
    folder: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> NudgedFit:
    """Trains, writing into a run folder.

    Args:
        key: run key.
        trainer: what does not evolve.
        network: start parameters.
        data: samples and their classes or values.
        plan: length and checkpoints.
        folder: receives metrics, checkpoints and the result; None keeps everything in memory.
        resume: go on from `folder/checkpoints/last.npz` where it exists.
        progress: receives rows while the run goes.

    Raises:
        InputError: data, network and trainer do not fit.
        RunFailure: parameters became infinite or undefined; the last good checkpoint is kept.
    """
    inputs, targets = jnp.asarray(data.dataset.train, float), jnp.asarray(data.targets("train"), float)
    _check(network, inputs, targets)
    state, rows = trainer.init(key, network, len(inputs)), []
    per_epoch = len(inputs) // trainer.batch_size
    last = None if folder is None else folder / "checkpoints" / "last.npz"
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    if resume and folder is not None and last is not None and last.exists():
        state = checkpoint.fill(state, Archive(last))
        rows = [row for row in read_rows(folder / "metrics.csv") if row["step"] <= int(state.step)]
    progress = progress or NoProgress()
    begun = time.monotonic()
    earlier = rows[-1]["time_elapsed"] if rows else 0.0
    progress.start(int(state.step), plan.n_epochs * per_epoch)
    try:
        with StopSignals() as signals:
            for epoch in range(int(state.step) // per_epoch, plan.n_epochs):
                clock = time.monotonic()
                order = epoch_order(state.key, epoch, len(inputs))
                n_steps = jnp.asarray(per_epoch, jnp.int32)
                new, said, norm = jax.block_until_ready(run_steps(trainer, state, inputs, targets, order, n_steps))
                if not all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(new.network)):
                    _fail(folder, int(new.step))
                state, per_step = new, (time.monotonic() - clock) / per_epoch
                row = {
                    "step": int(state.step),
                    "epoch": epoch + 1,
                    **_plain(said._asdict()),
                    "gradient_norm": float(norm),
                }
                if isinstance(data, Valued):
                    row["error"] = None
                row |= evaluated(trainer, state, data, "heldout", plan.n_sweeps_evaluated)
                row |= {"time_elapsed": earlier + time.monotonic() - begun, "time_step": per_step}
                rows.append(row)
                progress.update(row)
                is_over = signals.is_asked or (
                    plan.max_minutes is not None and time.monotonic() - begun > 60 * plan.max_minutes
                )
                is_last = epoch + 1 == plan.n_epochs
                if folder is not None and last is not None:
                    write_rows(folder / "metrics.csv", rows)
                    if is_last or is_over or (epoch + 1) % plan.checkpoint_every == 0:
                        checkpoint.save(last, {"": state}, {"step": int(state.step), "epoch": epoch + 1})
                if is_over and not is_last:
                    return NudgedFit(state, rows, True)
    finally:
        progress.close()
    if folder is not None:
        summary = {"result": "ok", "message": f"trained {int(state.step)} steps", "step": int(state.step)}
        summary |= {"n_steps": plan.n_epochs * per_epoch, "final": rows[-1], "report": None}
        checkpoint.write_text(folder / "result.json", json.dumps(summary, indent=1) + "\n")
    return NudgedFit(state, rows, False)


def evaluated(
    trainer: NudgedTrainer, state: NudgedState, data: Labelled | Valued, part: str, n_sweeps: int = 0
) -> dict[str, float | None]:
    """Mean cost, fraction of wrong answers and its standard error on a part of the data; None where there is none.

    The cost is the mean over replicas, as while learning; answers are those of the replica mean. Values have no wrong
    answers. The standard error counts one right and one wrong answer more, so that it is not 0 where all are right.
    """
    names = [f"cost_{part}", f"error_{part}", f"error_{part}_stderr"]
    x = getattr(data.dataset, part)
    if x is None or not len(x):
        return dict.fromkeys(names)
    targets = jnp.asarray(data.targets(part), float)
    found = predict(trainer, state.network, state.key, jnp.asarray(x, float), n_sweeps)
    costs = jax.vmap(lambda os, y: jnp.mean(jax.vmap(lambda o: trainer.rule.cost(o, y))(os)))(found, targets)
    if isinstance(data, Valued):
        return dict.fromkeys(names) | {f"cost_{part}": float(jnp.mean(costs))}
    n, is_wrong = len(x), np.argmax(np.asarray(found).mean(1), 1) != data.labels[part]
    share = (float(is_wrong.sum()) + 1) / (n + 2)
    values = float(jnp.mean(costs)), float(np.mean(is_wrong)), math.sqrt(share * (1 - share) / n)
    return dict(zip(names, values, strict=True))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes metrics.csv, atomically; empty cells where there is no number."""
    lines = [",".join(COLUMNS)]
    for row in rows:
        lines.append(",".join("" if row.get(name) is None else repr(row[name]) for name in COLUMNS))
    checkpoint.write_text(path, "\n".join(lines) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of metrics.csv; None for empty cells."""
    with open(path, newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    whole = {"step", "epoch"}
    return [{k: None if not v else int(v) if k in whole else float(v) for k, v in row.items()} for row in found]


def _check(network: Layered, inputs: Any, targets: Any) -> None:
    first = jax.eval_shape(network.drive, inputs[0])
    n_out = jax.eval_shape(network.output_of, jnp.zeros(network.sizes[-1])).shape[0]
    if first.shape[0] != network.sizes[0] or n_out != targets.shape[1]:
        raise InputError(f"the network has {n_out} outputs, but targets have {targets.shape[1]}")


def _plain(values: Mapping[str, Any]) -> dict[str, float | None]:
    """Numbers of a row; None for what is not finite."""
    return {name: float(v) if math.isfinite(float(v)) else None for name, v in values.items()}


def _fail(folder: Path | None, step: int) -> None:
    result = RESULTS.nonfinite_parameters
    message = f"{result.message} (before step {step}); {result.remedy}"
    if folder is not None:
        summary = {"result": result.name, "message": message, "step": step, "n_steps": None, "final": None}
        checkpoint.write_text(folder / "result.json", json.dumps(summary, indent=1) + "\n")
    raise RunFailure(message, result=result.name)
