"""Parts of the feedback estimate: noise of the halves, derivative of any optimiser, curvature of the loss."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic._numerics import TwoFloat
from quasistatic.errors import InputError
from quasistatic.thermo import Controls, Ensemble
from quasistatic.train import run_chunk
from quasistatic.train.feedback import BLOCK, Feedback
from tests.laws import battery, enumeration

quick_jit: Any = battery.quick_jit
BETA = 0.7
STATES = jnp.asarray(enumeration.states("binary", 4))
LINEAR = {
    "plain": optax.sgd(0.3),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "nesterov": optax.sgd(0.1, momentum=0.8, nesterov=True),
    "schedule": optax.sgd(optax.linear_schedule(0.3, 0.1, 5)),
    "decay": optax.chain(optax.add_decayed_weights(0.2), optax.sgd(0.3, momentum=0.5)),
}
CURVED = {
    "adam": optax.adam(0.05),
    "clipped": optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.2)),
}
N_STEPS = 7


def gradients(seed):
    """Gradients of seven updates of a vector and a matrix."""
    rng = np.random.default_rng(seed)
    return [(jnp.asarray(rng.normal(size=3)), jnp.asarray(rng.normal(size=(2, 2)))) for _ in range(N_STEPS)]


def updates_of(optimiser, scale):
    """Updates along gradients `g + scale e`; with it the parameters they lead to."""
    start = (jnp.ones(3), jnp.full((2, 2), -0.5))
    state, parameters, found = optimiser.init(start), start, []
    for g, e in zip(gradients(0), gradients(1), strict=True):
        moved = jax.tree.map(lambda a, b: a - scale * b, g, e)
        at = (moved, state, parameters)
        updates, state = optimiser.update(*at)
        parameters = optax.apply_updates(parameters, updates)
        found.append((updates, at))
    return found


@pytest.mark.parametrize("name", LINEAR | CURVED)
def test_the_derivative_of_an_optimiser(name):
    """`D(e)` of every update against central differences of the whole sequence: memory and parameters included."""
    optimiser, delta = (LINEAR | CURVED)[name], 1e-5
    low, here, high = (updates_of(optimiser, scale) for scale in (-delta, 0.0, delta))
    start = (jnp.ones(3), jnp.full((2, 2), -0.5))
    feedback = Feedback.open(start, optimiser.init(start), order="path", dtype=jnp.dtype(float))
    expected = 0.0
    for k, e in enumerate(gradients(1)):
        _, at = here[k]
        response = jax.tree.map(jnp.negative, e)  # no curvature: the loss is linear
        feedback = feedback.book(e, response, optimiser.update, at, scale=1.0, step=k)
        change = jax.tree.map(lambda a, b: (a - b) / (2 * delta), high[k][0], low[k][0])
        expected -= float(optax.tree.vdot(e, change))
        np.testing.assert_allclose(float(feedback.bias.value), expected, rtol=1e-6, atol=1e-8)
    assert abs(expected) > 0.05


def test_plain_descent_is_minus_rate_times_square(key):
    e = (jax.random.normal(key, (3,)), jnp.zeros((2, 2)))
    start = (jnp.ones(3), jnp.ones((2, 2)))
    optimiser = LINEAR["plain"]
    state = optimiser.init(start)
    feedback = Feedback.open(start, state, order="update", dtype=jnp.dtype(float))
    minus = jax.tree.map(jnp.negative, e)
    feedback = feedback.book(e, minus, optimiser.update, (start, state, start), scale=0.5, step=0)
    np.testing.assert_allclose(float(feedback.bias.value), -0.5 * 0.3 * float(jnp.sum(e[0] ** 2)), rtol=1e-12)


@pytest.mark.parametrize("name", LINEAR | CURVED)
def test_parameters_without_gradient_do_not_spoil_it(name):
    """Entries that have never seen a gradient, where Adam has no derivative, count nothing."""
    optimiser, start = (LINEAR | CURVED)[name], jnp.ones(3)
    state, parameters = optimiser.init(start), start
    feedback = Feedback.open(start, state, order="path", dtype=jnp.dtype(float))
    for k, (g, e) in enumerate(zip(gradients(0), gradients(1), strict=True)):
        gradient, noise = (part[0].at[1].set(0.0) for part in (g, e))
        at = (gradient, state, parameters)
        feedback = feedback.book(noise, -noise, optimiser.update, at, scale=1.0, step=k)
        updates, state = optimiser.update(*at)
        parameters = optax.apply_updates(parameters, updates)
    assert np.isfinite(float(feedback.bias.value)) and float(feedback.bias.value) < 0


def test_standard_error_from_successive_blocks():
    """Independent increments around a drift: calibrated, and the drift is no error."""
    rng = np.random.default_rng(0)
    one, optimiser = jnp.ones(1), optax.sgd(1.0)
    state = optimiser.init(one)
    n, ratios = 40 * BLOCK, []

    @jax.jit
    def run(roots):
        def book(feedback, step_and_root):
            step, root = step_and_root
            at = (one, state, one)
            return feedback.book(root[None], -root[None], optimiser.update, at, scale=1.0, step=step), None

        start = Feedback.open(one, state, order="update", dtype=jnp.dtype(float))
        return jax.lax.scan(book, start, (jnp.arange(n), roots))[0]

    for _ in range(30):
        chunk = rng.normal(size=n) * np.sqrt(1 + np.arange(n) / n)  # e^2 drifts from 1 to 2
        feedback = run(jnp.asarray(chunk))
        np.testing.assert_allclose(float(feedback.bias.value), -np.sum(chunk**2), rtol=1e-12)
        ratios.append(float(feedback.stderr()))
    exact = np.sqrt(np.sum(2 * (1 + np.arange(n) / n) ** 2))  # Var e^2 = 2 sigma^4
    assert abs(np.mean(ratios) / exact - 1) < 0.1
    assert np.isnan(Feedback.open(one, state, order="update", dtype=jnp.dtype(float)).stderr())


def rbm(seed=0):
    rng = np.random.default_rng(seed)
    parts = (rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=3))
    return qs.RBM(*(jnp.asarray(0.8 * part) for part in parts), qs.Binary(4), qs.Binary(3))


def enumerated(model):
    """All states as walkers, weighted by the model's law."""
    potential = qs.Potential(model, jnp.asarray(BETA))
    ensemble = quick_jit(Ensemble.open)(qs.BlockGibbs(), potential, STATES, log_z=0.0)
    log_weight = TwoFloat.zeros(ensemble.u.shape, ensemble.u.dtype).add(-ensemble.u)
    return potential, eqx.tree_at(lambda e: e.account.log_weight, ensemble, log_weight)


@pytest.mark.parametrize("centred", [False, True], ids=["plain", "centred"])
def test_noise_and_response_of_the_halves(centred):
    """The gradient is the same with and without; the noise is that of the halves; the response is its derivative."""
    potential, ensemble = enumerated(rbm())
    batch, controls, key = STATES[np.array([1, 5, 5, 14, 9])], Controls.of(), jax.random.key(0)
    rule = qs.MaximumLikelihood(weighted=True, centred=centred, l2=0.1)
    with_noise = dataclasses.replace(rule, has_noise=True)

    @quick_jit
    def both(potential, ensemble):
        given = key, potential, qs.BlockGibbs(), batch, ensemble, controls, None
        return rule.gradient(*given)[:2], with_noise.gradient(*given)[:2]

    (plain, nothing), (gradient, aux) = both(potential, ensemble)
    assert not {"noise", "response"} & set(nothing)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-13)
    w = np.asarray(ensemble.weights())
    visible = -BETA * np.asarray(STATES)  # du/db
    shares = w[:8].sum(), w[8:].sum()
    halves = [(w[s] @ visible[s]) / share for s, share in zip((slice(0, 8), slice(8, 16)), shares, strict=True)]
    expected = np.sqrt(shares[0] * shares[1]) * (halves[0] - halves[1])
    np.testing.assert_allclose(aux["noise"].visible_bias, expected, atol=1e-13)
    if not centred:
        np.testing.assert_allclose(aux["response"].weights, -aux["noise"].weights, atol=1e-15)
    else:
        assert float(jnp.abs(aux["response"].weights + aux["noise"].weights).max()) > 1e-3


def test_curvature_is_the_hessian_of_the_likelihood():
    """With all states as walkers: exactly the second derivative of the enumerated negative log-likelihood."""
    model, direction = rbm(), rbm(1)
    potential, ensemble = enumerated(model)
    batch = STATES[np.array([1, 5, 5, 14, 9])]
    rule = qs.MaximumLikelihood(weighted=True, l2=0.1)
    trained, fixed = eqx.partition(model, eqx.is_inexact_array)

    def loss(parameters):
        u = qs.Potential(eqx.combine(parameters, fixed), BETA)
        log_z = jax.nn.logsumexp(-jax.vmap(u)(STATES))
        return jnp.mean(jax.vmap(u)(batch)) + log_z + 0.05 * jnp.sum(parameters.weights**2)

    tangent = eqx.filter(direction, eqx.is_inexact_array)
    exact = quick_jit(lambda at, along: jax.jvp(jax.grad(loss), (at,), (along,))[1])(trained, tangent)
    found = quick_jit(rule.curvature)(potential, batch, ensemble, tangent)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def trainer_of(feedback, constructor=qs.jarzynski, **options):
    options = dict(n_walkers=33, auditor_groups=0, feedback=feedback, batch_size=20, **options)
    return constructor(qs.BlockGibbs(), optax.sgd(0.1), **options)


def trained_for(feedback):
    data = jnp.asarray(np.random.default_rng(2).random((60, 5)) < np.linspace(0.2, 0.8, 5), float)
    trainer, model = trainer_of(feedback), qs.RBM.initialise(jax.random.key(1), 5, 3, data=data)
    return run_chunk(trainer, trainer.init(jax.random.key(0), model), data, jnp.asarray(20, jnp.int32))


@pytest.mark.slow
def test_the_training_does_not_notice():
    """Parameters and walkers are those of a run without an estimate; without account weights there is none."""
    off, path = (trained_for(order) for order in ("off", "path"))
    assert off.feedback is None and float(path.feedback.bias.value) < 0
    np.testing.assert_allclose(path.model.weights, off.model.weights, atol=1e-12)
    np.testing.assert_array_equal(path.ensemble.x, off.ensemble.x)
    assert trainer_of("update").has_feedback
    assert trainer_of("update", qs.pcd).has_feedback
    reopened = qs.Restart("law", qs.Gaussian(jnp.zeros(2), jnp.eye(2)))
    assert not trainer_of("update", regulators=(reopened,)).has_feedback


def test_refused():
    with pytest.raises(InputError, match="feedback must be one of"):
        qs.jarzynski(qs.BlockGibbs(), optax.sgd(0.1), feedback="on")


def test_books_that_begin_anew():
    """What was measured afresh is no bias of the present log Z, and stays a part of the work done."""
    trained = (jnp.zeros(3),)
    feedback = Feedback.open(trained, trained, order="path", dtype=float)
    for step in range(2 * BLOCK):
        feedback = feedback.add(jnp.asarray(-0.25), step=jnp.asarray(step))
    feedback = eqx.tree_at(lambda f: f.parameters, feedback, (jnp.ones(3),))
    again = feedback.reopened()
    assert float(again.bias.value) == 0 == int(again.n_blocks) and float(again.total) == -0.5 * BLOCK
    again = again.add(jnp.asarray(-1.0), step=jnp.asarray(7))
    assert float(again.bias.value) == -1 and float(again.total) == -0.5 * BLOCK - 1 == float(again.reopened().closed)
    np.testing.assert_array_equal(
        again.parameters[0], jnp.ones(3)
    )  # the noise that the parameters carry is still there
