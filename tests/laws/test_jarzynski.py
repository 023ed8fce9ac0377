"""From an exact start, at any speed, for every kernel: `mean exp(-(work + shadow work)) = Z_1 / Z_0`.

No mixing is needed, only honest books; parameters and beta both move. The same walkers, weighted, follow the final law.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.thermo import Controls
from quasistatic.thermo.estimators import bar, jarzynski, thermodynamic_integration
from tests.laws.battery import (
    CASES,
    DISCRETE,
    N,
    driven,
    label,
    log_mean_with_error,
    opened,
    quick_jit,
    step,
)

# (values of s, sweeps at each): sudden, fast, and backwards on the way with more relaxation
SPEEDS = {"sudden": ((1.0,), 1), "fast": ((0.5, 1.0), 1), "detour": ((0.6, 0.2, 0.7, 1.0), 3)}
SIGMAS = 4.5
REVERSIBLE = [case for case in CASES if case.name in ("block-gibbs rbm binary-spin", "mala gaussian")]


@functools.cache
def walked(case, speed, seed=5):
    """Log weights and positions at the end of the path, and log Z of the groups."""
    values, n_sweeps = SPEEDS[speed]
    key_start, key_run = jax.random.split(jax.random.key(seed))
    ensemble = driven(key_run, case, opened(case, key_start), values, n_sweeps)
    return tuple(map(np.asarray, (ensemble.log_weight(), ensemble.x, ensemble.log_partition_groups())))


@pytest.mark.parametrize("speed", [pytest.param("sudden", marks=pytest.mark.slow), "fast", "detour"])
@pytest.mark.parametrize("case", CASES, ids=label)
def test_jarzynski_equality(case, speed):
    log_weight, x, log_z = walked(case, speed)
    exact = case.log_z(1.0) - case.log_z(0.0)
    log_mean, error = log_mean_with_error(log_weight)
    print(f"{case.name}, {speed}: {log_mean:+.4f} +- {error:.4f}, exact {exact:+.4f}")
    assert abs(log_mean - exact) < SIGMAS * error and error < 0.06
    # the same from the ensemble's independent groups
    groups = np.exp(log_z - case.log_z(1.0))
    assert abs(groups.mean() - 1) < SIGMAS * groups.std(ddof=1) / np.sqrt(groups.size)
    # second law: work and shadow work exceed the free energy, on average and by more than chance
    dissipated = -log_weight + exact
    assert dissipated.mean() > 3 * dissipated.std() / np.sqrt(N)
    if case.units:
        found, spread = weighted_moments(x, np.exp(log_weight - log_mean))
        truth, _ = weighted_moments(case.states, case.law(1.0) * len(case.states))
        assert np.abs((found - truth) / spread).max() < SIGMAS


def weighted_moments(x, w):
    """Means of all units and products of two units, for weights of mean one, with standard errors."""
    x = np.asarray(x)
    i, j = np.triu_indices(x.shape[1], 1)
    features = np.concatenate([x, x[:, i] * x[:, j]], axis=1)
    mean = w @ features / len(w)
    return mean, np.std(w[:, None] * (features - mean), axis=0) / np.sqrt(len(w))


@pytest.mark.parametrize("case", CASES, ids=label)
def test_saboteur_sign_of_the_work(case):
    log_mean, error = log_mean_with_error(-walked(case, "fast")[0])
    assert abs(log_mean - (case.log_z(1.0) - case.log_z(0.0))) > 2 * SIGMAS * error


@pytest.mark.parametrize("case", [c for c in CASES if c.name.startswith("langevin")], ids=label)
def test_saboteur_shadow_work(case):
    """Long unadjusted moves pull the walkers off the law, and the work of the next switch does not know.

    With shadow work the check passes; with shadow work forgotten, or booked with its sign turned, it fails.
    """
    coarse = Controls.of(n_sweeps=10, step_size=0.6)
    ensemble = step(jax.random.key(8), case, opened(case, jax.random.key(9)), 0.0, coarse)
    ensemble = driven(jax.random.key(10), case, ensemble, (1.0,), 0)
    exact = case.log_z(1.0) - case.log_z(0.0)
    work, shadow = np.asarray(ensemble.account.work.value), np.asarray(ensemble.account.shadow_work.value)
    deviations = {}
    for name, factor in (("right", 1.0), ("forgotten", 0.0), ("sign turned", -1.0)):
        log_mean, error = log_mean_with_error(-(work + factor * shadow))
        deviations[name] = abs(log_mean - exact) / error
    print(f"{case.name}: deviations in standard errors {deviations}")
    assert deviations["right"] < SIGMAS < 2 * SIGMAS < min(deviations["forgotten"], deviations["sign turned"])


@pytest.mark.parametrize("case", CASES[:1] + CASES[4:5], ids=label)
def test_saboteur_start_at_another_beta(case):
    """An exact start is needed: walkers from the law at the end of the path are not it."""
    ensemble = opened(case, jax.random.key(5), s=1.0)
    ensemble = driven(jax.random.key(6), case, ensemble, (0.0,), 0)
    log_mean, error = log_mean_with_error(driven(jax.random.key(7), case, ensemble, (1.0,)).log_weight())
    assert abs(log_mean - (case.log_z(1.0) - case.log_z(0.0))) > 2 * SIGMAS * error


@pytest.mark.parametrize("case", REVERSIBLE, ids=label)
def test_crooks_and_bar(case):
    """Driven forth and back along the same path: `P_F(W) exp(dF - W) = P_R(-W)`, and all estimators agree."""
    values = (0.0, 0.4, 0.8, 1.0)
    exact = case.log_z(0.0) - case.log_z(1.0)  # dF
    forth = driven(jax.random.key(1), case, opened(case, jax.random.key(2)), values[1:])
    back = driven(jax.random.key(3), case, opened(case, jax.random.key(4), s=1.0), values[-2::-1])
    work, reverse = -np.asarray(forth.log_weight()), -np.asarray(back.log_weight())
    both = bar(work, reverse)
    for estimate, truth in ((jarzynski(work), exact), (jarzynski(reverse), -exact), (both, exact)):
        print(f"{case.name}: {estimate.method} {estimate.value:+.4f} +- {estimate.stderr:.4f}, exact {truth:+.4f}")
        assert abs(estimate.value - truth) < SIGMAS * estimate.stderr < 0.3
    assert both.stderr < jarzynski(work).stderr
    tilted = np.exp(exact - work)
    for threshold in np.quantile(-reverse, (0.05, 0.3, 0.5, 0.8, 0.97)):
        left, right = tilted * (work < threshold), -reverse < threshold
        error = np.hypot(left.std(), right.std()) / np.sqrt(N)
        assert abs(left.mean() - right.mean()) < SIGMAS * error
    # Crooks is more than Jarzynski: without the tilt the two laws of work differ by far
    assert abs((work < exact).mean() - (-reverse < exact).mean()) > 20 / np.sqrt(N)


@pytest.mark.parametrize("case", [DISCRETE[1], DISCRETE[5], DISCRETE[9]], ids=label)
def test_thermodynamic_integration(case):
    """`int <du/ds> ds` over exact samples, with the derivative of the package's potential."""

    @quick_jit
    def slope(s, x):
        return jax.vmap(jax.grad(lambda s, x: case.path(s)(x)), (None, 0))(s, x)

    grid = np.linspace(0, 1, 9)
    slopes = [np.asarray(slope(jnp.asarray(s), case.start(jax.random.key(i), N, s))) for i, s in enumerate(grid)]
    means, errors = (np.array([f(d) for d in slopes]) for f in (np.mean, lambda d: np.std(d) / np.sqrt(N)))
    estimate = thermodynamic_integration(grid, means, errors)
    exact = case.log_z(0.0) - case.log_z(1.0)
    print(f"{case.name}: {estimate.value:+.4f} +- {estimate.stderr:.4f}, exact {exact:+.4f}")
    assert abs(estimate.value - exact) < SIGMAS * estimate.stderr < 0.05
