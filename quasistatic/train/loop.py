"""The loop around the compiled chunks: recording, checkpoints, interruption, named failures, resume.

Chunks end at fixed absolute steps (records, ages and checkpoints), whatever the clock says, so an interrupted and
resumed run computes exactly what an uninterrupted one computes. Only `max_minutes` reads a clock.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from quasistatic._results import RESULTS, Estimate
from quasistatic._types import Key
from quasistatic.datasets import Dataset
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.pairwise import Pairwise
from quasistatic.energies.rbm import RBM
from quasistatic.energies.starts import levels_of
from quasistatic.errors import InputError, RunFailure
from quasistatic.evaluate.exact import is_enumerable, log_partition_exact
from quasistatic.evaluate.likelihood import pseudo_likelihood
from quasistatic.run import Archive
from quasistatic.train import anchor, checkpoint
from quasistatic.train.alarm import diverging
from quasistatic.train.ascent import Ascent, Steering, ladder_row, ladder_summary
from quasistatic.train.auditing import AnchoredAuditor, audit, auditing_of
from quasistatic.train.dissipated import DISSIPATED, divergence_of_starts, travel
from quasistatic.train.plan import Plan
from quasistatic.train.probe import Probe
from quasistatic.train.record import Recorder, append_metrics, mean_potential, read_metrics, write_metrics
from quasistatic.train.signals import StopSignals
from quasistatic.train.state import TrainState
from quasistatic.train.step import run_chunk
from quasistatic.train.trainer import Trainer


@runtime_checkable
class Progress(Protocol):
    """Receives what a run shows while it goes."""

    def start(self, step: int, n_steps: int) -> None: ...
    def update(self, row: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...


class NoProgress:
    """Shows nothing."""

    def start(self, step: int, n_steps: int) -> None:
        pass

    def update(self, row: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Fit:
    """Outcome of `fit`.

    Args:
        state: final state.
        rows: rows of metrics.
        result: `RESULTS.ok`, or the reason of a failure.
        message: the result in words.
        is_interrupted: stopped before the end, resumable.
        folder: run folder, or None.
        summary: what result.json holds.
    """

    state: TrainState
    rows: list[dict[str, Any]]
    result: RESULTS
    message: str
    is_interrupted: bool
    folder: Path | None
    summary: dict[str, Any] = field(default_factory=dict)


def fit(
    key: Key,
    trainer: Trainer,
    model: AbstractEnergy,
    dataset: Dataset,
    plan: Plan,
    *,
    folder: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    steering: Steering | None = None,
) -> Fit:
    """Trains a model.

    Args:
        key: run key.
        trainer: rule, kernel, regulators, optimiser.
        model: initial parameters.
        dataset: training and held-out data.
        plan: when to stop, record and save.
        folder: run folder for metrics, checkpoints, ages and the result; None keeps everything in memory.
        resume: continue from `folder/checkpoints/last.npz` when it exists.
        progress: receives rows while the run goes.
        steering: of a ladder that grows with the model (trainers made by `trajectory.on_trajectory`); None leaves the
            kernel as it is.

    Raises:
        InputError: data, model and trainer do not fit.
        RunFailure: a named failure (`RESULTS`); the last good checkpoint is kept.
    """
    _check_data(trainer, model, dataset)
    progress = progress or NoProgress()
    ascent = None if steering is None else Ascent(key, trainer, steering)
    plan = plan if ascent is None else replace(plan, every=ascent.steering.every)
    state = trainer.init(key, model)
    if ascent is not None:
        ascent.begin(state)
    recorder = _recorder(trainer, model, dataset, state)
    rows: list[dict[str, Any]] = []
    last = None if folder is None else folder / "checkpoints" / "last.npz"
    auditing = auditing_of(key, trainer, model, dataset, recorder)
    probe = Probe(trainer, dataset.train, plan.ages, folder)
    if resume and last is not None and last.exists():
        state, rows = _resumed(state, model, folder, last, auditing, ascent)
        probe.restore(int(state.step))
    data = jnp.asarray(dataset.train, float)
    started = time.monotonic() - (rows[-1]["time_elapsed"] if rows else 0.0)
    begun = time.monotonic()
    best = max((row["score"] for row in rows if row["score"] is not None), default=None)
    recorded = plan.rows
    progress.start(int(state.step), plan.n_steps)
    try:
        with StopSignals() as signals:
            for stop in plan.stops(int(state.step)):
                n_before, clock = int(state.step), time.monotonic()
                if ascent is None:
                    new = jax.block_until_ready(run_chunk(trainer, state, data, jnp.asarray(stop, jnp.int32)))
                else:
                    new = ascent.advanced(state, data, stop)
                result = RESULTS(int(new.result))
                if result != RESULTS.ok:
                    _fail(folder, new, plan, result)
                state = new
                per_step = (time.monotonic() - clock) / (stop - n_before)
                audit(auditing, state, stop - n_before, plan.ages, plan.n_steps, folder)
                if stop not in recorded:
                    continue
                now = time.monotonic()
                row = recorder.row(
                    state,
                    time_elapsed=now - started,
                    time_step=per_step,
                    anchor=None if auditing is None else auditing.latest,
                )
                row |= ladder_row(trainer, state) if ascent is None else ascent.row()
                rows.append(row)
                progress.update(row | {"warning": probe.look(state) or diverging(rows)})
                is_asked = signals.is_asked or _is_over(plan, begun)
                best = _save(folder, state, recorder, plan, row, best, force=is_asked, parts=(auditing, ascent))
                if is_asked and stop < plan.n_steps:
                    return Fit(state, rows, RESULTS.ok, f"interrupted after step {stop}", True, folder)
    finally:
        progress.close()
    ladder = ladder_summary(trainer, state) if ascent is None else ascent.summary(state)
    summary = _summary(state, rows, recorder, plan, dataset, folder, auditing, probe, ladder)
    return Fit(state, rows, RESULTS.ok, summary["message"], False, folder, summary)


def _check_data(trainer: Trainer, model: AbstractEnergy, dataset: Dataset) -> None:
    model.validate(dataset.train, name="training data")
    if dataset.heldout is not None and len(dataset.heldout):
        model.validate(dataset.heldout, name="held-out data")
    if trainer.batch_size > len(dataset.train):
        raise InputError(f"batch_size is {trainer.batch_size}, but there are {len(dataset.train)} training rows")


def _recorder(trainer: Trainer, model: AbstractEnergy, dataset: Dataset, state: TrainState) -> Recorder:
    law = trainer.starting_law(model)
    start = float(law.log_partition(trainer.controls.beta))
    reference = dataset.train if dataset.heldout is None or not len(dataset.heldout) else dataset.heldout
    rows = None
    if isinstance(model, RBM):
        rows = 50_000_000 // (model.visible.size * model.hidden.size)
    elif isinstance(model, Pairwise):
        rows = 50_000_000 // (model.units.size**2)
    scored = jnp.asarray(reference[: max(rows, 100)], float) if rows is not None else None

    def score(state: TrainState, row: Mapping[str, Any]) -> float | None:
        """Pseudo-log-likelihood of held-out rows (exact, no sampler); else the driver's likelihood."""
        if scored is None:
            return row["ll_heldout_driver"]
        return pseudo_likelihood(state.model, scored, float(state.controls.beta))

    return Recorder(
        dataset.train,
        dataset.heldout,
        log_z_start=start,
        rates=trainer.kernel.rates,
        score=score,
        is_fused=trainer.kernel.moves_with_switch,
        has_model_work=trainer.kernel.has_model_work,
        is_weighted=trainer.is_weighted,
        travelled=travel(trainer, state.ensemble),
        starts=divergence_of_starts(trainer, dataset.train, levels_of(model) is not None),
    )


def _resumed(
    state: TrainState,
    model: AbstractEnergy,
    folder: Path | None,
    last: Path,
    auditing: AnchoredAuditor | None,
    ascent: Ascent | None,
) -> tuple[TrainState, list[dict[str, Any]]]:
    archive = Archive(last)
    state = checkpoint.fill(state, archive) if ascent is None else ascent.restored(archive, model)
    assert folder is not None
    if auditing is not None:
        done = anchor.read_rows(folder / "anchors.csv", until=int(state.step))
        anchor.write(folder / "anchors.csv", done)
        auditing.restore(state, archive, done)
    metrics = folder / "metrics.csv"
    rows = [row for row in read_metrics(metrics) if row["step"] <= int(state.step)]
    write_metrics(metrics, rows)
    return state, rows


def _save(
    folder: Path | None,
    state: TrainState,
    recorder: Recorder,
    plan: Plan,
    row: dict[str, Any],
    best: float | None,
    *,
    force: bool,
    parts: tuple[AnchoredAuditor | Ascent | None, ...],
) -> float | None:
    """Writes what this step has to leave behind; returns the best score so far."""
    score = row["score"]
    is_best = score is not None and (best is None or score > best)
    if folder is not None:
        step = int(state.step)
        append_metrics(folder / "metrics.csv", row)
        meta = {"step": step, "score": score}
        if step in plan.ages:
            live = {name: value.as_json() for name, value in recorder.likelihoods(state).items()}
            trees = {"model": state.model, **({"averaged": state.averaged} if state.averaged is not None else {})}
            checkpoint.save(folder / "ages" / f"age-{step:08d}.npz", trees, {**meta, "beta": row["beta"], **live})
        if is_best:
            checkpoint.save(folder / "checkpoints" / "best.npz", {"": state}, meta)
        if plan.is_checkpoint(step) or force:
            trees: dict[str, Any] = {"": state}
            for own, more in (part.saved() for part in parts if part is not None):
                trees, meta = trees | own, meta | more
            checkpoint.save(folder / "checkpoints" / "last.npz", trees, meta)
    return score if is_best else best


def _fail(folder: Path | None, state: TrainState, plan: Plan, result: RESULTS) -> None:
    step = int(state.step)
    message = f"{result.message} (step {step}); {result.remedy}"
    if folder is not None:
        summary = {"result": result.name, "message": message, "step": step, "n_steps": plan.n_steps, "final": None}
        checkpoint.write_text(folder / "result.json", json.dumps(summary, indent=1) + "\n")
    raise RunFailure(message, result=result.name)


def _is_over(plan: Plan, begun: float) -> bool:
    return plan.max_minutes is not None and time.monotonic() - begun > 60 * plan.max_minutes


def _summary(
    state: TrainState,
    rows: list[dict[str, Any]],
    recorder: Recorder,
    plan: Plan,
    dataset: Dataset,
    folder: Path | None,
    auditing: AnchoredAuditor | None,
    probe: Probe,
    ladder: dict[str, Any] | None,
) -> dict[str, Any]:
    """Final numbers, with the exact ones beside them when the model can be enumerated."""
    live = recorder.likelihoods(state, None if auditing is None else auditing.latest)
    is_averaged = auditing is not None and auditing.is_averaged and state.averaged is not None
    exact = None
    if is_enumerable(state.model):
        exact = _exact(
            state.averaged if is_averaged and state.averaged is not None else state.model,
            float(state.controls.beta),
            dataset,
        )
        rows[-1]["log_z_exact"] = exact["log_z"]
    if folder is not None:
        if exact is not None:
            _exact_ages(folder, state, rows, plan, "averaged" if is_averaged else "model")
        write_metrics(folder / "metrics.csv", rows)
    last = rows[-1]
    summary = {
        "result": RESULTS.ok.name,
        "message": f"trained {int(state.step)} steps",
        "step": int(state.step),
        "n_steps": plan.n_steps,
        "final": {
            "parameters": "averaged" if is_averaged else "raw",
            **{name: value.as_json() for name, value in live.items()},
            "driver": {
                "log_z": last["log_z_driver"],
                "ll_heldout": last["ll_heldout_driver"],
                "feedback_bias": _feedback_bias(last),
            },
            "exact": exact,
            "ess_driver": last["ess_driver"],
            "ess_auditor": last["ess_auditor"],
            **{name: last[name] for name in DISSIPATED},
            "probe": probe.rows[-1] | {"warning": probe.warning} if probe.rows else None,
            "alarm": diverging(rows),
        },
        **({} if ladder is None else {"ladder": ladder}),
        "report": None,
        "time_total": last["time_elapsed"],
    }
    if folder is not None:
        checkpoint.write_text(folder / "result.json", json.dumps(summary, indent=1) + "\n")
    return summary


def _feedback_bias(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Estimated bias of the driver's log Z, as result.json has estimates."""
    if row["feedback_bias"] is None:
        return None
    return Estimate(
        row["feedback_bias"], row["feedback_bias_stderr"], None, "unknown", "halves of the driver"
    ).as_json()


def _exact(model: AbstractEnergy, beta: float, dataset: Dataset) -> dict[str, float | None]:
    log_z = log_partition_exact(model, beta)
    assert log_z is not None
    values: dict[str, float | None] = {"log_z": log_z, "ll_train": None, "ll_heldout": None}
    for name, x in (("ll_train", dataset.train), ("ll_heldout", dataset.heldout)):
        if x is not None and len(x):
            values[name] = -float(mean_potential(model, beta, jnp.asarray(x, float))) - log_z
    return values


def _exact_ages(folder: Path, state: TrainState, rows: list[dict[str, Any]], plan: Plan, prefix: str) -> None:
    """Exact log Z of some stored ages, put into their rows. Args: prefix, `"model"` or `"averaged"` parameters."""
    by_step = {row["step"]: row for row in rows}
    ages = plan.ages
    chosen = (
        {ages[i] for i in np.unique(np.linspace(0, len(ages) - 1, plan.n_exact).round().astype(int))}
        if ages and plan.n_exact
        else set()
    )
    for step in sorted(chosen & set(by_step)):
        path = folder / "ages" / f"age-{step:08d}.npz"
        if path.exists() and by_step[step]["log_z_exact"] is None:
            model = checkpoint.fill(state.model, Archive(path), prefix)
            by_step[step]["log_z_exact"] = log_partition_exact(model, by_step[step]["beta"])
