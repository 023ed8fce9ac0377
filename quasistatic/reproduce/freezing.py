"""Populations that freeze, with and without help: small RBMs in which everything can be computed.

A Mattis model of 16 x 8 units, `W = 4K`, has two modes (all units on, all off) between which walkers never pass at
`T = 1`, `K = 2`: from all ones, a flip has the probability `delta = 16 exp(-32) + 8 exp(-64)` per sweep. The scenarios
are

    frozen   that model, not trained: who gets the walkers to move?
    drift    it is trained on both modes with all walkers in one: parameters drift in a straight line
    training a fresh model is trained at a high rate until it freezes
    gentle   the same at a tenth of the rate and with noisy data: help is not needed, and must not interfere
    cooled   a thermostat that may also cool, on a fresh model (what not to do)

A lane is one population with its own regulator, walkers, data and random numbers; all lanes of a call are one compiled
scan of the package's training step.

Reference:
    Süleymanoğlu 2026 (arXiv 2603.02525) for the failure and for the law `EndogenousTemperature`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from quasistatic.energies import RBM, Potential, units
from quasistatic.kernels import BlockGibbs
from quasistatic.regulators import AbstractRegulator, EndogenousTemperature, Thermostat
from quasistatic.rules import MaximumLikelihood
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.train.state import TrainState
from quasistatic.train.step import step
from quasistatic.train.trainer import Trainer

N_VISIBLE, N_HIDDEN, N_WALKERS, N_ROWS = 16, 8, 64, 2000
STRIDE = 500
"""Updates per compiled call: one program for all scenarios."""


class Trace(NamedTuple):
    """What happened in each update, shape `(lanes, updates)`.

    Attributes:
        flip_rate: changed visible units over all of them.
        temperature: T of the update.
        switched: fraction of walkers that went from less than half of the units on to more, or back, in one sweep.
        upper: fraction of walkers with more than half of the units on.
    """

    flip_rate: Any
    temperature: Any
    switched: Any
    upper: Any

    @property
    def first_flip(self) -> np.ndarray:
        """Update of the first flip of each lane, counted from 1; 0 without any."""
        return np.where((self.flip_rate > 0).any(1), 1 + np.argmax(self.flip_rate > 0, axis=1), 0)


class Course(NamedTuple):
    """A scenario: trace, and states after every `STRIDE` updates (lanes first)."""

    trace: Trace
    states: list[TrainState]


def mattis(scale: float = 2.0, n_visible: int = N_VISIBLE, n_hidden: int = N_HIDDEN) -> RBM:
    """Two-mode RBM `W = 4K, b = -2Km, c = -2Kn`. Args: scale, `K`."""
    w, b, c = jnp.ones((n_visible, n_hidden)), jnp.ones(n_visible), jnp.ones(n_hidden)
    parts = 4 * scale * w, -2 * scale * n_hidden * b, -2 * scale * n_visible * c
    return RBM(*parts, units("binary", n_visible), units("binary", n_hidden))


def two_patterns(seed: int, noise: float) -> np.ndarray:
    """Rows of all ones or all zeros in equal proportion, every bit flipped with probability `noise`."""
    rng = np.random.default_rng(seed)
    x = np.repeat((rng.random(N_ROWS) < 0.5)[:, None], N_VISIBLE, 1)
    return (x ^ (rng.random(x.shape) < noise)).astype(float)


def published(every: int = 20) -> EndogenousTemperature:
    """The published law, with epochs of 20 updates."""
    return EndogenousTemperature(every)


def fixed() -> Thermostat:
    """No regulator, in the shape of one: its upper limit is T = 1."""
    return one_sided(most=0.0)


def one_sided(**more: Any) -> Thermostat:
    """The thermostat of the training scenarios, with these settings changed."""
    return Thermostat(**({"set_point": 0.05, "smoothing": 0.1, "k_p": 0.5, "k_i": 0.02, "patience": 10**8} | more))


def quick_one_sided(**more: Any) -> Thermostat:
    """A faster thermostat, for walkers that are frozen from the start."""
    return one_sided(**({"smoothing": 0.2, "k_i": 0.05} | more))


@cache
def machine(kind: type[AbstractRegulator]) -> Trainer:
    """Trainer whose regulator is filled in lane by lane. Args: kind of regulator."""
    regulator = published() if kind is EndogenousTemperature else fixed()
    return Trainer(
        BlockGibbs(),
        MaximumLikelihood(beta_power=0),
        optax.sgd(1.0),  # the rate is a control, so that one program serves all
        (regulator,),
        n_walkers=N_WALKERS,
        auditor_groups=0,
        feedback="off",
        frozen_after=10**8,
    )


def run(
    regulators: Sequence[AbstractRegulator],
    models: Sequence[RBM],
    data: Sequence[np.ndarray],
    *,
    rate: float,
    n_steps: int,
    seeds: Sequence[int],
    starts_at_ones: bool = False,
    is_full_batch: bool = False,
) -> Course:
    """Runs lanes of one kind of regulator.

    Args:
        regulators: one per lane, all of one class.
        models: initial model of each lane.
        data: rows of each lane, shape `(N_ROWS, N_VISIBLE)`.
        rate: learning rate.
        n_steps: updates, a multiple of `STRIDE`.
        seeds: of walkers and batches; lanes of one seed see the same random numbers.
        starts_at_ones: all walkers start with all units on, instead of at the model without weights.
        is_full_batch: the first `N_WALKERS` rows are every batch, instead of rows drawn with replacement.
    """
    trainer = machine(type(regulators[0]))
    stacked = jax.tree.map(lambda *leaves: jnp.asarray(leaves), *regulators)
    model = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    keys = jnp.stack([jax.random.key_data(jax.random.key(seed)) for seed in seeds])
    state = _opened(trainer, stacked, model, keys, jnp.asarray(rate, float), starts_at_ones)
    x = jnp.asarray(np.stack(data), float)
    rows = np.broadcast_to(np.arange(N_WALKERS), (len(seeds), STRIDE, N_WALKERS))
    generators = [np.random.default_rng(10**6 + seed) for seed in seeds]
    states, parts = [], []
    for _ in range(n_steps // STRIDE):
        if not is_full_batch:
            rows = np.stack([rng.integers(0, N_ROWS, (STRIDE, N_WALKERS)) for rng in generators])
        state, part = _followed(trainer, stacked, state, x, jnp.asarray(rows, jnp.int32))
        states.append(state)
        parts.append(jax.tree.map(np.asarray, part))
    return Course(Trace(*(np.concatenate(values, axis=1) for values in zip(*parts, strict=True))), states)


@eqx.filter_jit
def _opened(trainer: Trainer, regulators: Any, models: Any, keys: Any, rate: Any, starts_at_ones: bool) -> TrainState:
    def one(regulator: Any, model: Any, key: Array) -> TrainState:
        mine = eqx.tree_at(lambda t: (t.regulators[0], t.controls.lr_scale), trainer, (regulator, rate))
        state = mine.init(jax.random.wrap_key_data(key), model)
        if starts_at_ones:
            ones = jnp.ones_like(state.ensemble.x)
            opened = Ensemble.open(trainer.kernel, Potential(model, state.controls.beta), ones)
            state = eqx.tree_at(lambda s: s.ensemble, state, opened)
        return state

    return eqx.filter_vmap(one)(regulators, models, keys)


@eqx.filter_jit
def _followed(trainer: Trainer, regulators: Any, states: Any, data: Any, rows: Any) -> tuple[TrainState, Trace]:
    def one(regulator: Any, state: TrainState, x: Array, rows: Array) -> tuple[TrainState, Trace]:
        mine = eqx.tree_at(lambda t: t.regulators[0], trainer, regulator)
        dynamic, static = eqx.partition(state, eqx.is_array)

        def update(carry: Any, chosen: Array) -> tuple[Any, Trace]:
            old = eqx.combine(carry, static)
            new = step(mine, old, x[chosen])
            before, after = (jnp.sum(s.ensemble.x - 0.5, axis=1) for s in (old, new))
            sides = jnp.mean(before * after < 0), jnp.mean(after > 0)
            seen = Trace(new.ledger.last_flip_rate, 1 / new.controls.beta, *sides)
            return eqx.filter(new, eqx.is_array), seen

        carry, trace = jax.lax.scan(update, dynamic, rows)
        return eqx.combine(carry, static), trace

    return eqx.filter_vmap(one)(regulators, states, data, rows)


def fresh(seed: int) -> RBM:
    """Untrained model, `W ~ N(0, 0.05^2)`, no biases."""
    w = np.random.default_rng(seed).normal(0, 0.05, (N_VISIBLE, N_HIDDEN))
    zeros = mattis(0.0)
    return eqx.tree_at(lambda m: m.weights, zeros, jnp.asarray(w, zeros.weights.dtype))


def frozen(regulators: Sequence[AbstractRegulator], *, n_steps: int = 2000) -> Course:
    """The Mattis model as it is, walkers at all ones. Args: one regulator per lane."""
    n, x = len(regulators), np.ones((N_ROWS, N_VISIBLE))
    models, data, seeds = [mattis()] * n, [x] * n, range(n)
    return run(regulators, models, data, rate=0.0, n_steps=n_steps, seeds=seeds, starts_at_ones=True)


def drift(regulators: Sequence[AbstractRegulator], *, n_steps: int = 5000) -> Course:
    """The Mattis model trained on both modes, walkers at all ones, rate 5e-4, full batches."""
    n, x = len(regulators), np.zeros((N_ROWS, N_VISIBLE))
    x[: N_WALKERS // 2] = 1.0
    options: Any = {"rate": 5e-4, "n_steps": n_steps, "starts_at_ones": True, "is_full_batch": True}
    return run(regulators, [mattis()] * n, [x] * n, seeds=range(n), **options)


def trained(
    regulators: Sequence[AbstractRegulator], seeds: Sequence[int], *, rate: float, noise: float, n_steps: int
) -> Course:
    """Fresh models trained on two patterns. Args: regulators and seeds by lane; rate; noise of the data's bits."""
    data = [two_patterns(seed, noise) for seed in seeds]
    return run(regulators, [fresh(seed) for seed in seeds], data, rate=rate, n_steps=n_steps, seeds=seeds)


def likelihoods(state: TrainState, seeds: Sequence[int], noise: float) -> Float[np.ndarray, " lanes"]:
    """Exact mean log-likelihood of the training rows of each lane, nats, by enumeration."""
    return np.array([_likelihood(w, b, c, t, two_patterns(seed, noise)) for w, b, c, t, seed in _lanes(state, seeds)])


def norms(state: TrainState) -> Float[np.ndarray, " lanes"]:
    """`|W| / T` of each lane."""
    w = np.asarray(state.model.weights, np.float64)  # pyright: ignore[reportAttributeAccessIssue]
    return np.sqrt((w**2).sum((1, 2))) * np.asarray(state.controls.beta, np.float64)


def _lanes(state: TrainState, seeds: Sequence[int]) -> Any:
    model: Any = state.model
    parts = [np.asarray(p, np.float64) for p in (model.weights, model.visible_bias, model.hidden_bias)]
    return zip(*parts, 1 / np.asarray(state.controls.beta, np.float64), seeds, strict=True)


def _likelihood(w: np.ndarray, b: np.ndarray, c: np.ndarray, t: float, x: np.ndarray) -> float:
    h = ((np.arange(2**N_HIDDEN)[:, None] >> np.arange(N_HIDDEN)) & 1).astype(float)
    log_z = np.logaddexp.reduce(h @ c / t + np.logaddexp(0, (h @ w.T + b) / t).sum(1))
    return float((x @ b / t + np.logaddexp(0, (x @ w + c) / t).sum(1)).mean() - log_z)
