"""Gaussian models: closed forms against recursion, integration and matrix exponentials, and the wrong formulas."""

import math

import numpy as np
import pytest
from scipy.linalg import expm

from quasistatic.errors import InputError
from quasistatic.evaluate.dynamics import (
    AbstractScalarModel,
    GaussianModel,
    GaussianRBMMode,
    LangevinMode,
    OutOfReach,
    UnadjustedMode,
    equilibrium_learning,
    gaussian_divergence,
    persistent_limits,
)

CASES = [(0.5, 0.3, 1.0), (2.0, 0.7, 0.4), (9.0, 0.0, 1.3), (0.2, 3.0, 0.1), (5.0, 1.6, 6.0)]  # d, s, k


@pytest.mark.parametrize(("d", "s", "k"), CASES)
def test_the_data_are_met_at_t_equal_k_and_only_there(d, s, k):
    mode = LangevinMode(start=s)
    j = mode.learned(d, k)
    t = k * np.linspace(0, 3, 61)
    c = np.asarray(mode.moment(j, t))
    assert abs(c[20] - d) < 1e-12 * max(1, d)
    assert np.all(np.sign(np.diff(c)) == np.sign(d - s))
    cost = np.asarray(gaussian_divergence(c[1:], d))
    assert abs(cost[19]) < 1e-12 and np.argmin(cost) == 19 and cost[15] > 1e-8 and cost[25] > 1e-8
    # the law of motion of the variance, dc/dt = 2 - 2 j c, by central differences
    h = 1e-4 * k
    speed = (mode.moment(j, k + h) - mode.moment(j, k - h)) / (2 * h)
    assert abs(speed - (2 - 2 * j * d)) < 1e-6 * max(1, abs(speed))


@pytest.mark.parametrize("k", [0.25, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("d", [0.5, 1.0, 2.0, 4.0, 7.3])
def test_closed_form_of_a_point_start(d, k):
    mode = LangevinMode(start=0.0)
    assert abs(mode.lambert(d, k) - mode.learned(d, k)) < 1e-11


def test_no_memory_when_the_start_has_the_variance_of_the_data():
    for d, k in ((0.3, 0.01), (2.0, 0.4), (7.0, 3.0)):
        assert abs(LangevinMode(start=d).learned(d, k) - 1 / d) < 1e-14
        assert abs(LangevinMode(start=0.4).like(d).learned(d, k) - 1 / d) < 1e-14
        near = LangevinMode(start=d * (1 + 1e-9)).learned(d, k)  # the general path, not the shortcut
        assert abs(near - 1 / d) < 1e-7


def test_free_diffusion_is_the_border_of_what_has_an_equilibrium():
    for s, k in ((0.0, 0.7), (1.3, 2.0)):
        mode = LangevinMode(start=s)
        edge = mode.widest(k)
        assert abs(mode.learned(edge, k)) < 1e-12
        beyond, below = mode.learned(1.01 * edge, k), mode.learned(0.99 * edge, k)
        assert beyond < 0 < below and mode.equilibrium(beyond) == math.inf and math.isfinite(mode.equilibrium(below))
        assert abs(mode.moment(beyond, k) - 1.01 * edge) < 1e-12 * edge  # learned all the same


def test_long_and_short_training():
    mode, d = LangevinMode(start=0.6), 2.0
    for k in (10.0, 14.0):
        expected = (1 - (1 - 0.6 / d) * math.exp(-2 * k / d)) / d
        assert abs(mode.learned(d, k) - expected) < 30 * k * math.exp(-4 * k / d)
    assert abs(mode.learned(d, 1e-4) * 2e-4 / -math.log(d / 0.6) - 1) < 1e-3


def test_learning_curves():
    times, mode = np.array([0.1, 0.4, 1.5]), LangevinMode(start=1.4)
    found = mode.learning(2.0, math.inf, 0.7, times, rate=0.8)
    assert np.allclose(found, equilibrium_learning(2.0, 0.7, times, rate=0.8), atol=1e-9, rtol=0)
    # the last stretch is exponential with the rate of (A4)
    j = mode.learned(2.0, 0.9)
    a, b = mode.learning(2.0, 0.9, j + 1e-5, np.array([1.0, 1.5])) - j
    assert abs(math.log(a / b) / 0.5 + mode.slope(j, 0.9)) < 1e-4
    for d, k in ((2.0, 0.9), (0.5, 2.0), (3.2, 0.9), (1.4 + 2 * 0.9, 0.9)):  # the last one is j* = 0
        j = mode.learned(d, k)
        assert abs(mode.slope(j, k) - AbstractScalarModel.slope(mode, j, k)) < 1e-6 * abs(mode.slope(j, k))


@pytest.mark.parametrize(
    "model", [LangevinMode(start=0.7), UnadjustedMode(start=0.7, step=0.15), GaussianRBMMode(start=0.7, visible=1.6)]
)
def test_sensitivities_are_derivatives(model):
    d, k = 2.2, 3
    assert abs(model.by_start(d, k) - AbstractScalarModel.by_start(model, d, k)) < 1e-6
    assert abs(model.by_time(d, k) - AbstractScalarModel.by_time(model, d, k)) < 1e-6
    assert abs(model.slope(0.2, k) / AbstractScalarModel.slope(model, 0.2, k) - 1) < 1e-7
    assert 0 < abs(model.by_start(d, 12)) < 0.1 * abs(model.by_start(d, k))  # long training forgets the start
    assert 0 < abs(model.by_time(d, 12)) < 0.1 * abs(model.by_time(d, k))


def test_persistent_walkers_oscillate_and_diverge_where_they_should():
    for sampled, d in ((1.0, 1.0), (0.3, 2.5)):
        a = math.exp(-2 * sampled / d)

        def eigenvalues(g, a=a, d=d):
            linear = np.array([[a, -(d**2) * (1 - a)], [g * a, 1 - g * d**2 * (1 - a)]])
            return np.linalg.eigvals(linear)

        oscillates, diverges = persistent_limits(d, sampled)
        assert np.isreal(eigenvalues(0.999 * oscillates)).all() and np.iscomplex(eigenvalues(1.001 * oscillates)).all()
        assert np.abs(eigenvalues(0.999 * diverges)).max() < 1 < np.abs(eigenvalues(1.001 * diverges)).max()
    assert 0.46 < persistent_limits(1.0, 1.0)[0] < 0.47


# the chain that is really run


def recursion(j, n, s, eps):
    c = s
    for _ in range(n):
        c = (1 - eps * j) ** 2 * c + 2 * eps
    return c


UNADJUSTED = [(0.5, 1, 1.0, 0.1), (2.0, 10, 0.3, 0.1), (2.0, 10, 0.0, 0.05), (4.0, 20, 1.7, 0.05), (0.45, 2, 2.0, 0.15)]


def misses(j, case):
    """Distance of the variance that the moves make from the data's."""
    d, n, s, eps = case
    return abs(recursion(j, n, s, eps) - d)


@pytest.mark.parametrize("case", UNADJUSTED)
def test_unadjusted_moves(case):
    d, n, s, eps = case
    mode = UnadjustedMode(start=s, step=eps)
    j = mode.learned(d, n)
    assert misses(j, case) < 1e-12 and misses(mode.twin(j), case) < 1e-9
    assert np.allclose(mode.moment(j, np.arange(4)), [recursion(j, m, s, eps) for m in range(4)], atol=1e-13)
    # walkers that start at the data: the stiffness whose *stationary* variance is the data's, for any number of moves
    own = mode.like(d).learned(d, n)
    assert abs(own - mode.at_equilibrium(d)) < 1e-10 and abs(mode.equilibrium(own) - d) < 1e-10


@pytest.mark.parametrize("case", UNADJUSTED)
def test_saboteur_wrong_formulas_for_moves(case):
    d, n, s, eps = case
    assert misses(LangevinMode(start=s).learned(d, n * eps), case) > 1e-3  # continuous time
    if s and n > 1:
        assert misses(UnadjustedMode(start=0.0, step=eps).learned(d, n), case) > 1e-3  # start variance dropped
    assert misses(UnadjustedMode(start=s, step=eps).learned(d, n + 1), case) > 1e-3  # one move too many
    assert misses(1 / d, case) > 1e-3  # equilibrium


def test_small_steps_tend_to_continuous_time():
    exact = LangevinMode(start=1.0).learned(2.0, 1.0)
    gaps = [UnadjustedMode(start=1.0, step=1 / n).learned(2.0, n) - exact for n in (100, 200, 400)]
    assert abs(gaps[0] - (0.323393728602 - 0.321898879101)) < 1e-11
    assert abs(gaps[0] / gaps[1] - 2) < 0.02 and abs(gaps[1] / gaps[2] - 2) < 0.01


def test_no_variance_below_that_of_the_noise():
    mode = UnadjustedMode(start=1.0, step=0.2)
    for d in (0.39, 0.4):
        with pytest.raises(OutOfReach, match="cannot be learned with k = 4") as failure:
            mode.learned(d, 4)
        assert failure.value.limits == (0.4, math.inf)
    assert mode.learned(0.401, 4) < 1 / 0.2


# many dimensions


def test_matrix_against_exponentials():
    rng = np.random.default_rng(3)
    root, mean, start = rng.normal(size=(4, 4)), rng.normal(size=4), rng.normal(size=4)
    covariance, k, s = root @ root.T + 0.2 * np.eye(4), 0.8, 0.6
    model = GaussianModel(LangevinMode(start=s), start)
    j, h = model.learned(mean, covariance, k)
    assert np.linalg.eigvalsh(j).min() < 0 < np.linalg.eigvalsh(j).max()  # some modes have no equilibrium
    decay = expm(-j * k)
    found = s * decay @ decay + np.linalg.solve(j, np.eye(4) - decay @ decay)
    assert np.abs(found - covariance).max() < 1e-11
    assert np.abs(decay @ start + np.linalg.solve(j, (np.eye(4) - decay) @ h) - mean).max() < 1e-11
    assert model.divergence(j, h, k, mean, covariance) < 1e-12 < model.divergence(j, h, 1.1 * k, mean, covariance)
    assert model.second_error(j, k, covariance) < 1e-20 < model.second_error(j, 0.9 * k, covariance)
    own, field = model.learned(mean, covariance, k, from_data=True)
    assert np.abs(own - np.linalg.inv(covariance)).max() < 1e-9 and np.abs(own @ mean - field).max() < 1e-9


def test_matrix_of_moves_against_recursion():
    covariance, mean = np.array([[2.0, 0.5], [0.5, 0.7]]), np.array([0.3, -1.1])
    model = GaussianModel(UnadjustedMode(start=0.4, step=0.12), np.array([-0.5, 0.2]))
    j, h = model.learned(mean, covariance, 6)
    c, m = 0.4 * np.eye(2), np.array([-0.5, 0.2])
    for _ in range(6):
        a = np.eye(2) - 0.12 * j
        c, m = a @ c @ a.T + 0.24 * np.eye(2), a @ m + 0.12 * h
    assert np.abs(c - covariance).max() < 1e-12 and np.abs(m - mean).max() < 1e-12


def test_training_of_a_matrix_turns_into_the_learned_one():
    covariance = np.array([[2.0, 0.5], [0.5, 0.7]])
    model = GaussianModel(LangevinMode(start=1.0))
    path = model.learning(covariance, 1.0, np.array([[0.5, 0.3], [0.3, 1.0]]), np.array([0.1, 80.0]))
    expected, _ = model.learned(np.zeros(2), covariance, 1.0)
    assert np.abs(path[0] - expected).max() > 0.1 and np.abs(path[1] - expected).max() < 1e-8


# Gaussian-Gaussian RBM


def test_gaussian_rbm_against_block_gibbs():
    rng = np.random.default_rng(5)
    vectors, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    variances, a, b, s, n = np.array([6.0, 1.9, 0.8, 0.3]), 1.3, 0.6, 0.5, 3
    mode = GaussianRBMMode(start=s, visible=a, hidden=b)
    weights = mode.learned_weights((vectors * variances) @ vectors.T, n, n_hidden=3)
    c = s * np.eye(4)
    for _ in range(n):
        hidden = weights.T @ c @ weights / b**2 + np.eye(3) / b
        c = weights @ hidden @ weights.T / a**2 + np.eye(4) / a
    # the last mode lies below 1/a and is not learned: it keeps the variance of uncoupled units
    expected = np.array([6.0, 1.9, 0.8, 1 / a])
    assert np.abs(np.diag(vectors.T @ c @ vectors) - expected).max() < 1e-11
    assert np.linalg.matrix_rank(weights) == 3
    assert abs(GaussianRBMMode().moment(0.7, 3) - 3.058819) < 5e-7


def test_modes_that_a_gaussian_rbm_does_not_learn():
    mode = GaussianRBMMode(start=0.5, visible=1.3, hidden=0.6)
    for d in (0.3, 1 / 1.3):
        with pytest.raises(OutOfReach) as failure:
            mode.learned(d, 2)
        assert failure.value.limits == (1 / 1.3, math.inf)
        with pytest.raises(OutOfReach, match="its weight decays"):
            mode.at_equilibrium(d)
    assert mode.learning(0.3, 2, 0.5, np.array([8.0]))[0] < 1e-4
    # small weights grow at a rate that does not know k: w ~ exp(rate tau), rho ~ w^2
    for k in (1, 4):
        path = mode.learning(2.0, k, 1e-9, np.array([0.5, 1.0]))
        assert abs(math.log(path[1] / path[0]) - mode.growth(2.0)) < 1e-6
    edge = mode.widest(3)
    assert abs(mode.learned(edge, 3) - 1) < 1e-12
    assert mode.equilibrium(mode.learned(1.01 * edge, 3)) == math.inf > mode.equilibrium(mode.learned(0.9 * edge, 3))


BAD = {
    "negative start": lambda: LangevinMode(start=-1.0),
    "no step": lambda: UnadjustedMode(step=0.0),
    "no data": lambda: LangevinMode().learned(0.0, 1.0),
    "no time": lambda: LangevinMode().learned(1.5, 0.0),
    "part of a move": lambda: UnadjustedMode().learned(1.5, 2.5),
    "negative time": lambda: LangevinMode().moment(1.0, -1.0),
    "closed form elsewhere": lambda: LangevinMode(start=1.0).lambert(2.0, 1.0),
    "not symmetric": lambda: GaussianModel(LangevinMode()).covariance(np.array([[1.0, 0.5], [0.0, 1.0]]), 1.0),
    "not positive": lambda: GaussianModel(LangevinMode()).learned(np.zeros(2), np.diag([1.0, -1.0]), 1.0),
    "negative rho": lambda: GaussianRBMMode().moment(-0.1, 1),
    "times out of order": lambda: LangevinMode().learning(2.0, 1.0, 1.0, np.array([1.0, 0.5])),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    with pytest.raises(InputError):
        BAD[name]()


@pytest.mark.parametrize("mode", [LangevinMode(start=0.7), UnadjustedMode(start=0.7, step=0.1)])
def test_infinite_time_is_equilibrium(mode):
    """`k = inf` is what long times tend to; a mode without equilibrium is named."""
    model = GaussianModel(mode, np.array([0.5, -1.0]))
    mean, covariance = np.array([0.3, -0.2]), np.array([[2.0, 0.5], [0.5, 1.0]])
    j, h = model.learned(mean, covariance, np.inf)
    np.testing.assert_allclose(model.covariance(j, np.inf), covariance, atol=1e-12)
    np.testing.assert_allclose(model.mean(j, h, np.inf), mean, atol=1e-12)
    np.testing.assert_allclose(model.covariance(j, 4000), covariance, atol=1e-12)
    np.testing.assert_allclose(model.mean(j, h, 4000), mean, atol=1e-12)
    assert abs(model.divergence(j, h, np.inf, mean, covariance)) < 1e-12
    found = model.learning(covariance, np.inf, np.eye(2), np.array([0.0, 60.0]))[-1]
    np.testing.assert_allclose(found, j, atol=1e-6)
    with pytest.raises(OutOfReach, match="no equilibrium"):
        model.covariance(-np.eye(2), np.inf)
