"""The set-point law in the training loop: the target is met exactly, at least work, whatever the noise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic.dissipation import SteppedTrap
from quasistatic.errors import InputError
from quasistatic.train import run_chunk

BETA, STEP, N = 0.6, 0.12, 20
MODEL = qs.Gaussian(jnp.zeros(1), jnp.sqrt(1.3) * jnp.eye(1))
TARGET = np.linspace(1.0, 4.0, 7)[:, None]


def learned(lag, n_walkers=40_000):
    trainer = qs.Trainer(
        qs.Langevin(),
        qs.SetPoint(N, lag),
        optax.sgd(1.0),
        controls=qs.Controls.of(beta=BETA, step_size=STEP),
        n_walkers=n_walkers,
        auditor_groups=0,
    )
    state = trainer.init(jax.random.key(8), MODEL)
    return run_chunk(trainer, state, jnp.asarray(TARGET), jnp.asarray(N + 1, jnp.int32))


def test_least_work_to_an_unknown_target():
    trap = SteppedTrap(1 - STEP * BETA * 1.3, 1.3, BETA)
    state = learned(trap.lag)
    np.testing.assert_allclose(state.model.mean, [2.5], atol=1e-6)
    np.testing.assert_allclose(state.model.precision_factor, MODEL.precision_factor)
    work = np.asarray(state.ledger.switch_work.value)
    optimum = trap.minimal_work(2.5, N)
    stderr = np.sqrt(2 * optimum / work.size)
    print(work.mean(), optimum, stderr)
    # every set point follows the noise of the mean, of variance 1 / (b kap N): K of them cost less than K / N
    assert abs(work.mean() - optimum) < 4.5 * stderr + N / work.size
    # saboteur: a wrong lag also arrives, for more work
    wrong = learned(0.0)
    np.testing.assert_allclose(wrong.model.mean, [2.5], atol=1e-6)
    assert float(jnp.mean(wrong.ledger.switch_work.value)) > optimum + 10 * stderr


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="in \\(-1, 1\\)"):
        qs.SetPoint(5, 1.0)
    with pytest.raises(InputError, match="mean of a Gaussian"):
        qs.SetPoint(5, 0.5).check(qs.GaussianMixture(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones((1, 1, 1))))
