"""Units: everything follows from `cgf`, for every member; a new unit type is a new entry of `UNITS`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from quasistatic.energies import units
from quasistatic.energies.units import UNITS
from quasistatic.errors import InputError

FIELDS = np.array([-31.0, -2.3, -0.4, 0.0, 1e-9, 0.7, 5.2, 28.0])
KINDS = pytest.mark.parametrize("name", UNITS)


def exact(name, field):
    """Log partition function, mean and variance of one unit, by summing over its states."""
    kind = units(name, 1)
    levels = np.array(kind.levels)
    exponent = field * levels - np.asarray(jax.vmap(kind.energies)(jnp.asarray(levels)[:, None]))[:, 0]
    log_z = logsumexp(exponent)
    p = np.exp(exponent - log_z)
    return log_z, p @ levels, p @ (levels - p @ levels) ** 2


@KINDS
def test_cumulants_by_enumeration(name):
    kind = units(name, len(FIELDS))
    natural = kind.natural(jnp.asarray(FIELDS))
    expected = np.array([exact(name, field) for field in FIELDS]).T
    for function, values in zip((kind.cgf, kind.mean, kind.variance), expected, strict=True):
        np.testing.assert_allclose(function(natural), values, rtol=1e-12, atol=1e-15)


@KINDS
def test_derivatives_of_the_generating_function(name):
    """`cgf' = mean`, `cgf'' = mean' = variance`, at zero field too, where every untrained model is."""
    kind = units(name, 1)

    def cgf(field):
        return kind.cgf(kind.natural(field[None]))[0]

    def mean(field):
        return kind.mean(kind.natural(field[None]))[0]

    natural, fields = units(name, len(FIELDS)).natural(jnp.asarray(FIELDS)), jnp.asarray(FIELDS)
    np.testing.assert_allclose(jax.vmap(jax.grad(cgf))(fields), kind.mean(natural), rtol=1e-12, atol=1e-15)
    for second in (jax.grad(jax.grad(cgf)), jax.grad(mean)):
        np.testing.assert_allclose(jax.vmap(second)(fields), kind.variance(natural), rtol=1e-9, atol=1e-15)


@KINDS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_strong_fields_neither_overflow_nor_leave_the_range(name, dtype):
    kind = units(name, 4)
    fields = jnp.asarray([-1e4, -90.0, 90.0, 1e4], dtype)
    natural = kind.natural(fields)
    low, high = min(kind.levels), max(kind.levels)
    for value in (kind.cgf(natural), kind.mean(natural), kind.variance(natural)):
        assert value.dtype == dtype and np.isfinite(value).all()
    assert np.all((kind.mean(natural) >= low) & (kind.mean(natural) <= high))
    np.testing.assert_allclose(kind.cgf(natural), np.maximum(low * fields, high * fields), rtol=1e-6, atol=1e-30)
    slope = jax.vmap(jax.grad(lambda field: kind.cgf(kind.natural(field[None]))[0]))(fields)
    np.testing.assert_allclose(slope, kind.mean(natural), atol=1e-6)


@KINDS
def test_mode_is_the_most_probable_state(name):
    kind = units(name, 1)
    for field in FIELDS[FIELDS != 0]:
        levels = jnp.asarray(kind.levels)
        weight = field * levels - jax.vmap(kind.energies)(levels[:, None])[:, 0]
        mode = kind.mode(kind.natural(jnp.asarray([field])))[0]
        assert float(mode) == float(levels[jnp.argmax(weight)])
        assert float(kind.mode(kind.natural(jnp.asarray([1e3 * field])))[0]) == float(mode)


@KINDS
def test_samples_have_the_mean_and_the_frequencies(name, key):
    fields, n = jnp.asarray(FIELDS[1:-1]), 100_000
    kind = units(name, len(fields))
    natural = kind.natural(fields)
    x = np.asarray(jax.vmap(kind.sample, (0, None))(jax.random.split(key, n), natural))
    assert x.dtype == np.float64 and np.isin(x, kind.levels).all()
    mean, variance = np.asarray(kind.mean(natural)), np.asarray(kind.variance(natural))
    assert np.abs((x.mean(0) - mean) / np.sqrt(variance / n)).max() < 5
    for level in kind.levels:
        p = np.exp(level * fields - kind.energies(jnp.full(len(fields), level)) - kind.cgf(natural))
        assert np.abs(((x == level).mean(0) - p) / np.sqrt(p * (1 - p) / n)).max() < 5
    correlation = np.corrcoef(x.T) - np.eye(len(fields))
    assert np.abs(correlation).max() < 5 / np.sqrt(n)


@KINDS
def test_field_of_mean_inverts_the_mean(name):
    kind = units(name, len(FIELDS))
    means = kind.mean(kind.natural(jnp.linspace(-4.0, 5.0, len(FIELDS))))
    fields = kind.field_of_mean(means)
    np.testing.assert_allclose(kind.mean(kind.natural(fields)), means, rtol=1e-12)
    np.testing.assert_allclose(fields, np.linspace(-4.0, 5.0, len(FIELDS)), rtol=1e-10)


@KINDS
def test_validation_says_where(name):
    kind = units(name, 3)
    good = np.full((4, 3), kind.levels[1])
    kind.validate(good)
    for value, words in ((0.5, "row 2, column 1"), (np.nan, "NaN"), (-np.inf, "infinite")):
        bad = good.copy()
        bad[2, 1] = value
        with pytest.raises(InputError, match=words):
            kind.validate(bad, name="train")
    for shape in ((4, 2), (3,), (2, 2, 3)):
        with pytest.raises(InputError, match="3 units"):
            kind.validate(np.zeros(shape))
    other = next(level for level in (-1.0, 0.0) if level not in kind.levels)
    with pytest.raises(InputError, match="test holds .* take values"):
        kind.validate(np.full((1, 3), other), name="test")


@pytest.mark.parametrize("name, size, words", [("potts", 3, "choose one of"), ("spin", 0, "at least one unit")])
def test_unknown_units_are_refused(name, size, words):
    with pytest.raises(InputError, match=words):
        units(name, size)
