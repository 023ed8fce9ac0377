"""Least excess work for the distance travelled, and how close a run comes to it.

In nats, for walkers with `dx = -M grad u dt + sqrt(2 M) dB` (mobility `M` of the potential `u = beta E`) between laws
`p_0` and `p`, with `D = KL(walkers | model)`,

    W_ex = int sigma dt + D(tau) - D(0)  >=  W_2(p_0, p)^2 / (M tau) + D(tau) - D(0) .

Started in equilibrium, `D(0) = 0` and excess work is a cost. Started elsewhere (data, noise) it can be negative, down
to `-D(0)`: such a number must be shown with its `D(0)`. With free arrival the least work to a given model is one
proximal step, `min_p W_2(p_0, p)^2 / (M tau) + KL(p | model)`: less than carrying all walkers there.

Any kernel: excess work of slow updates is `sum dth' Z dth`, so the length `L = sum sqrt(excess work of an update)`
of a path gives its cost in `K` updates of any timing as `L^2 / K` at least.

Reference:
    J.-D. Benamou, Y. Brenier, Numer. Math. 84, 375 (2000); E. Aurell, C. Mejia-Monasterio, P. Muratore-Ginanneschi,
    Phys. Rev. Lett. 106, 250601 (2011); R. Jordan, D. Kinderlehrer, F. Otto, SIAM J. Math. Anal. 29, 1 (1998);
    M. Gelbrich, Math. Nachr. 147, 185 (1990); G. Crooks, Phys. Rev. Lett. 99, 100602 (2007) (length).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg import sqrtm

from quasistatic.errors import InputError

Vector = Float[np.ndarray, " d"]
Matrix = Float[np.ndarray, "d d"]


def gaussian_divergence(mean: Vector, covariance: Matrix, model_mean: Vector, model_covariance: Matrix) -> float:
    """`KL(N(mean, covariance) | N(model_mean, model_covariance))`, nats: the `D(0)` of a Gaussian start."""
    inverse = np.linalg.inv(model_covariance)
    gap = np.asarray(model_mean, float) - mean
    ratio = np.linalg.slogdet(model_covariance)[1] - np.linalg.slogdet(covariance)[1]
    return float(0.5 * (np.trace(inverse @ covariance) + gap @ inverse @ gap - len(gap) + ratio))


def transport_distance(mean: Vector, covariance: Matrix, end_mean: Vector, end_covariance: Matrix) -> float:
    """Least squared transport distance of two laws with these moments, in squared units of `x`.

    `|m - m'|^2 + tr(C + C' - 2 (C^1/2 C' C^1/2)^1/2)`: equal to `W_2^2` for Gaussians, at most `W_2^2` otherwise.
    """
    root = np.real(sqrtm(np.asarray(covariance, float)))
    cross = np.real(sqrtm(root @ end_covariance @ root))
    spread = np.trace(covariance) + np.trace(end_covariance) - 2 * np.trace(cross)
    gap = np.asarray(end_mean, float) - mean
    return float(gap @ gap + max(spread, 0.0))


def transport_distance_1d(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " m"]) -> float:
    """`W_2^2` of two samples in one dimension, from their quantiles. Biased high by sampling, of order `1/n`."""
    if len(x) == len(y):
        return float(np.mean((np.sort(x) - np.sort(y)) ** 2))
    levels = (np.arange(max(len(x), len(y))) + 0.5) / max(len(x), len(y))
    return float(np.mean((np.quantile(x, levels) - np.quantile(y, levels)) ** 2))


def transport_work(distance_squared: float, mobility: float, duration: float) -> float:
    """Least entropy production `W_2^2 / (M tau)` of walkers that travelled this far, nats.

    Args:
        distance_squared: `W_2^2` between the walkers' first and last law.
        mobility: `M` of the potential `u`: 1 for `Langevin` without preconditioner.
        duration: `tau`: sum of the step sizes of all sweeps.
    """
    if not mobility > 0 or not duration > 0:
        raise InputError(f"mobility and duration must be positive, got {mobility} and {duration}")
    return distance_squared / (mobility * duration)


def proximal_work(
    mean: float, variance: float, target: float, precision: float, *, mobility: float, duration: float
) -> float:
    """Least excess work from Gaussian walkers to a Gaussian model in one dimension over all protocols, nats.

    `min_p W_2^2 / (M tau) + KL(p | model)` in closed form; less `D(0)` when the start is out of equilibrium.

    Args:
        mean: mean of the walkers at the start.
        variance: their variance.
        target: mean of the model at the end.
        precision: its inverse variance, `k = b kap`.
        mobility: `M` of the potential `u`.
        duration: `tau`.
    """
    if not (variance > 0 and precision > 0):
        raise InputError(f"variance and precision must be positive, got {variance} and {precision}")
    drag = 1 / transport_work(1.0, mobility, duration)
    moved = precision * (target - mean) ** 2 / (precision * drag + 2)
    start = np.sqrt(variance)
    # stationary in the standard deviation s: (k + 2/(M tau)) s^2 - 2 s_0 s / (M tau) - 1 = 0
    a, half_b = precision + 2 / drag, start / drag
    s = (half_b + np.sqrt(half_b**2 + a)) / a
    widened = (s - start) ** 2 / drag + 0.5 * (precision * s**2 - 1 - np.log(precision * s**2))
    return float(moved + widened)


def length(excess: Float[np.ndarray, " n"]) -> float:
    """Thermodynamic length of a path, `sum sqrt(excess work of an update)`, root nats. Args: excess per update."""
    excess = np.asarray(excess, float)
    if (excess < 0).any():
        raise InputError("a length needs excess works that are not negative; average over more walkers or updates")
    return float(np.sqrt(excess).sum())


def length_work(path_length: float, n_updates: int) -> float:
    """Least excess work `L^2 / K` of a path in `K` updates, nats, over all timings of the same path."""
    if n_updates < 1:
        raise InputError(f"a path has at least one update, got {n_updates}")
    return path_length**2 / n_updates


def efficiency(minimal: float, excess: float) -> float | None:
    """`W_min / W_ex`, in (0, 1]; None where excess work is not positive (a start out of equilibrium)."""
    return minimal / excess if excess > 0 else None
