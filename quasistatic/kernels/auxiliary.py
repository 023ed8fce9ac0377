"""Gibbs kernel of an RBM whose weights keep the hidden states of the move instead of summing them out.

`BlockGibbs` weighs by the marginal potential `F(v)`, before or after a move; that is the better estimator and the
default. The kernel here draws `h ~ p(h|v)`, `v' ~ p(v'|h)` and puts `h` into the log weight:

    fused   h and v' under the old model, the reverse move under the new one (what the fused Langevin move does)
                dA = -[dE(v, h) + dE(v', h)] + dG(h)
    joint   annealed importance sampling of the pair (v, h): h under the old model, switch at (v, h), v' under the new
                dA = -dE(v, h)

with `d` the change of a reduced energy by the switch, `E` the joint and `G(h)` the marginal one of the hidden layer.
Both are exact at any speed, and noisier: of the walkers of a fast path of a 4x3 RBM 84 % remain for the marginal
weight, 59 % for `joint` and 39 % for `fused`.

Reference:
    Neal, Stat. Comput. 11, 125 (2001); Carbone, Hua, Coste and Vanden-Eijnden, NeurIPS 2023, proposition 1
    (arXiv 2305.19414), whose choice of forward and backward kernel `fused` makes for Gibbs moves.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._random import fold
from quasistatic._types import Key, Scalar
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.potential import Potential
from quasistatic.energies.rbm import RBM
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel, Info, KernelState, repeat

VARIANTS = ("joint", "fused")
"""How the hidden states enter the weight."""


class AuxiliaryCache(eqx.Module):
    """What a move needs of the model that its forward half belongs to.

    Args:
        inputs: hidden inputs `c + v'W` of the walker.
        visible_part: `beta (sum_i e(v_i) - b.v)`, nats.
        beta: inverse temperature of that model.
        potential: that model itself, or None for the variant that can do without.
    """

    inputs: Float[Array, "*walkers n_hidden"]
    visible_part: Float[Array, "*walkers"]
    beta: Float[Array, "*walkers"]
    potential: Potential | None


class AuxiliaryGibbs(AbstractKernel):
    """Block Gibbs for RBMs with the hidden states kept in the weights; carries out the switch with its first sweep.

    Args:
        variant: `"joint"` or `"fused"`. `fused` keeps a copy of the old model with every walker: it is meant for
            models small enough to be studied.
    """

    variant: str = eqx.field(static=True, default="joint")

    def __check_init__(self):
        if self.variant not in VARIANTS:
            raise InputError(f"unknown variant {self.variant!r}; choose one of {VARIANTS}")

    @property
    def moves_with_switch(self) -> bool:
        return True

    @property
    def rates(self) -> tuple[str, ...]:
        return ("flip_rate",)

    def init(self, potential: Potential, x: Float[Array, " n_visible"], context: Any = None) -> KernelState:
        del context
        rbm: Any = potential.energy
        inputs = rbm.hidden_inputs(x)
        beta = jnp.asarray(potential.beta, inputs.dtype)
        part = beta * (jnp.sum(rbm.visible.energies(x)) - rbm.visible_bias @ x)
        u = rbm.reduced_from_inputs(x, inputs, beta)
        kept = potential if self.variant == "fused" else None
        return KernelState(x, u, AuxiliaryCache(inputs, part, beta, kept))

    def step(
        self, key: Key, after: Potential, state: KernelState, controls: Any, context: Any = None
    ) -> tuple[KernelState, Scalar, Info]:
        del context

        def sweep(i, carry):
            old, heat, _ = carry
            model = after if old.cache.potential is None else old.cache.potential
            rbm: Any = model.energy
            # hidden states always under the old model, whose inputs are cached; visible ones as the variant says
            h = rbm.hidden.sample(fold(key, 2 * i), rbm.hidden_natural(old.cache.inputs, old.cache.beta))
            v = rbm.visible.sample(fold(key, 2 * i + 1), rbm.visible_natural(rbm.visible_inputs(h), model.beta))
            new = self.init(after, v)
            heat = heat + self.gain(old.cache, after, old.x, h, v) + (new.u - old.u)
            return new, heat, jnp.mean(v != old.x, dtype=old.u.dtype)

        zero = jnp.zeros_like(state.u)
        state, heat, flip_rate = repeat(controls.n_sweeps, sweep, (state, zero, zero))
        return state, heat, {"flip_rate": flip_rate}

    def gain(
        self,
        cache: AuxiliaryCache,
        after: Potential,
        v: Float[Array, " n_visible"],
        h: Float[Array, " n_hidden"],
        v_new: Float[Array, " n_visible"],
    ) -> Scalar:
        """Log-weight increment `dA` of a move `v -> h -> v_new`, nats.

        Args:
            cache: of the walker at `v`, under the old model.
            after: the new model.
            v: where the move starts.
            h: its hidden states.
            v_new: where it ends.
        """
        rbm: Any = after.energy
        before = cache.visible_part + cache.beta * (jnp.sum(rbm.hidden.energies(h)) - cache.inputs @ h)
        change = after.beta * rbm.energy(v, h) - before
        if cache.potential is None:
            return -change
        old: Any = cache.potential.energy
        change_new = after.beta * rbm.energy(v_new, h) - cache.beta * old.energy(v_new, h)
        return -(change + change_new) + hidden_potential(after, h) - hidden_potential(cache.potential, h)

    def shared(self, cache: AuxiliaryCache) -> Any:
        return cache.inputs

    def check(self, energy: AbstractEnergy) -> None:
        if not isinstance(energy, RBM):
            raise InputError(f"auxiliary Gibbs moves RBMs, got {type(energy).__name__}; use Gibbs, Langevin or MALA")


def hidden_potential(potential: Potential, h: Float[Array, " n_hidden"]) -> Scalar:
    """Reduced potential `G(h) = -log sum_v exp(-beta E(v, h))` of the hidden layer, nats.

    Args:
        potential: an RBM at a beta.
        h: hidden states.
    """
    rbm: Any = potential.energy
    own = potential.beta * (jnp.sum(rbm.hidden.energies(h)) - rbm.hidden_bias @ h)
    return own - jnp.sum(rbm.visible.cgf(rbm.visible_natural(rbm.visible_inputs(h), potential.beta)))
