"""Ladders for sampling a trained model: which of its stored ages, or which temperatures.

Walkers are taken through the ages from the first on, some sweeps at each. They need not be in equilibrium for this
purpose: between neighbours in training time the acceptance of an exchange is decided inside modes. A rung is then
followed by the farthest age that exchanges with it are still accepted at the target rate. Where even the next stored
age is too far, models half-way between the two (in their parameters) are put in.

Reference:
    Bereux, Decelle, Furtlehner, Rosset and Seoane 2024 (arXiv 2405.15376).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._random import fold, split
from quasistatic._types import Key
from quasistatic.energies.potential import Potential
from quasistatic.energies.rbm import RBM
from quasistatic.errors import InputError
from quasistatic.evaluate.chains import run_chains
from quasistatic.kernels.base import AbstractKernel
from quasistatic.kernels.exchange import Exchange
from quasistatic.kernels.ladders import Tempered, Trajectory, independent_rbm
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.process import relax
from quasistatic.thermo.replicas import crossings, respaced

N_REFINED = 5
"""Rounds in which intervals that are too wide are halved."""


class Age(NamedTuple):
    """A model of a training run.

    Args:
        step: update after which it was stored; 0 is the model without couplings, fractions lie between stored ages.
        potential: the model and its beta.
    """

    step: float
    potential: Potential


class Chosen(NamedTuple):
    """Rungs chosen among ages.

    Args:
        ages: the rungs, the model last.
        acceptance: estimated acceptance between neighbours.
        x: a position for every stack and rung to start from, shape `(n, n_rungs, ...)`.
    """

    ages: list[Age]
    acceptance: Float[np.ndarray, " n_pairs"]
    x: Float[Array, "n n_rungs ..."]

    def kernel(self, inner: AbstractKernel, *, n_between: int = 1) -> Exchange:
        """Replica exchange over these rungs."""
        frozen = self.ages[:-1]
        betas = jnp.asarray([float(age.potential.beta) for age in frozen])
        return Exchange(inner, Trajectory.of([age.potential.energy for age in frozen], betas=betas), n_between)


def choose_rungs(
    key: Key,
    kernel: AbstractKernel,
    ages: list[Age],
    *,
    target: float = 0.3,
    n_walkers: int = 256,
    n_sweeps: int = 50,
) -> Chosen:
    """Rungs between the first age and the last, as few as exchanges at the target rate allow.

    Args:
        key: random key.
        kernel: kernel of single replicas.
        ages: models in training order, the one to be sampled last. Of RBMs the model without couplings (at the biases
            of the first) is put before them, so that the first rung is sampled exactly and its `log Z` is known.
        target: acceptance between neighbours.
        n_walkers: walkers that try the ages.
        n_sweeps: sweeps at each age.

    Raises:
        InputError: no ages, or a target outside (0, 1).
    """
    if not ages or not 0 < target < 1:
        raise InputError(f"rungs need at least one age and a target in (0, 1), got {len(ages)} ages and {target}")
    ages = list(ages)
    first = ages[0].potential
    if isinstance(first.energy, RBM):
        base = independent_rbm(first.energy, float(first.beta))[0]
        ages.insert(0, Age(0.0, Potential(base, first.beta)))
    if len(ages) == 1:
        raise InputError("a ladder needs two ages at least; train with record.n_ages, or use tempering")
    for round_ in range(N_REFINED + 1):
        x = _walked(fold(key, round_), kernel, ages, n_walkers, n_sweeps)
        wide = [i for i in range(len(ages) - 1) if _acceptance(ages, x, i, i + 1) < target]
        if not wide or round_ == N_REFINED:
            break
        for i in reversed(wide):
            ages.insert(i + 1, _between(ages[i], ages[i + 1]))
    chosen = [0]
    while chosen[-1] < len(ages) - 1:
        i = j = chosen[-1]
        while j + 1 < len(ages) and (j == i or _acceptance(ages, x, i, j + 1) >= target):
            j += 1
        chosen.append(j)
    acceptance = np.array([_acceptance(ages, x, a, b) for a, b in zip(chosen, chosen[1:], strict=False)])
    # each rung's walkers in an order of their own: a stack is a draw from the product
    keys = split(fold(key, N_REFINED + 1), len(chosen))
    dealt = [jax.random.permutation(k, x[i]) for k, i in zip(keys, chosen, strict=True)]
    return Chosen([ages[i] for i in chosen], acceptance, jnp.stack(dealt, axis=1))


def tempered(
    key: Key,
    kernel: AbstractKernel,
    potential: Potential,
    start: Float[Array, "n ..."],
    *,
    n_rungs: int = 10,
    hottest: float = 10.0,
    n_records: int = 200,
    n_sweeps: int = 1,
    step_size: float = 0.01,
) -> tuple[Exchange, Ensemble]:
    """Replica exchange in temperature whose rungs were re-spaced to equal acceptance by a trial run.

    Args:
        key: random key.
        kernel: kernel of single replicas.
        potential: the model.
        start: a position per stack, for all its replicas.
        n_rungs: temperatures.
        hottest: highest of them, in units of the model's.
        n_records: of the trial run (`run_chains`), and again after the re-spacing.
        n_sweeps: rounds between records.
        step_size: of Langevin kernels.

    Returns:
        The kernel, and stacks that were moved by it.
    """
    exchange = Exchange(kernel, Tempered.geometric(n_rungs, hottest))
    x = jnp.repeat(start[:, None], n_rungs, axis=1)
    for trial in range(2):
        ensemble = run_chains(
            fold(key, trial), exchange, potential, x, n_records=n_records, n_sweeps=n_sweeps, step_size=step_size
        ).ensemble
        if trial == 1:
            return exchange, ensemble
        assert isinstance(exchange.ladder, Tempered)
        ratios = np.asarray(exchange.ladder.ratios, np.float64)
        new = respaced(ratios, crossings(exchange, potential, ensemble).acceptance()[0])
        exchange = Exchange(kernel, Tempered(jnp.asarray(new, exchange.ladder.ratios.dtype)))
        x = ensemble.x
    raise AssertionError


def _walked(key: Key, kernel: AbstractKernel, ages: list[Age], n: int, n_sweeps: int) -> list[Array]:
    """Walkers at every age, moved on from the age before."""
    first: Any = ages[0].potential
    base = getattr(first.energy, "base", None)
    if base is None:
        raise InputError(f"{type(first.energy).__name__} has no law to start walkers from")
    x = base().sample_exact(fold(key, 0), first.beta, n)
    positions = []
    for i, age in enumerate(ages):
        x = _moved(fold(key, i + 1), kernel, age.potential, x, Controls.of(n_sweeps=n_sweeps))
        positions.append(x)
    return positions


@eqx.filter_jit
def _moved(key, kernel, potential, x, controls):
    return relax(key, kernel, potential, Ensemble.open(kernel, potential, x), controls)[0].x


def _acceptance(ages: list[Age], x: list[Array], i: int, j: int) -> float:
    """Mean acceptance of exchanging the walkers of two ages, walker by walker."""
    return float(_mean_acceptance(ages[i].potential, ages[j].potential, x[i], x[j]))


@eqx.filter_jit
def _mean_acceptance(a, b, x_a, x_b):
    gain = jax.vmap(a)(x_a) + jax.vmap(b)(x_b) - jax.vmap(a)(x_b) - jax.vmap(b)(x_a)
    return jnp.mean(jnp.exp(jnp.minimum(gain, 0.0)))


def _between(a: Age, b: Age) -> Age:
    """The model half-way between two ages."""

    def mean(p: Any, q: Any) -> Any:
        return 0.5 * (p + q) if eqx.is_inexact_array(p) else p

    beta = 0.5 * (jnp.asarray(a.potential.beta) + jnp.asarray(b.potential.beta))
    return Age(0.5 * (a.step + b.step), Potential(jax.tree.map(mean, a.potential.energy, b.potential.energy), beta))
