"""Offspring counts: right on average, as even as promised, never of a walker without weight."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.errors import InputError
from quasistatic.thermo.resampling import _add, _cumulative, _Fixed, _fixed, _under_points, ancestors
from tests.laws.battery import quick_jit

METHODS = ["systematic", "stratified", "residual", "multinomial"]
# Compiled once for the whole file.
RESAMPLE = {method: jax.jit(partial(ancestors, method=method)) for method in METHODS}
CUMULATIVE, FIXED, UNDER, ADD = (quick_jit(function) for function in (_cumulative, _fixed, _under_points, _add))
MANY = {method: jax.jit(jax.vmap(RESAMPLE[method], in_axes=(0, None))) for method in METHODS}

# Ugly on purpose: a heavy walker, a run without weight at both ends and inside, one almost without.
_WEIGHT = np.array([0.0, 0.0, 0.31, 0.02, 0.17, 0.0, 0.0, 0.0833, 1e-4, 0.21, 0.05, 0.1566, 0.0])


def _log_weight(weight, offset=0.0):
    with np.errstate(divide="ignore"):
        return jnp.asarray(np.log(weight) + offset)


def _expected(log_weight):
    """`n w`, in float64 from the log weights as they were given."""
    w = np.exp(np.asarray(log_weight, np.float64) - np.max(log_weight))
    return w.size * w / w.sum()


def _counts(method, log_weight, seed=3):
    """Offspring counts, one row for each of 4000 keys."""
    chosen = MANY[method](jax.random.split(jax.random.key(seed), 4000), log_weight)
    return np.stack([np.bincount(row, minlength=log_weight.size) for row in np.asarray(chosen)])


def _is_unbiased(counts, expected):
    """Whether the mean counts are within 4 standard errors (and rounding) of `expected`, both ways."""
    stderr = counts.std(axis=0, ddof=1) / np.sqrt(len(counts))
    return bool(np.all(np.abs(counts.mean(axis=0) - expected) <= 4 * stderr + 1e-5))


def _is_even(counts, expected):
    """Whether every count is floor or ceil of `expected`, up to rounding of the expectation."""
    slack = 1e-6 * (1 + expected)
    return bool(np.all((counts >= np.floor(expected - slack)) & (counts <= np.ceil(expected + slack))))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("offset", [0.0, -600.0])
def test_mean_count_is_n_times_weight(method, offset):
    log_weight = _log_weight(_WEIGHT, offset)
    counts = _counts(method, log_weight)
    assert np.all(counts.sum(axis=1) == _WEIGHT.size)
    assert _is_unbiased(counts, _expected(log_weight))


def test_saboteur_frozen_offset_has_the_wrong_mean():
    """Systematic points whose offset is always a half: even, but biased."""
    n = _WEIGHT.size
    ends = CUMULATIVE(FIXED(jnp.asarray(_WEIGHT / _WEIGHT.sum() * n)))
    points = _Fixed(jnp.arange(n, dtype=jnp.int32), jnp.full(n, 2**31, jnp.uint32))
    counts = np.bincount(UNDER(ends, points, jnp.asarray(n, jnp.int32)), minlength=n)
    counts = np.broadcast_to(counts, (4000, n))
    assert _is_even(counts, _expected(_log_weight(_WEIGHT)))
    assert not _is_unbiased(counts, _expected(_log_weight(_WEIGHT)))


def test_systematic_counts_are_floor_or_ceil_and_residual_at_least_floor():
    log_weight = _log_weight(_WEIGHT)
    expected = _expected(log_weight)
    assert _is_even(_counts("systematic", log_weight), expected)
    residual = _counts("residual", log_weight)
    assert np.all(residual >= np.floor(expected - 1e-5))
    assert not _is_even(residual, expected)


@pytest.mark.parametrize("method", ["stratified", "multinomial"])
def test_saboteur_noisier_methods_fail_the_floor_ceil_test(method):
    log_weight = _log_weight(_WEIGHT)
    assert not _is_even(_counts(method, log_weight), _expected(log_weight))


def test_variances_are_ordered():
    """Systematic <= stratified, residual <= multinomial; multinomial has the binomial variance."""
    log_weight = _log_weight(_WEIGHT)
    total = {m: _counts(m, log_weight).var(axis=0).sum() for m in METHODS}
    p = _expected(log_weight) / _WEIGHT.size
    binomial = np.sum(_WEIGHT.size * p * (1 - p))
    assert total["multinomial"] == pytest.approx(binomial, rel=0.1)
    assert total["systematic"] < 0.8 * total["multinomial"]
    assert total["stratified"] < 0.8 * total["multinomial"]
    assert total["residual"] < 0.8 * total["multinomial"]


@pytest.mark.parametrize("method", METHODS)
def test_walkers_without_weight_have_no_offspring(method):
    counts = _counts(method, _log_weight(_WEIGHT), seed=5)
    assert counts[:, _WEIGHT == 0].sum() == 0


def test_points_at_the_very_ends_of_the_line_find_walkers_with_weight():
    """No random key draws the corners, so they are placed by hand."""
    scaled = jnp.asarray(_WEIGHT / _WEIGHT.sum() * _WEIGHT.size)
    for stretch in (1.0, 1 - 3e-7, 1 + 3e-7):
        ends = CUMULATIVE(FIXED(scaled * stretch))
        n = jnp.asarray(_WEIGHT.size, jnp.int32)
        points = _Fixed(jnp.asarray([0] * 6 + [12] * 7, jnp.int32), jnp.asarray([0] * 6 + [2**32 - 1] * 7, jnp.uint32))
        chosen = UNDER(ends, points, n)
        np.testing.assert_array_equal(chosen, [2] * 6 + [11] * 7)


@pytest.mark.parametrize("method", METHODS)
def test_one_walker_with_weight_is_the_ancestor_of_all(method):
    for position in (0, 6, 12):
        log_weight = jnp.full(13, -jnp.inf).at[position].set(-321.5)
        np.testing.assert_array_equal(RESAMPLE[method](jax.random.key(1), log_weight), [position] * 13)


@pytest.mark.parametrize("method", ["systematic", "stratified", "residual"])
@pytest.mark.parametrize("n", [13, 100_000])
def test_equal_weights_give_the_identity(method, n):
    for seed in range(5):
        chosen = RESAMPLE[method](jax.random.key(seed), jnp.full(n, -87.3))
        np.testing.assert_array_equal(chosen, np.arange(n))


def test_single_walker_is_its_own_ancestor():
    assert RESAMPLE["systematic"](jax.random.key(1), jnp.zeros(1)) == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [[-np.inf] * 13, [0.0, np.nan, *range(11)], [0.0, np.inf, *range(11)]])
def test_nothing_to_choose_by_gives_the_identity(method, bad):
    np.testing.assert_array_equal(RESAMPLE[method](jax.random.key(0), jnp.asarray(bad)), np.arange(13))


@pytest.mark.parametrize("seed", [0, 1])
def test_float32_with_many_walkers(seed):
    """10^5 walkers: counts within floor and ceil, none without weight, although float32 sums fail."""
    n = 100_000
    rng = np.random.default_rng(seed)
    log_weight = jnp.asarray(3.0 * rng.standard_normal(n) - 700.0, jnp.float32)
    log_weight = jnp.where(jnp.asarray(rng.random(n) < 0.2).at[jnp.asarray([0, n - 1])].set(True), -jnp.inf, log_weight)
    expected = _expected(log_weight)
    key = jax.random.key(seed)
    counts = np.bincount(RESAMPLE["systematic"](key, log_weight), minlength=n)
    assert _is_even(counts, expected)
    for method in METHODS:
        chosen = np.asarray(RESAMPLE[method](key, log_weight))
        assert chosen.min() >= 0
        assert chosen.max() < n
        assert np.all(np.isfinite(np.asarray(log_weight)[chosen]))


def test_saboteur_plain_float32_cumulative_sum_fails():
    """The textbook `searchsorted(cumsum(w), points)` in float32 does not keep equal weights as they are."""
    n = 100_000
    w = jax.nn.softmax(jnp.zeros(n, jnp.float32))
    points = (jnp.arange(n, dtype=jnp.float32) + jnp.float32(0.003)) / n
    assert not np.array_equal(jnp.searchsorted(jnp.cumsum(w), points), np.arange(n))


def test_cumulative_fixed_point_is_exact():
    rng = np.random.default_rng(11)
    lengths = _Fixed(
        jnp.asarray(rng.integers(0, 5, 999), jnp.int32), jnp.asarray(rng.integers(0, 2**32, 999), jnp.uint32)
    )
    exact = np.cumsum(np.asarray(lengths.whole, object) * 2**32 + np.asarray(lengths.part, object))
    ends = CUMULATIVE(lengths)
    np.testing.assert_array_equal(np.asarray(ends.whole, object) * 2**32 + np.asarray(ends.part, object), exact)
    folded = ADD(lengths, lengths)
    doubled = 2 * (np.asarray(lengths.whole, object) * 2**32 + np.asarray(lengths.part, object))
    np.testing.assert_array_equal(np.asarray(folded.whole, object) * 2**32 + np.asarray(folded.part, object), doubled)


@pytest.mark.parametrize("method", ["systematic", "residual"])
def test_groups_are_resampled_apart_under_vmap(method):
    log_weight = jnp.stack([_log_weight(_WEIGHT), _log_weight(_WEIGHT[::-1].copy(), 40.0)])
    keys = jax.random.split(jax.random.key(4), 2)
    resample = RESAMPLE[method]
    together = jax.vmap(resample)(keys, log_weight)
    apart = [resample(key, group) for key, group in zip(keys, log_weight, strict=True)]
    np.testing.assert_array_equal(together, apart)


@pytest.mark.parametrize(
    ("log_weight", "method", "message"),
    [
        (jnp.zeros(3), "bootstrap", "unknown resampling method 'bootstrap'"),
        (jnp.zeros((2, 3)), "systematic", r"got shape \(2, 3\)"),
        (jnp.zeros(0), "systematic", r"got shape \(0,\)"),
    ],
)
def test_wrong_input_is_named(log_weight, method, message):
    with pytest.raises(InputError, match=message):
        inspect.unwrap(ancestors)(jax.random.key(0), log_weight, method=method)  # without the tests' type checks
