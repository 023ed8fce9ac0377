"""The auditor of copies: which job gets the next temperatures, and how it survives an interruption.

After every chunk of updates `advance` spends what these updates have earned (a fixed share of their cost) on the
copies that wait; `anchor` has the audit of one copy.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from quasistatic._keys import named
from quasistatic._random import fold
from quasistatic._results import Estimate
from quasistatic._types import IntScalarLike, Key, ScalarLike
from quasistatic.datasets import Dataset
from quasistatic.energies.base import AbstractEnergy, AbstractTractable
from quasistatic.kernels.base import AbstractKernel
from quasistatic.thermo.controls import Controls
from quasistatic.train import anchor
from quasistatic.train.anchor import (
    N_PILOT,
    Anchor,
    Anchors,
    Job,
    anchor_of,
    carried,
    opened,
    read,
    schedule,
    with_schedule,
)
from quasistatic.train.checkpoint import fill
from quasistatic.train.record import Recorder
from quasistatic.train.state import TrainState
from quasistatic.train.trainer import Trainer


class AnchoredAuditor:
    """Audits copies of the model beside the updates.

    What it does depends on steps and on its own walkers only, never on a clock, and nothing that trains reads it.

    Args:
        key: run key.
        plan: how to audit.
        kernel: kernel of the walkers.
        base: law with known Z.
        likelihoods: function of a model, beta and `log Z` that returns `ll_train` and `ll_heldout`.
        beta: inverse temperature of the start; a copy is audited at that of its step.
        step_size: step of Langevin kernels.
        cost: walker-sweeps of one update of the training.
    """

    def __init__(
        self,
        key: Key,
        plan: Anchors,
        kernel: AbstractKernel,
        base: AbstractTractable,
        likelihoods: Callable[[AbstractEnergy, Any, Estimate], tuple[Estimate, Estimate]],
        *,
        beta: ScalarLike,
        step_size: ScalarLike,
        cost: float,
    ):
        self._key = named(key, "anchors")
        self._plan = plan
        self._kernel = kernel
        self._base = base
        self._likelihoods = likelihoods
        self._beta = jnp.asarray(beta)
        self._controls = Controls.of(step_size=float(step_size))
        self._credit_per_update = plan.share * cost / (plan.n_groups * plan.n_walkers)
        self._credit = 0.0
        self._boost = 1
        self._jobs: list[Job] = []
        self.latest: Anchor | None = None

    @property
    def is_averaged(self) -> bool:
        """Whether copies are made of the averaged parameters, where there are some."""
        return self._plan.is_averaged

    def advance(self, state: TrainState, n_updates: int, *, is_age: bool) -> list[Anchor]:
        """Spends what `n_updates` have earned; call after every chunk. Returns: anchors that became ready."""
        self._credit += n_updates * self._credit_per_update
        if is_age or not self._jobs:
            self._copy(state)
        ready = []
        while self._jobs and self._credit > 0:
            # what has begun is finished; then the newest copy comes first
            index = next((i for i, job in enumerate(self._jobs) if int(job.position)), len(self._jobs) - 1)
            job = self._jobs[index]
            if int(job.position) == 0:
                job = self._planned(job)
            count = min(job.n_left, max(1, round(self._credit)))
            self._jobs[index] = job = self._carried(job, count)
            self._credit -= count
            if not job.n_left:
                self._jobs.pop(index)
                ready.append(self._finished(job, int(state.step)))
        return ready

    def finish(self, state: TrainState) -> list[Anchor]:
        """Completes everything, the present model included: the end of a run."""
        if not any(int(job.step) == int(state.step) for job in self._jobs) and not (
            self.latest is not None and self.latest.step == int(state.step)
        ):
            self._copy(state)
        self._credit = 1e15
        ready = self.advance(state, 0, is_age=False) if self._jobs else []
        self._credit = 0.0
        return ready

    def saved(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Pytrees and metadata for a checkpoint."""
        trees = {f"anchors/{i}": job for i, job in enumerate(self._jobs)}
        return trees, {"anchors": {"n_jobs": len(self._jobs), "credit": self._credit, "boost": self._boost}}

    def restore(self, state: TrainState, archive: Any, rows: list[dict[str, Any]]) -> None:
        """Back to where a checkpoint was written. Args: rows of anchors.csv up to its step."""
        meta = archive.meta.get("anchors", {"n_jobs": 0, "credit": 0.0, "boost": 1})
        self._credit, self._boost = float(meta["credit"]), int(meta["boost"])
        template = self._opened(state.model, self._beta, jnp.asarray(0, jnp.int32))
        self._jobs = [fill(template, archive, f"anchors/{i}") for i in range(meta["n_jobs"])]
        self.latest = anchor_of(max(rows, key=lambda row: row["step"])) if rows else None

    def _audited(self, state: TrainState) -> AbstractEnergy:
        return state.averaged if self._plan.is_averaged and state.averaged is not None else state.model

    def _copy(self, state: TrainState) -> None:
        if not any(int(job.step) == int(state.step) for job in self._jobs):
            beta = jnp.asarray(state.controls.beta)
            self._jobs.append(self._opened(self._audited(state), beta, jnp.asarray(state.step, jnp.int32)))

    def _opened(self, model: AbstractEnergy, beta: ScalarLike, step: IntScalarLike) -> Job:
        size = 8 * self._plan.max_temperatures + 1
        return opened(
            fold(named(self._key, "start"), step), self._kernel, model, self._base, beta, step,
            self._plan.n_groups, self._plan.n_walkers, size,
        )  # fmt: skip

    def _planned(self, job: Job) -> Job:
        """The job with its temperatures placed by a pilot."""
        size = job.fractions.size
        pilot_key = fold(named(self._key, "pilot"), job.step)
        pilot = opened(
            pilot_key, self._kernel, job.model, self._base, job.beta, job.step, self._plan.n_groups,
            self._plan.n_walkers, size,
        )  # fmt: skip
        pilot = with_schedule(pilot, np.linspace(0, 1, N_PILOT + 1))
        pilot = self._carried(pilot, N_PILOT, key=pilot_key)
        self._credit -= N_PILOT
        return with_schedule(
            job,
            schedule(
                np.asarray(pilot.spread[:N_PILOT], np.float64),
                variance=self._plan.variance,
                n_max=self._boost * self._plan.max_temperatures,
            ),
        )

    def _carried(self, job: Job, count: int, key: Key | None = None) -> Job:
        key = fold(named(self._key, "anneal"), job.step) if key is None else key
        stop = job.position + jnp.asarray(count, jnp.int32)
        return carried(key, self._kernel, self._base, self._controls, job, stop)

    def _finished(self, job: Job, ready_at: int) -> Anchor:
        log_z = read(job)
        # a lost thread is taken up with more temperatures
        self._boost = min(2 * self._boost, 8) if log_z.value is None else max(self._boost // 2, 1)
        ll_train, ll_heldout = self._likelihoods(job.model, job.beta, log_z)
        ess = float(jnp.mean(job.ensemble.ess()))
        done = Anchor(int(job.step), ready_at, log_z, ll_train, ll_heldout, ess, int(job.n))
        if self.latest is None or done.step > self.latest.step:
            self.latest = done
        return done


def auditing_of(
    key: Key, trainer: Trainer, model: AbstractEnergy, dataset: Dataset, recorder: Recorder
) -> AnchoredAuditor | None:
    """The auditor of copies that a trainer asks for, or None."""
    if trainer.anchors is None:
        return None
    controls = trainer.controls
    batch = trainer.batch_size or len(dataset.train)
    return AnchoredAuditor(
        key,
        trainer.anchors,
        trainer.kernel.single,
        anchor.base_for(model, dataset.train, trainer.starting_law(model), float(controls.beta)),
        recorder.of_model,
        beta=controls.beta,
        step_size=controls.step_size,
        cost=(float(controls.n_sweeps) + 1) * trainer.n_walkers + batch,
    )


def audit(
    auditing: AnchoredAuditor | None,
    state: TrainState,
    n_updates: int,
    ages: list[int],
    n_steps: int,
    folder: Path | None,
) -> None:
    """Lets the coarse audit do its share, and writes what became ready."""
    if auditing is None:
        return
    step = int(state.step)
    ready = auditing.advance(state, n_updates, is_age=step in ages)
    if step == n_steps:
        ready += auditing.finish(state)
    if ready and folder is not None:
        anchor.append(folder / "anchors.csv", ready)
