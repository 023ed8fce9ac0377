"""Change of stiffness in a given time: published values, the protocol that reaches them, and one that does not."""

import numpy as np
import pytest

from quasistatic.dissipation import StiffnessChange
from quasistatic.errors import InputError


def test_values():
    change = StiffnessChange(1.0, 2.0, 1.0)
    assert abs(change.stretch + 0.1909830) < 1e-7
    assert abs(change.minimal_work - 0.4029184) < 1e-7
    assert abs(change.stiffness(0.0) - 1.1909830) < 1e-7 and abs(change.stiffness(1.0) - 1.7639320) < 1e-7
    for duration, excess in ((0.1, 0.1317155), (1.0, 0.0563448), (10.0, 0.0081676)):
        assert abs(StiffnessChange(1.0, 2.0, duration).minimal_excess_work - excess) < 1e-7
    slow = StiffnessChange(1.0, 2.0, 10.0)
    assert abs(slow.slow_limit - 0.0085786) < 1e-7 and slow.slow_limit > slow.minimal_excess_work
    soft = StiffnessChange(4.0, 1.0, 1.0)
    assert abs(soft.minimal_work + 0.5624460) < 1e-7 and abs(soft.minimal_excess_work - 0.1307011) < 1e-7
    assert abs(StiffnessChange(1.0, 4.0, 1.0).minimal_excess_work - 0.1974246) < 1e-7


@pytest.mark.parametrize("change", [StiffnessChange(1.0, 2.0, 1.0), StiffnessChange(4.0, 0.7, 0.6, 1.7, 0.4)])
def test_the_protocol_reaches_its_bound(change):
    assert abs(change.excess_work_of(change.stiffness) - change.minimal_excess_work) < 1e-8
    linear = change.excess_work_of(lambda t: change.start + (change.end - change.start) * t / change.duration)
    assert linear > change.minimal_excess_work + 1e-3
    if change.start == 1.0:
        assert abs(linear - 0.0658922) < 1e-7
    # the best protocol is the best of its neighbours
    for e in (0.05, -0.05):
        bent = change.excess_work_of(lambda t, e=e: change.stiffness(t) * (1 + e * np.sin(3 * t)))
        assert bent > change.minimal_excess_work


def test_units_of_time_and_energy():
    """`(mu, tau, T) -> ` the same nats when `lam mu tau` is kept."""
    a, b = StiffnessChange(1.0, 2.0, 1.0), StiffnessChange(3.0, 6.0, 5.0, 1 / 15, 0.2)
    assert abs(a.minimal_work - b.minimal_work) < 1e-12


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="positive"):
        StiffnessChange(1.0, -2.0, 1.0)
