"""Walkers that drive the parameters bias their own log Z; independent walkers on the same path do not.

The mean of a Gaussian in 20 dimensions is learned from data at 0, where it already is: the true log Z never changes.
The noise of the driver's gradient moves the mean, and the same noise is in its weights: per update its log Z falls by
about `eta d / N`. The auditor, moved and weighed along the same path but never asked for a gradient, knows the truth.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import Gaussian, Potential
from quasistatic.kernels import Langevin
from quasistatic.thermo import Controls, Ensemble, advance
from tests.laws.battery import log_mean_with_error

D, ETA, N_SEEDS = 20, 0.005, 8


@jax.jit
def learn(keys, x_driver, x_auditor, n_updates):
    """Errors of log Z per seed: driver and auditor."""
    kernel, controls = Langevin(is_fused=True), Controls.of(step_size=0.1)

    def potential(mean):
        return Potential(Gaussian(mean, jnp.eye(D)), 1.0)

    def one_seed(key, *starts):
        both = [Ensemble.open(kernel, potential(jnp.zeros(D)), x, log_z=0.0) for x in starts]

        def update(i, carry):
            mean, both = carry
            keys = jax.random.split(jax.random.fold_in(key, i))
            driver = both[0]
            mean = mean + ETA * (0.0 - driver.weights() @ driver.x)  # eta (data mean - model mean)
            after = potential(mean)
            return mean, [advance(k, kernel, after, e, controls)[0] for k, e in zip(keys, both, strict=True)]

        _, both = jax.lax.fori_loop(0, n_updates, update, (jnp.zeros(D), both))
        return jnp.stack([e.log_partition_groups()[0] for e in both])

    return jax.vmap(one_seed)(keys, x_driver, x_auditor)


def run(n_walkers, n_updates):
    key = jax.random.key(614)
    x = jax.random.normal(key, (2, N_SEEDS, n_walkers, D))  # the mean starts at 0
    errors = np.asarray(learn(jax.random.split(key, N_SEEDS), *x, n_updates))
    return errors.mean(0), errors.std(0, ddof=1) / np.sqrt(N_SEEDS)


@pytest.mark.parametrize(
    "n_walkers, n_updates, published",
    [
        (100, 1000, None),
        pytest.param(200, 2000, -0.937, marks=pytest.mark.slow),
        pytest.param(400, 2000, -0.460, marks=pytest.mark.slow),
    ],
)
def test_the_driver_flatters_itself_and_the_auditor_does_not(n_walkers, n_updates, published):
    (driver, auditor), (driver_error, auditor_error) = run(n_walkers, n_updates)
    print(f"driver {driver:+.3f} +- {driver_error:.3f}, auditor {auditor:+.3f} +- {auditor_error:.3f}")
    predicted = -ETA * D / n_walkers * n_updates
    assert driver < -10 * driver_error
    assert 0.85 < driver / predicted < 1.0
    assert published is None or abs(driver - published) < 4 * np.hypot(driver_error, 0.016)
    assert abs(auditor) < 4 * auditor_error < 0.3


def test_log_mean_with_error_is_calibrated():
    """The standard errors that these laws lean on: their own z-scores are standard."""
    rng = np.random.default_rng(3)
    a = rng.normal(-0.5, 1.0, (2000, 2000))  # mean weight 1
    z = [value / error for value, error in map(log_mean_with_error, a)]
    assert abs(np.mean(z)) < 0.25 and abs(np.std(z) - 1) < 0.1
