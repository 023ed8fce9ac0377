"""Fisher metric, friction and thermodynamic length, from walkers.

With rows `s = du/dtheta` (nats) of walkers in equilibrium, one frame per update of the parameters,

    F = Cov(s)                                            Fisher metric
    Z = C_0 / 2 + sum_(l >= 1) C_l,   C_l = Cov(s(t + l), s(t))      friction per update, symmetrised
    W_ex = sum_k dtheta_k' Z dtheta_k,    L = int sqrt(dtheta' Z dtheta)

in linear response, where `W_ex` is the excess work in nats. A sampler that forgets everything between updates has
`Z = F / 2`: the excess work is then the relative entropy of neighbouring models. A sampler of step `h` with many moves
per relaxation time has `Z = zeta / h` with the friction tensor `zeta = int_0^inf C(t) dt` of continuous time.

Reference:
    Sivak and Crooks, Phys. Rev. Lett. 108, 190602 (2012) (friction tensor); Crooks, Phys. Rev. Lett. 99, 100602 (2007)
    (thermodynamic length, and `F / 2` for equilibrated steps).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import Scalar
from quasistatic.errors import InputError

Frames = Float[Array, "frames walkers P"]


class Measured(NamedTuple):
    """A matrix over the parameters, and the standard error of each entry (walkers are independent)."""

    value: Float[Array, "P P"]
    stderr: Float[Array, "P P"]


class Power(NamedTuple):
    """Excess work of one update in nats, and its standard error."""

    value: Scalar
    stderr: Scalar


class Length(NamedTuple):
    """Thermodynamic length of a path and the least and actual excess work in linear response, in nats: `length^2 / K`
    is the least of all speeds for `K` updates, `excess_work` that of the speed given."""

    length: Scalar
    least_work: Scalar
    excess_work: Scalar
    arc: Float[Array, " nodes"]


def fisher(rows: Float[Array, "walkers P"], weights: Float[Array, " walkers"] | None = None) -> Measured:
    """Covariance of the rows under the walkers' weights.

    Args:
        rows: `du/dtheta` of every walker, nats per parameter.
        weights: normalised weights; uniform by default.
    """
    w = jnp.full(len(rows), 1.0 / len(rows), rows.dtype) if weights is None else weights
    centred = rows - w @ rows
    products = centred[:, :, None] * centred[:, None, :]
    value = jnp.tensordot(w, products, 1)
    return Measured(value, jnp.sqrt(jnp.tensordot(w**2, (products - value) ** 2, 1)))


def green_kubo(frames: Frames, window: int) -> Measured:
    """Friction per update from autocovariances up to a window.

    Args:
        frames: rows of equilibrium walkers at fixed parameters, one frame per update, oldest first.
        window: largest lag in updates; 5 to 10 relaxation times.

    Raises:
        InputError: there are not more frames than the window.
    """
    n_frames = frames.shape[0]
    if not 0 <= window < n_frames:
        raise InputError(f"{n_frames} frames hold lags below {n_frames}, got window = {window}; record more")
    centred = frames - jnp.mean(frames, axis=(0, 1))
    n = n_frames - window  # origins that have all lags
    total = jnp.concatenate([jnp.zeros_like(centred[:1]), jnp.cumsum(centred, axis=0)])
    later = total[window + 1 :] - total[1 : n + 1]  # sum of the frames t + 1 ... t + window
    return _over_walkers(jnp.einsum("twi,twj->wij", centred[:n], centred[:n] / 2 + later) / n)


def batch_means(frames: Frames) -> Measured:
    """Friction per update as `T/2` times the covariance of time averages over `T` frames.

    Positive by construction, needs no lags, and is low by about one relaxation time in `T`.

    Args:
        frames: rows of equilibrium walkers at fixed parameters, one frame per update.
    """
    average = jnp.mean(frames, axis=0)
    average = average - jnp.mean(average, axis=0)
    n = average.shape[0]
    unbiased = 0.5 * frames.shape[0] * n / max(n - 1, 1)
    return _over_walkers(unbiased * average[:, :, None] * average[:, None, :])


def excess_work(change: Float[Array, " walkers"], weights: Float[Array, " walkers"]) -> Power:
    """Excess work that one update does on plain walkers, with the free energy from their weights: no friction needed.

    `mean du + log sum_i w_i exp(-du_i)`, in linear response `dtheta' (mean s - sum_i w_i s_i)` plus half the variance.

    Args:
        change: change of every walker's potential under the update, nats (`scores.change` of the walkers).
        weights: normalised account weights before the update.
    """
    n = change.shape[0]
    log_z = jax.nn.logsumexp(-change, b=weights)
    tilt = weights * (jnp.exp(-change - log_z) - 1.0)  # influence of a walker on log_z
    part = (change - jnp.mean(change)) / n + tilt
    return Power(jnp.mean(change) + log_z, jnp.sqrt(jnp.sum(part**2)))


def lag(rows: Float[Array, "walkers P"], weights: Float[Array, " walkers"]) -> Float[Array, " P"]:
    """`mean s - sum_i w_i s_i`: how far plain walkers lag behind, `Z_0 dtheta` per update in linear response with
    `Z_0 = sum_(l >= 1) C_l`."""
    return jnp.mean(rows, axis=0) - weights @ rows


def length(path: Float[Array, "nodes P"], metric: Float[Array, "nodes P P"]) -> Length:
    """Thermodynamic length of a path of parameters.

    Args:
        path: parameters at the nodes, which are the updates of the protocol.
        metric: friction per update at the nodes (of the segment's two ends the mean is taken).

    Raises:
        InputError: fewer than two nodes.
    """
    if len(path) < 2:
        raise InputError(f"a path has at least two nodes, got {len(path)}")
    step = jnp.diff(path, axis=0)
    between = 0.5 * (metric[1:] + metric[:-1])
    squares = jnp.einsum("ki,kij,kj->k", step, between, step)
    arc = jnp.concatenate([jnp.zeros(1, squares.dtype), jnp.cumsum(jnp.sqrt(squares))])
    return Length(arc[-1], arc[-1] ** 2 / len(step), jnp.sum(squares), arc)


def constant_speed(path: Float[Array, "nodes P"], arc: Float[Array, " nodes"], n_updates: int) -> Float[Array, "n P"]:
    """The same curve with `n_updates + 1` nodes at equal distances of thermodynamic length: least excess work on it.

    Args:
        path: parameters at the nodes.
        arc: length up to each node, see `length`.
        n_updates: updates of the new protocol.
    """
    at = jnp.linspace(0.0, arc[-1], n_updates + 1)
    return jax.vmap(lambda column: jnp.interp(at, arc, column), 1, 1)(path)


def _over_walkers(per_walker: Float[Array, "walkers P P"]) -> Measured:
    symmetric = 0.5 * (per_walker + per_walker.transpose(0, 2, 1))
    n = symmetric.shape[0]
    return Measured(jnp.mean(symmetric, 0), jnp.std(symmetric, 0, ddof=1) / jnp.sqrt(n))
