"""Anchors: the live likelihood of models that move too fast to be audited at every update.

Where one update costs an auditor most of its weights (large RBMs at useful rates), following the training path is
hopeless, and its failure is silent. A coarser path is audited instead. At stored ages, and whenever nothing is being
audited, the model is copied; independent walkers are annealed to the copy from a law with known Z, a few temperatures
after every chunk of updates, while training goes on. The result is `log Z` *of that copy*: rows of metrics say which
step it belongs to, and likelihoods are those of the copied parameters, never of a mixture of two models.

Temperatures are placed at constant standard deviation of work, measured by a short pilot along the same path, and as
many are taken as bring the variance of the whole work near a target. The pilot and the final walkers are independent,
so the schedule does not bias the result.

A number is withheld, and the next anchor gets more temperatures, when a step of the path cost a group more effective
walkers than it can carry, or when the groups disagree so much that a quarter of them carries the mean.

Reference:
    R. M. Neal, Stat. Comput. 11, 125 (2001) (annealed importance sampling); R. Salakhutdinov and I. Murray, ICML 2008.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from quasistatic._keys import named
from quasistatic._random import fold
from quasistatic._results import Estimate
from quasistatic._types import ScalarLike
from quasistatic.energies.base import AbstractEnergy, AbstractTractable
from quasistatic.energies.pairwise import Pairwise
from quasistatic.energies.potential import Potential
from quasistatic.energies.rbm import RBM
from quasistatic.errors import InputError
from quasistatic.evaluate.paths import base_at, log_partition_start, path_at, switch_along
from quasistatic.run import read_anchors
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.estimators import log_z_from_groups
from quasistatic.thermo.process import relax
from quasistatic.train.checkpoint import write_text

METHOD = "anchored auditor (annealed importance sampling)"
N_PILOT = 32
"""Temperatures of the pilot."""
N_MIN = 16
"""Fewest temperatures of an anchor."""


@dataclass(frozen=True)
class Anchors:
    """How the coarse path is audited.

    Args:
        n_groups: independent groups, at least 16 for a standard error.
        n_walkers: walkers per group.
        max_temperatures: most temperatures of one anchor.
        variance: variance of a walker's work that the number of temperatures aims at.
        is_averaged: audit the averaged parameters where the run keeps them (they are what is used in the end, and while
            the rate is high their landscape is far smoother than that of the raw ones), else the raw ones.
        share: cost of the anchors as a fraction of the cost of the updates; what does not fit is done later.
    """

    n_groups: int = 16
    n_walkers: int = 16
    max_temperatures: int = 2000
    variance: float = 1.0
    share: float = 0.15
    is_averaged: bool = True

    def __post_init__(self) -> None:
        if self.n_groups < 16 or self.n_walkers < 2:
            raise InputError(
                f"anchors need at least 16 groups of 2 walkers, got {self.n_groups} groups of {self.n_walkers}"
            )
        if self.max_temperatures < N_PILOT:
            raise InputError(f"anchors need max_temperatures >= {N_PILOT}, got {self.max_temperatures}")
        if not self.variance > 0 or not self.share > 0:
            raise InputError(f"variance and share must be positive, got {self.variance} and {self.share}")


class Job(eqx.Module):
    """Walkers on their way from the base to a copied model.

    Args:
        model: the copy.
        beta: its inverse temperature.
        ensemble: walkers under the law at `fractions[position]`.
        fractions: `s_0 = 0, ..., s_n = 1`, padded with ones.
        n: number of temperatures to go through.
        position: number of temperatures gone through.
        step: training step of the copy.
        spread: standard deviation of the work of every temperature, nats.
        lowest: smallest effective sample size that one temperature left of a group, in walkers.
    """

    model: AbstractEnergy
    beta: ScalarLike
    ensemble: Ensemble
    fractions: Float[Array, " m"]
    n: Int[Array, ""]
    position: Int[Array, ""]
    step: Int[Array, ""]
    spread: Float[Array, " m"]
    lowest: Float[Array, ""]

    @property
    def n_left(self) -> int:
        return int(self.n) - int(self.position)


@dataclass(frozen=True)
class Anchor:
    """A finished audit.

    Args:
        step: training step of the audited parameters.
        ready_at: training step at which the result was there.
        log_z: `log Z` of these parameters.
        ll_train: their mean log-likelihood of the training rows.
        ll_heldout: likewise of the held-out rows.
        ess: ESS fraction of the walkers at the end, mean over groups.
        n_temperatures: temperatures of the path.
    """

    step: int
    ready_at: int
    log_z: Estimate
    ll_train: Estimate
    ll_heldout: Estimate
    ess: float
    n_temperatures: int


COLUMNS = "step ready_at log_z log_z_stderr dof ll_train ll_heldout ess n_temperatures reason".split()
"""Columns of anchors.csv."""


def schedule(spread: Float[np.ndarray, " n"], *, variance: float, n_max: int) -> Float[np.ndarray, " m"]:
    """Fractions at equal standard deviation of work.

    With `sd_i` the spread of the pilot's temperature `i` and `L = sum_i sd_i`, `n` steps of equal spread have a total
    variance of `L^2 / n` if their work is independent; consecutive steps are not, and a factor 4 is allowed for that.

    Args:
        spread: standard deviations of the pilot's equally spaced temperatures, nats.
        variance: total variance to aim at.
        n_max: most temperatures.
    """
    finite = np.where(np.isfinite(spread), spread, np.nanmax(np.where(np.isfinite(spread), spread, 0.0)))
    length = np.concatenate([[0.0], np.cumsum(finite + 1e-3 * finite.mean() + 1e-12)])
    n = int(np.clip(np.ceil(4 * finite.sum() ** 2 / variance), N_MIN, n_max))
    fractions = np.interp(np.linspace(0, length[-1], n + 1), length, np.linspace(0, 1, len(spread) + 1))
    fractions[0], fractions[-1] = 0.0, 1.0
    return fractions


def read(job: Job) -> Estimate:
    """`log Z` of a finished job, or withheld with the reason."""
    groups = np.asarray(job.ensemble.log_partition_groups(), np.float64)
    m = job.ensemble.n_walkers // job.ensemble.n_groups
    if not np.isfinite(groups).all():
        return Estimate.withheld("a group has no finite weight: the model's energies are not finite", METHOD)
    lowest, floor = float(job.lowest), max(m / 8, 1.5)
    if lowest < floor:
        return Estimate.withheld(
            f"one temperature left {lowest:.1f} of {m} effective walkers per group (at least {floor:.1f} are needed): "
            "raise max_temperatures",
            METHOD,
        )
    weights = np.exp(groups - groups.max())
    effective = weights.sum() ** 2 / (weights**2).sum()
    if effective < len(groups) / 4:
        return Estimate.withheld(
            f"the groups disagree by {groups.std(ddof=1):.1f} nats (s.d.): raise max_temperatures or the walkers",
            METHOD,
        )
    ess = float(jnp.mean(job.ensemble.ess()))
    return log_z_from_groups(groups, ess=ess, bias="low", method=METHOD)


def base_for(model: AbstractEnergy, train: np.ndarray, law: AbstractTractable, beta: float) -> AbstractTractable:
    """Law from which walkers are annealed: units at the data means where there are units, else the starting law."""
    if isinstance(model, RBM):
        return base_at(train, model.visible, beta)
    if isinstance(model, Pairwise):
        return base_at(train, model.units, beta)
    return law


def with_schedule(job: Job, fractions: np.ndarray) -> Job:
    """The job with these fractions ahead of it."""
    padded = np.ones(job.fractions.size)
    padded[: len(fractions)] = fractions
    parts = (jnp.asarray(padded, job.fractions.dtype), jnp.asarray(len(fractions) - 1, jnp.int32))
    return eqx.tree_at(lambda j: (j.fractions, j.n), job, parts)


@eqx.filter_jit
def opened(key, kernel, model, base, beta, step, n_groups, n_walkers, size):
    """Job whose walkers are exact samples of the base. Args: as in `AnchoredAuditor`; size, room for fractions."""
    x = base.sample_exact(key, beta, n_groups * n_walkers)
    start = Potential(path_at(model, base, jnp.zeros((), x.dtype)), beta)
    log_z = log_partition_start(model, base, beta).astype(x.dtype)
    ensemble = Ensemble.open(kernel, start, x, n_groups=n_groups, log_z=log_z)
    none = jnp.zeros((), jnp.int32)
    return Job(
        model=model,
        beta=jnp.asarray(beta),
        ensemble=ensemble,
        fractions=jnp.ones(size, x.dtype),
        n=none,
        position=none,
        step=jnp.asarray(step, jnp.int32),
        spread=jnp.zeros(size, x.dtype),
        lowest=jnp.asarray(n_walkers, x.dtype),
    )


@eqx.filter_jit
def carried(key, kernel, base, controls, job, stop):
    """The job after the temperatures up to `stop`."""
    beta = job.beta
    matrix = job.model.coupling_matrix() if isinstance(job.model, Pairwise) else None
    n_walkers = job.ensemble.n_walkers // job.ensemble.n_groups

    def law(i):
        return path_at(job.model, base, job.fractions[i], matrix)

    def temperature(i, carry):
        ensemble, spread, lowest = carry
        key_here = fold(key, i)
        here, after = law(i), law(i + 1)
        ensemble, _ = ensemble.resampled(named(key_here, "resample"), below=0.5)
        ensemble, _ = relax(named(key_here, "relax"), kernel, Potential(here, beta), ensemble, controls)
        before = ensemble.log_weight()
        ensemble = switch_along(kernel, here, after, beta, ensemble)
        gain = ensemble.log_weight() - before
        left = n_walkers * jnp.min(_conditional_ess(ensemble.by_group(before), ensemble.by_group(gain)))
        return ensemble, spread.at[i].set(jnp.std(gain)), jnp.minimum(lowest, left)

    carry = (job.ensemble, job.spread, job.lowest)
    with jax.default_matmul_precision("highest"):
        ensemble, spread, lowest = jax.lax.fori_loop(job.position, jnp.minimum(stop, job.n), temperature, carry)
    return eqx.tree_at(
        lambda j: (j.ensemble, j.spread, j.lowest, j.position),
        job,
        (ensemble, spread, lowest, jnp.minimum(stop, job.n)),
    )


def _conditional_ess(log_weight: Float[Array, "g m"], gain: Float[Array, "g m"]) -> Float[Array, " g"]:
    """Fraction of the walkers that one reweighting leaves, `(sum w e^d)^2 / (sum w sum w e^2d)`."""
    w = jax.nn.softmax(log_weight, axis=-1)
    peak = jnp.max(gain, axis=-1, keepdims=True)
    e = jnp.exp(gain - peak)
    return jnp.sum(w * e, -1) ** 2 / jnp.sum(w * e**2, -1)


def append(path: Path, anchors: list[Anchor]) -> None:
    """Adds finished anchors to anchors.csv."""
    write(path, [*read_rows(path), *(_row(anchor) for anchor in anchors)])


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes anchors.csv atomically."""
    lines = [",".join(COLUMNS)]
    lines += [",".join("" if row[name] is None else str(row[name]) for name in COLUMNS) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def read_rows(path: Path, *, until: int | None = None) -> list[dict[str, Any]]:
    """Rows of anchors.csv that were ready at step `until` at the latest."""
    return [row for row in read_anchors(path) if until is None or row["ready_at"] <= until]


def anchor_of(row: dict[str, Any]) -> Anchor:
    """The anchor of a row of anchors.csv."""
    if row["log_z"] is None:
        withheld = Estimate.withheld(row["reason"], METHOD)
        return Anchor(row["step"], row["ready_at"], withheld, withheld, withheld, row["ess"], row["n_temperatures"])

    def estimate(name: str) -> Estimate:
        bias = "low" if name == "log_z" else "high"
        return Estimate(row[name], row["log_z_stderr"], row["ess"], bias, METHOD, dof=row["dof"])

    found = {name: estimate(name) for name in ("log_z", "ll_train", "ll_heldout")}
    return Anchor(row["step"], row["ready_at"], **found, ess=row["ess"], n_temperatures=row["n_temperatures"])


def _row(anchor: Anchor) -> dict[str, Any]:
    return {
        "step": anchor.step,
        "ready_at": anchor.ready_at,
        "log_z": anchor.log_z.value,
        "log_z_stderr": anchor.log_z.stderr,
        "dof": anchor.log_z.dof,
        "ll_train": anchor.ll_train.value,
        "ll_heldout": anchor.ll_heldout.value,
        "ess": anchor.ess,
        "n_temperatures": anchor.n_temperatures,
        "reason": (anchor.log_z.reason or "").replace("\n", " "),
    }
