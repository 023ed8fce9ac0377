"""What a run has dissipated: excess work, the likelihood it feigns, and the least work for the distance travelled.

Integrating the gradient of walkers that lag gives an approximate log-likelihood. Its increments are those of the data
and of the walkers that made the gradient, so that, exactly, for any kernel, speed, population and optimiser,

    approximate - true log-likelihood  =  W - dF  =  excess work                                   [nats]

with `W` the plain mean of the walkers' work in each switch before any resampling or restart, and `dF = -(log Z_t -
log Z_0)`, here from the auditor. With Jarzynski weights the same walkers give `log Z` itself, and no bias.

Least work is the larger of two bounds: the length `L` of the path in the Fisher metric as `L^2` over the number of
updates (walkers that relax completely in each of them could do no better, in any timing; first order in the distance
between the ends of two chunks, where the length is taken), and, for plain Langevin walkers, the transport of their mean
and covariance, `W_2^2 / (M tau)` (small steps, equilibrium start).

A start out of equilibrium may gain work, down to minus `D(0) = KL(law of the start | model)`, which
`start_divergence` shows beside the excess work. It is zero for persistent walkers, whose books open at a law they were
drawn from exactly. Where walkers are restarted, every start has a `D(0)`, and excess work is a sum over starts.

`predicted_work` is what linear response makes of the fluctuations of the work (`thermo.response`) plus `feedback_work`:
the noise of finitely many walkers moves the parameters to where it looks likely, and does work on them that no slowness
avoids (`train.feedback`; more walkers do). `predicted_ratio` is the sum over the measured excess work. It is near 1
while training is slow and walkers reach all they should. Below 0.7 walkers dissipate in modes that their fluctuations
do not show (barriers), above 1.4 updates are too large for it: schedules that build on the metric then lose their
warrant.

Reference:
    Hnybida, Verret 2025 (arXiv:2510.03137), abstract, for bias = excess work; bounds: `dissipation.bounds`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from quasistatic._results import Estimate
from quasistatic._types import Sample, Scalar, ScalarLike
from quasistatic.dissipation import bounds
from quasistatic.energies.base import AbstractEnergy
from quasistatic.kernels import Langevin
from quasistatic.regulators import Restart, ShortRun
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.ledger import Ledger
from quasistatic.train.state import TrainState
from quasistatic.train.trainer import Trainer

COVARIANCE_SIZE = 64
"""Sample size up to which the transport of the covariance is counted, not only that of the mean."""

DISSIPATED = (
    *("excess_work", "excess_work_stderr", "ll_approximate", "minimal_work", "efficiency"),
    *("predicted_work", "feedback_work", "predicted_ratio", "relaxation"),
    *("start_divergence", "start_divergence_stderr"),
)
"""Columns of metrics.csv, and entries of the final numbers of a run, about dissipation."""

SLOW_DRIVING = (0.7, 1.4)
"""Predicted over measured excess work of a run in the regime of linear response."""

Travelled = Callable[[TrainState], float | None]
"""Least work for what the walkers have travelled so far, or None where there is no such bound."""


Starts = Callable[[TrainState, float, Estimate], Estimate]
"""`D(0)` of a walker that starts now, from state, mean potential of the training rows and `log Z`."""

N_STARTS = 1000
"""Starts that the mean potential of a law of starts is taken over."""


def excess_work(ledger: Ledger, log_z: Estimate, log_z_start: float, *, n_groups: int = 1) -> Estimate:
    """Mean work of the walkers that made the gradients less the free-energy change.

    Args:
        ledger: of the driver.
        log_z: `log Z` of the present parameters, from the auditor.
        log_z_start: `log Z` of the law at which the books were opened.
        n_groups: groups of the driver; from 16 on their spread gives the error, else that of the walkers.

    Returns:
        Excess work, nats. The standard error contains that of `log Z` and that of the mean over walkers, which
        resampling makes a little too small unless there are groups.
    """
    method = "mean work of each switch less the auditor's free-energy change"
    if log_z.value is None:
        return Estimate.withheld(log_z.reason or "there is no log Z", method)
    work = np.asarray(ledger.switch_work.value, np.float64)
    independent = work.reshape(n_groups, -1).mean(1) if n_groups >= 16 else work
    spread = independent.std(ddof=1) / math.sqrt(independent.size) if independent.size > 1 else math.nan
    stderr = math.hypot(spread, log_z.stderr) if log_z.stderr is not None and math.isfinite(spread) else None
    return Estimate(float(work.mean()) + log_z.value - log_z_start, stderr, None, "low", method)


def dissipation_row(
    state: TrainState,
    log_z: Estimate,
    *,
    log_z_start: float,
    mean_potential: float,
    is_current: bool,
    is_fused: bool,
    has_model_work: bool,
    travelled: Travelled,
    starts: Starts,
) -> dict[str, Any]:
    """Columns of metrics.csv about dissipation; None where a number is not available.

    Args:
        state: present state.
        log_z: live `log Z`.
        log_z_start: that of the law at which the books were opened.
        mean_potential: mean reduced potential of the training rows.
        is_current: whether `log_z` belongs to the present parameters.
        is_fused: whether the kernel books work and shadow work as one number; there is then no approximate likelihood.
        has_model_work: whether the driver's work is that of the model; if not, nothing is made of it.
        travelled: bound from what the walkers travelled.
        starts: divergence of new starts from the model.
    """
    started = starts(state, mean_potential, log_z if is_current else Estimate.withheld("of another step", "anchors"))
    of_starts = {"start_divergence": started.value, "start_divergence_stderr": started.stderr}
    if not has_model_work:
        return dict.fromkeys(DISSIPATED) | of_starts
    ledger = state.ledger
    found = excess_work(ledger, log_z, log_z_start, n_groups=state.ensemble.n_groups)
    excess = found.value if is_current else None
    work = float(np.mean(np.asarray(ledger.switch_work.value, np.float64)))
    least = bounds.length_work(float(ledger.length), max(int(state.step), 1))
    least = max(least, travelled(state) or 0.0)
    response = ledger.response
    flattery = None if state.feedback is None else -float(state.feedback.total)
    predicted = None if response is None else float(response.excess_work) + (flattery or 0.0)
    predicted = predicted if predicted is not None and math.isfinite(predicted) else None
    # a measured value within two standard errors of zero has no ratio
    is_measured = excess is not None and found.stderr is not None and excess > 2 * found.stderr
    return {
        "excess_work": excess,
        "excess_work_stderr": found.stderr if is_current else None,
        "ll_approximate": None if is_fused else work - mean_potential - log_z_start,
        "minimal_work": least,
        "efficiency": None if excess is None else bounds.efficiency(least, excess),
        "predicted_work": predicted,
        "feedback_work": flattery if flattery is not None and math.isfinite(flattery) else None,
        "predicted_ratio": predicted / excess if predicted is not None and excess is not None and is_measured else None,
        "relaxation": float(response.relaxation) if response is not None and float(response.jumps) > 0 else None,
        **of_starts,
    }


def is_slow_driving(ratio: float, stderr: float = 0.0) -> bool | None:
    """Whether predicted over measured excess work lies in `SLOW_DRIVING`; None within two standard errors of an end."""
    low, high = SLOW_DRIVING
    if min(abs(ratio - low), abs(ratio - high)) < 2 * stderr:
        return None
    return bool(low <= ratio <= high)


def divergence_of_starts(trainer: Trainer, train: np.ndarray, is_discrete: bool) -> Starts:
    """`D(0) = <u_theta - log(1/p_0)>_0 + log Z` of the law `p_0` that the driver's walkers start from, nats.

    Args:
        trainer: regulators that restart walkers, if any.
        train: training rows, whose empirical law contrastive divergence starts from.
        is_discrete: whether the model's samples are; else no set of rows has a finite divergence from it.

    Returns:
        Function of state, mean potential of the training rows and `log Z`. Its standard error is that of `log Z` and,
        where short runs start, of a mean over `N_STARTS` starts.
    """
    method = "entropy of the starts and their mean potential"
    if any(isinstance(regulator, Restart) and regulator.source == "data" for regulator in trainer.regulators):
        if not is_discrete:
            return lambda state, potential, log_z: Estimate.withheld(
                "rows have no density, and continuous models nothing else", method
            )
        counts = np.unique(train.reshape(len(train), -1), axis=0, return_counts=True)[1]
        entropy = float(np.log(len(train)) - np.sum(counts * np.log(counts)) / len(train))
        return lambda state, potential, log_z: log_z + (potential - entropy)
    for i, regulator in enumerate(trainer.regulators):
        if isinstance(regulator, ShortRun):
            return lambda state, potential, log_z, i=i: _of_short_runs(state, state.regulator_states[i], log_z)
    return lambda state, potential, log_z: Estimate(0.0, 0.0, None, "none", method)


def _of_short_runs(state: TrainState, law: Any, log_z: Estimate) -> Estimate:
    if log_z.value is None:
        return log_z
    gaps = np.asarray(_gaps(state.model, state.controls.beta, law, state.ensemble.x[0]), np.float64)
    spread = gaps.std(ddof=1) / math.sqrt(N_STARTS)
    value = float(gaps.mean()) + log_z.value - float(law.log_partition(1.0))
    return Estimate(value, math.hypot(spread, log_z.stderr or 0.0), None, log_z.bias, log_z.method)


@eqx.filter_jit
def _gaps(model: AbstractEnergy, beta: ScalarLike, law: Any, like: Sample) -> Float[Array, " n"]:
    """`u_theta - u_0` at starts, the same ones in every call."""
    x = law.sample_exact(jax.random.key(0), 1.0, N_STARTS)

    def gap(row: Sample) -> Scalar:
        return model.reduced(row.reshape(like.shape).astype(like.dtype), beta) - law.reduced(row, 1.0)

    return jax.vmap(gap)(x)


def travel(trainer: Trainer, start: Ensemble) -> Travelled:
    """The transport bound of a run: walkers of a plain Langevin kernel that no regulator moves elsewhere.

    Args:
        trainer: kernel and regulators.
        start: the driver when its books were opened.
    """
    kernel: Any = trainer.kernel
    is_plain = isinstance(kernel, Langevin) and kernel.box is None and kernel.clip is None
    if not is_plain or trainer.regulators:
        return lambda state: None
    scale = 1 / np.sqrt(np.broadcast_to(np.asarray(kernel.preconditioner, np.float64), start.x.shape[1:]).reshape(-1))
    first = _moments(start, scale)

    def least(state: TrainState) -> float | None:
        time = float(state.ledger.time)
        if time <= 0:
            return None
        mean, covariance = _moments(state.ensemble, scale)
        if covariance is None or first[1] is None:
            distance = float(((mean - first[0]) ** 2).sum())
        else:
            distance = bounds.transport_distance(first[0], first[1], mean, covariance)
        return bounds.transport_work(distance, 1.0, time)

    return least


def _moments(ensemble: Ensemble, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Mean and covariance of walkers in coordinates of unit mobility; no covariance of large samples."""
    x = np.asarray(ensemble.x, np.float64).reshape(ensemble.n_walkers, -1) * scale
    if x.shape[1] > COVARIANCE_SIZE or ensemble.n_walkers < 2 * x.shape[1]:
        return x.mean(0), None
    return x.mean(0), np.atleast_2d(np.cov(x.T))
