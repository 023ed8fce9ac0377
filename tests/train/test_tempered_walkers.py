"""Training with tempered stacks: the gradient is that of the model's replicas, the auditor is of single walkers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic.datasets import Dataset
from quasistatic.evaluate import log_partition_exact
from quasistatic.kernels import BlockGibbs, Exchange, parallel_tempering
from quasistatic.train.dissipated import DISSIPATED
from tests.train.test_trajectory import BETA, DATA

MODEL = qs.RBM.initialise(jax.random.key(1), 14, 3, weight_scale=0.05, data=DATA)
TRAINER = qs.pcd(
    parallel_tempering(BlockGibbs(), 3, 3.0), optax.sgd(0.2), n_walkers=64, auditor_groups=16, auditor_walkers=32,
    batch_size=50, controls=qs.Controls.of(beta=BETA),
)  # fmt: skip
DATASET = Dataset("made up", DATA.astype(np.float32), None, None, None, "binary", {})


def trained(folder=None, **plan):
    if folder is not None:
        folder.mkdir(exist_ok=True)
    plan = qs.Plan(40, record_every=20, n_ages=0, checkpoint_every=20, **plan)
    return qs.fit(jax.random.key(2), TRAINER, MODEL, DATASET, plan, folder=folder, resume=True)


def log_likelihood(model):
    return -float(jnp.mean(jax.vmap(lambda x: model.reduced(x, BETA))(DATA))) - log_partition_exact(model, BETA)


def test_the_auditor_is_right_and_the_stacks_claim_nothing():
    done = trained()
    row, state = done.rows[-1], done.state
    assert abs(row["log_z"] - log_partition_exact(state.model, BETA)) < 4.5 * row["log_z_stderr"] < 0.5
    assert state.ensemble.x.shape == (64, 3, 14) and state.auditor.x.shape == (16 * 32, 14)
    assert row["log_z_driver"] is None
    assert all(row[name] is None for name in DISSIPATED if not name.startswith("start_divergence"))
    ladder = done.summary["ladder"]
    np.testing.assert_allclose(ladder["betas"], BETA * 3.0 ** -np.array([1.0, 0.5, 0.0]), rtol=1e-12)
    assert row["n_rungs"] == ladder["n_rungs"] == 3 and 0 < row["rung_acceptance"] == min(ladder["acceptance"]) < 1
    assert log_likelihood(state.model) > log_likelihood(MODEL) + 0.1


@pytest.mark.slow
def test_a_resumed_run_is_the_whole_one(tmp_path):
    assert trained(tmp_path, max_minutes=1e-9).is_interrupted
    pairs = zip(*(jax.tree.leaves(run.state) for run in (trained(tmp_path), trained())), strict=True)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


@pytest.mark.slow
def test_saboteur_an_auditor_of_stacks(monkeypatch):
    """Its books are of all rungs: they have no log Z of the model, and their work makes nonsense of the likelihood."""
    monkeypatch.setattr(Exchange, "has_model_work", property(lambda self: True))
    done = trained()
    assert done.rows[-1]["log_z"] is None
    assert abs(done.rows[-1]["ll_approximate"] - log_likelihood(done.state.model)) > 0.5
