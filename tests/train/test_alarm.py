"""The alarm for trainings that run away: silent in sound ones, loud where learning cannot work."""

import jax
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic.datasets import Dataset
from quasistatic.energies import starts
from quasistatic.train.alarm import FACTOR, N_LEAST, diverging
from quasistatic.train.loop import fit
from quasistatic.train.plan import Plan


def rows(*norms):
    return [{"gradient_norm": norm} for norm in norms]


def test_a_jump_by_orders_of_magnitude_is_named():
    sound = [3.0, 1.0, 2.0, 2.5, 2.0]
    assert diverging(rows(*sound, 2.0 * FACTOR)) is None  # the median is 2: not above the factor
    told = diverging(rows(*sound, 2.1 * FACTOR))
    assert told is not None and "105 times" in told and "optimiser.rate" in told


def test_few_records_and_missing_norms_say_nothing():
    assert diverging(rows(*[1.0] * (N_LEAST - 1), 1e9)) is None
    assert diverging([*rows(*[1.0] * (N_LEAST - 1)), {"gradient_norm": None}, *rows(1e9)]) is None
    assert diverging(rows(*[0.0] * 10, 1.0)) is None  # nothing to compare with


@pytest.mark.parametrize(("step_size", "is_wild"), [pytest.param(0.02, False, marks=pytest.mark.slow), (3.0, True)])
def test_steps_too_long_for_what_is_learned(step_size, is_wild):
    """Walkers that overshoot cannot lower the gradient, which makes the energy ever steeper."""
    angle = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    x = np.stack([np.cos(angle), 0.6 * np.sin(angle)], 1).astype(np.float32)
    ring = Dataset("ring", x, None, None, None, "real", {})
    model = qs.mlp(jax.random.key(1), 2, (16,), law=starts.box(-3.0, 3.0, 2))
    trainer = qs.pcd(
        qs.Langevin(clip=10.0, box=(-3.0, 3.0)),
        optax.sgd(0.1),
        k=5,
        n_walkers=64,
        batch_size=64,
        auditor_groups=0,
        step_size=step_size,
    )
    found = fit(jax.random.key(0), trainer, model, ring, Plan(100, record_every=5, n_ages=0))
    assert (found.summary["final"]["alarm"] is not None) == is_wild
