"""Relaxation of layered networks, layers of equal parity at once, at any temperature.

Given its neighbours, a layer has field `f` and its units are independent: they are drawn from their law at inverse
temperature beta, or put at its mode. Drawing is heat bath; putting at the mode is block coordinate descent, to which
the draw tends as T -> 0. There is one sweep for both, and the only difference is the last line of `updated`.

A quadratic nudge of output units is one more well of each unit. Any other cost (cross-entropy, or a read-out outside
the state) is linearised around the present state to propose, and the proposal is accepted with the probability that
keeps detailed balance; at T = 0 the linearised update is a fixed-point iteration.

Reference:
    Scellier et al. 2023 (arXiv 2312.15103), asynchronous updates; Litman 2025 (arXiv 2511.22024) for T > 0.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from quasistatic._random import fold, split, uniform
from quasistatic._types import IntScalarLike, Key, Scalar, ScalarLike
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.costs import AbstractCost
from quasistatic.energies.hopfield import Layered, Layers
from quasistatic.energies.nudged import Nudged
from quasistatic.energies.potential import Potential
from quasistatic.energies.units import AbstractUnits
from quasistatic.energies.wells import Well, with_well
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel, Info, KernelState, repeat


class Nudge(NamedTuple):
    """What pulls the output. Args: cost; target; strength `b` in energy units (0: free)."""

    cost: AbstractCost
    target: Any
    strength: ScalarLike


class LayeredGibbs(AbstractKernel):
    """Two-colour heat bath of a `Layered` network, free or nudged; its cache is the drive of the inputs."""

    def init(self, potential: Potential, x: Float[Array, " n"], context: Any = None) -> KernelState:
        network, nudge = _parts(potential.energy, context)
        drive = network.drive(None if context is None else context.inputs)
        return KernelState(x, _potential(network, nudge, network.split(x), drive, potential.beta), drive)

    def step(
        self, key: Key, after: Potential, state: KernelState, controls: Any, context: Any = None
    ) -> tuple[KernelState, Scalar, Info]:
        network, nudge = _parts(after.energy, context)

        def move(i: IntScalarLike, layers: Layers) -> Layers:
            return sweep(fold(key, i), network, layers, state.cache, nudge, after.beta)

        layers = repeat(controls.n_sweeps, move, network.split(state.x))
        u = _potential(network, nudge, layers, state.cache, after.beta)
        return KernelState(network.join(layers), u, state.cache), u - state.u, {}

    def check(self, energy: AbstractEnergy) -> None:
        network = energy.network if isinstance(energy, Nudged) else energy
        if not isinstance(network, Layered):
            raise InputError(
                f"layered Gibbs moves layered networks, got {type(network).__name__}; use SiteGibbs, Langevin or MALA"
            )


def sweep(
    key: Key | None,
    network: Layered,
    layers: Layers,
    drive: Float[Array, " n_1"],
    nudge: Nudge | None = None,
    beta: ScalarLike = 1.0,
) -> Layers:
    """All layers once: those of the last one's parity, then the others.

    Args:
        key: random key; None for temperature zero.
        network: energy.
        layers: present state of one sample.
        drive: what the inputs add to the first field, `network.drive(inputs)`.
        nudge: pull on the output, or None.
        beta: inverse temperature, unused without a key.
    """
    now, n = list(layers), len(layers)
    for first in (n - 1, n - 2):
        for k in range(first, -1, -2):
            key_layer = None if key is None else fold(key, k)
            pull = nudge if k == n - 1 else None
            now[k] = updated(key_layer, network, k, tuple(now), drive, pull, beta)
    return tuple(now)


def updated(
    key: Key | None,
    network: Layered,
    k: int,
    layers: Layers,
    drive: Float[Array, " n_1"],
    nudge: Nudge | None,
    beta: ScalarLike,
) -> Float[Array, " n_k"]:
    """New state of layer `k`: a draw, or the mode without a key. Arguments as `sweep`."""
    units = network.units[k]
    natural = units.natural(network.field(k, layers, drive))
    if nudge is not None and not (nudge.cost.is_quadratic and network.readout is None):
        return _linearised(key, network, natural, layers[k], nudge, beta)
    if nudge is not None:
        natural = with_well(units, natural, nudge.strength * nudge.target, nudge.strength)
    return units.mode(natural) if key is None else units.sample(key, _scaled(natural, beta))


class Settled(NamedTuple):
    """How a relaxation ended. Args: sweeps that were made; largest change of a unit in the last one."""

    n_sweeps: Int[Array, ""]
    residual: Float[Array, ""]


def settle(
    key: Key | None,
    network: Layered,
    layers: Layers,
    drive: Float[Array, "batch n_1"],
    nudge: Nudge | None = None,
    beta: ScalarLike = 1.0,
    *,
    n_sweeps: IntScalarLike,
    tolerance: float = 0.0,
    momentum: float = 0.0,
) -> tuple[Layers, Settled]:
    """Sweeps of a whole batch until nothing moves by more than a tolerance, or the budget is spent.

    At temperature zero a sweep may start ahead of where the last one ended, `s + m (s - s_before)`: where sweeps shrink
    the distance to the minimum by `1 - e` only, this shrinks it by about `1 - sqrt(e)`. The fixed points are those of
    plain sweeps. A sample whose sweep points back at where it came from starts anew without momentum.

    Args:
        key: random key; None for temperature zero.
        network: energy.
        layers: state of each layer, shape `(batch, n_k)`.
        drive: `network.drive` of each example.
        nudge: pull on the outputs, its target with the batch first; or None.
        beta: inverse temperature.
        n_sweeps: budget.
        tolerance: largest change of a unit in a sweep that counts as rest; 0 (and any draw) spends the budget.
        momentum: `m`, from 0 to below 1; for continuous units at temperature zero.

    Returns:
        New layers, and how it ended.

    Reference:
        Nesterov 1983; the restart after O'Donoghue and Candes 2015 (arXiv 1204.3982), eq. 13.
    """
    if not 0 <= momentum < 1:
        raise InputError(f"momentum must be from 0 to below 1, got {momentum}")
    if momentum and any(units.levels is not None for units in network.units):
        raise InputError("momentum is for continuous units, but the network has discrete ones; set it to 0")
    if momentum and key is not None:
        raise InputError("momentum speeds up a descent and would spoil draws; set it to 0 above temperature zero")
    has_target = nudge is not None

    def one(key_walker: Any, layers: Layers, drive: Any, target: Any) -> Layers:
        pull = None if nudge is None else Nudge(nudge.cost, target, nudge.strength)
        return sweep(key_walker, network, layers, drive, pull, beta)

    mapped = jax.vmap(one, in_axes=(None if key is None else 0, 0, 0, 0 if has_target else None))
    target = nudge.target if nudge is not None else None

    def move(i: Any, now: Layers) -> Layers:
        keys = None if key is None else split(fold(key, i), drive.shape[0])
        return mapped(keys, now, drive, target)

    def fast(i: Any, carry: tuple[Layers, Layers]) -> tuple[Layers, Layers]:
        """New states, and the point from which the next sweep starts."""
        before, ahead = carry
        new = move(i, ahead)
        step = [a - b for a, b in zip(new, before, strict=True)]
        back = sum(jnp.sum((a - b) * d, axis=1) for a, b, d in zip(ahead, new, step, strict=True))
        factor = jnp.where(jnp.asarray(back) > 0, 0.0, momentum)[:, None].astype(drive.dtype)
        return new, tuple(a + factor * d for a, d in zip(new, step, strict=True))

    if tolerance <= 0 or key is not None:
        done = repeat(n_sweeps, fast, (layers, layers))[0] if momentum else repeat(n_sweeps, move, layers)
        return done, Settled(jnp.asarray(n_sweeps, jnp.int32), jnp.asarray(jnp.inf, drive.dtype))

    def go_on(carry: Any) -> Array:
        i, _, residual = carry
        return (i < n_sweeps) & (residual > tolerance)

    def body(carry: Any) -> Any:
        i, (now, ahead), _ = carry
        new, further = fast(i, (now, ahead)) if momentum else (move(i, now),) * 2
        residual = jnp.max(jnp.stack([jnp.max(jnp.abs(a - b)) for a, b in zip(new, ahead, strict=True)]))
        return i + 1, (new, further), residual

    start = (jnp.zeros((), jnp.int32), (layers, layers), jnp.asarray(jnp.inf, drive.dtype))
    i, (done, _), residual = jax.lax.while_loop(go_on, body, start)
    return done, Settled(i, residual)


def _parts(energy: Any, context: Any) -> tuple[Layered, Nudge | None]:
    if not isinstance(energy, Nudged):
        return energy, None
    network: Any = energy.network
    if context is None or context.target is None:
        return network, None
    return network, Nudge(energy.cost, context.target, energy.nudge)


def _potential(network: Layered, nudge: Nudge | None, layers: Layers, drive: Array, beta: ScalarLike) -> Scalar:
    value = network.energy_of_layers(layers, drive)
    if nudge is not None:
        value = value + nudge.strength * nudge.cost(network.output_of(layers[-1]), nudge.target)
    return beta * value


def _linearised(
    key: Key | None, network: Layered, natural: Any, s: Float[Array, " n"], nudge: Nudge, beta: ScalarLike
) -> Float[Array, " n"]:
    """Last layer under a cost that is no well: proposal from the linearised cost, then the accept test."""
    units = network.units[-1]
    flat = jnp.zeros((), s.dtype)

    def cost(state: Float[Array, " n"]) -> Scalar:
        return nudge.strength * nudge.cost(network.output_of(state), nudge.target)

    def pulled(state: Float[Array, " n"]) -> Any:
        return with_well(units, natural, -jax.grad(cost)(state), flat)

    if key is None:
        return units.mode(pulled(s))
    key_draw, key_accept = fold(key, 0), fold(key, 1)
    there = _scaled(pulled(s), beta)
    new = units.sample(key_draw, there)
    back = _scaled(pulled(new), beta)
    free = _scaled(natural, beta)
    log_ratio = _log_density(units, free, new) - _log_density(units, free, s) - beta * (cost(new) - cost(s))
    log_ratio += _log_density(units, back, s) - _log_density(units, there, new)
    log_ratio += jnp.sum(units.cgf(there)) - jnp.sum(units.cgf(back))
    is_accepted = jnp.log(uniform(key_accept, (), s.dtype)) < log_ratio
    return jnp.where(is_accepted, new, s)


def _log_density(units: AbstractUnits, natural: Any, s: Float[Array, " n"]) -> Scalar:
    """Log density of a layer up to its normaliser."""
    if isinstance(natural, Well):
        return jnp.sum(natural.field * s - 0.5 * natural.curvature * s**2)
    return jnp.sum(natural * s - units.energies(s))


def _scaled(natural: Any, beta: ScalarLike) -> Any:
    return jax.tree.map(lambda leaf: beta * leaf, natural)
