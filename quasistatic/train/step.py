"""One training step: regulate, switch, relax, close, learn; and the chunk of steps that one jit runs.

The state's ensembles lag one update: they are under the model of the last switch, and a step begins by moving them to
the present one. A chunk ends by *settling* (a switch without relaxation), so that every recorded number and every
stored ensemble belongs to the parameters stored beside it.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from quasistatic._keys import named, step_key
from quasistatic._random import fold
from quasistatic._results import RESULTS
from quasistatic._types import IntScalarLike, Key
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.potential import Potential
from quasistatic.metric.optim import feedback_of, makes_steps_of_scores, norm_of
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.process import advance, advance_some, as_samples, switch
from quasistatic.train.reading import data_potential, reading_of
from quasistatic.train.state import TrainState
from quasistatic.train.trainer import Trainer


def step(trainer: Trainer, state: TrainState, batch: Float[Array, "batch ..."]) -> TrainState:
    """One update of the model.

    Args:
        trainer: what does not evolve.
        state: state before the update.
        batch: data rows of this step.
    """
    key = step_key(state.key, state.step)
    controls, ensemble, regulator_states, ledger = _regulate(trainer, key, state, batch)
    potential = Potential(state.model, controls.beta)

    moved, work, info = _moved(trainer, named(key, "relax"), potential, ensemble, controls)
    switched = _switched(trainer, state.ensemble, ensemble, potential, work)
    ledger = ledger.close(ensemble, moved, info, switched=switched, time=controls.step_size * controls.n_sweeps)
    auditor, auditor_ledger = _audit(trainer, key, state, potential, controls)

    seen = as_samples(trainer.kernel, moved)
    rule: Any = trainer.rule
    is_metric = makes_steps_of_scores(state.opt_state)
    rule = dataclasses.replace(rule, has_noise=True) if state.feedback is not None and not is_metric else rule
    gradient, aux, rule_state = rule.gradient(
        named(key, "rule"), potential, trainer.kernel, batch, seen, controls, state.rule_state
    )
    trained, fixed = eqx.partition(state.model, eqx.is_inexact_array)
    descent: Any = gradient
    optimiser = optax.with_extra_args_support(trainer.optimiser)
    lag = None if ledger.response is None else ledger.response.relaxation
    updates, opt_state = optimiser.update(descent, state.opt_state, trained, scores=aux.get("scores"), relaxation=lag)
    # a metric step finds the length of the gradient without the gradient, which then is not computed
    gradient_norm = norm_of(opt_state) if is_metric else optax.tree.norm(gradient)
    updates = jax.tree.map(lambda leaf: controls.lr_scale * leaf, updates)
    scale = jnp.asarray(controls.lr_scale)
    if trainer.keep_ess is not None:
        gentle = trainer.keep_ess.scale(potential, updates, seen)
        updates = jax.tree.map(lambda leaf: (gentle * leaf).astype(leaf.dtype), updates)
        scale = scale * gentle
    feedback = state.feedback
    if feedback is not None and is_metric:
        feedback = feedback.add(-scale * feedback_of(opt_state), step=state.step)
    elif feedback is not None:
        response = aux["response"]
        if feedback.parameters is not None:
            bent = rule.curvature(potential, batch, seen, feedback.parameters)
            response = jax.tree.map(jnp.add, response, bent)
        at = (gradient, state.opt_state, trained)
        feedback = feedback.book(aux["noise"], response, trainer.optimiser.update, at, scale=scale, step=state.step)
    model: Any = eqx.combine(optax.apply_updates(trained, updates), fixed)

    return TrainState(
        model=model,
        averaged=_averaged(trainer, state, model),
        opt_state=opt_state,
        rule_state=rule_state,
        regulator_states=regulator_states,
        ensemble=moved,
        auditor=auditor,
        controls=controls,
        ledger=ledger,
        auditor_ledger=auditor_ledger,
        feedback=feedback,
        key=state.key,
        step=state.step + 1,
        gradient_norm=gradient_norm.astype(moved.u.dtype),
        data_potential=data_potential(trainer, Potential(model, controls.beta), batch, state.data_potential),
        result=_result(trainer, state, ledger, moved, gradient_norm, regulator_states),
    )


def _switched(trainer: Trainer, last: Ensemble, regulated: Ensemble, potential: Potential, work: Array) -> Array:
    """Work of this switch on the walkers of the last gradient, before regulators replaced any of them.

    Costs one more evaluation of the potential in the steps in which some were replaced.

    Args:
        trainer: what does not evolve.
        last: walkers that made the last gradient.
        regulated: the same after resampling and restarts.
        potential: the new potential.
        work: work of the switch on `regulated`.
    """
    if not trainer.regulators:
        return work
    is_replaced = jnp.any(last.x != regulated.x)
    return jax.lax.cond(is_replaced, lambda: switch(trainer.kernel, potential, last)[1], lambda: work)


def _regulate(trainer: Trainer, key: Key, state: TrainState, batch: Array) -> tuple:
    ensemble, controls, ledger = state.ensemble, state.controls, state.ledger
    reading = reading_of(trainer, state)
    states = []
    for index, (regulator, own) in enumerate(zip(trainer.regulators, state.regulator_states, strict=True)):
        key_own = fold(named(key, "regulate"), index)
        potential = Potential(state.model, controls.beta)
        cleared = ensemble
        controls, ensemble, own = regulator.update(
            key_own, reading, potential, trainer.kernel, batch, ensemble, controls, own
        )
        ledger = ledger.resampled(jnp.sum(ensemble.log_z.value != cleared.log_z.value))
        states.append(own)
    return controls, ensemble, tuple(states), ledger


def _moved(trainer: Trainer, key: Key, potential: Potential, ensemble: Ensemble, controls: Controls) -> tuple:
    if trainer.n_moved:
        return advance_some(key, trainer.kernel, potential, ensemble, controls, n_moved=trainer.n_moved)
    return advance(key, trainer.kernel, potential, ensemble, controls)


def _audit(trainer: Trainer, key: Key, state: TrainState, potential: Potential, controls: Any) -> tuple:
    """Moves the auditor as the driver is moved; only its own resampling adapts, and nothing reads it."""
    if state.auditor is None or state.auditor_ledger is None:
        return None, None
    key_auditor = named(key, "auditor")
    auditor, n = state.auditor.resampled(named(key_auditor, "resample"), below=trainer.auditor_below)
    moved, _, info = advance(named(key_auditor, "relax"), trainer.auditor_kernel, potential, auditor, controls)
    return moved, state.auditor_ledger.resampled(n).close(auditor, moved, info)


def _averaged(trainer: Trainer, state: TrainState, model: AbstractEnergy) -> AbstractEnergy | None:
    if state.averaged is None:
        return None
    # early on the average forgets its start faster: min(ema, (1 + t) / (10 + t))
    decay = jnp.minimum(trainer.ema, (1.0 + state.step) / (10.0 + state.step))

    def blend(old: Any, new: Any) -> Any:
        return (decay * old + (1 - decay) * new).astype(new.dtype) if eqx.is_inexact_array(new) else new

    return jax.tree.map(blend, state.averaged, model)


def _result(
    trainer: Trainer, state: TrainState, ledger: Any, ensemble: Any, norm: Any, regulator_states: tuple[Any, ...]
) -> Int[Array, ""]:
    """First named failure of the run, if any."""
    log_weight = ensemble.log_weight()
    has_no_weight = ~jnp.all(jnp.isfinite(ensemble.ess()) & (ensemble.ess() > 0))
    n_effective = jnp.min(ensemble.ess()) * (ensemble.n_walkers // ensemble.n_groups)
    is_collapsed = trainer.is_weighted & ((n_effective < 1.5) & (ensemble.n_walkers // ensemble.n_groups > 8))
    checks = (
        (
            RESULTS.nonfinite_energy,
            ~jnp.all(jnp.isfinite(ensemble.u)) | has_no_weight & ~jnp.all(jnp.isfinite(log_weight)),
        ),
        (RESULTS.nonfinite_parameters, ~jnp.isfinite(norm)),
        (RESULTS.ess_collapsed, is_collapsed),
        (RESULTS.frozen_chains, ledger.n_frozen >= trainer.frozen_after),
    )
    result = state.result
    for code, is_bad in checks:
        result = jnp.where((result == 0) & is_bad, jnp.asarray(int(code), jnp.int32), result)
    for regulator, own in zip(trainer.regulators, regulator_states, strict=True):
        result = jnp.where(result == 0, jnp.asarray(regulator.result(own), jnp.int32), result)
    return result


def settle(trainer: Trainer, state: TrainState) -> TrainState:
    """Switches both populations to the present model: work is booked, nothing moves."""
    potential = Potential(state.model, state.controls.beta)
    ensemble, _ = switch(trainer.kernel, potential, state.ensemble)
    ledger = state.ledger.settle(state.ensemble, ensemble)
    auditor, auditor_ledger = state.auditor, state.auditor_ledger
    if auditor is not None and auditor_ledger is not None:
        settled, _ = switch(trainer.auditor_kernel, potential, auditor)
        auditor, auditor_ledger = settled, auditor_ledger.settle(auditor, settled)
    result = jnp.where(
        (state.result == 0) & ~jnp.all(jnp.isfinite(ensemble.u)),
        jnp.asarray(int(RESULTS.nonfinite_energy), jnp.int32),
        state.result,
    )
    return eqx.tree_at(
        lambda s: (s.ensemble, s.auditor, s.ledger, s.auditor_ledger, s.result),
        state,
        (ensemble, auditor, ledger, auditor_ledger, result),
        is_leaf=lambda leaf: leaf is None,
    )


@eqx.filter_jit
def run_chunk(trainer: Trainer, state: TrainState, data: Float[Array, "n ..."], stop: Int[Array, ""]) -> TrainState:
    """Steps until `state.step == stop` (or a failure), then settles.

    Epoch permutations are keyed by the epoch, step keys by the absolute step, so where chunks begin does not matter.

    Args:
        trainer: what does not evolve.
        state: state to continue.
        data: training data, samples first.
        stop: absolute step to stop at.
    """
    state = eqx.tree_at(lambda s: s.ledger, state, state.ledger.opened())
    n = data.shape[0]
    size = trainer.batch_size or n
    per_epoch = max(n // size, 1)

    def permutation(epoch: IntScalarLike) -> Int[Array, " n"]:
        if size == n:
            return jnp.arange(n)
        return jax.random.permutation(fold(named(state.key, "epoch"), epoch), n)

    def body(carry: tuple) -> tuple:
        dynamic, epoch, order = carry
        now = eqx.combine(dynamic, static)
        new_epoch = now.step // per_epoch
        order = jax.lax.cond(new_epoch == epoch, lambda: order, lambda: permutation(new_epoch))
        batch = data if size == n else data[jax.lax.dynamic_slice_in_dim(order, (now.step % per_epoch) * size, size)]
        return eqx.filter(step(trainer, now, batch), eqx.is_array), new_epoch, order

    def is_running(carry: tuple) -> Any:
        return (carry[0].step < stop) & (carry[0].result == 0)

    dynamic, static = eqx.partition(state, eqx.is_array)
    epoch = state.step // per_epoch
    dynamic, _, _ = jax.lax.while_loop(is_running, body, (dynamic, epoch, permutation(epoch)))
    settled = settle(trainer, eqx.combine(dynamic, static))
    _, way_back = switch(trainer.kernel, Potential(state.model, state.controls.beta), settled.ensemble)
    return eqx.tree_at(lambda s: s.ledger, settled, settled.ledger.travelled(way_back))
