"""Chains run on from given positions, with a record of what they did: the raw material of `mixing`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._random import split
from quasistatic._types import Key
from quasistatic.energies.potential import Potential
from quasistatic.kernels.base import AbstractKernel
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.process import as_samples, relax


class Chains(NamedTuple):
    """Recorded chains. Of stacks of replicas, the ones at the model are recorded.

    Args:
        ensemble: walkers after the last record.
        u: reduced potential, shape `(n_records, n_chains)`, nats.
        changed: share of coordinates that differ from the record before, same shape.
        observed: what `observe` made of each sample, records and chains first; None without it.
    """

    ensemble: Ensemble
    u: Float[np.ndarray, "n_records n_chains"]
    changed: Float[np.ndarray, "n_records n_chains"]
    observed: Any


def run_chains(
    key: Key,
    kernel: AbstractKernel,
    potential: Potential,
    start: Float[Array, "n_chains ..."] | Ensemble,
    *,
    n_records: int,
    n_sweeps: int = 1,
    step_size: float = 0.01,
    observe: Callable[[Array], Array] | None = None,
) -> Chains:
    """Moves chains under a fixed model and records them.

    Args:
        key: random key.
        kernel: kernel; of replica exchange a sweep is a round.
        potential: the model.
        start: positions, or walkers of this kernel to go on with.
        n_records: records.
        n_sweeps: sweeps between records.
        step_size: of Langevin kernels.
        observe: function of one sample; give the same object again to avoid compiling again.
    """
    controls = Controls.of(n_sweeps=n_sweeps, step_size=step_size)
    if not isinstance(start, Ensemble):
        start = eqx.filter_jit(Ensemble.open)(kernel, potential, jnp.asarray(start))
    ensemble, (u, changed, observed) = _recorded(key, kernel, potential, start, controls, n_records, observe)
    rows = jax.tree.map(np.asarray, observed)
    return Chains(ensemble, np.asarray(u, np.float64), np.asarray(changed, np.float64), rows)


@eqx.filter_jit
def _recorded(key, kernel, potential, ensemble, controls, n_records, observe):
    def record(ensemble: Ensemble, key_record: Key) -> tuple[Ensemble, tuple]:
        before = as_samples(kernel, ensemble)
        ensemble, _ = relax(key_record, kernel, potential, ensemble, controls)
        after = as_samples(kernel, ensemble)
        is_other = (after.x != before.x).reshape(after.n_walkers, -1)
        seen = None if observe is None else jax.vmap(observe)(after.x)
        return ensemble, (after.u, jnp.mean(is_other, axis=1, dtype=after.u.dtype), seen)

    return jax.lax.scan(record, ensemble, split(key, n_records))
