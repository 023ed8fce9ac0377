"""Excess work of a population from what its walkers received, on the host in float64.

    known free energy    mean W - dF
    (a) Jarzynski        mean W + log mean exp(-W)                         low by (exp(var W) - 1) / 2n
    (b) second cumulant  var W / 2                                         exact for Gaussian work
    (c) local            sum_k [ mean w_k - weighted mean w_k ]            weights halfway through each switch

and (d), the closed forms of `trap`, `anisotropic` and `stiffness`. `W` is the plain mean over walkers that were
neither resampled nor restarted; the weights are their own, `exp(-W)`. Each is the amount by which the approximate
log-likelihood of a population without weights exceeds the true one.

Reference:
    C. Jarzynski, Phys. Rev. Lett. 78, 2690 (1997); J. Hnybida, S. Verret 2025 (arXiv:2510.03137) for the identity of
    bias and excess work.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp, softmax

from quasistatic._results import Estimate
from quasistatic.errors import InputError

Work = Float[np.ndarray, " n"]
N_BLOCKS = 32
"""Blocks of walkers of the jackknife."""


def from_free_energy(work: Work, free_energy: Estimate | float) -> Estimate:
    """`mean W - dF`, with the errors of both.

    Args:
        work: work of each independent walker, nats.
        free_energy: `dF = F_1 - F_0`, exact or estimated on *other* walkers, nats.
    """
    w = _checked(work)
    known = free_energy if isinstance(free_energy, Estimate) else Estimate(free_energy, 0.0, None, "none", "given")
    if known.value is None:
        return Estimate.withheld(known.reason or "there is no free energy", "mean work less free energy")
    stderr = float(np.hypot(w.std(ddof=1) / np.sqrt(w.size), known.stderr or 0.0))
    return Estimate(float(w.mean()) - known.value, stderr, None, "none", "mean work less free energy")


def from_jarzynski(work: Work) -> Estimate:
    """(a) `mean W + log mean exp(-W)`. Args: work of each independent walker, nats."""
    w = _checked(work)
    log_mean = logsumexp(-w) - np.log(w.size)
    influence = w + np.exp(-w - log_mean)
    stderr = influence.std(ddof=1) / np.sqrt(w.size)
    weight = np.exp(w.min() - w)
    ess = float(weight.sum() ** 2 / (w.size * (weight @ weight)))
    return Estimate(w.mean() + log_mean, stderr, ess, "low", "mean work less Jarzynski free energy")


def from_variance(work: Work) -> Estimate:
    """(b) `var W / 2`. Args: work of each independent walker, nats."""
    w = _checked(work)
    centred = w - w.mean()
    variance = centred @ centred / (w.size - 1)
    stderr = 0.5 * np.sqrt(max(np.mean(centred**4) - variance**2, 0.0) / w.size)
    return Estimate(0.5 * variance, stderr, None, "unknown", "half the variance of work")


def from_updates(work: Float[np.ndarray, "updates n"]) -> Estimate:
    """(c) Sum over updates of plain mean less weighted mean of the work, jackknife over blocks of walkers.

    Args:
        work: work of each walker in each update, nats, shape `(updates, n)` with `n` at least 32.
    """
    w = np.asarray(work, float)
    if w.ndim != 2 or w.shape[1] < N_BLOCKS or not np.isfinite(w).all():
        raise InputError(
            f"works are finite and of shape (updates, walkers), at least {N_BLOCKS} walkers; got {w.shape}"
        )
    halfway = -(np.cumsum(w, 0) - 0.5 * w)
    share = softmax(halfway, axis=1)
    edges = np.linspace(0, w.shape[1], N_BLOCKS + 1).astype(int)

    def without(block: int | None) -> float:
        kept = np.ones(w.shape[1], bool)
        if block is not None:
            kept[edges[block] : edges[block + 1]] = False
        weighted = (share * w)[:, kept].sum(1) / share[:, kept].sum(1)
        return float((w[:, kept].mean(1) - weighted).sum())

    left_out = np.array([without(b) for b in range(N_BLOCKS)])
    stderr = np.sqrt((N_BLOCKS - 1) / N_BLOCKS * ((left_out - left_out.mean()) ** 2).sum())
    return Estimate(without(None), stderr, None, "low", "plain less weighted work", dof=N_BLOCKS - 1)


def _checked(work: Work) -> np.ndarray:
    w = np.asarray(work, float)
    if w.ndim != 1 or w.size < 2 or not np.isfinite(w).all():
        raise InputError(f"work is one finite number per walker, at least two walkers; got shape {w.shape}")
    return w
