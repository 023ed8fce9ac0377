"""Ten trainings of small RBMs in known regimes, and what `diagnose` calls them.

Twelve visible and eight hidden units can be enumerated: the law of the model, and the law `k` sweeps after any start.
The regime is thus *known* from the final parameters alone: a training is out of equilibrium when the law its gradient
was taken from (`k` sweeps from noise or data; where its persistent walkers ended) differs from that of the model.
`diagnose` sees none of this, only the run folder.

Data are two patterns and their noisy copies (`clusters`), between which a good model hardly ever moves by itself, or
nearly independent units (`loose`).

Reference:
    Agoritsas, Catania, Decelle and Seoane, ICML 2023 (arXiv 2301.09428); Decelle, Furtlehner and Seoane, NeurIPS 2021
    (arXiv 2105.13889).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from quasistatic.cli.data import load_data
from quasistatic.cli.diagnosing import probe_of
from quasistatic.cli.load import LoadedRun, load
from quasistatic.cli.sampling import chosen_walkers
from quasistatic.cli.training import train_run
from quasistatic.diagnose import diagnose
from quasistatic.reproduce.rows import Row

N, M = 12, 8
N_WALKERS = 500
PATTERN = np.array([1, 1, 0, 1, 0, 0, 0, 1, 0, 1, 1, 0], bool)
NEAR, FAR = 0.05, 0.15
"""Distance between the law of the gradient and that of the model: equilibrium below, out of it above.

Total variation between the laws of the number of units that differ from the first pattern: few enough values for the
walkers of a training to have a histogram.
"""

RUNS = {
    "runs of 1 sweep from noise, clusters": ("clusters", "training.method=short-run short_run.k=1"),
    "runs of 3 sweeps from noise, clusters": ("clusters", "training.method=short-run short_run.k=3"),
    "runs of 10 sweeps from noise, clusters": ("clusters", "training.method=short-run short_run.k=10"),
    "runs of 40 sweeps from noise, loose data": ("loose", "training.method=short-run short_run.k=40"),
    "CD-1, clusters": ("clusters", "training.method=cd kernel.n_sweeps=1"),
    "CD-20, loose data": ("loose", "training.method=cd kernel.n_sweeps=20"),
    "PCD-1, loose data": ("loose", "training.method=pcd kernel.n_sweeps=1"),
    "PCD-10, loose data, rate 0.02": ("loose", "training.method=pcd kernel.n_sweeps=10 optimiser.rate=0.02"),
    "Jarzynski weights, 5 sweeps, loose data": ("loose", "training.method=jarzynski kernel.n_sweeps=5"),
    "PCD-1, clusters, rate 5": ("clusters", "training.method=pcd kernel.n_sweeps=1 optimiser.rate=5"),
}

QUICK = ("runs of 1 sweep from noise, clusters", "PCD-1, loose data")


class Truth(NamedTuple):
    """What enumeration says about a run.

    Attributes:
        distance: between the law of the gradient and that of the model; for walkers less what as many independent
            samples show on average.
        sweeps: relaxation time of the chain in sweeps.
    """

    distance: float
    sweeps: float

    @property
    def regime(self) -> str | None:
        """Name, None between `NEAR` and `FAR`."""
        if self.distance > FAR:
            return "out_of_equilibrium"
        return "equilibrium" if self.distance < NEAR else None


def samples(name: str, n: int = 4000) -> np.ndarray:
    """Data: noisy copies of two patterns, or of one with much noise."""
    rng = np.random.RandomState(5)
    if name == "clusters":
        is_second, flip = rng.rand(n, 1) < 0.35, rng.rand(n, N) < 0.06
        return (PATTERN ^ is_second ^ flip).astype(float)
    return (PATTERN ^ (rng.rand(n, N) < np.linspace(0.2, 0.45, N))).astype(float)


def check(folder: Path, *, n_steps: int = 2000, names: tuple[str, ...] = tuple(RUNS)) -> list[Row]:
    """One row per run, and how many were named right.

    Args:
        folder: of the runs.
        n_steps: updates of each.
        names: which of `RUNS`.
    """
    rows, right = [], []
    for i, name in enumerate(names):
        source, settings = RUNS[name]
        file = folder / f"{source}.npz"
        if not file.exists():
            x = samples(source)
            np.savez(file, train=x, heldout=x[::20])
        run = trained(folder / f"regime-{i}", settings, file, n_steps)
        truth = truth_of(run)
        found = diagnose(run, probe_of(run)).regime
        is_right = found == truth.regime
        label = f"{name}: {found} (law of the gradient {truth.distance:.3f} from that of the model, relaxation "
        # a single one may be wrong: the last row judges
        rows.append(Row(label + f"{truth.sweeps:.3g} sweeps)", 1.0, float(is_right), None, 1.0))
        right.append(is_right)
    missed = len(right) - sum(right)
    return [*rows, Row(f"regimes named wrong, of {len(right)}", 0.0, float(missed), None, 1.0)]


def trained(out: Path, settings: str, data: Path, n_steps: int) -> LoadedRun:
    """The run, trained or gone on with where it is not finished."""
    common = (
        f"data.source=file data.batch_size={N_WALKERS} model.n_hidden={M} run.n_steps={n_steps} optimiser.kind=sgd "
        f"optimiser.rate=0.1 optimiser.schedule=linear optimiser.decay_from=0.5 optimiser.ema=0 auditor.n_groups=0 "
        f"training.n_walkers={N_WALKERS} record.every={n_steps // 4} record.n_ages=2 record.checkpoint_every={n_steps}"
    )
    overrides = {pair.split("=")[0]: pair for pair in f"{common} {settings}".split()}
    train_run("digits-rbm", list(overrides.values()), out=out, is_resumed=out.exists(), data=str(data))
    return load(out)


def truth_of(run: LoadedRun) -> Truth:
    """Distance and relaxation time of the final parameters, by enumeration."""
    archive, method = run.checkpoint("last"), run.settings.training.method
    sums = Enumerated.of(run.model_of("last"), float(np.asarray(archive["controls/beta"])))
    differ = np.eye(N + 1)[(sums.visible != PATTERN).sum(1)]
    expected = sums.law @ differ
    if method in ("cd", "short-run"):
        rows = sums.visible if method == "short-run" else np.asarray(load_data(run.settings).train)
        reached = sums.after(rows, int(np.asarray(archive["controls/n_sweeps"])))
        return Truth(_distance(reached @ differ, expected), sums.relaxation)
    x, _ = chosen_walkers(jax.random.key(0), run, N_WALKERS, "last")
    counts = np.bincount((np.asarray(x) != PATTERN).sum(1), minlength=N + 1)
    drawn = np.random.RandomState(0).multinomial(len(x), expected, 200)
    noise = float(np.mean([_distance(one / len(x), expected) for one in drawn]))
    return Truth(max(0.0, _distance(counts / len(x), expected) - noise), sums.relaxation)


class Enumerated(NamedTuple):
    """An RBM of binary units in full.

    Attributes:
        visible: all visible states, shape `(2^n, n)`.
        law: their probabilities.
        hidden_given: `p(h | v)` as a function of visible rows.
        between: `sum_v p(v | h) p(h' | v)`, shape `(2^m, 2^m)`: one sweep as hidden states see it.
        visible_given: `p(v | h)`, shape `(2^m, 2^n)`.
    """

    visible: np.ndarray
    law: np.ndarray
    hidden_given: Callable[[np.ndarray], np.ndarray]
    between: np.ndarray
    visible_given: np.ndarray

    @classmethod
    def of(cls, model: Any, beta: float) -> Enumerated:
        """All sums of a model at `beta`."""
        weights, a, b = (np.asarray(p, np.float64) for p in (model.weights, model.visible_bias, model.hidden_bias))
        v, h = (np.array(list(itertools.product([0.0, 1.0], repeat=n))) for n in weights.shape)

        def hidden_given(rows: np.ndarray) -> np.ndarray:
            return _conditional(beta * (rows @ weights + b), h)

        visible_given = _conditional(beta * (h @ weights.T + a), v)
        log_p = beta * v @ a + np.logaddexp(0, beta * (v @ weights + b)).sum(1)
        law = np.exp(log_p - log_p.max())
        return cls(v, law / law.sum(), hidden_given, visible_given @ hidden_given(v), visible_given)

    @property
    def relaxation(self) -> float:
        """Relaxation time in sweeps, `-1 / log` of the second eigenvalue: that of visible and hidden states alike."""
        second = np.sort(np.abs(np.linalg.eigvals(self.between)))[-2]
        return float(-1 / np.log(np.clip(second, 1e-300, 1 - 1e-15)))

    def after(self, rows: np.ndarray, k: int) -> np.ndarray:
        """Law of the visible states `k >= 1` sweeps after rows in equal proportions."""
        hidden = self.hidden_given(rows).mean(0) @ np.linalg.matrix_power(self.between, k - 1)
        return hidden @ self.visible_given


def _distance(p: np.ndarray, q: np.ndarray) -> float:
    return 0.5 * float(np.abs(p - q).sum())


def _conditional(fields: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Probabilities of all states given fields, one row each."""
    log_p = fields @ states.T - np.logaddexp(0, fields).sum(1, keepdims=True)
    return np.exp(log_p)
