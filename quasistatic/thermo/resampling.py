"""Resampling: which walkers have offspring, so that equal walkers stand for what unequal weights stood for.

The walkers occupy consecutive intervals of length `n w_j` on `[0, n)`; `n` points fall on that line, and the
walker under point `i` becomes the ancestor of slot `i`. The methods differ in where the points are:

    systematic    i + u      one uniform u: counts are floor or ceil of `n w_j`
    stratified    i + u_i    one uniform for each unit interval
    multinomial   anywhere   independent draws; the noisiest
    residual      floor(n w_j) certain copies, then multinomial on what is left over

The mean number of offspring of walker `j` is `n w_j` for all four. The line is measured in fixed point (an
integer and 32 bits of fraction) because its sums are then exact: a cumulative sum of 10^5 float32 weights
stops short of 1, is not monotone, and gives a walker without weight an interval of rounding error.

Reference:
    G. Kitagawa, J. Comput. Graph. Stat. 5, 1 (1996); J. S. Liu, R. Chen, J. Am. Stat. Assoc. 93, 1032 (1998);
    R. Douc, O. Cappe, E. Moulines, Proc. ISPA 2005, 64 (arXiv:cs/0507025).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Int32, PRNGKeyArray, UInt32

from quasistatic.errors import InputError

ResampleMethod = Literal["systematic", "stratified", "residual", "multinomial"]

_MAX_WALKERS = 2**23


def ancestors(
    key: PRNGKeyArray, log_weight: Float[Array, " n"], *, method: ResampleMethod = "systematic"
) -> Int[Array, " n"]:
    """Ancestor of every walker of one group after resampling; `vmap` over groups.

    Every per-walker array (positions, potentials, caches and accounts) must be permuted by the same
    ancestors. Equal weights give the identity under systematic and stratified resampling.

    Args:
        key: Random key.
        log_weight: Log weights of the walkers, up to a common constant. `-inf` is a walker without weight; it
            is never an ancestor.
        method: Where the points fall; static under jit.

    Returns:
        Index of the ancestor of each slot. The identity when there is nothing to choose by: no walker has
        weight, or a log weight is `nan` or `+inf` (the account keeps saying so).

    Raises:
        InputError: For an unknown method, or log weights that are not a vector of 1 to 2**23 walkers.
    """
    if method not in get_args(ResampleMethod):
        raise InputError(f"unknown resampling method {method!r}; use one of {', '.join(get_args(ResampleMethod))}")
    if log_weight.ndim != 1 or not 1 <= log_weight.size <= _MAX_WALKERS:
        raise InputError(
            f"resampling takes the log weights of one group of 1 to {_MAX_WALKERS} walkers, "
            f"got shape {log_weight.shape}; vmap over groups"
        )
    n = log_weight.size
    slots = jnp.arange(n, dtype=jnp.int32)
    top = jnp.max(log_weight)
    is_usable = jnp.isfinite(top)
    # Relative to the largest, equal weights are exactly 1 and so are their intervals.
    w = jnp.where(is_usable, jnp.exp(log_weight - jnp.where(is_usable, top, 0.0)), jnp.ones_like(log_weight))
    lengths = _fixed(w * (n / jnp.sum(w)))
    if method == "residual":
        chosen = _residual(key, lengths, slots)
    else:
        chosen = _under_points(_cumulative(lengths), _points(key, n, slots, method), jnp.asarray(n, jnp.int32))
    return jnp.where(is_usable, chosen, slots)


class _Fixed(NamedTuple):
    """Number `whole + part / 2**32`; sums are exact, whatever their order."""

    whole: Int32[Array, "*shape"]
    part: UInt32[Array, "*shape"]


def _fixed(x: Float[Array, "*shape"]) -> _Fixed:
    """Fixed-point number nearest below `x`."""
    whole = jnp.floor(x)
    # x - floor(x) rounds to 1 for tiny negative x, which 32 bits of fraction cannot hold.
    fraction = jnp.minimum(x - whole, 1.0 - 2.0**-24)
    return _Fixed(whole.astype(jnp.int32), (fraction * 2.0**32).astype(jnp.uint32))


def _float(x: _Fixed, dtype: jnp.dtype) -> Float[Array, "*shape"]:
    """Nearest floating-point number."""
    return x.whole.astype(dtype) + x.part.astype(dtype) * 2.0**-32


def _add(a: _Fixed, b: _Fixed) -> _Fixed:
    """Sum; the fraction wraps around and hands its carry to the integer."""
    part = a.part + b.part
    return _Fixed(a.whole + b.whole + (part < a.part).astype(jnp.int32), part)


def _exceeds(a: _Fixed, b: _Fixed) -> Bool[Array, "*shape"]:
    """Whether `a > b`."""
    return (a.whole > b.whole) | ((a.whole == b.whole) & (a.part > b.part))


def _cumulative(lengths: _Fixed) -> _Fixed:
    """Right ends of consecutive intervals.

    The four bytes of the fractions are summed apart (which cannot overflow up to `_MAX_WALKERS`), then
    carried: the same sum as a scan over `_add`, which takes five times as long to compile.
    """
    shifts = jnp.arange(0, 32, 8, dtype=jnp.uint32)[:, None]
    digits = jnp.concatenate([((lengths.part >> shifts) & 255).astype(jnp.int32), lengths.whole[None]])
    sums = jnp.cumsum(digits, axis=1, dtype=jnp.int32)
    carry, part = jnp.zeros_like(lengths.whole), jnp.zeros_like(lengths.part)
    for place in range(4):
        digit = sums[place] + carry
        part = part | ((digit & 255).astype(jnp.uint32) << (8 * place))
        carry = digit >> 8
    return _Fixed(sums[4] + carry, part)


def _points(key: PRNGKeyArray, n: int, slots: Int32[Array, " n"], method: str) -> _Fixed:
    """Points on `[0, n)`, one for each slot."""
    if method == "systematic":
        return _Fixed(slots, jnp.broadcast_to(jax.random.bits(key, (), jnp.uint32), (n,)))
    if method == "stratified":
        return _Fixed(slots, jax.random.bits(key, (n,), jnp.uint32))
    return _uniform(key, n, jnp.asarray(n, jnp.int32))


def _uniform(key: PRNGKeyArray, n: int, length: Int32[Array, ""]) -> _Fixed:
    """`n` independent points on `[0, length)`."""
    key_whole, key_part = jax.random.split(key)
    whole = jax.random.randint(key_whole, (n,), 0, jnp.maximum(length, 1), jnp.int32)
    return _Fixed(whole, jax.random.bits(key_part, (n,), jnp.uint32))


def _under_points(ends: _Fixed, points: _Fixed, length: Int32[Array, ""]) -> Int32[Array, " n"]:
    """Index of the interval under each point: the first whose right end exceeds it.

    Args:
        ends: Right ends of the intervals; the last one differs from `length` by the rounding of the weights.
        points: Points on `[0, length)`; they are stretched to the actual end of the line, so that rounding
            favours no walker.
        length: Nominal end of the line.
    """
    n = ends.whole.size
    total = _Fixed(ends.whole[-1], ends.part[-1])
    surplus = _float(_Fixed(total.whole - length, total.part), jnp.result_type(float))
    points = _add(points, _fixed(_float(points, surplus.dtype) * (surplus / jnp.maximum(length, 1))))
    last = _add(total, _Fixed(jnp.asarray(-1, jnp.int32), jnp.asarray(2**32 - 1, jnp.uint32)))
    is_beyond = _exceeds(points, last)
    points = _Fixed(*(jnp.where(is_beyond, a, b) for a, b in zip(last, points, strict=True)))

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) // 2
        is_right = _exceeds(_Fixed(ends.whole[middle], ends.part[middle]), points)
        return jnp.where(is_right, low, middle + 1), jnp.where(is_right, middle, high)

    low, high = jnp.zeros_like(points.whole), jnp.full_like(points.whole, n - 1)
    return lax.fori_loop(0, (n - 1).bit_length(), halve, (low, high))[0]


def _residual(key: PRNGKeyArray, lengths: _Fixed, slots: Int32[Array, " n"]) -> Int32[Array, " n"]:
    """Certain copies in the first slots, independent draws by the left-over fractions in the others."""
    n = slots.size
    certain = jnp.cumsum(lengths.whole)
    n_drawn = n - certain[-1]
    ends = _cumulative(_Fixed(jnp.zeros_like(lengths.whole), lengths.part))
    drawn = _under_points(ends, _uniform(key, n, n_drawn), n_drawn)
    copied = jnp.searchsorted(certain, slots, side="right").astype(jnp.int32)
    return jnp.where(slots < certain[-1], copied, drawn)
