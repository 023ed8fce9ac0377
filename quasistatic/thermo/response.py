"""Excess work as linear response predicts it, from the work that walkers receive: friction measured while training.

With `w_k` the work of the switch of update `k` on a walker, covariances over walkers, and a memory of `M` to `2 M`
updates,

    W_ex  =  sum_k  var(w_k) / 2  +  sum_(l >= 1)  cov(w_k, w_(k-l))
          =  sum_k  dtheta_k' (C_0 / 2 + C_1 + C_2 + ...) dtheta_k

which is the friction of `metric.friction` along the path that was taken; no matrix is formed. The first sum alone is
the dissipation of walkers that relax completely between two updates; the ratio of the two measures the relaxation time.

Linear response sees the motion inside the modes that walkers visit. Walkers that never cross a barrier, or cross it
less often than once in the memory, dissipate more than it says, and updates too large for it dissipate something else:
compare the prediction with the measured excess work.

Reference:
    Sivak and Crooks, Phys. Rev. Lett. 108, 190602 (2012), eqs. 10-12 (friction as an integrated correlation).
"""

import equinox as eqx
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from quasistatic._types import Scalar
from quasistatic.errors import InputError


class Response(eqx.Module):
    """Running sums of work and of its covariances.

    Args:
        jumps: `sum_k var(w_k) / 2`, nats.
        delayed: `sum_k sum_l cov(w_k, w_(k-l))`, nats.
        recent: work of each walker in the memory's unfinished half, nats.
        before: likewise, in the half before it.
        n_recent: updates in the unfinished half.
        memory: updates per half.
    """

    jumps: Scalar
    delayed: Scalar
    recent: Float[Array, " n"]
    before: Float[Array, " n"]
    n_recent: Int[Array, ""]
    memory: int = eqx.field(static=True)

    @classmethod
    def open(cls, n_walkers: int, *, memory: int, dtype: DTypeLike | None = None) -> "Response":
        """Empty sums.

        Args:
            n_walkers: walkers of the population.
            memory: updates per half of the memory; several relaxation times.
            dtype: of the sums.

        Raises:
            InputError: the memory is shorter than one update.
        """
        if memory < 1:
            raise InputError(f"the memory of the response holds at least 1 update, got {memory}")
        zero, none = jnp.zeros((), dtype), jnp.zeros((n_walkers,), dtype)
        return cls(zero, zero, none, none, jnp.zeros((), jnp.int32), memory)

    def add(self, work: Float[Array, " n"], *, n_updates: int = 1) -> "Response":
        """Books one switch.

        Args:
            work: work on every walker, nats. A slot whose occupant is replaced breaks the memory of that slot.
            n_updates: 0 for a switch ahead of its update, which will then book no work.
        """
        centred = work - jnp.mean(work)
        n = work.shape[0]
        unbiased = 1 / max(n - 1, 1)
        is_full = self.n_recent >= self.memory
        before = jnp.where(is_full, self.recent, self.before)
        recent = jnp.where(is_full, 0.0, self.recent)
        return Response(
            jumps=self.jumps + 0.5 * unbiased * jnp.sum(centred**2),
            delayed=self.delayed + unbiased * jnp.sum(centred * (before + recent)),
            recent=recent + centred,
            before=before,
            n_recent=jnp.where(is_full, 0, self.n_recent) + n_updates,
            memory=self.memory,
        )

    @property
    def excess_work(self) -> Scalar:
        """Predicted excess work of all updates so far, nats."""
        return self.jumps + self.delayed

    @property
    def relaxation(self) -> Scalar:
        """Mean sum of the autocorrelations of the work at lags 1, 2, ...: in updates, weighted by the work done.

        Not negative, and 0 before the first work.
        """
        jumps = jnp.where(self.jumps > 0, self.jumps, 1.0)
        return jnp.where(self.jumps > 0, jnp.maximum(0.5 * self.delayed / jumps, 0.0), 0.0)
