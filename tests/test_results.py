"""Estimates and named outcomes."""

import json
import math

import pytest
import scipy.stats

from quasistatic._results import RESULTS, Estimate
from quasistatic.errors import CheckFailed, InputError, RunFailure


def _estimate(**fields):
    return Estimate(**({"value": 1.5, "stderr": 0.25, "ess": 0.7, "bias": "low", "method": "test"} | fields))


def test_json_has_exactly_the_agreed_keys():
    assert _estimate(dof=15).as_json() == {
        "value": 1.5, "stderr": 0.25, "ess": 0.7, "bias": "low", "method": "test"
    }  # fmt: skip


def test_withheld_gives_null_and_its_reason():
    estimate = Estimate.withheld("8 groups cannot carry a standard error", "auditor")
    assert estimate.is_withheld
    assert estimate.interval() is None
    record = json.loads(json.dumps(estimate.as_json(), allow_nan=False))
    assert record["value"] is None and record["stderr"] is None
    assert record["reason"] == "8 groups cannot carry a standard error"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_numbers_are_withheld_with_a_reason(bad):
    whole = _estimate(value=bad)
    assert whole.value is None and whole.stderr is None and "value is not finite" in whole.reason
    part = _estimate(stderr=bad)
    assert part.value == 1.5 and part.stderr is None and "stderr is not finite" in part.reason
    json.dumps(whole.as_json(), allow_nan=False)


@pytest.mark.parametrize("dof", [None, 1, 3, 15, 63])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_interval_uses_student_or_normal_quantiles(dof, level):
    law = scipy.stats.norm(1.5, 0.25) if dof is None else scipy.stats.t(dof, 1.5, 0.25)
    assert _estimate(dof=dof).interval(level) == pytest.approx(law.interval(level), rel=1e-12)


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_interval_refuses_a_level_that_is_no_probability(level):
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        _estimate().interval(level)


def test_shift_and_scale_move_value_error_and_bias_together():
    estimate = _estimate(dof=15)
    assert (estimate + 2).value == (2 + estimate).value == 3.5
    assert (estimate - 2).value == -0.5
    mirrored = 2 - estimate
    assert (mirrored.value, mirrored.stderr, mirrored.bias, mirrored.dof) == (0.5, 0.25, "high", 15)
    scaled = estimate.scale(-2.0)
    assert (scaled.value, scaled.stderr, scaled.bias) == (-3.0, 0.5, "high")
    assert 0.0 - (0.0 - estimate) == estimate
    assert (-estimate).value == -1.5
    assert _estimate(bias="none").scale(-1.0).bias == "none"
    assert Estimate.withheld("r", "m").shift(1.0).scale(-2.0).value is None


def test_every_outcome_but_ok_has_a_message_and_a_remedy():
    assert [int(outcome) for outcome in RESULTS] == list(range(len(RESULTS)))
    for outcome in RESULTS:
        assert outcome.message
        assert bool(outcome.remedy) == (outcome is not RESULTS.ok)


def test_errors_carry_their_exit_codes():
    assert (CheckFailed.exit_code, InputError.exit_code, RunFailure.exit_code) == (1, 2, 3)
    assert issubclass(InputError, ValueError)
    failure = RunFailure("stopped at step 7", result=RESULTS.frozen_chains.name)
    assert failure.result == "frozen_chains" and str(failure) == "stopped at step 7"
