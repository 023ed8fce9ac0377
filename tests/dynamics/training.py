"""Our own training loop, many independent runs at once, with the parameters averaged over its second half."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from quasistatic.regulators import AbstractRegulator
from quasistatic.rules import MaximumLikelihood
from quasistatic.thermo.controls import Controls
from quasistatic.train.step import step
from quasistatic.train.trainer import Trainer


class StartAt(AbstractRegulator):
    """Puts all walkers at a law of their own before every update: what a user would write.

    Args:
        draw: `draw(key, n)` gives `n` positions; knows nothing of the parameters.
    """

    draw: Any = eqx.field(static=True)

    def init(self):
        return None

    @property
    def may_restart(self):
        return True

    def update(self, key, reading, potential, kernel, batch, ensemble, controls, state):
        x = self.draw(key, ensemble.n_walkers).astype(ensemble.x.dtype)
        return controls, ensemble.restarted(kernel, potential, x), state


def trainer(kernel, law, regulator, *, beta, k, rate, n_walkers, step_size=0.1, n_updates):
    """Short-run trainer with a decreasing rate: constant over the first half, then falling as 1/t."""

    def schedule(t):
        return rate / jnp.maximum(1.0, 2 * t / n_updates)

    return Trainer(
        kernel,
        MaximumLikelihood(),
        optax.sgd(schedule),
        (regulator,),
        Controls.of(beta=beta, n_sweeps=k, step_size=step_size),
        n_walkers=n_walkers,
        auditor_groups=0,
        law=law,
        feedback="off",
        frozen_after=10**6,
    )


def learned(made: Trainer, model: Any, data: Any, *, seeds: int, n_updates: int, key: Any) -> np.ndarray:
    """Parameters averaged over the second half, flat, one row per independent run."""

    def one(key):
        state = made.init(key, model)
        moving, fixed = eqx.partition(state, eqx.is_array)

        def body(carry, t):
            moving, total = carry
            state = step(made, eqx.combine(moving, fixed), data)
            theta = eqx.filter(state.model, eqx.is_inexact_array)
            total = jax.tree.map(lambda a, b: a + jnp.where(t >= n_updates // 2, b, 0.0), total, theta)
            return (eqx.filter(state, eqx.is_array), total), state.result

        zeros = jax.tree.map(jnp.zeros_like, eqx.filter(model, eqx.is_inexact_array))
        (_, total), results = jax.lax.scan(body, (moving, zeros), jnp.arange(n_updates))
        mean = jax.tree.map(lambda leaf: leaf / (n_updates - n_updates // 2), total)
        return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(mean)]), results[-1]

    found, results = eqx.filter_jit(jax.vmap(one))(jax.random.split(key, seeds))
    assert not np.any(np.asarray(results)), "a run stopped itself"
    return np.asarray(found, np.float64)


def errors(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Deviation of the mean over independent runs, in its standard errors."""
    return np.abs(found.mean(0) - exact) / (found.std(0, ddof=1) / np.sqrt(len(found)))
