"""Where learning with each method comes to rest, exactly: curvature of a Gaussian, and mass of a far mode.

Unadjusted Langevin walkers at a fixed curvature `kappa` have variance `1 / (kappa - h kappa^2 / 2)`, not `1 / kappa`.
Persistent and contrastive divergence match that variance to the data's and rest at

    kappa_h = (1 - sqrt(1 - 2 h / s^2)) / h ,

Jarzynski weights know the difference and rest at `1 / s^2` at any step `h`.

Reference:
    Carbone, Hua, Coste, Vanden-Eijnden, NeurIPS 2023 (arXiv 2305.19414), sections 2 and 4.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import expit, logit
from scipy.stats import norm

import quasistatic as qs
from quasistatic.energies import AbstractTractable
from quasistatic.thermo import Controls, Ensemble
from quasistatic.train import run_chunk

BETA, N_WALKERS = 0.7, 1000
FUSED = qs.Langevin(is_fused=True)


class Spring(AbstractTractable):
    """`E(x) = kappa x^2 / 2` in one dimension; the law has precision `beta kappa`."""

    kappa: jax.Array

    def __call__(self, x):
        return 0.5 * self.kappa * jnp.sum(x**2)

    def log_partition(self, beta):
        return 0.5 * jnp.log(2 * jnp.pi / (beta * self.kappa))

    def sample_exact(self, key, beta, n):
        return jax.random.normal(key, (n, 1)) / jnp.sqrt(beta * self.kappa)


def data_of(variance, n):
    """Quantiles of a Gaussian, scaled to this variance exactly."""
    x = norm.ppf((np.arange(n) + 0.5) / n)
    return jnp.asarray(x * np.sqrt(variance / np.mean(x**2)))[:, None]


def resting_curvature(h, variance=1.0):
    """`kappa_h`, where the variance of unadjusted walkers is the data's."""
    return (1 - np.sqrt(1 - 2 * h / variance)) / h


@functools.cache
def spring_trainer(method, rate, n_walkers=N_WALKERS):
    options = dict(n_walkers=n_walkers, auditor_groups=0)
    return getattr(qs, method)(FUSED if method == "jarzynski" else qs.Langevin(), rate, **options)


# one object each: trainings at other steps, curvatures and data share the program
DESCENT, UNIT = optax.sgd(optax.linear_schedule(0.15, 0.0, 450, 150)), optax.sgd(1.0)


@functools.cache
def rested(method, h, variance, n_seeds=4):
    """Reduced curvature `beta kappa` at the end of trainings, mean and standard error over seeds."""
    trainer = spring_trainer(method, DESCENT)
    trainer = eqx.tree_at(lambda t: t.controls, trainer, Controls.of(beta=BETA, step_size=h))
    found = []
    for seed in range(n_seeds):
        state = trainer.init(jax.random.key(seed), Spring(jnp.asarray(0.8 / (BETA * variance))))
        state = run_chunk(trainer, state, data_of(variance, N_WALKERS), jnp.asarray(600, jnp.int32))
        found.append(BETA * float(state.model.kappa))
    return np.mean(found), np.std(found, ddof=1) / np.sqrt(n_seeds)


def rests_at(curvature, found):
    """Whether a training came to rest there: within 4.5 standard errors, and the bias of order 1/N of a ratio."""
    value, error = found
    print(f"{value:.4f} +- {error:.4f}, expected {curvature:.4f}")
    assert error < 0.02
    return abs(value - curvature) < 4.5 * error + 2 / N_WALKERS


def test_the_published_resting_points():
    for h, published in ((0.1, 1.05573), (0.2, 1.12702), (0.4, 1.38197)):
        assert abs(resting_curvature(h) - published) < 6e-6


@pytest.mark.parametrize("h, variance", [pytest.param(0.2, 1.0, marks=pytest.mark.slow), (0.4, 1.3)])
@pytest.mark.parametrize("method", ["pcd", pytest.param("cd", marks=pytest.mark.slow), "jarzynski"])
def test_where_learning_rests(method, h, variance):
    biased, true = resting_curvature(h, variance), 1 / variance
    expected, other = (true, biased) if method == "jarzynski" else (biased, true)
    assert rests_at(expected, rested(method, h, variance))
    assert not rests_at(other, rested(method, h, variance))  # the methods are told apart


def slope_of_score_matching(model, x):
    """`d/dkappa E_*[|grad u|^2 / 2 - Laplacian u]`, by differentiating the package's potential."""

    def objective(kappa):
        u = qs.Potential(Spring(kappa), BETA)
        gradient, curvature = jax.vmap(jax.grad(u))(x), jax.vmap(jax.hessian(u))(x)
        return jnp.mean(0.5 * jnp.sum(gradient**2, 1) - jnp.trace(curvature, axis1=1, axis2=2))

    return float(jax.grad(objective)(model.kappa))


def one_step_of_cd(h, kappa, variance, n=400_000):
    """Gradient of one CD-1 update in `kappa`, and its standard error given the data."""
    trainer = spring_trainer("cd", UNIT, n)
    trainer = eqx.tree_at(lambda t: t.controls, trainer, Controls.of(beta=BETA, step_size=h))
    state = trainer.init(jax.random.key(1), Spring(jnp.asarray(kappa)))
    after = run_chunk(trainer, state, data_of(variance, n), jnp.asarray(1, jnp.int32))
    shrink = 1 - h * BETA * kappa
    error = 0.5 * BETA * np.sqrt((8 * h**2 + 8 * h * shrink**2 * variance) / n)  # s.d. of x'^2 given the data
    return kappa - float(after.model.kappa), error


@pytest.mark.parametrize("h", [0.3, 0.02])
@pytest.mark.parametrize("kappa, variance", [(1.9, 1.3), (0.6, 0.8)])
def test_gradient_of_one_step_contrastive_divergence(h, kappa, variance):
    """`beta (h (k s^2 - 1) - h^2 k^2 s^2 / 2)` with `k = beta kappa`: for small steps `h` times score matching."""
    k = BETA * kappa
    exact = BETA * (h * (k * variance - 1) - h**2 * k**2 * variance / 2)
    found, error = one_step_of_cd(h, kappa, variance)
    print(f"{found:.6f} +- {error:.6f}, exact {exact:.6f}")
    assert abs(found - exact) < 4.5 * error
    fisher = slope_of_score_matching(Spring(jnp.asarray(kappa)), data_of(variance, 4000))
    np.testing.assert_allclose(fisher, BETA * (k * variance - 1), rtol=1e-12)
    remainder = abs(BETA * h * k**2 * variance / 2)
    assert abs(found / h - fisher) < 4.5 * error / h + 1.0001 * remainder
    # maximum likelihood is another direction: its gradient at this point does not scale with h
    likelihood = 0.5 * BETA * (variance - 1 / k)
    assert abs(found - likelihood) > 10 * error


class TwoModes(AbstractTractable):
    """`E(x) = -log(exp(-(x - a)^2 / 2) + exp(-z - (x - b)^2 / 2))`: only the log mass `z` is learnt."""

    z: jax.Array
    a: float = eqx.field(static=True, default=-9.0)
    b: float = eqx.field(static=True, default=8.0)

    def __call__(self, x):
        return -jnp.logaddexp(-0.5 * jnp.sum((x - self.a) ** 2), -self.z - 0.5 * jnp.sum((x - self.b) ** 2))

    def log_partition(self, beta):
        del beta  # 1 in these tests: elsewhere there is no closed form
        return 0.5 * jnp.log(2 * jnp.pi) + jnp.logaddexp(0.0, -self.z)

    def sample_exact(self, key, beta, n):
        del beta
        key_mode, key_noise = jax.random.split(key)
        is_b = jax.random.bernoulli(key_mode, jax.nn.sigmoid(-self.z), (n, 1))
        return jnp.where(is_b, self.b, self.a) + jax.random.normal(key_noise, (n, 1))


ETA, DATA_MASS, N_MODES = 0.02, 0.75, 1000


@functools.cache
def modes_trainer(method):
    options = dict(step_size=0.1, n_walkers=N_MODES, auditor_groups=0)
    return getattr(qs, method)(FUSED if method == "jarzynski" else qs.Langevin(), optax.sgd(ETA), **options)


def placed(key, mass):
    """Positions near the two modes, exactly this share of them near `b`."""
    is_b = np.arange(N_MODES) < mass * N_MODES
    model = TwoModes(jnp.zeros(()))
    return jnp.where(jnp.asarray(is_b), model.b, model.a)[:, None] + jax.random.normal(key, (N_MODES, 1))


def learnt(method, mass, n_steps, seed=0):
    """`z` along a training whose walkers start with this share near `b`, recorded every tenth of it."""
    trainer, model = modes_trainer(method), TwoModes(jnp.zeros(()))
    key = jax.random.key(seed)
    data = placed(jax.random.fold_in(key, 1), DATA_MASS)
    state = trainer.init(key, model)
    start = Ensemble.open(trainer.kernel, qs.Potential(model, state.controls.beta), placed(key, mass), log_z=0.0)
    state = eqx.tree_at(lambda s: s.ensemble, state, start)
    z = []
    for stop in np.linspace(0, n_steps, 11).astype(int)[1:]:
        state = run_chunk(trainer, state, data, jnp.asarray(stop, jnp.int32))
        z.append(float(state.model.z))
    return np.array(z)


def test_pcd_never_moves_mass_between_far_modes():
    """`dz/dk = eta (q_walkers - q_data)` for ever: the occupation is frozen, so `z` runs away in a straight line."""
    z = learnt("pcd", 0.45, 500)
    np.testing.assert_allclose(z, ETA * (0.45 - DATA_MASS) * np.linspace(0, 500, 11)[1:], rtol=1e-9)
    # the exact gradient would have come to rest at the data's log ratio
    assert abs(z[-1] - -logit(DATA_MASS)) > 1


def test_pcd_started_at_the_data_learns_no_mass():
    np.testing.assert_allclose(learnt("pcd", DATA_MASS, 500), 0.0, atol=1e-9)


def test_weights_find_the_mass_up_to_their_start():
    """`z~ = z_0 + log(p_data / q_data) - log(p_start / q_start)`: published -1.299283 for 0.55/0.45 and q = 0.75."""
    expected = -logit(DATA_MASS) - logit(0.55)
    assert abs(expected + 1.299283) < 6e-7
    ends = np.array([learnt("jarzynski", 0.45, 2000, seed)[-1] for seed in range(4)])
    error = ends.std(ddof=1) / np.sqrt(len(ends))
    print(f"{ends.mean():.5f} +- {error:.5f}, expected {expected:.5f}")
    assert abs(ends.mean() - expected) < 4.5 * error < 0.01
    # neither the data's own log ratio nor the starting point
    assert min(abs(ends.mean() - other) for other in (-logit(DATA_MASS), 0.0)) > 20 * error
    assert abs(expit(-ends.mean()) - DATA_MASS) < 0.05
