"""Ladders measured and grown from the walkers that are on them.

Between neighbours `k` and `k + 1` of a stack in equilibrium two works are known, of taking the lower replica up and the
upper one down,

    w_up = u_{k+1}(x_k) - u_k(x_k) ,   w_down = u_k(x_{k+1}) - u_{k+1}(x_{k+1}) ,

and everything follows from them: an exchange is accepted with `min(1, exp(-(w_up + w_down)))`, and Bennett's ratio of
both directions is the difference of free energy. Summed from a rung of known Z they give `log Z` of the model.

A trajectory ladder is grown by *freezing*: the present model becomes a rung, and the stacks get one replica more. That
is a step between updates. The replicas of the new rung are those of the model, dealt to other stacks of the same group,
so a stack is a draw from the larger product as far as its walkers are independent draws from the model. The replicas at
the model stay where they are: whatever is remembered about a slot still belongs to it.

Reference:
    Bereux et al. 2024 (arXiv 2405.15376) (rungs by acceptance); Bennett, J. Comput. Phys. 22, 245 (1976); Syed et al.,
    J. R. Stat. Soc. B 84, 321 (2022) (equal rejection).
"""

import dataclasses
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.interpolate import PchipInterpolator

from quasistatic._numerics import TwoFloat
from quasistatic._random import split
from quasistatic._results import Estimate
from quasistatic._types import Key
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.exchange import Exchange, Replicas
from quasistatic.kernels.ladders import Trajectory
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.estimators import MIN_INDEPENDENT, bar

TORN = 0.05
"""Acceptance of exchanges below which a ladder carries no replicas."""

_BLOCKS = 20


class Crossings(NamedTuple):
    """Works between neighbouring rungs, one row per stack, nats.

    Args:
        up: `w_up` of the pairs `(k, k + 1)`, shape `(n, n_rungs - 1)`.
        down: `w_down` of the same pairs.
    """

    up: Float[np.ndarray, "n n_pairs"]
    down: Float[np.ndarray, "n n_pairs"]

    def acceptance(self) -> tuple[Float[np.ndarray, " n_pairs"], Float[np.ndarray, " n_pairs"]]:
        """Mean acceptance of an exchange of each pair, and its standard error (independent stacks; NaN for one)."""
        accepted = np.exp(np.minimum(-(self.up + self.down), 0.0))
        if len(accepted) < 2:
            return accepted.mean(0), np.full(accepted.shape[1], math.nan)
        return accepted.mean(0), accepted.std(0, ddof=1) / math.sqrt(len(accepted))

    def log_z_steps(self) -> Float[np.ndarray, " n_pairs"]:
        """`log Z_{k+1} - log Z_k` of each pair by Bennett's acceptance ratio, nats."""
        return np.array([-(bar(self.up[:, k], self.down[:, k]).value or 0.0) for k in range(self.up.shape[1])])

    def last_step_groups(self, n_groups: int) -> Float[np.ndarray, " n_groups"]:
        """`log Z` of the last rung less that of the one below it in every group, nats, its exponential unbiased.

        Bennett's ratio is unbiased in the logarithm, while groups are pooled by their `Z` (`log_z_from_groups`): left
        as it is, every rung would add half its variance to the pooled `log Z`, however many groups there are. That half
        is taken off; the variance is the spread of the groups, or Bennett's own where they are too few.

        Args:
            n_groups: groups of equal size, in the order of the rows.
        """
        up, down = self.up[:, -1].reshape(n_groups, -1), self.down[:, -1].reshape(n_groups, -1)
        found = [bar(a, b) for a, b in zip(up, down, strict=True)]
        steps = np.array([-(estimate.value or 0.0) for estimate in found])
        if n_groups >= MIN_INDEPENDENT:
            return steps - 0.5 * steps.var(ddof=1)
        return steps - 0.5 * np.array([(estimate.stderr or 0.0) ** 2 for estimate in found])

    def log_z(self, start: float = 0.0) -> Estimate:
        """`log Z` of the last rung, from that of the first.

        The standard error is the jackknife over blocks of stacks: one replica takes part in two pairs, so their errors
        are not independent, but stacks are.

        Args:
            start: `log Z` of the first rung, nats.
        """
        n, method = len(self.up), "Bennett along the ladder"
        value = start + float(self.log_z_steps().sum())
        if n < MIN_INDEPENDENT:
            return Estimate(value, None, None, "unknown", method, f"{n} stacks cannot carry a standard error")
        blocks = np.array_split(np.arange(n), min(_BLOCKS, n // 2))
        left = np.array([self._without(block).log_z_steps().sum() for block in blocks])
        m = len(blocks)
        stderr = math.sqrt((m - 1) / m * ((left - left.mean()) ** 2).sum())
        return Estimate(value, stderr, None, "unknown", method, dof=m - 1)

    def _without(self, rows: np.ndarray) -> "Crossings":
        return Crossings(np.delete(self.up, rows, 0), np.delete(self.down, rows, 0))


def crossings(kernel: Exchange, potential: Potential, ensemble: Ensemble) -> Crossings:
    """Works between all neighbours of the stacks as they stand; nothing moves.

    Args:
        kernel: replica exchange.
        potential: model of the last rung.
        ensemble: stacks that were moved by this kernel; equal weights are assumed.
    """
    up, down = _crossed(kernel, potential, ensemble.x, ensemble.context)
    return Crossings(np.asarray(up, np.float64), np.asarray(down, np.float64))


@eqx.filter_jit
def _crossed(kernel: Exchange, potential: Potential, x: Array, context: Any) -> tuple[Array, Array]:
    rungs = kernel.ladder.rungs(potential)

    def one(x: Array, context: Any) -> tuple[Array, Array]:
        def at(positions: Array) -> Array:
            return kernel.ladder.over(rungs, lambda p, replica: p(replica, context), positions)

        here, lifted, lowered = at(x), at(jnp.roll(x, 1, axis=0)), at(jnp.roll(x, -1, axis=0))
        return lifted[1:] - here[:-1], lowered[:-1] - here[1:]

    return jax.vmap(one)(x, context)


def round_trips(ensemble: Ensemble) -> tuple[float, float]:
    """Trips from end to end and back (`Flow.n_trips`) per stack and round, and the standard error over stacks."""
    replicas: Replicas = ensemble.cache
    rounds = np.maximum(np.asarray(replicas.flow.n_rounds, np.float64), 1)
    rates = np.asarray(replicas.flow.n_trips, np.float64) / rounds
    return float(rates.mean()), float(rates.std(ddof=1) / math.sqrt(len(rates))) if len(rates) > 1 else math.nan


def freeze(
    key: Key, kernel: Exchange, potential: Potential, ensemble: Ensemble, *, log_z: Any = None
) -> tuple[Exchange, Ensemble]:
    """Grows a trajectory ladder by the present model, and the stacks by one replica.

    Groups whose weights differ are resampled first. The model's `log Z` does not change, so its books go on from there.

    Args:
        key: random key.
        kernel: replica exchange over a `Trajectory`.
        potential: the present model.
        ensemble: stacks, settled under it.
        log_z: `log Z` of the present model in each group, shape `(n_groups,)`, to go on from instead of the books' own
            (`crossings(...)` gives one that does not accumulate errors along the way).

    Returns:
        The kernel with one rung more, and the stacks under it with new books.

    Raises:
        InputError: the ladder is not a trajectory, or a group has a single stack.
    """
    if not isinstance(kernel.ladder, Trajectory):
        raise InputError(f"only a trajectory can be grown, this is a {type(kernel.ladder).__name__} ladder")
    m = ensemble.n_walkers // ensemble.n_groups
    if m < 2:
        raise InputError("freezing a rung needs at least 2 stacks in a group; lower n_groups")
    key_resample, key_deal = split(key, 2)
    is_even = bool(jnp.all(ensemble.ess() > 1 - 1e-6))
    cleared = ensemble if is_even else ensemble.resampled(key_resample, below=2.0)[0]
    offset = cleared.log_partition_groups() if log_z is None else jnp.asarray(log_z)
    shift = jax.random.randint(key_deal, (ensemble.n_groups,), 1, m)
    dealt = (jnp.arange(m)[None, :] + shift[:, None]) % m + m * jnp.arange(ensemble.n_groups)[:, None]
    tops = cleared.x[:, -1][dealt.reshape(-1)]
    of_rung = None if log_z is None else float(np.mean(np.asarray(log_z)))
    grown = dataclasses.replace(kernel, ladder=kernel.ladder.extended(potential, of_rung))
    x = jnp.concatenate([cleared.x[:, :-1], tops[:, None], cleared.x[:, -1:]], axis=1)
    opened = eqx.filter_jit(Ensemble.open)(grown, potential, x, n_groups=ensemble.n_groups, context=ensemble.context)
    start = TwoFloat.zeros((ensemble.n_groups,), opened.u.dtype).add(offset)
    return grown, eqx.tree_at(lambda e: (e.log_z, e.anchored), opened, (start, ensemble.anchored))


def respaced(
    ratios: Float[Array | np.ndarray, " n_rungs"],
    acceptance: Float[Array | np.ndarray, " n_pairs"],
    n_rungs: int | None = None,
) -> Float[np.ndarray, " n"]:
    """Inverse temperatures at which all exchanges are accepted equally often, by what was measured at others.

    The rejections, summed up from the first rung, are interpolated monotonically and cut into equal parts. In the limit
    of close rungs that sum does not depend on where they are.

    Args:
        ratios: present inverse temperatures, increasing.
        acceptance: mean acceptance of each pair.
        n_rungs: number of rungs of the new ladder (default: as many).

    Raises:
        InputError: lengths do not fit, ratios do not increase, or an acceptance lies outside [0, 1].
    """
    ratios, accepted = np.asarray(ratios, np.float64), np.asarray(acceptance, np.float64)
    if ratios.ndim != 1 or accepted.shape != (len(ratios) - 1,) or not np.all(np.diff(ratios) > 0):
        raise InputError(
            f"n increasing ratios and n - 1 acceptances are needed, got {ratios.tolist()} and {accepted.tolist()}"
        )
    if not np.all((accepted >= 0) & (accepted <= 1)):
        raise InputError(f"acceptances lie in [0, 1], got {accepted.tolist()}")
    barrier = np.concatenate([[0.0], np.cumsum(np.maximum(1 - accepted, 1e-6))])
    at = PchipInterpolator(barrier, ratios)
    new = at(np.linspace(0.0, barrier[-1], n_rungs or len(ratios)))
    new[0], new[-1] = ratios[0], ratios[-1]
    return new
