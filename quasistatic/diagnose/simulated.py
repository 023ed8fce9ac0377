"""Evidence from chains of the final model: do they move, do they agree, and are the training's walkers among them?

Chains start in equal numbers at data, at noise and where the training's walkers ended, and run for as many sweeps as a
short command allows. Four numbers follow:

* the share of chains that changed nothing over the later half (frozen);
* split R-hat of the potential between all chains, where chains of one start also differ from those of another (they do
  not come together);
* the time of autocorrelation, against the `k` sweeps per update of a training that restarts its walkers;
* the distance between the walkers *as the training used them* (where they ended, or `k` sweeps from their restart) and
  the long chains, in standard deviations of the potential.

Reference:
    Decelle, Furtlehner and Seoane, NeurIPS 2021 (arXiv 2105.13889); Agoritsas, Catania, Decelle and Seoane 2023
    (arXiv 2301.09428): a model trained out of equilibrium is right at `k` sweeps and nowhere else.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from quasistatic._keys import named
from quasistatic.diagnose.evidence import Evidence, Probe
from quasistatic.evaluate.chains import Chains, run_chains
from quasistatic.evaluate.mixing import autocorrelation_time, split_r_hat, still_run
from quasistatic.run import Run

N_CHAINS = 32
N_RECORDS = 200
N_SWEEPS = 10
"""Sweeps between two records."""
HIGHEST_R_HAT = 1.1
FROZEN_SHARE = 0.5
FARTHEST = 0.3
"""Distance of means in standard deviations that matters (and 4 standard errors, that it is real)."""


def simulated_evidence(run: Run, probe: Probe | None) -> list[Evidence]:
    """What chains of the final model say about the regime."""
    del run
    if probe is None:
        return []
    key = jax.random.key(probe.seed)
    starts = [_some(probe.data), _some(probe.noise)] + ([] if probe.walkers is None else [_some(probe.walkers)])
    chains = _chains(key, probe, np.concatenate(starts), N_RECORDS, N_SWEEPS)
    if not np.isfinite(chains.u).all():
        words = "chains of the final model reach energies that are not finite"
        return [Evidence("finite potentials", 0.0, 1.0, None, "diverging", words)]
    used = _used(key, probe)
    return [_still(chains), _r_hat(chains), _time(chains, probe), *_distance(chains, used, probe)]


def _some(x: np.ndarray) -> np.ndarray:
    """As many rows as there are chains, evenly spaced."""
    return np.asarray(x)[np.linspace(0, len(x) - 1, N_CHAINS).round().astype(int)]


def _chains(key: jax.Array, probe: Probe, start: np.ndarray, n_records: int, n_sweeps: int) -> Chains:
    return run_chains(
        named(key, f"{n_records} {n_sweeps}"), probe.kernel, probe.potential, jnp.asarray(start, float),
        n_records=n_records, n_sweeps=n_sweeps, step_size=probe.step_size,
    )  # fmt: skip


def _used(key: jax.Array, probe: Probe) -> np.ndarray | None:
    """Potentials of walkers as the last update used them."""
    if probe.restart is not None:
        start = probe.data if probe.restart == "data" else probe.noise
        return _chains(key, probe, np.asarray(start), 1, probe.n_sweeps).u[-1]
    if probe.walkers is None:
        return None
    return np.asarray(jax.vmap(probe.potential)(jnp.asarray(probe.walkers, float)), np.float64)


def _still(chains: Chains) -> Evidence:
    half = len(chains.changed) // 2
    share = float(np.mean([still_run(column) >= half for column in chains.changed.T]))
    n = chains.changed.shape[1]
    is_frozen = share > FROZEN_SHARE
    words = f"chains that changed nothing in their last {half * N_SWEEPS:,} sweeps"
    return Evidence(
        "still chains", share, FROZEN_SHARE, math.sqrt(share * (1 - share) / n), "frozen" if is_frozen else None, words
    )


def _r_hat(chains: Chains) -> Evidence:
    """Slow chains alone are no evidence: those of one start must also differ from those of another on average."""
    late = chains.u[len(chains.u) // 2 :]
    value, n = split_r_hat(late), len(chains.u) * N_SWEEPS
    per_start = late.mean(0).reshape(-1, N_CHAINS)
    means, errors = per_start.mean(1), per_start.std(1, ddof=1) / math.sqrt(N_CHAINS)
    gaps, combined = np.abs(means[:, None] - means), np.hypot(errors[:, None], errors)
    is_apart = value > HIGHEST_R_HAT and bool(np.any((gaps > FARTHEST * late.std()) & (gaps > 4 * combined)))
    words = f"split R-hat of chains from data, noise and walkers after {n:,} sweeps" + (
        ": they have not come together"
        if is_apart
        else (": slow, but the starts agree" if value > HIGHEST_R_HAT else ": they agree")
    )
    return Evidence(
        "R-hat between starts", value, HIGHEST_R_HAT, None, "out_of_equilibrium" if is_apart else None, words
    )


def _time(chains: Chains, probe: Probe) -> Evidence:
    found = autocorrelation_time(chains.u[len(chains.u) // 2 :])
    value = (found.value or 1.0) * N_SWEEPS
    error = None if found.stderr is None else found.stderr * N_SWEEPS
    # records see nothing that is faster than the sweeps between them
    is_slow = probe.restart is not None and (found.value or 0.0) > 2.0 and value > 2 * probe.n_sweeps
    least = "at least " if found.bias == "low" else ("at most " if (found.value or 0.0) < 1.5 else "")
    words = f"autocorrelation time of the potential in sweeps ({least}this), against k = {probe.n_sweeps}"
    if is_slow:
        words += f": every update restarts from {probe.restart} and stops before the model is reached"
    return Evidence(
        "autocorrelation time", value, 2.0 * probe.n_sweeps, error, "out_of_equilibrium" if is_slow else None, words
    )


def _distance(chains: Chains, used: np.ndarray | None, probe: Probe) -> list[Evidence]:
    """Mean potential of the training's walkers less that of long chains, in standard deviations of the latter."""
    if used is None or len(used) < 2:
        return []
    late = chains.u[len(chains.u) // 2 :]
    spread = max(float(late.std()), 1e-12)
    per_chain = late.mean(0)
    value = (float(used.mean()) - float(late.mean())) / spread
    error = (
        math.hypot(used.std(ddof=1) / math.sqrt(len(used)), per_chain.std(ddof=1) / math.sqrt(len(per_chain))) / spread
    )
    is_far = abs(value) > FARTHEST and abs(value) > 4 * error
    where = "where they ended" if probe.restart is None else f"{probe.n_sweeps} sweeps from {probe.restart}"
    words = f"walkers of the training ({where}) less long chains, in standard deviations of the potential"
    return [
        Evidence("walkers against long chains", value, FARTHEST, error, "out_of_equilibrium" if is_far else None, words)
    ]
