"""Closed forms where a factor of the start overflows: a point start has nothing to forget."""

import math

import numpy as np
import pytest

from quasistatic.evaluate.dynamics import (
    GaussianModel,
    GaussianRBMMode,
    IndependentSpin,
    LangevinMode,
    OutOfReach,
    UnadjustedMode,
)
from quasistatic.evaluate.dynamics.base import AbstractScalarModel, increasing_root


@pytest.mark.parametrize("k", [300.0, 355.0, 5000.0])
def test_langevin_from_a_point_learns_the_equilibrium_parameter_in_the_end(k):
    assert LangevinMode(start=0.0).learned(2.0, k) == pytest.approx(0.5, rel=1e-9)
    found = GaussianModel(LangevinMode(start=0.0)).learned(np.zeros(2), np.diag([2.0, 5.0]), k)
    np.testing.assert_allclose(
        np.linalg.eigvalsh(found.precision if hasattr(found, "precision") else found[0]), [0.2, 0.5]
    )


def test_other_modes_from_a_point():
    exact = (1 - math.sqrt(1 - 0.2 / 2.0)) / 0.1  # c = 1 / (j (1 - eps j / 2)) at c = 2, eps = 0.1
    assert UnadjustedMode(start=0.0, step=0.1).learned(2.0, 5000) == pytest.approx(exact, rel=1e-9)
    near = GaussianRBMMode(start=1e-9).learned(3000.0, 600)
    assert GaussianRBMMode(start=0.0).learned(3000.0, 600) == pytest.approx(near, rel=1e-6)
    assert LangevinMode(start=0.0).moment(-1.0, 400.0) == math.inf


def test_a_root_of_what_is_not_a_number_is_refused():
    with pytest.raises(OutOfReach, match="not a number"):
        increasing_root(lambda x: math.nan, (-math.inf, math.inf))


def test_spins_that_start_at_a_wall_have_a_sensitivity():
    inside = IndependentSpin(start=0.4)
    assert inside.by_start(0.3, 2.0) == pytest.approx(AbstractScalarModel.by_start(inside, 0.3, 2.0), rel=1e-6)
    h = 1e-6
    at_wall = IndependentSpin(start=1.0).by_start(0.3, 2.0)
    slope = (IndependentSpin(start=1.0).learned(0.3, 2.0) - IndependentSpin(start=1 - h).learned(0.3, 2.0)) / h
    assert at_wall == pytest.approx(slope, rel=1e-4)
