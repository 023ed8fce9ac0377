"""Compensated sums, log-sum-exp and effective sample size, in float32 where float32 alone fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from quasistatic._numerics import TwoFloat, ess_fraction, log_mean_exp, log_sum_exp, weights_from_log

_EPS = float(np.finfo(np.float32).eps)


def _increments(n):
    """Small works of both signs with a drift, ugly in binary; and their sum in float64."""
    increments = (1e-4 * (1.0 + 0.7 * np.sin(np.arange(n) * 0.37))).astype(np.float32)
    return increments, float(np.sum(increments, dtype=np.float64))


@jax.jit
def _compensated(start, increments):
    total, _ = lax.scan(lambda total, x: (total.add(x), None), start, increments)
    return total


@jax.jit
def _plain(start, increments):
    return lax.scan(lambda total, x: (total + x, None), start, increments)[0]


def test_two_float_sums_a_million_increments_in_float32_under_jit():
    increments, expected = _increments(1_000_000)
    total = _compensated(TwoFloat.zeros((), jnp.float32), jnp.asarray(increments))
    assert total.hi.dtype == jnp.float32
    assert abs(float(total.value) / expected - 1) <= _EPS
    # Together the two halves know about twice the digits of one.
    assert abs((float(total.hi) + float(total.lo)) / expected - 1) < 1e-10


def test_saboteur_plain_float32_sum_is_wrong():
    increments, expected = _increments(1_000_000)
    plain = _plain(jnp.zeros((), jnp.float32), jnp.asarray(increments))
    assert abs(float(plain) / expected - 1) > 1e-6


def test_two_float_keeps_what_is_below_the_last_place_and_cancels():
    """1e8 + a thousand times 1 - 1e8: every single 1 is below the resolution of float32 at 1e8."""

    @jax.jit
    def run(big):
        total = TwoFloat.zeros((3,), jnp.float32).add(big)
        total = lax.fori_loop(0, 1000, lambda _, s: s.add(1.0), total)
        return total.add(-big).value

    np.testing.assert_array_equal(run(jnp.asarray([1e8, -1e8, 3e9], jnp.float32)), [1000.0, 1000.0, 1000.0])


def test_two_float_is_compensated_under_vmap_and_unrolled_constants():
    @jax.jit
    def run(x):
        total = TwoFloat(jnp.asarray(1e8, jnp.float32), jnp.zeros((), jnp.float32))
        for _ in range(16):  # constants on purpose: the compiler may fold what it sees
            total = total.add(x).add(0.5)
        return total.add(-1e8).value

    np.testing.assert_array_equal(jax.vmap(run)(jnp.asarray([1.0, 0.25], jnp.float32)), [24.0, 12.0])


@pytest.mark.parametrize("x", [np.inf, -np.inf])
def test_two_float_stays_infinite_instead_of_turning_into_nan(x):
    total = TwoFloat.zeros((2,)).add(jnp.asarray([x, 1.0])).add(2.0)
    np.testing.assert_array_equal(total.value, [x, 3.0])


def test_two_float_reports_nan():
    assert np.isnan(TwoFloat.zeros(()).add(jnp.nan).value)


@pytest.mark.parametrize("offset", [0.0, 900.0, -900.0])
def test_log_sums_are_safe_against_offsets(offset):
    a = np.array([[0.3, -2.1, 1.7], [-np.inf, 0.0, 0.4]])
    expected = np.log(np.sum(np.exp(a), axis=1))
    tolerance = 8 * _EPS * max(1.0, abs(offset))
    np.testing.assert_allclose(log_sum_exp(jnp.asarray(a + offset), 1) - offset, expected, atol=tolerance)
    np.testing.assert_allclose(log_mean_exp(jnp.asarray(a + offset), 1) - offset, expected - np.log(3), atol=tolerance)
    total = np.log(np.sum(np.exp(a)) / 6)
    np.testing.assert_allclose(log_mean_exp(jnp.asarray(a + offset)) - offset, total, atol=tolerance)


def test_nothing_but_zero_weights_gives_minus_infinity():
    nothing = jnp.full((4,), -jnp.inf)
    assert log_sum_exp(nothing, 0) == -jnp.inf
    assert log_mean_exp(nothing, 0) == -jnp.inf


def test_weights_are_normalised():
    weights = weights_from_log(jnp.asarray([[800.0, 801.0, -jnp.inf], [-800.0, -800.0, -800.0]]))
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=4 * _EPS)
    np.testing.assert_allclose(weights[0], [1 / (1 + np.e), np.e / (1 + np.e), 0.0], rtol=1e-5)


def test_ess_fraction_of_known_weights():
    w = np.array([0.5, 0.2, 0.2, 0.1, 0.0])
    with np.errstate(divide="ignore"):
        log_weight = jnp.asarray(np.log(w))
    expected = 1.0 / (5 * np.sum(w**2))
    for offset in (0.0, 700.0, -700.0):
        np.testing.assert_allclose(ess_fraction(log_weight + offset), expected, rtol=1e-4)
    assert ess_fraction(jnp.zeros(100_000)) == 1.0
    assert ess_fraction(jnp.asarray([0.0, -jnp.inf, -jnp.inf])) == pytest.approx(1 / 3, rel=1e-6)
    np.testing.assert_allclose(ess_fraction(jnp.stack([log_weight] * 2, axis=1), axis=0), [expected] * 2, rtol=1e-5)


def test_ess_fraction_is_zero_when_no_walker_has_weight_and_nan_for_nan():
    assert ess_fraction(jnp.full((4,), -jnp.inf)) == 0.0
    assert np.isnan(ess_fraction(jnp.asarray([0.0, jnp.nan])))


def test_ess_fraction_has_finite_gradients():
    gradient = jax.grad(ess_fraction)(jnp.asarray([0.3, -1.0, -jnp.inf]))
    assert np.all(np.isfinite(gradient))
