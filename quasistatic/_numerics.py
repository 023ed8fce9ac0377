"""Arithmetic that float32 alone does not survive: long sums, and sums of exponentials.

A run adds a small work to a large account at every step. In float32 the sum stops growing once an increment
falls below half a unit in its last place; `TwoFloat` keeps what was rounded away in a second number and is
good to about 48 bits.

Reference:
    D. E. Knuth, The Art of Computer Programming 2, section 4.2.2, theorem B (two-sum);
    T. J. Dekker, Numer. Math. 18, 224 (1971) (renormalisation).
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float


class TwoFloat(eqx.Module):
    """Running sum `hi + lo`, elementwise, with `|lo|` at most half a unit in the last place of `hi`.

    Attributes:
        hi: The sum rounded to its dtype.
        lo: What the rounding lost. Zero wherever `hi` is not finite, so that an infinite sum stays infinite.
    """

    hi: Float[Array, "*shape"]
    lo: Float[Array, "*shape"]

    @classmethod
    def zeros(cls, shape: tuple[int, ...] = (), dtype: DTypeLike | None = None) -> TwoFloat:
        """Empty sum."""
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    @property
    def value(self) -> Float[Array, "*shape"]:
        """The sum, rounded once."""
        return self.hi + self.lo

    def add(self, x: Float[ArrayLike, ...]) -> TwoFloat:
        """Sum with `x` (broadcast to the shape of the sum) added."""
        x = jnp.broadcast_to(jnp.asarray(x, self.hi.dtype), self.hi.shape)
        total, lost = _two_sum(self.hi, x)
        # An infinite sum loses nothing; the formula would say inf - inf.
        lost = jnp.where(jnp.isfinite(total), lost + self.lo, jnp.zeros_like(lost))
        # The barrier stands between the rounded sum and its use: algebraically `lost - (hi - total)` is zero,
        # and a simplifier that treats floats as reals would remove exactly the number that this class exists
        # for.
        hi = lax.optimization_barrier(total + lost)
        return TwoFloat(hi, jnp.where(jnp.isfinite(hi), lost - (hi - total), jnp.zeros_like(lost)))


def log_sum_exp(a: Float[Array, ...], axis: int | tuple[int, ...] | None = None) -> Float[Array, ...]:
    """`log sum exp(a)` over `axis` (default: all); `-inf` when every entry is `-inf`."""
    return jax.scipy.special.logsumexp(a, axis=axis)


def log_mean_exp(a: Float[Array, ...], axis: int | tuple[int, ...] | None = None) -> Float[Array, ...]:
    """`log mean exp(a)` over `axis` (default: all); `-inf` when every entry is `-inf`."""
    total = log_sum_exp(a, axis)
    n_entries = a.size // max(total.size, 1)
    return total - jnp.log(jnp.asarray(n_entries, a.dtype))


def weights_from_log(log_weight: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    """Weights `exp(log_weight)` normalised to sum 1 over the last axis; `nan` when no walker has weight."""
    return jax.nn.softmax(log_weight, axis=-1)


def ess_fraction(log_weight: Float[Array, ...], axis: int = -1) -> Float[Array, ...]:
    """Effective sample size as a fraction, `(sum w)^2 / (n sum w^2)` with `w = exp(log_weight)`, in (0, 1].

    Args:
        log_weight: Log weights; a common offset has no effect. `-inf` is a walker without weight.
        axis: Axis of the walkers.

    Returns:
        The fraction: 1 for equal weights, 1/n when one walker carries all, 0 when none has weight, `nan` when
        a log weight is `nan` or `+inf`.
    """
    top = lax.stop_gradient(jnp.max(log_weight, axis=axis, keepdims=True))
    has_weight = jnp.squeeze(top, axis) != -jnp.inf
    # Subtract the top weight first: lse(2a) - 2 lse(a) loses all digits when the log weights are in the
    # hundreds.
    w = jnp.exp(log_weight - jnp.where(top == -jnp.inf, jnp.zeros_like(top), top))
    square_of_sum = jnp.sum(w, axis=axis) ** 2
    n_sum_of_squares = log_weight.shape[axis] * jnp.sum(w**2, axis=axis)
    fraction = square_of_sum / jnp.where(has_weight, n_sum_of_squares, jnp.ones_like(n_sum_of_squares))
    # Cauchy-Schwarz bounds the fraction by 1; only rounding can exceed it.
    return jnp.minimum(fraction, 1.0)


def _two_sum(
    a: Float[Array, "*shape"], b: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Rounded sum of `a` and `b`, and its exact rounding error."""
    total = lax.optimization_barrier(a + b)
    b_seen = lax.optimization_barrier(total - a)
    a_seen = lax.optimization_barrier(total - b_seen)
    return total, (a - a_seen) + (b - b_seen)
