"""Books across resampling: continuous, complete, and unbiased for Z on average."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.kernels import Langevin
from quasistatic.thermo import Controls, Ensemble, advance
from tests.laws.battery import (
    CASES,
    METHODS,
    driven,
    label,
    log_mean_with_error,
    opened,
    quick_jit,
    refreshed,
    resampled,
    step,
)
from tests.laws.gaussian import PROTOCOLS, potential_at

PATH = (0.6, 0.2, 1.0)


def worked(case, key):
    """Walkers with uneven weights, evaluated last by a switch."""
    return refreshed(case, driven(key, case, opened(case, key), PATH), PATH[-1])[0]


@pytest.mark.parametrize("case", CASES, ids=label)
def test_free_energy_is_continuous_and_caches_follow(case, key):
    before = worked(case, key)
    after = resampled(key, before, method=METHODS[CASES.index(case) % 4])
    assert float(jnp.std(before.log_weight())) > 0.02 and not np.any(after.log_weight())
    assert len(np.unique(after.account.work.value)) < 0.99 * len(np.unique(before.account.work.value))
    np.testing.assert_allclose(after.log_partition_groups(), before.log_partition_groups(), atol=1e-12)
    # A switch that changes nothing finds nothing to book, exactly: every cached number belongs to its walker.
    same, work = refreshed(case, after, PATH[-1])
    assert not np.any(work) and not np.any(same.log_weight())


@pytest.mark.parametrize("case", CASES, ids=label)
def test_nothing_to_book_at_the_start(case, key):
    ensemble = opened(case, key)
    same, work = refreshed(case, ensemble, 0.0)
    assert np.abs(work).max() <= 1e-14 and np.abs(same.log_weight()).max() <= 1e-14
    np.testing.assert_allclose(ensemble.log_partition_groups(), case.log_z(0.0), atol=1e-13)


def test_saboteur_potential_left_behind(key):
    case = CASES[0]
    before = worked(case, key)
    stale = eqx.tree_at(lambda e: e.u, resampled(key, before), before.u)
    same, _ = refreshed(case, stale, PATH[-1])
    assert float(jnp.abs(same.log_weight()).max()) > 0.1


def test_only_due_groups_are_resampled(key):
    """Groups of high effective sample size keep their walkers, weights and books to the bit."""
    case = CASES[4]
    before = worked(case, key)
    below = float(np.median(before.ess()))
    after = resampled(key, before, below)
    is_due = np.asarray(before.ess()) < below
    assert 0 < is_due.sum() < before.n_groups
    is_cleared = ~np.any(before.by_group(after.log_weight()), axis=1)
    np.testing.assert_array_equal(is_cleared, is_due)
    kept = np.repeat(~is_due, before.n_walkers // before.n_groups)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True):
        if a.shape[:1] == (before.n_walkers,):
            np.testing.assert_array_equal(a[kept], b[kept])
    np.testing.assert_allclose(after.log_partition_groups(), before.log_partition_groups(), atol=1e-12)


@quick_jit
def protocol_with_resampling(key, method, below=0.5, is_broken=False):
    """Protocol B in 2,000 groups of 50 walkers, resampled on the way."""
    protocol, kernel, n_groups = PROTOCOLS["B"], Langevin(is_fused=True), 2_000
    path = jnp.asarray(np.stack([protocol.curvature, protocol.mean, protocol.beta], 1))
    start, controls = potential_at(*path[0]), Controls.of(step_size=protocol.step_size)
    x = start.energy.sample_exact(key, start.beta, 50 * n_groups)
    ensemble = Ensemble.open(kernel, start, x, n_groups=n_groups, log_z=start.energy.log_partition(start.beta))

    def update(carry, k):
        ensemble, n_events = carry
        key_move, key_resample = jax.random.split(jax.random.fold_in(key, k))
        ensemble, _, _ = advance(key_move, kernel, potential_at(*path[k]), ensemble, controls)
        after, n = ensemble.resampled(key_resample, below=below, method=method)
        if is_broken:  # weights cleared without a trace in log Z
            after = eqx.tree_at(lambda e: e.log_z, after, ensemble.log_z)
        return (after, n_events + n), None

    (ensemble, n_events), _ = jax.lax.scan(update, (ensemble, 0), jnp.arange(1, len(path)))
    log_ratio = ensemble.log_partition_groups() - start.energy.log_partition(start.beta)
    return log_ratio, n_events, ensemble.weights(), ensemble.x[:, 0]


@pytest.mark.parametrize("method", METHODS)
def test_mean_of_z_is_exact_with_resampling(method):
    """`E[Z] = Z` whatever the population size, and weighted averages across groups follow the law."""
    log_ratio, n_events, weights, x = protocol_with_resampling(jax.random.key(9), method)
    log_mean, error = log_mean_with_error(log_ratio)
    assert int(n_events) > 2_000
    print(f"{method}: log mean Z = {log_mean:+.4f} +- {error:.4f}, {int(n_events)} resamplings")
    assert abs(log_mean) < 4.5 * error and error < 0.03
    by_group = np.asarray(weights * x).reshape(2_000, 50).sum(1), np.asarray(weights).reshape(2_000, 50).sum(1)
    mean = by_group[0].sum()
    mean_error = np.sqrt(((by_group[0] - mean * by_group[1]) ** 2).sum())
    assert abs(mean - 2.0) < 4.5 * mean_error < 0.3


def test_saboteur_weights_cleared_without_booking():
    log_ratio, _, _, _ = protocol_with_resampling(jax.random.key(9), "systematic", is_broken=True)
    log_mean, error = log_mean_with_error(log_ratio)
    assert abs(log_mean) > 10 * error


@pytest.mark.parametrize("case", [CASES[0], CASES[4], CASES[-1]], ids=label)
def test_mean_of_z_with_resampling_after_every_step(case):
    key, ensemble = jax.random.key(92), opened(case, jax.random.key(91))
    for i, s in enumerate((0.5, 0.1, 1.0)):
        ensemble = step(jax.random.fold_in(key, i), case, ensemble, s)
        ensemble = resampled(jax.random.fold_in(key, 100 + i), ensemble)
    log_ratio = np.asarray(ensemble.log_partition_groups()) - case.log_z(1.0)
    log_mean, error = log_mean_with_error(log_ratio)
    assert abs(log_mean) < 4.5 * error < 0.1
