"""Free-energy estimators against Gaussian work, for which everything is known in closed form.

Work `N(mu, s^2)` means `dF = mu - s^2 / 2`. The reverse process then has work `N(s^2 / 2 - dF, s^2)` (Crooks).
"""

import inspect

import numpy as np
import pytest

from quasistatic.errors import InputError
from quasistatic.thermo.estimators import (
    bar,
    jarzynski,
    log_z_from_groups,
    second_cumulant,
    thermodynamic_integration,
)


def _gaussian_work(rng, shape, *, free_energy=-1.7, spread=0.8):
    return free_energy + spread**2 / 2 + spread * rng.standard_normal(shape)


def _agrees(estimate, expected, n_sigma=4.5):
    return abs(estimate.value - expected) <= n_sigma * estimate.stderr


def _coverage(make, expected, n_replicas=500, level=0.95):
    """Share of replicas whose interval contains the truth."""
    rng = np.random.default_rng(20)
    hits = 0
    for _ in range(n_replicas):
        low, high = make(rng).interval(level)
        hits += low <= expected <= high
    return hits / n_replicas


def _spread_of_z(make, expected, n_replicas=400):
    """Mean and standard deviation of `(value - expected) / stderr` over replicas."""
    rng = np.random.default_rng(21)
    z = [(e.value - expected) / e.stderr for e in (make(rng) for _ in range(n_replicas))]
    return np.mean(z), np.std(z, ddof=1)


def test_jarzynski_gives_the_free_energy_and_its_error():
    n, s = 40_000, 0.8
    estimate = jarzynski(_gaussian_work(np.random.default_rng(1), n, spread=s))
    assert _agrees(estimate, -1.7)
    # Gaussian work: ESS exp(-s^2), standard error sqrt((exp(s^2) - 1) / n).
    assert estimate.ess == pytest.approx(np.exp(-(s**2)), rel=0.05)
    assert estimate.stderr == pytest.approx(np.sqrt(np.expm1(s**2) / n), rel=0.1)
    assert estimate.bias == "high"


def test_saboteur_flipped_work_is_far_off():
    work = _gaussian_work(np.random.default_rng(1), 40_000)
    assert not _agrees(jarzynski(-work).scale(-1.0), -1.7)


def test_jarzynski_bias_is_high_by_half_the_variance():
    """Few walkers: mean over replicas is above the truth by (exp(s^2) - 1) / 2n, within 4.5 standard errors."""
    rng = np.random.default_rng(2)
    n, s, n_replicas = 12, 0.6, 2000
    values = np.array([jarzynski(_gaussian_work(rng, n, spread=s)).value for _ in range(n_replicas)])
    stderr = values.std(ddof=1) / np.sqrt(n_replicas)
    bias = np.expm1(s**2) / (2 * n)
    assert abs(values.mean() + 1.7 - bias) < 4.5 * stderr + 0.2 * bias
    assert values.mean() + 1.7 > 2 * stderr


def test_jarzynski_over_groups_sees_what_the_walkers_of_a_group_share():
    """Walkers of a group share an offset: the error over walkers is far too small, the error over groups is not."""
    group = np.repeat(np.arange(20), [50, 30] * 10)  # unequal groups on purpose

    def correlated(rng):
        shared = 0.4 * rng.standard_normal(20)
        return shared[group] + _gaussian_work(rng, group.size, free_energy=0.4**2 / 2 - 1.7, spread=0.6)

    assert 0.9 <= _coverage(lambda rng: jarzynski(correlated(rng), group=group), -1.7, n_replicas=250) <= 0.99
    assert _coverage(lambda rng: jarzynski(correlated(rng)), -1.7) < 0.75


def test_group_labels_and_order_do_not_matter():
    rng = np.random.default_rng(3)
    work, group = rng.standard_normal(96), np.repeat(np.arange(16), 6)
    order = rng.permutation(96)
    expected = jarzynski(work, group=group)
    relabelled = jarzynski(work[order], group=7 * group[order] - 30)
    assert relabelled.value == pytest.approx(expected.value, rel=1e-13)
    assert relabelled.stderr == pytest.approx(expected.stderr, rel=1e-12)
    by_group = log_z_from_groups(np.log(np.mean(np.exp(-work.reshape(16, 6)), axis=1)))
    assert expected.value == pytest.approx(-by_group.value, rel=1e-13)
    assert expected.stderr == pytest.approx(by_group.stderr, rel=1e-12)


def test_walkers_without_weight_count_but_do_not_break():
    work = np.concatenate([np.full(300, np.inf), _gaussian_work(np.random.default_rng(4), 700)])
    estimate = jarzynski(work)
    assert estimate.value == pytest.approx(jarzynski(work[300:]).value - np.log(0.7), abs=1e-12)
    nothing = jarzynski(np.full(40, np.inf))
    assert nothing.is_withheld
    assert nothing.reason == "no walker has weight"


def test_error_is_withheld_when_a_few_walkers_carry_all():
    estimate = jarzynski(_gaussian_work(np.random.default_rng(5), 1000, spread=6.0))
    assert estimate.value is not None
    assert estimate.stderr is None
    assert "effective walkers cannot carry a standard error" in estimate.reason


def _group_log_z(rng, n_groups=16, n_walkers=64, spread=1.0, sign=-1):
    work = _gaussian_work(rng, (n_groups, n_walkers), spread=spread)
    return np.log(np.mean(np.exp(sign * work), axis=1))


@pytest.mark.parametrize(("n_groups", "spread"), [(16, 0.4), (16, 1.0), (40, 1.0)])
def test_interval_over_groups_covers_the_truth(n_groups, spread):
    def make(rng):
        return log_z_from_groups(_group_log_z(rng, n_groups, spread=spread))

    assert 0.9 <= _coverage(make, 1.7) <= 0.99


def test_saboteur_flipped_sign_is_not_covered():
    assert _coverage(lambda rng: log_z_from_groups(_group_log_z(rng, sign=1)), 1.7) < 0.5


def test_saboteur_mean_of_logarithms_is_not_covered():
    """Averaging log Z instead of Z loses half the variance of every group."""

    def make(rng):
        log_z = _group_log_z(rng, 40, n_walkers=8)
        return log_z_from_groups(log_z).shift(log_z.mean() - log_z_from_groups(log_z).value)

    assert _coverage(lambda rng: log_z_from_groups(_group_log_z(rng, 40, n_walkers=8)), 1.7) >= 0.9
    assert _coverage(make, 1.7) < 0.9


def test_groups_offset_far_away_are_safe():
    log_z = _group_log_z(np.random.default_rng(6))
    here, there = log_z_from_groups(log_z), log_z_from_groups(log_z + 861.55)
    assert there.value - 861.55 == pytest.approx(here.value, abs=1e-11)
    assert there.stderr == pytest.approx(here.stderr, rel=1e-9)
    assert here.dof == 15


@pytest.mark.parametrize("n_groups", [1, 2, 15])
def test_error_is_withheld_below_sixteen_groups(n_groups):
    estimate = log_z_from_groups(_group_log_z(np.random.default_rng(7), n_groups))
    assert estimate.value is not None
    assert estimate.stderr is None
    assert "at least 16 are needed" in estimate.reason
    assert log_z_from_groups(_group_log_z(np.random.default_rng(7), 16)).stderr is not None


def test_one_group_with_all_the_weight_has_no_error():
    estimate = log_z_from_groups(np.array([3.0] + [-np.inf] * 15))
    assert estimate.value == pytest.approx(3.0 - np.log(16))
    assert estimate.stderr is None
    assert estimate.reason == "a single group carries all the weight"
    assert log_z_from_groups(np.full(16, -np.inf)).is_withheld


def test_caller_may_say_what_it_knows():
    estimate = log_z_from_groups(np.zeros(16), ess=0.25, bias="high", method="reverse AIS")
    assert (estimate.ess, estimate.bias, estimate.method, estimate.stderr) == (0.25, "high", "reverse AIS", 0.0)
    assert log_z_from_groups(np.zeros(16)).ess == 1.0


def test_second_cumulant_is_right_for_gaussian_work_at_any_spread():
    mean, deviation = _spread_of_z(lambda rng: second_cumulant(_gaussian_work(rng, 200, spread=4.0)), -1.7)
    assert abs(mean) < 4.5 / np.sqrt(400)
    assert abs(deviation - 1) < 4.5 / np.sqrt(2 * 400) + 0.05


def test_second_cumulant_error_knows_the_skew():
    """Exponential work, minus its mean: variance 1, third cumulant 2; its own target is -1/2."""
    mean, deviation = _spread_of_z(lambda rng: second_cumulant(rng.standard_exponential(4000) - 1), -0.5)
    assert abs(mean) < 4.5 / np.sqrt(400) + 0.1
    assert abs(deviation - 1) < 4.5 / np.sqrt(2 * 400) + 0.05


def test_saboteur_added_variance_is_far_off():
    work = _gaussian_work(np.random.default_rng(8), 4000)
    estimate = second_cumulant(work)
    assert _agrees(estimate, -1.7)
    assert not _agrees(estimate.shift(work.var(ddof=1)), -1.7)
    assert not _agrees(second_cumulant(-work), -1.7)


def _pair(rng, n_forward, n_reverse, *, free_energy=2.3, spread=1.5):
    """Forward and reverse work that satisfy Crooks' relation."""
    forward = _gaussian_work(rng, n_forward, free_energy=free_energy, spread=spread)
    return forward, _gaussian_work(rng, n_reverse, free_energy=-free_energy, spread=spread)


@pytest.mark.parametrize(
    ("n_forward", "n_reverse"),
    [(150, 1200), *(pytest.param(*n, marks=pytest.mark.slow) for n in ((500, 500), (1200, 150)))],
)
def test_bar_agrees_with_crooks_and_knows_its_error(n_forward, n_reverse):
    mean, deviation = _spread_of_z(lambda rng: bar(*_pair(rng, n_forward, n_reverse)), 2.3)
    assert abs(mean) < 4.5 / np.sqrt(400)
    assert abs(deviation - 1) < 4.5 / np.sqrt(2 * 400) + 0.05


def test_bar_solves_a_biased_coin_exactly():
    """Work that is the same for every walker: forward c, reverse -c give dF = c."""
    estimate = bar(np.full(30, 4.25), np.full(70, -4.25))
    assert estimate.value == pytest.approx(4.25, abs=1e-9)
    assert estimate.stderr == pytest.approx(0.0, abs=1e-6)


def test_bar_symmetries():
    forward, reverse = _pair(np.random.default_rng(9), 300, 800)
    here = bar(forward, reverse)
    assert bar(reverse, forward).value == pytest.approx(-here.value, abs=1e-9)
    assert bar(reverse, forward).stderr == pytest.approx(here.stderr, rel=1e-7)
    assert bar(forward + 750, reverse - 750).value == pytest.approx(here.value + 750, abs=1e-9)


def test_saboteurs_of_bar_are_far_off():
    forward, reverse = _pair(np.random.default_rng(10), 400, 4000)
    assert _agrees(bar(forward, reverse), 2.3)
    assert not _agrees(bar(forward, -reverse), 2.3)
    assert not _agrees(bar(-forward, -reverse), 2.3)
    # Forgetting M = log(n_forward / n_reverse) shifts unequal samples.
    assert not _agrees(bar(forward, reverse).shift(np.log(400 / 4000)), 2.3)


def test_bar_without_overlap_withholds_its_error():
    estimate = bar(*_pair(np.random.default_rng(11), 200, 200, spread=9.0))
    assert estimate.value is not None
    assert estimate.stderr is None
    assert "overlap" in estimate.reason


def test_bar_is_better_than_jarzynski_at_the_same_cost():
    forward, reverse = _pair(np.random.default_rng(12), 2000, 2000)
    more = _gaussian_work(np.random.default_rng(13), 4000, free_energy=2.3, spread=1.5)
    assert bar(forward, reverse).stderr < jarzynski(more).stderr


def _stiffening(points):
    """Mean `du/dlambda` of `u = kappa x^2 / 2` with `kappa = 1 + 5 lambda^2`, and the exact `dF = log(6) / 2`."""
    kappa = 1 + 5 * points**2
    return 10 * points / (2 * kappa), 0.5 * np.log(6.0)


@pytest.mark.parametrize("rule", ["simpson", "trapezoid"])
@pytest.mark.parametrize("n_points", [8, 9, 16, 33])
def test_integration_error_contains_the_discretisation(rule, n_points):
    points = np.linspace(0, 1, n_points) ** 1.3  # not uniform
    means, expected = _stiffening(points)
    estimate = thermodynamic_integration(points, means, np.zeros(n_points), rule=rule)
    off = abs(estimate.value - expected)
    assert off <= 4 * estimate.stderr
    assert estimate.stderr <= 40 * off
    backwards = thermodynamic_integration(points[::-1].copy(), means[::-1].copy(), np.zeros(n_points), rule=rule)
    assert backwards.value == pytest.approx(-estimate.value, abs=4 * estimate.stderr)


@pytest.mark.parametrize("rule", ["simpson", "trapezoid"])
def test_integration_propagates_statistical_errors(rule):
    points = np.linspace(0, 1, 33)
    means, expected = _stiffening(points)
    stderrs = 0.02 + 0.1 * points

    def make(rng):
        noisy = means + stderrs * rng.standard_normal(points.size)
        return thermodynamic_integration(points, noisy, stderrs, rule=rule)

    mean, deviation = _spread_of_z(make, expected)
    assert abs(mean) < 4.5 / np.sqrt(400) + 0.03
    assert 0.85 < deviation < 1.1


def test_saboteur_flipped_derivative_is_far_off():
    points = np.linspace(0, 1, 17)
    means, expected = _stiffening(points)
    assert not _agrees(thermodynamic_integration(points, -means, np.full(17, 0.01)), expected)


@pytest.mark.parametrize(("rule", "n_points"), [("simpson", 4), ("trapezoid", 2)])
def test_integration_over_too_few_points_has_no_error(rule, n_points):
    points = np.linspace(0, 1, n_points)
    estimate = thermodynamic_integration(points, points, np.zeros(n_points), rule=rule)
    assert estimate.value == pytest.approx(0.5)
    assert estimate.stderr is None
    assert "cannot judge the discretisation" in estimate.reason


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (jarzynski, ([],), r"work must be a vector of at least 1 numbers, got shape \(0,\)"),
        (jarzynski, ([[1.0, 2.0]],), r"got shape \(1, 2\)"),
        (jarzynski, ([1.0, np.nan, -np.inf],), r"work must be finite or \+inf, got nan at index 1; 2 of 3"),
        (log_z_from_groups, ([0.0, np.inf],), "log_z_groups must be finite or -inf, got inf at index 1"),
        (second_cumulant, ([1.0],), "at least 2 numbers"),
        (second_cumulant, ([1.0, np.inf],), "work must be finite, got inf"),
        (bar, ([np.inf], [1.0]), "do not overlap"),
        (bar, ([1.0], []), "work_reverse must be a vector"),
        (thermodynamic_integration, ([0.0, 1.0], [1.0], [1.0]), "means must be a vector of at least 2"),
        (thermodynamic_integration, ([0.0, 1.0, 2.0], [1.0, 1.0], [1.0, 1.0]), "one length, got 3, 2 and 2"),
        (thermodynamic_integration, ([0.0, 0.0], [1.0, 1.0], [1.0, 1.0]), "strictly increasing or decreasing"),
        (thermodynamic_integration, ([0.0, 1.0], [1.0, 1.0], [1.0, -1.0]), "cannot be negative, got -1"),
    ],
)
def test_wrong_input_is_named(function, arguments, message):
    # Without the type checks of the tests, which would speak first.
    with pytest.raises(InputError, match=message) as caught:
        inspect.unwrap(function)(*(np.asarray(argument, float) for argument in arguments))
    assert "\n" not in str(caught.value)


def test_wrong_groups_and_rules_are_named():
    with pytest.raises(InputError, match=r"group of each of the 3 walkers, got shape \(2,\)"):
        inspect.unwrap(jarzynski)(np.zeros(3), group=np.zeros(2, int))
    with pytest.raises(InputError, match="unknown integration rule 'romberg'"):
        inspect.unwrap(thermodynamic_integration)(np.zeros(2), np.zeros(2), np.zeros(2), rule="romberg")
