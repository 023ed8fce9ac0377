"""Learning is right: a pairwise model trained on exact samples finds the couplings back to the error of its data."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import quasistatic as qs
from quasistatic.train import run_chunk

BETA, N_SPINS, N_DATA = 0.7, 5, 6000
STATES = np.array(list(itertools.product([-1.0, 1.0], repeat=N_SPINS)))


def truth():
    rng = np.random.default_rng(8)
    model = qs.Pairwise.initialise(N_SPINS)
    couplings = jnp.asarray(rng.normal(0.25, 0.6, model.couplings.shape))
    return qs.Pairwise(jnp.asarray(rng.normal(-0.2, 0.4, N_SPINS)), couplings, model.edges, model.units)


def statistics_of(x, edges):
    return np.concatenate([x, x[:, edges[:, 0]] * x[:, edges[:, 1]]], axis=1)


def law(model):
    u = np.array(jax.vmap(lambda x: model.reduced(x, BETA))(jnp.asarray(STATES)))
    p = np.exp(-(u - u.min()))
    return p / p.sum()


def mahalanobis(model, edges, x):
    """`N (theta - theta*)' F (theta - theta*)` with the Fisher matrix `F = beta^2 Cov(statistics)` of the truth."""
    p = law(truth())
    phi = statistics_of(STATES, edges)
    centred = phi - p @ phi
    fisher = BETA**2 * (centred.T * p) @ centred
    difference = np.concatenate(
        [np.asarray(model.fields - truth().fields), np.asarray(model.couplings - truth().couplings)]
    )
    return len(x) * difference @ fisher @ difference


# the walkers of the last one move in every fourth update only
lazily = functools.partial(qs.jarzynski, n_moved=500)


@pytest.mark.parametrize(
    "constructor",
    [pytest.param(qs.pcd, marks=pytest.mark.slow), qs.jarzynski, pytest.param(lazily, marks=pytest.mark.slow)],
    ids=["pcd", "jarzynski", "lazily"],
)
def test_couplings_are_found_to_the_error_of_the_data(constructor):
    p, edges = law(truth()), np.asarray(truth().edges)
    x = STATES[np.random.default_rng(1).choice(len(STATES), N_DATA, p=p)]
    rate = optax.linear_schedule(0.3, 0.0, 300, 300)
    trainer = constructor(
        qs.Gibbs(), optax.sgd(rate), k=2, n_walkers=2000, auditor_groups=0, controls=qs.Controls.of(beta=BETA)
    )
    state = trainer.init(jax.random.key(2), qs.Pairwise.initialise(N_SPINS, data=x))
    start = mahalanobis(state.model, edges, x)
    state = run_chunk(trainer, state, jnp.asarray(x), jnp.asarray(600, jnp.int32))
    found = mahalanobis(state.model, edges, x)
    # the maximum-likelihood estimate has a chi-squared distance from the truth, with one degree per parameter
    low, high = stats.chi2.ppf([1e-5, 1 - 1e-5], N_SPINS + len(edges))
    assert low < found < high
    assert start > 20 * high  # what an untrained model shows
