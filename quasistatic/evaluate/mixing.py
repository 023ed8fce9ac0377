"""How well chains mix, from what was recorded of them.

A *trace* has one row per record and one column per chain. Three questions have different answers: how long one chain
remembers (autocorrelation time), whether chains that started elsewhere agree (split R-hat), and whether they went
everywhere (occupation of modes, switches between them). Single-unit flips answer none of them: a chain can flip a
twentieth of its units per sweep and never leave its mode; but a chain that flips nothing at all answers everything.

Reference:
    Madras and Sokal, J. Stat. Phys. 50, 109 (1988) (window and error); Vehtari, Gelman, Simpson, Carpenter and
    Buerkner, Bayesian Anal. 16, 667 (2021) (ranks); Geyer, Stat. Sci. 7, 473 (1992) (monotone sequence).
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import ndtri
from scipy.stats import rankdata

from quasistatic._results import Estimate
from quasistatic.errors import InputError

WINDOW = 5.0
"""Autocorrelations are summed up to this many autocorrelation times."""
N_TIMES = 20
"""Records, in autocorrelation times, below which a time is only a lower bound."""

Trace = Float[Array | np.ndarray, "n_records n_chains"]


def autocorrelation(trace: Trace) -> Float[np.ndarray, " n_records"]:
    """Autocorrelation at all lags, from fluctuations about the mean of *all* chains.

    A mean per chain would hide that chains disagree. A trace that never changes is fully correlated: all ones.
    """
    x = _checked(trace)
    n = len(x)
    centred = x - x.mean()
    if not np.any(centred):
        return np.ones(n)
    spectrum = np.fft.rfft(centred, 2 * n, axis=0)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[:n].mean(1) / (n - np.arange(n))
    return covariance / covariance[0]


def autocorrelation_time(trace: Trace, *, window: float = WINDOW) -> Estimate:
    """Integrated autocorrelation time `tau = 1 + 2 sum_t rho(t)`, in records, with a self-consistent window.

    The sum ends at the first lag `W >= window max(tau(W), 1)`. Its relative variance is `2 (2 W + 1) / N` with
    `N` records in all. `tau` records are worth one independent one; white noise has 1.

    Args:
        trace: observable, records first; leave the burn-in out.
        window: `W` in autocorrelation times.

    Returns:
        `tau` with standard error. Its bias is `low`, with a reason, when the trace is shorter than 20 times `tau` or
        the window never closed.
    """
    x = _checked(trace)
    method = f"window of {window:g} autocorrelation times"
    sums = 2 * np.cumsum(autocorrelation(x)) - 1
    closed = np.arange(len(sums)) >= window * np.maximum(sums, 1.0)
    end = int(np.argmax(closed)) if closed.any() else len(sums) - 1
    tau = max(float(sums[end]), 1.0 / x.size)
    stderr = tau * math.sqrt(2 * (2 * end + 1) / x.size)
    if not closed.any() or len(x) < N_TIMES * tau:
        reason = f"{len(x)} records are fewer than {N_TIMES} autocorrelation times: the time is at least this long"
        return Estimate(tau, stderr, None, "low", method, reason)
    return Estimate(tau, stderr, None, "none", method)


def split_r_hat(trace: Trace) -> float:
    """Rank-normalised split R-hat: 1 when all halves of all chains look alike, in location *and* in spread.

    The larger of the values of the ranks and of the ranks of distances from the median. Above 1.01 the chains have not
    come together. Chains of which each stays at its own value give infinity; one common value gives 1.

    Args:
        trace: observable, records first; at least 4 records. Include chains of different starts.
    """
    x = _split(_checked(trace, n_least=4))
    return max(_r_hat(_normal_scores(x)), _r_hat(_normal_scores(np.abs(x - np.median(x)))))


def bulk_ess(trace: Trace) -> float:
    """Effective number of independent records among all, from ranks, split chains and Geyer's monotone sequence.

    At most `N log10 N` of `N` records (chains may be anticorrelated); few where chains disagree.

    Args:
        trace: observable, records first; at least 8 records.
    """
    return _ess(_normal_scores(_split(_checked(trace, n_least=8))))


class Occupancy(NamedTuple):
    """Occupation of modes.

    Args:
        fraction: share of records in each mode.
        stderr: standard error of each, from the spread over chains; NaN for one chain.
        switch_rate: changes of mode per chain and record.
        n_switches: how many were seen.
        n_steps: steps between records in which one could have been seen.
    """

    fraction: Float[np.ndarray, " n_modes"]
    stderr: Float[np.ndarray, " n_modes"]
    switch_rate: float
    n_switches: int
    n_steps: int


def occupancy(modes: Int[Array | np.ndarray, "n_records n_chains"], n_modes: int) -> Occupancy:
    """How often each mode was visited and how often chains changed it.

    Args:
        modes: mode of every chain at every record, from 0.
        n_modes: number of modes.

    Raises:
        InputError: fewer than two records, or a mode that is not from 0 to `n_modes - 1`.
    """
    modes = np.asarray(modes)
    if modes.ndim != 2 or len(modes) < 2 or modes.min() < 0 or modes.max() >= n_modes:
        raise InputError(f"modes must be 0 to {n_modes - 1} at two records or more, got shape {modes.shape}")
    per_chain = (modes[:, :, None] == np.arange(n_modes)).mean(0)
    n = per_chain.shape[0]
    stderr = per_chain.std(0, ddof=1) / math.sqrt(n) if n > 1 else np.full(n_modes, math.nan)
    changed = modes[1:] != modes[:-1]
    return Occupancy(per_chain.mean(0), stderr, float(changed.mean()), int(changed.sum()), changed.size)


def poisson_upper(count: int, level: float = 0.95) -> float:
    """Upper confidence limit of the mean of a Poisson count (3.0 for none seen, at 95 %)."""
    from scipy.stats import chi2

    return float(chi2.ppf(level, 2 * (count + 1)) / 2)


class Drift(NamedTuple):
    """Straight line through a series.

    Args:
        slope: per step.
        stderr: standard error of the slope, widened by the autocorrelation of the residuals.
        r_squared: share of the variance that the line explains.
    """

    slope: float
    stderr: float
    r_squared: float


def linear_drift(
    values: Float[Array | np.ndarray, " n"], steps: Float[Array | np.ndarray, " n"] | None = None
) -> Drift:
    """Test of a steady drift, as parameters show it whose negative phase is frozen.

    Args:
        values: series, such as a norm of the parameters.
        steps: where it was recorded (default: 0, 1, ...).

    Raises:
        InputError: fewer than 8 values, or lengths that differ.
    """
    y = np.asarray(values, np.float64)
    t = np.arange(len(y), dtype=np.float64) if steps is None else np.asarray(steps, np.float64)
    if y.ndim != 1 or len(y) < 8 or t.shape != y.shape or not np.ptp(t):
        raise InputError(f"a drift needs at least 8 values at different steps, got shapes {y.shape} and {t.shape}")
    t, y = t - t.mean(), y - y.mean()
    slope = float(t @ y / (t @ t))
    residual = y - slope * t
    total = float(y @ y)
    if not np.any(residual):
        return Drift(slope, 0.0, 1.0 if total else 0.0)
    tau = max(autocorrelation_time(residual[:, None]).value or 1.0, 1.0)
    stderr = math.sqrt(tau * float(residual @ residual) / (len(y) - 2) / float(t @ t))
    return Drift(slope, stderr, 1 - float(residual @ residual) / total)


def still_run(flip_rates: Float[Array | np.ndarray, " n"]) -> int:
    """Records at the end of a run in which no unit of any chain changed: the detector of frozen chains."""
    moved = np.flatnonzero(np.asarray(flip_rates) > 0)
    return len(np.asarray(flip_rates)) - (int(moved[-1]) + 1 if len(moved) else 0)


def _checked(trace: Trace, *, n_least: int = 2) -> np.ndarray:
    x = np.asarray(trace, np.float64)
    if x.ndim != 2 or len(x) < n_least or x.shape[1] < 1:
        raise InputError(f"a trace has records and chains, at least {n_least} records; got shape {x.shape}")
    if not np.isfinite(x).all():
        raise InputError("the trace holds NaN or infinite values; the chains have diverged")
    return x


def _split(x: np.ndarray) -> np.ndarray:
    """Halves of chains as chains (the middle record of an odd number is left out)."""
    half = len(x) // 2
    return np.concatenate([x[:half], x[-half:]], axis=1)


def _normal_scores(x: np.ndarray) -> np.ndarray:
    """Normal quantiles of the ranks among all records."""
    ranks = rankdata(x, method="average").reshape(x.shape)
    return ndtri((ranks - 0.375) / (x.size + 0.25))


def _r_hat(x: np.ndarray) -> float:
    n = len(x)
    within = float(x.var(0, ddof=1).mean())
    between = n * float(x.mean(0).var(ddof=1)) if x.shape[1] > 1 else 0.0
    if within <= 1e-24:
        return 1.0 if between <= 1e-24 else math.inf
    return math.sqrt(((n - 1) / n * within + between / n) / within)


def _ess(x: np.ndarray) -> float:
    n, m = x.shape
    centred = x - x.mean(0)
    spectrum = np.fft.rfft(centred, 2 * n, axis=0)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[:n] / n
    within = float(covariance[0].mean() * n / (n - 1))
    total = (n - 1) / n * within + (float(x.mean(0).var(ddof=1)) if m > 1 else 0.0)
    if total <= 1e-24:
        return 1.0
    rho = 1 - (within - covariance.mean(1) * n / (n - 1)) / total
    rho[0] = 1.0
    pairs = rho[: 2 * (n // 2)].reshape(-1, 2).sum(1)
    ends = np.flatnonzero(pairs < 0)
    pairs = np.minimum.accumulate(pairs[: int(ends[0]) if len(ends) else len(pairs)])
    tau = max(-1 + 2 * float(pairs.sum()), 1 / math.log10(n * m))
    return n * m / tau
