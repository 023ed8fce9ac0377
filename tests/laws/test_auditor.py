"""Why no decision may read the auditor: sweeps chosen from its own ESS bias its Z.

Many independent small populations follow the same prescribed path of an RBM. With prescribed sweeps the mean of Z is
exact; when every population chooses its sweeps from its own effective sample size, it is not.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import quasistatic as qs
from quasistatic.evaluate.exact import log_partition_exact

N_STEPS, N_POPULATIONS, N_WALKERS = 3, 100_000, 2


def model_at(fraction):
    rbm = qs.RBM.initialise(jax.random.key(5), 3, 2, weight_scale=1.0)
    weights = jnp.asarray([[1.9, -0.4], [-2.3, 1.2], [0.8, 2.6]]) * 1.6 * fraction
    return rbm.__class__(
        weights, jnp.array([0.6, -1.0, 0.2]), jnp.array([-0.8, 0.5]) * fraction, rbm.visible, rbm.hidden
    )


@jax.jit
def ratios(keys, low, high, exact):
    """`Z / Z_exact` of populations that take `low` sweeps at a step where their ESS fraction is below 0.9, else `high`.

    With `low = high` the sweeps are prescribed.
    """
    kernel, beta = qs.BlockGibbs(), 0.7
    start = qs.Potential(model_at(0.0), beta)

    def population(key):
        ensemble = qs.open_at_law(key, kernel, start, model_at(0.0).base(), n_walkers=N_WALKERS, n_groups=1)

        def step(i, ensemble):
            potential = qs.Potential(model_at((i + 1) / N_STEPS), beta)
            ensemble, _ = qs.switch(kernel, potential, ensemble)
            n_sweeps = jnp.where(ensemble.ess()[0] < 0.9, low, high).astype(jnp.int32)
            controls = eqx.tree_at(lambda c: c.n_sweeps, qs.Controls.of(beta=beta), n_sweeps)
            return qs.relax(jax.random.fold_in(key, i), kernel, potential, ensemble, controls)[0]

        ensemble = jax.lax.fori_loop(0, N_STEPS, step, ensemble)
        return jnp.exp(ensemble.log_partition_groups()[0] - exact)

    return jax.vmap(population)(keys)


def mean_z(low, high, seed=11):
    """Mean and standard error over populations."""
    exact = jnp.asarray(log_partition_exact(model_at(1.0), 0.7))
    z = np.asarray(ratios(jax.random.split(jax.random.key(seed), N_POPULATIONS), low, high, exact))
    return z.mean(), z.std(ddof=1) / np.sqrt(len(z))


@pytest.mark.parametrize("n_sweeps", [1, 4])
def test_prescribed_sweeps_give_the_exact_z(n_sweeps):
    mean, stderr = mean_z(n_sweeps, n_sweeps)
    assert abs(mean - 1) < 4 * stderr
    assert stderr < 0.01


def test_saboteur_sweeps_chosen_by_its_own_ess():
    """The more it relaxes when its weights look bad, the more its own Z is off."""
    mean, stderr = mean_z(12, 0)
    assert abs(mean - 1) > 6 * stderr
