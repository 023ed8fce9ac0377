"""Training of layered networks by free and nudged phases: trainer, state, and one compiled epoch.

A step relaxes a batch, asks the rule for its gradient and takes an Optax update. Random numbers of a step come from the
run's key and its absolute number, the permutation of an epoch from the epoch's number: a resumed run repeats an
uninterrupted one bit for bit.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, UInt32

from quasistatic._keys import named, step_key
from quasistatic._random import fold
from quasistatic._types import IntScalarLike, Key
from quasistatic.energies.hopfield import Layered, Layers
from quasistatic.equilibrium.rule import EquilibriumPropagation, Statistics, outputs
from quasistatic.errors import InputError

STARTS = ("zero", "batch", "example")
"""Where a free phase starts: zeros, the states of the last batch, or those of the same example an epoch ago."""


class NudgedTrainer(eqx.Module):
    """Everything about a run that does not evolve.

    Args:
        rule: learning rule.
        optimiser: Optax transformation; it descends.
        rates: factor on the update of each interaction and its bias (the read-out last); empty for ones.
        batch_size: examples per step; what is left over of an epoch is left out of it.
        start: one of `STARTS`.
        shift: images are shifted by up to so many pixels in both directions, at random in every epoch.
        image: height and width of an input, needed for shifts.
    """

    rule: EquilibriumPropagation
    optimiser: optax.GradientTransformation = eqx.field(static=True)
    rates: tuple[float, ...] = eqx.field(static=True, default=())
    batch_size: int = eqx.field(static=True, default=32)
    start: str = eqx.field(static=True, default="batch")
    shift: int = eqx.field(static=True, default=0)
    image: tuple[int, int] | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.start not in STARTS:
            raise InputError(f"unknown start {self.start!r}; choose one of {', '.join(STARTS)}")
        if self.batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.shift and self.image is None:
            raise InputError("shifts need images; give image = (height, width), or shift = 0")

    def init(self, key: Key, network: Layered, n_examples: int) -> "NudgedState":
        """State before the first step. Args: run key; start parameters; examples of the training set.

        Raises:
            InputError: rule, network, rates and examples do not fit.
        """
        self.rule.check(network)
        if self.rates and len(self.rates) != len(network.biases) + (network.readout is not None):
            raise InputError(f"one rate per interaction is needed, got {len(self.rates)}")
        if self.batch_size > n_examples:
            raise InputError(f"batch_size is {self.batch_size}, but there are {n_examples} training rows")
        n = n_examples if self.start == "example" else self.batch_size
        layers = network.zeros(n * self.rule.n_replicas)
        data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
        opt_state = self.optimiser.init(eqx.filter(network, eqx.is_inexact_array))
        return NudgedState(network, opt_state, layers, data, jnp.zeros((), jnp.int32))


class NudgedState(eqx.Module):
    """Everything that evolves, one pytree and one checkpoint.

    Args:
        network: parameters.
        opt_state: optimiser state.
        layers: persistent free states.
        key: run key, as raw data.
        step: updates done.
    """

    network: Layered
    opt_state: Any
    layers: Layers
    key: UInt32[Array, "..."]
    step: Int[Array, ""]


@eqx.filter_jit
def run_steps(
    trainer: NudgedTrainer,
    state: NudgedState,
    inputs: Float[Array, "n n_in"],
    targets: Float[Array, "n n_out"],
    order: Int[Array, " n_used"],
    n_steps: IntScalarLike,
) -> tuple[NudgedState, Statistics, Float[Array, ""]]:
    """Steps over consecutive batches.

    Args:
        trainer: what does not evolve.
        state: what does.
        inputs: training inputs; arguments, not constants, which a compiled loop would copy in every round.
        targets: their targets.
        order: rows in the order of use, at least `n_steps` batches.
        n_steps: number of steps.

    Returns:
        New state; means over the steps of the rule's statistics and of the gradient's norm.
    """
    size, r = trainer.batch_size, trainer.rule.n_replicas

    def step(i: Array, carry: Any) -> Any:
        state, sums, norms = carry
        key = step_key(state.key, state.step)
        rows = jax.lax.dynamic_slice(order, (i * size,), (size,))
        x = inputs[rows]
        if trainer.shift and trainer.image is not None:
            x = shifted(named(key, "shift"), x, trainer.image, trainer.shift)
        walkers = (rows[:, None] * r + jnp.arange(r)).ravel()
        layers = state.layers
        if trainer.start == "example":
            layers = tuple(layer[walkers] for layer in layers)
        elif trainer.start == "zero":
            layers = state.network.zeros(size * r)
        slope: Any
        slope, free, said = trainer.rule.gradient(key, state.network, x, targets[rows], layers)
        trained: Any = eqx.filter(state.network, eqx.is_inexact_array)
        update, opt_state = trainer.optimiser.update(slope, state.opt_state, trained)
        network = eqx.apply_updates(state.network, _rated(update, trainer.rates))
        kept = free
        if trainer.start == "example":
            kept = tuple(layer.at[walkers].set(s) for layer, s in zip(state.layers, free, strict=True))
        new = NudgedState(network, opt_state, kept, state.key, state.step + 1)
        return new, jax.tree.map(jnp.add, sums, said), norms + optax.tree.norm(slope)

    zero = jnp.zeros((), inputs.dtype)
    start = (state, Statistics(*[zero] * len(Statistics._fields)), zero)
    state, sums, norms = jax.lax.fori_loop(0, n_steps, step, start)
    return state, jax.tree.map(lambda total: total / n_steps, sums), norms / n_steps


def epoch_order(key: UInt32[Array, "..."], epoch: IntScalarLike, n: int) -> Int[Array, " n"]:
    """Permutation of one epoch. Args: run key; number of the epoch; rows."""
    return jax.random.permutation(named(step_key(key, epoch), "epoch"), n)


def shifted(
    key: Key, x: Float[Array, "batch n_in"], image: tuple[int, int], largest: int
) -> Float[Array, "batch n_in"]:
    """Images moved by up to `largest` pixels, zeros flowing in. Args: key; flat images; height and width; pixels."""
    height, width = image
    pixels = x.reshape(len(x), height, width, -1)
    padded = jnp.pad(pixels, ((0, 0), (largest, largest), (largest, largest), (0, 0)))
    offsets = jax.random.randint(key, (len(x), 2), 0, 2 * largest + 1)

    def cut(one: Array, offset: Array) -> Array:
        zero = jnp.zeros((), offset.dtype)
        return jax.lax.dynamic_slice(one, (offset[0], offset[1], zero), pixels.shape[1:])

    return jax.vmap(cut)(padded, offsets).reshape(x.shape)


@eqx.filter_jit
def predict(
    trainer: NudgedTrainer, network: Layered, key: UInt32[Array, "..."], inputs: Float[Array, "n n_in"], n_sweeps: int
) -> Float[Array, "n n_replicas n_out"]:
    """Outputs of free phases from zero, one per replica, in blocks.

    Args: trainer; network; key; inputs; sweeps, 0 for the rule's.
    """
    block = 500
    n_blocks = -(-len(inputs) // block)
    padded = jnp.pad(inputs, ((0, n_blocks * block - len(inputs)), (0, 0))).reshape(n_blocks, block, -1)

    def one(pair: Any) -> Array:
        i, x = pair
        return outputs(fold(key, i), trainer.rule, network, x, n_sweeps=n_sweeps)

    found = jax.lax.map(one, (jnp.arange(n_blocks), padded))
    return found.reshape(n_blocks * block, *found.shape[2:])[: len(inputs)]


def _rated(update: Any, rates: tuple[float, ...]) -> Any:
    """Updates of every layer times its factor."""
    if not rates:
        return update

    def scaled(part: Any, rate: float) -> Any:
        return jax.tree.map(lambda leaf: rate * leaf, part)

    n = len(update.biases)
    interactions = tuple(scaled(p, rate) for p, rate in zip(update.interactions, rates, strict=False))
    biases = tuple(scaled(p, rate) for p, rate in zip(update.biases, rates, strict=False))
    update = eqx.tree_at(lambda u: (u.interactions, u.biases), update, (interactions, biases))
    if update.readout is None:
        return update
    return eqx.tree_at(lambda u: u.readout, update, scaled(update.readout, rates[n]))
