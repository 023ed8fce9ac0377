"""Replica exchange: a walker is a stack of replicas, one per rung of a ladder, that change places.

One round is `n_between` sweeps in every rung and then an attempt to exchange neighbours, pairs (0, 1), (2, 3), ... and
(1, 2), (3, 4), ... in turns, accepted with probability

    A = min(1, exp[u_k(x_k) + u_{k+1}(x_{k+1}) - u_k(x_{k+1}) - u_{k+1}(x_k)]) .

The potential of the stack is the sum over its rungs. An exchange is a Metropolis move of the stack in detailed balance
with the product law: its heat is the change of the potential and its shadow work zero, so all books hold for stacks as
they do for single walkers. The model is the last rung; `at_model` looks at that replica alone.

Reference:
    Hukushima and Nemoto, J. Phys. Soc. Jpn. 65, 1604 (1996); Syed et al., J. R. Stat. Soc. B 84, 321 (2022) (pairs in
    turns rather than at random); Bereux et al. 2024, parallel trajectory tempering (arXiv 2405.15376).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from quasistatic._random import fold, split, uniform
from quasistatic._types import Key, Scalar
from quasistatic.energies.base import AbstractEnergy, AbstractTractable
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel, Info, KernelState, repeat
from quasistatic.kernels.ladders import AbstractLadder, Rungs, Tempered, Trajectory

BOTTOM, TOP = 1, 2


class Flow(NamedTuple):
    """How replicas travel through one stack; shapes are those of one walker.

    Args:
        label: replica at each rung, `(n_rungs,)`.
        last_end: end of the ladder that each *replica* visited last: 0 none, 1 bottom, 2 top.
        n_trips: arrivals at the bottom of replicas that had been at the top since they were there last, over all
            replicas; one that starts at or reaches the top first counts its first way down, too.
        n_rounds: rounds so far; its parity chooses the pairs.
    """

    label: Int[Array, "*n n_rungs"]
    last_end: Int[Array, "*n n_rungs"]
    n_trips: Int[Array, "*n"]
    n_rounds: Int[Array, "*n"]

    @classmethod
    def open(cls, n_rungs: int) -> "Flow":
        """Replicas at the rungs they start from."""
        zero = jnp.zeros((), jnp.int32)
        return cls(jnp.arange(n_rungs, dtype=jnp.int32), jnp.zeros(n_rungs, jnp.int32), zero, zero)

    def after(self, partner: Int[Array, " n_rungs"], is_swapped: Array) -> "Flow":
        """The flow after one round of exchanges."""
        label = jnp.where(is_swapped, self.label[partner], self.label)
        low, high = label[0], label[-1]
        is_back = self.last_end[low] == TOP
        last_end = self.last_end.at[low].set(BOTTOM).at[high].set(TOP)
        return Flow(label, last_end, self.n_trips + is_back, self.n_rounds + 1)


class Replicas(NamedTuple):
    """Cache of a stack.

    Args:
        u: potential of each replica under its rung, `(n_rungs,)`, nats.
        inner: caches of the kernel that moves single replicas, rungs first.
        flow: travels of the replicas.
    """

    u: Float[Array, "*n n_rungs"]
    inner: Any
    flow: Flow


class Exchange(AbstractKernel):
    """Replica exchange over a ladder, around any kernel.

    Positions have shape `(n_rungs, ...)`. `controls.n_sweeps` counts rounds. Of the rates, `flip_rate` is that of the
    model's replica within its rung and `accept_rate` the mean acceptance of the exchanges tried.

    Args:
        inner: kernel of single replicas; it must not move with the switch.
        ladder: laws of the rungs (`Tempered`, `Trajectory`).
        n_between: sweeps of every replica between two rounds of exchanges.
    """

    inner: AbstractKernel
    ladder: AbstractLadder
    n_between: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        if isinstance(self.inner, AbstractKernel) and (self.inner.moves_with_switch or self.inner.n_replicas > 1):
            raise InputError(
                f"replicas cannot be moved by a fused or a replica kernel, got {type(self.inner).__name__}; "
                "use one that switches before it moves"
            )
        if self.n_between < 1:
            raise InputError(f"n_between is a number of sweeps of at least 1, got {self.n_between}")

    @property
    def n_replicas(self) -> int:
        return self.ladder.n_rungs

    @property
    def single(self) -> AbstractKernel:
        return self.inner

    @property
    def has_model_work(self) -> bool:
        return self.ladder.is_frozen

    @property
    def rates(self) -> tuple[str, ...]:
        return ("flip_rate", "accept_rate") if "flip_rate" in self.inner.rates else ("accept_rate",)

    def init(self, potential: Potential, x: Float[Array, "n_rungs ..."], context: Any = None) -> KernelState:
        rungs = self.ladder.rungs(potential)
        each = self.ladder.over(rungs, lambda p, replica: self.inner.init(p, replica, context), x)
        return KernelState(x, jnp.sum(each.u), Replicas(each.u, each.cache, Flow.open(self.n_replicas)))

    def meet(self, potential: Potential, state: KernelState, context: Any = None) -> KernelState:
        if state.cache is None:
            return self.init(potential, state.x, context)
        old: Replicas = state.cache
        if not self.ladder.is_frozen:
            new = self.init(potential, state.x, context)
            return KernelState(new.x, new.u, new.cache._replace(flow=old.flow))
        met = self.inner.init(potential, state.x[-1], context)  # frozen rungs stay what they are
        u = old.u.at[-1].set(met.u)
        inner = jax.tree.map(lambda leaves, leaf: leaves.at[-1].set(leaf), old.inner, met.cache)
        return KernelState(state.x, jnp.sum(u), Replicas(u, inner, old.flow))

    def at_model(self, state: KernelState) -> KernelState:
        replicas: Replicas = state.cache
        return KernelState(state.x[-1], replicas.u[-1], jax.tree.map(lambda leaf: leaf[-1], replicas.inner))

    def start(
        self, key: Key, law: AbstractTractable, beta: Any, n: int
    ) -> tuple[Float[Array, "n n_rungs ..."], Float[Array, " n"], Scalar | None]:
        return self.ladder.start(key, law, beta, n)

    def step(
        self, key: Key, after: Potential, state: KernelState, controls: Any, context: Any = None
    ) -> tuple[KernelState, Scalar, Info]:
        rungs = self.ladder.rungs(after)
        within = eqx.tree_at(lambda c: c.n_sweeps, controls, jnp.asarray(self.n_between, jnp.int32))

        def sweep(key_rung: Key, potential: Potential, x: Array, u: Array, cache: Any) -> tuple:
            moved, heat, info = self.inner.step(key_rung, potential, KernelState(x, u, cache), within, context)
            return moved, heat, info.get("flip_rate", jnp.zeros_like(u))

        def turn(i, carry):
            x, (u, inner, flow), shadow, flips, accepted, tried = carry
            keys = split(fold(key, 2 * i), self.n_replicas)
            moved, heats, rates = self.ladder.over(rungs, lambda p, k, *args: sweep(k, p, *args), keys, x, u, inner)
            swapped = self.swap(fold(key, 2 * i + 1), rungs, moved.x, Replicas(moved.u, moved.cache, flow), context)
            x, replicas, acceptance, n_pairs = swapped
            shadow = shadow + jnp.sum((moved.u - u) - heats)  # exchanges have none
            return x, replicas, shadow, flips + rates[-1], accepted + acceptance, tried + n_pairs

        zero = jnp.zeros_like(state.u)
        carry = (state.x, state.cache, zero, zero, zero, zero)
        x, replicas, shadow, flips, accepted, tried = repeat(controls.n_sweeps, turn, carry)
        info = {"accept_rate": accepted / jnp.maximum(tried, 1)}
        if "flip_rate" in self.inner.rates:
            info["flip_rate"] = flips / jnp.maximum(controls.n_sweeps, 1)
        total = jnp.sum(replicas.u)
        return KernelState(x, total, replicas), (total - state.u) - shadow, info

    def swap(
        self, key: Key, rungs: Rungs, x: Float[Array, "n_rungs ..."], replicas: Replicas, context: Any = None
    ) -> tuple[Float[Array, "n_rungs ..."], Replicas, Scalar, Scalar]:
        """One round of exchanges of a stack; the parity of its rounds chooses the pairs.

        Args:
            key: random key.
            rungs: potentials as the ladder makes them (`AbstractLadder.rungs`).
            x: positions.
            replicas: cache that belongs to them.
            context: of the energy.

        Returns:
            New positions and cache; the summed acceptance probabilities, and over how many pairs.
        """
        flow = replicas.flow
        partner = partners(self.n_replicas, flow.n_rounds % 2 if self.n_replicas > 2 else 0)
        there = _of_partner(x, partner)
        crossed = self.ladder.over(rungs, lambda p, replica: self.inner.init(p, replica, context), there)
        log_ratio = self.log_ratio(replicas.u, crossed.u, partner)
        lower = jnp.minimum(jnp.arange(self.n_replicas), partner)
        drawn = uniform(key, (self.n_replicas,), replicas.u.dtype)[lower]  # both of a pair see one number
        is_paired = partner != jnp.arange(self.n_replicas)
        acceptance = jnp.exp(jnp.minimum(log_ratio, 0.0))
        is_swapped = is_paired & (drawn < acceptance)

        def exchanged(here: Array, there: Array) -> Array:
            return jnp.where(_along(is_swapped, here), there, here)

        # what was computed for the comparison is the state after the exchange: potentials and caches of the new rungs
        x, u, inner = jax.tree.map(exchanged, (x, replicas.u, replicas.inner), (there, crossed.u, crossed.cache))
        total = 0.5 * jnp.sum(jnp.where(is_paired, acceptance, 0.0))
        return x, Replicas(u, inner, flow.after(partner, is_swapped)), total, 0.5 * jnp.sum(is_paired, dtype=u.dtype)

    @staticmethod
    def log_ratio(
        u: Float[Array, " n_rungs"], crossed: Float[Array, " n_rungs"], partner: Int[Array, " n_rungs"]
    ) -> Float[Array, " n_rungs"]:
        """`u_k(x_k) + u_l(x_l) - u_k(x_l) - u_l(x_k)` of each rung and its partner, the same number for both.

        Args:
            u: potentials of the replicas where they are.
            crossed: potentials, under each rung, of the partner's replica.
            partner: the rung each one is paired with.
        """
        gain = u - crossed
        return gain + gain[partner]

    def shared(self, cache: Any) -> Any:
        return self.inner.shared(cache)

    def check(self, energy: AbstractEnergy) -> None:
        self.inner.check(energy)
        self.ladder.check(energy)


def partners(n_rungs: int, parity: Any) -> Int[Array, " n_rungs"]:
    """Rung that each rung is paired with: its upper neighbour where `k + parity` is even, else its lower; the ends of
    the ladder without one are their own."""
    k = jnp.arange(n_rungs)
    partner = k + jnp.where((k + parity) % 2 == 0, 1, -1)
    return jnp.where((partner < 0) | (partner >= n_rungs), k, partner)


def _of_partner(x: Array, partner: Int[Array, " n_rungs"]) -> Array:
    """`x[partner]` by shifts: pairs are neighbours, and a gather of its own per walker is slow."""
    k = jnp.arange(x.shape[0])
    lower = jnp.where(_along(partner < k, x), jnp.roll(x, 1, axis=0), x)
    return jnp.where(_along(partner > k, x), jnp.roll(x, -1, axis=0), lower)


def _along(flag: Array, x: Array) -> Array:
    """One flag per rung, shaped to select among the rungs of `x`."""
    return flag.reshape((-1,) + (1,) * (x.ndim - 1))


def parallel_tempering(inner: AbstractKernel, n_rungs: int, hottest: float, *, n_between: int = 1) -> Exchange:
    """Replica exchange of the model with itself at temperatures in geometric progression.

    Args:
        inner: kernel of single replicas.
        n_rungs: number of temperatures, that of the model included.
        hottest: highest temperature in units of the model's.
        n_between: sweeps between exchanges.
    """
    return Exchange(inner, Tempered.geometric(n_rungs, hottest), n_between)


def trajectory_tempering(inner: AbstractKernel, ages: list[Any], *, betas: Any = 1.0, n_between: int = 1) -> Exchange:
    """Replica exchange of the model with earlier ages of its training.

    Args:
        inner: kernel of single replicas.
        ages: frozen models, oldest first; the first should mix by itself, such as `independent_rbm(model)[0]`.
        betas: inverse temperature of each age, or one for all.
        n_between: sweeps between exchanges.
    """
    return Exchange(inner, Trajectory.of(ages, betas=betas), n_between)
