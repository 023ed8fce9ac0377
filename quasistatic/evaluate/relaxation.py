"""Relaxation and mixing times of a sampler, and whether its walkers stay where they are.

* `stays`: walkers moved on at a fixed model; a mean potential that drifts away says that they were not in equilibrium.
* `mixing_time`: chains forget: the overlap of `x_t` with `x_(t/2)` is that of independent chains.
* `visible_autocorrelation`: integrated and exponential time of the visible fluctuations of equilibrated chains.

Reference:
    Decelle, Furtlehner and Seoane, NeurIPS 2021 (arXiv 2105.13889); the criterion of `t` against `t/2` is that of
    adabmDCA (Muntoni et al., BMC Bioinformatics 22, 2021); Sokal, lecture notes (1997) for the window.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from quasistatic._types import Key
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.evaluate.sampling_time import Gap, followed
from quasistatic.kernels.base import AbstractKernel
from quasistatic.thermo.controls import Controls

SIGMAS = 5.0
"""Drift of the mean potential, in standard errors, that counts as one."""
FARTHEST = 0.3
"""And in standard deviations of the potential among walkers: less is real, but harmless."""


class Stay(NamedTuple):
    """What became of walkers that were moved on at a fixed model.

    Attributes:
        path: mean potential minus that of the data by sweeps since the start, nats; its errors are of the walkers.
        drift: mean change of the potential of a walker over the whole time, nats.
        stderr: its standard error (every walker against itself).
        relaxation: sweeps after which half of the drift was done, None without a drift.
        is_settled: whether the second half of the time changed nothing more.
        spread: standard deviation of the potential among the walkers at the end, nats.
    """

    path: Gap
    drift: float
    stderr: float
    relaxation: float | None
    is_settled: bool
    spread: float

    @property
    def has_moved(self) -> bool:
        """Whether the walkers drifted away: they were not in equilibrium."""
        return abs(self.drift) > SIGMAS * self.stderr and abs(self.drift) > FARTHEST * self.spread

    def warning(self, k: int, *, start: str | None = "the same start") -> str | None:
        """One sentence for people, None when the walkers stay.

        Args:
            k: sweeps of an update.
            start: where these sweeps began; None for persistent walkers.
        """
        if not self.has_moved:
            return None
        last = int(self.path.times[-1])
        half = f"half of it within {self.relaxation:.0f} sweeps" if self.relaxation is not None else "not at once"
        end = "it has settled by then" if self.is_settled else f"relaxation takes longer than {last:,} sweeps"
        moved = (
            f"{last:,} more change their mean potential by {self.drift:+.3g} ± {self.stderr:.2g} nats, {half}; {end}"
        )
        if start is None:
            return (
                f"the walkers are not in equilibrium with the model: with k = {k} sweeps per update they lag behind; "
                f"{moved}. Raise kernel.n_sweeps, lower optimiser.rate, or use weights (training.method = 'jarzynski')"
            )
        return (
            f"after k = {k} sweeps the walkers are not in equilibrium: {moved}. Sample with {k} sweeps from {start}, "
            "not with longer runs"
        )


def stays(
    key: Key,
    kernel: AbstractKernel,
    potential: Potential,
    x: Float[Array, "n ..."],
    longest: int,
    controls: Controls,
    *,
    u_data: float = 0.0,
    weights: Float[np.ndarray, " n"] | None = None,
) -> Stay:
    """Moves walkers on at a fixed model and says whether their mean potential stays.

    Args:
        key: random key.
        kernel: kernel, *without* a schedule: what is asked is whether its stationary law was reached.
        potential: the model.
        x: walkers to follow, at least 2; they are copied.
        longest: sweeps.
        controls: step size.
        u_data: mean potential of the data, for the path.
        weights: of the walkers, which they keep; None: equal ones.

    Raises:
        InputError: fewer than 2 walkers or sweeps.
    """
    if longest < 2 or len(x) < 2:
        raise InputError(f"at least 2 walkers are followed for at least 2 sweeps, got {len(x)} for {longest}")
    times = sorted({0, longest, *(longest // 2**j for j in range(1, 12) if longest // 2**j)})
    u = np.array([np.asarray(e.u, np.float64) for e in followed(key, kernel, potential, x, times, controls)])
    w = np.full(len(x), 1 / len(x)) if weights is None else np.asarray(weights, np.float64) / np.sum(weights)
    change = u - u[0]
    drift, stderr = _mean(change, w)
    late, late_stderr = _mean(u[-1] - u[times.index(longest // 2)], w)
    mean, error = _mean(u, w)
    spread = float(np.sqrt(np.sum(w * (u[-1] - mean[-1]) ** 2)))
    relaxation = None
    if abs(drift[-1]) > max(SIGMAS * stderr[-1], FARTHEST * spread):
        share = drift / drift[-1]
        i = int(np.argmax(share >= 0.5))
        before = share[i - 1]
        relaxation = float(times[i - 1] + (0.5 - before) / (share[i] - before) * (times[i] - times[i - 1]))
    path = Gap(np.asarray(times), mean - u_data, error)
    is_settled = bool(abs(late) <= SIGMAS * late_stderr)
    return Stay(path, float(drift[-1]), float(stderr[-1]), relaxation, is_settled, spread)


def _mean(values: Float[np.ndarray, "*times n"], w: Float[np.ndarray, " n"]) -> tuple[Any, Any]:
    """Weighted mean over walkers (weights that sum to 1) and its standard error."""
    mean = values @ w
    of_sample = 1 - np.sum(w**2)  # 1 - 1/n: what a variance about the sample's own mean lacks
    spread = ((values - mean[..., None]) ** 2) @ w**2
    return mean, np.sqrt(spread / of_sample) if of_sample > 0 else np.full_like(spread, np.nan)


def mixing_time(
    key: Key,
    kernel: AbstractKernel,
    potential: Potential,
    x: Float[Array, "n d"],
    longest: int,
    controls: Controls,
    *,
    within: float = 0.1,
) -> int | None:
    """Sweeps after which chains have forgotten where they were, to a factor of 2.

    For `t = 2, 4, 8, ...` the mean overlap of every chain's `x_t` with its own `x_(t/2)` is compared with that of
    different chains at `t`; `t/2` is returned when they agree within `within` combined standard deviations of single
    overlaps. Overlaps are those of deviations from the mean over chains.

    Args:
        key: random key.
        kernel: kernel.
        potential: the model.
        x: starts of at least 16 chains, flat.
        longest: give up after so many sweeps (rounded down to a power of 2); None is then returned.
        controls: step size.
        within: tolerance.
    """
    if len(x) < 16 or longest < 2:
        raise InputError(f"at least 16 chains and 2 sweeps are needed, got {len(x)} and {longest}")
    times = [2**j for j in range(int(np.log2(longest)) + 1)]
    before = None
    for t, ensemble in zip(times, followed(key, kernel, potential, x, times, controls), strict=True):
        now = np.asarray(ensemble.x, np.float64).reshape(len(x), -1)
        now = now - now.mean(0)
        if before is not None:
            own, other = (now * before).mean(1), (now * np.roll(now, 1, axis=0)).mean(1)
            if abs(own.mean() - other.mean()) <= within * np.hypot(own.std(ddof=1), other.std(ddof=1)):
                return t // 2
        before = now
    return None


class Autocorrelation(NamedTuple):
    """Memory of equilibrated chains.

    Attributes:
        values: `C(t)`, `C(0) = 1`.
        integrated: `1/2 + sum_t C(t)` up to the window, sweeps.
        exponential: from the slope of `log C` where it exceeds 0.05, sweeps; None when it is never above.
    """

    values: Float[np.ndarray, " n_times"]
    integrated: float
    exponential: float | None


def visible_autocorrelation(series: Any, *, window: float = 6.0) -> Autocorrelation:
    """`C(t) = sum_i <(x_i(s) - m_i)(x_i(s + t) - m_i)> / sum_i <(x_i - m_i)^2>` over chains and times.

    Args:
        series: states by time, shape `(n_times, n_chains, d)`, of chains in equilibrium.
        window: the sum stops at the first `t >= window * integrated`.
    """
    x = np.asarray(series, np.float64)
    if x.ndim != 3 or len(x) < 4:
        raise InputError(f"states by time, chain and coordinate are needed (at least 4 times), got shape {x.shape}")
    x = x - x.mean((0, 1))
    n = len(x)
    padded = np.fft.rfft(x, 2 * n, axis=0)
    covariance = np.fft.irfft(np.abs(padded) ** 2, axis=0)[:n].sum((1, 2)) / np.arange(n, 0, -1)
    if covariance[0] == 0:
        raise InputError("the chains never move; there is no time to measure")
    values = covariance / covariance[0]
    sums = np.cumsum(values) - 0.5
    inside = np.flatnonzero(np.arange(n) >= window * sums)
    integrated = float(sums[inside[0]] if len(inside) else sums[-1])
    above = np.flatnonzero(values < 0.05)
    last = above[0] if len(above) else n
    exponential = None
    if last > 1:
        t = np.arange(last)
        slope = float(np.polyfit(t, np.log(values[:last]), 1)[0])
        exponential = -1 / slope if slope < 0 else None
    return Autocorrelation(values, integrated, exponential)
