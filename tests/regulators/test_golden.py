"""A 3 x 2 RBM at three temperatures, number by number, and its gradient: where the factors of beta belong."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import quasistatic as qs
from quasistatic.energies import RBM, units
from quasistatic.evaluate import pseudo_likelihood
from quasistatic.evaluate.exact import log_partition_exact
from quasistatic.thermo import Ensemble
from tests.laws import enumeration

W = np.array([[1, -1], [0.5, 2], [-1.5, 0.25]])
B, C = np.array([0.1, -0.2, 0.3]), np.array([-0.4, 0.6])
MODEL = RBM(jnp.asarray(W), jnp.asarray(B), jnp.asarray(C), units("binary", 3), units("binary", 2))
V, H = enumeration.states("binary", 3), enumeration.states("binary", 2)
GOLDEN = {  # T: log Z, F(1,0,1), p(h = 1 | 101), log pseudo-likelihood of 101, with the wrong sign, flip rate
    0.5: (6.897308936056, -1.507332854995, (0.14185106, 0.42555748), -5.328896366872, None, 0.235747162773),
    1.0: (4.660776207701, -1.362110922522, (0.28905050, 0.46257015), -3.270488283030, -1.3520, 0.379370643457),
    2.0: (3.890693278380, -1.349599086824, (0.38936077, 0.48125878), -2.536109425739, None, 0.463899581207),
}
CROSS = [0.25255766, 0.32933862, 0.38100439, 0.73727579, 0.12119543, 0.39944845]  # <v h> at T = 1
SITE = np.array([1.0, 0.0, 1.0])


def potentials(t, x=V):
    return np.asarray(jax.vmap(qs.Potential(MODEL, jnp.asarray(1 / t)))(jnp.asarray(x)))


@pytest.mark.parametrize("t", GOLDEN)
def test_numbers(t):
    """T-01, T-04: potential, conditionals, both sums for log Z, pseudo-likelihood and its wrong sign."""
    log_z, free, hidden, pseudo, wrong, _ = GOLDEN[t]
    u = potentials(t)
    np.testing.assert_allclose(u[5], free, rtol=0, atol=1e-11)
    joint = enumeration.rbm_joint(W, B, C, V, H) / t
    for found in (enumeration.law(u)[1], enumeration.law(joint.ravel())[1], log_partition_exact(MODEL, 1 / t)):
        np.testing.assert_allclose(found, log_z, rtol=0, atol=1e-10)
    natural = MODEL.hidden_natural(MODEL.hidden_inputs(jnp.asarray(SITE)), 1 / t)
    np.testing.assert_allclose(MODEL.hidden.mean(natural), hidden, rtol=0, atol=5e-9)
    np.testing.assert_allclose(pseudo_likelihood(MODEL, SITE[None], 1 / t), pseudo, rtol=0, atol=1e-10)
    flipped = np.abs(SITE - np.eye(3))  # the saboteur: log probability of the wrong bits
    saboteur = -np.logaddexp(0, potentials(t, flipped) - u[5]).sum()
    assert abs(saboteur - pseudo) > 0.1 and (wrong is None or abs(saboteur - wrong) < 5e-5)


def likelihood(theta, t, x):
    """Exact mean log-likelihood, written out."""
    w, b, c = theta[:6].reshape(3, 2), theta[6:9], theta[9:]
    f = -(V @ b) / t - np.logaddexp(0, (V @ w + c) / t).sum(1)
    rows = enumeration.index_of(x, "binary")
    return -f[rows].mean() - enumeration.law(f)[1]


@pytest.mark.parametrize("t", [0.5, 2.0])
def test_gradient_and_its_powers_of_beta(t):
    """T-02: by finite differences it is `(data - model) / T`; `beta_power` of 0 and -1 give `T` and `T^2` times it."""
    x = V[[0, 1, 5, 5, 6, 7, 7]]
    theta = np.concatenate([W.ravel(), B, C])
    h = 1e-5 * np.eye(11)
    slope = np.array([(likelihood(theta + e, t, x) - likelihood(theta - e, t, x)) / 2e-5 for e in h])
    potential = qs.Potential(MODEL, jnp.asarray(1 / t))
    ensemble = Ensemble.open(qs.BlockGibbs(), potential, jnp.asarray(V), log_z=0.0)
    # exact averages: every state once, weighted by its probability
    log_weight = jnp.asarray(np.log(enumeration.law(potentials(t))[0]))
    ensemble = eqx.tree_at(lambda e: e.account.log_weight.hi, ensemble, log_weight)
    found = {}
    for power in (1, 0, -1):
        rule = qs.MaximumLikelihood(weighted=True, beta_power=power, l2=0.3)
        gradient, aux, _ = rule.gradient(
            jax.random.key(0), potential, qs.BlockGibbs(), jnp.asarray(x), ensemble, qs.Controls.of(), None
        )
        parts = (gradient.weights.ravel() - 0.3 * W.ravel(), gradient.visible_bias, gradient.hidden_bias)
        found[power] = -np.concatenate(parts)
        assert ("scores" in aux) == (power == 1)  # the rows of the metric are those of the likelihood
    np.testing.assert_allclose(found[1], slope, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found[0], t * slope, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found[-1], t**2 * slope, rtol=0, atol=1e-9)
    assert np.abs(found[0] - slope).max() > 0.01  # leaving 1/T out is seen
    if t == 2.0:
        return
    cross = (V * enumeration.law(potentials(1.0))[0][:, None]).T @ (1 / (1 + np.exp(-(V @ W + C))))
    np.testing.assert_allclose(cross.ravel(), CROSS, rtol=0, atol=5e-9)


@pytest.mark.parametrize("t", GOLDEN)
def test_flip_rate(t):
    """T-07: walkers in equilibrium flip at the exact rate; the rate is a whole number of flips."""
    p, _ = enumeration.law(potentials(t))
    n = 40_000
    x = V[np.random.default_rng(1).choice(8, n, p=p)]
    potential = qs.Potential(MODEL, jnp.asarray(1 / t))
    ensemble = Ensemble.open(qs.BlockGibbs(), potential, jnp.asarray(x))
    moved, info = relaxed(jax.random.key(7), potential, ensemble)
    per_walker = np.abs(np.asarray(moved.x) - x).mean(1)
    rate, stderr = float(info["flip_rate"]), per_walker.std(ddof=1) / np.sqrt(n)
    assert abs(rate - GOLDEN[t][-1]) < 4 * stderr < 0.006
    assert abs(rate * n * 3 - round(rate * n * 3)) < 1e-6 and abs(rate - per_walker.mean()) < 1e-12


@eqx.filter_jit
def relaxed(key, potential, ensemble):
    return qs.relax(key, qs.BlockGibbs(), potential, ensemble, qs.Controls.of(n_sweeps=1))


def test_bad_power_is_refused():
    with pytest.raises(qs.InputError, match="beta_power"):
        qs.MaximumLikelihood(beta_power=2)
