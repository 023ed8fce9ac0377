"""Block Gibbs along a prescribed path of a small RBM: exact propagation over its 16 visible states, then Monte Carlo.

The transition matrices are built from the package's conditionals and potentials, so the propagation tests what the
kernel computes, without its random numbers. Either order, move then switch or switch then move, is annealed importance
sampling: the mean weight is the ratio of partition functions and the weighted law is the model's, at any speed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from quasistatic.energies import RBM, AbstractEnergy, Potential, units
from quasistatic.kernels import BlockGibbs, SiteGibbs
from quasistatic.thermo import Controls, relax, switch
from tests.laws import conditionals, enumeration
from tests.laws.battery import advanced, log_mean_with_error, opened_at, quick_jit

N_STEPS = 8
V, H = enumeration.states("binary", 4), enumeration.states("binary", 3)
LOG_Z = 5.2719970192, 5.5500276619
ESS = 0.835934


def rbm_at(t):
    """The published path, `t` in [0, 1]: uncoupled, in fields, to frustrated."""
    i, j = np.arange(4)[:, None], np.arange(3)[None, :]
    weights = 2 * t * np.sin(1 + i + 2 * j)
    b = 0.5 * t * np.cos(i[:, 0]) + 0.2 * (1 - t)
    c = -0.3 * t * (j[0] + 1)
    return RBM(*(jnp.asarray(a, float) for a in (weights, b, c)), units("binary", 4), units("binary", 3))


def constant(_):
    return 1.0


def rising(t):
    return 0.7 + 0.6 * t


BETAS = pytest.mark.parametrize("beta", [constant, rising])


def potential_at(t, beta=constant):
    return Potential(rbm_at(t), jnp.asarray(beta(t)))


@functools.lru_cache
def potentials(t, beta=constant):
    """Reduced potential of the 16 states by the package."""
    return np.asarray(evaluated(potential_at(t, beta), jnp.asarray(V)))


@functools.lru_cache
def transition(t, beta=constant):
    """Matrix of one block-Gibbs sweep from the package's conditionals."""
    return conditionals.block_gibbs(rbm_at(t), beta(t), V, H)


def exact_log_z(t, beta=constant):
    rbm = rbm_at(t)
    joint = enumeration.rbm_joint(rbm.weights, rbm.visible_bias, rbm.hidden_bias, V, H)
    return float(logsumexp(-beta(t) * joint))


def propagate(order, beta=constant, *, sign=-1.0):
    """Exact `E[A^s delta(v - v_K)]` for s = 0 (no weights), 1, 2."""
    law = enumeration.law(potentials(0.0, beta))[0]
    f = np.stack([law] * 3)
    for k in range(N_STEPS):
        now, then = k / N_STEPS, (k + 1) / N_STEPS
        work = potentials(then, beta) - potentials(now, beta)
        factor = np.exp(sign * np.arange(3)[:, None] * work)
        f = (f @ transition(now, beta)) * factor if order == "move first" else (f * factor) @ transition(then, beta)
    return f


def test_the_published_partition_functions():
    for t, published in zip((0.0, 1.0), LOG_Z, strict=True):
        assert abs(exact_log_z(t) - published) < 6e-11
        assert abs(logsumexp(-potentials(t)) - exact_log_z(t)) < 1e-13


@BETAS
@pytest.mark.parametrize("order", ["switch first", "move first"])
def test_exact_propagation(order, beta):
    unweighted, first, second = propagate(order, beta)
    ratio = exact_log_z(1.0, beta) - exact_log_z(0.0, beta)
    law = enumeration.law(potentials(1.0, beta))[0]
    assert abs(np.log(first.sum()) - ratio) < 1e-12
    np.testing.assert_allclose(first / first.sum(), law, atol=1e-15)
    ess = first.sum() ** 2 / second.sum()
    lag = 0.5 * np.abs(unweighted - law).sum()
    if beta is constant:
        assert abs(ess - ESS) < 6e-7
        assert abs(lag - (0.105 if order == "move first" else 0.038)) < 6e-4
    assert lag > 0.03  # walkers without weights are late


@BETAS
def test_saboteur_sign_of_the_work(beta):
    first = propagate("switch first", beta, sign=+1.0)[1]
    assert abs(np.log(first.sum()) - (exact_log_z(1.0, beta) - exact_log_z(0.0, beta))) > 0.1


switched, relaxed = quick_jit(switch), quick_jit(relax)
evaluated = quick_jit(lambda potential, x: jax.vmap(potential)(x))


def along(key, order, beta, x):
    """Walkers taken along the path by the package."""
    kernel, controls = BlockGibbs(), Controls.of()
    log_z = jnp.sum(jax.nn.softplus(beta(0.0) * rbm_at(0.0).visible_bias)) + 3 * jnp.log(2.0)
    ensemble = opened_at(kernel, potential_at(0.0, beta), x, log_z)
    for k in range(N_STEPS):
        before, after = (potential_at(j / N_STEPS, beta) for j in (k, k + 1))
        key_move = jax.random.fold_in(key, k)
        if order == "switch first":
            ensemble = advanced(key_move, kernel, after, ensemble, controls)
        else:
            ensemble, _ = relaxed(key_move, kernel, before, ensemble, controls)
            ensemble, _ = switched(kernel, after, ensemble)
    return ensemble


@BETAS
@pytest.mark.parametrize("order", ["switch first", "move first"])
def test_walkers_of_the_package(order, beta):
    n = 100_000
    base = rbm_at(0.0).base()  # the hidden units do not interact yet
    ensemble = along(jax.random.key(10), order, beta, base.sample_exact(jax.random.key(3), beta(0.0), n))
    log_weight = np.asarray(ensemble.log_weight())
    log_mean, error = log_mean_with_error(log_weight)
    assert abs(log_mean - (exact_log_z(1.0, beta) - exact_log_z(0.0, beta))) < 4.5 * error < 0.01
    assert abs(float(ensemble.log_partition_groups()[0]) - exact_log_z(1.0, beta)) < 4.5 * error
    w = np.exp(log_weight - log_mean)
    unweighted, first, second = propagate(order, beta)
    ess = first.sum() ** 2 / second.sum()
    ess_error = np.std(2 * w - w**2 / np.mean(w**2)) / np.sqrt(n) / np.mean(w**2)
    assert abs(float(ensemble.ess()[0]) - ess) < 4.5 * ess_error

    law = enumeration.law(potentials(1.0, beta))[0]
    state = enumeration.index_of(ensemble.x, "binary")
    found = np.bincount(state, w, 16) / n
    spread = np.array([np.std(w * ((state == i) - law[i])) for i in range(16)]) / np.sqrt(n)
    assert np.abs((found - law) / spread).max() < 4.5
    counts = np.bincount(state, minlength=16)
    assert enumeration.chi_square(counts, n * unweighted) < 5 < enumeration.chi_square(counts, n * law)


class NaiveMarginal(AbstractEnergy):
    """Saboteur: the free energy at beta = 1 as if it were an energy, so that beta multiplies it."""

    rbm: RBM

    def __call__(self, x):
        return self.rbm(x)


def test_marginal_energy_is_not_beta_times_that_at_one():
    beta, rbm = 0.7, rbm_at(1.0)
    exact = exact_log_z(1.0, lambda _: beta)
    assert abs(logsumexp(-np.asarray(jax.vmap(Potential(rbm, beta))(jnp.asarray(V)))) - exact) < 1e-13
    naive = np.asarray(jax.vmap(Potential(NaiveMarginal(rbm), beta))(jnp.asarray(V)))
    assert abs(logsumexp(-naive) - exact) > 0.3
    np.testing.assert_allclose(naive, beta * np.asarray(jax.vmap(rbm)(jnp.asarray(V))), atol=1e-14)


@pytest.mark.parametrize(
    "visible, hidden", [("binary", "binary"), pytest.param("spin", "spin", marks=pytest.mark.slow), ("binary", "spin")]
)
def test_log_z_of_an_rbm_at_beta_seven_tenths(visible, hidden):
    """Books opened at the independent units, closed at the coupled model: enumeration agrees, at beta = 0.7."""
    beta, n, n_steps, key = 0.7, 40_000, 6, jax.random.key(77)

    def model(s):
        m = rbm_at(1.0)
        return RBM(s * m.weights, m.visible_bias, m.hidden_bias - 0.2, units(visible, 4), units(hidden, 3))

    start = model(0.0)
    hidden_part = start.hidden.cgf(start.hidden_natural(start.hidden_bias, beta)).sum()
    x, log_z = start.base().sample_exact(key, beta, n), start.base().log_partition(beta) + hidden_part

    def closed(kernel, energy):
        """Estimate of log Z at the end of the path, and its error."""
        walkers = opened_at(kernel, Potential(energy(start), beta), x, log_z)
        for k in range(1, n_steps + 1):
            potential = Potential(energy(model(k / n_steps)), beta)
            walkers = advanced(jax.random.fold_in(key, k), kernel, potential, walkers, Controls.of())
        return float(walkers.log_partition_groups()[0]), log_mean_with_error(walkers.log_weight())[1]

    m = model(1.0)
    v = enumeration.states(visible, 4)
    _, exact = enumeration.law(enumeration.rbm_marginal(m.weights, m.visible_bias, m.hidden_bias, beta, v, hidden))
    log_z_end, error = closed(BlockGibbs(), lambda rbm: rbm)
    print(f"{log_z_end:.4f} +- {error:.4f}, exact {exact:.4f}")
    assert abs(log_z_end - exact) < 4.5 * error < 0.05
    if visible == hidden == "binary":
        log_z_end, error = closed(SiteGibbs(), NaiveMarginal)
        assert abs(log_z_end - exact) > 20 * error
