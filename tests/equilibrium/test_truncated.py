"""Truncated normal laws against SciPy: moments, quantiles, normaliser, far outside the box and in float32 (T13)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import log_ndtr

from quasistatic.energies import Box, truncated
from quasistatic.energies.wells import Well
from tests.laws.battery import quick_jit

# mean before truncation, temperature, mean, variance (SciPy; the fourth from the tail expansion)
MOMENTS = (
    (0.3, 0.1, 0.385324027348, 0.05376788652),
    (1.4, 0.1, 0.849435893399, 0.01703685377),
    (-0.5, 0.05, 0.077772455125, 0.00506521647),
    (1.4, 1e-4, 0.99975031, None),
)
# compiled, as users meet them; operation by operation every shape would be a dozen small programs
MEAN, VARIANCE, LOG_NORMALISER, QUANTILE = map(
    quick_jit, (truncated.mean, truncated.variance, truncated.log_normaliser, truncated.quantile)
)


def law(a, t, dtype=jnp.float64):
    return jnp.asarray([a / t], dtype), jnp.asarray([1 / t], dtype)


@pytest.mark.parametrize("case", MOMENTS)
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_moments(case, dtype):
    a, t, mean, variance = case
    single = dtype == jnp.float32
    f, c = law(a, t, dtype)
    assert abs(float(MEAN(f, c)[0]) - mean) < (2e-6 if single else 1e-8 if variance is None else 1e-11)
    if variance is not None:
        assert abs(float(VARIANCE(f, c)[0]) / variance - 1) < (1e-4 if single else 2e-9)


def test_normaliser_and_mean_by_quadrature():
    """At moderate temperatures SciPy integrates it; `log_normaliser' = mean`."""
    for a, t in ((-0.7, 0.3), (0.2, 0.05), (0.9, 2.0), (1.3, 0.08), (-3.0, 0.5)):
        f, c = law(a, t)
        z = quad(lambda x, a=a, t=t: np.exp((a * x - 0.5 * x * x) / t), 0, 1, epsabs=0, epsrel=1e-12)[0]
        first = quad(lambda x, a=a, t=t: x * np.exp((a * x - 0.5 * x * x) / t), 0, 1, epsabs=0, epsrel=1e-12)[0] / z
        assert abs(float(LOG_NORMALISER(f, c)[0]) - np.log(z)) < 1e-11
        assert abs(float(MEAN(f, c)[0]) - first) < 1e-11


def test_quantiles_invert_the_distribution_function():
    """50 laws from deep inside to far outside the box; the distribution function by SciPy's log_ndtr."""
    rng = np.random.default_rng(20261121)
    n = 2000
    a, t, u = rng.uniform(-3, 4, n), 10 ** rng.uniform(-5, 1, n), rng.uniform(1e-6, 1 - 1e-6, n)
    x = np.asarray(QUANTILE(jnp.asarray(u), jnp.asarray(a / t), jnp.asarray(1 / t)))
    assert np.all((x >= 0) & (x <= 1))
    s = np.sqrt(t)
    # mass below x over the whole, in the tail where both are small
    flip = a < 0.5
    low, high, at = (np.where(flip, a - edge, edge - a) / s for edge in (0.0, 1.0, x))
    top = np.where(flip, low, high)

    def tail(z):
        return np.exp(log_ndtr(z) - log_ndtr(top))

    bottom = np.where(flip, high, low)
    below = np.where(flip, 1 - tail(at), tail(at) - tail(bottom)) / (1 - tail(bottom))
    # rounding of x moves the distribution function by the density times one unit in the last place
    slack = 1e-9 + 4e-16 * np.maximum(np.abs(a - np.round(np.clip(a, 0, 1))), s) / t
    assert np.all(np.abs(below - u) < slack + 1e-7 * (np.abs(at) > 30))
    single = QUANTILE(*(jnp.asarray(v, jnp.float32) for v in (u, a / t, 1 / t)))
    assert single.dtype == jnp.float32 and np.abs(np.asarray(single) - x).max() < 3e-6


def test_extreme_fields_are_finite_and_increasing():
    """Monotone in the variate and in the field, hence coupled draws; never outside the box, never NaN."""

    @quick_jit
    def evaluated(u, f, c):
        return truncated.quantile(u, f, c), truncated.mean(f, c), truncated.log_normaliser(f, c)

    for dtype in (jnp.float32, jnp.float64):
        u = jnp.linspace(1e-7, 1 - 1e-7, 101).astype(dtype)
        for t in (1e-8, 1e-4, 1.0, 1e4):
            rows = []
            for a in (-50.0, -1.0, 0.0, 0.37, 1.0, 1.4, 50.0):
                full = jnp.full_like(u, a / t)
                x, *moments = map(np.asarray, evaluated(u, full, jnp.full_like(u, 1 / t)))
                assert np.all(np.isfinite(x) & (x >= 0) & (x <= 1))
                assert np.all(np.diff(x) >= -2e-6)
                rows.append(x)
                assert all(np.all(np.isfinite(moment)) for moment in moments)
            assert np.all(np.diff(np.stack(rows), axis=0) >= -2e-6)


@pytest.mark.parametrize("t", [1e2, 1e4, 1e6, 1e12])
def test_hot_laws_keep_their_digits(t):
    """Single precision against quadrature and series: at T -> inf the law is uniform, mean 1/2 + (a - 1/2) / (12 T)."""
    a = np.linspace(-3.0, 4.0, 15)
    single = [jnp.asarray(v, jnp.float32) for v in (a / t, np.full(15, 1 / t))]
    moments = [
        [quad(lambda x, a=a_, p=p: x**p * np.exp((a * x - 0.5 * x * x) / t), 0, 1)[0] for a_ in a] for p in (0, 1)
    ]
    np.testing.assert_allclose(LOG_NORMALISER(*single), np.log(moments[0]), atol=1e-6)
    np.testing.assert_allclose(MEAN(*single), np.divide(*moments[::-1]), atol=1e-6)
    for u in (1e-3, 0.3, 0.99):
        x = np.asarray(QUANTILE(jnp.full(15, u, jnp.float32), *single), np.float64)
        below = [quad(lambda s, a=a_: np.exp((a * s - 0.5 * s * s) / t), 0, x_)[0] for a_, x_ in zip(a, x, strict=True)]
        np.testing.assert_allclose(np.divide(below, moments[0]), u, atol=2e-6)


def test_the_cold_limit_of_a_draw_is_the_mode():
    """T -> 0 at fixed mean: every draw tends to clip(a, 0, 1), the deterministic relaxation, at the rate sqrt(T)."""
    units, a = Box(5), jnp.asarray([-0.4, 0.0, 0.3, 1.0, 1.7])
    mode = units.mode(units.natural(a))
    np.testing.assert_array_equal(mode, jnp.clip(a, 0, 1))
    for t in (1e-4, 1e-8):
        x = units.sample(jax.random.key(0), Well(a / t, jnp.full(5, 1 / t)))
        assert np.all(np.abs(np.asarray(x - mode)) < 6 * np.sqrt(t))
