"""The moving trap: tables, the discrete optimum, the feedback law, and learning at published rates.

Numbering of the method's acceptance tests, and where each is answered (`tests/dissipation` unless a folder is named):

     1  first law per walker                    test_walkers.test_first_law_and_identity
     2  bias of the likelihood = excess work    test_walkers.test_first_law_and_identity; tests/train/test_bias.py
     3  table of the trap                       test_trap.test_table
     4  exact discrete optimum                  test_trap.test_discrete_optimum; test_walkers.test_walkers_at_...
     5  feedback law                            test_trap.test_feedback_law; tests/rules/test_set_point.py
     6  schedules as learning rules             test_trap.test_schedules, test_any_start
     7  constant rate                           test_trap.test_constant_rate
     8  end values of the figure, split of jumps  test_trap.test_figure_values
     9  statistics of work                      test_walkers.test_work_statistics
    10  weights of unadjusted Langevin moves    tests/laws/test_gaussian_protocols.py
    11  anisotropic trap                        test_anisotropic
    12  change of stiffness                     test_stiffness
    15  general law on the quartic family       test_quartic
    16  single spin, perfect relaxation         test_spin
    17  exponential approach                    test_trap.test_exponential_approach
    20  scatter and bias fall as 1/N            test_walkers.test_size_scaling
    21  starts out of equilibrium               test_walkers.test_start_out_of_equilibrium; test_bounds
    13, 14, 18, 19 (metrics from walkers, linear algebra) belong to the metric estimators.
"""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from quasistatic.dissipation import SteppedTrap, Trap
from quasistatic.dissipation.trap import exponential_work
from quasistatic.errors import InputError

TABLE = {  # nu tau: optimum, linear, ratio, jump / D
    0.1: (0.476190, 0.483742, 0.9844, 0.47619),
    1: (0.333333, 0.367879, 0.9061, 0.33333),
    2: (0.250000, 0.283834, 0.8808, 0.25000),
    5: (0.142857, 0.160270, 0.8914, 0.14286),
    10: (0.083333, 0.090000, 0.9259, 0.08333),
    50: (0.019231, 0.019600, 0.9812, 0.01923),
    100: (0.009804, 0.009900, 0.9903, 0.00980),
}
SKEWED = Trap(stiffness=1.7, mobility=0.8, beta=0.6)


@pytest.mark.parametrize("s", TABLE)
def test_table(s):
    optimum, linear, ratio, jump = TABLE[s]
    for trap, distance in ((Trap(), 1.0), (SKEWED, -2.3)):
        duration, scale = s / trap.rate, trap.beta * trap.stiffness * distance**2
        assert abs(trap.minimal_work(distance, duration) / scale - optimum) < 6e-7
        assert abs(trap.linear_work(distance, duration) / scale - linear) < 6e-7
        assert abs(trap.minimal_work(distance, duration) / trap.linear_work(distance, duration) - ratio) < 6e-5
        assert abs(trap.jump(distance, duration) / distance - jump) < 6e-6


def test_least_ratio_and_slow_limits():
    def ratio(s):
        return Trap().minimal_work(1.0, s) / Trap().linear_work(1.0, s)

    found = minimize_scalar(ratio, bounds=(0.5, 10), method="bounded", options={"xatol": 1e-9})
    assert abs(found.x - 2.68800) < 1e-4 and abs(found.fun - 0.877692) < 1e-6
    for law in (Trap().minimal_work, Trap().linear_work):
        slope = np.log(law(1.0, 80.0) / law(1.0, 20.0)) / np.log(4)
        assert abs(slope + 1) < 0.06 and abs(1e6 * law(1.0, 1e6) - 1) < 1e-5


def recursion(lag, centres, stiffness):
    """Mean work of a path of centres, by following the mean of the walkers."""
    mean, work = centres[0], 0.0
    for before, after in zip(centres, centres[1:], strict=False):
        work += 0.5 * stiffness * ((after - mean) ** 2 - (before - mean) ** 2)
        mean = after + lag * (mean - after)
    return work


def test_discrete_optimum():
    trap, duration, distance = Trap(0.7, 1.3), 2.0, 3.0
    for n, optimum in ((40, 1.6311233276), (25, 1.6200576430)):
        stepped = SteppedTrap.langevin(trap, duration / n)
        assert abs(stepped.minimal_work(distance, n) - optimum) < 1e-10
        jumps = stepped.optimal_jumps(distance, n)
        assert abs(jumps.sum() - distance) < 1e-12
        assert abs(stepped.work(jumps) - optimum) < 1e-10
        assert abs(recursion(stepped.lag, np.r_[0, np.cumsum(jumps)], 0.7) - optimum) < 1e-10
        # a minimum: any other jumps of the same sum cost more
        other = np.sin(np.arange(n + 1.0))
        other -= other.mean()
        assert all(stepped.work(jumps + e * other) > optimum for e in (1e-3, -1e-3))
    stepped = SteppedTrap.langevin(trap, duration / 40)
    assert abs(stepped.optimal_jumps(distance, 40)[0] - 0.7948072592) < 1e-10
    assert abs(stepped.linear_work(distance, 40) - 1.8492281552) < 1e-10
    assert abs(stepped.work(np.r_[np.full(40, distance / 40), 0.0]) - 1.8492281552) < 1e-10
    assert abs(trap.minimal_work(distance, duration) - 1.6492146597) < 1e-10
    assert abs(trap.linear_work(distance, duration) - 1.8677581907) < 1e-10
    # saboteur: the continuous-time jump is not the discrete optimum
    wrong = np.full(41, (distance - 2 * trap.jump(distance, duration)) / 39)
    wrong[[0, -1]] = trap.jump(distance, duration)
    assert stepped.work(wrong) > 1.6311233276 + 1e-5


def test_exact_moves_converge_to_continuous_time():
    trap = SKEWED
    optimum = trap.minimal_work(2.0, 1.5)
    errors = [SteppedTrap.exact(trap, 1.5 / n).minimal_work(2.0, n) / optimum - 1 for n in (50, 100, 200)]
    assert abs(errors[2]) < 1e-4 and 3.9 < errors[0] / errors[1] < 4.1  # second order


def test_feedback_law():
    trap, n, target = SteppedTrap.langevin(Trap(0.7, 1.3), 2 / 40), 40, 3.0
    centre, mean, work = 0.0, 0.0, 0.0
    for j in range(n + 1):
        after = trap.set_point(mean, target, j, n)
        work += 0.35 * ((after - mean) ** 2 - (centre - mean) ** 2)
        centre, mean = after, after + trap.lag * (mean - after)
    assert centre == target and abs(work - 1.6311233276) < 1e-10
    # robust: thrown off its way it still arrives
    assert trap.set_point(17.0, target, n, n) == target


def test_schedules():
    for mobility, work, mean in ((1.0, 33.333333, -6.666667), (5.0, 14.285714, -2.857143)):
        trap = Trap(mobility=mobility)
        course = trap.learned(trap.discontinuous_rate(1.0), -10, -10, 0.0, 1.0, jumps=True)
        end = 0.5 * (course.centre[-1] + 0 - course.mean[-1] - 0)  # lead before the end jump
        assert abs(course.mean[-1] - mean) < 1e-6
        assert abs(course.centre[-1] + 0.5 * (0 - course.mean[-1]) - 0) < 1e-6  # half the gap reaches the target
        jump = 0.5 * ((0 - course.mean[-1]) ** 2 - (course.centre[-1] - course.mean[-1]) ** 2)
        assert abs(course.work[-1] + jump - work) < 1e-5 and end > 0
        assert abs(trap.minimal_work(10, 1.0) - work) < 1e-6
    trap = Trap(mobility=5.0)
    course = trap.learned(trap.continuous_rate(1.0), -10, -10, 0.0, 1.0)
    np.testing.assert_allclose(
        (course.centre[-1], course.mean[-1], course.work[-1]), (-0.0673795, -2.1518773, 15.92335), atol=2e-5
    )
    assert abs(trap.continuous_error(-10, -10, 0.0, 1.0) - course.centre[-1]) < 1e-7
    matched = Trap().learned(Trap().continuous_rate(1.0), -5, -10, 0.0, 1.0)
    np.testing.assert_allclose((matched.centre[-1], matched.mean[-1], matched.work[-1]), (0, -5, 25), atol=1e-6)


def test_schedules_of_a_skewed_trap_reach_the_target():
    """The learning rates carry stiffness, mobility and beta each in its place."""
    course = SKEWED.learned(SKEWED.discontinuous_rate(1.4), 0.5, 0.5, -1.6, 1.4, jumps=True)
    assert abs(course.centre[-1] + 0.5 * (-1.6 - course.mean[-1]) + 1.6) < 1e-8
    k = SKEWED.beta * SKEWED.stiffness
    jump = 0.5 * k * ((-1.6 - course.mean[-1]) ** 2 - (course.centre[-1] - course.mean[-1]) ** 2)
    assert abs(course.work[-1] + jump - SKEWED.minimal_work(2.1, 1.4)) < 1e-8
    # saboteur: the published 2/mu^2, right only for mu = 1, misses

    def wrong(t):
        return 1 / (SKEWED.beta * (SKEWED.stiffness * (1.4 - t) + 2 / SKEWED.mobility**2))

    missed = SKEWED.learned(wrong, 0.5, 0.5, -1.6, 1.4, jumps=True)
    assert abs(missed.centre[-1] + 0.5 * (-1.6 - missed.mean[-1]) + 1.6) > 0.02


def test_any_start():
    trap = Trap(1.7, 0.8)
    course = trap.learned(trap.continuous_rate(2.1), -1.0, -3.0, 0.0, 2.1)
    np.testing.assert_allclose(
        (course.centre[-1], course.mean[-1], course.work[-1]), (0.2709320, -0.1470768, 2.5180592), atol=1e-6
    )
    assert abs(trap.continuous_error(-1.0, -3.0, 0.0, 2.1) - 0.2709320) < 1e-7


@pytest.mark.parametrize(
    "mobility, rate, duration, centre, mean, work, gap",
    [
        (100, 10, 1, -10, -10, 5.0, None),
        (10, 10, 1, 10, -10, 49.991626, None),
        (1, 0.5, 5, -1, -1, 0.2499308, 0.0166363),
    ],
)
def test_constant_rate(mobility, rate, duration, centre, mean, work, gap):
    """Work of a constant rate: closed form against the integrated loop, from any start, at any speed."""
    trap = Trap(mobility=mobility)
    course = trap.learned(lambda t: rate, centre, mean, 0.0, duration)
    assert abs(course.work[-1] - work) < 1e-4
    assert abs(trap.constant_rate_work(rate, mean, course.mean[-1]) - course.work[-1]) < 1e-7
    assert gap is None or abs(abs(course.mean[-1]) - gap) < 1e-6


def test_figure_values():
    """Excess work of four ways to learn at `D = mu = 1`, `tau = 5`, and how the optimal work is split."""
    trap = Trap()
    assert abs(trap.minimal_work(1, 5) - 0.142857) < 1e-6
    slow = trap.learned(trap.continuous_rate(5.0), -1, -1, 0.0, 5.0)
    assert 0 < 0.160270 - slow.work[-1] < 2 * 0.160270 * np.exp(-5)  # the schedule stops short by exp(-5)
    assert abs(trap.linear_work(1, 5) - 0.160270) < 1e-6
    lag = 1 / 5
    continuous = trap.learned(trap.continuous_rate(5.0), -1, -1 - lag, 0.0, 5.0)
    assert abs(continuous.work[-1] - 0.2) < 1e-8
    # adiabatic elimination of the walkers: D^2 eta / (2 mu) (1 - exp(-2 eta t))
    assert abs(0.25 * (1 - np.exp(-5.0)) - 0.248316) < 1e-6
    start, way, end = SKEWED.work_split(2.0, 1.3)
    assert abs(end / start - 3) < 1e-12 and abs(start + way + end - SKEWED.minimal_work(2.0, 1.3)) < 1e-12


def test_exponential_approach():
    """Approaching exponentially to a thousandth costs 3.454 times the optimum of slow driving."""
    assert abs(exponential_work(2.0, 2e-3, 7.0, 1.5) * 1.5 * 7 / 4 - 3.454) < 1e-3
    duration, trap = 2000.0, Trap()
    horizon = duration / np.log(1e3)
    course = trap.learned(lambda t: 1 / horizon, 1.0, 1.0, 0.0, duration)
    assert abs(course.work[-1] / exponential_work(1.0, 1e-3, duration, 1.0) - 1) < 0.01


def test_bad_input_is_refused():
    for make in (
        lambda: Trap(stiffness=-1.0),
        lambda: SteppedTrap(1.0),
        lambda: SteppedTrap.langevin(Trap(), 2.5),
        lambda: Trap().minimal_work(1.0, 0.0),
        lambda: SteppedTrap(0.5).minimal_work(1.0, -1),
    ):
        with pytest.raises(InputError, match="got"):
            make()
