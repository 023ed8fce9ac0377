"""Probes: do the driver's walkers stay where they are when the model is held fixed?

At every stored age some walkers of the driver are copied and moved on for many times the sweeps of an update, at the
parameters of that age. If their mean potential (by their weights, where the gradient uses these) drifts away, the
walkers that make the gradient are not in equilibrium, and the model that is learned lives in the dynamics of its short
runs. A probe reads the driver, never the auditor, and nothing reads the probe: training is the same with and without
it.

Reference:
    Decelle, Furtlehner and Seoane, NeurIPS 2021 (arXiv 2105.13889); Agoritsas, Catania, Decelle and Seoane, ICML 2023
    (arXiv 2301.09428).
"""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from quasistatic._keys import named, step_key
from quasistatic.energies.potential import Potential
from quasistatic.evaluate.relaxation import SIGMAS, Stay, stays
from quasistatic.kernels import Ramped
from quasistatic.thermo.process import as_samples
from quasistatic.train.checkpoint import write_text
from quasistatic.train.record import mean_potential
from quasistatic.train.state import TrainState
from quasistatic.train.trainer import Trainer

FILE = "probes.csv"
COLUMNS = "step k longest gap_k gap_long drift drift_stderr relaxation is_settled has_moved".split()
"""Columns of probes.csv: sweeps of an update, sweeps of the probe, mean potential minus that of the data at both ends,
change and its standard error in nats, sweeps of half the change (empty without one), and two verdicts (0 or 1)."""

N_DATA = 2000


class Probe:
    """Follows walkers at some steps of a run.

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
        k, found = int(state.controls.n_sweeps), self._followed(state)
        first, last = float(found.path.value[0]), float(found.path.value[-1])
        verdicts = (int(found.is_settled), int(found.has_moved))
        values = (step, k, int(found.path.times[-1]), first, last, found.drift, found.stderr, found.relaxation)
        self.rows.append(dict(zip(COLUMNS, (*values, *verdicts), strict=True)))
        if self._path is not None:
            _write(self._path, self.rows)
        self.warning = found.warning(k)
        return self.warning

    def _followed(self, state: TrainState) -> Stay:
        kernel, n = self._trainer.kernel.single, self._trainer.n_probes
        kernel = kernel.kernel if isinstance(kernel, Ramped) else kernel
        driver = as_samples(self._trainer.kernel, state.ensemble)
        potential = Potential(state.model, state.controls.beta)
        u_data = float(mean_potential(state.model, state.controls.beta, self._data))
        k = int(state.controls.n_sweeps)
        return stays(
            named(step_key(state.key, state.step), "probe"), kernel, potential,
            driver.x[:n], max(2, k * self._trainer.probe_factor), state.controls, u_data=u_data,
            weights=np.asarray(driver.weights()[:n]) if self._trainer.is_weighted else None,
        )  # fmt: skip


def read_probes(path: Path) -> list[dict[str, Any]]:
    """Rows of a probes.csv; an empty cell is None."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    cells = [line.split(",") for line in lines]
    whole = {"step", "k", "longest", "is_settled", "has_moved"}

    def value(name: str, cell: str) -> Any:
        return None if cell == "" else int(cell) if name in whole else float(cell)

    return [
        {name: value(name, cell) for name, cell in zip(COLUMNS, row, strict=True)}
        for row in cells
        if len(row) == len(COLUMNS)
    ]


def probe_evidence(folder: Path) -> list[dict[str, Any]]:
    """What the last probe of a run says about its regime, in the fields of the evidence that `diagnose` collects.

    Args:
        folder: run folder.

    Returns:
        No or one mapping with name, value (drift in standard errors), threshold, stderr, regime and words.
    """
    path = folder / FILE
    rows = read_probes(path) if path.is_file() else []
    if not rows:
        return []
    last = rows[-1]
    z = abs(last["drift"]) / last["drift_stderr"] if last["drift_stderr"] else 0.0
    words = (
        f"change of the walkers' mean potential, {last['drift']:+.3g} nats in {last['longest']:,} sweeps at fixed "
        f"parameters after their k = {last['k']}, in standard errors"
    )
    if last["has_moved"]:
        settled = "settled" if last["is_settled"] else "not settled by then"
        words += f": half of it within {last['relaxation']:.0f} sweeps, {settled}"
    regime = "out_of_equilibrium" if last["has_moved"] else None
    name = "drift of the training's walkers"
    return [{"name": name, "value": z, "threshold": SIGMAS, "stderr": None, "regime": regime, "words": words}]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [",".join("" if row[name] is None else repr(row[name]) for name in COLUMNS) for row in rows]
    write_text(path, "\n".join([",".join(COLUMNS), *lines]) + "\n")
