"""PCD-1 training of an RBM on thresholded MNIST at fixed, published and regulated temperature, resumable.

784 x 512 binary units, `W ~ N(0, 0.05^2)`, no biases; 128 persistent chains from coin tosses, one sweep per update,
batches of 128, rate 5e-4, decay 1e-4 of the weights alone, 400 epochs of 468 updates. The gradient leaves the factor
1/T out, as the published code does. Five conditions:

    fixed-1        T = 1
    fixed-0.9225   T where the published law ends
    gauge          T = 1 with start sigma / 0.9225, rate eta / 0.9225, decay 0.9225 lambda: the same run, rewritten
    published      `EndogenousTemperature`
    thermostat     `Thermostat` with flips kept above 0.1 per unit

All seeds and conditions are independent runs, each with a file of its own; a run goes on where its file ends.

Reference:
    Süleymanoğlu 2026 (arXiv 2603.02525) and its public code (constants, order of operations).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from quasistatic import datasets
from quasistatic._keys import named
from quasistatic._results import RESULTS
from quasistatic._types import Key
from quasistatic.energies import RBM
from quasistatic.errors import RunFailure
from quasistatic.evaluate import log_likelihood, log_partition_bracket, reconstruction_error
from quasistatic.kernels import BlockGibbs
from quasistatic.regulators import EndogenousTemperature, Thermostat
from quasistatic.rules import MaximumLikelihood
from quasistatic.run import Archive
from quasistatic.train import checkpoint
from quasistatic.train.state import TrainState
from quasistatic.train.step import run_chunk
from quasistatic.train.tempered import temperature_row
from quasistatic.train.trainer import Trainer

FIXED = 0.9225
CONDITIONS = ("fixed-1", "fixed-0.9225", "gauge", "published", "thermostat")
COLUMNS = ("epoch", "flip_rate", "temperature", "smoothed", "norm_over_t", "gap", "seconds")
BATCH, WALKERS, RATE, DECAY, SCALE = 128, 128, 5e-4, 1e-4, 0.05
MORE_TEMPERATURES = 3
"""A bracket that is not closed is annealed once more with so many times the temperatures."""


class Size(NamedTuple):
    """How much is computed.

    Attributes:
        n_hidden: hidden units.
        n_epochs: passes over the data.
        n_rows: training rows.
        n_seeds: seeds of every condition.
        n_temperatures: laws of the annealing paths.
        n_chains: walkers of each annealing run.
        n_equilibrate: sweeps of the chains of the reverse run.
        save_every: epochs between checkpoints.
    """

    n_hidden: int
    n_epochs: int
    n_rows: int
    n_seeds: int
    n_temperatures: int
    n_chains: int
    n_equilibrate: int
    save_every: int


FULL = Size(512, 400, 60_000, 3, 10_001, 128, 2_000, 5)
QUICK = Size(32, 6, 6_000, 1, 301, 32, 100, 3)


class Finished(NamedTuple):
    """A run that is done.

    Attributes:
        rows: one per epoch, columns `COLUMNS`; NaN where there is no number.
        judged: log Z, likelihood and its bracket, reconstruction error and norms of the final model.
    """

    rows: np.ndarray
    judged: dict[str, float | None]

    def column(self, name: str) -> np.ndarray:
        """A column of the rows."""
        return self.rows[:, COLUMNS.index(name)]


class Images(NamedTuple):
    """Thresholded MNIST: training and test rows."""

    train: np.ndarray
    test: np.ndarray


def images(size: Size) -> Images:
    """All 60,000 training rows (or the first of them) and the test rows. Raises: InputError when they are not found."""
    found = datasets.mnist(with_test=True)
    assert found.heldout is not None and found.test is not None
    test = found.test if size.n_rows == FULL.n_rows else found.test[:1000]
    return Images(np.concatenate([found.train, found.heldout])[: size.n_rows], test)


def machine(condition: str, per_epoch: int) -> Trainer:
    """Trainer of a condition; rate and decay are traced, so that all fixed temperatures are one program.

    Args:
        condition: one of `CONDITIONS`.
        per_epoch: updates per epoch.
    """
    regulators: tuple[Any, ...] = ()
    if condition == "published":
        regulators = (EndogenousTemperature(per_epoch),)
    elif condition == "thermostat":
        regulators = (Thermostat(0.1),)
    rescale = FIXED if condition == "gauge" else 1.0
    trainer = Trainer(
        BlockGibbs(),
        MaximumLikelihood(beta_power=0, l2=DECAY),
        _sgd,
        regulators,
        n_walkers=WALKERS,
        batch_size=BATCH,
        auditor_groups=0,
        feedback="off",
    )
    beta = 1 / FIXED if condition == "fixed-0.9225" else 1.0
    numbers = (DECAY * rescale, beta, RATE / rescale)
    return eqx.tree_at(
        lambda t: (t.rule.l2, t.controls.beta, t.controls.lr_scale),
        trainer,
        tuple(jnp.asarray(number, float) for number in numbers),
    )


_sgd = optax.sgd(1.0)


def opened(key: Key, condition: str, size: Size) -> tuple[Trainer, TrainState]:
    """Trainer and state at the start; conditions of one key share start and random numbers."""
    scale = SCALE / FIXED if condition == "gauge" else SCALE
    model = RBM.initialise(named(key, "model"), 784, size.n_hidden, weight_scale=scale)
    trainer = machine(condition, size.n_rows // BATCH)
    return trainer, trainer.init(named(key, "run"), model)


def run(key: Key, condition: str, data: Images, size: Size, path: Path | None) -> Finished:
    """One run, from its start or from where its file ends, trained and judged.

    Args:
        key: of the seed.
        condition: one of `CONDITIONS`.
        data: images.
        size: how much.
        path: file of the run, None to keep it in memory.

    Raises:
        RunFailure: the run ended by name.
    """
    trainer, state = opened(key, condition, size)
    rows: list[list[Any]] = []
    judged: dict[str, float | None] = {}
    if path is not None and path.exists():
        archive = Archive(path)
        state = checkpoint.fill(state, archive)
        rows, judged = archive.meta["rows"], archive.meta["judged"]
    x, per_epoch = jnp.asarray(data.train, float), size.n_rows // BATCH

    def save() -> None:
        if path is not None:
            checkpoint.save(path, {"": state}, {"rows": rows, "judged": judged})

    while len(rows) < size.n_epochs:
        began, epoch = time.perf_counter(), len(rows)
        state = jax.block_until_ready(run_chunk(trainer, state, x, jnp.asarray((epoch + 1) * per_epoch, jnp.int32)))
        if int(state.result):
            result = RESULTS(int(state.result))
            raise RunFailure(f"{condition} in epoch {epoch}: {result.message}", result=result.name)
        rows.append(_row(epoch, state, time.perf_counter() - began))
        if len(rows) % size.save_every == 0 or len(rows) == size.n_epochs:
            save()
            _show(path, condition, rows[-1], size)
    if not judged:
        judged = judge(named(key, "judge"), state, data, size)
        save()
    return Finished(np.array(rows, float), judged)


def _row(epoch: int, state: TrainState, seconds: float) -> list[Any]:
    """An epoch: T is the one it was trained at, reference and gap are those that led to it."""
    found = temperature_row(state)
    numbers = (found["temperature"], found["smoothed_signal"], found["norm_over_t"], found["gap"])
    return [epoch, float(state.ledger.rate("flip_rate")), *numbers, seconds]


def _show(path: Path | None, condition: str, row: list[Any], size: Size) -> None:
    if path is None:
        return
    left = (size.n_epochs - row[0] - 1) * row[-1] / 60
    print(
        f"{path.stem} ({condition}) epoch {row[0] + 1:.0f}/{size.n_epochs}  flips {row[1]:.4f}  T {row[2]:.4f}  "
        f"|W|/T {row[4]:.2f}  {row[-1]:.1f} s per epoch, {left:.0f} min left",
        file=sys.stderr,
        flush=True,
    )


def judge(key: Key, state: TrainState, data: Images, size: Size) -> dict[str, float | None]:
    """Bracketed likelihood of the test rows (right sign), reconstruction error and norms of a trained model."""
    model: Any = state.model
    beta, x = float(state.controls.beta), state.ensemble.x
    n, bracket = size.n_temperatures, None
    for attempt in range(2):
        bracket = log_partition_bracket(
            named(key, f"bracket {attempt}"), model, data.train, beta=beta, n_temperatures=n, n_chains=size.n_chains,
            n_equilibrate=size.n_equilibrate,
        )  # fmt: skip
        if bracket.gap is not None and abs(bracket.gap) < 0.5 or size is QUICK:
            break
        n = MORE_TEMPERATURES * (n - 1) + 1
    assert bracket is not None
    test, train = (log_likelihood(model, rows, bracket, beta=beta) for rows in (data.test, data.train[:10_000]))
    spectral = float(np.linalg.norm(np.asarray(model.weights, np.float64), 2)) * beta
    return {
        "log_z": bracket.forward.value,
        "log_z_stderr": bracket.forward.stderr,
        "gap": bracket.gap,
        "gap_stderr": bracket.gap_stderr,
        "ll_test": test.value.value,
        "ll_test_lower": None if test.lower is None else test.lower.value,
        "ll_train": train.value.value,
        "ess": bracket.forward.ess,
        "reconstruction": reconstruction_error(model, data.test, beta),
        "norm": float(jnp.linalg.norm(model.weights)),
        "norm_over_t": float(jnp.linalg.norm(model.weights)) * beta,
        "spectral_over_t": spectral,
        "temperature": 1 / beta,
        "free_energy_chains": float(jnp.mean(jax.vmap(lambda v: model.reduced(v, beta))(x))),
    }
