"""PCD-1 training of an RBM on thresholded MNIST at fixed, published and regulated temperature, resumable.

784 x 512 binary units, `W ~ N(0, 0.05^2)`, no biases; 128 persistent chains from coin tosses, one sweep per update,
batches of 128, rate 5e-4, decay 1e-4 of the weights alone, 400 epochs of 468 updates. The gradient leaves the factor
1/T out, as the published code does. Six conditions:

    fixed-1        T = 1
    fixed-0.9225   T where the published law ends
    gauge          T = 1 with start sigma / 0.9225, rate eta / 0.9225, decay 0.9225 lambda: the same run, rewritten
    published      `EndogenousTemperature`
    thermostat     `Thermostat` with flips kept above 0.1 per unit
    replicas       T = 1, fewer chains, each a stack of replicas in earlier ages of the same training

How well the chains of the final model mix is told by the autocorrelation time of their free energy and by a bound on
the conductance of a sweep: the least flow across the median of the free energy or of a principal component of the data.

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
from quasistatic.energies import RBM, Potential
from quasistatic.errors import RunFailure
from quasistatic.evaluate import (
    autocorrelation_time,
    conductance_bound,
    log_likelihood,
    log_partition_bracket,
    reconstruction_error,
    run_chains,
    split_r_hat,
)
from quasistatic.kernels import BlockGibbs
from quasistatic.kernels.base import AbstractKernel
from quasistatic.kernels.exchange import Exchange
from quasistatic.regulators import EndogenousTemperature, Thermostat
from quasistatic.rules import MaximumLikelihood
from quasistatic.run import Archive
from quasistatic.thermo import as_samples
from quasistatic.thermo.replicas import round_trips
from quasistatic.train import checkpoint
from quasistatic.train.ascent import Ascent, Steering, with_kernel
from quasistatic.train.state import TrainState
from quasistatic.train.step import run_chunk
from quasistatic.train.tempered import temperature_row
from quasistatic.train.trainer import Trainer
from quasistatic.train.trajectory import on_trajectory

FIXED = 0.9225
CONDITIONS = ("fixed-1", "fixed-0.9225", "gauge", "published", "thermostat", "replicas")
COLUMNS = ("epoch", "flip_rate", "temperature", "smoothed", "norm_over_t", "gap", "seconds")
BATCH, WALKERS, RATE, DECAY, SCALE = 128, 128, 5e-4, 1e-4, 0.05
FIRST_RUNGS = (0.2, 0.4, 0.6, 0.8)
"""Of replicas: the initial weights are not small, rungs with so many of them lie below the model at the start."""
N_COMPONENTS = 8
"""Principal components of the data that are watched."""
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
        n_stacks: chains of the condition `replicas`.
        n_watched: sweeps (of stacks: rounds) in which the chains of the final model are watched.
    """

    n_hidden: int
    n_epochs: int
    n_rows: int
    n_seeds: int
    n_temperatures: int
    n_chains: int
    n_equilibrate: int
    save_every: int
    n_stacks: int
    n_watched: int


FULL = Size(512, 400, 60_000, 3, 10_001, 128, 2_000, 5, 32, 2_000)
QUICK = Size(32, 6, 6_000, 1, 301, 32, 100, 3, 32, 100)


class Finished(NamedTuple):
    """A run that is done.

    Attributes:
        rows: one per epoch, columns `COLUMNS`; NaN where there is no number.
        judged: log Z, likelihood and its bracket, reconstruction error, norms and mixing of the final model.
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


def machine(condition: str, per_epoch: int, n_walkers: int = WALKERS) -> Trainer:
    """Trainer of a condition; rate and decay are traced, so that all fixed temperatures are one program.

    Args:
        condition: one of `CONDITIONS`.
        per_epoch: updates per epoch.
        n_walkers: chains.
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
        n_walkers=n_walkers,
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


def opened(key: Key, condition: str, size: Size) -> tuple[Trainer, RBM]:
    """Trainer and initial model; conditions of one key share start and random numbers."""
    scale = SCALE / FIXED if condition == "gauge" else SCALE
    model = RBM.initialise(named(key, "model"), 784, size.n_hidden, weight_scale=scale)
    if condition != "replicas":
        return machine(condition, size.n_rows // BATCH), model
    trainer = on_trajectory(machine(condition, size.n_rows // BATCH, size.n_stacks), model)
    kernel: Any = trainer.kernel
    ladder = kernel.ladder
    for share in FIRST_RUNGS:
        ladder = ladder.extended(Potential(eqx.tree_at(lambda m: m.weights, model, share * model.weights), 1.0))
    return with_kernel(trainer, Exchange(kernel.inner, ladder)), model


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
    trainer, model = opened(key, condition, size)
    x, per_epoch, own = jnp.asarray(data.train, float), size.n_rows // BATCH, named(key, "run")
    ascent = Ascent(own, trainer, Steering(every=per_epoch)) if condition == "replicas" else None
    state = trainer.init(own, model)
    rows: list[list[Any]] = []
    judged: dict[str, float | None] = {}
    if path is not None and path.exists():
        archive = Archive(path)
        state = checkpoint.fill(state, archive) if ascent is None else ascent.restored(archive, model)
        rows, judged = archive.meta["rows"], archive.meta["judged"]
    elif ascent is not None:
        ascent.begin(state)

    def save() -> None:
        if path is not None:
            trees, meta = ({}, {}) if ascent is None else ascent.saved()
            checkpoint.save(path, {"": state, **trees}, {"rows": rows, "judged": judged, **meta})

    while len(rows) < size.n_epochs:
        began, epoch = time.perf_counter(), len(rows)
        stop = (epoch + 1) * per_epoch
        if ascent is None:
            state = jax.block_until_ready(run_chunk(trainer, state, x, jnp.asarray(stop, jnp.int32)))
        else:
            state = ascent.advanced(state, x, stop)
        if int(state.result):
            result = RESULTS(int(state.result))
            raise RunFailure(f"{condition} in epoch {epoch}: {result.message}", result=result.name)
        rows.append(_row(epoch, state, time.perf_counter() - began))
        if len(rows) % size.save_every == 0 or len(rows) == size.n_epochs:
            save()
            _show(path, condition, rows[-1], size)
    if not judged:
        kernel = trainer.kernel if ascent is None else ascent.kernel
        judged = judge(named(key, "judge"), state, kernel, data, size)
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


def judge(key: Key, state: TrainState, kernel: AbstractKernel, data: Images, size: Size) -> dict[str, float | None]:
    """Bracketed likelihood of the test rows (right sign), reconstruction error, norms and mixing of a trained model."""
    model: Any = state.model
    beta, x = float(state.controls.beta), as_samples(kernel, state.ensemble).x
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
        **mixing(named(key, "mixing"), state, kernel, data, size.n_watched),
    }


def mixing(key: Key, state: TrainState, kernel: AbstractKernel, data: Images, n: int) -> dict[str, float | None]:
    """How the chains of a training go on under its final model, by sweep (of stacks: by round).

    Args:
        key: random key.
        state: the end of the training.
        kernel: its kernel.
        data: images.
        n: sweeps.

    Returns:
        Mean free energy, its autocorrelation time and R-hat in the later half; the bound on the conductance; rungs and
        round trips of stacks (1 and None of plain chains).
    """
    rows = data.train[:10_000].astype(np.float64)
    _, directions = np.linalg.eigh(np.cov(rows, rowvar=False))
    components = jnp.asarray(directions[:, -N_COMPONENTS:], float)
    seen = run_chains(
        key, kernel, Potential(state.model, state.controls.beta), state.ensemble, n_records=n,
        observe=lambda v: v @ components,
    )  # fmt: skip
    later = seen.u[n // 2 :]
    flow = conductance_bound(np.concatenate([seen.u[..., None], seen.observed], -1))
    time, is_stack = autocorrelation_time(later), kernel.n_replicas > 1
    r_hat = split_r_hat(later)
    return {
        "free_energy_long": float(later.mean()),
        "tau": time.value,
        "tau_stderr": time.stderr,
        "r_hat": r_hat if np.isfinite(r_hat) else None,
        "conductance": flow.value,
        "conductance_stderr": flow.stderr,
        "n_rungs": kernel.n_replicas,
        "round_trips": round_trips(seen.ensemble)[0] if is_stack else None,
    }
