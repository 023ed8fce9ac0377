"""A budget of excess work per update: it is what the updates then cost, by the books."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic.errors import InputError
from quasistatic.evaluate.exact import log_partition_exact
from quasistatic.regulators import SpendWork
from quasistatic.train import run_chunk

BETA, START, STOP = 0.7, 60, 160


descent = functools.cache(optax.sgd)


@functools.cache
def spending(regulator, rate, has_gain=True):
    """Excess work per update, nats: booked work less the exact change of free energy, after the regulator settled.

    And half the variance of the work per update, its part that needs no friction. Without its gain the regulator
    measures and changes nothing.
    """
    rng = np.random.default_rng(3)
    data = np.where(rng.random((400, 6)) < np.linspace(0.2, 0.9, 6), 1.0, -1.0)
    data[:, 3] = data[:, 2] * np.where(rng.random(400) < 0.9, 1, -1)
    trainer = qs.pcd(
        qs.Gibbs(), descent(rate), k=1, n_walkers=4000, auditor_groups=0, batch_size=40,
        controls=qs.Controls.of(beta=BETA),
        regulators=(qs.Resample(0.5), regulator),
    )  # fmt: skip
    # numbers that are traced: one program for all budgets and gains
    numbers = jnp.asarray(regulator.budget), jnp.asarray(regulator.gain if has_gain else 0.0)
    trainer = eqx.tree_at(lambda t: (t.regulators[1].budget, t.regulators[1].gain), trainer, numbers)
    state = trainer.init(jax.random.key(2), qs.Pairwise.initialise(6, data=data))
    totals, jumps = [], []
    for stop in (START, STOP):
        state = run_chunk(trainer, state, jnp.asarray(data), jnp.asarray(stop, jnp.int32))
        f = -log_partition_exact(state.model, BETA)
        totals.append(float(state.ledger.work.value) - f)
        jumps.append(float(state.ledger.response.jumps))
    return (totals[1] - totals[0]) / (STOP - START), (jumps[1] - jumps[0]) / (STOP - START)


def spent_per_update(regulator, rate, has_gain=True):
    return spending(regulator, rate, has_gain)[0]


@pytest.mark.parametrize("rate", [0.003, pytest.param(1.0, marks=pytest.mark.slow)])
def test_the_budget_is_spent(rate):
    """Two rates far apart end at the same cost within a quarter; left alone, neither is near it."""
    budget = 0.01
    assert abs(spent_per_update(SpendWork(budget), rate) / budget - 1) < 0.25
    assert not 0.3 < spent_per_update(SpendWork(budget), rate, has_gain=False) / budget < 3


def test_linear_response_needs_no_weights():
    """`(1/2 + relaxation) Var w` is held at the budget; these fast walkers dissipate little more than `Var w / 2`."""
    budget = 0.004
    found, jump = spending(SpendWork(budget, relaxation=0.5), 0.3)
    assert abs((1 + 2 * 0.5) * jump / budget - 1) < 0.25
    assert 0.9 * jump < found < budget


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SpendWork(0.0), "budget > 0"),
        (lambda: SpendWork(0.1, gain=2.0), "gain"),
        (lambda: SpendWork(0.1, relaxation=-1.0), "autocorrelations"),
    ],
)
def test_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
