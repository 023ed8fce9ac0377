"""Gradients in closed form against autodiff, and the two-phase gradient against the exact log-likelihood.

All at beta = 0.7, with weights that do not sum to one and one of which is zero.
"""

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import RBM, AbstractEnergy, CallableEnergy, Pairwise
from tests.laws import enumeration
from tests.laws.battery import DISCRETE, ThreeBody, label, quick_jit, rbm_at

BETA = 0.7
MODELS = [case for case in DISCRETE if "site-gibbs" not in case.name and "lattice" not in case.name]
RBMS = [case for case in MODELS if isinstance(case.path(0.0).energy, RBM)]


def energy_of(case):
    return case.path(0.8).energy


def data_of(case, n=30):
    """Skewed data that no model of the family fits."""
    x = case.states[np.random.default_rng(5).integers(0, len(case.states), n) ** 2 % len(case.states)]
    return jnp.asarray(x)


def leaves(gradient):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(gradient, eqx.is_inexact_array))]


def assert_same(one, other, atol=1e-10):
    one, other = leaves(one), leaves(other)
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


closed_form = quick_jit(lambda energy, x, weights, beta: energy.weighted_gradient(x, weights, beta))
by_autodiff = quick_jit(lambda energy, x, weights, beta: AbstractEnergy.weighted_gradient(energy, x, weights, beta))


@pytest.mark.parametrize("case", MODELS, ids=label)
def test_closed_form_equals_autodiff(case, key):
    energy, x = energy_of(case), data_of(case)
    weights = jax.random.uniform(key, (len(x),)).at[3].set(0.0)
    expected = by_autodiff(energy, x, weights, BETA)
    found = closed_form(energy, x, weights, BETA)
    assert_same(found, expected)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert max(np.abs(leaf).max() for leaf in leaves(found)) > 0.1


@pytest.mark.parametrize("case", RBMS, ids=label)
def test_the_kernels_cache_gives_the_same_gradient(case, key):
    rbm, x = energy_of(case), data_of(case)
    weights = jax.random.uniform(key, (len(x),))
    cached = quick_jit(lambda rbm, x, weights: rbm.weighted_gradient(x, weights, BETA, rbm.hidden_inputs(x)))
    assert_same(cached(rbm, x, weights), closed_form(rbm, x, weights, BETA))


def exact_log_z(energy, case, beta):
    """Log Z by enumeration inside JAX; for RBMs over pairs of states, without any marginal potential."""
    x = jnp.asarray(case.states)
    if not isinstance(energy, RBM):
        return jax.nn.logsumexp(-beta * jax.vmap(energy)(x))
    h = jnp.asarray(enumeration.states(case.name.split("-")[-1], 3))
    return jax.nn.logsumexp(-beta * jax.vmap(lambda v: jax.vmap(lambda g: energy.energy(v, g))(h))(x))


def log_likelihood(energy, case, data, beta):
    """Exact mean log-likelihood of the data, from joint energies alone."""
    if isinstance(energy, RBM):
        h = jnp.asarray(enumeration.states(case.name.split("-")[-1], 3))
        joint = jax.vmap(lambda v: jax.vmap(lambda g: energy.energy(v, g))(h))(data)
        unnormalised = jax.nn.logsumexp(-beta * joint, axis=1)
    else:
        unnormalised = -beta * jax.vmap(energy)(data)
    return jnp.mean(unnormalised) - exact_log_z(energy, case, beta)


def law_weights(energy, case, beta):
    u = jax.vmap(lambda x: energy.reduced(x, beta))(jnp.asarray(case.states))
    return jax.nn.softmax(-u)


def two_phases(energy, case, data, beta):
    """Data and model phase, the model phase summed over all states."""
    uniform = jnp.full(len(data), 1 / len(data))
    model = energy.weighted_gradient(jnp.asarray(case.states), law_weights(energy, case, beta), beta)
    return energy.weighted_gradient(data, uniform, beta), model


# the inverse temperature is traced: one program per row
_phases = quick_jit(two_phases)


def phases(energy, case, data, beta):
    """As `two_phases`, compiled."""
    return _phases(energy, case, data, jnp.asarray(beta))


def difference(one, other):
    return jax.tree.map(jnp.subtract, one, other)


@pytest.mark.parametrize("case", MODELS, ids=label)
def test_two_phase_gradient_is_that_of_the_log_likelihood(case):
    energy, data = energy_of(case), data_of(case)

    @quick_jit
    def both(energy):
        data_phase, model_phase = two_phases(energy, case, data, BETA)
        return eqx.filter_grad(log_likelihood)(energy, case, data, BETA), difference(model_phase, data_phase)

    by_likelihood, by_phases = both(energy)
    assert_same(by_phases, by_likelihood)
    assert max(np.abs(leaf).max() for leaf in leaves(by_phases)) > 0.05
    # The saboteur: phases at beta = 1 point elsewhere.
    data_phase, model_phase = phases(energy, case, data, 1.0)
    wrong = leaves(difference(model_phase, data_phase))
    assert max(np.abs(a - b).max() for a, b in zip(wrong, leaves(by_likelihood), strict=True)) > 1e-2


def test_finite_differences_agree():
    """The judge of the judge: the log-likelihood of one RBM differentiated by NumPy."""
    case = RBMS[0]
    rbm, data = energy_of(case), np.asarray(data_of(case))

    def value(weights):
        parts = (weights, rbm.visible_bias, rbm.hidden_bias, BETA)
        _, log_z = enumeration.law(enumeration.rbm_marginal(*parts, case.states, "binary"))
        return float(-enumeration.rbm_marginal(*parts, data, "binary").mean() - log_z)

    expected = enumeration.gradient(value, np.asarray(rbm.weights))
    data_phase, model_phase = phases(rbm, case, jnp.asarray(data), BETA)
    np.testing.assert_allclose(difference(model_phase, data_phase).weights, expected, atol=1e-9)


@pytest.mark.parametrize("case", RBMS, ids=label)
def test_sampled_hidden_states_give_the_gradient_on_average(case, key):
    rbm, x = energy_of(case), data_of(case, 6)
    weights, n = jnp.asarray([0.3, 0.0, 0.2, 0.9, 0.1, 0.4]), 20_000
    sample = quick_jit(jax.vmap(lambda k: rbm.sampled_gradient(k, x, weights, BETA)))
    for found, exact in zip(
        leaves(sample(jax.random.split(key, n))), leaves(closed_form(rbm, x, weights, BETA)), strict=True
    ):
        error = found.std(0) / np.sqrt(n)
        assert np.all(np.abs(found.mean(0) - exact) <= 5 * error + 1e-12)
    assert float(np.max(error)) > 0


@pytest.mark.parametrize("case", RBMS, ids=label)
def test_centred_gradient_is_the_plain_one_in_centred_coordinates(case):
    """With `v - mu` and `h - lam` as variables the parameters are `W`, `b + W lam`, `c + W' mu`."""
    rbm, data = energy_of(case), data_of(case)
    data_phase, model_phase = phases(rbm, case, data, BETA)
    plain = difference(data_phase, model_phase)
    found = quick_jit(rbm.centred)(plain, data_phase, model_phase, BETA)

    v = jnp.asarray(case.states)
    p = quick_jit(law_weights)(rbm, case, BETA)
    hidden = quick_jit(jax.vmap(lambda x: rbm.hidden.mean(rbm.hidden_natural(rbm.hidden_inputs(x), BETA))))
    mu = 0.5 * (data.mean(0) + p @ v)
    lam = 0.5 * (hidden(data).mean(0) + p @ hidden(v))

    def loss(centred):
        weights, b, c = centred
        m = RBM(weights, b - weights @ lam, c - mu @ weights, rbm.visible, rbm.hidden)
        return -log_likelihood(m, case, data, BETA)

    coordinates = (rbm.weights, rbm.visible_bias + rbm.weights @ lam, rbm.hidden_bias + mu @ rbm.weights)
    weights, b, c = quick_jit(jax.grad(loss))(coordinates)
    # the step of the plain parameters that a step of the centred ones amounts to
    assert_same(found, (weights, b - weights @ lam, c - mu @ weights))
    assert np.abs(found.visible_bias - plain.visible_bias).max() > 1e-3
    # it descends: minus the loss rises along it, to first order
    descent = sum(np.sum(a * b) for a, b in zip(leaves(found), leaves(plain), strict=True))
    assert descent > 0


def test_centred_gradient_vanishes_only_with_the_plain_one(key):
    """At fixed offsets it is an invertible linear map of the plain gradient."""
    rbm = rbm_at(0.8)
    flat, build = jax.flatten_util.ravel_pytree(eqx.filter(rbm, eqx.is_inexact_array))
    data, model = (build(jax.random.normal(k, flat.shape)) for k in jax.random.split(key))

    def image(direction):
        return jax.flatten_util.ravel_pytree(rbm.centred(build(direction), data, model, BETA))[0]

    matrix = np.asarray(jax.vmap(image)(jnp.eye(flat.size))).T
    assert np.abs(image(jnp.zeros(flat.size))).max() == 0
    singular = np.linalg.svd(matrix, compute_uv=False)
    assert singular.min() > 1e-3
    assert np.all(np.linalg.eigvalsh((matrix + matrix.T) / 2) > 0)  # always a direction of ascent


def test_any_module_is_differentiated(key):
    """A user's module gets its gradient by autodiff; what is not an array of floats is left out."""
    energy = CallableEnergy(ThreeBody(jnp.array([0.5, -0.3, 0.8, -0.2]), jnp.array(0.4)))
    x = jax.random.normal(key, (7, 4))
    weights = jnp.arange(7.0)
    gradient = energy.weighted_gradient(x, weights, BETA)
    np.testing.assert_allclose(gradient.function.fields, BETA * weights @ x, atol=1e-12)
    np.testing.assert_allclose(gradient.function.triple, BETA * weights @ (x[:, 0] * x[:, 1] * x[:, 2]), atol=1e-12)


def test_penalties_act_on_interactions_only():
    rbm, pairwise = rbm_at(0.5), DISCRETE[4].path(0.5).energy
    mask = rbm.interaction_mask()
    assert (mask.weights, mask.visible_bias, mask.hidden_bias) == (True, False, False)
    mask = pairwise.interaction_mask()
    assert isinstance(mask, Pairwise) and (mask.couplings, mask.fields, mask.edges) == (True, False, False)
