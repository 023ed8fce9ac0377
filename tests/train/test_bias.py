"""Bias of the likelihood = excess work, for every driver: persistent, restarted, resampled, started at the data.

Walkers of each gradient are collected one update at a time and weighed by hand; the ledger of an uninterrupted run must
say the same to rounding, and `log Z` by enumeration (or in closed form) turns it into the bias.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic.datasets import Dataset
from quasistatic.dissipation import bounds
from quasistatic.evaluate.exact import log_partition_exact
from quasistatic.train.dissipated import excess_work
from quasistatic.train.record import live_log_z
from quasistatic.train.step import settle, step
from tests.laws import battery

quick_jit: Any = battery.quick_jit

BETA, N_STEPS, N_WALKERS = 0.7, 30, 2400
OPTIONS = dict(n_walkers=N_WALKERS, auditor_groups=32, auditor_walkers=64)
CONTROLS = qs.Controls.of(beta=BETA, step_size=0.1)


def trainer_of(name, **more):
    options = {**OPTIONS, "controls": CONTROLS, **more}
    if name == "from data":  # plain Langevin walkers, put at the data once: unanchored
        return qs.pcd(qs.Langevin(), optax.sgd(0.05), regulators=(qs.Restart("data", every=N_STEPS + 1),), **options)
    if name == "resampled":
        return qs.jarzynski(qs.BlockGibbs(), optax.sgd(0.3), resample_below=0.999, **options)
    return getattr(qs, name)(qs.BlockGibbs(), optax.sgd(0.3), **options)


def gaussian_parts():
    data = 0.5 + 0.6 * jax.random.normal(jax.random.key(7), (50, 2))
    return qs.Gaussian.from_covariance(jnp.array([0.3, -1.0]), jnp.array([[1.2, 0.3], [0.3, 0.8]])), data


def rbm_parts():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=7) + (rng.random((300, 2)) < [0.7, 0.25]) @ rng.normal(scale=2.0, size=(2, 7))
    data = jnp.asarray((rng.random((300, 7)) < 1 / (1 + np.exp(-logits))), float)
    return qs.RBM.initialise(jax.random.key(0), 7, 3, data=np.asarray(data), weight_scale=0.5), data


@quick_jit
def _mean_u(model, x):
    return jnp.mean(jax.vmap(lambda row: model.reduced(row, BETA))(x))


def mean_u(model, x):
    return float(_mean_u(model, x))


def log_z_of(model):
    return log_partition_exact(model, BETA) if isinstance(model, qs.RBM) else float(model.log_partition(BETA))


CASES = ["cd", *(pytest.param(name, marks=pytest.mark.slow) for name in ("pcd", "resampled", "from data"))]


@functools.cache
def case(name):
    """Start and end of a run, and its approximate and true log-likelihood from the walkers of each gradient."""
    trainer = trainer_of(name)
    model, data = gaussian_parts() if name == "from data" else rbm_parts()
    start = state = trainer.init(jax.random.key(1), model)
    one_step = quick_jit(step)
    approximate = true = -mean_u(model, data) - log_z_of(model)
    for _ in range(N_STEPS):
        new = one_step(trainer, state, data)
        x = new.ensemble.x
        gain = mean_u(new.model, x) - mean_u(state.model, x)
        approximate += gain - (mean_u(new.model, data) - mean_u(state.model, data))
        state = new
    true = -mean_u(state.model, data) - log_z_of(state.model)
    return trainer, start, quick_jit(settle)(trainer, state), approximate, true


@pytest.mark.parametrize("name", CASES)
def test_identity(name):
    """Approximate - true = work booked before anything is replaced - free-energy change, to rounding."""
    _, start, final, approximate, true = case(name)
    booked = float(jnp.mean(final.ledger.switch_work.value - start.ledger.switch_work.value))
    excess = booked + log_z_of(final.model) - log_z_of(start.model)
    assert abs(approximate - true - excess) < 1e-10
    assert abs(excess) > 1e-3
    # saboteur: the books of the walkers that go on, where walkers were replaced
    carried = float(final.ledger.work.value - start.ledger.work.value)
    assert (abs(carried - booked) > 1e-4) == (name in ("cd", "resampled"))
    assert bool(final.ensemble.anchored) == (name in ("pcd", "resampled"))


@pytest.mark.parametrize("name", CASES)
def test_live_excess_work(name):
    """The auditor's free energy turns it into a live number, right within its standard error."""
    trainer, start, final, approximate, true = case(name)
    live = live_log_z(final.auditor, final.auditor_ledger)
    log_z_start = float(trainer.starting_law(start.model).log_partition(BETA))
    found = excess_work(final.ledger, live, log_z_start)
    opening = float(jnp.mean(start.ledger.switch_work.value)) + log_z_of(start.model) - log_z_start
    exact = approximate - true + opening  # of these very walkers: only log Z is uncertain
    assert abs(found.value - exact) < 4.5 * live.stderr
    assert found.stderr > live.stderr
    weighted = -(float(final.ensemble.log_partition_groups()[0]) - log_z_of(final.model))
    print(f"{name}: bias {exact:+.3f} without weights, {weighted:+.3f} with, live {found.value:+.3f}")
    if name == "resampled":  # weights remove the bias, up to the feedback of a finite population
        assert abs(weighted) < 0.25 * exact


@pytest.mark.slow
def test_start_at_the_data_gains_work():
    """Walkers put at the data are out of equilibrium: the switches gain work, no more than `D(0)` in all."""
    _, start, _, approximate, true = case("from data")
    data = np.asarray(gaussian_parts()[1])
    model, precision = start.model, start.model.precision_factor @ start.model.precision_factor.T
    d_start = bounds.gaussian_divergence(
        data.mean(0), np.cov(data.T), np.asarray(model.mean), np.linalg.inv(precision) / BETA
    )
    print(f"excess work {approximate - true:.4f}, D(0) {d_start:.3f}")
    assert -d_start < approximate - true < 0


def fitted(trainer, model, data, n_steps=20):
    kind = "binary" if isinstance(model, qs.RBM) else "real"
    dataset = Dataset("made up", np.asarray(data, np.float32), None, None, None, kind, {})
    return qs.fit(jax.random.key(1), trainer, model, dataset, qs.Plan(n_steps, record_every=10, n_ages=0))


@pytest.mark.slow
def test_metrics_of_restarted_walkers():
    found = fitted(trainer_of("cd"), *rbm_parts())
    row = found.rows[-1]
    assert row["excess_work"] is not None and row["excess_work_stderr"] > row["log_z_stderr"]
    assert abs(row["ll_approximate"] - row["ll_train"] - row["excess_work"]) < 1e-10
    assert row["minimal_work"] > 0
    if row["excess_work"] > 0:
        assert abs(row["efficiency"] * row["excess_work"] - row["minimal_work"]) < 1e-12
    assert found.summary["final"]["efficiency"] == row["efficiency"]


def test_metrics_without_auditor_and_of_the_fused_move():
    """No free energy, no excess work; work that contains shadow work makes no likelihood."""
    trainer = qs.pcd(
        qs.Langevin(is_fused=True), optax.sgd(0.05), **{**OPTIONS, "controls": CONTROLS, "auditor_groups": 0}
    )
    row = fitted(trainer, *gaussian_parts()).rows[-1]
    assert row["excess_work"] is None and row["efficiency"] is None and row["ll_approximate"] is None
    assert row["minimal_work"] > 0


@pytest.mark.slow
def test_least_work_of_a_trap():
    """The set-point law pays `tau / (tau + 2/nu)` of its work for transport; the bound agrees."""
    precision, step, n = 1.3, 0.02, 40  # of the potential u = beta E: relaxation rate 1.3
    trainer = qs.Trainer(
        qs.Langevin(),
        qs.SetPoint(n, 1 - step * precision),
        optax.sgd(1.0),
        **{**OPTIONS, "controls": qs.Controls.of(beta=BETA, step_size=step), "n_walkers": 20_000},
    )
    model = qs.Gaussian(jnp.array([0.3, -1.0]), jnp.sqrt(precision / BETA) * jnp.eye(2))
    found = fitted(trainer, model, np.array([[0.8, -0.1], [1.0, 0.1]]), n_steps=n + 1)
    row = found.rows[-1]
    moved = np.asarray(found.state.ensemble.x).mean(0) - np.array([0.3, -1.0])
    time = (n + 1) * step
    noise = 2 * np.sqrt(moved @ moved * 2 / (precision * 20_000)) / time  # of the two sample means
    assert abs(row["minimal_work"] - moved @ moved / time) < 4.5 * noise < 0.05
    expected = n * step / (n * step + 2 / precision)
    error = row["excess_work_stderr"] / row["excess_work"]
    assert abs(row["predicted_ratio"] - 1) < 4.5 * (error + np.sqrt(2 / 20_000))  # works of a trap are Gaussian
    print(row["minimal_work"], moved @ moved / time, row["excess_work"], row["efficiency"], expected, error)
    assert abs(row["efficiency"] / expected - 1) < 4.5 * error + 2 / n
