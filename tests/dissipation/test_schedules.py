"""Optax schedules: with unknown target they reproduce the discrete optimum of the trap to rounding."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from quasistatic.dissipation import SteppedTrap, Trap, continuous, discontinuous, endless, friction_of, weighted
from quasistatic.errors import InputError

TRAP = Trap(0.7, 1.3, 0.6)


def learned(rate, lag, n_updates, target=3.0):
    """Mean dynamics of learning with `optax.sgd(rate)`: centre and work, nats."""
    k = TRAP.beta * TRAP.stiffness
    optimiser = optax.sgd(rate)
    state = optimiser.init(jnp.zeros(()))
    centre, mean, work = 0.0, 0.0, 0.0
    for _ in range(n_updates):
        step, state = optimiser.update(jnp.asarray(-k * (target - mean)), state)  # gradient of the negative ll
        after = centre + float(step)
        work += 0.5 * k * ((after - mean) ** 2 - (centre - mean) ** 2)
        centre, mean = after, after + lag * (mean - after)
    return centre, work


def test_discontinuous_schedule_is_the_discrete_optimum():
    stepped, n = SteppedTrap.langevin(TRAP, 2 / 40), 40
    information = TRAP.beta * TRAP.stiffness
    rate = discontinuous(n, friction=stepped.friction, information=information)
    centre, work = learned(rate, stepped.lag, n + 5)
    assert abs(centre - 3.0) < 1e-10
    assert abs(work - stepped.minimal_work(3.0, n)) < 1e-10
    assert abs(work / TRAP.beta - 1.6311233276) < 1e-9
    # saboteurs: friction of continuous time, curvature without beta
    for wrong in (
        discontinuous(n, friction=1 / (1 - stepped.lag), information=information),
        discontinuous(n, friction=stepped.friction, information=TRAP.stiffness),
    ):
        centre, work = learned(wrong, stepped.lag, n + 5)
        assert abs(centre - 3.0) > 1e-3


def test_rates_tend_to_those_of_continuous_time():
    n, duration = 4000, 2.0
    stepped = SteppedTrap.langevin(TRAP, duration / n)
    information = TRAP.beta * TRAP.stiffness
    for law, reference in (
        (discontinuous(n, friction=stepped.friction, information=information), TRAP.discontinuous_rate(duration)),
        (continuous(n, friction=stepped.friction, information=information), TRAP.continuous_rate(duration)),
    ):
        k = [1, 1000, 3900]
        exact = [reference(i * duration / n) * duration / n for i in k]
        np.testing.assert_allclose([float(law(i)) for i in k], exact, rtol=2e-3)


def test_continuous_schedule_stops_short_as_predicted():
    """Its error tends to that of continuous time, at first order in the step."""
    duration, off = 6.0, []
    for n in (500, 1000):
        stepped = SteppedTrap.langevin(TRAP, duration / n)
        rate = continuous(n, friction=stepped.friction, information=TRAP.beta * TRAP.stiffness)
        centre, _ = learned(rate, stepped.lag, n)
        off.append((centre - 3.0) / TRAP.continuous_error(0.0, 0.0, 3.0, duration) - 1)
    assert 1.8 < off[0] / off[1] < 2.2 and abs(2 * off[1] - off[0]) < 0.02


def test_weighted_and_endless():
    """Without lag (walkers that relax at once) the weighted schedule is a straight line, the endless an exponential."""
    information = TRAP.beta * TRAP.stiffness
    centre, _ = learned(weighted(10, offset=0.5, information=information), 0.0, 12)
    # products of 1 - 1/(left + 1/2)
    assert abs((3.0 - centre) / 3.0 - np.prod([1 - 1 / (left + 0.5) for left in range(1, 11)])) < 1e-12
    centre, _ = learned(endless(8.0, information=information), 0.0, 16)
    assert abs((3.0 - centre) / 3.0 - (1 - 1 / 8) ** 16) < 1e-12


def test_after_the_horizon_nothing_moves():
    for law in (discontinuous(5, friction=2.0), continuous(5, friction=2.0), weighted(5)):
        assert float(law(7)) == 0.0 and float(law(2)) > 0.0
    assert friction_of(0.9) == SteppedTrap(0.9).friction


def test_bad_input_is_refused():
    for make in (
        lambda: discontinuous(0, friction=1.0),
        lambda: discontinuous(5, friction=0.3),
        lambda: continuous(5, friction=-1.0),
        lambda: endless(0.0),
        lambda: friction_of(1.0),
    ):
        with pytest.raises(InputError, match="got"):
            make()
