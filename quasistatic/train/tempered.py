"""Columns of metrics.csv about temperature: T, the smoothed flip rate, norms free of the gauge, the gap.

`(theta, T)` and `(s theta, s T)` are the same law where the energy is linear in its parameters (RBMs, pairwise models):
norms of parameters mean something over T only.
"""

from typing import Any

import jax.numpy as jnp

from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.pairwise import Pairwise
from quasistatic.energies.rbm import RBM
from quasistatic.regulators.endogenous import Endogenous
from quasistatic.regulators.thermostat import Regulated
from quasistatic.train.state import TrainState

TEMPERED = ("temperature", "smoothed_signal", "gap", "norm_over_t")
"""Columns: T; what the temperature's regulator smooths (the flip rate, unless told otherwise); mean gap of the last
epoch, nats (the published law measures it); Frobenius norm of the interactions over T."""


def temperature_row(state: TrainState) -> dict[str, Any]:
    """The columns `TEMPERED`; None where a number is not available."""
    temperature = 1 / float(state.controls.beta)
    norm = interaction_norm(state.model)
    row: dict[str, Any] = dict.fromkeys(TEMPERED)
    row |= {"temperature": temperature, "norm_over_t": None if norm is None else norm / temperature}
    for own in state.regulator_states:
        if isinstance(own, Endogenous):
            row |= {"smoothed_signal": float(own.q), "gap": float(own.gap) if int(own.n_epochs) else None}
        if isinstance(own, Regulated) and bool(own.has_begun):
            row["smoothed_signal"] = float(own.smoothed)
    return row


def interaction_norm(model: AbstractEnergy) -> float | None:
    """Frobenius norm of the interactions (weights, couplings), None for energies that are not linear in theirs."""
    if isinstance(model, RBM):
        return float(jnp.linalg.norm(model.weights))
    return float(jnp.linalg.norm(model.couplings)) if isinstance(model, Pairwise) else None
