"""Sums over all states of two-level units, fast enough to be done at hundreds of ages of a run.

With both layers rewritten as bits, an RBM whose second layer is summed out reads

    Z = e^const sum_b e^(field . b) prod_j (1 + e^(a_j(b))) ,     a(b) = offset + b' coupling .

The bits are split into a high and a low part; inputs add, so `e^a = A C` with `A` a table over the high part and
`C` one over the low part. A state then costs one multiply-add and one multiplication per factor. The running product
is kept as mantissa and integer exponent (the exponent bits are moved over every few factors), so no logarithm is
taken per state, nothing overflows, and every term is positive: the result is good to a few units in the last place
times the square root of the number of factors, in float32 too.

Couplings so strong that one factor could overflow, and units of other kinds, go the plain way: log weights of chunks of
states, through the cumulant functions of the units.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from quasistatic._types import IntScalarLike

FACTORS = 16
"""Factors multiplied per pass over a block of states (the loop body is this long)."""
LOW_BITS = 12
BLOCK_ROWS = 64


class BitForm(NamedTuple):
    """`log sum_b exp(const + field . b + sum_j softplus(offset_j + (b' coupling)_j))`, in float64 on the host.

    Args:
        const: constant term, nats.
        field: field on each bit, shape `(n_bits,)`, nats.
        coupling: bits times factors, shape `(n_bits, n_factors)`.
        offset: shape `(n_factors,)`.
    """

    const: float
    field: Float[np.ndarray, " n_bits"]
    coupling: Float[np.ndarray, "n_bits n_factors"]
    offset: Float[np.ndarray, " n_factors"]

    def turned(self) -> "BitForm":
        """The same sum with the smallest possible largest inputs: `softplus(a) = a + softplus(-a)` where that helps."""
        high = self.offset + np.maximum(self.coupling, 0).sum(0)
        low = self.offset + np.minimum(self.coupling, 0).sum(0)
        turn = high > -low
        sign = np.where(turn, -1.0, 1.0)
        return BitForm(
            self.const + float(self.offset[turn].sum()),
            self.field + self.coupling[:, turn].sum(1),
            self.coupling * sign,
            self.offset * sign,
        )

    def largest_inputs(self) -> Float[np.ndarray, " n_factors"]:
        """Largest value of each input over all states."""
        return self.offset + np.maximum(self.coupling, 0).sum(0)


def bits(n: int) -> Float[np.ndarray, "n_states n"]:
    """All states of `n` bits, the first bit fastest."""
    return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(np.float64)


def log_sum_products(form: BitForm, dtype: Any) -> float | None:
    """The sum of a `BitForm` by the product method, or None when a factor could overflow in this dtype.

    Args:
        form: what to sum.
        dtype: float32 or float64, of the device arithmetic.
    """
    form = form.turned()
    limit = 0.9 * float(np.log(jnp.finfo(dtype).max))
    n_bits, n_factors = form.coupling.shape
    n_padded = -(-n_factors // FACTORS) * FACTORS
    sizes = np.zeros(n_padded)
    sizes[:n_factors] = np.logaddexp(0.0, form.largest_inputs())
    every = next((k for k in (8, 4, 2, 1) if sizes.reshape(-1, k).sum(1).max(initial=0.0) < limit), None)
    if every is None:
        return None
    n_low = min(n_bits, LOW_BITS)
    low, high = bits(n_low), bits(n_bits - n_low)
    a_low, a_high = low @ form.coupling[:n_low], form.offset + high @ form.coupling[n_low:]
    # the largest entry of both tables is the same: neither overflows, and what underflows does not matter
    shift = 0.5 * (a_high.max(0) - a_low.max(0))
    table_low, table_high = np.zeros((n_padded, len(low)), dtype), np.zeros((len(high), n_padded), dtype)
    with np.errstate(under="ignore"):
        table_low[:n_factors] = np.exp(a_low + shift).T
        table_high[:, :n_factors] = np.exp(a_high - shift)
    field_low, field_high = _mantissa(low @ form.field[:n_low], dtype), _mantissa(high @ form.field[n_low:], dtype)
    sums, tops = _sum_blocks(table_high, table_low, field_high, field_low, every=every)
    logs = np.log(np.asarray(sums, np.float64)) + np.log(2.0) * np.asarray(tops, np.float64)
    return form.const + float(np.logaddexp.reduce(logs))


def log_sum_states(
    log_weight: Callable[[Any, Float[Array, " n"]], Float[Array, ""]],
    model: Any,
    n: int,
    *,
    levels: tuple[float, float],
    n_per_chunk: int = 8192,
) -> float:
    """`log sum_x exp(log_weight(model, x))` over all states of `n` two-level units, chunk by chunk.

    Args:
        log_weight: function of a model and one state; static, so pass the same function again to avoid recompiling.
        model: pytree handed to it.
        n: number of units.
        levels: the two values of a unit.
        n_per_chunk: states per chunk, a power of two.
    """
    chunk = min(n_per_chunk, 2**n)
    tops, sums = _sum_chunks(log_weight, model, n, levels, chunk)
    tops, sums = np.asarray(tops, np.float64), np.asarray(sums, np.float64)
    return float(np.logaddexp.reduce(tops + np.log(sums)))


def states_from(index: Int[Array, " m"], n: int, levels: tuple[float, float], dtype: Any) -> Float[Array, "m n"]:
    """States of two-level units by number, the first unit fastest."""
    is_high = (index[:, None] >> jnp.arange(n)) & 1
    return jnp.where(is_high == 1, levels[1], levels[0]).astype(dtype)


@eqx.filter_jit
def _sum_chunks(log_weight, model, n, levels, chunk):
    dtype = jnp.result_type(*(leaf for leaf in jax.tree.leaves(model) if eqx.is_inexact_array(leaf)))

    def one(start: IntScalarLike):
        x = states_from(start * chunk + jnp.arange(chunk), n, levels, dtype)
        values = jax.vmap(lambda state: log_weight(model, state))(x)
        top = jnp.max(values)
        return top, jnp.sum(jnp.exp(values - top))

    return lax.map(one, jnp.arange(2**n // chunk))


def _mantissa(exponents: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """`exp(exponents)` as mantissas in [1, 2) and integer powers of two."""
    power = np.floor(exponents / np.log(2.0))
    return np.exp(exponents - power * np.log(2.0)).astype(dtype), power.astype(np.int32)


@functools.partial(jax.jit, static_argnames="every")
def _sum_blocks(table_high, table_low, field_high, field_low, *, every):
    """Sum and power of two of every block of states; `every` factors go between two flushes of the exponent."""
    n_high, n_padded = table_high.shape
    rows = min(BLOCK_ROWS, n_high)
    n_passes = n_padded // FACTORS
    bias = jnp.finfo(table_low.dtype).maxexp - 1
    low = table_low.reshape(n_passes, FACTORS, -1)
    # block, pass, factor, row
    high = table_high.reshape(n_high // rows, rows, n_passes, FACTORS).transpose(0, 2, 3, 1)

    def block(args):
        high_block, mantissa, power = args

        def multiply(i, carry):
            p, e = carry
            a, c = high_block[i], low[i]
            for first in range(0, FACTORS, every):
                product = _product([1 + a[k][:, None] * c[k][None, :] for k in range(first, first + every)])
                p, e = _flush(p * product, e)
            return p, e

        p = mantissa[:, None] * field_low[0][None, :]
        e = power[:, None] + field_low[1][None, :]
        p, e = lax.fori_loop(0, n_passes, multiply, _flush(p, e))
        top = jnp.max(e)
        return jnp.sum(p * _power_of_two(e - top, p.dtype)), top

    blocked = (high, field_high[0].reshape(-1, rows), field_high[1].reshape(-1, rows))
    sums, tops = lax.map(block, blocked)
    n_flushes = n_padded // every + 1
    return sums, tops - bias * n_flushes


def _product(factors: list[Array]) -> Array:
    """Balanced product: short dependency chains keep the vector units busy."""
    while len(factors) > 1:
        factors = [a * b for a, b in zip(factors[::2], factors[1::2], strict=True)]
    return factors[0]


def _flush(p: Array, e: Array) -> tuple[Array, Array]:
    """Moves the exponent bits of positive normal numbers to the integers; each flush adds the format's bias to `e`."""
    info = jnp.finfo(p.dtype)
    word = jnp.uint32 if info.bits == 32 else jnp.uint64
    raw = lax.bitcast_convert_type(p, word)
    one = lax.bitcast_convert_type(jnp.ones((), p.dtype), word)
    fraction = (raw & ((1 << info.nmant) - 1)) | one
    return lax.bitcast_convert_type(fraction, p.dtype), e + (raw >> info.nmant).astype(jnp.int32)


def _power_of_two(power: Array, dtype: Any) -> Array:
    """`2**power` for `power <= 0`; exactly zero below the range of normal numbers."""
    info = jnp.finfo(dtype)
    word = jnp.uint32 if info.bits == 32 else jnp.uint64
    raw = jnp.maximum(power + (info.maxexp - 1), 0).astype(word) << info.nmant
    return lax.bitcast_convert_type(raw, dtype)
