"""Identities of weights that hold path by path, for every key, in machine epsilons."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import AbstractEnergy, Gaussian, Potential
from quasistatic.kernels import MALA, Langevin, langevin, metropolis
from quasistatic.kernels.langevin import log_forward
from quasistatic.thermo import Controls, relax, switch
from tests.laws.battery import CASES, advanced, driven, label, one_per_kernel, opened, opened_at, quick_jit, refreshed

LANGEVIN = [Langevin(), Langevin(is_fused=True)]
ORDERS = pytest.mark.parametrize("kernel", LANGEVIN, ids=["unfused", "fused"])


def correlated(beta=0.7):
    return Potential(Gaussian(jnp.array([0.3, -0.8]), jnp.array([[1.1, 0.0], [-0.6, 0.9]])), beta)


class Shifted(AbstractEnergy):
    """The same law with another zero of energy."""

    energy: AbstractEnergy
    constant: jax.Array

    def __call__(self, x):
        return self.energy(x) + self.constant


class Flat(AbstractEnergy):
    """No force at all."""

    constant: jax.Array

    def __call__(self, x):
        return self.constant + 0.0 * jnp.sum(x)


@ORDERS
def test_weights_telescope_at_a_fixed_quadratic(kernel, key):
    """`A = (h/4) (|K(X_0 - m)|^2 - |K(X_k - m)|^2)` with `K` the reduced curvature."""
    potential, h = correlated(), 0.3
    controls = Controls.of(step_size=h)
    x = potential.energy.sample_exact(key, 0.7, 64)
    ensemble = opened_at(kernel, potential, x)
    for i in range(12):
        ensemble = advanced(jax.random.fold_in(key, i), kernel, potential, ensemble, controls)
    gradient = jax.vmap(jax.grad(potential))
    predicted = h / 4 * (jnp.sum(gradient(x) ** 2, 1) - jnp.sum(gradient(ensemble.x) ** 2, 1))
    np.testing.assert_allclose(ensemble.log_weight(), predicted, atol=1e-10)
    assert float(jnp.std(predicted)) > 0.05


@ORDERS
def test_constant_potentials_are_pure_work(kernel, key):
    """Without forces the walkers diffuse, and `A = c_0 - c_k` exactly."""
    x, constants = jax.random.normal(key, (32, 3)), (0.4, 2.5, -1.1, 0.9)
    ensemble = opened_at(kernel, Potential(Flat(jnp.asarray(constants[0])), 0.7), x)
    for i, c in enumerate(constants[1:]):
        potential = Potential(Flat(jnp.asarray(c)), 0.7)
        ensemble = advanced(jax.random.fold_in(key, i), kernel, potential, ensemble, Controls.of(step_size=0.3))
        np.testing.assert_allclose(ensemble.log_weight(), 0.7 * (constants[0] - c), atol=1e-12)
    assert not np.array_equal(x, ensemble.x)


@pytest.mark.parametrize(
    "kernel",
    [pytest.param(Langevin(), marks=pytest.mark.slow), Langevin(is_fused=True), MALA()],
    ids=["unfused", "fused", "mala"],
)
def test_zero_of_energy_is_a_gauge(kernel, key):
    """`U_k -> U_k + c_k` moves every log weight by `-(c_k - c_0)`; weights, ESS and walkers stay."""
    path = [Gaussian(jnp.array([0.2 * i, 0.0]), jnp.array([[1.0 + 0.2 * i, 0.0], [0.4, 0.8]])) for i in range(5)]
    constants = jnp.array([0.7, -3.1, 12.0, 0.4, -5.5])
    x, controls = path[0].sample_exact(key, 0.7, 48), Controls.of(step_size=0.2)
    ends = []
    for c in (jnp.zeros(5), constants):
        energies = [Shifted(energy, shift) for energy, shift in zip(path, c, strict=True)]
        ensemble = opened_at(kernel, Potential(energies[0], 0.7), x, -0.7 * c[0])
        for i, energy in enumerate(energies[1:]):
            ensemble = advanced(jax.random.fold_in(key, i), kernel, Potential(energy, 0.7), ensemble, controls)
        ends.append(ensemble)
    plain, shifted = ends
    np.testing.assert_allclose(shifted.x, plain.x, atol=1e-12)
    change = 0.7 * (constants[-1] - constants[0])
    np.testing.assert_allclose(plain.log_weight() - shifted.log_weight(), change, atol=1e-11)
    np.testing.assert_allclose(shifted.weights(), plain.weights(), atol=1e-12)
    np.testing.assert_allclose(shifted.ess(), plain.ess(), atol=1e-12)
    log_z = plain.log_partition_groups() - 0.7 * constants[-1]
    np.testing.assert_allclose(shifted.log_partition_groups(), log_z, atol=1e-11)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_without_moves_weights_are_importance_weights(case, key):
    """Switches alone, by any route: `A = u_0(X) - u_k(X)`."""
    ensemble = opened(case, key)
    x = np.asarray(ensemble.x)
    for s in (0.3, 0.9, 0.2, 0.6):
        ensemble, _ = refreshed(case, ensemble, s)
    np.testing.assert_allclose(ensemble.log_weight(), case.reduced(0.0, x) - case.reduced(0.6, x), atol=1e-12)
    np.testing.assert_array_equal(ensemble.x, x)
    assert not np.any(ensemble.account.heat.value) and not np.any(ensemble.account.shadow_work.value)


@pytest.mark.parametrize("case", [c for c in one_per_kernel() if not c.kernel.moves_with_switch], ids=label)
def test_no_sweeps_is_no_move(case, key):
    ensemble = driven(key, case, opened(case, key), (0.7, 0.4), 0)
    x = np.asarray(ensemble.x)
    np.testing.assert_allclose(ensemble.log_weight(), case.reduced(0.0, x) - case.reduced(0.4, x), atol=1e-12)


def test_importance_sampling_of_a_shifted_gaussian_has_the_known_ess(key):
    """ESS fraction `exp(-|delta|^2)` for a shift by `delta` standard deviations: the cost of one parameter step."""
    potential, n = correlated(), 200_000
    delta = jnp.array([0.5, 0.4])
    factor = jnp.sqrt(0.7) * potential.energy.precision_factor
    mean = potential.energy.mean + jnp.linalg.solve(factor.T, delta)
    ensemble = opened_at(Langevin(), potential, potential.energy.sample_exact(key, 0.7, n))
    after = Potential(eqx.tree_at(lambda e: e.mean, potential.energy, mean), 0.7)
    ensemble, _ = quick_jit(switch)(Langevin(), after, ensemble)
    d2 = float(jnp.sum(delta**2))
    w = np.exp(np.asarray(ensemble.log_weight()))
    error = np.std(2 * w - w**2 / np.mean(w**2)) / np.sqrt(n) / np.mean(w**2)
    assert abs(float(ensemble.ess()[0]) - np.exp(-d2)) < 5 * error
    assert abs(float(ensemble.log_partition_groups()[0])) < 5 * np.sqrt((np.exp(d2) - 1) / n)


def test_mala_accepts_by_the_weight_that_langevin_books(key, monkeypatch):
    """For the same move at a fixed model, log acceptance ratio = Langevin weight increment, to 1e-12.

    The proposal is made a function of the position, so both kernels try the same move, and the uniform number is set
    just below and just above `exp(dA)`: MALA must accept the one and reject the other.
    """
    potential, controls = correlated(), Controls.of(step_size=0.4)

    def same_move(key, x, gradient, step_size):
        return x - step_size * gradient + jnp.sqrt(2 * step_size) * 1.7 * jnp.sin(1e3 * x)

    @quick_jit
    @jax.vmap
    def attempt(x):
        moved, heat, _ = Langevin().step(key, potential, Langevin().init(potential, x), controls)
        increment = heat - (moved.u - potential(x))
        tried = []
        for offset in (-1e-12, 1e-12):
            monkeypatch.setattr(jax.random, "uniform", lambda *_, offset=offset: jnp.exp(increment + offset))
            new, heat, info = MALA().step(key, potential, MALA().init(potential, x), controls)
            tried.append((new.x, heat - (new.u - potential(x)), info["accept_rate"]))
        return increment, moved.x, *tried

    x = potential.energy.sample_exact(key, 0.7, 500)
    with monkeypatch.context() as monkeypatch:
        monkeypatch.setattr(langevin, "propose", same_move)
        monkeypatch.setattr(metropolis, "propose", same_move)
        increment, y, below, above = attempt(x)
    assert 100 < np.sum(increment < 0) < 500 and np.abs(y - x).min() > 0
    for (new, defect, is_accepted), expected, at in ((below, 1, y), (above, 0, x)):
        np.testing.assert_array_equal(is_accepted, expected)
        np.testing.assert_allclose(new, at, atol=1e-13)
        np.testing.assert_allclose(defect, 0, atol=1e-13)


def test_mala_acceptance_rate_is_the_mean_of_clipped_weights(key):
    """The same with the kernel's own random numbers."""
    potential, n, controls = correlated(), 100_000, Controls.of(step_size=0.6)
    x = potential.energy.sample_exact(key, 0.7, n)
    key_langevin, key_mala = jax.random.split(key)
    moved = advanced(key_langevin, Langevin(), potential, opened_at(Langevin(), potential, x), controls)
    expected = np.minimum(1.0, np.exp(moved.log_weight()))
    _, info = quick_jit(relax)(key_mala, MALA(), potential, opened_at(MALA(), potential, x), controls)
    error = np.sqrt((expected.var() + (expected * (1 - expected)).mean()) / n + expected.var() / n)
    assert abs(float(info["accept_rate"]) - expected.mean()) < 5 * error
    assert expected.mean() < 0.95


def test_weight_increment_from_the_definition(key):
    """`alpha(x, y) - alpha'(y, x)` of the literature equals `u - u' + log q'(x|y) - log q(y|x)`, any numbers."""
    h = 0.37
    x, y, g, g_after = jax.random.normal(key, (4, 7))

    def alpha(u, gradient, step):
        return u + 0.5 * step @ gradient + h / 4 * gradient @ gradient

    published = alpha(0.3, g, y - x) - alpha(-1.2, g_after, x - y)
    ours = 0.3 + 1.2 + log_forward(y, x, g_after, h) - log_forward(x, y, g, h)
    assert abs(float(published - ours)) < 1e-12
