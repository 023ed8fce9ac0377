"""Traps with a stiffness matrix: closed forms, exact discrete optimum, and matrix schedules that reach it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from quasistatic.dissipation import AnisotropicTrap, SteppedTrap, Trap, steer
from quasistatic.errors import InputError

TRAP = AnisotropicTrap(np.array([[2.0, 0.6], [0.6, 0.5]]), np.diag([1.0, 0.4]))
D, TAU = np.array([1.0, -2.0]), 2.0


def learned(rate, start, duration, target):
    """Closed loop from equilibrium after a start jump: centre, mean and work just before the end."""

    def flow(t, y):
        centre, mean = y[:2], y[2:4]
        velocity = rate(t) @ TRAP.stiffness @ (target - mean)
        return [
            *velocity,
            *(TRAP.mobility @ TRAP.stiffness @ (centre - mean)),
            (centre - mean) @ TRAP.stiffness @ velocity,
        ]

    work = 0.5 * start @ TRAP.stiffness @ start
    y = solve_ivp(flow, (0, duration), [*start, 0, 0, work], "DOP853", rtol=1e-10, atol=1e-12).y[:, -1]
    return y[:2], y[2:4], y[4]


def test_closed_forms():
    assert abs(TRAP.minimal_work(D, TAU) - 0.6388889) < 1e-7
    assert abs(TRAP.linear_work(D, TAU) - 0.66609) < 1e-5
    ramps = [TRAP.stepped_work(np.tile(D / n, (n, 1)), TRAP.lag(TAU / n)) for n in (400, 800)]
    assert abs(2 * ramps[1] - ramps[0] - TRAP.linear_work(D, TAU)) < 1e-6
    centre, _, _ = learned(lambda t: TRAP.continuous_rate(TAU, t), np.zeros(2), TAU, D)
    np.testing.assert_allclose(centre - D, TRAP.continuous_error(D, TAU), atol=1e-8)
    np.testing.assert_allclose(TRAP.continuous_error(D, TAU), (-0.51621, 1.59692), atol=6e-6)


def test_matrix_schedule_reaches_the_bound_and_no_scalar_does():
    start = TRAP.start_jump(D, TAU)
    centre, mean, work = learned(lambda t: TRAP.discontinuous_rate(TAU, t), start, TAU, D)
    gap = D - mean
    np.testing.assert_allclose(centre + 0.5 * gap, D, atol=1e-8)
    lead = centre - mean
    work += 0.5 * (gap @ TRAP.stiffness @ gap - lead @ TRAP.stiffness @ lead)
    assert abs(work - TRAP.minimal_work(D, TAU)) < 1e-8
    for scale in np.geomspace(0.05, 20, 12):
        centre, mean, work = learned(lambda t, s=scale: np.eye(2) * s / (TAU - t + s), np.zeros(2), TAU, D)
        gap, lead = D - mean, centre - mean  # what is left is made up by a jump to the target
        work += 0.5 * (gap @ TRAP.stiffness @ gap - lead @ TRAP.stiffness @ lead)
        assert work > 1.02 * TRAP.minimal_work(D, TAU)


@pytest.mark.parametrize("is_exact", [False, True])
def test_discrete_optimum(is_exact):
    trap = AnisotropicTrap(TRAP.stiffness, np.array([[1.0, -0.2], [-0.2, 0.4]]), beta=0.7)
    lag, n = trap.lag(0.2, is_exact=is_exact), 9
    jumps = trap.optimal_jumps(D, n, lag)
    optimum = trap.stepped_minimal_work(D, n, lag)
    np.testing.assert_allclose(jumps.sum(0), D, atol=1e-12)
    assert abs(trap.stepped_work(jumps, lag) - optimum) < 1e-12
    other = np.sin(np.arange(2.0 * (n + 1))).reshape(n + 1, 2)
    other -= other.mean(0)
    assert min(trap.stepped_work(jumps + e * other, lag) for e in (1e-3, -1e-3)) > optimum
    if not is_exact:  # a sum over modes
        values, vectors = trap.modes()
        parts = vectors.T @ np.linalg.solve(trap.mobility, D)
        traps = trap.mode_traps(0.2)
        assert abs(sum(t.minimal_work(c, n) for t, c in zip(traps, parts, strict=True)) - optimum) < 1e-12
        scalar = AnisotropicTrap(np.array([[0.7]]), np.array([[1.3]]))
        stepped = SteppedTrap.langevin(Trap(0.7, 1.3), 2 / 40)
        found = scalar.stepped_minimal_work(np.array([3.0]), 40, scalar.lag(2 / 40))
        assert abs(found - stepped.minimal_work(3.0, 40)) < 1e-12
        assert abs(found - 1.6311233276) < 1e-10 and values.shape == (2,)


def steered(kind, trap, lag, n, friction=None):
    """Mean dynamics under `steer`: centre, work."""
    z = trap.friction(lag) if friction is None else friction
    fisher = trap.beta * trap.stiffness
    law = steer(lambda _: (jnp.asarray(fisher), jnp.asarray(z)), n, kind=kind)
    centre, mean, work, state = np.zeros(2), np.zeros(2), 0.0, law.init(None)
    update = jax.jit(law.update)
    for _ in range(n + 3):
        gradient = {"centre": jnp.asarray(-fisher @ (D - mean))}
        step, state = update(gradient, state, None)
        after = centre + np.asarray(step["centre"])
        behind, ahead = centre - mean, after - mean
        work += 0.5 * trap.beta * (ahead @ trap.stiffness @ ahead - behind @ trap.stiffness @ behind)
        centre, mean = after, after + lag @ (mean - after)
    return centre, work


def test_steered_gradients_are_the_discrete_optimum():
    """`steer` sees gradients only, and finds the unknown target at least work: to rounding."""
    trap = AnisotropicTrap(TRAP.stiffness, np.array([[1.0, -0.2], [-0.2, 0.4]]), beta=0.7)
    lag, n = trap.lag(0.2), 9
    optimum = trap.stepped_minimal_work(D, n, lag)
    centre, work = steered("discontinuous", trap, lag, n)
    np.testing.assert_allclose(centre, D, atol=1e-10)
    assert abs(work - optimum) < 1e-10
    # saboteurs: friction without its zero-lag half, friction twice
    for wrong in (trap.friction(lag) - 0.5 * trap.beta * trap.stiffness, 2 * trap.friction(lag)):
        centre, work = steered("discontinuous", trap, lag, n, wrong)
        assert np.abs(centre - D).max() > 1e-2 or work > 1.01 * optimum
    # without jumps it stops short, by a share that falls with the number of updates
    short = [np.abs(steered("continuous", trap, lag, n)[0] - D).max() for n in (30, 60, 120)]
    assert short[0] > 1.5 * short[1] > 2 * short[2] > 0


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="positive definite"):
        AnisotropicTrap(np.array([[1.0, 2.0], [2.0, 1.0]]), np.eye(2))
    with pytest.raises(InputError, match="kind"):
        steer(lambda _: (jnp.eye(1), jnp.eye(1)), 3, kind="optimal")
