"""Training with a metric step: the compiled step hands the rule's scores to the optimiser, and learning stays right."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import quasistatic as qs
from quasistatic.errors import InputError
from quasistatic.metric import natural_gradient
from quasistatic.train import run_chunk
from tests.train.test_learning import BETA, N_DATA, N_SPINS, STATES, law, mahalanobis, truth
from tests.train.test_step import skewed_data

BOUNDS = stats.chi2.ppf([1e-5, 1 - 1e-5], N_SPINS + N_SPINS * (N_SPINS - 1) // 2)
N_UPDATES = 40


def distance(constructor, optimiser):
    """Squared Mahalanobis distance from the truth after a short training, in units of the data's error."""
    p, edges = law(truth()), np.asarray(truth().edges)
    x = STATES[np.random.default_rng(1).choice(len(STATES), N_DATA, p=p)]
    controls = qs.Controls.of(beta=BETA)
    trainer = constructor(qs.Gibbs(), optimiser, k=1, n_walkers=4000, auditor_groups=0, controls=controls)
    state = trainer.init(jax.random.key(2), qs.Pairwise.initialise(N_SPINS, data=x))
    state = run_chunk(trainer, state, jnp.asarray(x), jnp.asarray(N_UPDATES, jnp.int32))
    return mahalanobis(state.model, edges, x)


@pytest.mark.slow
def test_few_updates_are_enough_and_weights_keep_them_unbiased():
    """40 updates find the couplings to the error of their data; plain descent at a third of a unit rate has not."""
    rate = optax.linear_schedule(0.4, 0.0, N_UPDATES // 2, N_UPDATES // 2)
    natural = natural_gradient(rate, damping=1e-3, solver="dense", metric="model")
    found = distance(qs.jarzynski, natural)
    assert BOUNDS[0] < found < BOUNDS[1]
    plain = optax.linear_schedule(0.3, 0.0, N_UPDATES // 2, N_UPDATES // 2)
    assert distance(qs.jarzynski, optax.sgd(plain)) > BOUNDS[1]


@pytest.mark.parametrize("is_centred", [pytest.param(False, marks=pytest.mark.slow), True])
def test_an_update_is_the_dense_solution(is_centred):
    """One compiled training step of an RBM against a P x P solve in NumPy, penalty included."""
    rate, damping, l2 = 0.3, 0.05, 0.01
    rule = qs.MaximumLikelihood(centred=is_centred, l2=l2)
    trainer = qs.pcd(
        qs.BlockGibbs(), natural_gradient(rate, damping=damping), k=1, n_walkers=20, auditor_groups=0, rule=rule,
        controls=qs.Controls.of(beta=BETA),
    )  # fmt: skip
    data = jnp.asarray(skewed_data(30), float)
    state = trainer.init(jax.random.key(1), qs.RBM.initialise(jax.random.key(0), 7, 3, data=data, weight_scale=0.3))
    after = run_chunk(trainer, state, data, jnp.asarray(1, jnp.int32))
    before, v = state.model, np.concatenate([np.asarray(after.ensemble.x), np.asarray(data)])
    w, b, c = (np.asarray(part) for part in (before.weights, before.visible_bias, before.hidden_bias))
    h = 1 / (1 + np.exp(-BETA * (c + v @ w)))
    q = np.repeat([0.5 / 20, 0.5 / 30], [20, 30])
    rows = -BETA * np.concatenate([(v[:, :, None] * h[:, None, :]).reshape(50, -1), v, h], axis=1)
    a = np.eye(rows.shape[1])
    if is_centred:
        mu, lam = q @ v, q @ h
        for i in range(7):
            for j in range(3):
                a[21 + i, 3 * i + j], a[28 + j, 3 * i + j] = -lam[j], -mu[i]
    gradient = rows[20:].mean(0) - rows[:20].mean(0) + np.concatenate([l2 * w.ravel(), np.zeros(10)])
    centred = np.sqrt(q)[:, None] * (rows - q @ rows) @ a
    step = -rate * a @ np.linalg.solve(centred.T @ centred + damping * np.eye(len(a)), a.T @ gradient)
    expected = np.concatenate([w.ravel(), b, c]) + step
    model = after.model
    got = np.concatenate([np.asarray(p).ravel() for p in (model.weights, model.visible_bias, model.hidden_bias)])
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-8)


def test_a_rule_without_scores_is_refused():
    trainer = qs.pcd(
        qs.BlockGibbs(), natural_gradient(1.0), n_walkers=10, rule=qs.MaximumLikelihood(positive="sampled")
    )
    data = jnp.asarray(skewed_data(10), float)
    state = trainer.init(jax.random.key(1), qs.RBM.initialise(jax.random.key(0), 7, 3, data=data))
    with pytest.raises(InputError, match="does not hand over"):
        run_chunk(trainer, state, data, jnp.asarray(1, jnp.int32))


def test_state_of_the_optimiser_is_a_pytree_of_arrays():
    """Checkpoints store it: every leaf is an array, for every solver."""
    params = {"a": jnp.zeros(3)}
    for solver in ("samples", "dense", "cg", "minres", "diagonal"):
        assert all(eqx.is_array(leaf) for leaf in jax.tree.leaves(natural_gradient(1.0, solver=solver).init(params)))
