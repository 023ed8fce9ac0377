"""Path integral over the nudge: covariances along the way from free to nudged.

    grad dA = - (1 / T) int_0^b Cov_t(C, g) dt ~ - (1 / T) sum_j w_j Cov_{t_j}(C, g) ,    dA = int_0^b <C>_t dt .

The same target as the contrast, with noise that stays finite as `b -> 0`. Gauss-Legendre nodes converge exponentially,
the faster the farther the zeros of `Z_t` in the complex plane; equal steps of thermodynamic length
`sqrt(Var_t C) / T dt` put nodes (or the steps of a ramp) where the cost fluctuates.

Reference:
    Litman 2025, theorem 3.4 (arXiv 2511.22024); Crooks 2007 (arXiv 0706.0559) for the length.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._types import ScalarLike
from quasistatic.equilibrium.covariance import covariance
from quasistatic.equilibrium.phases import Phase, Terms, concrete, joined
from quasistatic.errors import InputError

Vector = Float[np.ndarray, " n"]
N_AHEAD = 33
"""Nudges at which free samples are reweighted to lay out a path."""


def gauss_legendre(nudge: float, n: int) -> tuple[Vector, Vector]:
    """Nodes and weights of the Gauss-Legendre rule on `[0, nudge]`. Args: end; number of nodes, at least 1."""
    if n < 1:
        raise InputError(f"a quadrature needs at least one node, got {n}")
    x, w = np.polynomial.legendre.leggauss(n)
    return 0.5 * nudge * (x + 1), 0.5 * nudge * w


def trapezoid(nudges: Vector) -> tuple[Vector, Vector]:
    """Nodes and weights of the trapezoid rule on given nudges, for adaptive grids. Args: nudges, in order."""
    nudges = np.asarray(nudges, float)
    if nudges.ndim != 1 or nudges.size < 2:
        raise InputError(f"the trapezoid rule needs at least two nodes, got shape {nudges.shape}")
    return nudges, np.asarray(np.trapezoid(np.eye(nudges.size), x=nudges))


def thermodynamic_length(nudges: Vector, variances: Vector, temperature: float) -> float:
    """`int sqrt(Var_t C) / T dt`; a ramp of K well-relaxed steps dissipates at least `T length^2 / 2K`.

    Args:
        nudges: grid on which the cost was measured, in order.
        variances: `Var C` there.
        temperature: `T`.
    """
    return float(np.trapezoid(np.sqrt(np.asarray(variances, float)), x=np.asarray(nudges, float))) / temperature


def equal_lengths(
    nudges: Vector | Float[Array, " n"], variances: Vector | Float[Array, " n"], n: int
) -> Float[Array, " n_plus_1"]:
    """`n + 1` nudges at equal distances in thermodynamic length, `dt ~ 1 / sqrt(Var_t C)`.

    Args:
        nudges: grid on which the cost was measured, in order.
        variances: `Var C` there.
        n: number of steps.
    """
    nudges, spread = jnp.asarray(nudges), jnp.sqrt(jnp.asarray(variances))
    steps = 0.5 * (spread[1:] + spread[:-1]) * jnp.diff(nudges)
    length = jnp.concatenate([jnp.zeros_like(steps[:1]), jnp.cumsum(steps)])
    if (total := concrete(length[-1])) is not None and not total > 0:
        raise InputError("the cost does not fluctuate on this path: every grid has length zero; use equal steps")
    return jnp.interp(jnp.linspace(0, length[-1], n + 1), length, nudges)


def lengths_ahead(free: Phase, nudge: ScalarLike, temperature: ScalarLike, n: int) -> Float[Array, " n_plus_1"]:
    """`n + 1` nudges from 0 to `b` at equal lengths, from what free samples say of `Var_t C` further on.

    The variances are means over examples of reweighted ones: poor where `exp(-dA / T)` of the samples is below one,
    which spoils the spacing, never the estimate.

    Args:
        free: free phases, examples first.
        nudge: `b`.
        temperature: `T`.
        n: number of steps.
    """
    grid = jnp.linspace(0.0, 1.0, N_AHEAD) * nudge

    def variance(b: Array) -> Array:
        weight = jax.nn.softmax(-b * free.cost / temperature, axis=-1)
        mean = jnp.sum(weight * free.cost, axis=-1, keepdims=True)
        return jnp.mean(jnp.sum(weight * (free.cost - mean) ** 2, axis=-1))

    variances = jax.vmap(variance)(grid)
    floor = 1e-6 * jnp.max(variances) + jnp.finfo(variances.dtype).tiny  # equal steps where nothing fluctuates
    return equal_lengths(grid, variances + floor, n).at[-1].set(nudge)


def path_integral(phases: Sequence[Phase], weights: Sequence[ScalarLike], temperature: ScalarLike) -> Terms:
    """Terms of `grad dA` of one example. Args: phases at the nodes; quadrature weights; `T`."""
    if len(phases) != len(weights) or not phases:
        raise InputError(f"one weight per node is needed, got {len(weights)} weights for {len(phases)} nodes")
    return joined(*(covariance(p, temperature).scale(w) for p, w in zip(phases, weights, strict=True)))
