"""Temperature is a gauge: training at `(theta, T_t)` is training `theta / T_t` at T = 1, bit for bit.

With the factor `1/T` left out of the gradient (`beta_power=0`), the rescaled run has start `W_0 / T`, rate `eta / T_t`,
decay `lambda T_t`, and its parameters are multiplied by `T_t / T_(t+1)` after each update. A sweep of fixed
temperatures is therefore a sweep of initial scales and learning rates, and nothing else.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic.evaluate import pseudo_likelihood, reconstruction_error
from quasistatic.evaluate.exact import exact_likelihood
from quasistatic.train.step import step
from tests.laws.battery import quick_jit

N, M, WALKERS, BATCH = 20, 12, 16, 16
DATA = (np.random.default_rng(5).random((256, N)) < np.random.default_rng(6).random(N)).astype(float)
KERNEL = qs.BlockGibbs()


def trainer(decay):
    return qs.Trainer(
        KERNEL, qs.MaximumLikelihood(beta_power=0, l2=decay), optax.sgd(0.1), n_walkers=WALKERS, auditor_groups=0,
        feedback="off",
    )  # fmt: skip


MACHINE = trainer(1e-3)  # its decay is replaced by a traced one: one program for all


@quick_jit
def updated(machine, decay, beta, lr_scale, kick, state, batch):
    """One update, after which all parameters are multiplied by `kick`."""
    machine = eqx.tree_at(lambda t: t.rule.l2, machine, decay)
    state = eqx.tree_at(lambda s: (s.controls.beta, s.controls.lr_scale), state, (beta, lr_scale))
    new = step(machine, state, batch)
    model = jax.tree.map(lambda leaf: kick * leaf if eqx.is_inexact_array(leaf) else leaf, new.model)
    return eqx.tree_at(lambda s: s.model, new, model)


def trained(path, *, is_gauge, dtype=jnp.float64, n=60, decay=1e-3):
    """Parameters over T, walkers of every update, and flip rates, along a path of temperatures."""
    w = np.random.default_rng(7).normal(0, 0.05, (N, M))
    model = qs.RBM(jnp.asarray(w / path[0] if is_gauge else w), jnp.zeros(N), jnp.zeros(M), qs.Binary(N), qs.Binary(M))
    state = MACHINE.init(jax.random.key(3), model)
    state = jax.tree.map(lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, state)
    rng, chains, flips = np.random.default_rng(8), [], []
    for t, after in zip(path[:n], path[1 : n + 1], strict=True):
        numbers = (decay * t, 1.0, 1 / t, t / after) if is_gauge else (decay, 1 / t, 1.0, 1.0)
        batch = jnp.asarray(DATA[rng.integers(0, 256, BATCH)], dtype)
        state = updated(MACHINE, *(jnp.asarray(number, dtype) for number in numbers), state, batch)
        chains.append(np.asarray(state.ensemble.x))
        flips.append(float(state.ledger.last_flip_rate))
    scale = 1.0 if is_gauge else path[n]
    theta = [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(state.model, eqx.is_inexact_array))]
    assert theta[0].dtype == dtype and np.abs(theta[0]).max() > 0.1
    return [leaf / np.asarray(scale, dtype) for leaf in theta], np.array(chains), np.array(flips)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a[0], b[0], strict=True)) and np.array_equal(a[1], b[1])


@pytest.mark.parametrize("dtype", [jnp.float64, pytest.param(jnp.float32, marks=pytest.mark.slow)], ids=str)
def test_a_constant_power_of_two_is_bit_identical(dtype):
    """T-15."""
    path = np.full(61, 2.0)
    assert same(trained(path, is_gauge=False, dtype=dtype), trained(path, is_gauge=True, dtype=dtype))


def test_a_random_path_of_powers_of_two_is_bit_identical():
    """T-16, and T-17 for the flip rate: chains, parameters over T and flips."""
    path = 2.0 ** np.random.default_rng(9).integers(-1, 3, 61)
    a, b = (trained(path, is_gauge=is_gauge) for is_gauge in (False, True))
    assert same(a, b) and np.array_equal(a[2], b[2])
    # saboteur: the same rate whatever T is, and no kick
    flat = trained(np.ones(61), is_gauge=True)
    assert not np.array_equal(flat[1], b[1])


def test_a_smooth_path():
    """T-16: the same chains, and parameters to rounding."""
    path = np.exp(0.3 * np.sin(np.arange(61) / 17))
    a, b = (trained(path, is_gauge=is_gauge) for is_gauge in (False, True))
    assert np.array_equal(a[1], b[1])
    for x, y in zip(a[0], b[0], strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_metrics_do_not_see_the_gauge():
    """T-17: likelihood, pseudo-likelihood, reconstruction and norms over T of `(theta, T)` and `(s theta, s T)`."""
    rng = np.random.default_rng(10)
    parameters = rng.normal(0, 0.7, (N, M)), rng.normal(size=N), rng.normal(size=M)
    found = []
    for s in (1.0, 3.7):
        model = qs.RBM(*(jnp.asarray(s * p) for p in parameters), qs.Binary(N), qs.Binary(M))
        beta = 1 / (0.8 * s)
        judged = [f(model, DATA[:40], beta) for f in (exact_likelihood, pseudo_likelihood, reconstruction_error)]
        found.append([*judged, np.linalg.norm(model.weights) * beta])
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-11)
    hot = exact_likelihood(model, DATA[:40], 1 / 0.8)  # parameters alone scaled: seen
    assert abs(hot - found[0][0]) > 0.1
