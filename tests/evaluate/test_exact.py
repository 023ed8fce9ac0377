"""Enumeration against NumPy sums over joint states that share no code with it."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from quasistatic.energies import RBM, CallableEnergy, Gaussian, GaussianMixture, Pairwise, units
from quasistatic.errors import InputError
from quasistatic.evaluate import (
    exact,
    exact_likelihood,
    exact_moments,
    is_enumerable,
    log_partition_exact,
    mean_reduced,
)
from tests.evaluate.models import BETA, kind_of, pairwise, rbm, reduced
from tests.laws import enumeration

UNITS = [("binary", "binary"), ("spin", "spin"), ("binary", "spin"), ("spin", "binary")]


@pytest.mark.parametrize("visible, hidden", UNITS)
@pytest.mark.parametrize("n_visible, n_hidden", [(5, 3), (3, 7)])
def test_rbm_equals_the_sum_over_joint_states(visible, hidden, n_visible, n_hidden):
    model = rbm(n_visible, n_hidden, visible, hidden)
    expected = enumeration.law(reduced(model, BETA)[1])[1]
    assert log_partition_exact(model, BETA) == pytest.approx(expected, rel=0, abs=1e-10)
    # what the classical mistakes would give is far away
    at_one = enumeration.law(BETA * reduced(model, 1.0)[1])[1]
    twice = enumeration.law(reduced(model, BETA**2)[1])[1]
    assert min(abs(expected - at_one), abs(expected - twice)) > 0.01


@pytest.mark.parametrize("kind, graph", [("spin", "complete"), ("binary", "complete"), ("spin", "lattice")])
def test_pairwise_equals_the_sum_over_states(kind, graph):
    model = pairwise(kind, graph)
    expected = enumeration.law(reduced(model, BETA)[1])[1]
    assert log_partition_exact(model, BETA) == pytest.approx(expected, rel=0, abs=1e-10)


def test_layer_with_more_bits_than_one_table():
    """14 enumerated units: high and low tables, several blocks; judged by the sum over the *other* layer's states."""
    model = rbm(15, 14, "spin", "binary")
    weights, b, c = (np.asarray(a) for a in (model.weights, model.visible_bias, model.hidden_bias))
    v = enumeration.states("spin", 15)
    expected = logsumexp(BETA * v @ b + np.logaddexp(0.0, BETA * (c + v @ weights)).sum(1))
    assert log_partition_exact(model, BETA) == pytest.approx(expected, rel=0, abs=1e-10)


@pytest.mark.parametrize("scale", [30.0, 3000.0])
def test_couplings_that_overflow_take_the_other_way(scale):
    model = rbm(4, 3, "spin", "spin", scale=scale)
    form = exact._bit_form(model, BETA)
    assert (exact.log_sum_products(form, jnp.float64) is None) == (scale > 1000)
    assert (exact.log_sum_products(form, jnp.float32) is None) == (scale > 20)
    expected = enumeration.law(reduced(model, BETA)[1])[1]
    assert log_partition_exact(model, BETA) == pytest.approx(expected, rel=1e-14, abs=1e-10)


def separable(dtype) -> tuple[RBM, float]:
    """64 x 24 RBM of four independent parts with shuffled units, and its `log Z` from the parts in float64."""
    rng = np.random.default_rng(5)
    weights, b, c = np.zeros((64, 24)), rng.normal(-1, 1, 64), rng.normal(0, 1, 24)
    expected = 0.0
    hidden_states = enumeration.states("binary", 6)
    for part in range(4):
        rows, columns = slice(16 * part, 16 * part + 16), slice(6 * part, 6 * part + 6)
        weights[rows, columns] = rng.normal(0, 1.5, (16, 6))
    # the reference sees the numbers the model holds, after rounding
    weights, b, c = (np.asarray(a, dtype).astype(np.float64) for a in (weights, b, c))
    for part in range(4):
        rows, columns = slice(16 * part, 16 * part + 16), slice(6 * part, 6 * part + 6)
        inputs = b[rows] + hidden_states @ weights[rows, columns].T
        expected += logsumexp(BETA * hidden_states @ c[columns] + np.logaddexp(0, BETA * inputs).sum(1))
    i, j = rng.permutation(64), rng.permutation(24)
    parameters = (jnp.asarray(a, dtype) for a in (weights[i][:, j], b[i], c[j]))
    return RBM(*parameters, units("binary", 64), units("binary", 24)), expected


def test_digits_sized_rbm():
    model, expected = separable(jnp.float64)
    assert log_partition_exact(model, BETA) == pytest.approx(expected, rel=0, abs=1e-10)


@pytest.mark.float32
def test_digits_sized_rbm_in_float32():
    model, expected = separable(jnp.float32)
    assert model.weights.dtype == jnp.float32
    assert log_partition_exact(model, BETA) == pytest.approx(expected, rel=0, abs=1e-5)


def test_closed_forms_and_what_is_infeasible():
    gaussian = Gaussian.from_covariance(jnp.zeros(3), 0.5 * jnp.eye(3))
    assert log_partition_exact(gaussian, 2.0) == pytest.approx(1.5 * np.log(2 * np.pi * 0.5 / 2.0), rel=1e-5)
    mixture = GaussianMixture.from_covariances(jnp.array([0.3, 0.7]), jnp.array([[0.0], [2.0]]), jnp.ones((2, 1, 1)))
    assert log_partition_exact(mixture, 1.0) == pytest.approx(0.0, abs=1e-5)
    assert log_partition_exact(mixture, BETA) is None
    large = RBM(jnp.zeros((27, 40)), jnp.zeros(27), jnp.zeros(40), units("binary", 27), units("spin", 40))
    unknown = CallableEnergy(jnp.sum, levels=(0.0, 1.0))
    for model in (large, pairwise(n=27), unknown):
        assert not is_enumerable(model)
        assert log_partition_exact(model) is None
        assert exact_likelihood(model, np.zeros((2, 27))) is None
    assert is_enumerable(pairwise(n=26)) and is_enumerable(rbm(400, 26)) and is_enumerable(rbm(26, 400))


@pytest.mark.parametrize("beta", [0.0, -1.0, np.nan, np.inf])
def test_refuses_a_beta_that_is_no_temperature(beta):
    with pytest.raises(InputError, match="beta must be a positive number"):
        log_partition_exact(rbm(), beta)


@pytest.mark.parametrize("model", [rbm(5, 3, "spin", "binary"), pairwise("binary")], ids=["rbm", "pairwise"])
def test_likelihood_is_the_mean_log_probability(model):
    x, u = reduced(model, BETA)
    p, log_z = enumeration.law(u)
    rows = np.random.default_rng(0).choice(len(x), 37, p=p)
    expected = np.log(p[rows]).mean()
    assert exact_likelihood(model, x[rows], BETA) == pytest.approx(expected, rel=0, abs=1e-10)
    assert exact_likelihood(model, x[rows], BETA, log_z + 1.0) == pytest.approx(expected - 1.0, rel=0, abs=1e-10)
    mean, stderr = mean_reduced(model, x[rows], BETA, n_per_chunk=10)
    assert mean == pytest.approx(u[rows].mean(), rel=0, abs=1e-10)
    assert stderr == pytest.approx(u[rows].std(ddof=1) / np.sqrt(37), rel=1e-10)
    with pytest.raises(InputError, match="empty"):
        mean_reduced(model, x[:0])


@pytest.mark.parametrize(
    "model",
    [rbm(5, 3, "spin", "binary"), rbm(3, 6, "binary", "spin"), pairwise("binary", "lattice", 7)],
    ids=["hidden enumerated", "visible enumerated", "pairwise"],
)
def test_moments_equal_sums_over_states(model):
    x, u = reduced(model, BETA)
    p, _ = enumeration.law(u)
    moments = exact_moments(model, BETA)
    assert np.allclose(moments.mean, p @ x, rtol=0, atol=1e-12)
    assert np.allclose(moments.second, (p[:, None] * x).T @ x, rtol=0, atol=1e-12)
    if isinstance(model, Pairwise):
        assert moments.hidden_mean is None and moments.cross is None
        return
    h = enumeration.states(kind_of(model.hidden), model.hidden.size)
    joint = -BETA * enumeration.rbm_joint(model.weights, model.visible_bias, model.hidden_bias, x, h)
    joint = np.exp(joint - logsumexp(joint))
    assert np.allclose(moments.hidden_mean, joint.sum(0) @ h, rtol=0, atol=1e-12)
    assert np.allclose(moments.cross, x.T @ joint @ h, rtol=0, atol=1e-12)


def test_moments_of_a_large_model_are_refused():
    with pytest.raises(InputError, match="2\\^17"):
        exact_moments(rbm(20, 17))
