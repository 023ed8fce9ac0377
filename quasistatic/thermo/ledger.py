"""Ledger: what a population has received over a whole run, as means over walkers.

Work, heat and shadow work are *unweighted* means per update, summed in two-float arithmetic: the books of the walkers
that go on. `switch_work` is what each switch did to the walkers that *made* the gradient, before any of them was
resampled or restarted. Its mean less the free-energy change is the excess work, by which a likelihood that believes
these walkers exceeds the true one. Averages of rates cover the updates since the last reading; `lowest_cess` watches
whether the groups can still carry a free energy.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from quasistatic._numerics import TwoFloat
from quasistatic._types import IntScalarLike, Scalar, ScalarLike
from quasistatic.kernels.base import Info
from quasistatic.thermo.account import Account, add_each
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.response import Response

RATES = ("flip_rate", "accept_rate")
"""Entries of a kernel's info that are averaged between readings."""


class Ledger(eqx.Module):
    """Run totals of one population.

    Args:
        work: mean work per walker, summed over updates, nats.
        heat: likewise, heat.
        shadow_work: likewise, shadow work.
        last_work: mean work of the last switch on the walkers that made the gradient, nats.
        last_excess: half the variance over walkers of the work of the last switch, nats: its excess work to second
            order.
        last_flip_rate: flip rate of the last update, 0 where the kernel has none.
        n_resampled: resampling events (groups) so far.
        n_updates: updates since the last reading.
        flip_rate: sum of flip rates since the last reading.
        accept_rate: sum of acceptance rates since the last reading.
        n_frozen: consecutive updates in which no unit of any walker changed.
        lowest_cess: smallest conditional ESS of a group at one update, in walkers, since the books were opened.
        switch_work: work of all switches on the occupant of each slot before resampling and restarts, shape `(n,)`,
            nats; a fused move's shadow work is in it.
        ahead: the part of the coming switch that was made at the end of the last chunk, per walker, nats.
        length: length of the path in the Fisher metric, of straight pieces between the ends of chunks, root nats.
        time: sum of step size times sweeps of all relaxations.
        response: excess work as linear response predicts it, None where nobody asks.
    """

    work: TwoFloat
    heat: TwoFloat
    shadow_work: TwoFloat
    last_work: Scalar
    last_excess: Scalar
    last_flip_rate: Scalar
    n_resampled: Int[Array, ""]
    n_updates: Int[Array, ""]
    flip_rate: Scalar
    accept_rate: Scalar
    n_frozen: Int[Array, ""]
    lowest_cess: Scalar
    switch_work: TwoFloat
    ahead: Float[Array, " n"]
    length: Scalar
    time: Scalar
    response: Response | None = None

    @classmethod
    def open(cls, ensemble: Ensemble, *, memory: int = 0) -> "Ledger":
        """Totals that start from the books of an ensemble (work of its bridge included).

        Args:
            ensemble: the population.
            memory: updates per half of the memory of the response; 0 for no response.
        """
        dtype = ensemble.u.dtype
        empty = TwoFloat.zeros((), dtype)
        zero, none = jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
        account = ensemble.account
        totals = [empty.add(jnp.mean(part.value)) for part in (account.work, account.heat, account.shadow_work)]
        m = ensemble.n_walkers // ensemble.n_groups
        return cls(
            work=totals[0],
            heat=totals[1],
            shadow_work=totals[2],
            last_work=zero,
            last_excess=zero,
            last_flip_rate=zero,
            n_resampled=none,
            n_updates=none,
            flip_rate=zero,
            accept_rate=zero,
            n_frozen=none,
            lowest_cess=jnp.asarray(m, dtype),
            switch_work=account.work,
            ahead=jnp.zeros_like(ensemble.u),
            length=zero,
            time=zero,
            response=Response.open(ensemble.n_walkers, memory=memory, dtype=dtype) if memory else None,
        )

    def close(
        self,
        before: Ensemble,
        after: Ensemble,
        info: Info,
        *,
        switched: Float[Array, " n"] | None = None,
        time: ScalarLike = 0.0,
    ) -> "Ledger":
        """Books one update of the population.

        Args:
            before: the population before switch and relaxation.
            after: the same walkers, in the same order, after them.
            info: the kernel's info, averaged over walkers.
            switched: work of the switch on the walkers that made the last gradient; None when they are these.
            time: step size times sweeps of the relaxation.
        """
        work, heat, shadow = _received(before.account, after.account)
        switched = work if switched is None else switched
        cess = conditional_ess(before, work + shadow)
        mean_work = jnp.mean(work)
        flip_rate = info.get("flip_rate", jnp.zeros_like(mean_work))
        is_frozen = flip_rate == 0 if "flip_rate" in info else jnp.zeros((), bool)
        whole = switched + self.ahead
        totals = (self.work, self.heat, self.shadow_work)
        totals = add_each(totals, (mean_work, jnp.mean(heat), jnp.mean(shadow)))
        return Ledger(
            work=totals[0],
            heat=totals[1],
            shadow_work=totals[2],
            last_work=jnp.mean(whole),
            last_excess=0.5 * jnp.var(whole),
            last_flip_rate=flip_rate,
            n_resampled=self.n_resampled,
            n_updates=self.n_updates + 1,
            flip_rate=self.flip_rate + flip_rate,
            accept_rate=self.accept_rate + info.get("accept_rate", jnp.zeros_like(mean_work)),
            n_frozen=jnp.where(is_frozen, self.n_frozen + 1, 0),
            lowest_cess=jnp.minimum(self.lowest_cess, jnp.mean(cess)),
            switch_work=self.switch_work.add(switched),
            ahead=jnp.zeros_like(self.ahead),
            length=self.length,
            time=self.time + time,
            response=None if self.response is None else self.response.add(switched),
        )

    def settle(self, before: Ensemble, after: Ensemble) -> "Ledger":
        """Books a switch without relaxation (at the end of a chunk), ahead of the update that follows."""
        work, _, _ = _received(before.account, after.account)
        cess = conditional_ess(before, work)
        response = None if self.response is None else self.response.add(work, n_updates=0)
        return eqx.tree_at(
            lambda led: (led.work, led.lowest_cess, led.switch_work, led.ahead, led.response),
            self,
            (
                self.work.add(jnp.mean(work)),
                jnp.minimum(self.lowest_cess, jnp.mean(cess)),
                self.switch_work.add(work),
                self.ahead + work,
                response,
            ),
            is_leaf=lambda leaf: leaf is None,
        )

    def travelled(self, work: Float[Array, " n"]) -> "Ledger":
        """Adds a straight piece of the path, `sqrt(var work / 2)`.

        The root of the excess work of one switch from end to end, were it small. Pieces of many updates leave out what
        goes to and fro between them, which costs nothing while walkers do not follow it.

        Args:
            work: work of a switch between the two ends of the piece, at fixed walkers.
        """
        return eqx.tree_at(lambda led: led.length, self, self.length + jnp.sqrt(0.5 * jnp.var(work)))

    def resampled(self, n: IntScalarLike) -> "Ledger":
        """Counts resampled groups."""
        return eqx.tree_at(lambda led: led.n_resampled, self, self.n_resampled + jnp.asarray(n, jnp.int32))

    def opened(self) -> "Ledger":
        """Starts a new reading interval."""
        fresh = (jnp.zeros_like(self.n_updates), jnp.zeros_like(self.flip_rate), jnp.zeros_like(self.accept_rate))
        return eqx.tree_at(lambda led: (led.n_updates, led.flip_rate, led.accept_rate), self, fresh)

    def rate(self, name: str) -> Scalar:
        """Mean of `flip_rate` or `accept_rate` since the last reading (of the kernels that report it)."""
        total = self.flip_rate if name == "flip_rate" else self.accept_rate
        return total / jnp.maximum(self.n_updates, 1)


def conditional_ess(before: Ensemble, dissipated: Float[Array, " n"]) -> Float[Array, " n_groups"]:
    """Walkers of each group that effectively carry one update.

    `m (sum w e^a)^2 / (sum w e^(2a))` with `a = -dissipated`.

    Args:
        before: the ensemble before the update (its normalised weights are `w`).
        dissipated: work plus shadow work of the update, nats.
    """
    log_w = before.by_group(before.log_weight())
    a = before.by_group(-dissipated)
    w = jnp.exp(log_w - jnp.max(log_w, axis=1, keepdims=True))
    w = w / jnp.sum(w, axis=1, keepdims=True)
    e = jnp.exp(a - jnp.max(jnp.where(w > 0, a, -jnp.inf), axis=1, keepdims=True))
    return a.shape[1] * jnp.sum(w * e, axis=1) ** 2 / jnp.sum(w * e**2, axis=1)


def _received(before: Account, after: Account) -> tuple[Float[Array, " n"], ...]:
    """Work, heat and shadow work per walker between two states of the same books, without cancellation."""

    def difference(a: TwoFloat, b: TwoFloat) -> Float[Array, " n"]:
        return (b.hi - a.hi) + (b.lo - a.lo)

    pairs = ((before.work, after.work), (before.heat, after.heat), (before.shadow_work, after.shadow_work))
    return tuple(difference(a, b) for a, b in pairs)
