"""Network A: every estimator on the table of all states against complex-step derivatives (T1 to T8 and T12)."""

import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.equilibrium import (
    Phase,
    contrast,
    covariance,
    fisher_radius,
    gauss_legendre,
    guaranteed_ess,
    holomorphic,
    path_integral,
    reweighted,
    reweighting,
    trapezoid,
)
from tests.equilibrium.nets import net_a

NET = net_a()
TEMPERATURES = (1.0, 0.5)
REFERENCE = {
    1.0: {
        "a": -12.653482049378372,
        "loss": 1.923472026331148,
        "slope_loss": 5.018392612671247,
        "delta": {
            0.01: 0.018959108901722,
            0.1: 0.166310097870252,
            0.5: 0.482687043617243,
            1.0: 0.581793388586384,
            4.0: 0.622235037250267,
        },
        "cost_1": 0.092141005798192,
        "kl_10": 0.489652382788192,
        "kl_01": 1.341678637744763,
        "slope": 1.968298659102854,
        "w_12": 0.249298922584513,
        "w_1112": 0.410956115002300,
        "b_1": -0.285604711654149,
        "b_12": -0.449030718089745,
        "sum": 0.200623474343980,
        "cosine": 0.956877,
        "upper": 4.389786962751,
        "centred": 2.485790175669,
        "hessian": 2.687469379678088,
    },
    0.5: {
        "a": -10.801221079984010,
        "loss": 0.692742170835096,
        "slope_loss": 6.681336112064438,
        "delta": {
            0.01: 0.006639433606180,
            0.1: 0.046439287027081,
            0.5: 0.081659719855109,
            1.0: 0.084621777896578,
            4.0: 0.084987916066144,
        },
        "cost_1": 0.001511433494019,
        "kl_10": 0.083110344402557,
        "kl_01": 0.608120392938519,
        "slope": 0.886942268337826,
        "w_12": 0.148917023706867,
        "w_1112": 0.151022066803227,
        "b_1": -0.115968457126782,
        "b_12": -0.139678113019778,
        "sum": -0.012575959361785,
        "cosine": 0.976950,
        "upper": 4.652032297603,
        "centred": 2.368327037750,
        "hessian": 3.299522121654366,
    },
}


def phase(nudge, temperature):
    """Exact phase from NumPy's probabilities: the package's tables are checked against it elsewhere."""
    weight = jnp.asarray(NET.law(nudge, temperature))
    return Phase(jnp.asarray(NET.states), jnp.asarray(NET.cost), weight, jnp.asarray(float(nudge)), True)


def of(terms):
    """Gradient from terms whose states are the table, once or several times over."""
    coefficients = np.asarray(terms.on_energy).reshape(-1, len(NET.cost)).sum(0)
    return coefficients @ NET.statistic


def relative(found, exact):
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


@pytest.fixture(scope="module")
def slopes():
    """Complex-step gradients of dA and of the loss."""
    found = {}
    for t in TEMPERATURES:
        for b in (0.01, 0.1, 0.5, 1.0, 4.0):
            found[t, b] = NET.slope(lambda theta, b=b, t=t: NET.delta_a(b, t, theta))
        found[t, "loss"] = NET.slope(lambda theta, t=t: NET.mean_cost(0.0, t, theta))
    return found


@pytest.mark.parametrize("t", TEMPERATURES)
def test_oracle_has_the_reference_values(t, slopes):
    ref = REFERENCE[t]
    found, exact = [NET.free_energy(0, t), NET.mean_cost(0, t), np.linalg.norm(slopes[t, "loss"])], slopes[t, 1.0]
    np.testing.assert_allclose(found, [ref["a"], ref["loss"], ref["slope_loss"]], rtol=1e-12)
    for b, value in ref["delta"].items():
        assert abs(NET.delta_a(b, t) - value) < 1e-13
    p0, p1 = NET.law(0.0, t), NET.law(1.0, t)
    values = [p1 @ NET.cost, t * p1 @ np.log(p1 / p0), t * p0 @ np.log(p0 / p1), np.linalg.norm(exact)]
    np.testing.assert_allclose(values, [ref[k] for k in ("cost_1", "kl_10", "kl_01", "slope")], atol=1e-12)
    values = [exact[0], exact[65], exact[66], exact[77], exact.sum()]
    np.testing.assert_allclose(values, [ref[k] for k in ("w_12", "w_1112", "b_1", "b_12", "sum")], atol=1e-12)
    cosine = exact @ slopes[t, "loss"] / np.linalg.norm(exact) / np.linalg.norm(slopes[t, "loss"])
    away = NET.delta_a(-1.0, t)
    values = [cosine, -away, 0.5 * (NET.delta_a(1.0, t) - away)]
    np.testing.assert_allclose(values, [ref[k] for k in ("cosine", "upper", "centred")], atol=1e-6)


@pytest.mark.parametrize("t", TEMPERATURES)
def test_contrast_is_the_gradient(t, slopes):
    """T1, with the wrong sign as its saboteur."""
    free = phase(0.0, t)
    for b in (0.01, 0.1, 0.5, 1.0, 4.0):
        exact = slopes[t, b]
        found = of(contrast(free, phase(b, t)))
        assert np.abs(found - exact).max() < 1e-13 * (1 + np.abs(exact).max())
        assert relative(of(contrast(phase(b, t), free)), exact) > 1.9


@pytest.mark.parametrize("t", TEMPERATURES)
def test_decompositions_bounds_and_scales(t):
    """T2, T3 and T4."""
    p0, last = NET.law(0.0, t), np.inf
    for b in (-0.5, 0.3, 1.0, 4.0):
        p, delta = NET.law(b, t), NET.delta_a(b, t)
        lower, upper = b * p @ NET.cost, b * p0 @ NET.cost
        assert abs(delta - lower - t * p @ np.log(p / p0)) < 1e-12
        assert abs(upper - delta - t * p0 @ np.log(p0 / p)) < 1e-12
        assert abs(delta + t * np.log(p0 @ np.exp(-b * NET.cost / t))) < 1e-12
        assert lower <= delta <= upper
        assert delta / b < last
        last = delta / b
        np.testing.assert_allclose(np.asarray(reweighted(phase(0.0, t), b, t).weight), p, atol=1e-15)
        # pi depends on E/T and bC/T only: the same weights from a free phase at T = 1 with everything divided by T
        scaled = Phase(jnp.asarray(NET.states), jnp.asarray(NET.cost / t), jnp.asarray(p0), jnp.asarray(0.0), True)
        np.testing.assert_allclose(of(reweighting(scaled, b, 1.0)), of(reweighting(phase(0.0, t), b, t)), atol=1e-13)


GAUSS = {
    1.0: {1: 2.65e-1, 2: 2.88e-2, 3: 3.04e-3, 4: 3.02e-4, 6: 2.42e-6, 8: 1.68e-8},
    0.5: {1: 8.0e-1, 2: 2.6e-1, 3: 3.2e-2, 4: 4.4e-3, 6: 1.4e-4, 8: 3.8e-6},
}
TRAPEZOID = {2: 0.456, 3: 0.103, 5: 2.35e-2, 9: 5.72e-3}


@pytest.mark.parametrize("t", TEMPERATURES)
def test_path_integral_converges_as_published(t, slopes):
    """T5. Without 1/T the rule is wrong at any number of nodes."""
    rules = [(gauss_legendre(1.0, n), error) for n, error in GAUSS[t].items()]
    if t == 1.0:
        rules += [(trapezoid(np.linspace(0, 1, n)), error) for n, error in TRAPEZOID.items()]
    for (nodes, weights), expected in rules:
        phases = [phase(b, t) for b in nodes]
        error = relative(of(path_integral(phases, list(weights), t)), slopes[t, 1.0])
        assert 0.94 * expected < error < 1.06 * expected
    nodes, weights = gauss_legendre(1.0, 8)
    costs = sum(w * NET.mean_cost(b, t) for b, w in zip(nodes, weights, strict=True))
    assert abs(costs - NET.delta_a(1.0, t)) < 1e-6
    if t != 1.0:
        assert relative(of(path_integral([phase(b, t) for b in nodes], list(weights), 1.0)), slopes[t, 1.0]) > 0.4


@pytest.mark.parametrize("t", TEMPERATURES)
def test_free_covariance_and_the_orders_in_the_nudge(t, slopes):
    """T6: the supervised gradient from the free phase; one-sided rules err in first order, centred ones in second."""
    free, exact = phase(0.0, t), slopes[t, "loss"]
    assert np.abs(of(covariance(free, t)) - exact).max() < 1e-13 * np.abs(exact).max() * 10
    if t != 1.0:
        assert relative(of(covariance(free, 1.0)), exact) > 0.4  # saboteur: no 1/T
        return
    for b, one_sided, centred in ((0.1, 0.4491, 0.0730), (0.05, 0.2217, 0.01845), (0.025, 0.1099, 0.004624)):
        up, down = phase(b, t), phase(-b, t)
        errors = [
            np.linalg.norm(of(terms) - exact)
            for terms in (
                contrast(free, up).scale(1 / b),
                reweighting(free, b, t).scale(1 / b),
                contrast(down, up).scale(0.5 / b),
            )
        ]
        np.testing.assert_allclose(errors, [one_sided, one_sided, centred], rtol=2e-3)


@pytest.mark.parametrize("t", TEMPERATURES)
def test_hessian_along_a_direction(t):
    """T7: curvature of dA is the difference of the variances of the statistic over T."""
    f = NET.statistic @ np.cos(np.arange(NET.theta.size))
    p0, p1 = NET.law(0.0, t), NET.law(1.0, t)
    curvature = ((p0 @ f**2 - (p0 @ f) ** 2) - (p1 @ f**2 - (p1 @ f) ** 2)) / t
    assert abs(curvature - REFERENCE[t]["hessian"]) < 1e-11


def test_holomorphic_rule_converges_inside_the_nearest_zero_only(slopes):
    """T8."""
    free, exact = phase(0.0, 1.0), slopes[1.0, "loss"]
    expected = {
        0.25: {2: 8.45e-2, 4: 9.84e-3, 6: 1.28e-3, 8: 2.21e-4, 12: 5.3e-6},
        0.5: {2: 0.265, 4: 0.165, 6: 0.078, 8: 0.0565, 12: 0.0213},
    }
    for radius, errors in expected.items():
        found = [relative(of(holomorphic(free, radius, n, 1.0)), exact) for n in errors]
        np.testing.assert_allclose(found, list(errors.values()), rtol=0.02)
    assert relative(of(holomorphic(free, 1.0, 16, 1.0)), exact) > 0.5
    levels = jnp.asarray([0.0, 2.0, 4.0, 6.0])
    np.testing.assert_allclose(
        [fisher_radius(phase(0.0, t), t, levels) for t in TEMPERATURES],
        [np.hypot(0.166764, 0.652351), np.hypot(0.199271, 0.293322)],
        rtol=1e-5,
    )


@pytest.mark.parametrize(("t", "ess", "bound"), [(1.0, 0.5792, 0.5589), (0.5, 0.8449, 0.8443)])
def test_effective_sample_size_is_guaranteed(t, ess, bound):
    """T12, nudge 1."""
    p0, p1 = NET.law(0.0, t), NET.law(1.0, t)
    found = 1.0 / (p0 @ (p1 / p0) ** 2)
    guaranteed = float(guaranteed_ess(NET.delta_a(1.0, t), t))
    assert abs(found - ess) < 1e-4 and abs(guaranteed - bound) < 1e-4 and found >= guaranteed
