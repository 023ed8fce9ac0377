"""Jarzynski weights of Langevin walkers on prescribed Gaussian paths: exact limits, Monte Carlo, and wrong ledgers.

Six paths (curvature, mean, both, none, slow up, slow down), both orders of switch and move. Each wrong ledger is wrong
in its own way, and it must not only be rejected but land on its own wrong answer: so the test sees what it claims.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.kernels import Langevin
from quasistatic.kernels.langevin import log_forward, propose
from quasistatic.thermo import Controls
from tests.laws.battery import quick_jit
from tests.laws.gaussian import (
    ESS,
    FINGERPRINTS,
    PROTOCOLS,
    BrokenLangevin,
    Protocol,
    increments,
    measure,
    population,
    potential_at,
    simulate,
)

ORDERS = {"fused": Langevin(is_fused=True), "unfused": Langevin()}
SIGMAS = 3.5


def slow(*values):
    """A case for `make test-slow`; one or two telling ones of each law stay in `make test`."""
    return pytest.param(*values, marks=pytest.mark.slow)


def deviation(estimate, exact):
    """Distance in standard errors."""
    return (estimate[0] - exact) / estimate[1]


def assert_right(log_weight, x, protocol, sigmas=SIGMAS):
    """log Z ratio, weighted mean and weighted variance agree with the truth."""
    found = measure(log_weight, x)
    last = protocol.mean[-1], 1 / protocol.curvature[-1]
    z = [
        deviation(found.log_mean, protocol.log_ratio),
        deviation(found.mean, last[0]),
        deviation(found.variance, last[1]),
    ]
    print(f"{protocol.name}: {found}, deviations {np.round(z, 2)}")
    assert np.abs(z).max() < sigmas
    return found


@pytest.mark.parametrize("name", PROTOCOLS)
def test_population_limit(name):
    """Both orders are exact at any speed and step; their ESS and the wrong ledgers' answers are the published ones."""
    protocol = PROTOCOLS[name]
    exact = population(protocol)
    for order in ORDERS:
        found = (exact[order].log_mean, exact[order].mean, exact[order].variance)
        truth = (protocol.log_ratio, protocol.mean[-1], 1 / protocol.curvature[-1])
        np.testing.assert_allclose(found, truth, atol=1e-12)
        assert abs(exact[order].ess - ESS[order][name]) < 5.1 * 10.0 ** -len(str(ESS[order][name])[1:])
    for ledger, values in FINGERPRINTS.items():
        if name in values:
            assert abs(exact[ledger].log_mean - values[name]) < 6e-7
            assert abs(exact[ledger].log_mean - protocol.log_ratio) > 0.03
        else:  # nothing changes: the weights stay 1 and the bias of the moves is not corrected
            assert abs(exact[ledger].variance - 4 / 3) < 1e-6 and abs(exact[ledger].ess - 1) < 1e-12


@pytest.mark.parametrize(
    "epsilon, published", [(0.05, 0.999359), slow(0.1, 0.997365), slow(0.2, 0.988826), (0.5, 0.912871)]
)
def test_cost_of_a_finite_step(epsilon, published):
    """At fixed model the ESS settles at `sqrt((1 - e)(1 + e/2) / (1 - e/2))` per dimension, `e = h kappa`."""
    fixed = Protocol("fixed", np.full(201, 2.0), np.full(201, -0.3), epsilon / 2)
    formula = np.sqrt((1 - epsilon) * (1 + epsilon / 2) / (1 - epsilon / 2))
    for order in ORDERS:
        assert abs(population(fixed)[order].ess - formula) < 1e-6
    assert abs(formula - published) < 6e-7


LARGE = [case if case[0] == "C" else slow(*case) for case in ((name, order) for name in "ABCD" for order in ORDERS)]
LONG = [(name, order) for name in "EF" for order in ORDERS]


def run_right(name, order, n_walkers):
    protocol = PROTOCOLS[name]
    log_weight, x = simulate(jax.random.key(2305), ORDERS[order], protocol, n_walkers=n_walkers)
    found = assert_right(log_weight, x, protocol)
    expected = population(protocol)[order].ess
    if expected > 0.5:  # below, the sample says little about its own second moment: the exact limit is the test
        assert abs(deviation(found.ess, expected)) < SIGMAS


@pytest.mark.parametrize("name, order", LARGE)
def test_a_million_walkers(name, order):
    run_right(name, order, 1_000_000)


@pytest.mark.parametrize("name, order", [slow("E", "fused"), ("E", "unfused"), ("F", "fused"), slow("F", "unfused")])
def test_long_paths(name, order):
    run_right(name, order, 50_000)


@pytest.mark.slow
@pytest.mark.parametrize("name, order", LONG)
def test_a_million_walkers_on_long_paths(name, order):
    run_right(name, order, 1_000_000)


def assert_fingerprint(log_weight, x, protocol, wrong):
    """Rejected as the truth, and recognised as this particular mistake."""
    found = measure(log_weight, x)
    print(f"{protocol.name}: {found}, mistaken limit {wrong}")
    truth = (protocol.log_ratio, 1 / protocol.curvature[-1])
    z = [deviation(found.log_mean, truth[0]), deviation(found.variance, truth[1])]
    assert np.abs(z).max() > 5
    assert abs(found.log_mean[0] - wrong.log_mean) < 4 * found.log_mean[1] + 1e-9
    assert abs(deviation(found.mean, wrong.mean)) < 4 and abs(deviation(found.variance, wrong.variance)) < 4
    return z


@pytest.mark.parametrize("ledger", FINGERPRINTS)
@pytest.mark.parametrize("name", [*"ACD", *map(slow, "BEF")])
def test_saboteur_lands_on_its_fingerprint(name, ledger):
    protocol = PROTOCOLS[name]
    n_walkers = {"B": 1_000_000, "E": 50_000, "F": 50_000}.get(name, 200_000)
    log_weight, x = simulate(jax.random.key(19414), BrokenLangevin.of(ledger), protocol, n_walkers=n_walkers)
    with pytest.raises(AssertionError):
        assert_right(log_weight, x, protocol)
    z = assert_fingerprint(log_weight, x, protocol, population(protocol)[ledger])
    if name != "D":  # there log Z is right by accident and the variance tells
        assert abs(z[0]) > 5


@pytest.mark.parametrize("name", ["A", "C"])
def test_control_the_saboteurs_kernel_is_right_with_the_right_ledger(name):
    log_weight, x = simulate(jax.random.key(19414), BrokenLangevin.of("fused"), PROTOCOLS[name], n_walkers=200_000)
    assert_right(log_weight, x, PROTOCOLS[name])


@pytest.mark.parametrize(
    "name, n_sweeps, order",
    [
        ("A", 5, "unfused"),
        ("C", 2, "fused"),
        *(slow(*case) for case in (("A", 2, "fused"), ("A", 2, "unfused"), ("A", 5, "fused"))),
        *(slow(*case) for case in (("C", 2, "unfused"), ("C", 5, "fused"), ("C", 5, "unfused"))),
    ],
)
def test_inner_sweeps_count_the_change_of_the_model_once(name, n_sweeps, order):
    log_weight, x = simulate(
        jax.random.key(n_sweeps), ORDERS[order], PROTOCOLS[name], n_walkers=200_000, n_sweeps=n_sweeps
    )
    found = assert_right(log_weight, x, PROTOCOLS[name])
    # More relaxation per switch, less dissipation; a change booked n_sweeps times would lose ESS instead.
    assert found.ess[0] > 1.02 * ESS[order][name]


@pytest.mark.parametrize("n_moved, order", [(0, "fused"), (12_345, "fused"), slow(12_345, "unfused")])
def test_sub_batches(n_moved, order):
    """Walkers chosen independently of their states may be moved at any time, or never (importance sampling)."""
    protocol = PROTOCOLS["A"]
    log_weight, x = simulate(jax.random.key(8), ORDERS[order], protocol, n_walkers=100_000, n_moved=n_moved)
    assert_right(log_weight, x, protocol)
    if n_moved == 0:
        np.testing.assert_allclose(log_weight, 0.5 * (1 - 4) * x**2, atol=1e-12)


def test_noise_has_variance_2h(key):
    """`propose` from a fixed point: mean `x - h g`, variance `2h`, independent coordinates."""
    h, x, gradient, n = 0.37, jnp.array([0.4, -2.0]), jnp.array([1.5, 0.3]), 400_000
    y = np.asarray(jax.vmap(lambda k: propose(k, x, gradient, h))(jax.random.split(key, n)))
    centred = y - np.asarray(x - h * gradient)
    assert np.abs(centred.mean(0)).max() < 5 * np.sqrt(2 * h / n)
    assert np.abs(centred.var(0) / (2 * h) - 1).max() < 5 * np.sqrt(2 / n)
    assert abs(np.corrcoef(centred.T)[0, 1]) < 5 / np.sqrt(n)


@pytest.mark.parametrize("temperature, log_mean, variance", [(0.1, 0.023022, 0.104712), (1e-4, 0.025644, 1.0526e-4)])
def test_saboteur_wrong_noise_published_limit(temperature, log_mean, variance):
    """Noise of variance `2 h T` samples `exp(-u/T)` (nearly), and the weights cannot mend it."""
    if temperature < 0.01:  # narrower than the grid: closed form of the stationary variance, weights telescope
        v = 2 * 0.1 * temperature / (1 - 0.9**2)
        tilt = 1 / (1 / v + 0.05)  # weight exp((h/4)(x_0^2 - x_K^2)), x_K independent of x_0
        found = 0.5 * np.log(tilt / v) - 0.5 * np.log(1 - 0.05), tilt
    else:
        limit = population(Protocol("fixed", np.ones(201), np.zeros(201)), temperature=temperature)["fused"]
        found = limit.log_mean, limit.variance
    np.testing.assert_allclose(found, (log_mean, variance), rtol=3e-5)


@pytest.mark.parametrize("temperature", [0.5, 0.1])
def test_saboteur_wrong_noise(temperature):
    """`sqrt(h)` for `sqrt(2h)` is temperature 1/2."""
    protocol = PROTOCOLS["A"]
    kernel = BrokenLangevin.of("fused", temperature)
    log_weight, x = simulate(jax.random.key(15), kernel, protocol, n_walkers=200_000)
    with pytest.raises(AssertionError):
        assert_right(log_weight, x, protocol)
    z = assert_fingerprint(log_weight, x, protocol, population(protocol, temperature=temperature)["fused"])
    assert np.abs(z).min() > 5


def test_move_and_ledger_are_the_published_identity(key):
    """`exp(dA) = e^{-u'(y)} q'(x|y) / (e^{-u(x)} q(y|x))` with normalised Gaussian densities, for actual moves."""
    h, n = 0.37, 200
    before, after = potential_at(1.3, -0.4, 0.7), potential_at(2.1, 0.5, 1.1)
    x = 2.0 * jax.random.normal(key, (n, 1))
    controls = Controls.of(step_size=h)
    log_q = {}
    for name, potential in (("before", before), ("after", after)):
        grad = jax.vmap(jax.grad(potential))
        log_q[name] = lambda a, b, grad=grad: -((b - a + h * grad(a)) ** 2)[:, 0] / (4 * h)
    for kernel in ORDERS.values():
        forward = "before" if kernel.moves_with_switch else "after"
        start = before if kernel.moves_with_switch else after

        @quick_jit
        def attempt(keys, x, kernel=kernel, start=start, forward=forward):
            state = jax.vmap(lambda a: kernel.init(start, a))(x)
            new, heat, _ = jax.vmap(lambda k, s: kernel.step(k, after, s, controls))(keys, state)
            ratio = log_q["after"](new.x, x) - log_q[forward](x, new.x)
            gain = jax.vmap(lambda a, b: increments(before, after, a, b, h))(x, new.x)
            return state, new, heat, ratio, gain, jax.vmap(before)(x), jax.vmap(after)(new.x)

        state, new, heat, ratio, gain, u, u_after = attempt(jax.random.split(key, n), x)
        np.testing.assert_allclose(heat, ratio, atol=1e-12)
        np.testing.assert_allclose(new.u, u_after, atol=1e-12)
        switched = np.asarray(u) - np.asarray(state.u)
        gain = np.asarray(gain)[:, 0 if kernel.moves_with_switch else 1]
        relaxed = np.asarray(heat) - (np.asarray(new.u) - np.asarray(state.u))
        np.testing.assert_allclose(switched + relaxed, gain, atol=1e-12)
    # what does not depend on the gradient cancels: log_forward may drop its normalisation
    np.testing.assert_allclose(log_forward(x[0], x[0] + 1.0, jnp.zeros(1), h), -1 / (4 * h), atol=1e-14)
