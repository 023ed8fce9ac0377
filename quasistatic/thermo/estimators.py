"""Free-energy differences from work values, on the host in float64.

`work` is the reduced work done on a walker between two models, in nats, shadow work included: minus its log
weight. Free energies are reduced, `F = -log Z`, and `dF = F_1 - F_0 = -log(Z_1 / Z_0)`:

    Jarzynski                  dF = -log mean exp(-W)
    second cumulant            dF = mean W - var W / 2          (exact when work is Gaussian)
    Bennett (BAR)              sum_F f(M + W_F - dF) = sum_R f(-M + W_R + dF), f(x) = 1 / (1 + e^x), M = log n_F / n_R
    thermodynamic integration  dF = int <du/dlambda> dlambda

Standard errors need independence. Walkers that were resampled together are not independent, their groups are: that
is what `group` and `log_z_from_groups` are for. An error that the sample cannot carry is withheld with a reason.

Reference:
    C. Jarzynski, Phys. Rev. Lett. 78, 2690 (1997); C. H. Bennett, J. Comput. Phys. 22, 245 (1976);
    M. R. Shirts et al., Phys. Rev. Lett. 91, 140601 (2003), eqs. 8 and 10;
    B. Efron, C. Stein, Ann. Stat. 9, 586 (1981) (jackknife).
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Array, Float, Int
from scipy.integrate import simpson
from scipy.optimize import brentq
from scipy.special import expit, logsumexp

from quasistatic._results import Estimate
from quasistatic.errors import InputError

MIN_INDEPENDENT = 16
"""Independent groups (or effective walkers) below which no standard error is given."""

Values = Float[np.ndarray, " n"] | Float[Array, " n"]
Groups = Int[np.ndarray, " n"] | Int[Array, " n"]
IntegrationRule = Literal["simpson", "trapezoid"]


def jarzynski(work: Values, *, group: Groups | None = None) -> Estimate:
    """Free-energy difference `-log mean exp(-work)`.

    Args:
        work: Work of each walker, nats; `+inf` is a walker without weight.
        group: Group of each walker. Walkers of different groups are independent; the standard error is then the
            jackknife over groups. Without groups all walkers must be independent.

    Returns:
        `dF` in nats. It is high on average, by about half its variance.

    Raises:
        InputError: If there is no work value, one is `nan` or `-inf`, or `group` has another length.
    """
    log_weight = -_vector(work, "work", allowed="+inf")
    ess = _ess(log_weight)
    if group is None:
        return _from_walkers(log_weight, ess, "Jarzynski").scale(-1.0)
    group = np.asarray(group)
    if group.shape != log_weight.shape:
        raise InputError(f"group must name the group of each of the {log_weight.size} walkers, got shape {group.shape}")
    _, member, n_members = np.unique(group, return_inverse=True, return_counts=True)
    log_sum = np.array([logsumexp(log_weight[member == g]) for g in range(n_members.size)])
    return _jackknife(log_sum, n_members, ess, "Jarzynski, jackknife over groups").scale(-1.0)


def log_z_from_groups(
    log_z_groups: Values,
    *,
    ess: float | None = None,
    bias: str = "low",
    method: str = "mean over independent groups",
) -> Estimate:
    """`log Z = log mean exp(log_z_groups)` with the jackknife standard error over independent groups.

    Args:
        log_z_groups: `log Z` of each group, nats, each `Z` unbiased and every group of the same size.
        ess: Effective sample size of the walkers to be reported, as a fraction; by default that of the groups.
        bias: Direction of the bias to be reported. The logarithm makes it low, by about half the variance.
        method: Method to be reported.

    Returns:
        `log Z` in nats with `n_groups - 1` degrees of freedom; without a standard error below 16 groups.

    Raises:
        InputError: If there is no group, or a value is `nan` or `+inf`.
    """
    log_z = _vector(log_z_groups, "log_z_groups", allowed="-inf")
    ess = _ess(log_z) if ess is None else ess
    return _jackknife(log_z, np.ones(log_z.size), ess, method, bias=bias)


def second_cumulant(work: Values) -> Estimate:
    """Free-energy difference `mean W - var W / 2`, exact for Gaussian work.

    The standard error contains the third and fourth moments of the sample; the error of leaving out higher cumulants
    is not in it, hence the unknown bias.

    Args:
        work: Work of each walker, nats; walkers are independent and equally weighted.

    Raises:
        InputError: If there are fewer than two values, or one is not finite.
    """
    work = _vector(work, "work", n_least=2)
    n = work.size
    centred = work - work.mean()
    variance = centred @ centred / (n - 1)
    skew, kurtosis = np.mean(centred**3), np.mean(centred**4)
    # var(mean) + var(variance) / 4 - cov(mean, variance)
    square = (variance + (kurtosis - variance**2 * (n - 3) / (n - 1)) / 4 - skew) / n
    value, method = work.mean() - variance / 2, "second cumulant"
    if n < MIN_INDEPENDENT:
        return Estimate(value, None, None, "unknown", method, _too_few(n, "walkers"))
    return Estimate(value, np.sqrt(max(square, 0.0)), None, "unknown", method, dof=n - 1)


def bar(
    work_forward: Float[np.ndarray, " n_forward"] | Float[Array, " n_forward"],
    work_reverse: Float[np.ndarray, " n_reverse"] | Float[Array, " n_reverse"],
) -> Estimate:
    """Bennett's acceptance ratio: the most likely `dF` given work in both directions.

    Args:
        work_forward: Work of walkers that start in equilibrium at model 0 and are driven to model 1, nats.
        work_reverse: Work of walkers that start in equilibrium at model 1 and are driven back, nats.

    Returns:
        `dF = F_1 - F_0` in nats; its ESS is the lower one of the two sets of Fermi weights.

    Raises:
        InputError: If a direction has no values, one is `nan` or `-inf`, or all of a direction are `+inf`.
    """
    forward = _vector(work_forward, "work_forward", allowed="+inf")
    reverse = _vector(work_reverse, "work_reverse", allowed="+inf")
    log_ratio = np.log(forward.size / reverse.size)

    def fermi(free_energy: float) -> tuple[np.ndarray, np.ndarray]:
        return expit(free_energy - log_ratio - forward), expit(log_ratio - free_energy - reverse)

    def imbalance(free_energy: float) -> float:
        of_forward, of_reverse = fermi(free_energy)
        return float(of_forward.sum() - of_reverse.sum())

    finite = np.concatenate([forward[np.isfinite(forward)], -reverse[np.isfinite(reverse)]])
    if not np.isfinite(forward).any() or not np.isfinite(reverse).any():
        raise InputError("work in one direction is infinite for every walker; the two models do not overlap")
    low, high, width = float(finite.min()), float(finite.max()), 1.0 + abs(float(log_ratio))
    # The imbalance grows from -n_reverse to n_forward; step out until the root is inside.
    while imbalance(low) > 0 or imbalance(high) < 0:
        low, high, width = low - width, high + width, 2 * width
    value, _ = brentq(imbalance, low, high, xtol=1e-13 * (1.0 + abs(low) + abs(high)), full_output=True)
    ess = [w.sum() ** 2 / (w.size * (w @ w)) for w in fermi(value)]
    n_effective = [e * n for e, n in zip(ess, (forward.size, reverse.size), strict=True)]
    if min(n_effective) < MIN_INDEPENDENT:
        reason = _too_few(min(n_effective), "effective walkers in the overlap of the two directions")
        return Estimate(value, None, min(ess), "unknown", "BAR", reason)
    square = sum((1 / e - 1) / n for e, n in zip(ess, (forward.size, reverse.size), strict=True))
    return Estimate(value, np.sqrt(square), min(ess), "unknown", "BAR")


def thermodynamic_integration(
    lambdas: Values, means: Values, stderrs: Values, *, rule: IntegrationRule = "simpson"
) -> Estimate:
    """Free-energy difference `int <du/dlambda> dlambda` by quadrature over a grid.

    The standard error adds in quadrature the propagated statistical errors and an estimate of the discretisation error:
    the change when every other point is left out, over 15 (Simpson) or 3 (trapezoid), the factor by which an
    error of their order shrinks.

    Args:
        lambdas: Protocol values, strictly monotone.
        means: Mean of `du/dlambda` at each value, nats, from walkers in equilibrium there.
        stderrs: Standard errors of the means, independent of each other.
        rule: Quadrature; grids need not be uniform.

    Returns:
        `dF` in nats; without a standard error when there are too few points to judge the discretisation (3 for the
        trapezoid rule, 5 for Simpson's).

    Raises:
        InputError: If lengths differ, there are fewer than two points, `lambdas` is not strictly monotone, a
            number is not finite, an error is negative, or the rule is unknown.
    """
    if rule not in get_args(IntegrationRule):
        raise InputError(f"unknown integration rule {rule!r}; use one of {', '.join(get_args(IntegrationRule))}")
    points = _vector(lambdas, "lambdas", n_least=2)
    means, stderrs = _vector(means, "means", n_least=2), _vector(stderrs, "stderrs", n_least=2)
    if not points.size == means.size == stderrs.size:
        raise InputError(
            f"lambdas, means and stderrs must have one length, got {points.size}, {means.size} and {stderrs.size}"
        )
    steps = np.diff(points)
    if not (np.all(steps > 0) or np.all(steps < 0)):
        raise InputError(f"lambdas must be strictly increasing or decreasing, got {points.tolist()}")
    if np.any(stderrs < 0):
        raise InputError(f"standard errors cannot be negative, got {stderrs.min():g}")
    weights = _quadrature(points, rule)
    value, method = float(weights @ means), f"thermodynamic integration ({rule})"
    n_least, shrink = (5, 15.0) if rule == "simpson" else (3, 3.0)
    if points.size < n_least:
        reason = f"{points.size} points cannot judge the discretisation error; the {rule} rule needs {n_least}"
        return Estimate(value, None, None, "unknown", method, reason)
    coarse = np.unique(np.append(np.arange(0, points.size, 2), points.size - 1))
    discretisation = (value - float(_quadrature(points[coarse], rule) @ means[coarse])) / shrink
    stderr = math.hypot(float(np.linalg.norm(weights * stderrs)), discretisation)
    return Estimate(value, stderr, None, "unknown", method)


def _from_walkers(log_weight: np.ndarray, ess: float, method: str) -> Estimate:
    """`log mean exp(log_weight)` of independent walkers; standard error to first order."""
    n = log_weight.size
    value = logsumexp(log_weight) - np.log(n)
    if np.isneginf(value):
        return Estimate.withheld("no walker has weight", method)
    if ess * n < MIN_INDEPENDENT:
        return Estimate(value, None, ess, "low", method, _too_few(ess * n, "effective walkers"))
    return Estimate(value, np.sqrt((1 / ess - 1) / (n - 1)), ess, "low", method, dof=n - 1)


def _jackknife(log_sum: np.ndarray, n_members: np.ndarray, ess: float, method: str, *, bias: str = "low") -> Estimate:
    """`log(sum exp(log_sum) / sum n_members)`; standard error from leaving out one group at a time."""
    n_groups = log_sum.size
    value = logsumexp(log_sum) - np.log(n_members.sum())
    if np.isneginf(value):
        return Estimate.withheld("no walker has weight", method)
    if n_groups < MIN_INDEPENDENT:
        return Estimate(value, None, ess, bias, method, _too_few(n_groups, "independent groups"))
    others = ~np.eye(n_groups, dtype=bool)
    left = logsumexp(np.broadcast_to(log_sum, others.shape), axis=1, b=others) - np.log(others @ n_members)
    if not np.isfinite(left).all():
        return Estimate(value, None, ess, bias, method, "a single group carries all the weight")
    stderr = np.sqrt((n_groups - 1) / n_groups * np.sum((left - left.mean()) ** 2))
    return Estimate(value, stderr, ess, bias, method, dof=n_groups - 1)


def _quadrature(points: np.ndarray, rule: str) -> np.ndarray:
    """Weights of the means in the integral."""
    integrate = simpson if rule == "simpson" else np.trapezoid
    return np.asarray(integrate(np.eye(points.size), x=points))


def _ess(log_weight: np.ndarray) -> float:
    """Effective sample size as a fraction; 0 when none has weight."""
    if np.all(np.isneginf(log_weight)):
        return 0.0
    w = np.exp(log_weight - log_weight.max())
    return float(w.sum() ** 2 / (w.size * (w @ w)))


def _too_few(n: float, what: str) -> str:
    """Reason for a standard error that is withheld."""
    return f"{n:.3g} {what} cannot carry a standard error; at least {MIN_INDEPENDENT} are needed"


def _vector(x: Any, name: str, *, n_least: int = 1, allowed: str = "") -> np.ndarray:
    """Float64 vector of numbers, finite but for one allowed infinity."""
    x = np.asarray(x, np.float64)
    if x.ndim != 1 or x.size < n_least:
        raise InputError(f"{name} must be a vector of at least {n_least} numbers, got shape {x.shape}")
    is_good = np.isfinite(x) | (x == float(allowed) if allowed else False)
    if not is_good.all():
        row = int(np.argmin(is_good))
        also = f" or {allowed}" if allowed else ""
        raise InputError(
            f"{name} must be finite{also}, got {x[row]} at index {row}; {np.sum(~is_good)} of {x.size} are not"
        )
    return x
