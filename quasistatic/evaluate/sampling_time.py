"""Quality against sampling time: what a model generates after `t` sweeps from a fixed start.

A model that was trained by runs of `k` sweeps is at its best at `t = k` and gets worse after, unless `k` exceeds the
relaxation time of what was learned; an equilibrium model gets better and stays. The sharpest single number is the gap
of the mean potential,

    d_s(t) = <u>_(rho_t) - <u>_data ,

which such training makes vanish at `t = k` exactly (for energies linear in their parameters, and wherever a bias or a
last layer scales the energy).

Reference:
    Agoritsas, Catania, Decelle and Seoane, ICML 2023 (arXiv 2301.09428); Decelle, Furtlehner and Seoane, NeurIPS 2021
    (arXiv 2105.13889).
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from quasistatic._keys import named
from quasistatic._types import Key
from quasistatic.energies.base import AbstractEnergy, AbstractTractable
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.evaluate.discrepancies import Reference
from quasistatic.evaluate.exact import mean_reduced
from quasistatic.kernels.base import AbstractKernel
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.process import relax


class Gap(NamedTuple):
    """Mean potential of walkers minus that of the data.

    Attributes:
        times: sweeps, shape `(n,)`.
        value: gap, nats.
        stderr: its standard error over walkers and data.
    """

    times: Int[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]
    stderr: Float[np.ndarray, " n"]

    def crossing(self) -> float | None:
        """Time at which the gap first changes its sign, on a straight line between two times; None without one.

        A change counts when the gap was on one side and comes to be on the other by more than two standard errors each.
        """
        clear = np.flatnonzero(np.abs(self.value) > 2 * self.stderr)
        for before, after in itertools.pairwise(clear):
            if self.value[before] * self.value[after] > 0:
                continue
            sign = np.sign(self.value)
            i = next(i for i in range(before + 1, after + 1) if sign[i] != sign[before])
            share = self.value[i - 1] / (self.value[i - 1] - self.value[i])
            return float(self.times[i - 1] + share * (self.times[i] - self.times[i - 1]))
        return None

    def as_json(self) -> dict[str, Any]:
        """Mapping with times, value, stderr and crossing."""
        return {
            "times": self.times.tolist(),
            "value": self.value.tolist(),
            "stderr": self.stderr.tolist(),
            "crossing": self.crossing(),
        }


class QualityCurve(NamedTuple):
    """Scores of samples by sampling time.

    Attributes:
        gap: mean potential against that of the data; `gap.times` are those of the scores.
        scores: of `Reference.scores`, and `energy_error`, `(<u>_samples / <u>_data - 1)^2`; each shape `(n,)`.
        samples: the last samples, shape `(n_chains, d)`.
    """

    gap: Gap
    scores: dict[str, Float[np.ndarray, " n"]]
    samples: Float[np.ndarray, "n_chains d"]

    def best(self, name: str) -> int:
        """Sampling time at which a score is least."""
        return int(self.gap.times[int(np.nanargmin(self.scores[name]))])


def quality_curve(
    key: Key,
    model: AbstractEnergy,
    kernel: AbstractKernel,
    start: AbstractTractable,
    data: Any,
    times: Sequence[int],
    *,
    beta: float = 1.0,
    step_size: float = 0.01,
    n_chains: int = 1000,
    progress: Callable[[float], None] = lambda fraction: None,
) -> QualityCurve:
    """Scores of independent chains, watched at some times of one run.

    Args:
        key: random key.
        model: energy.
        kernel: kernel, with its schedule where there is one.
        start: law of the start, sampled at `beta = 1`.
        data: true samples `(n, d)`, or a `Reference` to them.
        times: sampling times in sweeps, increasing; 0 is the start itself.
        beta: inverse temperature of the model.
        step_size: for Langevin kernels.
        n_chains: number of chains.
        progress: told the fraction of the sweeps that is done.

    Raises:
        InputError: times that do not increase, or data that do not fit.
    """
    reference = data if isinstance(data, Reference) else Reference(data, n=n_chains)
    x = start.sample_exact(named(key, "start"), 1.0, n_chains)
    u_data, stderr_data = mean_reduced(model, reference.data, beta)
    rows, gaps, last = [], [], np.asarray(x)
    controls = Controls.of(beta=beta, step_size=step_size)
    walk = followed(named(key, "walk"), kernel, Potential(model, controls.beta), x, times, controls)
    for t, ensemble in zip(times, walk, strict=True):
        u, last = np.asarray(ensemble.u, np.float64), np.asarray(ensemble.x)
        gaps.append((u.mean() - u_data, np.hypot(u.std(ddof=1) / np.sqrt(len(u)), stderr_data)))
        energy_error = (u.mean() / u_data - 1) ** 2 if u_data else np.nan
        rows.append(reference.scores(last.reshape(n_chains, -1)) | {"energy_error": float(energy_error)})
        progress(t / max(times[-1], 1))
    value, stderr = np.array(gaps).T
    scores = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return QualityCurve(Gap(np.asarray(times, int), value, stderr), scores, last)


def followed(
    key: Key,
    kernel: AbstractKernel,
    potential: Potential,
    x: Float[Array, "n ..."],
    times: Sequence[int],
    controls: Controls,
) -> Iterator[Ensemble]:
    """Walkers that start at `x` and are looked at at some times. One compiled program, whatever the times.

    Args:
        key: random key.
        kernel: kernel; sweeps of a schedule are counted from `x`.
        potential: the fixed model.
        x: positions, walkers first.
        times: increasing numbers of sweeps since `x`.
        controls: step size; its number of sweeps is not used.

    Raises:
        InputError: times that are negative or do not increase.
    """
    given = np.asarray(times)
    if given.ndim != 1 or not len(given) or given[0] < 0 or (np.diff(given) <= 0).any():
        raise InputError(f"sampling times must be at least 0 and increase, got {list(times)}")
    ensemble = _opened(kernel, potential, jnp.asarray(x))
    now = 0
    for t in given.tolist():
        if t > now:
            step = eqx.tree_at(lambda c: c.n_sweeps, controls, jnp.asarray(t - now, jnp.int32))
            ensemble = _relaxed(jax.random.fold_in(key, t), kernel, potential, ensemble, step)
        now = t
        yield ensemble


def times_around(k: int, longest: int, *, per_octave: int = 2) -> list[int]:
    """Sampling times in equal ratios, `k` among them, from 1 to `longest`."""
    if k < 1 or longest < 1:
        raise InputError(f"k and the longest time are at least 1, got {k} and {longest}")
    exponents = np.arange(-60, 61) / per_octave
    spaced = {int(t) for t in np.round(k * 2.0**exponents) if 1 <= t <= longest}
    return sorted(spaced | {1, longest} | ({k} if k <= longest else set()))


@eqx.filter_jit
def _opened(kernel: AbstractKernel, potential: Potential, x: Array) -> Ensemble:
    return Ensemble.open(kernel, potential, x)


@eqx.filter_jit
def _relaxed(key: Key, kernel: AbstractKernel, potential: Potential, ensemble: Ensemble, controls: Controls) -> Any:
    return relax(key, kernel, potential, ensemble, controls)[0]
