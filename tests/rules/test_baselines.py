"""Score matching, noise contrast and pseudo-likelihood: gradients that vanish where the theory says, and only there."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic.energies import IsotropicGaussian
from quasistatic.errors import InputError
from quasistatic.evaluate.likelihood import pseudo_likelihood
from tests.laws import battery

SIGMAS = 4.5
quick_jit: Any = battery.quick_jit


def idle(potential, x):
    """What a rule is handed and these do not use: kernel, batch, walkers, controls."""
    kernel = qs.Langevin()
    return kernel, x, qs.Ensemble.open(kernel, potential, x[:4]), qs.Controls.of()


N_BATCHES = 64


def compiled(rule, draw):
    """Function (key, potential) -> gradients over independent batches, flat, and what the rule keeps after each."""

    @eqx.filter_jit  # long enough to be worth optimising
    def run(key, potential):
        state = rule.init(potential.energy)

        def one(k):
            key_data, key_rule = jax.random.split(k)
            gradient, _, kept = rule.gradient(key_rule, potential, *idle(potential, draw(key_data)), state)
            leaves = jax.tree.leaves(eqx.filter(gradient, eqx.is_array))
            return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves]), kept

        return jax.lax.map(one, jax.random.split(key, N_BATCHES))

    return run


def gradient_with_error(run, potential, key):
    """Mean gradient, flat, with its standard error."""
    values = np.asarray(run(key, potential)[0])
    return values.mean(0), values.std(0, ddof=1) / np.sqrt(N_BATCHES)


def gaussian(mean, covariance):
    return qs.Gaussian.from_covariance(jnp.asarray(mean), jnp.asarray(covariance))


MEAN, COVARIANCE = np.array([0.7, -0.4]), np.array([[1.0, 0.5], [0.5, 0.8]])


@pytest.mark.parametrize("beta", [pytest.param(1.0, marks=pytest.mark.slow), 0.6])
def test_score_matching_is_stationary_at_the_noisy_law(beta):
    """Data N(m, S) and noise sigma: the optimum is N(m, S + sigma^2), not N(m, S)."""
    sigma = 0.7
    data = gaussian(MEAN, COVARIANCE)
    rule = qs.ScoreMatching(sigma)

    def draw(key):
        return data.sample_exact(key, 1.0, 4000)

    noisy = beta * (COVARIANCE + sigma**2 * np.eye(2))  # as an energy used at beta
    run = compiled(rule, draw)
    mean, error = gradient_with_error(run, qs.Potential(gaussian(MEAN, noisy), beta), jax.random.key(0))
    used = error > 0
    assert np.abs(mean[used] / error[used]).max() < SIGMAS
    clean = qs.Potential(gaussian(MEAN, beta * COVARIANCE), beta)
    mean, error = gradient_with_error(run, clean, jax.random.key(0))
    assert np.abs(mean[used] / error[used]).max() > 20


def test_noise_contrast_is_stationary_at_the_data_law_and_finds_log_z():
    beta = 0.6
    data = gaussian(MEAN, COVARIANCE)
    rule = qs.NoiseContrastive(IsotropicGaussian(2, 1.6))
    truth = qs.Potential(gaussian(MEAN, beta * COVARIANCE), beta)

    def draw(key):
        return data.sample_exact(key, 1.0, 4000)

    run = compiled(rule, draw)
    mean, error = gradient_with_error(run, truth, jax.random.key(1))
    used = error > 0
    assert np.abs(mean[used] / error[used]).max() < SIGMAS
    wrong = qs.Potential(gaussian(MEAN + 0.2, beta * COVARIANCE), beta)
    mean, error = gradient_with_error(run, wrong, jax.random.key(1))
    assert np.abs(mean[used] / error[used]).max() > 20

    c = np.asarray(run(jax.random.key(2), truth)[1])
    exact = float(truth.energy.log_partition(beta))
    assert abs(np.mean(c) - exact) < SIGMAS * np.std(c) / np.sqrt(N_BATCHES) and np.std(c) < 0.1


@pytest.mark.parametrize("kind", ["binary", "spin"])
@pytest.mark.parametrize("beta", [pytest.param(1.0, marks=pytest.mark.slow), 0.7])
def test_pseudo_likelihood_is_that_of_evaluate(kind, beta, key):
    """The loss of all sites is minus the exact pseudo-log-likelihood, for RBM and pairwise models."""
    from quasistatic.energies import complete_graph, units

    levels = units(kind, 5).levels
    x = jax.random.choice(key, jnp.asarray(levels), (40, 5))
    keys = jax.random.split(key, 4)
    models = [
        qs.RBM(
            jax.random.normal(keys[0], (5, 3)),
            jax.random.normal(keys[1], (5,)),
            jax.random.normal(keys[2], (3,)),
            units(kind, 5),
            units("binary", 3),
        ),
        qs.Pairwise(
            jax.random.normal(keys[1], (5,)),
            jax.random.normal(keys[3], (10,)),
            jnp.asarray(complete_graph(5)),
            units(kind, 5),
        ),
    ]
    for model in models:
        loss = float(quick_jit(qs.PseudoLikelihood().loss)(key, qs.Potential(model, beta), x))
        np.testing.assert_allclose(-loss, pseudo_likelihood(model, np.asarray(x), beta), rtol=1e-10)


@pytest.mark.slow
def test_random_sites_are_unbiased(key):
    model = qs.RBM.initialise(key, 6, 3, weight_scale=1.0)
    x = jax.random.bernoulli(key, 0.4, (50, 6)).astype(float)
    potential = qs.Potential(model, 0.8)
    whole = float(qs.PseudoLikelihood().loss(key, potential, x))
    some = [float(qs.PseudoLikelihood(2).loss(k, potential, x)) for k in jax.random.split(jax.random.key(3), 200)]
    assert abs(np.mean(some) - whole) < SIGMAS * np.std(some) / np.sqrt(200)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["score", "noise", "pseudo"])
def test_they_train_beside_an_auditor(name):
    """As rules of a trainer they move the parameters, and the auditor still knows log Z."""
    if name == "pseudo":
        x = (np.random.default_rng(0).random((200, 6)) < np.linspace(0.2, 0.8, 6)).astype(np.float32)
        model, kernel, rule = qs.RBM.initialise(jax.random.key(0), 6, 3), qs.BlockGibbs(), qs.PseudoLikelihood()
    else:
        x = np.asarray(gaussian(MEAN, COVARIANCE).sample_exact(jax.random.key(0), 1.0, 500), np.float32)
        model, kernel = gaussian(np.zeros(2), np.eye(2)), qs.Langevin()
        rule = qs.ScoreMatching(0.3) if name == "score" else qs.NoiseContrastive(IsotropicGaussian(2, 1.5))
    trainer = qs.pcd(
        kernel, optax.sgd(0.05), rule=rule, n_walkers=16, auditor_walkers=32, step_size=0.05, batch_size=50
    )
    from quasistatic.evaluate.exact import log_partition_exact
    from quasistatic.train.record import live_log_z
    from quasistatic.train.step import run_chunk

    state = trainer.init(jax.random.key(1), model)
    state = run_chunk(trainer, state, jnp.asarray(x), jnp.asarray(100, jnp.int32))
    live = live_log_z(state.auditor, state.auditor_ledger)
    exact = log_partition_exact(state.model, 1.0)
    assert exact is not None and live.value is not None and live.stderr is not None
    assert abs(live.value - exact) < SIGMAS * live.stderr + 1e-6
    before, after = jax.tree.leaves(model), jax.tree.leaves(state.model)
    assert max(float(jnp.abs(a - b).max()) for a, b in zip(before, after, strict=True)) > 0.05


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: qs.ScoreMatching(0.0), "sigma > 0"),
        (lambda: qs.PseudoLikelihood(-1), "n_sites"),
        (lambda: qs.NoiseContrastive(lambda x: 0.0), "AbstractTractable"),
        (lambda: qs.PseudoLikelihood().check(gaussian(np.zeros(2), np.eye(2))), "two-state"),
        (lambda: qs.ScoreMatching().check(qs.RBM.initialise(jax.random.key(0), 3, 2)), "continuous"),
    ],
)
def test_refused(make, message):
    with pytest.raises((InputError, TypeError), match=message):
        make()
