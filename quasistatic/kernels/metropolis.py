"""Metropolis-adjusted Langevin algorithm (MALA): exact detailed balance, so heat is `du` and shadow work zero."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import Key, Scalar
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel, Info, KernelState, repeat
from quasistatic.kernels.langevin import log_forward, propose


class MALA(AbstractKernel):
    """Langevin proposals accepted with `min(1, exp(-du + log K(y -> x) - log K(x -> y)))`.

    Proposals of infinite or undefined potential are rejected, so walkers stay inside a box.

    Reference:
        Roberts and Tweedie, Bernoulli 2 (1996).
    """

    @property
    def rates(self) -> tuple[str, ...]:
        return ("accept_rate",)

    def init(self, potential: Potential, x: Float[Array, "*d"], context: Any = None) -> KernelState:
        u, gradient = jax.value_and_grad(potential)(x, context)
        return KernelState(x, u, gradient)

    def step(
        self, key: Key, after: Potential, state: KernelState, controls: Any, context: Any = None
    ) -> tuple[KernelState, Scalar, Info]:
        h = jnp.asarray(controls.step_size, state.x.dtype)

        def move(i, carry):
            old, accepted = carry
            key_noise, key_accept = jax.random.split(jax.random.fold_in(key, i))
            y = propose(key_noise, old.x, old.cache, h)
            new = self.init(after, y, context)
            log_ratio = old.u - new.u + log_forward(y, old.x, new.cache, h) - log_forward(old.x, y, old.cache, h)
            uniform = jax.random.uniform(key_accept, (), old.u.dtype)
            is_accepted = jnp.log(uniform) < log_ratio  # False for NaN
            chosen = jax.tree.map(lambda a, b: jnp.where(is_accepted, a, b), new, old)
            return chosen, accepted + is_accepted

        u_start = state.u
        state, accepted = repeat(controls.n_sweeps, move, (state, jnp.zeros_like(state.u)))
        return state, state.u - u_start, {"accept_rate": accepted / jnp.maximum(controls.n_sweeps, 1)}

    def check(self, energy: AbstractEnergy) -> None:
        if getattr(energy, "levels", None) is not None or hasattr(energy, "units") or hasattr(energy, "visible"):
            raise InputError(f"MALA moves continuous samples, but {type(energy).__name__} has discrete ones; use Gibbs")
