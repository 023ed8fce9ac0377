"""Gibbs moves that keep their hidden states in the weight: exact over all 16 x 8 x 16 moves, then walkers.

The path, its partition functions and the effective sample sizes are the published ones of `test_rbm_path`; the moves'
probabilities come from joint energies by NumPy, the weights from the kernel's own `gain`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from quasistatic.errors import InputError
from quasistatic.kernels import AuxiliaryGibbs
from quasistatic.kernels.auxiliary import hidden_potential
from quasistatic.thermo import Controls
from tests.laws import enumeration
from tests.laws.battery import advanced, log_mean_with_error, opened_at, quick_jit
from tests.laws.test_rbm_path import (
    BETAS,
    N_STEPS,
    H,
    V,
    constant,
    exact_log_z,
    potential_at,
    potentials,
    propagate,
    rbm_at,
)

LOG_RATIO = 0.2780306426
ESS = {"joint": 0.590014, "fused": 0.394114}
VARIANTS = pytest.mark.parametrize("variant", ESS)


def conditionals_of(t, beta):
    """`p(h|v)` and `p(v|h)` by NumPy, shape (16, 8) both."""
    m = rbm_at(t)
    log_p = -beta(t) * enumeration.rbm_joint(m.weights, m.visible_bias, m.hidden_bias, V, H)
    return np.exp(log_p - logsumexp(log_p, 1, keepdims=True)), np.exp(log_p - logsumexp(log_p, 0, keepdims=True))


@functools.lru_cache
def gains(variant, k, beta=constant):
    """Log-weight increment of every move `v -> h -> v'` of update `k`, by the kernel."""
    kernel = AuxiliaryGibbs(variant)
    before, after = (potential_at(j / N_STEPS, beta) for j in (k, k + 1))
    return np.asarray(_gains(kernel, before, after, jnp.asarray(V), jnp.asarray(H)))


@quick_jit
def _gains(kernel, before, after, v, h):
    def one(v, h, v_new):
        return kernel.gain(kernel.init(before, v).cache, after, v, h, v_new)

    over_new = jax.vmap(one, (None, None, 0))
    over_hidden = jax.vmap(over_new, (None, 0, None))
    return jax.vmap(over_hidden, (0, None, None))(v, h, v)


def propagate_moves(variant, beta=constant, *, spoil=lambda gain, k: gain):
    """Exact `E[exp(s A) delta(v - v_K)]` for s = 0, 1, 2, summed over hidden states. Args: spoil, for saboteurs."""
    f = np.stack([enumeration.law(potentials(0.0, beta))[0]] * 3)
    for k in range(N_STEPS):
        now, then = k / N_STEPS, (k + 1) / N_STEPS
        up, _ = conditionals_of(now, beta)
        _, down = conditionals_of(now if variant == "fused" else then, beta)
        move = up[:, :, None] * down.T[None]
        gain = spoil(gains(variant, k, beta), k)
        f = np.stack([f[s] @ (move * np.exp(s * gain)).sum(1) for s in range(3)])
    return f


def assert_exact(f, beta):
    """Mean weight and weighted law, to rounding."""
    assert abs(np.log(f[1].sum()) - (exact_log_z(1.0, beta) - exact_log_z(0.0, beta))) < 1e-12
    np.testing.assert_allclose(f[1] / f[1].sum(), enumeration.law(potentials(1.0, beta))[0], atol=1e-14)


@BETAS
@VARIANTS
def test_exact_propagation(variant, beta):
    f = propagate_moves(variant, beta)
    assert_exact(f, beta)
    assert abs(f[0].sum() - 1) < 1e-13
    if beta is constant:
        assert abs(np.log(f[1].sum()) - LOG_RATIO) < 6e-11
        assert abs(f[1].sum() ** 2 / f[2].sum() - ESS[variant]) < 6e-7
    # the hidden states are better summed out: the default keeps more walkers
    marginal = propagate("switch first", beta)
    assert f[1].sum() ** 2 / f[2].sum() < 0.9 * marginal[1].sum() ** 2 / marginal[2].sum()


@BETAS
@VARIANTS
def test_saboteur_wrong_terms(variant, beta):
    """The sign of a gain; and of `fused` the change of `G` dropped, of `joint` the energy taken where the move ends."""

    def without_hidden_part(gain, k):
        g = [np.asarray(_hidden(potential_at(j / N_STEPS, beta), jnp.asarray(H))) for j in (k, k + 1)]
        return gain - (g[1] - g[0])[None, :, None]

    def at_the_end(gain, k):
        del k
        return gain[:, :, :1].transpose(2, 1, 0)

    other = without_hidden_part if variant == "fused" else at_the_end
    for spoil in (lambda gain, k: -gain, other):
        with pytest.raises(AssertionError):
            assert_exact(propagate_moves(variant, beta, spoil=spoil), beta)


@quick_jit
def _hidden(potential, h):
    return jax.vmap(lambda one: hidden_potential(potential, one))(h)


@BETAS
@VARIANTS
def test_walkers_of_the_package(variant, beta):
    """Sampled: log ratio, effective sample size, weighted and plain occupation of all 16 states."""
    n, kernel = 100_000, AuxiliaryGibbs(variant)
    x = rbm_at(0.0).base().sample_exact(jax.random.key(3), beta(0.0), n)
    ensemble = opened_at(kernel, potential_at(0.0, beta), x, exact_log_z(0.0, beta))
    for k in range(N_STEPS):
        after = potential_at((k + 1) / N_STEPS, beta)
        ensemble = advanced(jax.random.fold_in(jax.random.key(10), k), kernel, after, ensemble, Controls.of())
    log_weight = np.asarray(ensemble.log_weight())
    log_mean, error = log_mean_with_error(log_weight)
    print(f"{variant}: {log_mean:.5f} +- {error:.5f}")
    assert abs(log_mean - (exact_log_z(1.0, beta) - exact_log_z(0.0, beta))) < 4.5 * error < 0.03
    w = np.exp(log_weight - log_mean)
    f = propagate_moves(variant, beta)
    ess_error = np.std(2 * w - w**2 / np.mean(w**2)) / np.sqrt(n) / np.mean(w**2)
    assert abs(float(ensemble.ess()[0]) - f[1].sum() ** 2 / f[2].sum()) < 4.5 * ess_error < 0.1
    law = enumeration.law(potentials(1.0, beta))[0]
    state = enumeration.index_of(ensemble.x, "binary")
    spread = np.array([np.std(w * ((state == i) - law[i])) for i in range(16)]) / np.sqrt(n)
    assert np.abs((np.bincount(state, w, 16) / n - law) / spread).max() < 4.5
    counts = np.bincount(state, minlength=16)
    assert enumeration.chi_square(counts, n * f[0]) < 5 < enumeration.chi_square(counts, n * law)


def test_refused():
    with pytest.raises(InputError, match="unknown variant 'both'"):
        AuxiliaryGibbs("both")
