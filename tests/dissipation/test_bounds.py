"""Bounds: closed forms agree with each other and are never undercut by a simulated protocol."""

import numpy as np
import pytest
from scipy.optimize import minimize

from quasistatic.dissipation import StiffnessChange, Trap, bounds
from quasistatic.errors import InputError


def test_proximal_work_contains_trap_and_stiffness():
    trap = Trap(1.7, 0.8, 0.6)
    k, mobility = trap.beta * trap.stiffness, trap.mobility / trap.beta
    found = bounds.proximal_work(0.4, 1 / k, 2.1, k, mobility=mobility, duration=1.3)
    assert abs(found - trap.minimal_work(1.7, 1.3)) < 1e-12
    change = StiffnessChange(1.0, 2.0, 1.3, 0.8, 0.6)
    found = bounds.proximal_work(0.0, 1 / 0.6, 0.0, 1.2, mobility=mobility, duration=1.3)
    assert abs(found - change.minimal_excess_work) < 1e-12


def test_proximal_work_is_the_minimum(key=None):
    """Against a search over the law at arrival; reaching the target costs more than least work."""
    arguments = dict(mobility=1.4, duration=0.7)
    m, v, target, k = 0.3, 0.5, -1.2, 2.6

    def cost(y):
        variance = np.exp(y[1])
        moved = bounds.transport_distance(np.array([m]), np.eye(1) * v, y[:1], np.eye(1) * variance)
        divergence = bounds.gaussian_divergence(y[:1], np.eye(1) * variance, np.array([target]), np.eye(1) / k)
        return bounds.transport_work(moved, **arguments) + divergence

    found = minimize(cost, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13})
    assert abs(found.fun - bounds.proximal_work(m, v, target, k, **arguments)) < 1e-9
    assert cost(np.array([target, -np.log(k)])) > 1.1 * found.fun


def test_transport_distances():
    rng = np.random.default_rng(0)
    a, b = np.array([[2.0, 0.6], [0.6, 0.5]]), np.array([[0.7, -0.3], [-0.3, 1.1]])
    zero = np.zeros(2)
    assert bounds.transport_distance(zero, a, zero, a) < 1e-10
    # optimal map between Gaussians: A^-1/2 (A^1/2 B A^1/2)^1/2 A^-1/2, symmetric, and it carries a to b
    values, vectors = np.linalg.eigh(a)
    root, inverse = (vectors * values**p @ vectors.T for p in (0.5, -0.5))
    inner = np.linalg.eigh(root @ b @ root)
    push = inverse @ (inner[1] * np.sqrt(inner[0]) @ inner[1].T) @ inverse
    np.testing.assert_allclose(push @ a @ push, b, atol=1e-12)
    cost = np.trace((push - np.eye(2)) @ a @ (push - np.eye(2)))
    assert abs(bounds.transport_distance(zero, a, zero, b) - cost) < 1e-10
    x, y = rng.normal(1.0, 0.5, 40_000), rng.normal(-0.5, 1.5, 30_000)
    assert abs(bounds.transport_distance_1d(x, y) - (1.5**2 + 1.0)) < 0.05
    one = bounds.transport_distance(np.ones(1), np.eye(1) * 0.25, np.full(1, -0.5), np.eye(1) * 2.25)
    assert abs(one - 3.25) < 1e-12


def test_work_balance_of_a_start_out_of_equilibrium():
    """`W_ex >= W_2^2 / (M tau) + D(tau) - D(0)` on the exact mean dynamics of a trap: any start, any rate."""
    trap = Trap(1.3, 0.9, 0.8)
    k, mobility = trap.beta * trap.stiffness, trap.mobility / trap.beta
    for rate in (0.3, 1.0, 3.0):
        for centre, mean in ((0.0, 0.0), (0.0, 2.5), (-1.0, 0.5)):
            course = trap.learned(lambda t, r=rate: r, centre, mean, 1.5, 2.0)
            start, end = (0.5 * k * (course.centre[i] - course.mean[i]) ** 2 for i in (0, -1))
            moved = bounds.transport_work((course.mean[-1] - mean) ** 2, mobility, 2.0)
            assert course.work[-1] >= moved + end - start
            assert course.work[-1] >= -start
    # saturated by the optimum, whose walkers move at constant speed
    course = trap.learned(trap.discontinuous_rate(2.0), 0.0, 0.0, 1.5, 2.0, jumps=True)
    end = 0.5 * k * (course.centre[-1] - course.mean[-1]) ** 2
    assert abs(course.work[-1] - bounds.transport_work(course.mean[-1] ** 2, mobility, 2.0) - end) < 1e-9


def test_efficiency():
    assert bounds.efficiency(0.5, 2.0) == 0.25
    assert bounds.efficiency(0.5, -2.0) is None  # a start out of equilibrium: no cost to compare with


def test_bad_input_is_refused():
    for call in (
        lambda: bounds.length(np.array([0.1, -0.1])),
        lambda: bounds.length_work(1.0, 0),
        lambda: bounds.transport_work(1.0, 1.0, 0.0),
        lambda: bounds.proximal_work(0.0, -1.0, 0.0, 1.0, mobility=1.0, duration=1.0),
    ):
        with pytest.raises(InputError):
            call()
