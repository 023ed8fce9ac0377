"""Random bits for discrete units: Threefry-2x32 written so that the compiler fuses it.

Sampling binary units costs one uniform variate per unit, and drawing these took half the time of a Gibbs sweep: JAX
lowers its
generator to a loop over arrays on CPU. The same generator, written out as 20 rounds of scalar arithmetic, stays in
registers and is 3 to 4 times faster (`benchmarks/`). Bits are a pure function of (key, index), as everywhere.

Reference:
    Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Threefry-2x32-20).
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32
from jaxtyping import Key as Keys

from quasistatic._types import IntScalarLike, Key

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_FOLD = 0xFFFFFFFF
_SPLIT = 0xFFFFFFFE
"""Second counter words of `fold` and `split`; variates use 0, so keys and variates never share a counter."""


def threefry(
    key: UInt32[Array, " 2"], low: UInt32[Array, "..."], high: UInt32[Array, "..."]
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """Threefry-2x32 with 20 rounds: two random words per counter `(low, high)`."""
    words = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    x0, x1 = low + words[0], high + words[1]
    for i in range(5):
        for rotation in _ROTATIONS[i % 2]:
            x0 = x0 + x1
            x1 = (x1 << rotation) | (x1 >> (32 - rotation))
            x1 = x1 ^ x0
        x0 = x0 + words[(i + 1) % 3]
        x1 = x1 + words[(i + 2) % 3] + jnp.uint32(i + 1)
    return x0, x1


def fold(key: Key, data: IntScalarLike) -> Key:
    """Key derived from a key and an integer; like `jax.random.fold_in`, cheap inside a compiled loop."""
    words = threefry(_words(key), jnp.asarray(data).astype(jnp.uint32), jnp.asarray(_FOLD, jnp.uint32))
    return _key(jnp.stack(words))


def split(key: Key, n: int) -> Keys[Array, " n"]:
    """`n` keys, one per walker."""
    counter = jnp.arange(n, dtype=jnp.uint32)
    words = threefry(_words(key), counter, jnp.full_like(counter, _SPLIT))
    return _key(jnp.stack(words, axis=-1))


def uniform(key: Key, shape: tuple[int, ...], dtype: jnp.dtype) -> Float[Array, "..."]:
    """Uniform variates strictly inside (0, 1), symmetric about 1/2: midpoints of 2^23 (float32) or 2^52 cells.

    Args:
        key: random key.
        shape: shape of the result.
        dtype: float32 or float64.
    """
    n = math.prod(shape)
    is_double = jnp.dtype(dtype).itemsize == 8
    n_blocks = n if is_double else (n + 1) // 2
    counter = jnp.arange(n_blocks, dtype=jnp.uint32)
    first, second = threefry(_words(key), counter, jnp.zeros_like(counter))
    if is_double:
        cell = (first >> 6).astype(dtype) * 2.0**26 + (second >> 6).astype(dtype)
        return ((cell + 0.5) * 2.0**-52).reshape(shape)
    bits = jnp.concatenate([first, second])[:n]
    return (((bits >> 9).astype(dtype) + 0.5) * 2.0**-23).reshape(shape)


def bernoulli_logits(key: Key, logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """Zeros and ones with `P(1) = sigmoid(logits)`, in the dtype of the logits.

    Args:
        key: random key.
        logits: log odds, any shape.
    """
    variate = uniform(key, jnp.shape(logits), logits.dtype)
    return (variate < jax.nn.sigmoid(logits)).astype(logits.dtype)


def _key(words: UInt32[Array, "*n 2"]) -> Keys[Array, "*n"]:
    # the barrier keeps the compiler from writing the 20 rounds again into every place that uses the key
    return jax.random.wrap_key_data(jax.lax.optimization_barrier(words), impl="threefry2x32")


def _words(key: Key) -> UInt32[Array, " 2"]:
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return (jax.random.key_data(key) if is_typed else key)[:2]
