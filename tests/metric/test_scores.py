"""Scores are the rows they stand for: products, Gram matrices and gradients against rows written out one by one.

Digest of minimal-dissipation learning, acceptance test 18 (linear algebra on random matrices, to 1e-9), is spread over
this file and `test_solve.py`:

| identity | test |
|---|---|
| S d, S'a, gradient | `test_products_are_those_of_the_rows` |
| B'e = G | `test_pooled_rows_hold_the_gradient` |
| B'B = (C_m + C_d)/2 + GG'/4 | `test_pooled_metric_is_the_mean_covariance` |
| Gram matrix, own coordinates | `test_gram_matrix` |
| Woodbury, kernel trick, robust filter, dense | `test_solve.py` |
| K-FAC rank-1 correction | `test_kfac.py` |
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import quasistatic as qs
from quasistatic.errors import InputError
from quasistatic.metric import AutodiffScores, scores_of
from quasistatic.metric.products import inner_products
from tests.laws.battery import quick_jit
from tests.metric.battery import NAMES, N, family, flat

TIGHT = {"rtol": 1e-10, "atol": 1e-10}


@quick_jit
def everything(scores, step, a):
    q = scores.pool("pooled")
    return {
        "push": scores.push(step),
        "pull": scores.pull(a),
        "gradient": scores.gradient(),
        "phases": jax.tree.map(jnp.subtract, scores.data_phase(), scores.model_phase()),
        "gram": scores.gram(q),
        "gram_model": scores.gram(scores.pool("model")),
        "variances": scores.variances(q),
        "applied": scores.apply_metric(q, step),
        "to_step": scores.to_step(step),
        "to_gradient": scores.to_gradient(step),
        "out_into": scores.out(scores.into(step)),
        "change": scores.change(step),
    }


@pytest.fixture(scope="module", params=NAMES)
def measured(request):
    member = family(request.param)
    rng = np.random.default_rng(5)
    step, a = rng.normal(size=member.rows.shape[1]), rng.normal(size=len(member.rows))
    return member, step, a, everything(member.scores, member.unravel(jnp.asarray(step)), jnp.asarray(a))


def test_products_are_those_of_the_rows(measured):
    member, step, a, got = measured
    np.testing.assert_allclose(got["push"], member.rows @ step, **TIGHT)
    np.testing.assert_allclose(flat(got["pull"]), a @ member.rows, **TIGHT)
    np.testing.assert_allclose(flat(got["gradient"]), member.gradient, **TIGHT)
    np.testing.assert_allclose(flat(got["phases"]), member.gradient, **TIGHT)
    np.testing.assert_allclose(flat(got["applied"]), member.metric("pooled") @ step, **TIGHT)


def test_gram_matrix(measured):
    """`B A A'B'` and the variances, in the scores' own coordinates."""
    member, _, _, got = measured
    for name, metric in (("gram", "pooled"), ("gram_model", "model")):
        q = member.q(metric)
        b = np.sqrt(q)[:, None] * (member.rows - q @ member.rows) @ member.coordinates
        np.testing.assert_allclose(got[name], b @ b.T, **TIGHT)
    own = member.coordinates.T @ member.metric("pooled") @ member.coordinates
    np.testing.assert_allclose(flat(got["variances"]), np.diag(own), **TIGHT)


def test_coordinates(measured):
    """`to_step` is `A A'`, `to_gradient` its inverse; what A is, is written out in the battery."""
    member, step, _, got = measured
    square = member.coordinates @ member.coordinates.T
    np.testing.assert_allclose(flat(got["to_step"]), square @ step, **TIGHT)
    np.testing.assert_allclose(flat(got["out_into"]), square @ step, **TIGHT)
    np.testing.assert_allclose(flat(got["to_gradient"]), np.linalg.solve(square, step), **TIGHT)


@quick_jit
def reduced(energy, x):
    return jax.vmap(lambda sample: energy.reduced(sample, 0.7))(x)


def test_change_is_that_of_the_potential(measured):
    member, step, _, got = measured
    energy, x = member.scores.energy, member.scores.x
    trained, fixed = eqx.partition(energy, eqx.is_inexact_array)
    moved = eqx.combine(jax.tree.map(jnp.add, trained, member.unravel(jnp.asarray(step))), fixed)
    some = np.array([0, N - 1, N, len(x) - 1])
    before, after = (reduced(model, x[some]) for model in (energy, moved))
    np.testing.assert_allclose(np.asarray(got["change"])[some], np.asarray(after) - np.asarray(before), **TIGHT)


@pytest.mark.parametrize("name", NAMES)
def test_pooled_rows_hold_the_gradient(name):
    """Digest 5.2: `B'e = G` with `e = +-2 sqrt(q)`; with the walkers' rows alone most of G is out of reach."""
    member = family(name)
    q = member.q("pooled")
    b = np.sqrt(q)[:, None] * (member.rows - q @ member.rows)
    e = 2 * np.sqrt(q) * np.sign(member.scores.signed)
    np.testing.assert_allclose(e @ b, member.gradient, **TIGHT)
    np.testing.assert_allclose(flat(member.scores.centred_pull(jnp.asarray(q), jnp.asarray(e))), e @ b, **TIGHT)


@pytest.mark.parametrize("name", NAMES)
def test_pooled_metric_is_the_mean_covariance(name):
    member = family(name)
    parts = [
        np.cov(rows.T, aweights=w, ddof=0)
        for rows, w in ((member.rows[:N], member.weights), (member.rows[N:], member.data_weights))
    ]
    expected = 0.5 * sum(parts) + 0.25 * np.outer(member.gradient, member.gradient)
    np.testing.assert_allclose(member.metric("pooled"), expected, **TIGHT)


def test_the_centred_step_is_the_centred_gradient_of_the_rule():
    """With a large damping the natural step is plain descent in centred coordinates: the rule's enhanced gradient."""
    member = family("rbm-centred")
    s = member.scores
    enhanced = s.energy.centred(s.contrast(), s.data_phase(), s.model_phase(), s.beta)
    np.testing.assert_allclose(flat(s.to_step(s.contrast())), flat(enhanced), **TIGHT)


def test_product_forms_are_autodiff():
    """The same rows from the generic class, as a judge that shares no formula with the product forms."""
    gram = quick_jit(lambda scores, q: scores.gram(q))
    for name in ("rbm", "pairwise-lattice"):
        s = family(name).scores
        generic = AutodiffScores(s.energy, s.beta, s.x, s.weights, s.data_weights)
        q = s.pool()
        np.testing.assert_allclose(gram(s, q), gram(generic, q), **TIGHT)


@pytest.mark.parametrize("n", [5, 256, 263])
def test_symmetric_products_in_blocks(n):
    rows = np.random.default_rng(n).normal(size=(n, 4))
    np.testing.assert_allclose(inner_products(jnp.asarray(rows)), rows @ rows.T, **TIGHT)


def test_an_energy_without_centred_coordinates_is_refused():
    x = jnp.zeros((2, 3))
    w = jnp.full(2, 0.5)
    with pytest.raises(InputError, match="no centred coordinates"):
        scores_of(qs.Potential(qs.mlp(jax.random.key(0), 3, (4,)), 1.0), x, x, w, w, is_centred=True)
