"""Training on a ladder of the model's own past: parallel trajectory tempering while the model learns.

The walkers are stacks (`Exchange` over a `Trajectory`): frozen rungs and the live model. Between chunks of updates the
acceptance of exchanges between the live model and the last frozen rung is measured, on the driver alone, and decides:

* below `target` the present model is *frozen* into a rung; log Z is anchored anew by Bennett's ratio between the last
  frozen rung and the model, in every group of both populations;
* below `torn` the ladder has torn: the chunk is *rejected*, parameters and walkers go back to its start, and the
  learning rate is multiplied by `factor`. It comes back by the same factor with every chunk that holds.

The ladder starts from a law with known Z, so the model's log Z is known all along.

Reference:
    Bereux, Decelle, Furtlehner, Rosset and Seoane 2024 (arXiv 2405.15376), and its sequel (arXiv 2607.27077).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._keys import named
from quasistatic._random import fold
from quasistatic._results import RESULTS
from quasistatic._types import Key
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.potential import Potential
from quasistatic.energies.rbm import RBM
from quasistatic.errors import InputError, RunFailure
from quasistatic.kernels.exchange import Exchange
from quasistatic.kernels.ladders import Trajectory
from quasistatic.run import Archive
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.estimators import bar
from quasistatic.thermo.process import relax
from quasistatic.thermo.replicas import Crossings, crossings, freeze
from quasistatic.train import checkpoint
from quasistatic.train.state import TrainState
from quasistatic.train.step import run_chunk
from quasistatic.train.trainer import Trainer


@dataclass(frozen=True)
class Steering:
    """How a ladder follows its model.

    Args:
        every: updates between two looks at the ladder.
        target: acceptance below which the model is frozen into a rung (0.25 to 0.4 are usual).
        torn: acceptance below which the updates since the last look are rejected.
        factor: on the learning rate after a rejection.
        max_rungs: most rungs; a full ladder is not grown any more.
        max_rejections: rejections in a row after which the run has failed.
    """

    every: int = 50
    target: float = 0.3
    torn: float = 0.1
    factor: float = 0.5
    max_rungs: int = 64
    max_rejections: int = 10

    def __post_init__(self) -> None:
        if min(self.every, self.max_rejections) < 1 or self.max_rungs < 2:
            raise InputError(
                "every and max_rejections must be at least 1 and max_rungs at least 2, got "
                f"{self.every}, {self.max_rejections} and {self.max_rungs}"
            )
        if not (0 <= self.torn < self.target < 1 and 0 < self.factor < 1):
            given = (self.torn, self.target, self.factor)
            raise InputError(f"0 <= torn < target < 1 and 0 < factor < 1 are needed, got {given}")


@dataclass(frozen=True)
class Event:
    """What happened to a ladder.

    Args:
        step: update after which it happened.
        name: `"frozen"` or `"ladder_torn"`.
        acceptance: of exchanges between the model and the last frozen rung.
        n_rungs: rungs afterwards.
        lr_scale: factor on the learning rate afterwards.
    """

    step: int
    name: str
    acceptance: float
    n_rungs: int
    lr_scale: float


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
        return _exchange(self.trainer)


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
    return _with_kernel(trainer, Exchange(trainer.kernel, ladder, n_between))


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
        InputError: the trainer's kernel is no replica exchange over a trajectory.
        RunFailure: a named failure of the updates, or a ladder that tears whatever the learning rate.
    """
    steering = steering or Steering()
    kernel: Any = trainer.kernel
    if not (isinstance(kernel, Exchange) and isinstance(kernel.ladder, Trajectory)):
        raise InputError("climb needs stacks over a trajectory; make the trainer with on_trajectory(trainer, model)")
    full_rate = float(trainer.controls.lr_scale)
    n_rejected = 0
    if file is not None and file.exists():
        trainer, state, frozen, events = _restored(key, trainer, model, file)
    else:
        state = trainer.init(key, model)
        frozen = {name: _start(trainer, ensemble) for name, ensemble in _populations(state).items()}
        events: list[Event] = []
    measured = _look(named(key, "look"), trainer, state)
    while int(state.step) < n_steps:
        stop = min(n_steps, int(state.step) + steering.every)
        new = jax.block_until_ready(run_chunk(trainer, state, data, jnp.asarray(stop, jnp.int32)))
        result = RESULTS(int(new.result))
        if result != RESULTS.ok:
            raise RunFailure(f"{result.message} (step {int(new.step)}); {result.remedy}", result=result.name)
        key_look = named(key, f"look {stop}")
        measured = _look(key_look, trainer, new)
        acceptance = float(measured.acceptance()[0][-1])
        n_rungs, scale = _exchange(trainer).n_replicas, float(new.controls.lr_scale)
        if not acceptance >= steering.torn:
            n_rejected += 1
            if n_rejected > steering.max_rejections:
                result = RESULTS.ladder_torn
                raise RunFailure(f"{result.message} (step {stop}); {result.remedy}", result=result.name)
            state = _slowed(state, steering.factor * float(state.controls.lr_scale))
            events.append(Event(stop, "ladder_torn", acceptance, n_rungs, float(state.controls.lr_scale)))
            continue
        n_rejected = 0
        state = new if scale >= full_rate else _slowed(new, min(full_rate, scale / steering.factor))
        if acceptance < steering.target and n_rungs < steering.max_rungs:
            trainer, state, frozen = _grown(named(key, f"freeze {stop}"), trainer, state, frozen)
            measured = _look(key_look, trainer, state)
            events.append(Event(stop, "frozen", acceptance, n_rungs + 1, float(state.controls.lr_scale)))
        if file is not None:
            _save(file, trainer, state, frozen, events)
        if watch is not None:
            watch(state, trainer)
    return Climbed(state, trainer, events, measured)


def _exchange(trainer: Trainer) -> Exchange:
    kernel = trainer.kernel
    assert isinstance(kernel, Exchange)
    return kernel


def _with_kernel(trainer: Trainer, kernel: Exchange) -> Trainer:
    changed = {name: getattr(trainer, name) for name in trainer.__dataclass_fields__}
    return Trainer(**{**changed, "kernel": kernel})


def _potential(state: TrainState) -> Potential:
    return Potential(state.model, state.controls.beta)


def _save(file: Path, trainer: Trainer, state: TrainState, frozen: dict[str, np.ndarray], events: list[Event]) -> None:
    meta = {
        "step": int(state.step),
        "events": [asdict(event) for event in events],
        "frozen": {name: values.tolist() for name, values in frozen.items()},
    }
    checkpoint.save(file, {"": state, "ladder": _exchange(trainer).ladder}, meta)


def _restored(
    key: Key, trainer: Trainer, model: AbstractEnergy, file: Path
) -> tuple[Trainer, TrainState, dict[str, np.ndarray], list[Event]]:
    """What `_save` kept: a ladder of as many rungs is made first, then filled."""
    archive, kernel = Archive(file), _exchange(trainer)
    ladder: Any = kernel.ladder
    log_z = 0.0 if "ladder/log_z" in archive else None
    while len(ladder.betas) < len(archive["ladder/betas"]):
        ladder = ladder.extended(Potential(model, trainer.controls.beta), log_z)
    ladder = checkpoint.fill(ladder, archive, "ladder")
    trainer = _with_kernel(trainer, Exchange(kernel.inner, ladder, kernel.n_between))
    state = checkpoint.fill(trainer.init(key, model), archive)
    frozen = {name: np.asarray(values) for name, values in archive.meta["frozen"].items()}
    return trainer, state, frozen, [Event(**event) for event in archive.meta["events"]]


@eqx.filter_jit
def _relaxed(key: Key, trainer: Trainer, potential: Potential, ensemble: Ensemble, controls: Controls) -> Ensemble:
    return relax(key, trainer.kernel, potential, ensemble, controls)[0]


def _look(key: Key, trainer: Trainer, state: TrainState) -> Crossings:
    """Crossings of the driver, relaxed once under the present model.

    The copy is thrown away. Stacks that only met the model would show how far it went, not how far apart its law is.
    """
    potential = _potential(state)
    relaxed = _relaxed(key, trainer, potential, state.ensemble, state.controls)
    return crossings(_exchange(trainer), potential, relaxed)


def _populations(state: TrainState) -> dict[str, Ensemble]:
    both = {"ensemble": state.ensemble, "auditor": state.auditor}
    return {name: ensemble for name, ensemble in both.items() if ensemble is not None}


def _start(trainer: Trainer, ensemble: Ensemble) -> np.ndarray:
    """`log Z` of the last frozen rung in every group: exact for the first."""
    ladder = _exchange(trainer).ladder
    assert isinstance(ladder, Trajectory)
    known = np.nan if ladder.log_z is None else float(ladder.log_z[-1])
    return np.full(ensemble.n_groups, known)


def _slowed(state: TrainState, scale: float) -> TrainState:
    old = state.controls.lr_scale
    return eqx.tree_at(lambda s: s.controls.lr_scale, state, jnp.asarray(scale, jnp.asarray(old).dtype))


def _grown(
    key: Key, trainer: Trainer, state: TrainState, frozen: dict[str, np.ndarray]
) -> tuple[Trainer, TrainState, dict[str, np.ndarray]]:
    """Trainer, state and `log Z` of the last frozen rung after the model was frozen, in both populations."""
    kernel, potential = _exchange(trainer), _potential(state)
    grown, anchors, populations = kernel, {}, {}
    for i, (name, ensemble) in enumerate(_populations(state).items()):
        relaxed = _relaxed(fold(key, 3 * i), trainer, potential, ensemble, state.controls)
        cleared, _ = relaxed.resampled(fold(key, 3 * i + 1), below=1.0 - 1e-6)
        steps = _last_step(crossings(kernel, potential, cleared), ensemble.n_groups)
        anchors[name] = frozen[name] + steps
        is_known = bool(np.all(np.isfinite(anchors[name])))
        log_z = anchors[name] if is_known else None
        grown, populations[name] = freeze(fold(key, 3 * i + 2), kernel, potential, cleared, log_z=log_z)
    for name, ensemble in populations.items():
        state = eqx.tree_at(lambda s, name=name: getattr(s, name), state, ensemble)
    return _with_kernel(trainer, grown), state, anchors


def _last_step(measured: Crossings, n_groups: int) -> np.ndarray:
    """`log Z` of the model less that of the last frozen rung, by Bennett's ratio in every group."""
    up, down = measured.up[:, -1].reshape(n_groups, -1), measured.down[:, -1].reshape(n_groups, -1)
    return np.array([-(bar(a, b).value or 0.0) for a, b in zip(up, down, strict=True)])
