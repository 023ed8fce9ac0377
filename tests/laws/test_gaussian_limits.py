"""Limits of Langevin weights in closed form: cost of a step, divergence at its edge, of a moving mean, per position.

The exact recursion: for quadratic potentials the tilted density of a fused walker, `f_k(x) = E[exp(s A_k) delta(x -
X_k)]`, stays the exponential of a quadratic. Its three coefficients are propagated with the quadratic forms that the
package's own move and weight have (read off by automatic differentiation), so thousands of small steps cost nothing.

Reference:
    Carbone, Hua, Coste, Vanden-Eijnden, NeurIPS 2023 (arXiv 2305.19414), proposition 1.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from quasistatic.energies import Gaussian, Potential
from quasistatic.kernels import Langevin
from quasistatic.kernels.langevin import log_forward
from quasistatic.thermo import Controls, Ensemble, advance
from tests.laws.gaussian import (
    BLOCK,
    PROTOCOLS,
    BrokenLangevin,
    Protocol,
    increments,
    measure,
    population,
    potential_at,
    simulate,
)

FUSED = Langevin(is_fused=True)


@jax.jit
def _tilted(path, h, power):
    """`log E[exp(s A_K)]` and weighted mean and variance of `X_K` at tilt `s = power`, for the fused move."""

    def quadratic(function, n):
        zero = jnp.zeros(n)
        return jax.hessian(function)(zero), jax.grad(function)(zero), function(zero)

    start = potential_at(*path[0])
    density, slope, level = quadratic(lambda x: -start(x), 1)
    norm_constant = start.energy.log_partition(start.beta)

    def move(carry, ends):
        density, slope, level = carry
        before, after = (potential_at(*end) for end in ends)

        def exponent(z):
            x, y = z[:1], z[1:]
            own = level + slope @ x + 0.5 * x @ density @ x
            drift = jax.grad(before)(x)
            forward = log_forward(x, y, drift, h) - 0.5 * jnp.log(4 * jnp.pi * h)
            return own + forward + power * increments(before, after, x, y, h)[0]

        hess, grad, value = quadratic(exponent, 2)
        # integrate x out of exp(value + grad.z + z'Hz/2)
        p = -hess[0, 0]
        value = value + grad[0] ** 2 / (2 * p) + 0.5 * jnp.log(2 * jnp.pi / p)
        slope = grad[1:] + grad[0] * hess[0, 1] / p
        return (hess[1:, 1:] + hess[0, 1] ** 2 / p, slope, value), p

    (density, slope, level), curvatures = jax.lax.scan(
        move, (density, slope, level - norm_constant), (path[:-1], path[1:])
    )
    p = -density[0, 0]
    total = level + slope[0] ** 2 / (2 * p) + 0.5 * jnp.log(2 * jnp.pi / p)
    return total, slope[0] / p, 1 / p, jnp.minimum(jnp.min(curvatures), p)


def tilted(protocol, power):
    """As `_tilted`; an infinite first number where a Gaussian integral of the recursion does not converge."""
    path = jnp.asarray(np.stack([protocol.curvature, protocol.mean, protocol.beta], 1))
    total, mean, variance, least = (float(a) for a in _tilted(path, protocol.step_size, float(power)))
    return (total, mean, variance) if least > 0 else (np.inf, mean, variance)


def exact_ess(protocol):
    """ESS fraction of infinitely many walkers, `E[w]^2 / E[w^2]`."""
    return float(np.exp(2 * tilted(protocol, 1)[0] - tilted(protocol, 2)[0]))


@pytest.mark.parametrize("name", [*"ACF", *(pytest.param(name, marks=pytest.mark.slow) for name in "BDE")])
def test_the_recursion_agrees_with_the_grid(name):
    """Two ways to the population limit, quadratic forms and quadrature, share only the package's densities."""
    protocol, grid = PROTOCOLS[name], population(PROTOCOLS[name])["fused"]
    np.testing.assert_allclose(tilted(protocol, 1), (grid.log_mean, grid.mean, grid.variance), atol=1e-10)
    np.testing.assert_allclose(exact_ess(protocol), grid.ess, rtol=1e-9)


def test_a_long_way_in_many_steps():
    """Protocol G: mean 0 to 10 in 200 steps at unit curvature. Exact, and far too degenerate to sample."""
    way = Protocol("G", np.ones(201), 0.05 * np.arange(201.0))
    np.testing.assert_allclose(tilted(way, 1), (0.0, 10.0, 1.0), atol=1e-9)
    assert abs(exact_ess(way) - 7.17e-5) < 6e-8


def cost(epsilon):
    """Long-time ESS fraction per dimension at a fixed quadratic, `epsilon = h kappa`."""
    return np.sqrt((1 - epsilon) * (1 + epsilon / 2) / (1 - epsilon / 2))


def fixed(epsilon, n_steps=400):
    """Curvature 2 at rest, at a step of `epsilon / 2`."""
    return Protocol("fixed", np.full(n_steps + 1, 2.0), np.full(n_steps + 1, -0.3), epsilon / 2)


@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.2, 0.5, 0.9, 0.99])
def test_cost_of_a_step_up_to_the_edge(epsilon):
    np.testing.assert_allclose(exact_ess(fixed(epsilon)), cost(epsilon), rtol=1e-8)
    np.testing.assert_allclose(tilted(fixed(epsilon), 1), (0.0, -0.3, 0.5), atol=1e-9)


def test_the_variance_of_the_weights_diverges_at_the_edge():
    """`E[w^2]` grows like `(1 - h kappa)^(-1/2)` and is infinite from `h kappa = 1` on; the mean stays exact."""
    ratios = [cost(1 - 4 * gap) / cost(1 - gap) for gap in (1e-3, 1e-4)]
    np.testing.assert_allclose(ratios, 2.0, rtol=1e-2)
    for epsilon in (1.01, 1.3):
        assert exact_ess(fixed(epsilon)) == 0.0
        np.testing.assert_allclose(tilted(fixed(epsilon), 1)[0], 0.0, atol=1e-9)


@pytest.mark.parametrize("d, epsilon", [(50, 0.1), pytest.param(8, 0.3, marks=pytest.mark.slow)])
def test_cost_multiplies_over_dimensions(d, epsilon):
    """The package's walkers in `d` dimensions at beta = 0.7: `cost^d`; published 0.8764 for d = 50, 0.1."""
    beta, n = 0.7, 5_000
    potential = Potential(Gaussian(jnp.full(d, 0.4), jnp.eye(d) * 1.3), beta)
    controls = Controls.of(step_size=epsilon / (beta * 1.3**2))

    @jax.jit
    def run(key):
        ensemble = Ensemble.open(FUSED, potential, potential.energy.sample_exact(key, beta, n), log_z=0.0)
        return jax.lax.fori_loop(
            0, 40, lambda k, e: advance(jax.random.fold_in(key, k), FUSED, potential, e, controls)[0], ensemble
        ).log_weight()

    log_weight = np.asarray(run(jax.random.key(4)))
    found = measure(log_weight, log_weight)
    print(f"ess {found.ess[0]:.4f} +- {found.ess[1]:.4f}, exact {cost(epsilon) ** d:.4f}")
    assert abs(found.ess[0] - cost(epsilon) ** d) < 4.5 * found.ess[1]
    assert abs(found.log_mean[0]) < 4.5 * found.log_mean[1] < 0.05
    if d == 50:
        assert abs(cost(epsilon) ** d - 0.8764) < 6e-5


def moving(speed, h, duration=4.0):
    """Mean that moves at constant speed, unit curvature, unit mobility: time is `h` per step."""
    n = round(duration / h)
    return Protocol("moving", np.ones(n + 1), speed * h * np.arange(n + 1.0), h)


def continuous_ess(speed, duration=4.0):
    """`exp(-2 v^2 (T - (1 - e^-T)))`."""
    return np.exp(-2 * speed**2 * (duration - 1 + np.exp(-duration)))


def test_moving_mean_in_the_continuous_limit():
    """The published point, and first-order convergence to the limit as the step shrinks."""
    assert abs(continuous_ess(1.0) - 0.00239) < 6e-6
    assert abs(exact_ess(moving(1.0, 0.002)) - 0.002383) < 6e-7
    off = [abs(exact_ess(moving(1.0, h)) / continuous_ess(1.0) - 1) for h in (0.016, 0.004)]
    assert off[1] < 0.01 and 3 < off[0] / off[1] < 5


def test_moving_mean_with_walkers():
    """At a third of the speed the ESS can be sampled; a mean at rest would have kept nearly all of it."""
    way = moving(0.3, 0.04)
    log_weight, x = simulate(jax.random.key(55), FUSED, way, n_walkers=BLOCK)
    found = measure(log_weight, x)
    print(f"ess {found.ess[0]:.4f} +- {found.ess[1]:.4f}, exact {exact_ess(way):.4f}")
    assert abs(found.ess[0] - exact_ess(way)) < 4.5 * found.ess[1] < 0.05
    assert abs(exact_ess(way) - continuous_ess(0.3)) < 0.01
    assert abs(found.ess[0] - exact_ess(moving(0.0, 0.04))) > 20 * found.ess[1]


def conditional_weights(log_weight, x, protocol):
    """Deviations, in standard errors, of the mean weight of each bin of positions from the ratio of densities.

    Walkers of protocol A are `N(0, v)`, `v_(k+1) = (1 - h kappa_k)^2 v_k + 2h`, before they are weighted, and
    `E[exp(A) | X = x] = (Z_K / Z_0) rho_K(x) / p_K(x)`.
    """
    variance, h = 1 / protocol.curvature[0], protocol.step_size
    for kappa in protocol.curvature[:-1]:
        variance = (1 - h * kappa) ** 2 * variance + 2 * h
    spread, last = np.sqrt(variance), 1 / np.sqrt(protocol.curvature[-1])
    edges = spread * norm.ppf(np.linspace(0, 1, 13))
    z = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        w = np.exp(log_weight[(x > low) & (x <= high)])
        law = norm.cdf(high / last) - norm.cdf(low / last)
        walkers = norm.cdf(high / spread) - norm.cdf(low / spread)
        assert abs(len(w) / len(x) - walkers) < 5 * np.sqrt(walkers / len(x))
        z.append((w.mean() - np.exp(protocol.log_ratio) * law / walkers) / (w.std(ddof=1) / np.sqrt(len(w))))
    return np.abs(z).max()


def test_weights_are_a_ratio_of_densities():
    """Not only on average: at every position the mean weight says how many walkers are missing there."""
    log_weight, x = simulate(jax.random.key(17), FUSED, PROTOCOLS["A"], n_walkers=200_000)
    assert conditional_weights(log_weight, x, PROTOCOLS["A"]) < 4.5


@pytest.mark.parametrize("ledger", ["alias", "noswap", "no-correction", "trapezoid"])
def test_saboteur_weights_that_are_no_ratio_of_densities(ledger):
    log_weight, x = simulate(jax.random.key(17), BrokenLangevin.of(ledger), PROTOCOLS["A"], n_walkers=200_000)
    assert conditional_weights(log_weight, x, PROTOCOLS["A"]) > 10
