"""The estimated bias of the driver's log Z is the bias that is measured, where the true log Z is known.

First the mean of a Gaussian in 20 dimensions, learned from data at 0, where it already is: the true log Z never
changes, and the published run has -0.937 +- 0.016 nats for the driver and +0.019 +- 0.008 for an auditor. Then a small
RBM whose log Z is enumerated, with momentum and without.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import quasistatic as qs
from quasistatic.energies import AbstractTractable
from quasistatic.evaluate.exact import log_partition_exact
from quasistatic.train import run_chunk
from quasistatic.train.feedback import BLOCK

D, STEP, N_UPDATES, N_SEEDS = 20, 0.1, 2000, 8
# the fused move measures work at both of its ends: at unit curvature the part of the noise that it sees of an update
SEEN = 1 / (1 + STEP**2)


class Located(AbstractTractable):
    """`E(x) = |x - m|^2 / 2`; only the mean is learnt."""

    mean: jax.Array

    def __call__(self, x):
        return 0.5 * jnp.sum((x - self.mean) ** 2)

    def log_partition(self, beta):
        return 0.5 * self.mean.size * jnp.log(2 * jnp.pi / beta)

    def sample_exact(self, key, beta, n):
        return self.mean + jax.random.normal(key, (n, self.mean.size)) / jnp.sqrt(beta)


@functools.cache
def published(n_walkers, order, n_updates=N_UPDATES):
    """Per seed: errors of log Z of driver and auditor, estimated bias and its standard error."""
    trainer = qs.jarzynski(
        qs.Langevin(is_fused=True), optax.sgd(0.005), step_size=STEP, resample_below=0.0, n_walkers=n_walkers,
        auditor_groups=16, auditor_walkers=4, feedback=order,
    )  # fmt: skip
    model = Located(jnp.zeros(D))
    truth, data = float(model.log_partition(1.0)), jnp.zeros((2, D))

    @jax.jit
    @jax.vmap
    def run(key):
        state = run_chunk(trainer, trainer.init(key, model), data, jnp.asarray(n_updates, jnp.int32))
        driver = state.ensemble.log_partition_groups()[0]
        auditor = jax.nn.logsumexp(state.auditor.log_partition_groups()) - jnp.log(16)
        feedback = state.feedback
        errors = jnp.stack([driver - truth, auditor - truth, feedback.bias.value, feedback.stderr()])
        return errors, feedback.n_blocks, state.result

    found, n_blocks, result = map(np.asarray, run(jax.vmap(jax.random.key)(jnp.arange(N_SEEDS))))
    assert np.all(n_blocks == n_updates // BLOCK) and not np.any(result)
    return found


def mean_with_error(values):
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))


def explains(measured, estimated):
    """Whether estimates agree with what was measured in the same runs: their difference is 0 within its error."""
    difference, error = mean_with_error(np.asarray(estimated) - np.asarray(measured))
    print(f"measured {mean_with_error(measured)}, estimated {mean_with_error(estimated)}")
    print(f"difference {difference:+.4f} +- {error:.4f}")
    return abs(difference) < 4 * error


FEW = 100, "path", 1000  # the bias of the published run, -eta d / N per update, at a quarter of the cost
PUBLISHED = [(FEW, None, None), ((200, "path"), -0.937, 0.016), ((400, "path"), -0.460, 0.016)]


@pytest.mark.slow
@pytest.mark.parametrize("setting, bias, bias_error", PUBLISHED, ids=["100", "200", "400"])
def test_the_estimate_is_the_measured_bias(setting, bias, bias_error):
    driver, auditor, estimate, stderr = published(*setting).T
    assert explains(driver, SEEN * estimate)
    for found in (driver, SEEN * estimate):
        mean, error = mean_with_error(found)
        assert mean < -10 * error
        assert bias is None or abs(mean - bias) < 4 * np.hypot(error, bias_error)
    mean, error = mean_with_error(auditor)
    assert abs(mean) < 4 * error < 0.2
    # the standard error of one run is the spread between runs, as far as so few runs can tell
    low, high = stats.chi2.ppf([5e-4, 1 - 5e-4], N_SEEDS - 1)
    assert low < (N_SEEDS - 1) * np.var(estimate, ddof=1) / np.mean(stderr) ** 2 < high


@pytest.mark.slow
def test_the_cheap_order_is_the_published_formula():
    """`update` leaves out what parameters remember: `-eta d / (N ess)` per update, a few per cent more."""
    driver, _, estimate, _ = published(200, "update").T
    predicted = -0.005 * D / 200 * N_UPDATES
    mean, error = mean_with_error(estimate)
    assert abs(mean - predicted) < 4 * error < 0.06
    rest, error = mean_with_error(SEEN * estimate - driver)
    print(f"not remembered {rest:+.4f} +- {error:.4f}")
    # rate times curvature times the memory of the walkers, (1 - h) / h updates
    assert abs(rest - predicted * 0.005 * (1 - STEP) / STEP) < 4 * error


@pytest.mark.parametrize("factor", [-1.0, 0.5, 2.0], ids=["sign", "half", "double"])
def test_saboteur_wrong_estimates(factor):
    driver, _, estimate, _ = published(*FEW).T
    assert explains(driver, SEEN * estimate)
    assert not explains(driver, factor * SEEN * estimate)


def data():
    """Rows of seven units with two common causes."""
    rng = np.random.default_rng(3)
    hidden = rng.random((300, 2)) < [0.7, 0.25]
    logits = rng.normal(size=7) + hidden @ rng.normal(scale=2.0, size=(2, 7))
    return jnp.asarray(rng.random((300, 7)) < 1 / (1 + np.exp(-logits)), float)


OPTIMISERS = {"plain": optax.sgd(0.1), "momentum": optax.sgd(0.02, momentum=0.8)}


@functools.cache
def trained(optimiser, order, centred=False):
    """Per seed: errors of the driver's log Z of an RBM, estimated biases."""
    trainer = qs.jarzynski(
        qs.BlockGibbs(), OPTIMISERS[optimiser], k=2, n_walkers=80, n_groups=2, batch_size=100, auditor_groups=0,
        feedback=order, centred=centred, controls=qs.Controls.of(beta=0.7),
    )  # fmt: skip
    found = []
    for seed in range(10):
        model = qs.RBM.initialise(jax.random.key(1), 7, 3, data=data(), weight_scale=0.3)
        state = run_chunk(trainer, trainer.init(jax.random.key(seed), model), data(), jnp.asarray(600, jnp.int32))
        driver = float(jax.nn.logsumexp(state.ensemble.log_partition_groups()) - jnp.log(2))
        found.append([driver - log_partition_exact(state.model, 0.7), float(state.feedback.bias.value)])
    return np.array(found)


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_trained_rbm(optimiser):
    """Minibatches, Gibbs moves, resampling in two groups, beta 0.7; log Z by enumeration."""
    driver, estimate = trained(optimiser, "path").T
    assert explains(driver, estimate)
    assert np.mean(estimate) < -10 * mean_with_error(estimate)[1]
    assert not explains(driver, -estimate)
