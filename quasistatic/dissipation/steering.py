"""The learning-rate matrix of least dissipation, for energies whose Fisher matrix and friction are known.

With `g` the gradient of the negative log-likelihood made by walkers that lag, `I` the Fisher matrix and `Z` the
friction per update (excess work `dth' Z dth` of an update, both in nats), update `k` of `K` is

    continuous      dth = -[ (K - k) I + Z ]^-1 g
    discontinuous   dth = -[ (K - k) I + 2 Z ]^-1 g       between the jumps,
                    dth = -I^-1 (Z + I/2) [ K I + 2 Z ]^-1 g     first,     -1/2 I^-1 (Z + I/2) Z^-1 g     last
    weighted        dth = -[ (K - k + t0) I ]^-1 g        for gradients with Jarzynski weights, which have no lag

Far from the end all three are natural-gradient flow at the rate `1 / (time left)`: a straight line in the mean
parameters. They are exact for Gaussians of constant covariance and first order in the speed otherwise. Only the
weighted one may use weighted gradients, and only weighted gradients may leave out `Z`.

Reference:
    Hnybida, Verret 2025 (arXiv:2510.03137) for the idea of a learning-rate matrix that induces natural-gradient flow;
    D. Sivak, G. Crooks, Phys. Rev. Lett. 108, 190602 (2012) for the friction tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from quasistatic.dissipation.schedules import KINDS
from quasistatic.errors import InputError

Metric = Callable[[Any], tuple[Float[Array, "p p"], Float[Array, "p p"]]]
"""Fisher matrix and friction per update of parameters, in the order in which `ravel_pytree` lays them out, nats."""


def steer(
    metric: Metric, n_relaxations: int, *, kind: str = "discontinuous", offset: float = 1.0
) -> optax.GradientTransformation:
    """Optax transformation that turns gradients into steps of least dissipation; after the last one it stands still.

    Args:
        metric: Fisher matrix and friction of the present parameters.
        n_relaxations: `K`. Discontinuous: updates 0 to `K`; the others: updates 0 to `K - 1`.
        kind: `"discontinuous"`, `"continuous"` or `"weighted"`.
        offset: `t0` of the weighted law, in updates.

    Raises:
        InputError: unknown kind, or no update.
    """
    if kind not in KINDS:
        raise InputError(f"kind must be one of {KINDS}, got {kind!r}")
    if n_relaxations < 1 or not offset > 0:
        raise InputError(f"K must be at least 1 and the offset positive, got {n_relaxations} and {offset}")
    n = n_relaxations

    def init(params: Any) -> Any:
        del params
        return jnp.zeros((), jnp.int32)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        g, unravel = ravel_pytree(updates)
        fisher, friction = metric(params)
        left = jnp.asarray(n - state, g.dtype)
        if kind == "weighted":
            step = jnp.linalg.solve((left + offset) * fisher, g)
        elif kind == "continuous":
            step = jnp.linalg.solve(left * fisher + friction, g)
        else:
            step = _with_jumps(fisher, friction, g, left, n)
        is_over = left < (0 if kind == "discontinuous" else 1)
        return unravel(jnp.where(is_over, 0.0, -step)), state + 1

    return optax.GradientTransformation(init, update)


def _with_jumps(fisher: Array, friction: Array, g: Array, left: Array, n: int) -> Array:
    """Step of the discontinuous law with `left` relaxations to go."""

    def led(driven: Array) -> Array:
        return jnp.linalg.solve(fisher, (friction + 0.5 * fisher) @ driven)

    between = jnp.linalg.solve(left * fisher + 2 * friction, g)
    last = 0.5 * led(jnp.linalg.solve(friction, g))
    return jax.lax.select_n((left == n) * 1 + (left == 0) * 2, between, led(between), last)
