"""The compiled step: what the populations may and may not see of each other, and what a chunk leaves behind."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic._results import RESULTS
from quasistatic.evaluate.exact import log_partition_exact
from quasistatic.train import run_chunk
from quasistatic.train.record import live_log_z


def skewed_data(n=300, n_visible=7, seed=3):
    rng = np.random.default_rng(seed)
    hidden = rng.random((n, 2)) < [0.7, 0.25]
    logits = rng.normal(size=n_visible) + hidden @ rng.normal(scale=2.0, size=(2, n_visible))
    return (rng.random((n, n_visible)) < 1 / (1 + np.exp(-logits))).astype(np.float32)


@functools.cache  # equal trainers share one compilation
def small_trainer(constructor=qs.pcd, **options):
    options = {"k": 2, "n_walkers": 60, "batch_size": 50, "auditor_groups": 32, "auditor_walkers": 64, **options}
    options = {"ema": 0.9, "frozen_after": 10, **options}
    controls = qs.Controls.of(beta=0.7)
    return constructor(qs.BlockGibbs(), optax.sgd(0.05), controls=controls, **options)


def start(trainer, seed=0):
    data = skewed_data()
    model = qs.RBM.initialise(jax.random.key(seed), 7, 3, data=data, weight_scale=0.1)
    return trainer.init(jax.random.key(seed + 1), model), jnp.asarray(data, float)


def run(trainer, state, data, *stops):
    for stop in stops:
        state = run_chunk(trainer, state, data, jnp.asarray(stop, jnp.int32))
    return state


def same(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in leaves)


def test_the_driver_never_sees_the_auditor():
    """With an auditor or without: it leaves model, driver and ledger unchanged, bit for bit."""
    finals = []
    for groups in (32, 0):
        trainer = small_trainer(qs.jarzynski, **({} if groups else {"auditor_groups": 0}))
        state, data = start(trainer)
        finals.append(run(trainer, state, data, 40))
    assert same(finals[0].model, finals[1].model)
    assert same(finals[0].ensemble.x, finals[1].ensemble.x)
    # what the test would see if the driver did depend on something: another run key
    trainer = small_trainer(qs.jarzynski)
    state, data = start(trainer)
    state = eqx.tree_at(lambda s: s.key, state, state.key + 1)
    assert not same(finals[0].model, run(trainer, state, data, 40).model)


@pytest.mark.parametrize(
    "constructor",
    [pytest.param(qs.pcd, marks=pytest.mark.slow), pytest.param(qs.cd, marks=pytest.mark.slow), qs.jarzynski],
    ids=["pcd", "cd", "jarzynski"],
)
def test_first_law_and_exact_log_z_after_training(constructor):
    """After a chunk, books close per walker and the auditor's log Z belongs to the stored parameters."""
    trainer = small_trainer(constructor)
    state, data = start(trainer)
    state = run(trainer, state, data, 3, 60)
    for ensemble in (state.ensemble, state.auditor):
        residual = ensemble.account.first_law_residual(ensemble.u)
        assert float(jnp.abs(residual).max()) < 1e-10
        u = jax.vmap(lambda x: state.model.reduced(x, state.controls.beta))(ensemble.x)
        np.testing.assert_allclose(np.asarray(ensemble.u), np.asarray(u), rtol=1e-12)
    estimate = live_log_z(state.auditor, state.auditor_ledger)
    exact = log_partition_exact(state.model, 0.7)
    assert abs(estimate.value - exact) < 4.5 * estimate.stderr
    assert estimate.stderr < 0.05
    assert bool(state.ensemble.anchored) == (constructor is not qs.cd)


def test_chunks_may_be_cut_anywhere():
    """Parameters and walkers do not depend on where chunks end: settling books work, it moves nothing."""
    trainer = small_trainer()
    state, data = start(trainer)
    whole = run(trainer, state, data, 30)
    parts = run(trainer, state, data, 1, 8, 9, 30)
    assert same(whole.model, parts.model)
    assert same(whole.ensemble.x, parts.ensemble.x)
    assert same(whole.auditor.x, parts.auditor.x)


def test_every_row_of_an_epoch_is_used_once():
    """Batches of one epoch partition the data (up to the dropped remainder); epochs differ."""

    class Recorder(qs.AbstractRule):
        def init(self, energy):
            return (jnp.zeros(300), jnp.zeros(300))

        def gradient(self, key, potential, kernel, batch, ensemble, controls, rule_state):
            counts, first = rule_state
            rows = batch[:, 0].astype(int)
            counts = counts.at[rows].add(1.0)
            zero = jax.tree.map(jnp.zeros_like, eqx.filter(potential.energy, eqx.is_inexact_array))
            return zero, {}, (counts, jnp.where(first.sum() == 0, counts, first))

    trainer = qs.Trainer(qs.Langevin(), Recorder(), optax.sgd(0.1), n_walkers=16, batch_size=70, auditor_groups=0)
    model = qs.Gaussian.from_covariance(jnp.zeros(2), jnp.eye(2))
    data = jnp.stack([jnp.arange(300.0), jnp.zeros(300)], axis=1)
    state = trainer.init(jax.random.key(0), model)
    one = run(trainer, state, data, 4)
    counts, first = one.rule_state
    assert float(counts.max()) == 1 and float(counts.sum()) == 280
    two = run(trainer, state, data, 8)
    assert float(two.rule_state[0].sum()) == 560 and float(two.rule_state[0].max()) == 2
    shuffled = two.rule_state[0] - counts
    assert not np.array_equal(np.asarray(shuffled), np.asarray(counts))


def test_failures_are_named():
    trainer = small_trainer()
    state, data = start(trainer)
    broken = eqx.tree_at(lambda s: s.model.weights, state, state.model.weights.at[0, 0].set(jnp.nan))
    assert RESULTS(int(run(trainer, broken, data, 5).result)) == RESULTS.nonfinite_energy
    frozen = eqx.tree_at(lambda s: s.model.visible_bias, state, jnp.full(7, 1e4))
    assert RESULTS(int(run(trainer, frozen, data, 30).result)) == RESULTS.frozen_chains
    assert RESULTS(int(run(trainer, state, data, 30).result)) == RESULTS.ok


def test_parameter_average_follows_the_parameters():
    trainer = small_trainer()
    state, data = start(trainer)
    moved = run(trainer, state, data, 1)
    decay = min(0.9, 1 / 10)
    expected = decay * state.model.weights + (1 - decay) * moved.model.weights
    np.testing.assert_allclose(np.asarray(moved.averaged.weights), np.asarray(expected), rtol=1e-12)
