"""Train state: everything that evolves, as one pytree and one checkpoint."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Int, UInt32

from quasistatic._types import IntScalarLike, Scalar
from quasistatic.energies.base import AbstractEnergy
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.ledger import Ledger
from quasistatic.train.feedback import Feedback


class TrainState(eqx.Module):
    """State of a training run before an update.

    Args:
        model: raw parameters.
        averaged: exponential moving average of the parameters, or None.
        opt_state: optimiser state.
        rule_state: state of the learning rule.
        regulator_states: one per regulator.
        ensemble: the driver, whose walkers make the gradient.
        auditor: independent walkers that weigh and are never used for a decision, or None.
        controls: what regulators turn.
        ledger: run totals of the driver.
        auditor_ledger: run totals of the auditor, or None.
        feedback: estimated bias of the driver's own log Z, or None.
        key: run key, as raw data; step keys are folded from it.
        step: updates done.
        gradient_norm: Euclidean norm of the last gradient.
        data_potential: mean potential of the last batch under the model its update made and at its beta, nats; 0 unless
            a regulator needs it.
        result: member of `RESULTS`, 0 while all is well.
    """

    model: AbstractEnergy
    averaged: AbstractEnergy | None
    opt_state: Any
    rule_state: Any
    regulator_states: tuple[Any, ...]
    ensemble: Ensemble
    auditor: Ensemble | None
    controls: Controls
    ledger: Ledger
    auditor_ledger: Ledger | None
    feedback: Feedback | None
    key: UInt32[Array, "..."]
    step: IntScalarLike
    gradient_norm: Scalar
    data_potential: Scalar
    result: Int[Array, ""]
