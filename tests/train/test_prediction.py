"""Predicted excess work of persistent chains against the measured one, exact `log Z`: lag and feedback add up.

Few walkers on an enumerable RBM, so that feedback is most of it; and many, driven fast, so that lag is.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic.evaluate.exact import log_partition_exact
from quasistatic.metric import natural_gradient
from quasistatic.train.dissipated import SLOW_DRIVING
from quasistatic.train.step import run_chunk

BETA, N_RUNS = 0.7, 12


def parts():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=7) + (rng.random((300, 2)) < [0.7, 0.25]) @ rng.normal(scale=2.0, size=(2, 7))
    data = jnp.asarray((rng.random((300, 7)) < 1 / (1 + np.exp(-logits))), float)
    return qs.RBM.initialise(jax.random.key(0), 7, 3, data=np.asarray(data), weight_scale=0.5), data


def runs(optimiser, n_walkers, n_steps, **options):
    """Measured excess work, its lag and its feedback as predicted; one row per run."""
    model, data = parts()
    trainer = qs.pcd(
        qs.BlockGibbs(), optimiser, n_walkers=n_walkers, auditor_groups=0, controls=qs.Controls.of(beta=BETA), **options
    )
    start = jax.jit(lambda key: eqx.filter(trainer.init(key, model), eqx.is_array))
    static = eqx.filter(trainer.init(jax.random.key(0), model), eqx.is_array, inverse=True)
    found = []
    for i in range(N_RUNS):
        state = eqx.combine(start(jax.random.key(i)), static)
        opened = float(jnp.mean(state.ledger.switch_work.value))
        end = run_chunk(trainer, state, data, jnp.asarray(n_steps, jnp.int32))
        work = float(jnp.mean(end.ledger.switch_work.value)) - opened
        excess = work + log_partition_exact(end.model, BETA) - log_partition_exact(model, BETA)
        found.append([excess, float(end.ledger.response.excess_work), -float(end.feedback.bias.value)])
    return np.array(found)


def agrees(measured, predicted):
    """Whether the means agree within four standard errors of their difference and a tenth (it is of leading order)."""
    difference = measured - predicted
    stderr = difference.std(ddof=1) / np.sqrt(len(difference))
    print(
        f"measured {measured.mean():.3f}, predicted {predicted.mean():.3f}, difference {difference.mean():.3f}", stderr
    )
    return bool(abs(difference.mean()) < 4 * stderr + 0.1 * measured.mean())


@pytest.mark.parametrize("name", ["descent", pytest.param("natural", marks=pytest.mark.slow)])
def test_feedback_is_most_of_it(name):
    """40 walkers: the prediction holds, and neither part alone would do."""
    natural = natural_gradient(0.05, damping=0.05)
    optimiser, n_steps = (optax.sgd(0.1), 150) if name == "descent" else (natural, 60)
    measured, lag, feedback = runs(optimiser, 40, n_steps, centred=name == "descent").T
    assert agrees(measured, lag + feedback)
    assert not agrees(measured, lag) and feedback.mean() > 0.5 * measured.mean()


@pytest.mark.slow
def test_lag_is_most_of_it():
    """6,000 walkers at a high rate."""
    measured, lag, feedback = runs(optax.sgd(2.0), 6000, 15).T
    ratio = (lag + feedback).mean() / measured.mean()
    print(measured.mean(), lag.mean(), feedback.mean(), ratio)
    assert SLOW_DRIVING[0] < ratio < SLOW_DRIVING[1]
    assert lag.mean() > feedback.mean()
