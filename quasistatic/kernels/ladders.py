"""Ladders: the laws that the replicas of one walker live under, the last of them the model.

* `Tempered`: the model itself at inverse temperatures `r_k beta`, `r_K = 1`. All rungs move with the model.
* `Trajectory`: copies of the model from earlier in its training, frozen with their own beta, and the live model. Only
  the last rung moves, so the free energy of the whole stack changes by that of the model alone.

A rung must be easy to cross to from its neighbour; the first one should mix by itself (few couplings, or high
temperature).

Reference:
    Hukushima and Nemoto, J. Phys. Soc. Jpn. 65, 1604 (1996) (in temperature); Bereux, Decelle, Furtlehner, Rosset and
    Seoane 2024 (arXiv 2405.15376) (along a training trajectory).
"""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._random import fold
from quasistatic._types import Key, Scalar
from quasistatic.energies.base import AbstractEnergy, AbstractTractable
from quasistatic.energies.potential import Potential
from quasistatic.energies.rbm import RBM
from quasistatic.errors import InputError


class Rungs(NamedTuple):
    """Potentials of all rungs, as a ladder's `over` takes them.

    Args:
        energy: one energy for all, or a stack of them.
        beta: inverse temperature of each rung.
    """

    energy: Any
    beta: Float[Array, " n_rungs"]


class AbstractLadder(eqx.Module):
    """Potentials of `n_rungs` replicas, the last of them that of the model."""

    @property
    @abc.abstractmethod
    def n_rungs(self) -> int:
        """Number of rungs, the model's own included."""

    @property
    @abc.abstractmethod
    def is_frozen(self) -> bool:
        """Whether a change of the model changes the last rung only."""

    @abc.abstractmethod
    def rungs(self, top: Potential) -> Rungs:
        """All potentials as `over` takes them; made once per step, since it copies parameters. Args: top, the model."""

    @abc.abstractmethod
    def over(self, rungs: Rungs, function: Callable[..., Any], *per_rung: Any) -> Any:
        """`function(potential, *args)` of every rung, results with the rung as first axis.

        Args:
            rungs: what `rungs(top)` made.
            function: takes the potential of one rung.
            per_rung: arguments with the rung as first axis.
        """

    @abc.abstractmethod
    def start(
        self, key: Key, law: AbstractTractable, beta: Any, n: int
    ) -> tuple[Float[Array, "n n_rungs ..."], Float[Array, " n"], Scalar | None]:
        """Exact samples of a tractable law on every rung, their summed potentials, and the `log Z` to open books with.

        That is the `log Z` whose later change is that of the model, or None where there is no such number.
        """

    def check(self, energy: AbstractEnergy) -> None:
        """Raises `InputError` when the rungs do not fit the model. Default: they do."""
        del energy


class Tempered(AbstractLadder):
    """The model at `n_rungs` inverse temperatures, hottest first.

    Args:
        ratios: `r_k`, increasing in (0, 1], the last one 1; shape `(n_rungs,)`.
    """

    ratios: Float[Array, " n_rungs"]

    @classmethod
    def geometric(cls, n_rungs: int, hottest: float) -> "Tempered":
        """Temperatures in geometric progression from 1 to `hottest` (in units of that of the model)."""
        if n_rungs < 2 or not hottest > 1:
            raise InputError(f"a ladder needs at least 2 rungs and a hottest temperature above 1, got {n_rungs} and "
                             f"{hottest}")  # fmt: skip
        return cls(jnp.asarray(hottest) ** -jnp.linspace(1.0, 0.0, n_rungs))

    @property
    def n_rungs(self) -> int:
        return self.ratios.shape[0]

    @property
    def is_frozen(self) -> bool:
        return False

    def rungs(self, top: Potential) -> Rungs:
        return Rungs(top.energy, self.ratios * top.beta)

    def over(self, rungs: Rungs, function: Callable[..., Any], *per_rung: Any) -> Any:
        # one set of parameters serves all rungs
        return jax.vmap(lambda beta, *args: function(Potential(rungs.energy, beta), *args))(rungs.beta, *per_rung)

    def start(self, key: Key, law: AbstractTractable, beta: Any, n: int) -> tuple:
        betas = self.ratios * beta if law.has_any_beta else jnp.full(self.n_rungs, beta)
        x, u, _ = _independent(key, law, betas, n)
        return x, u, None


class Trajectory(AbstractLadder):
    """Frozen copies of the model, oldest first, below the live model.

    Args:
        frozen: energies of one structure, stacked: every array has the rung as first axis (`stacked`).
        betas: inverse temperature of each frozen rung, shape `(n_rungs - 1,)`.
        log_z: `log Z` of each frozen rung, shape `(n_rungs - 1,)`, nats, or None when it is not known. Needed only to
            open anchored books at a law.
    """

    frozen: AbstractEnergy
    betas: Float[Array, " n_frozen"]
    log_z: Float[Array, " n_frozen"] | None = None

    @classmethod
    def of(cls, energies: list[Any], *, betas: Any = 1.0, log_z: Any = None) -> "Trajectory":
        """Ladder from a list of energies of one structure. Args: betas and log_z, one for all or one each."""
        if not energies:
            raise InputError("a trajectory needs at least one frozen rung; begin with trajectory_base(model, beta)")
        shape = (len(energies),)
        betas = jnp.broadcast_to(jnp.asarray(betas, float), shape)
        return cls(
            stacked(energies), betas, None if log_z is None else jnp.broadcast_to(jnp.asarray(log_z, float), shape)
        )

    @classmethod
    def from_base(cls, model: RBM, beta: float = 1.0) -> "Trajectory":
        """One frozen rung: the RBM without couplings and hidden biases, whose `log Z` is exact."""
        base, log_z = independent_rbm(model, beta)
        return cls.of([base], betas=beta, log_z=log_z)

    @property
    def n_rungs(self) -> int:
        return self.betas.shape[0] + 1

    @property
    def is_frozen(self) -> bool:
        return True

    def rungs(self, top: Potential) -> Rungs:
        energies = stacked([self.frozen, top.energy], is_first_stacked=True)
        return Rungs(energies, jnp.concatenate([self.betas, jnp.asarray(top.beta, self.betas.dtype)[None]]))

    def over(self, rungs: Rungs, function: Callable[..., Any], *per_rung: Any) -> Any:
        return eqx.filter_vmap(lambda energy, beta, *args: function(Potential(energy, beta), *args))(
            rungs.energy, rungs.beta, *per_rung
        )

    def rung(self, k: int) -> Potential:
        """Potential of frozen rung `k`."""
        arrays, rest = eqx.partition(self.frozen, eqx.is_array)
        return Potential(eqx.combine(jax.tree.map(lambda leaf: leaf[k], arrays), rest), self.betas[k])

    def extended(self, top: Potential, log_z: Any = None) -> "Trajectory":
        """The ladder with the present model frozen on top of it. Args: log_z of that model, where it is known."""
        return Trajectory(
            stacked([self.frozen, top.energy], is_first_stacked=True),
            jnp.append(self.betas, jnp.asarray(top.beta, self.betas.dtype)),
            None if log_z is None or self.log_z is None else jnp.append(self.log_z, jnp.asarray(log_z, float)),
        )

    def start(self, key: Key, law: AbstractTractable, beta: Any, n: int) -> tuple:
        betas = jnp.concatenate([self.betas, jnp.asarray(beta, self.betas.dtype)[None]])
        x, u, log_z = _independent(key, law, betas, n)
        if self.log_z is None:
            return x, u, None
        # the law's potential is shifted on every frozen rung to the rung's own log Z: work there is not the model's
        start = law.log_partition(beta)
        return x, u + (log_z - start - jnp.sum(self.log_z)), start

    def check(self, energy: AbstractEnergy) -> None:
        ours = jax.tree.map(lambda leaf: jnp.shape(leaf)[1:], eqx.filter(self.frozen, eqx.is_array))
        if ours != jax.tree.map(jnp.shape, eqx.filter(energy, eqx.is_array)):
            raise InputError(
                f"the frozen rungs are not copies of this {type(energy).__name__}: their structure or shapes differ"
            )


def stacked(energies: list[Any], *, is_first_stacked: bool = False) -> Any:
    """Energies of one structure as one, every array with the rung as first axis.

    Args:
        energies: models that differ in their arrays only.
        is_first_stacked: the first one is a stack already, and gets the others on top.

    Raises:
        InputError: they differ in structure or shape.
    """
    parts = [eqx.partition(energy, eqx.is_array) for energy in energies]
    arrays = [part[0] for part in parts]
    if is_first_stacked:
        arrays = [arrays[0], *(jax.tree.map(lambda leaf: leaf[None], tree) for tree in arrays[1:])]
    try:
        joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves) if is_first_stacked else jnp.stack(leaves),
                              *arrays)  # fmt: skip
    except (ValueError, TypeError) as error:
        raise InputError(f"rungs must be copies of one model: {str(error).splitlines()[0]}") from None
    return eqx.combine(joined, parts[-1][1])


def independent_rbm(model: RBM, beta: float = 1.0) -> tuple[RBM, Scalar]:
    """The RBM with its visible biases only, and its exact `log Z(beta)`: the first rung of a trajectory."""
    base = RBM(
        jnp.zeros_like(model.weights),
        model.visible_bias,
        jnp.zeros_like(model.hidden_bias),
        model.visible,
        model.hidden,
    )
    hidden = jnp.sum(model.hidden.cgf(model.hidden_natural(base.hidden_bias, beta)))
    return base, base.base().log_partition(beta) + hidden


def _independent(key: Key, law: AbstractTractable, betas: Array, n: int) -> tuple[Array, Array, Array]:
    """Samples, summed potentials and summed `log Z` of a law at several beta."""
    rungs = range(betas.shape[0])
    x = [law.sample_exact(fold(key, k), betas[k], n) for k in rungs]
    u = [jax.vmap(lambda sample, k=k: law.reduced(sample, betas[k]))(x[k]) for k in rungs]
    log_z = sum((jnp.asarray(law.log_partition(betas[k])) for k in rungs), start=jnp.zeros(()))
    return jnp.stack(x, axis=1), jnp.sum(jnp.stack(u), axis=0), log_z
