"""The host's part of a training on a ladder of its own past: looking at it, growing it, mending it.

The walkers are stacks (`Exchange` over a `Trajectory`): frozen rungs and the live model. Between chunks of updates the
acceptance of exchanges between the live model and the last frozen rung is measured, on the driver alone, and decides:

* below `target` the present model is *frozen* into a rung, with its present beta; log Z is anchored anew by Bennett's
  ratio between the last frozen rung and the model, in every group of both populations;
* below `torn` the ladder has torn: the chunk is *rejected*, parameters, regulators and walkers go back to its start,
  and the learning rate is multiplied by `factor`. It comes back by the same factor with every chunk that holds.

Everything that steps and regulators do goes on as without a ladder: a thermostat moves the live model only, at the cost
of work, weights are those of the stacks, steps are made of the replicas at the model. Weighted populations are
resampled before they are looked at or frozen; a driver whose weights are not used stays as it is.

Reference:
    Bereux, Decelle, Furtlehner, Rosset and Seoane 2024 (arXiv 2405.15376), and its sequel (arXiv 2607.27077).
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._keys import named
from quasistatic._numerics import TwoFloat
from quasistatic._random import fold, split
from quasistatic._results import RESULTS
from quasistatic._types import Key
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.exchange import Exchange
from quasistatic.kernels.ladders import Trajectory
from quasistatic.run import Archive
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.process import relax
from quasistatic.thermo.replicas import Crossings, crossings, freeze, round_trips
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
    """What a look at a ladder found.

    Args:
        step: update after which it was looked at.
        name: `"held"`, `"frozen"` (a rung was added) or `"ladder_torn"` (the updates since the last look were undone).
        acceptance: of exchanges between the model and the last frozen rung.
        n_rungs: rungs afterwards.
        lr_scale: factor on the learning rate afterwards.
    """

    step: int
    name: str
    acceptance: float
    n_rungs: int
    lr_scale: float


class Ascent:
    """A ladder that grows with its model, as the host keeps it between chunks of updates.

    No decision reads the auditor, and none reads a clock; with `saved` and `restored` an interrupted training goes on
    with the same numbers.

    Args:
        key: run key.
        trainer: as `trajectory.on_trajectory` makes it; the attribute `trainer` is the one with the grown ladder.
        steering: when to freeze and to reject.

    Raises:
        InputError: the kernel is no replica exchange over a trajectory, or a regulator sets the learning rate as well.
    """

    def __init__(self, key: Key, trainer: Trainer, steering: Steering | None = None):
        kernel: Any = trainer.kernel
        if not (isinstance(kernel, Exchange) and isinstance(kernel.ladder, Trajectory)):
            raise InputError("stacks over a trajectory are needed; make the trainer with on_trajectory(trainer, model)")
        masters = [type(regulator).__name__ for regulator in trainer.regulators if regulator.sets_rate]
        if masters:
            raise InputError(
                f"{masters[0]} and a ladder that mends itself would both set the learning rate, and undo each other; "
                "drop the regulator (a torn ladder slows the training down by itself), or use a fixed ladder"
            )
        self.trainer = trainer
        self.steering = steering or Steering()
        self.looks: list[Event] = []
        self._key = key
        self._full_rate = float(trainer.controls.lr_scale)
        self._frozen: dict[str, np.ndarray] = {}

    @property
    def events(self) -> list[Event]:
        """Looks after which something was done."""
        return [look for look in self.looks if look.name != "held"]

    @property
    def kernel(self) -> Exchange:
        """The kernel with all rungs."""
        kernel = self.trainer.kernel
        assert isinstance(kernel, Exchange)
        return kernel

    @property
    def ladder(self) -> Trajectory:
        """The frozen rungs."""
        ladder = self.kernel.ladder
        assert isinstance(ladder, Trajectory)
        return ladder

    def begin(self, state: TrainState) -> None:
        """Takes the first state: `log Z` of the first rung is exact in every group."""
        known = np.nan if self.ladder.log_z is None else float(self.ladder.log_z[-1])
        self._frozen = {name: np.full(e.n_groups, known) for name, e in _populations(state).items()}

    def advanced(self, state: TrainState, data: Float[Array, "n ..."], stop: int) -> TrainState:
        """Updates until a step, undone and repeated at lower rates until the ladder holds; then a look.

        Args:
            state: where the last look left it.
            data: training data, samples first.
            stop: absolute step to stop at.

        Returns:
            The state; a run that fails has its `result` set, `ladder_torn` when no rate helped.
        """
        for _ in range(self.steering.max_rejections + 1):
            new = jax.block_until_ready(run_chunk(self.trainer, state, data, jnp.asarray(stop, jnp.int32)))
            if int(new.result) != RESULTS.ok:
                return new
            acceptance = float(self.measured(new).acceptance()[0][-1])
            if acceptance >= self.steering.torn:
                return self._accepted(new, acceptance)
            state = _slowed(state, self.steering.factor * float(state.controls.lr_scale))
            self._note(stop, "ladder_torn", acceptance, state)
        torn = jnp.asarray(int(RESULTS.ladder_torn), new.result.dtype)
        return eqx.tree_at(lambda s: s.result, new, torn)

    def measured(self, state: TrainState) -> Crossings:
        """Crossings of the driver, relaxed once under the present model; the copy is thrown away.

        Stacks that only met the model would show how far it went, not how far apart its law is.
        """
        key = named(self._key, f"look {int(state.step)}")
        potential = _potential(state)
        ready = _ready(key, self.trainer, potential, state.ensemble, state.controls, self.trainer.is_weighted)
        return crossings(self.kernel, potential, ready)

    def saved(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Pytrees and metadata for a checkpoint."""
        frozen = {name: values.tolist() for name, values in self._frozen.items()}
        return {"ladder": self.ladder}, {"looks": [asdict(look) for look in self.looks], "frozen": frozen}

    def restored(self, archive: Archive, model: AbstractEnergy) -> TrainState:
        """Back to where a checkpoint was written. Args: a model of the right structure. Returns: the state."""
        ladder, log_z = self.ladder, 0.0 if "ladder/log_z" in archive else None
        while len(ladder.betas) < len(archive["ladder/betas"]):  # as many rungs first, then filled
            ladder = ladder.extended(Potential(model, self.trainer.controls.beta), log_z)
        ladder = checkpoint.fill(ladder, archive, "ladder")
        self.trainer = with_kernel(self.trainer, replace(self.kernel, ladder=ladder))
        self.looks = [Event(**look) for look in archive.meta["looks"]]
        self._frozen = {name: np.asarray(values) for name, values in archive.meta["frozen"].items()}
        return checkpoint.fill(self.trainer.init(self._key, model), archive)

    def row(self) -> dict[str, Any]:
        """Columns of metrics.csv about the last look."""
        return {"n_rungs": self.kernel.n_replicas, "rung_acceptance": self.looks[-1].acceptance}

    def summary(self, state: TrainState) -> dict[str, Any]:
        """What result.json says about the ladder. Args: the final state."""
        names = [look.name for look in self.looks]
        return _measures(self.kernel, state, self.measured(state)) | {
            "n_frozen": names.count("frozen"),
            "n_torn": names.count("ladder_torn"),
            "lr_scale": float(state.controls.lr_scale),
            "events": [asdict(event) for event in self.events],
        }

    def _accepted(self, state: TrainState, acceptance: float) -> TrainState:
        scale = float(state.controls.lr_scale)
        if scale < self._full_rate:
            state = _slowed(state, min(self._full_rate, scale / self.steering.factor))
        is_grown = acceptance < self.steering.target and self.kernel.n_replicas < self.steering.max_rungs
        state = self._grown(state) if is_grown else state
        self._note(int(state.step), "frozen" if is_grown else "held", acceptance, state)
        return state

    def _note(self, step: int, name: str, acceptance: float, state: TrainState) -> None:
        self.looks.append(Event(step, name, acceptance, self.kernel.n_replicas, float(state.controls.lr_scale)))

    def _grown(self, state: TrainState) -> TrainState:
        """The state after the model was frozen, in both populations."""
        key = named(self._key, f"freeze {int(state.step)}")
        kernel, potential, grown = self.kernel, _potential(state), self.kernel
        for i, (name, ensemble) in enumerate(_populations(state).items()):
            is_weighted = name == "auditor" or self.trainer.is_weighted
            ready = _ready(fold(key, 2 * i), self.trainer, potential, ensemble, state.controls, is_weighted)
            self._frozen[name] = self._frozen[name] + crossings(kernel, potential, ready).last_step_groups(
                ensemble.n_groups
            )
            log_z = self._frozen[name] if np.all(np.isfinite(self._frozen[name])) else None
            grown, stacks = freeze(fold(key, 2 * i + 1), kernel, potential, ready, log_z=log_z)
            state = eqx.tree_at(lambda s, name=name: getattr(s, name), state, stacks)
        if state.feedback is not None:
            state = eqx.tree_at(lambda s: s.feedback, state, state.feedback.reopened())
        self.trainer = with_kernel(self.trainer, grown)
        return state


def ladder_row(trainer: Trainer, state: TrainState) -> dict[str, Any]:
    """Columns of metrics.csv about a ladder that stays as it was made, its worst pair; empty without one."""
    if not isinstance(trainer.kernel, Exchange):
        return {}
    accepted, _ = _of_fixed(trainer, trainer.kernel, state).acceptance()
    return {"n_rungs": trainer.kernel.n_replicas, "rung_acceptance": float(accepted.min())}


def ladder_summary(trainer: Trainer, state: TrainState) -> dict[str, Any] | None:
    """What result.json says about a ladder that stays as it was made, None without one. Args: trainer, final state."""
    if not isinstance(trainer.kernel, Exchange):
        return None
    works = _of_fixed(trainer, trainer.kernel, state)
    scale = float(state.controls.lr_scale)
    return _measures(trainer.kernel, state, works) | {"n_frozen": 0, "n_torn": 0, "lr_scale": scale, "events": []}


def _of_fixed(trainer: Trainer, kernel: Exchange, state: TrainState) -> Crossings:
    """Crossings of a copy of the driver, relaxed once under the present model (see `Ascent.measured`)."""
    key = named(jax.random.wrap_key_data(state.key), f"look {int(state.step)}")
    ready = _ready(key, trainer, _potential(state), state.ensemble, state.controls, trainer.is_weighted)
    return crossings(kernel, _potential(state), ready)


def _measures(kernel: Exchange, state: TrainState, works: Crossings) -> dict[str, Any]:
    acceptance, error = works.acceptance()
    trips, trips_error = round_trips(state.ensemble)
    return {
        "n_rungs": kernel.n_replicas,
        "betas": np.asarray(kernel.ladder.rungs(_potential(state)).beta, float).tolist(),
        "acceptance": acceptance.tolist(),
        "acceptance_stderr": [float(e) if np.isfinite(e) else None for e in error],
        "round_trips": trips,
        "round_trips_stderr": trips_error if np.isfinite(trips_error) else None,
    }


def with_kernel(trainer: Trainer, kernel: Exchange) -> Trainer:
    """The trainer with another kernel."""
    changed = {name: getattr(trainer, name) for name in trainer.__dataclass_fields__}
    return Trainer(**{**changed, "kernel": kernel})


def _potential(state: TrainState) -> Potential:
    return Potential(state.model, state.controls.beta)


def _populations(state: TrainState) -> dict[str, Ensemble]:
    both = {"ensemble": state.ensemble, "auditor": state.auditor}
    return {name: ensemble for name, ensemble in both.items() if ensemble is not None}


def _slowed(state: TrainState, scale: float) -> TrainState:
    old = state.controls.lr_scale
    return eqx.tree_at(lambda s: s.controls.lr_scale, state, jnp.asarray(scale, jnp.asarray(old).dtype))


@eqx.filter_jit
def _ready(
    key: Key, trainer: Trainer, potential: Potential, ensemble: Ensemble, controls: Any, is_weighted: bool
) -> Ensemble:
    """Stacks of equal weight, relaxed under the model: resampled, or taken as they are where weights are not used."""
    key_resample, key_relax = split(key, 2)
    if is_weighted:
        even, _ = ensemble.resampled(key_resample, below=1.0 - 1e-6)
    else:
        zeros = TwoFloat.zeros(ensemble.u.shape, ensemble.u.dtype)
        even = eqx.tree_at(lambda e: e.account.log_weight, ensemble, zeros)
    return relax(key_relax, trainer.kernel, potential, even, controls)[0]
