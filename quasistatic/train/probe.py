"""Probes: are the walkers that make the gradient in equilibrium with the model, while it is trained?

At every stored age three readings are taken, at the parameters of that age:

* some walkers of the driver are copied and moved on for many times the sweeps of an update. If their mean potential
  (by their weights, where the gradient uses these) drifts away, they were not in equilibrium;
* the driver's mean potential is compared with that of the auditor's weighted walkers, where there is an auditor: their
  weights make these right at any rate of learning;
* new walkers start where the runs start (short runs), or at the law of the books, and their mean potential less that of
  the data, `Delta(t)`, is followed. A model of short runs crosses zero at `t = k` and goes on; an equilibrium model
  comes to zero from one side and stays.

A probe reads, and nothing reads the probe: training is the same with and without it.

Reference:
    Decelle, Furtlehner and Seoane, NeurIPS 2021 (arXiv 2105.13889); Agoritsas, Catania, Decelle and Seoane, ICML 2023
    (arXiv 2301.09428).
"""

from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from quasistatic._keys import named, step_key
from quasistatic.energies.base import AbstractTractable
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.evaluate.exact import mean_reduced
from quasistatic.evaluate.relaxation import FARTHEST, SIGMAS, Stay, stays
from quasistatic.evaluate.sampling_time import Gap, followed, times_around
from quasistatic.kernels import Ramped
from quasistatic.regulators import Restart, ShortRun
from quasistatic.thermo.process import as_samples
from quasistatic.train.checkpoint import write_text
from quasistatic.train.state import TrainState
from quasistatic.train.trainer import Trainer

FILE = "probes.csv"
COLUMNS = (
    "step k longest gap_k gap_long drift drift_stderr spread relaxation is_settled has_moved "
    "crossing gap_fresh gap_fresh_stderr auditor_gap auditor_gap_stderr is_apart"
).split()
"""Columns of probes.csv, potentials in nats, empty where there is nothing to say: sweeps of an update, sweeps of the
probe; mean potential of the driver's walkers minus that of the data before and after these, change, its standard error
and the spread among walkers, sweeps of half the change, two verdicts (0 or 1); sweeps after which new walkers cross the
data's mean potential, their gap at the end and its error; driver minus auditor, its error, and the verdict on it."""
WHOLE = {"step", "k", "longest", "is_settled", "has_moved", "is_apart"}

N_DATA = 2000
FEWEST = 0.05
"""Effective share of the auditor's walkers below which they judge nobody."""


class Apart(NamedTuple):
    """Mean potential of the driver's walkers minus that of the auditor's, nats.

    Attributes:
        value: difference.
        stderr: standard error, over walkers of the driver and groups of the auditor.
        spread: standard deviation of the potential in the auditor.
    """

    value: float
    stderr: float
    spread: float

    @property
    def is_apart(self) -> bool:
        """Whether the two differ by more than chance, and by more than is harmless."""
        return abs(self.value) > SIGMAS * self.stderr and abs(self.value) > FARTHEST * self.spread


class Probe:
    """Reads the walkers at some steps of a run.

    Args:
        trainer: what does not evolve; it says how many walkers are followed, and for how long.
        train: training data.
        ages: steps at which to do so.
        folder: run folder for `probes.csv`, or None.
    """

    def __init__(self, trainer: Trainer, train: np.ndarray, ages: list[int], folder: Path | None):
        self._trainer = trainer
        self._data = jnp.asarray(train[:N_DATA], float)
        self._ages = set(ages) if trainer.n_probes else set()
        self._path = None if folder is None else folder / FILE
        self.rows: list[dict[str, Any]] = []
        self.warning: str | None = None

    def restore(self, step: int) -> None:
        """Keeps the rows of steps up to that of a resumed run."""
        if self._path is not None and self._path.exists():
            self.rows = [row for row in read_probes(self._path) if row["step"] <= step]

    def look(self, state: TrainState) -> str | None:
        """Follows the walkers where it is time. Returns: a warning, None when all is well or it is not time."""
        step = int(state.step)
        if step not in self._ages:
            return None
        k, u_data = int(state.controls.n_sweeps), mean_reduced(state.model, self._data, float(state.controls.beta))
        found, fresh, apart = self._followed(state, u_data[0]), self._fresh(state, u_data), self._apart(state)
        first, last = float(found.path.value[0]), float(found.path.value[-1])
        values = [step, k, int(found.path.times[-1]), first, last, found.drift, found.stderr, found.spread]
        values += [found.relaxation, int(found.is_settled), int(found.has_moved)]
        values += [None] * 3 if fresh is None else [fresh.crossing(), float(fresh.value[-1]), float(fresh.stderr[-1])]
        values += [None] * 3 if apart is None else [apart.value, apart.stderr, int(apart.is_apart)]
        self.rows.append(dict(zip(COLUMNS, values, strict=True)))
        if self._path is not None:
            _write(self._path, self.rows)
        self.warning = found.warning(k, start=self._start())
        if self.warning is None and apart is not None and apart.is_apart:
            self.warning = (
                f"the driver's walkers are not those of the model: their mean potential is {apart.value:+.3g} ± "
                f"{apart.stderr:.2g} nats from that of the auditor's weighted walkers at k = {k} sweeps per update"
            )
        return self.warning

    def _start(self) -> str | None:
        """Where the sweeps of an update begin, None for persistent walkers."""
        for regulator in self._trainer.regulators:
            if isinstance(regulator, ShortRun):
                return "the same start"
            if isinstance(regulator, Restart):
                return "the data" if regulator.source == "data" else "the same law"
        return None

    def _followed(self, state: TrainState, u_data: float) -> Stay:
        kernel, n = self._trainer.kernel.single, self._trainer.n_probes
        kernel = kernel.kernel if isinstance(kernel, Ramped) else kernel
        driver = as_samples(self._trainer.kernel, state.ensemble)
        return stays(
            named(step_key(state.key, state.step), "probe"), kernel, Potential(state.model, state.controls.beta),
            driver.x[:n], self._longest(state), state.controls, u_data=u_data,
            weights=np.asarray(driver.weights()[:n]) if self._trainer.is_weighted else None,
        )  # fmt: skip

    def _longest(self, state: TrainState) -> int:
        return max(2, int(state.controls.n_sweeps) * self._trainer.probe_factor)

    def _fresh(self, state: TrainState, u_data: tuple[float, float]) -> Gap | None:
        """`Delta(t)` of new walkers; None where they would start at the model itself, or nowhere."""
        law = next((r.start for r in self._trainer.regulators if isinstance(r, ShortRun)), self._trainer.law)
        if law is None:
            if isinstance(state.model, AbstractTractable):
                return None
            try:
                law = self._trainer.starting_law(state.model)
            except InputError:
                return None
        key = named(step_key(state.key, state.step), "fresh")
        x = law.sample_exact(named(key, "start"), 1.0, self._trainer.n_probes).astype(state.ensemble.x.dtype)
        x = x.reshape(len(x), *as_samples(self._trainer.kernel, state.ensemble).x.shape[1:])
        times = times_around(int(state.controls.n_sweeps), self._longest(state))
        walk = followed(
            named(key, "walk"), self._trainer.kernel.single, Potential(state.model, state.controls.beta), x, times,
            state.controls,
        )  # fmt: skip
        u = np.array([np.asarray(e.u, np.float64) for e in walk])
        error = u.std(1, ddof=1) / np.sqrt(u.shape[1])
        return Gap(np.asarray(times), u.mean(1) - u_data[0], np.hypot(error, u_data[1]))

    def _apart(self, state: TrainState) -> Apart | None:
        """Driver against auditor, None without one, or where too few of its walkers carry the weight."""
        if state.auditor is None or state.auditor.n_groups < 2:
            return None
        potential = Potential(state.model, state.controls.beta)
        driver = as_samples(self._trainer.kernel, state.ensemble)
        auditor = as_samples(self._trainer.auditor_kernel, state.auditor)
        u, v = (np.asarray(_potentials(potential, ensemble.x), np.float64) for ensemble in (driver, auditor))
        w = np.asarray(driver.weights() if self._trainer.is_weighted else np.full(len(u), 1 / len(u)), np.float64)
        shares = np.asarray(auditor.weights(), np.float64)
        if 1 / np.sum(shares**2) < FEWEST * len(shares):
            return None
        shares, values = (part.reshape(auditor.n_groups, -1) for part in (shares, v))
        mean = float(np.sum(shares * values))
        totals, sums = shares.sum(1), (shares * values).sum(1)
        left_out = (mean - sums) / (1 - totals)  # jackknife over independent groups
        n = len(left_out)
        of_auditor = (n - 1) / n * np.sum((left_out - left_out.mean()) ** 2)
        of_driver = np.sum(w**2 * (u - w @ u) ** 2) / max(1 - np.sum(w**2), 1e-12)
        spread = float(np.sqrt(np.sum(shares * (values - mean) ** 2)))
        return Apart(float(w @ u) - mean, float(np.sqrt(of_auditor + of_driver)), spread)


_potentials = eqx.filter_jit(lambda potential, x: jax.lax.map(potential, x, batch_size=256))  # of any energy


def read_probes(path: Path) -> list[dict[str, Any]]:
    """Rows of a probes.csv; an empty cell is None, and so is a column that an older file has not."""
    names, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    header, cells = names.split(","), [line.split(",") for line in lines]

    def value(name: str, cell: str) -> Any:
        return None if cell == "" else int(cell) if name in WHOLE else float(cell)

    return [
        dict.fromkeys(COLUMNS) | {name: value(name, cell) for name, cell in zip(header, row, strict=True)}
        for row in cells
        if len(row) == len(header)
    ]


def probe_evidence(folder: Path) -> list[dict[str, Any]]:
    """What the last probe of a run says about its regime, in the fields of the evidence that `diagnose` collects.

    Args:
        folder: run folder.

    Returns:
        Up to three mappings with name, value, threshold, stderr, regime and words.
    """
    path = folder / FILE
    rows = read_probes(path) if path.is_file() else []
    if not rows:
        return []
    last, found = rows[-1], []
    z = abs(last["drift"]) / last["drift_stderr"] if last["drift_stderr"] else 0.0
    words = (
        f"change of the walkers' mean potential, {last['drift']:+.3g} nats in {last['longest']:,} sweeps at fixed "
        f"parameters after their k = {last['k']}, in standard errors"
    )
    if last["has_moved"]:
        settled = "settled" if last["is_settled"] else "not settled by then"
        words += f": half of it within {last['relaxation']:.0f} sweeps, {settled}"
    elif z > SIGMAS:
        words += f": real, but less than {FARTHEST:g} of their spread"
    regime = "out_of_equilibrium" if last["has_moved"] else None
    found.append(_evidence("drift of the training's walkers", z, SIGMAS, None, regime, words))
    if last["gap_fresh"] is not None:
        crossed = "never crosses" if last["crossing"] is None else f"at t = {last['crossing']:.3g} first crosses"
        words = f"Delta after {last['longest']:,} sweeps, nats; the potential of new walkers {crossed} that of the data"
        error = last["gap_fresh_stderr"]
        found.append(_evidence("gap of new walkers", last["gap_fresh"], SIGMAS * error, error, None, words))
    if last["auditor_gap"] is not None:
        regime = "out_of_equilibrium" if last["is_apart"] else None
        words = "mean potential of the driver's walkers less that of the auditor's, nats, at the last age"
        error = last["auditor_gap_stderr"]
        found.append(_evidence("driver against auditor", last["auditor_gap"], SIGMAS * error, error, regime, words))
    return found


def _evidence(
    name: str, value: float, threshold: float, stderr: float | None, regime: str | None, words: str
) -> dict[str, Any]:
    return {
        "name": name, "value": value, "threshold": threshold, "stderr": stderr, "regime": regime, "words": words
    }  # fmt: skip


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [",".join("" if row[name] is None else repr(row[name]) for name in COLUMNS) for row in rows]
    write_text(path, "\n".join([",".join(COLUMNS), *lines]) + "\n")
