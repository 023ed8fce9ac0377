"""K-FAC: factors of every layer against rows written out, and the centred inverse against a dense one.

Digest of minimal-dissipation learning, test 18: "K-FAC rank-1 correction" is `test_centred_inverse`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import quasistatic as qs
from quasistatic.errors import InputError
from quasistatic.metric import kfac, natural_gradient, scores_of
from tests.laws.battery import quick_jit
from tests.metric.battery import family, flat


def test_centred_inverse():
    rng = np.random.default_rng(0)
    n_in, n_out, damping = 4, 3, 0.2
    roots = rng.normal(size=(2, 7, 4))
    a, b = roots[0].T @ roots[0] / 7, (roots[1].T @ roots[1] / 7)[:n_out, :n_out]
    mean, v = 0.1 * rng.normal(size=(n_in, n_out)), rng.normal(size=(n_in, n_out))
    got = kfac.solve_factors(kfac.Factors(jnp.asarray(a), jnp.asarray(b), jnp.asarray(mean)), jnp.asarray(v), damping)
    p = np.sqrt((np.trace(a) / n_in) / (np.trace(b) / n_out))
    damped = np.kron(a + p * np.sqrt(damping) * np.eye(n_in), b + np.sqrt(damping) / p * np.eye(n_out))
    expected = np.linalg.solve(damped - np.outer(mean.ravel(), mean.ravel()), v.ravel())
    np.testing.assert_allclose(np.asarray(got).ravel(), expected, rtol=1e-9, atol=1e-9)
    assert np.abs(np.linalg.solve(damped, v.ravel()) - expected).max() > 1e-3  # centring matters


def network(name):
    """An MLP and a small ConvNet away from their initial zero, with skewed weights."""
    rng = np.random.default_rng(1)
    if name == "mlp":
        energy = qs.mlp(jax.random.key(0), 5, (4, 3), scale=1.2)
    else:
        energy = qs.convnet(jax.random.key(0), (5, 5, 1), [(1, 2, 3, 2, 1)], widths=(3,))
    moved = jax.tree.map(lambda p: p + 0.3 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), energy.network.network)
    energy = eqx.tree_at(lambda e: e.network.network, energy, moved)
    x = jnp.asarray(rng.normal(size=(9, energy.size)))
    w = rng.random(5)
    scores = scores_of(qs.Potential(energy, 0.7), x[:5], x[5:], jnp.asarray(w / w.sum()), jnp.full(4, 0.25))
    return energy, scores


factors = quick_jit(kfac.factors)


@pytest.mark.parametrize("name", ["mlp", "convnet"])
def test_factors_are_those_of_the_rows(name):
    """The mean of a layer's rows is exact. With one position per layer `tr A tr B` bounds the rows' mean square."""
    energy, scores = network(name)
    found = factors(scores)
    mean = quick_jit(lambda scores: scores.pull(scores.pool()))(scores).network.network
    layers = (*mean.convolutions, *mean.layers)
    assert len(found) == len(layers)
    for own, layer in zip(found, layers, strict=True):
        rows = np.concatenate([np.asarray(layer.weight).reshape(-1, layer.weight.shape[-1]), layer.bias[None]])
        np.testing.assert_allclose(own.mean, rows, rtol=1e-9, atol=1e-12)
        for factor in (own.inputs, own.signals):
            np.testing.assert_allclose(factor, factor.T, atol=1e-12)
            assert np.linalg.eigvalsh(np.asarray(factor)).min() > -1e-12


def test_one_layer_of_one_position_is_exact():
    """The last layer's signal is the constant beta: there `A (x) B - GG'` is the covariance of the rows itself."""
    energy, scores = network("mlp")
    own = factors(scores)[-1]
    last = np.asarray(quick_jit(kfac_rows)(scores))
    q = np.asarray(scores.pool())
    centred = np.sqrt(q)[:, None] * (last - q @ last)
    dense = np.kron(own.inputs, own.signals) - np.outer(own.mean.ravel(), own.mean.ravel())
    np.testing.assert_allclose(dense, centred.T @ centred, rtol=1e-9, atol=1e-12)


def kfac_rows(scores):
    """Rows of the last layer, weight then bias, from autodiff of single samples."""
    trained, fixed = eqx.partition(scores.energy, eqx.is_inexact_array)
    one = jax.grad(lambda p, x: eqx.combine(p, fixed).reduced(x, scores.beta))
    rows = jax.vmap(one, (None, 0))(trained, scores.x).network.network.layers[-1]
    return jnp.concatenate([rows.weight[:, :, 0], rows.bias], axis=1)


def test_as_an_optimiser():
    """The step points downhill, and equals that of `kfac.step` at the given rate."""
    energy, scores = network("mlp")
    optimiser = natural_gradient(0.5, damping=0.1, solver="kfac")
    trained = eqx.filter(energy, eqx.is_inexact_array)

    @quick_jit
    def both(scores, trained):
        gradient = scores.gradient()
        step, _ = optimiser.update(gradient, optimiser.init(trained), trained, scores=scores)
        return gradient, step, kfac.step(scores, 0.1)

    gradient, step, expected = map(flat, both(scores, trained))
    np.testing.assert_allclose(step, -0.5 * expected, rtol=1e-9)
    assert step @ gradient < 0


def test_other_energies_are_refused():
    with pytest.raises(InputError, match="K-FAC is for networks"):
        kfac.factors(family("rbm").scores)
