"""Accounts: what each walker has received since its books were opened.

    u - u_start = work + heat + shadow_work          (first law)
    log_weight  = -(work + shadow_work)  since the weights were last cleared

Work is positive when done on the walkers, heat when absorbed from the bath; all in nats. Weight arithmetic is here
and in `ensemble.py`, nowhere else.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from quasistatic._numerics import TwoFloat


def add_each(sums: tuple[TwoFloat, ...], terms: tuple[Float[Array, "..."], ...]) -> list[TwoFloat]:
    """Adds a term to each of several sums of one shape; stacked, because one long addition compiles faster."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *sums).add(jnp.stack(terms))
    return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(len(sums))]


class Account(eqx.Module):
    """Books of `n` walkers, as compensated sums.

    Args:
        work: work done by switches of the model, shape `(n,)`, nats.
        heat: heat reported by the kernel.
        shadow_work: `du - heat` of the moves: zero in detailed balance, the discretisation correction otherwise.
        log_weight: log importance weight since weights were last cleared.
        u_start: reduced potential when the books were opened.
    """

    work: TwoFloat
    heat: TwoFloat
    shadow_work: TwoFloat
    log_weight: TwoFloat
    u_start: Float[Array, " n"]

    @classmethod
    def open(cls, u: Float[Array, " n"]) -> "Account":
        """New books for walkers of potential `u`."""
        zeros = TwoFloat.zeros(u.shape, u.dtype)
        return cls(zeros, zeros, zeros, zeros, u)

    def book(self, *, work: Float[Array, " n"], heat: Float[Array, " n"], shadow_work: Float[Array, " n"]) -> "Account":
        """Books one switch, relaxation or fused move."""
        sums = (self.work, self.heat, self.shadow_work, self.log_weight)
        sums = add_each(sums, (work, heat, shadow_work, -(work + shadow_work)))
        return Account(sums[0], sums[1], sums[2], sums[3], self.u_start)

    def permuted(self, ancestors: Int[Array, " n"]) -> "Account":
        """Books of the walkers' ancestors."""
        return jax.tree.map(lambda leaf: leaf[ancestors], self)

    def first_law_residual(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        """`u - u_start - work - heat - shadow_work` per walker: zero up to rounding, for every kernel and path."""
        # Work and heat grow without bound and cancel: rounding each to one float would cost more than the books lost.
        booked = self.work
        for part in (self.heat, self.shadow_work):
            booked = booked.add(part.hi).add(part.lo)
        return (u - self.u_start) - booked.value
