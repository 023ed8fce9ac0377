"""Neural energies: known start, per-sample determinism, and the two ways of writing a convolution."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import IsotropicGaussian, Potential, convnet, mlp
from quasistatic.energies.gaussian import Gaussian
from quasistatic.energies.networks import ACTIVATIONS, Conv, gain_of, network
from quasistatic.energies.neural import Inputs
from quasistatic.errors import InputError
from quasistatic.kernels import Langevin
from quasistatic.thermo import open_at_law
from tests.laws.battery import quick_jit


def perturbed(energy, key, scale=0.3):
    """The same energy with a last layer that is not zero."""
    layer = energy.network.network.layers[-1]
    weight = scale * jax.random.normal(key, layer.weight.shape)
    return eqx.tree_at(lambda e: e.network.network.layers[-1].weight, energy, weight)


def n_parameters(energy):
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(energy, eqx.is_inexact_array)))


def test_published_sizes(key):
    assert n_parameters(convnet(key).network.network) == 76_993
    assert n_parameters(convnet(key, (32, 32, 3), "cifar").network.network) == 2_763_393


@pytest.mark.parametrize(
    "kind, beta", [("mlp", 0.7), ("convnet", 0.7), pytest.param("convnet", 1.0, marks=pytest.mark.slow)]
)
def test_starts_as_its_gaussian(kind, beta, key):
    """At initialisation the model is the confining Gaussian: no work, and log Z known to rounding."""
    model = mlp(key, 196, (32,), scale=1.7) if kind == "mlp" else convnet(key, (14, 14, 1), scale=1.7)
    potential = Potential(model, beta)
    ensemble = open_at_law(key, Langevin(), potential, model.base(), n_walkers=64)
    exact = 98 * np.log(2 * np.pi * 1.7**2 / beta)
    np.testing.assert_allclose(ensemble.log_partition_groups(), exact, rtol=1e-12)
    np.testing.assert_allclose(ensemble.account.work.value, 0.0, atol=1e-10)
    x = np.asarray(ensemble.x)
    variance = x.var()
    assert abs(variance * beta / 1.7**2 - 1) < 5 * np.sqrt(2 / x.size)


def test_a_confining_law_of_the_data_is_kept_but_not_trained(key):
    """Any law with known Z confines; no gradient reaches its parameters, all of them reach the network's."""
    covariance = jnp.asarray([[2.0, 0.6], [0.6, 0.5]])
    law = Gaussian.from_covariance(jnp.asarray([0.3, -1.0]), covariance)
    model = mlp(key, 2, (8,), law=law)
    beta = 0.7
    ensemble = open_at_law(key, Langevin(), Potential(model, beta), model.base(), n_walkers=8)
    exact = np.log(2 * np.pi / beta) + 0.5 * np.linalg.slogdet(covariance)[1]
    np.testing.assert_allclose(ensemble.log_partition_groups(), exact, rtol=1e-12)
    gradient = eqx.filter_grad(lambda energy: jnp.sum(jax.vmap(energy)(ensemble.x)))(perturbed(model, key))
    assert all(float(jnp.abs(leaf).max()) == 0 for leaf in jax.tree.leaves(gradient.confinement))
    assert all(float(jnp.abs(leaf).max()) == 0 for leaf in jax.tree.leaves(gradient.network.inputs))
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(gradient.network.network))


def test_inputs_are_standardised_or_denoised(key):
    """`M (x - m)`: unit variance on average, or the regression of clean samples on noisy ones, `C (C + s^2)^-1`."""
    clean = np.array([[2.0, 0.6], [0.6, 0.3]])
    noise = 0.4
    covariance = clean + noise**2 * np.eye(2)
    law = Gaussian.from_covariance(jnp.asarray([0.3, -1.0]), jnp.asarray(covariance))
    plain = Inputs.of_law(law, 2)
    np.testing.assert_allclose(plain.matrix**2 * np.trace(covariance) / 2, 1.0, rtol=1e-12)
    regression = clean @ np.linalg.inv(covariance)
    found = Inputs.denoised(law, noise, gain=1.0)
    np.testing.assert_allclose(found.matrix, regression / np.sqrt(np.trace(covariance) / 2), atol=1e-12)
    x = jax.random.normal(key, (2,))
    np.testing.assert_allclose(found(x), found.matrix @ (x - law.mean), atol=1e-12)
    np.testing.assert_allclose(Inputs.of_law(IsotropicGaussian(2, 1.7), 2)(x), x / 1.7, rtol=1e-12)


@pytest.mark.parametrize("activation", ["silu", "tanh", "softplus", "leaky_relu"])
def test_features_keep_their_variance(activation, key):
    """Second moment 1 behind unit inputs, however deep: a dense network, averaged over inputs and weights."""
    inner = network(key, 400, (), (400, 400, 400), None, activation)
    x, moments = jax.random.normal(key, (200, 400)), []
    for layer in inner.layers[:-1]:
        z = layer(x)
        moments.append(float(jnp.mean(z**2)))
        x = ACTIVATIONS[activation](z)
    # the first layer meets inputs of unit variance without an activation before it: its gain comes on top
    assert abs(moments[0] / gain_of(activation) - 1) < 0.1
    if activation == "leaky_relu":  # scale free: the factor is handed on
        np.testing.assert_allclose(moments, moments[0], rtol=0.3)
        assert gain_of(activation) == pytest.approx(2 / (1 + 0.2**2), rel=1e-6)
    assert 0.2 < moments[-1] < 6


@pytest.mark.parametrize(
    "n_in, n_out, kernel, stride, padding, height, width",
    [
        (1, 16, 5, 2, 4, 28, 28),
        (3, 4, 3, 1, 1, 7, 6),
        (2, 5, 4, 2, 1, 9, 8),
        (4, 3, 4, 1, 0, 4, 4),
        (2, 3, 1, 3, 0, 8, 7),
    ],
)
def test_patches_are_the_convolution(n_in, n_out, kernel, stride, padding, height, width, key):
    """Values and all gradients of the CPU form equal those of the compiler's convolution."""
    conv = Conv.initialise(key, n_in, n_out, kernel, stride, padding)
    x = jax.random.normal(key, (height, width, n_in))
    out = conv.patched(x)
    assert out.shape == (conv.out_size(height), conv.out_size(width), n_out)
    np.testing.assert_allclose(out, conv.native(x), atol=1e-12)
    weight = jax.random.normal(key, out.shape)

    def loss(parts, name):
        return jnp.sum(weight * jnp.tanh(getattr(parts[0], name)(parts[1])))

    for a, b in zip(*(jax.tree.leaves(jax.grad(loss)((conv, x), name)) for name in ("patched", "native")), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11)


def test_a_sample_does_not_depend_on_its_batch(key):
    """Alone, among others, in another order, in blocks: the same energy."""
    model = perturbed(convnet(key, (14, 14, 1)), key)
    x = jax.random.normal(key, (5, 196))
    whole = jax.vmap(model)(x)
    np.testing.assert_allclose(whole, [model(row) for row in x], atol=1e-12)
    np.testing.assert_allclose(jax.vmap(model)(x[::-1])[::-1], whole, atol=1e-12)
    assert float(jnp.std(whole)) > 1e-3


@pytest.mark.slow
def test_blocks_of_walkers_change_nothing(key):
    """130 walkers in blocks of 64 (two blocks and a rest) are the walkers moved at once."""
    whole = perturbed(convnet(key, (14, 14, 1)), key)
    blocked, whole = (type(whole)(whole.network, whole.confinement, 196, block) for block in (64, 0))

    @quick_jit
    def walked(energy):
        law = energy.base()
        return open_at_law(key, Langevin(), Potential(energy, 0.8), law, n_walkers=130, n_bridge=2)

    for a, b in zip(jax.tree.leaves(walked(blocked)), jax.tree.leaves(walked(whole)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("beta", [1.0, 0.6])
def test_isotropic_gaussian(beta, key):
    law = IsotropicGaussian(3, 0.8)
    x = law.sample_exact(key, beta, 200_000)
    assert abs(float(x.var()) * beta / 0.64 - 1) < 5 * np.sqrt(2 / x.size)
    density = np.exp(-np.asarray(jax.vmap(lambda a: law.reduced(a, beta))(x)) - float(law.log_partition(beta)))
    # E[p] of a Gaussian is (4 pi sigma^2)^(-d/2)
    expected = (4 * np.pi * 0.64 / beta) ** -1.5
    assert abs(density.mean() / expected - 1) < 5 * density.std() / density.mean() / np.sqrt(len(density))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda key: mlp(key, 4, (0,)), "at least one unit"),
        (lambda key: mlp(key, 4, scale=0.0), "positive and finite"),
        (lambda key: mlp(key, 4, activation="step"), "unknown activation"),
        (lambda key: convnet(key, architecture="vgg"), "unknown architecture"),
        (lambda key: convnet(key, (28, 28, 3)), "channels"),
        (lambda key: convnet(key, (3, 3, 3), "cifar"), "too small"),
        (lambda key: mlp(key, 4).validate(np.zeros((2, 5))), "4 coordinates"),
        (lambda key: mlp(key, 4).validate(np.full((2, 4), np.nan)), "NaN"),
        (lambda key: convnet(key, scale=float("inf")), "positive and finite"),
    ],
)
def test_refused(make, message, key):
    with pytest.raises(InputError, match=message):
        make(key)
