"""Metropolised kernels: MALA and HMC. With the accept test they are in detailed balance: heat is `du`.

HMC refreshes its momenta `p ~ N(0, M^-1)` and follows the leapfrog map for `n_leapfrog` steps of size
`eps = controls.step_size`:

    p <- p - (eps/2) b(x);   x <- x + eps M p;   p <- p - (eps/2) b(x).

The map keeps volume and is reversed by flipping the momenta, for any force field `b`. Without the accept test

    heat = log K(x' -> x) - log K(x -> x') = ( p.Mp - p'.Mp' ) / 2,      shadow work = du - heat = dH,

so the unadjusted kernel is booked exactly, too.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import Key, Scalar
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.gaussian import UniformBox
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.base import Info, KernelState, repeat
from quasistatic.kernels.langevin import AbstractDrift, check_drift, clipped, log_forward, propose


class MALA(AbstractDrift):
    """Langevin proposals accepted with `min(1, exp(-du + log K(y -> x) - log K(x -> y)))`.

    Proposals of infinite or undefined potential are rejected, so walkers stay inside a box.

    Args:
        clip: limit on every component of the drift, or None.
        preconditioner: diagonal `M`, one number or one per coordinate.

    Reference:
        Roberts and Tweedie, Bernoulli 2 (1996).
    """

    clip: float | None = eqx.field(static=True, default=None)
    preconditioner: Float[Array, "*d"] | float = 1.0

    def __check_init__(self):
        check_drift(self.clip, self.preconditioner)

    @property
    def rates(self) -> tuple[str, ...]:
        return ("accept_rate",)

    def step(
        self, key: Key, after: Potential, state: KernelState, controls: Any, context: Any = None
    ) -> tuple[KernelState, Scalar, Info]:
        s = jnp.asarray(controls.step_size * jnp.asarray(self.preconditioner), state.x.dtype)

        def move(i, carry):
            old, accepted = carry
            key_noise, key_accept = jax.random.split(jax.random.fold_in(key, i))
            b = clipped(old.cache, self.clip)
            y = propose(key_noise, old.x, b, s)
            new = self.init(after, y, context)
            b_new = clipped(new.cache, self.clip)
            log_ratio = old.u - new.u + log_forward(y, old.x, b_new, s) - log_forward(old.x, y, b, s)
            uniform = jax.random.uniform(key_accept, (), old.u.dtype)
            is_accepted = jnp.log(uniform) < log_ratio  # False for NaN
            chosen = jax.tree.map(lambda a, b: jnp.where(is_accepted, a, b), new, old)
            return chosen, accepted + is_accepted

        u_start = state.u
        state, accepted = repeat(controls.n_sweeps, move, (state, jnp.zeros_like(state.u)))
        return state, state.u - u_start, {"accept_rate": accepted / jnp.maximum(controls.n_sweeps, 1)}


class HMC(AbstractDrift):
    """Hamiltonian Monte Carlo with full momentum refreshment; one sweep is one trajectory.

    Args:
        n_leapfrog: leapfrog steps per trajectory; one gradient each.
        is_adjusted: accept with `min(1, exp(-dH))` (True), or always accept and book `dH` as shadow work.
        clip: limit on every component of the force, or None.
        preconditioner: diagonal inverse mass `M`, one number or one per coordinate (about the variance of each).

    Reference:
        Duane, Kennedy, Pendleton and Roweth, Phys. Lett. B 195 (1987); Neal, in Handbook of MCMC (2011), ch. 5.
    """

    n_leapfrog: int = eqx.field(static=True, default=10)
    is_adjusted: bool = eqx.field(static=True, default=True)
    clip: float | None = eqx.field(static=True, default=None)
    preconditioner: Float[Array, "*d"] | float = 1.0

    def __check_init__(self):
        check_drift(self.clip, self.preconditioner)
        if self.n_leapfrog < 1:
            raise InputError(f"n_leapfrog must be at least 1, got {self.n_leapfrog}")

    @property
    def rates(self) -> tuple[str, ...]:
        return ("accept_rate",) if self.is_adjusted else ()

    def step(
        self, key: Key, after: Potential, state: KernelState, controls: Any, context: Any = None
    ) -> tuple[KernelState, Scalar, Info]:
        eps = jnp.asarray(controls.step_size, state.x.dtype)
        inverse_mass = jnp.asarray(self.preconditioner, state.x.dtype)

        def kinetic(p):
            return 0.5 * jnp.sum(inverse_mass * p**2)

        def leapfrog(_, carry):
            now, p = carry
            p = p - 0.5 * eps * clipped(now.cache, self.clip)
            now = self.init(after, now.x + eps * inverse_mass * p, context)
            return now, p - 0.5 * eps * clipped(now.cache, self.clip)

        def trajectory(i, carry):
            old, heat, accepted = carry
            key_momentum, key_accept = jax.random.split(jax.random.fold_in(key, i))
            p = jax.random.normal(key_momentum, old.x.shape, old.x.dtype) / jnp.sqrt(inverse_mass)
            new, p_new = repeat(self.n_leapfrog, leapfrog, (old, p))
            gained = kinetic(p) - kinetic(p_new)
            if not self.is_adjusted:
                return new, heat + gained, accepted + 1
            uniform = jax.random.uniform(key_accept, (), old.u.dtype)
            is_accepted = jnp.log(uniform) < old.u - new.u + gained  # False for NaN
            chosen = jax.tree.map(lambda a, b: jnp.where(is_accepted, a, b), new, old)
            return chosen, heat, accepted + is_accepted

        u_start, zero = state.u, jnp.zeros_like(state.u)
        state, heat, accepted = repeat(controls.n_sweeps, trajectory, (state, zero, zero))
        if not self.is_adjusted:
            return state, heat, {}
        return state, state.u - u_start, {"accept_rate": accepted / jnp.maximum(controls.n_sweeps, 1)}

    def check(self, energy: AbstractEnergy) -> None:
        super().check(energy)
        is_boxed = isinstance(energy, UniformBox) or isinstance(getattr(energy, "base", None), UniformBox)
        if is_boxed and not self.is_adjusted:
            raise InputError("unadjusted HMC walkers leave a box; set is_adjusted = True, or use Langevin with a box")
