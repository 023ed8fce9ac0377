"""Laws where books open: log Z against quadrature or enumeration, exact samples against moments, at beta = 0.7."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from quasistatic.energies import Gaussian, GaussianMixture, IndependentUnits, Interpolated, UniformBox, units
from quasistatic.errors import InputError
from tests.laws import enumeration

COVARIANCE = np.array([[1.3, -0.7], [-0.7, 0.9]])
MIXTURE = GaussianMixture(
    jnp.array([0.4, -1.1, 0.2]),
    jnp.array([[0.0, 1.0], [2.5, -1.0], [-1.5, -2.0]]),
    jnp.array([[[1.2, 0.0], [0.5, 0.9]], [[2.0, 0.0], [-0.8, 1.5]], [[0.8, 0.0], [0.1, 0.7]]]),
)
FIELDS = jnp.array([0.3, -1.2, 2.0, 0.0])
# name: energy, beta, and samples to integrate over (None: the plane)
ROWS = {
    "gaussian": (Gaussian.from_covariance(jnp.array([0.5, -1.0]), jnp.asarray(COVARIANCE)), 0.7),
    "mixture": (MIXTURE, 1.0),
    "box": (UniformBox(jnp.array([-1.5, 0.5]), jnp.array([2.5, 1.0])), 0.7),
    "binary": (IndependentUnits(FIELDS, units("binary", 4)), 0.7),
    "spin": (IndependentUnits(FIELDS, units("spin", 4)), 0.7),
}
ALL = pytest.mark.parametrize("name", ROWS)


def grid(name):
    """Points and weights that integrate over the law: all states, or a grid where the trapezoid rule is exact."""
    energy, _ = ROWS[name]
    if isinstance(energy, IndependentUnits):
        x = enumeration.states(name, 4)
        return x, np.ones(len(x))
    if isinstance(energy, UniformBox):
        edges = [
            (np.arange(200) + 0.5) / 200 * float(b - a) + float(a) for a, b in zip(energy.low, energy.high, strict=True)
        ]
    else:
        edges = [np.linspace(-14, 14, 701)] * 2
    x = np.stack(np.meshgrid(*edges, indexing="ij"), -1).reshape(-1, 2)
    return x, np.full(len(x), np.prod([e[1] - e[0] for e in edges]))


@functools.cache
def moments(name):
    energy, beta = ROWS[name]
    x, volume = grid(name)
    u = np.asarray(jax.jit(jax.vmap(lambda a: energy.reduced(a, beta)))(jnp.asarray(x)))
    log_z = logsumexp(-u, b=volume)
    p = volume * np.exp(-u - log_z)
    mean = p @ x
    return log_z, mean, (p[:, None] * (x - mean)).T @ (x - mean)


@ALL
def test_log_partition(name):
    energy, beta = ROWS[name]
    log_z, _, _ = moments(name)
    np.testing.assert_allclose(energy.log_partition(beta), log_z, atol=1e-10)
    if isinstance(energy, Gaussian):  # the judge of the judge
        assert abs(0.5 * np.linalg.slogdet(2 * np.pi * COVARIANCE / beta)[1] - log_z) < 1e-10


@ALL
def test_exact_samples(name, key):
    energy, beta = ROWS[name]
    n = 200_000
    x = np.asarray(jax.jit(lambda k: energy.sample_exact(k, beta, n))(key))
    _, mean, covariance = moments(name)
    assert x.shape == (n, len(mean)) and x.dtype == np.float64
    energy.validate(x[:100])
    assert np.abs((x.mean(0) - mean) / (x.std(0) / np.sqrt(n))).max() < 5
    products = (x - mean)[:, :, None] * (x - mean)[:, None, :]
    error = products.std(0) / np.sqrt(n)
    tolerance = 5 * error + (2e-4 if name == "box" else 1e-12)  # the grid of the box integrates x^2 to 1/200^2 only
    assert np.all(np.abs(products.mean(0) - covariance) < tolerance)


def test_samples_of_a_gaussian_scale_with_temperature(key):
    """Saboteur: covariance at beta = 1, or `1 / beta^2`, is outside the tolerance of the test above."""
    energy, _ = ROWS["gaussian"]
    x = np.asarray(energy.sample_exact(key, 0.25, 50_000))
    np.testing.assert_allclose(np.cov(x.T), COVARIANCE / 0.25, rtol=0.1)


def test_mixture_from_covariances_is_normalised():
    """Given probabilities, means and covariances, `log Z = 0` and the components have these masses."""
    covariances = jnp.stack([jnp.asarray(COVARIANCE), 0.2 * jnp.eye(2)])
    means = jnp.array([[0.0, 0.0], [9.0, 9.0]])
    mixture = GaussianMixture.from_covariances(jnp.array([0.3, 0.7]), means, covariances)
    assert abs(float(mixture.log_partition(1.0))) < 1e-12
    # far apart, the density at a mean is that of its component
    for probability, m, c in zip((0.3, 0.7), means, covariances, strict=True):
        expected = np.log(probability) - 0.5 * np.log(np.linalg.det(2 * np.pi * np.asarray(c)))
        assert abs(-float(mixture(m)) - expected) < 1e-9
    x = np.asarray(mixture.sample_exact(jax.random.key(1), 1.0, 40_000))
    assert abs((x[:, 0] > 5).mean() - 0.7) < 5 * np.sqrt(0.21 / 40_000)


def test_mixture_knows_only_beta_one():
    for call in (lambda b: MIXTURE.log_partition(b), lambda b: MIXTURE.sample_exact(jax.random.key(0), b, 3)):
        with pytest.raises(Exception, match="beta = 1 only"):
            jax.block_until_ready(jax.jit(call)(0.7))


def test_gaussian_ignores_what_lies_above_the_diagonal():
    """Only the lower triangle is a parameter: energy, log Z and samples agree on that, and so do gradients."""
    clean = Gaussian(jnp.array([0.5, -1.0]), jnp.array([[1.2, 0.0], [0.5, 0.9]]))
    dirty = Gaussian(clean.mean, clean.precision_factor.at[0, 1].set(7.0))
    x, key = jnp.array([0.3, 2.0]), jax.random.key(0)
    assert float(clean(x)) == float(dirty(x))
    assert float(clean.log_partition(0.7)) == float(dirty.log_partition(0.7))
    np.testing.assert_array_equal(clean.sample_exact(key, 0.7, 5), dirty.sample_exact(key, 0.7, 5))
    assert float(dirty.weighted_gradient(x[None], jnp.ones(1), 0.7).precision_factor[0, 1]) == 0


@pytest.mark.parametrize("name", ["gaussian", "binary", "spin"])
def test_derivative_of_log_partition_is_minus_the_mean_energy(name):
    """`d log Z / d beta = -<E>` and `d log Z / d theta = -beta <dE/dtheta>`."""
    energy, beta = ROWS[name]
    x, volume = grid(name)
    u = jax.vmap(lambda a: energy.reduced(a, beta))(jnp.asarray(x))
    p = jax.nn.softmax(-u + jnp.log(jnp.asarray(volume)))
    slope = jax.grad(lambda b: energy.log_partition(b))(beta)
    np.testing.assert_allclose(slope, -p @ jax.vmap(energy)(jnp.asarray(x)), atol=1e-9)
    by_parameters = jax.grad(lambda e: e.log_partition(beta))(energy)
    by_samples = energy.weighted_gradient(jnp.asarray(x), -p, beta)
    for a, b in zip(jax.tree.leaves(by_parameters), jax.tree.leaves(by_samples), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_bridge_interpolates_potentials_and_keeps_the_support():
    gaussian, box = ROWS["gaussian"][0], ROWS["box"][0]
    inside, outside = jnp.array([0.3, 0.7]), jnp.array([0.3, 1.7])
    for s in (0.0, 0.3, 1.0):
        bridge = Interpolated(box, gaussian, s)
        assert float(bridge.reduced(inside, 0.7)) == pytest.approx(0.7 * s * float(gaussian(inside)), abs=1e-14)
        assert float(bridge.reduced(outside, 0.7)) == np.inf
        between = Interpolated(ROWS["spin"][0], ROWS["binary"][0], s)
        x = jnp.array([1.0, 1.0, 1.0, 1.0])
        expected = (1 - s) * ROWS["spin"][0].reduced(x, 0.7) + s * ROWS["binary"][0].reduced(x, 0.7)
        np.testing.assert_allclose(between.reduced(x, 0.7), expected, atol=1e-14)


@pytest.mark.parametrize("covariance", [[[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.3], [0.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]]])
def test_covariances_must_be_positive_definite(covariance):
    with pytest.raises(InputError, match="positive definite"):
        Gaussian.from_covariance(jnp.zeros(2), jnp.asarray(covariance))
