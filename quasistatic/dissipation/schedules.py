"""Learning rates of least dissipation, as Optax schedules: exact for the trap, first order for any energy.

A schedule gives the factor `rate(k)` of update `k`: `th += rate(k) * (gradient of the log-likelihood)`. With `K`
relaxations between the first and the last update, `z` the friction in updates and `I` the Fisher information,

    discontinuous   rate = 1 / (K - k + 2z) / I       between jumps of
                           (z + 1/2) / (K + 2z) / I   first, and (z + 1/2) / 2z / I last
    continuous      rate = 1 / (K - k + z) / I
    weighted        rate = 1 / (K - k + t0) / I       the gradient has no lag, so there is no friction to correct
    endless         rate = 1 / (T I)                  unknown horizon

For a trap `I = b kap` and `z = SteppedTrap.friction`; the discontinuous schedule is then the exact discrete optimum,
with the target unknown. For any energy apply them with `I = 1` to natural-gradient directions, with `z` the
relaxation time of the walkers in updates, halves included: `z = 1/2 + sum_l autocorrelation(l)`. Where friction and
Fisher matrix are known, `steer` takes both as matrices.

The discontinuous schedule needs walkers that start in equilibrium; its last update may be large (`KeepESS` shortens
it). The continuous one is nearly as good once `K` is several `z`, and safe.

Reference:
    Hnybida, Verret 2025 (arXiv:2510.03137) for the trap; discrete forms by minimising `SteppedTrap.work`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from quasistatic._types import IntScalarLike, Scalar
from quasistatic.errors import InputError

Schedule = Callable[[IntScalarLike], Scalar]
"""Optax schedule: number of the update (from 0) to a factor."""

KINDS = ("discontinuous", "continuous", "weighted")
"""Schedules with a horizon."""


def discontinuous(n_relaxations: int, *, friction: float, information: float = 1.0) -> Schedule:
    """Schedule with jumps at both ends: updates 0 to `K` (that is `K + 1` of them), zero afterwards.

    Args:
        n_relaxations: `K`, relaxations between the first and the last update.
        friction: `z`, in updates; at least 1/2, its value when walkers relax completely.
        information: `I`, Fisher information per squared unit of the parameter, nats.
    """
    n, z = _checked(n_relaxations, friction, information, least=0.5)

    def rate(k: IntScalarLike) -> Scalar:
        left = n - jnp.asarray(k, float)
        between = 1 / (left + 2 * z)
        ends = jnp.where(left == n, (z + 0.5) / (n + 2 * z), (z + 0.5) / (2 * z))
        is_end = (left == n) | (left == 0)
        return jnp.where(left < 0, 0.0, jnp.where(is_end, ends, between)) / information

    return rate


def continuous(n_relaxations: int, *, friction: float, information: float = 1.0) -> Schedule:
    """Schedule without jumps: updates 0 to `K - 1`, zero afterwards.

    From equilibrium it stops short of the target by a share `exp(-K/z)`, roughly; it is optimal for walkers that lag
    already.

    Args:
        n_relaxations: `K`, number of updates.
        friction: `z`, in updates.
        information: `I`, Fisher information per squared unit of the parameter, nats.
    """
    n, z = _checked(n_relaxations, friction, information, least=0.0)
    return _hyperbola(n, z, information)


def weighted(n_updates: int, *, offset: float = 1.0, information: float = 1.0) -> Schedule:
    """Schedule for gradients with Jarzynski weights: updates 0 to `n_updates - 1`, zero afterwards.

    Args:
        n_updates: number of updates.
        offset: `t0`, a few updates; keeps the last rates finite.
        information: `I`, Fisher information per squared unit of the parameter, nats.
    """
    n, t0 = _checked(n_updates, offset, information, least=0.0)
    return _hyperbola(n, t0, information)


def endless(horizon: float, *, information: float = 1.0) -> Schedule:
    """Constant rate `1 / (T I)` for a horizon that is not known; approaching to `eps` costs `ln(D/eps) / 2` times more.

    Args:
        horizon: `T`, updates in which the distance shrinks by a factor e.
        information: `I`, Fisher information per squared unit of the parameter, nats.
    """
    if not horizon > 0 or not information > 0:
        raise InputError(f"horizon and information must be positive, got {horizon} and {information}")
    return lambda k: jnp.full(jnp.shape(k), 1 / (horizon * information))


def friction_of(autocorrelation: float) -> float:
    """Friction in updates of walkers that keep a share `a` of their lag at each relaxation: `(1 + a) / (2 (1 - a))`."""
    if not -1 < autocorrelation < 1:
        raise InputError(f"an autocorrelation of one update lies in (-1, 1), got {autocorrelation}")
    return (1 + autocorrelation) / (2 * (1 - autocorrelation))


def _hyperbola(n: int, offset: float, information: float) -> Schedule:
    def rate(k: IntScalarLike) -> Scalar:
        left = n - jnp.asarray(k, float)
        return jnp.where(left < 1, 0.0, 1 / (jnp.maximum(left, 1.0) + offset) / information)

    return rate


def _checked(n: int, z: float, information: float, *, least: float) -> tuple[int, float]:
    if n < 1:
        raise InputError(f"a schedule needs at least one update, got {n}")
    if not (z >= least and z > 0) or not information > 0:
        raise InputError(
            f"friction must be positive and at least {least}, the information positive; got {z} and {information}"
        )
    return n, z
