"""Kernels: moves of one walker that report their heat.

A kernel leaves (or approximates) `p(x) ~ exp(-u(x))`. For every move it reports

    heat = log K(x' -> x) - log K(x -> x') ,

the log ratio of reverse to forward path probability, summed over the elementary moves of the step. The books then
close as `du = work + heat + shadow work`. Kernels in detailed balance have `heat = du`, exactly.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from quasistatic._types import IntScalarLike, Key, Sample, Scalar
from quasistatic.energies.base import AbstractEnergy, AbstractTractable
from quasistatic.energies.potential import Potential

Info = dict[str, Float[Array, ""]]
"""What a step tells humans: `flip_rate` (changed units per sweep) or `accept_rate`, where they exist."""


class KernelState(eqx.Module):
    """One walker as a kernel sees it; an ensemble holds many at once, walkers first.

    Args:
        x: position.
        u: reduced potential at `x`, nats; shape `()` for one walker.
        cache: what the next step needs and was computed with `u` (gradient, pre-activations, local fields).
    """

    x: Sample
    u: Float[Array, "*walkers"]
    cache: Any


class AbstractKernel(eqx.Module):
    """Markov kernel on one walker; batches are made with `jax.vmap`.

    A complete member (heat-bath refresh from a law that is sampled exactly, so `heat = du`):

    ```python
    >>> import jax.numpy as jnp
    >>> from quasistatic.kernels import AbstractKernel, KernelState
    >>> class Refresh(AbstractKernel):
    ...     def init(self, potential, x, context=None):
    ...         return KernelState(x, potential(x, context), None)
    ...     def step(self, key, after, state, controls, context=None):
    ...         x = after.energy.sample_exact(key, after.beta, 1)[0]
    ...         new = self.init(after, x, context)
    ...         return new, new.u - state.u, {}

    ```
    """

    @property
    def moves_with_switch(self) -> bool:
        """Whether a step also carries out the switch to `after` (see `Langevin`)."""
        return False

    @property
    def rates(self) -> tuple[str, ...]:
        """Entries of the info that `step` returns: `"flip_rate"`, `"accept_rate"` or none."""
        return ()

    @property
    def n_replicas(self) -> int:
        """Configurations in one walker's position; more than 1 for replica exchange (see `Exchange`)."""
        return 1

    @property
    def has_model_work(self) -> bool:
        """Whether the work of a switch is that of the model; not where all replicas of a stack move with it."""
        return True

    @property
    def single(self) -> "AbstractKernel":
        """Kernel of one configuration: itself, or what moves the replicas of a stack."""
        return self

    @abc.abstractmethod
    def init(self, potential: Potential, x: Sample, context: Any = None) -> KernelState:
        """State of a walker at `x` under `potential`."""

    def meet(self, potential: Potential, state: KernelState, context: Any = None) -> KernelState:
        """The walker where it is, under another potential: what a switch evaluates. Default: `init` at its position.

        A kernel overrides it whose cache remembers more than the position (the state may come without a cache).
        """
        return self.init(potential, state.x, context)

    def at_model(self, state: KernelState) -> KernelState:
        """The walker as one sample of the model. Default: all of it; of a stack of replicas, the one at the model."""
        return state

    def start(self, key: Key, law: AbstractTractable, beta: Any, n: int) -> tuple[Any, Any, Any]:
        """Exact positions under a tractable law, `n` of them, and what books need to open there.

        Returns:
            Positions; reduced potentials, shape `(n,)`; the `log Z` whose changes are those of the model's, or None.
        """
        x = law.sample_exact(key, beta, n)
        return x, jax.vmap(lambda sample: law.reduced(sample, beta))(x), law.log_partition(beta)

    @abc.abstractmethod
    def step(
        self, key: Key, after: Potential, state: KernelState, controls: Any, context: Any = None
    ) -> tuple[KernelState, Scalar, Info]:
        """`controls.n_sweeps` sweeps.

        Args:
            key: random key of this walker and step.
            after: potential of the new state, and of every move but the first forward one of a fused step.
            state: the walker; its cache holds what the forward move needs, under the potential it was made for.
            controls: `Controls` (sweeps, step size).
            context: per-walker inputs or clamps of the energy.

        Returns:
            New state under `after`; heat in nats; info.
        """

    def shared(self, cache: Any) -> Any:
        """The part of the cache that `energy.weighted_gradient` can reuse. Default: nothing."""
        del cache
        return None

    def check(self, energy: AbstractEnergy) -> None:
        """Raises `InputError` when the kernel cannot move this energy. Default: accepts all."""
        del energy


def repeat(n: IntScalarLike, body: Callable[[Any, Any], Any], carry: Any) -> Any:
    """`carry = body(i, carry)` for `i < n`, where `n` may be traced."""
    return jax.lax.fori_loop(0, n, body, carry)
