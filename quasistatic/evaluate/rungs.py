"""Ladders for sampling a trained model: which of its stored ages, or which temperatures.

Walkers are taken through the ages from the first on, some sweeps at each, and a rung is followed by the farthest age
that exchanges with it are accepted at the target rate. Where even the next stored age is too far, models between the
two (in their parameters) are put in. These walkers hardly cross between modes, while ages differ in the weights of
their modes, too: a young model's can swing from one side to the other within a few updates. So the ladder is tried with
stacks of replicas, and where fewer than half the exchanges aimed at are accepted, models are put in between, as many as
the rejections ask for if the work of an exchange is Gaussian, `A = erfc(c d)` at a distance `d`.

Reference:
    Bereux, Decelle, Furtlehner, Rosset and Seoane 2024 (arXiv 2405.15376).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import erfcinv

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

N_PILOT = 256
"""Most stacks that try a ladder."""

N_PIECES = 5
"""Pieces of a trial, after which it is heard of."""

MOST_PARTS = 8
"""Most parts that a pair is divided into after a trial."""

N_TRIALS = 6
"""Most trials of a ladder; what is torn after the last stays torn, and `Chosen.acceptance` tells."""


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
        acceptance: acceptance between neighbours after the last trial.
        x: stacks to start from, the ones of that trial first, shape `(n, n_rungs, ...)`.
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
    n_rounds: int = 200,
    progress: Callable[[float, str], None] = lambda fraction, what: None,
) -> Chosen:
    """Rungs between the first age and the last, about as few as exchanges at the target rate allow.

    Args:
        key: random key.
        kernel: kernel of single replicas.
        ages: models in training order, the one to be sampled last. Of RBMs the model without couplings (at the biases
            of the first) is put before them, so that the first rung is sampled exactly and its `log Z` is known.
        target: acceptance between neighbours by which ages are chosen; pairs that show less than half of it when tried
            are divided.
        n_walkers: walkers that try the ages, and stacks that come of them (up to `N_PILOT` try the ladder).
        n_sweeps: sweeps at each age.
        n_rounds: rounds of each trial.
        progress: told what is being done and the fraction of it.

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
    x = _walked(fold(key, 0), kernel, ages, n_walkers, n_sweeps, progress)
    for round_ in range(N_REFINED):
        wide = [i for i in range(len(ages) - 1) if _acceptance(ages, x, i, i + 1) < target]
        for i in reversed(wide):
            age = _between(ages[i], ages[i + 1])
            moved = _moved(fold(fold(key, round_ + 1), i), kernel, age.potential, x[i], Controls.of(n_sweeps=n_sweeps))
            ages.insert(i + 1, age)
            x.insert(i + 1, moved)
    chosen = [0]
    while chosen[-1] < len(ages) - 1:
        i = chosen[-1]
        later = range(len(ages) - 1, i + 1, -1)
        chosen.append(next((j for j in later if _acceptance(ages, x, i, j) >= target), i + 1))
    # each rung's walkers in an order of their own: a stack is a draw from the product
    keys = split(fold(key, N_REFINED + 1), len(chosen))
    dealt = [jax.random.permutation(k, x[i]) for k, i in zip(keys, chosen, strict=True)]
    rungs, stacks = [ages[i] for i in chosen], jnp.stack(dealt, axis=1)
    return _mended(fold(key, N_REFINED + 2), kernel, rungs, stacks, target, n_rounds, progress)


def _mended(
    key: Key,
    kernel: AbstractKernel,
    ages: list[Age],
    x: Float[Array, "n n_rungs ..."],
    target: float,
    n_rounds: int,
    progress: Callable[[float, str], None],
) -> Chosen:
    """A ladder tried by stacks of replicas, with models put in where it is torn."""
    for trial in range(N_TRIALS):
        chosen = Chosen(ages, np.ones(len(ages) - 1), x)
        exchange, potential = chosen.kernel(kernel), ages[-1].potential
        ensemble = eqx.filter_jit(Ensemble.open)(exchange, potential, x[:N_PILOT])
        piece = Controls.of(n_sweeps=math.ceil(n_rounds / N_PIECES))
        for i, key_piece in enumerate(split(fold(key, trial), N_PIECES)):
            ensemble = jax.block_until_ready(_relaxed(key_piece, exchange, potential, ensemble, piece))
            progress((i + 1) / N_PIECES, f"trial {trial + 1} of {len(ages)} rungs")
        accepted, _ = crossings(exchange, potential, ensemble).acceptance()
        chosen = Chosen(ages, accepted, jnp.concatenate([ensemble.x, x[N_PILOT:]]))
        if accepted.min() >= 0.5 * target or trial == N_TRIALS - 1:
            return chosen
        ages, x = _widened(fold(key, N_TRIALS + trial), chosen, target)
    raise AssertionError


def _widened(key: Key, torn: Chosen, target: float) -> tuple[list[Age], Array]:
    """The ladder with models between rungs that exchange too rarely, and positions for its stacks.

    A new rung starts with replicas of the rung nearest to it, dealt to other stacks.
    """
    ages, x = [torn.ages[0]], [torn.x[:, 0]]
    for k, accepted in enumerate(torn.acceptance):
        n_parts = 1
        if accepted < 0.5 * target:
            n_parts = math.ceil(erfcinv(max(accepted, 1e-6)) / erfcinv(target))
            n_parts = min(max(n_parts, 2), MOST_PARTS)  # what is still torn then is widened after the next trial
        for i in range(1, n_parts):
            nearest = k if 2 * i <= n_parts else k + 1
            ages.append(_between(torn.ages[k], torn.ages[k + 1], i / n_parts))
            x.append(jax.random.permutation(fold(key, len(ages)), torn.x[:, nearest]))
        ages.append(torn.ages[k + 1])
        x.append(torn.x[:, k + 1])
    return ages, jnp.stack(x, axis=1)


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


def _walked(
    key: Key,
    kernel: AbstractKernel,
    ages: list[Age],
    n: int,
    n_sweeps: int,
    progress: Callable[[float, str], None],
) -> list[Array]:
    """Walkers at every age, moved on from the age before."""
    first: Any = ages[0].potential
    base = getattr(first.energy, "base", None)
    if base is None:
        raise InputError(f"{type(first.energy).__name__} has no law to start walkers from")
    x = base().sample_exact(fold(key, 0), first.beta, n)
    positions = []
    for i, age in enumerate(ages):
        x = _moved(fold(key, i + 1), kernel, age.potential, x, Controls.of(n_sweeps=n_sweeps))
        positions.append(jax.block_until_ready(x))
        progress((i + 1) / len(ages), f"trying {len(ages)} ages")
    return positions


@eqx.filter_jit
def _moved(key, kernel, potential, x, controls):
    return _relaxed(key, kernel, potential, Ensemble.open(kernel, potential, x), controls).x


@eqx.filter_jit
def _relaxed(key, kernel, potential, ensemble, controls):
    return relax(key, kernel, potential, ensemble, controls)[0]


def _acceptance(ages: list[Age], x: list[Array], i: int, j: int) -> float:
    """Mean acceptance of exchanging the walkers of two ages, walker by walker."""
    return float(_mean_acceptance(ages[i].potential, ages[j].potential, x[i], x[j]))


@eqx.filter_jit
def _mean_acceptance(a, b, x_a, x_b):
    gain = jax.vmap(a)(x_a) + jax.vmap(b)(x_b) - jax.vmap(a)(x_b) - jax.vmap(b)(x_a)
    return jnp.mean(jnp.exp(jnp.minimum(gain, 0.0)))


def _between(a: Age, b: Age, part: float = 0.5) -> Age:
    """The model part of the way from one age to another."""

    def mixed(p: Any, q: Any) -> Any:
        return (1 - part) * p + part * q if eqx.is_inexact_array(p) else p

    beta = mixed(jnp.asarray(a.potential.beta, float), jnp.asarray(b.potential.beta, float))
    energy = jax.tree.map(mixed, a.potential.energy, b.potential.energy)
    return Age((1 - part) * a.step + part * b.step, Potential(energy, beta))
