"""`start_divergence`: what a start out of equilibrium may gain, against enumerated divergences, at beta = 0.7."""

import itertools

import jax
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic.datasets import Dataset
from tests.train.test_bias import BETA, fitted, gaussian_parts, log_z_of, rbm_parts, trainer_of

STATES = np.array(list(itertools.product((0.0, 1.0), repeat=7)))


def log_model(model):
    return -np.asarray(jax.vmap(lambda x: model.reduced(x, BETA))(STATES)) - log_z_of(model)


def test_starts_at_the_data():
    """The empirical law against the model: exact but for the auditor's `log Z`, repeated rows counted."""
    model, data = rbm_parts()
    found = fitted(trainer_of("cd"), model, data, n_steps=5)
    row, final = found.rows[-1], found.state.model
    p = np.array([np.mean(np.all(np.asarray(data) == x, axis=1)) for x in STATES])
    assert p.max() > 2 / len(data)  # there are repeated rows
    held = p > 0
    exact = float(np.sum(p[held] * (np.log(p[held]) - log_model(final)[held])))
    error = row["log_z"] - log_z_of(final)
    np.testing.assert_allclose(row["start_divergence"] - error, exact, rtol=0, atol=2e-5)
    assert row["start_divergence_stderr"] == row["log_z_stderr"] < 0.05
    without_repeats = exact + np.sum(p[held] * np.log(1 / (p[held] * len(data))))  # the saboteur: all rows different
    assert abs(without_repeats - exact) > 10 * row["start_divergence_stderr"]
    assert found.summary["final"]["start_divergence"] == row["start_divergence"]


@pytest.mark.slow
def test_starts_of_short_runs():
    """Uniform states against the model, within the error of its 1,000 starts."""
    model, data = rbm_parts()
    start = qs.starts.noise(model, 7)
    trainer = qs.short_run(
        qs.BlockGibbs(), optax.sgd(0.3), start, k=2, n_walkers=200, controls=qs.Controls.of(beta=BETA),
        auditor_groups=32, auditor_walkers=64,
    )  # fmt: skip
    found = fitted(trainer, model, data, n_steps=5)
    row = found.rows[-1]
    log_start = -np.asarray(jax.vmap(lambda x: start.reduced(x, 1.0))(STATES)) - float(start.log_partition(1.0))
    exact = float(np.exp(log_start) @ (log_start - log_model(found.state.model)))
    assert abs(row["start_divergence"] - exact) < 4.5 * row["start_divergence_stderr"]
    assert row["log_z_stderr"] < row["start_divergence_stderr"] < 0.1 * exact  # zero would be seen


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cd of a continuous model", "pcd", "no auditor"])
def test_what_has_no_number_or_zero(name):
    """Persistent walkers open their books in equilibrium; rows have no finite divergence from a density."""
    if name == "pcd":
        row = fitted(trainer_of("pcd"), *rbm_parts(), n_steps=2).rows[-1]
        assert row["start_divergence"] == row["start_divergence_stderr"] == 0
    elif name == "no auditor":
        row = fitted(trainer_of("cd", auditor_groups=0), *rbm_parts(), n_steps=2).rows[-1]
        assert row["start_divergence"] is None and row["start_divergence_stderr"] is None
    else:
        trainer = qs.cd(qs.Langevin(), optax.sgd(0.05), n_walkers=200, controls=qs.Controls.of(step_size=0.1))
        model, data = gaussian_parts()
        bits = Dataset("bits", np.asarray(data > 0.5, np.float32), None, None, None, "binary", {})  # to a density alike
        row = qs.fit(jax.random.key(1), trainer, model, bits, qs.Plan(2, record_every=2, n_ages=0)).rows[-1]
        assert row["start_divergence"] is None and row["log_z"] is not None
