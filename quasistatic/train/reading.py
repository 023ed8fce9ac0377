"""What regulators are shown at the start of a step: the driver as its last update left it, never the auditor."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import Scalar
from quasistatic.energies.potential import Potential
from quasistatic.regulators import Reading
from quasistatic.thermo.process import as_samples
from quasistatic.train.state import TrainState
from quasistatic.train.trainer import Trainer


def reading_of(trainer: Trainer, state: TrainState) -> Reading:
    """Reading before an update: what the last one measured. Args: trainer; state before the update."""
    ensemble, ledger = state.ensemble, state.ledger
    nan = jnp.full((), jnp.nan, ensemble.u.dtype)
    has_moved = jnp.asarray(state.step) > 0
    flip_rate = gap = nan
    if "flip_rate" in trainer.kernel.rates:
        flip_rate = jnp.where(has_moved, ledger.last_flip_rate, nan)
    if needs_gap(trainer):
        # the switch of this step evaluates the same: compiled once
        seen = as_samples(trainer.kernel, ensemble)
        u = jax.vmap(Potential(state.model, state.controls.beta))(seen.x, seen.context)
        gap = jnp.where(has_moved, state.data_potential - jnp.mean(u), nan)
    return Reading(
        step=state.step,
        ess=jnp.min(ensemble.ess()),
        work=ledger.last_work,
        flip_rate=flip_rate,
        excess_work=ledger.last_excess,
        gap=gap,
        ahead=ledger.ahead,
    )


def data_potential(
    trainer: Trainer, potential: Potential, batch: Float[Array, "batch ..."], unmeasured: Scalar
) -> Scalar:
    """Mean potential of a batch under the model that its update made, nats; `unmeasured` if no regulator needs it."""
    if not needs_gap(trainer):
        return unmeasured
    return jnp.mean(jax.vmap(potential)(batch)).astype(unmeasured.dtype)


def needs_gap(trainer: Trainer) -> bool:
    """Whether any regulator reads the gap between data and walkers."""
    return any(regulator.needs_gap for regulator in trainer.regulators)
