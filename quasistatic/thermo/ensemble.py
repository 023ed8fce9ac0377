"""Ensembles: walkers, their accounts, and the free energy these amount to.

Walkers are split into `n_groups` equal, contiguous, independent groups. Resampling happens inside a group, so groups
stay
independent and their spread measures the error of `log Z`. A free energy exists only while `anchored`: walkers started
from a law with known Z and were never restarted from somewhere else.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from quasistatic._numerics import TwoFloat, ess_fraction, log_mean_exp
from quasistatic._random import split
from quasistatic._types import BoolScalar, Key, ScalarLike
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel, KernelState
from quasistatic.thermo.account import Account
from quasistatic.thermo.resampling import ResampleMethod, ancestors


class Ensemble(eqx.Module):
    """A population of walkers with books.

    Args:
        x: positions, walkers first.
        u: reduced potential of each walker under the model they were last switched to, nats.
        cache: kernel cache of each walker.
        context: per-walker inputs, targets or clamps (pytree with walkers first, or None).
        account: books per walker.
        log_z: log Z of each group up to its open weights, shape `(n_groups,)`, nats.
        anchored: whether `log_z` means anything.
        n_groups: number of independent groups.
    """

    x: Float[Array, "n ..."]
    u: Float[Array, " n"]
    cache: Any
    context: Any
    account: Account
    log_z: TwoFloat
    anchored: BoolScalar
    n_groups: int = eqx.field(static=True)

    @classmethod
    def open(
        cls,
        kernel: AbstractKernel,
        potential: Potential,
        x: Float[Array, "n ..."],
        *,
        n_groups: int = 1,
        log_z: ScalarLike | None = None,
        context: Any = None,
    ) -> "Ensemble":
        """Opens books for walkers at `x`.

        Args:
            kernel: kernel that will move them.
            potential: the law they are booked under.
            x: positions, walkers first.
            n_groups: number of groups; must divide the number of walkers.
            log_z: `log Z` of that law **if** `x` are exact samples of it, else None: no free energy is then reported.
            context: per-walker context.
        """
        n = len(x)
        if n_groups < 1 or n % n_groups:
            raise InputError(
                f"{n} walkers cannot be split into {n_groups} equal groups; choose a multiple of {n_groups}"
            )
        state = _vmap_init(kernel, potential, x, context)
        zeros = TwoFloat.zeros((n_groups,), state.u.dtype)
        offset = zeros if log_z is None else zeros.add(jnp.broadcast_to(log_z, (n_groups,)))
        anchored = jnp.asarray(log_z is not None)
        return cls(state.x, state.u, state.cache, context, Account.open(state.u), offset, anchored, n_groups)

    @property
    def n_walkers(self) -> int:
        return self.u.shape[0]

    @property
    def group(self) -> Int[Array, " n"]:
        """Group of each walker."""
        return jnp.arange(self.n_walkers) // (self.n_walkers // self.n_groups)

    @property
    def state(self) -> KernelState:
        """Walkers as kernel states, walkers first."""
        return KernelState(self.x, self.u, self.cache)

    def by_group(self, values: Float[Array, " n"]) -> Float[Array, "n_groups m"]:
        """Per-walker values, one row per group."""
        return values.reshape(self.n_groups, -1)

    def log_weight(self) -> Float[Array, " n"]:
        """Log importance weight of each walker *within its group*."""
        return self.account.log_weight.value

    def log_partition_groups(self) -> Float[Array, " n_groups"]:
        """Independent estimates of `log Z` of the present law, one per group; each `Z` is unbiased on a fixed path."""
        # offset.hi first: the large part is then exactly representable and the small parts are summed apart
        open_weights = log_mean_exp(self.by_group(self.log_weight()), axis=1)
        return self.log_z.hi + (self.log_z.lo + open_weights)

    def weights(self) -> Float[Array, " n"]:
        """Normalised weights over all walkers: groups weigh by their own estimate of Z."""
        between = self.log_partition_groups() - log_mean_exp(self.by_group(self.log_weight()), axis=1)
        return jax.nn.softmax((between[:, None] + self.by_group(self.log_weight())).reshape(-1))

    def ess(self) -> Float[Array, " n_groups"]:
        """Effective sample size of each group as a fraction of its walkers, in (0, 1]."""
        return ess_fraction(self.by_group(self.log_weight()), axis=-1)

    def with_state(self, state: KernelState, account: Account) -> "Ensemble":
        """Walkers moved or switched to a new state, with their books."""
        return eqx.tree_at(
            lambda e: (e.x, e.u, e.cache, e.account),
            self,
            (state.x, state.u, state.cache, account),
            is_leaf=lambda leaf: leaf is None,
        )

    def taken(self, index: Int[Array, " m"]) -> "Ensemble":
        """Some walkers as an ensemble of one group, to be moved and `put` back."""
        per_walker = (self.x, self.u, self.cache, self.context, self.account)
        x, u, cache, context, account = jax.tree.map(lambda leaf: leaf[index], per_walker)
        return Ensemble(x, u, cache, context, account, TwoFloat.zeros((1,), u.dtype), self.anchored, 1)

    def put(self, index: Int[Array, " m"], walkers: "Ensemble") -> "Ensemble":
        """Walkers written back to their places (see `taken`)."""
        parts = [(e.x, e.u, e.cache, e.account) for e in (self, walkers)]
        x, u, cache, account = jax.tree.map(lambda a, b: a.at[index].set(b), *parts)
        return self.with_state(KernelState(x, u, cache), account)

    def restarted(self, kernel: AbstractKernel, potential: Potential, x: Float[Array, "n ..."]) -> "Ensemble":
        """Walkers put at `x`: their old books are closed, new ones opened, and no free energy is known any more."""
        return Ensemble.open(kernel, potential, x, n_groups=self.n_groups, context=self.context)

    def resampled(
        self, key: Key, *, below: float, method: ResampleMethod = "systematic", is_sorted: bool = False
    ) -> tuple["Ensemble", Array]:
        """Resamples every group whose ESS fraction is below a threshold.

        Args:
            key: random key.
            below: threshold.
            method: resampling method.
            is_sorted: line the walkers of a group up by potential first, so that neighbours on the line are alike
                and systematic resampling keeps the occupation of modes that differ in it.

        `x`, `u`, cache, context and account move together; the group's log mean weight goes to `log_z` before its
        weights are cleared, so the estimate of `log Z` is continuous across the event.

        Returns:
            The ensemble, and the number of groups that were resampled.
        """
        m = self.n_walkers // self.n_groups
        log_weight = self.by_group(self.log_weight())
        is_due = ess_fraction(log_weight, axis=-1) < below

        def chosen_as_they_are(k, lw, u):
            del u
            return ancestors(k, lw, method=method)

        def chosen_in_order(k, lw, u):
            order = jnp.argsort(u)
            return jnp.zeros_like(order).at[order].set(order[ancestors(k, lw[order], method=method)])

        def resample(_):
            keys = split(key, self.n_groups)
            inside = jax.vmap(chosen_in_order if is_sorted else chosen_as_they_are)(
                keys, log_weight, self.by_group(self.u)
            )
            own = jnp.broadcast_to(jnp.arange(m), inside.shape)
            chosen = jnp.where(is_due[:, None], inside, own) + m * jnp.arange(self.n_groups)[:, None]
            chosen = chosen.reshape(-1)
            account = self.account.permuted(chosen)
            keep = jnp.repeat(~is_due, m)
            cleared = jax.tree.map(lambda leaf: jnp.where(keep, leaf, jnp.zeros_like(leaf)), account.log_weight)
            account = eqx.tree_at(lambda a: a.log_weight, account, cleared)
            gained = jnp.where(is_due, log_mean_exp(log_weight, axis=1), 0.0)
            walkers = (self.x, self.u, self.cache, self.context)
            x, u, cache, context = jax.tree.map(lambda leaf: leaf[chosen], walkers)
            return Ensemble(x, u, cache, context, account, self.log_z.add(gained), self.anchored, self.n_groups)

        return jax.lax.cond(jnp.any(is_due), resample, lambda _: self, None), jnp.sum(is_due)


def _vmap_init(kernel: AbstractKernel, potential: Potential, x: Array, context: Any) -> KernelState:
    return jax.vmap(lambda sample, extra: kernel.init(potential, sample, extra))(x, context)
