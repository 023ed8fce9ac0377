"""Exact Bernoulli variates from logits.

`P(x = 1) = sigmoid(logit)`, drawn by comparing one uniform variate with the probability. Gibbs sampling of
binary units spends most of its time outside matrix products here, so there is one implementation, used by all.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import Key


def bernoulli_logits(key: Key, logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """Zeros and ones with `P(1) = sigmoid(logits)`, in the dtype of the logits.

    Args:
        key: random key.
        logits: log odds, any shape.
    """
    uniform = jax.random.uniform(key, jnp.shape(logits), logits.dtype)
    return (uniform < jax.nn.sigmoid(logits)).astype(logits.dtype)
