"""Weighted training while a thermostat acts: every change of beta is work, and log Z(theta, beta) stays exact.

A small skewed RBM, whose log Z is enumerated; the thermostat's set-point is above the natural flip rate, so that T
moves all the time. The beta path is steered by the driver; for the auditor it is given from outside.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic.datasets import Dataset
from quasistatic.evaluate.exact import log_partition_exact
from quasistatic.train import run_chunk
from quasistatic.train.record import live_log_z
from quasistatic.train.step import step

AGES = (20, 60, 150, 400)


def skewed_data(n=300, n_visible=7, seed=3):
    rng = np.random.default_rng(seed)
    hidden = rng.random((n, 2)) < [0.7, 0.25]
    logits = rng.normal(size=n_visible) + hidden @ rng.normal(scale=2.0, size=(2, n_visible))
    return (rng.random((n, n_visible)) < 1 / (1 + np.exp(-logits))).astype(np.float32)


DATA = skewed_data()
EVERY = 5


@functools.cache
def trainer_of(regulator, **options):
    options = {"k": 2, "n_walkers": 128, "batch_size": 50, "auditor_groups": 32, "auditor_walkers": 64} | options
    options = {"feedback": "off"} | options
    return qs.jarzynski(qs.BlockGibbs(), optax.sgd(0.2), regulators=(regulator,), **options)


HEATED = qs.Thermostat(0.36, k_i=0.05, slew=0.1)


def start(trainer, seed):
    model = qs.RBM.initialise(jax.random.key(seed), 7, 3, data=DATA, weight_scale=0.5)
    return trainer.init(jax.random.fold_in(jax.random.key(77), seed), model)


def scores_of(trainer, seeds, ages=AGES):
    """Auditor's z-scores of log Z(theta, beta) by seed and age, those that a wrong beta would give, temperatures."""
    found, wrong, temperatures, inside = [], [], [], []
    for seed in seeds:
        state = start(trainer, seed)
        for age in ages:
            state = run_chunk(trainer, state, jnp.asarray(DATA, float), jnp.asarray(age, jnp.int32))
            assert int(state.result) == 0 and int(state.step) == age
            live, beta = live_log_z(state.auditor, state.auditor_ledger), float(state.controls.beta)
            exact = log_partition_exact(state.model, beta)
            low, high = live.interval(0.95)
            inside.append(low <= exact <= high)
            found.append((live.value - exact) / live.stderr)
            wrong.append((live.value - log_partition_exact(state.model, 1.0)) / live.stderr)
            temperatures.append(1 / beta)
            residual = state.auditor.account.first_law_residual(state.auditor.u)
            assert float(jnp.abs(residual).max()) < 1e-10
    return (np.array(x).reshape(len(seeds), -1) for x in (found, wrong, temperatures, inside))


def test_log_z_is_exact_while_the_thermostat_acts():
    z, wrong, t, _ = scores_of(trainer_of(HEATED), range(3), AGES[1:])
    print("z", z.round(2), "T", t.round(3), "with beta = 1:", wrong.round(1))
    assert t.max() > 1.2 and np.ptp(t, axis=1).min() > 0.05  # it acts, and T moves
    assert np.abs(z).max() < 4
    assert (np.abs(wrong[t > 1.1]) > 20).all()  # saboteur: log Z at a beta that is not the run's


@pytest.mark.slow
@pytest.mark.parametrize("signal, set_point", [("flip_rate", 0.36), ("ess", 0.85), ("excess_work", 0.0004)])
def test_coverage(signal, set_point):
    """60 seeds: the foundation's criterion, for every signal of the driver."""
    thermostat = qs.Thermostat(set_point, signal=signal, k_i=0.05)
    z, _, t, inside = scores_of(trainer_of(thermostat), range(60))
    print(
        signal, "T", t.min(), t.mean(), t.max(), "inside", inside.mean(), "largest", np.abs(z).max(), "mean", z.mean()
    )
    assert t.max() > 1.05
    assert (np.abs(z) < 3).mean() >= 0.97 and abs(inside.mean() - 0.945) < 0.045
    assert abs(z.mean(1).mean()) < 4 * z.mean(1).std(ddof=1) / np.sqrt(60) + 0.3  # log Z is low by s.e.^2 / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "regulator",
    [qs.SpendWork(0.002, relaxation=0.5), qs.SpendWork(0.002), qs.Thermostat(0.0004, signal="excess_work")],
    ids=["response", "weights", "thermostat"],
)
def test_the_ends_of_chunks_are_invisible_to_regulators(regulator):
    """A chunk ends by meeting the new model; the work of that switch is read as that of any other, not as none."""
    trainer = trainer_of(regulator, auditor_groups=0, auditor_walkers=0, resample_below=0.0)
    ends = {}
    for size in (1, 24):
        state = start(trainer, 0)
        for stop in range(size, 25, size):
            state = run_chunk(trainer, state, jnp.asarray(DATA, float), jnp.asarray(stop, jnp.int32))
        ends[size] = float(state.controls.lr_scale), float(state.controls.beta), float(state.ledger.last_excess)
    assert ends[24][:2] != (1.0, 1.0)
    np.testing.assert_allclose(ends[1], ends[24], rtol=1e-9)


class Stepped(qs.AbstractRegulator):
    """Another beta at every step, whatever the driver says."""

    def init(self):
        return None

    def update(self, key, reading, potential, kernel, batch, ensemble, controls, state):
        beta = 0.7 + 0.2 * jnp.sin(1.0 + reading.step)
        return eqx.tree_at(lambda c: c.beta, controls, beta), ensemble, state


@pytest.mark.slow
def test_a_change_of_beta_is_work_for_driver_and_auditor():
    """Nothing is learned: all the work of a step is that of beta, and is booked walker by walker."""
    controls = qs.Controls.of(beta=0.9, lr_scale=0.0)
    trainer = trainer_of.__wrapped__(Stepped(), controls=controls, resample_below=0.0, auditor_below=0.0)
    state, one_step = start(trainer, 0), eqx.filter_jit(step)
    for _ in range(2):
        before, state = state, one_step(trainer, state, jnp.asarray(DATA[:50], float))
        betas = float(before.controls.beta), float(state.controls.beta)
        assert betas[0] != betas[1]
        for name, ledger in (("ensemble", "ledger"), ("auditor", "auditor_ledger")):
            old, new = getattr(before, name), getattr(state, name)
            u = [np.asarray(potentials(before.model, jnp.asarray(beta), old.x)) for beta in betas]
            work = np.asarray(new.account.work.value - old.account.work.value)
            np.testing.assert_allclose(work, u[1] - u[0], rtol=0, atol=1e-11)
            booked = float(getattr(state, ledger).work.value - getattr(before, ledger).work.value)
            assert abs(booked - (u[1] - u[0]).mean()) < 1e-11 < abs(booked)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), before.model.weights, state.model.weights))


potentials = jax.jit(lambda model, beta, x: jax.vmap(qs.Potential(model, beta))(x))


@pytest.mark.slow
def test_metrics_and_resume(tmp_path):
    """Columns about temperature, and a resumed regulated run that repeats an uninterrupted one."""
    dataset = Dataset("made up", DATA, DATA[:40], None, None, "binary", {})
    trainer = trainer_of(HEATED)
    model = start(trainer, 1).model

    def fitted(folder, **plan):
        folder.mkdir(exist_ok=True)
        plan = qs.Plan(60, record_every=20, n_ages=0, checkpoint_every=20, **plan)
        return qs.fit(jax.random.key(1), trainer, model, dataset, plan, folder=folder, resume=True)

    whole = fitted(tmp_path / "a")
    row = whole.rows[-1]
    norm = float(jnp.linalg.norm(whole.state.model.weights))
    assert row["temperature"] > 1 and abs(row["temperature"] * row["beta"] - 1) < 1e-12
    assert abs(row["norm_over_t"] - norm * row["beta"]) < 1e-12 and row["gap"] is None
    assert abs(row["smoothed_signal"] - float(whole.state.regulator_states[1].smoothed)) < 1e-12
    assert fitted(tmp_path / "b", max_minutes=1e-9).is_interrupted
    again = fitted(tmp_path / "b")
    leaves = [jax.tree.leaves((f.state.model, f.state.regulator_states, f.state.controls)) for f in (whole, again)]
    assert all(np.array_equal(a, b) for a, b in zip(*leaves, strict=True))


@pytest.mark.slow
def test_copies_are_audited_at_their_own_beta():
    """Anchors: a copy of the model is annealed at the beta of its step, not at that of the start."""
    trainer = trainer_of(
        qs.Thermostat(0.36, k_i=0.05), auditor_groups=0, auditor_walkers=0,
        anchors=qs.train.anchor.Anchors(n_groups=16, n_walkers=64, share=5.0),
    )  # fmt: skip
    dataset = Dataset("made up", DATA, DATA[:40], None, None, "binary", {})
    found = qs.fit(
        jax.random.key(1), trainer, start(trainer, 1).model, dataset, qs.Plan(150, record_every=50, n_ages=0)
    )
    row, beta = found.rows[-1], float(found.state.controls.beta)
    exact = log_partition_exact(found.state.model, beta)
    live = found.summary["final"]["log_z"]
    print(live, exact, 1 / beta, row["anchor_step"])
    assert beta < 0.95 and abs(live["value"] - exact) < 4 * live["stderr"] < 0.2
    assert abs(live["value"] - log_partition_exact(found.state.model, 1.0)) > 0.3
