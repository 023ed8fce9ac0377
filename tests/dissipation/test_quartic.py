"""An energy that is not Gaussian: metric by quadrature, linear response, and the ranking of ways to learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.dissipation import bounds, line_metric
from quasistatic.reproduce import quartic

METRICS = {
    (0.3, -1.0): ([[0.98949, -0.13712], [-0.13712, 0.25032]], [[1.17981, -0.12069], [-0.12069, 0.07269]]),
    (0.0, -1.0): ([[1.04180, 0.0], [0.0, 0.23911]], [[1.28460, 0.0], [0.0, 0.06271]]),
    (0.0, 1.0): ([[0.46792, 0.0], [0.0, 0.07828]], [[0.22476, 0.0], [0.0, 0.01359]]),
    (0.0, -2.0): ([[1.66549, 0.0], [0.0, 0.38928]], [[4.28992, 0.0], [0.0, 0.11378]]),
}


@pytest.mark.parametrize("theta", METRICS)
def test_metric(theta):
    covariance, friction = quartic._metric(jnp.asarray(theta))
    np.testing.assert_allclose(covariance, METRICS[theta][0], atol=6e-6)
    np.testing.assert_allclose(friction, METRICS[theta][1], atol=7e-6)


def test_metric_of_a_trap():
    """`C = 1/(2 b^2 lam^2)`, `zeta = 1/(4 b mu lam^3)` of a stiffness; `zeta = 1/mu` of a centre: beta and mu."""
    beta, mobility, lam, centre = 0.7, 1.6, 1.3, 0.4
    x = jnp.linspace(-9.0, 9.0, 3001)
    features = jnp.stack([0.5 * (x - centre) ** 2, -lam * (x - centre)])
    c, zeta = line_metric(x, features, 0.5 * lam * (x - centre) ** 2, beta=beta, mobility=mobility)
    np.testing.assert_allclose(c, [[1 / (2 * beta**2 * lam**2), 0], [0, lam / beta]], atol=1e-6)
    np.testing.assert_allclose(zeta, [[1 / (4 * beta * mobility * lam**3), 0], [0, 1 / mobility]], atol=1e-4)


def test_length():
    """Linear path `th_1: -1 -> 1` at `th_2 = -1`: its cost and its length in the friction metric."""
    d = np.array([2.0, 0.0])
    speed = [
        d @ np.asarray(quartic._metric(jnp.array([s, -1.0]))[1]) @ d for s in -1 + 2 * (np.arange(200) + 0.5) / 200
    ]
    assert abs(np.mean(speed) - 3.9537) < 1e-3
    assert abs(bounds.length(np.array(speed)) ** 2 / 200**2 - 3.8963) < 1e-3


@pytest.mark.parametrize("rule", quartic.RULES)
def test_population(rule):
    """Divergence and excess work in a time of 5, to the digits of the reference."""
    divergence, excess = quartic.TABLE[5.0][rule]
    found = quartic.population(rule, 5.0)
    assert abs(found.excess - excess) < 6e-5
    assert abs(found.divergence - divergence) < 0.06 * divergence + 1e-12


@pytest.mark.slow
def test_ranking_of_walkers():
    """Walkers and `steer` in a time of 20: excess work of the population, in the stated order, and its ESS."""
    found = {rule: quartic.walkers(jax.random.key(4), rule, 20.0, n_walkers=20_000) for rule in quartic.RULES}
    for rule, run in found.items():
        print(rule, run, quartic.TABLE[20.0][rule])
        assert abs(run.excess - quartic.TABLE[20.0][rule][1]) < 4.5 * run.stderr
        assert run.divergence < 1e-3 or rule == "no friction"
    assert found["discontinuous"].excess < found["continuous"].excess < found["line"].excess
    assert found["no friction"].excess < 0.3 * found["gradient"].excess
    assert found["discontinuous"].ess > 0.88 and found["gradient"].ess < 0.65
