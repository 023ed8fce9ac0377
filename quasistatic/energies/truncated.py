"""Normal law truncated to [0, 1], safe at any distance of the mean from the interval and in float32.

The density is `p(x) ~ exp(f x - c x^2 / 2)` on [0, 1], with `c > 0`: mean `f / c` and variance `1 / c` before the
truncation. Reflection `x -> 1 - x` turns `f` into `c - f`, so only `f <= c / 2` is worked out. With `L = sqrt(c)`,
`d = -f / L` and `x = t / L`,

    p(t) ~ exp(-d t - t^2 / 2),  0 <= t <= L .

For `d < 4` the normal distribution function serves. Beyond, it would lose all digits; there Mills' ratio
`R(d) = Phi(-d) / phi(d) = 1 / (d + K(d))` by Laplace's continued fraction gives everything in terms of the small
distance `t` itself: nothing large is ever subtracted. At high temperature (`c` below `_flat`) distribution functions at
0 and `L` cancel instead; there `exp(-c x^2 / 2)` is a series in `c`.

Reference:
    Mills, Biometrika 18, 395 (1926); Abramowitz and Stegun, 26.2.14 (continued fraction); the limit `c -> inf` at fixed
    `f / c` is the deterministic relaxation `clip(f / c, 0, 1)` (Litman 2025, arXiv 2511.22024, at temperature zero).
"""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float

FAR = 4.0
"""Distance `d` from which on Mills' ratio is used."""

Values = Float[Array, "*shape"]


def log_normaliser(f: Values, c: Values) -> Values:
    """`log int_0^1 exp(f x - c x^2 / 2) dx`. Args: `f` and `c > 0`, of one shape, dimensionless."""
    is_low, d, width = _reflected(f, c)
    far = jnp.maximum(d, FAR)
    r0, r1, shrunk = _mills(far), _mills(far + width), jnp.exp(-(far + 0.5 * width) * width)
    log_far = jnp.log(r0 - shrunk * r1)
    near = jnp.minimum(d, FAR)
    log_near = 0.5 * near**2 + 0.5 * math.log(2 * math.pi) + jnp.log(ndtr(-near) - ndtr(-near - width))
    log_z = jnp.where(d > FAR, log_far, log_near) - jnp.log(width)
    is_flat, slope = _flat(d, width)
    log_z = jnp.where(is_flat, jnp.log(_mass(jnp.ones_like(slope), slope, jnp.where(is_flat, c, 0.0))), log_z)
    return jnp.where(is_low, log_z, log_z + f - 0.5 * c)


def mean(f: Values, c: Values) -> Values:
    """Mean of the truncated law. Args: `f` and `c > 0`, of one shape."""
    is_low, d, width = _reflected(f, c)
    far = jnp.maximum(d, FAR)
    k0, k1 = _tail(far), _tail(far + width)
    r0, r1, shrunk = 1 / (far + k0), 1 / (far + width + k1), jnp.exp(-(far + 0.5 * width) * width)
    t_far = (r0 * k0 - shrunk * r1 * (width + k1)) / (r0 - shrunk * r1)
    near = jnp.minimum(d, FAR)
    mass = ndtr(-near) - ndtr(-near - width)
    t_near = (_phi(near) - _phi(near + width)) / mass - near
    is_flat, slope = _flat(d, width)
    small, one = jnp.where(is_flat, c, 0.0), jnp.ones_like(slope)
    x_flat = _mass(one, slope, small, power=1) / _mass(one, slope, small)
    x = jnp.clip(jnp.where(is_flat, x_flat, jnp.where(d > FAR, t_far, t_near) / width), 0.0, 1.0)
    return jnp.where(is_low, x, 1.0 - x)


def variance(f: Values, c: Values) -> Values:
    """Variance of the truncated law, as the derivative of the mean in `f`."""
    return jax.jvp(lambda field: mean(field, c), (f,), (jnp.ones_like(f),))[1]


def quantile(u: Values, f: Values, c: Values) -> Values:
    """Point below which the truncated law has probability `u`; increasing in `u` and in `f`.

    Driven by common `u`, two laws give coupled draws.

    Args:
        u: probabilities strictly inside (0, 1), of the shape of `f`.
        f: linear coefficient.
        c: curvature, positive.
    """
    is_low, d, width = _reflected(f, c)
    v = jnp.where(is_low, u, 1.0 - u)
    x = jnp.where(d > FAR, _t_far(v, d, width), _t_near(v, d, width)) / width
    is_flat, slope = _flat(d, width)
    x = jnp.clip(jnp.where(is_flat, _x_flat(v, slope, jnp.where(is_flat, c, 0.0)), x), 0.0, 1.0)
    return jnp.where(is_low, x, 1.0 - x)


def _flat(d: Values, width: Values) -> tuple[Array, Values]:
    """Whether the law is nearly `exp(slope x)`, to the rounding of its dtype, and the slope (0 where it is not)."""
    limit = 2e-2 if d.dtype == jnp.float32 else 1e-6
    is_flat = (width**2 < limit) & (d <= FAR)
    return is_flat, jnp.where(is_flat, -d * width, 0.0)


def _mass(x: Values, f: Values, c: Values, power: int = 0) -> Values:
    """`int_0^x s^power exp(f s - c s^2 / 2) ds` for `x` in [0, 1], `|f| < 0.6` and small `c`."""

    def plain(p: int) -> Values:
        return sum((f**k * x ** (k + p + 1) / (math.factorial(k) * (k + p + 1)) for k in range(9)), jnp.zeros_like(x))

    return plain(power) - 0.5 * c * plain(power + 2) + 0.125 * c**2 * plain(power + 4)


def _x_flat(v: Values, f: Values, c: Values) -> Values:
    """Quantile of the flat law: that of `exp(f x)`, and two Newton steps for `c`."""
    whole = _mass(jnp.ones_like(f), f, c)
    safe = jnp.where(jnp.abs(f) > 1e-6, f, 1.0)
    x = jnp.where(jnp.abs(f) > 1e-6, jnp.log1p(v * jnp.expm1(safe)) / safe, v)
    for _ in range(2):
        x = x - (_mass(x, f, c) - v * whole) * jnp.exp(0.5 * c * x**2 - f * x)
    return x


def _reflected(f: Values, c: Values) -> tuple[Array, Values, Values]:
    """Whether the mean is below 1/2; `d` of the (reflected) law and the length `L` of the interval."""
    width = jnp.sqrt(c)
    is_low = f <= 0.5 * c
    return is_low, -jnp.where(is_low, f, c - f) / width, width


def _t_near(v: Values, d: Values, width: Values) -> Values:
    near = jnp.minimum(d, FAR)
    top, bottom = ndtr(-near), ndtr(-near - width)
    return -ndtri(top - v * (top - bottom)) - near


def _t_far(v: Values, d: Values, width: Values) -> Values:
    """Solves `d t + t^2 / 2 + log R(d) - log R(d + t) = y` by Newton steps from the solution without the ratio."""
    far = jnp.maximum(d, FAR)
    k0, k1 = _tail(far), _tail(far + width)
    kept = jnp.exp(-(far + 0.5 * width) * width) * (far + k0) / (far + width + k1)  # mass beyond the interval
    y = -jnp.log1p(-v * (1.0 - kept))
    t = 2 * y / (jnp.sqrt(far**2 + 2 * y) + far)
    for _ in range(3):
        k = _tail(far + t)
        excess = far * t + 0.5 * t**2 + jnp.log1p((t + k - k0) / (far + k0)) - y
        t = jnp.maximum(t - excess / (far + t + k), 0.0)
    return t


def _tail(d: Values) -> Values:
    """`K(d) = 1 / R(d) - d = 1 / (d + 2 / (d + 3 / (d + ...)))` for `d >= FAR`."""
    k = jnp.zeros_like(d)
    for level in range(18 if d.dtype == jnp.float64 else 9, 0, -1):
        k = level / (d + k)
    return k


def _mills(d: Values) -> Values:
    return 1 / (d + _tail(d))


def _phi(z: Values) -> Values:
    return jnp.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
