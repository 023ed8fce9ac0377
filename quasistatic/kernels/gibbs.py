"""Gibbs kernels: block Gibbs for RBMs, systematic and coloured sweeps for pairwise models, site flips for the rest.

Every elementary move is a heat bath, which leaves `exp(-u)` invariant and is reversible; the heat of a sweep is the sum
over its elementary moves and therefore `u(x') - u(x)` exactly (its reverse is the time-reversed sweep).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from quasistatic._random import bernoulli_logits, fold, uniform
from quasistatic._types import Key, Scalar
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.pairwise import Pairwise
from quasistatic.energies.potential import Potential
from quasistatic.energies.rbm import RBM
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel, Info, KernelState, repeat


class BlockGibbs(AbstractKernel):
    """Alternating Gibbs for RBMs: `h ~ p(h|v)`, `v ~ p(v|h)`, reversible for the marginal of `v`.

    The cache is the hidden inputs `c + v'W`: the switch computes them for the potential, the next half-sweep samples
    from them, and the gradient reuses those of the last sweep.
    """

    @property
    def rates(self) -> tuple[str, ...]:
        return ("flip_rate",)

    def init(self, potential: Potential, x: Float[Array, " n_visible"], context: Any = None) -> KernelState:
        del context
        rbm: Any = potential.energy
        inputs = rbm.hidden_inputs(x)
        return KernelState(x, rbm.reduced_from_inputs(x, inputs, potential.beta), inputs)

    def step(
        self, key: Key, after: Potential, state: KernelState, controls: Any, context: Any = None
    ) -> tuple[KernelState, Scalar, Info]:
        del context
        rbm: Any = after.energy

        def sweep(i, carry):
            _, inputs = carry
            h = rbm.hidden.sample(fold(key, 2 * i), rbm.hidden_natural(inputs, after.beta))
            v = rbm.visible.sample(fold(key, 2 * i + 1), rbm.visible_natural(rbm.visible_inputs(h), after.beta))
            return v, rbm.hidden_inputs(v)

        def last(carry):
            # the flips of the last sweep speak for all: a loop that keeps its old states copies them every time
            v, inputs = sweep(controls.n_sweeps - 1, carry)
            return v, inputs, jnp.mean(v != carry[0], dtype=v.dtype)

        carry = repeat(controls.n_sweeps - 1, sweep, (state.x, state.cache))
        v, inputs, flip_rate = jax.lax.cond(
            controls.n_sweeps > 0, last, lambda carry: (*carry, jnp.zeros_like(state.u)), carry
        )
        u = rbm.reduced_from_inputs(v, inputs, after.beta)
        return KernelState(v, u, inputs), u - state.u, {"flip_rate": flip_rate}

    def shared(self, cache: Any) -> Any:
        return cache

    def check(self, energy: AbstractEnergy) -> None:
        if not isinstance(energy, RBM):
            raise InputError(f"block Gibbs moves RBMs, got {type(energy).__name__}; use Gibbs, Langevin or MALA")


class Gibbs(AbstractKernel):
    """Heat-bath sweeps of a pairwise model, site by site or colour by colour.

    Args:
        colours: block of each unit, shape `(n,)`; None updates units one after the other in index order. Units of one
            colour are updated together and must not interact (`Gibbs.coloured` finds such blocks).
        n_colours: number of blocks.
    """

    colours: Int[Array, " n"] | None = None
    n_colours: int = eqx.field(static=True, default=0)

    @classmethod
    def coloured(cls, energy: Pairwise) -> "Gibbs":
        """Kernel with a greedy colouring of the model's graph (two colours on an even square lattice)."""
        n = energy.units.size
        neighbours: list[list[int]] = [[] for _ in range(n)]
        for i, j in np.asarray(energy.edges):
            neighbours[i].append(int(j))
            neighbours[j].append(int(i))
        colours = np.full(n, -1)
        for i in range(n):
            used = {colours[j] for j in neighbours[i]}
            colours[i] = next(c for c in range(n) if c not in used)
        return cls(jnp.asarray(colours), int(colours.max()) + 1)

    @property
    def rates(self) -> tuple[str, ...]:
        return ("flip_rate",)

    def init(self, potential: Potential, x: Float[Array, " n"], context: Any = None) -> KernelState:
        del context
        model: Any = potential.energy
        local = model.local_fields(x)
        return KernelState(x, potential.beta * model.energy_from_fields(x, local), local)

    def step(
        self, key: Key, after: Potential, state: KernelState, controls: Any, context: Any = None
    ) -> tuple[KernelState, Scalar, Info]:
        del context
        model: Any = after.energy
        matrix = model.coupling_matrix()

        def draw(key_sweep, local):
            return model.units.sample(key_sweep, after.beta * model.units.natural(local))

        def site(i, carry):
            # the draw of unit i needs its own field at the moment of its update, hence uniforms drawn ahead
            x, local, uniforms = carry
            low, high = model.units.levels
            probability = jax.nn.sigmoid(after.beta * (high - low) * local[i])
            new = jnp.where(uniforms[i] < probability, high, low).astype(x.dtype)
            return x.at[i].set(new), local + matrix[i] * (new - x[i]), uniforms

        def systematic(key_sweep, x, local):
            uniforms = uniform(key_sweep, x.shape, x.dtype)
            x, local, _ = repeat(x.size, site, (x, local, uniforms))
            return x, local

        def by_colour(key_sweep, x, local):
            def block(c, carry):
                x, local = carry
                new = jnp.where(self.colours == c, draw(fold(key_sweep, c), local), x)
                return new, model.fields + matrix @ new

            return repeat(self.n_colours, block, (x, local))

        def sweep(i, carry):
            x, local, flips = carry
            key_sweep = fold(key, i)
            new, local = (systematic if self.colours is None else by_colour)(key_sweep, x, local)
            return new, local, flips + jnp.mean(new != x, dtype=x.dtype)

        carry = (state.x, state.cache, jnp.zeros_like(state.u))
        x, _, flips = repeat(controls.n_sweeps, sweep, carry)
        new = self.init(after, x)  # fields from scratch: incremental updates must not drift
        return new, new.u - state.u, {"flip_rate": flips / jnp.maximum(controls.n_sweeps, 1)}

    def check(self, energy: AbstractEnergy) -> None:
        if not isinstance(energy, Pairwise):
            raise InputError(f"this Gibbs kernel moves pairwise models, got {type(energy).__name__}; use SiteGibbs")
        if self.colours is not None:
            colours = np.asarray(self.colours)
            edges = np.asarray(energy.edges)
            if len(colours) != energy.units.size:
                raise InputError(f"{len(colours)} colours were given for {energy.units.size} units")
            if (colours[edges[:, 0]] == colours[edges[:, 1]]).any():
                raise InputError("two interacting units share a colour; use Gibbs.coloured(energy)")


class SiteGibbs(AbstractKernel):
    """Heat-bath sweep over the sites of *any* two-state energy, one evaluation of the potential per site.

    Args:
        levels: the two states, such as `(0.0, 1.0)` or `(-1.0, 1.0)`.
    """

    levels: tuple[float, float] = eqx.field(static=True, default=(0.0, 1.0))

    def check(self, energy: AbstractEnergy) -> None:
        network: Any = getattr(energy, "network", energy)
        units: Any = getattr(network, "units", ())
        found = [each.levels for each in (units if isinstance(units, tuple) else (units,))]
        if getattr(network, "levels", None) is not None:
            found.append(network.levels)
        for levels in found:
            if levels is None or tuple(map(float, levels)) != tuple(map(float, self.levels)):
                has = "continuous units" if levels is None else f"units of states {tuple(levels)}"
                raise InputError(
                    f"SiteGibbs moves units of states {self.levels}, but {type(network).__name__} has {has}; give it "
                    "their levels, or choose another kernel"
                )

    @property
    def rates(self) -> tuple[str, ...]:
        return ("flip_rate",)

    def init(self, potential: Potential, x: Float[Array, " n"], context: Any = None) -> KernelState:
        return KernelState(x, potential(x, context), None)

    def step(
        self, key: Key, after: Potential, state: KernelState, controls: Any, context: Any = None
    ) -> tuple[KernelState, Scalar, Info]:
        low, high = self.levels

        def site(i, carry):
            x, u, key_sweep = carry
            flipped = x.at[i].set(low + high - x[i])
            u_flipped = after(flipped, context)
            is_flipped = bernoulli_logits(fold(key_sweep, i), u - u_flipped) > 0
            return jnp.where(is_flipped, flipped, x), jnp.where(is_flipped, u_flipped, u), key_sweep

        def sweep(i, carry):
            x, u, flips = carry
            new, u, _ = repeat(x.size, site, (x, u, fold(key, i)))
            return new, u, flips + jnp.mean(new != x, dtype=x.dtype)

        carry = (state.x, state.u, jnp.zeros_like(state.u))
        x, u, flips = repeat(controls.n_sweeps, sweep, carry)
        return KernelState(x, u, None), u - state.u, {"flip_rate": flips / jnp.maximum(controls.n_sweeps, 1)}
