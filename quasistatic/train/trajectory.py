"""Training on a ladder of the model's own past: parallel trajectory tempering while the model learns.

The walkers are stacks, frozen rungs below the live model, and the ladder grows with it (`ascent` says when, and how it
is mended). The ladder starts from a law with known Z, so the model's log Z is known all along. `climb` is the bare loop
in memory; `fit(..., steering=...)` is the one with a run folder.

Reference:
    Bereux, Decelle, Furtlehner, Rosset and Seoane 2024 (arXiv 2405.15376), and its sequel (arXiv 2607.27077).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Array, Float

from quasistatic._results import RESULTS
from quasistatic._types import Key
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.rbm import RBM
from quasistatic.errors import InputError, RunFailure
from quasistatic.kernels.exchange import Exchange
from quasistatic.kernels.ladders import Trajectory
from quasistatic.run import Archive
from quasistatic.thermo.replicas import Crossings
from quasistatic.train import checkpoint
from quasistatic.train.ascent import Ascent, Event, Steering, with_kernel
from quasistatic.train.state import TrainState
from quasistatic.train.trainer import Trainer


@dataclass(frozen=True)
class Climbed:
    """A training along its own trajectory.

    Args:
        state: final state.
        trainer: the trainer with the grown ladder.
        events: what happened to the ladder.
        measured: crossings of the driver at the end.
    """

    state: TrainState
    trainer: Trainer
    events: list[Event]
    measured: Crossings

    @property
    def kernel(self) -> Exchange:
        """The kernel with all rungs."""
        kernel = self.trainer.kernel
        assert isinstance(kernel, Exchange)
        return kernel


def on_trajectory(trainer: Trainer, model: AbstractEnergy, *, n_between: int = 1) -> Trainer:
    """The trainer with stacks of two rungs: the model without couplings, and the model.

    Args:
        trainer: a trainer of persistent walkers.
        model: initial RBM.
        n_between: sweeps between exchanges (`controls.n_sweeps` then counts rounds).

    Raises:
        InputError: the model is no RBM, or a regulator restarts walkers.
    """
    if not isinstance(model, RBM):
        raise InputError(f"a trajectory starts from an RBM without couplings, this model is a {type(model).__name__}")
    ladder = Trajectory.from_base(model, float(trainer.controls.beta))
    return with_kernel(trainer, Exchange(trainer.kernel, ladder, n_between))


def climb(
    key: Key,
    trainer: Trainer,
    model: AbstractEnergy,
    data: Float[Array, "n ..."],
    n_steps: int,
    *,
    steering: Steering | None = None,
    watch: Callable[[TrainState, Trainer], Any] | None = None,
    file: Path | None = None,
) -> Climbed:
    """Trains a model on a ladder that grows with it.

    Args:
        key: run key.
        trainer: as `on_trajectory` makes it.
        model: initial parameters.
        data: training data, samples first.
        n_steps: updates.
        steering: when to freeze and to reject.
        watch: called with state and trainer after every look at the ladder.
        file: npz file that keeps state and ladder after every look; when it exists the training goes on from it.

    Raises:
        InputError: the trainer's kernel is no replica exchange over a trajectory, or a regulator sets the rate.
        RunFailure: a named failure of the updates, or a ladder that tears whatever the learning rate.
    """
    ascent = Ascent(key, trainer, steering)
    if file is not None and file.exists():
        state = ascent.restored(Archive(file), model)
    else:
        state = trainer.init(key, model)
        ascent.begin(state)
    while int(state.step) < n_steps:
        state = ascent.advanced(state, data, min(n_steps, int(state.step) + ascent.steering.every))
        result = RESULTS(int(state.result))
        if result != RESULTS.ok:
            raise RunFailure(f"{result.message} (step {int(state.step)}); {result.remedy}", result=result.name)
        if file is not None:
            trees, meta = ascent.saved()
            checkpoint.save(file, {"": state, **trees}, {"step": int(state.step), **meta})
        if watch is not None:
            watch(state, ascent.trainer)
    return Climbed(state, ascent.trainer, ascent.events, ascent.measured(state))
