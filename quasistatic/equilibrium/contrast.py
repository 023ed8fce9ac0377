"""Expectation contrast: nudged minus free.

    grad [A(b_1) - A(b_0)] = <g>_{b_1} - <g>_{b_0} ,

exact for any nudges and any temperature. `b_0 = 0` is the one-sided rule, `b_0 = -b_1` the centred one; a nudge of
random sign has the centred objective on average at the price of two phases. Divided by `b_1 - b_0` it is the gradient
of the normalised objective, whose limit is the supervised loss `<C>_0`. Independent phases have variance
`(tr Cov_1 g + tr Cov_0 g) / n`, whatever the nudge: a small nudge dies in that noise unless the phases are coupled.

Reference:
    Litman 2025, theorem 3.1 (arXiv 2511.22024); Laborieux et al. 2021 (arXiv 2006.03824) for both signs.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import Key, ScalarLike
from quasistatic.equilibrium.phases import Phase, Terms, joined


def contrast(start: Phase, end: Phase) -> Terms:
    """Terms of `grad [A(b_end) - A(b_start)]` of one example. Args: phases at the two nudges."""
    parts = []
    for sign, phase in ((-1.0, start), (1.0, end)):
        weight = sign * phase.weight
        parts.append(Terms(phase.x, weight, phase.nudge * weight))
    return joined(*parts)


def random_sign(key: Key, nudge: ScalarLike, n: int) -> Float[Array, " n"]:
    """Nudges `+-b` with random signs, one per example. Args: key; `b`; number of examples."""
    return jnp.where(jax.random.bernoulli(key, shape=(n,)), 1.0, -1.0) * nudge
