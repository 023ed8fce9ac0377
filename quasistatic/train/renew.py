"""A driver annealed anew: the way back when walkers that steer the parameters no longer know their own weights.

Feedback makes the weights of a driver drift: for all walkers alike, which only flatters its `log Z`, but also from mode
to mode, so that it steers towards masses that are not those of the model. Fresh walkers, annealed from the law with
known Z to the present model, have never steered: their weights are right whatever happened before.

Reference:
    Carbone, Hua, Coste and Vanden-Eijnden, NeurIPS 2023 (arXiv 2305.19414), for the weights; R. M. Neal, Stat. Comput.
    11, 125 (2001), for annealing. The drift is measured in `reproduce jarzynski-mnist`.
"""

from typing import Any

import equinox as eqx

from quasistatic._types import Key
from quasistatic.energies.potential import Potential
from quasistatic.evaluate.annealing import annealed
from quasistatic.kernels.base import AbstractKernel
from quasistatic.thermo.ledger import Ledger
from quasistatic.thermo.process import switch
from quasistatic.train.feedback import Feedback
from quasistatic.train.state import TrainState
from quasistatic.train.trainer import Trainer


def renew(
    key: Key,
    trainer: Trainer,
    state: TrainState,
    *,
    n_temperatures: int,
    kernel: AbstractKernel | None = None,
    step_size: float | None = None,
    n_sweeps: int = 1,
) -> TrainState:
    """State whose driver was annealed to the present model; its books and the estimate of the feedback begin again.

    Call it between chunks. Parameters, optimiser, auditor and controls stay.

    Args:
        key: random key, used by nothing else.
        trainer: trainer of the state.
        state: settled state.
        n_temperatures: laws on the path, both ends included.
        kernel: kernel of the annealing, default that of the trainer.
        step_size: its step size, default that of the controls.
        n_sweeps: sweeps per temperature.
    """
    law = trainer.starting_law(state.model)
    beta = float(state.controls.beta)
    fresh = annealed(
        key,
        state.model,
        law,
        beta=beta,
        n_temperatures=n_temperatures,
        n_chains=trainer.n_walkers,
        n_groups=trainer.n_groups,
        kernel=trainer.kernel if kernel is None else kernel,
        n_sweeps=n_sweeps,
        step_size=float(state.controls.step_size) if step_size is None else step_size,
    )
    fresh, _ = eqx.filter_jit(switch)(trainer.kernel, Potential(state.model, state.controls.beta), fresh)
    parts: tuple[Any, ...] = (fresh, Ledger.open(fresh))
    state = eqx.tree_at(lambda s: (s.ensemble, s.ledger), state, parts)
    if state.feedback is None:
        return state
    trained = eqx.filter(state.model, eqx.is_inexact_array)
    opened = Feedback.open(trained, state.opt_state, order=trainer.feedback, dtype=fresh.u.dtype)
    return eqx.tree_at(lambda s: s.feedback, state, opened)
