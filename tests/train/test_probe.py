"""The live detector: silent on walkers of the model, loud on walkers that lag, and fair about its errors."""

from __future__ import annotations

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from quasistatic.energies import RBM, Potential, units
from quasistatic.kernels import BlockGibbs
from quasistatic.thermo.process import switch
from quasistatic.train.probe import Probe, probe_evidence, read_probes
from quasistatic.train.trainer import Trainer, cd, jarzynski, pcd

N, M, BETA = 8, 4, 0.8


def rbm(scale: float) -> RBM:
    i, j = np.arange(N)[:, None], np.arange(M)[None, :]
    weights = scale * np.sin(1.0 + i + 2.3 * j)
    return RBM(
        jnp.asarray(weights), jnp.asarray(-weights.sum(1) / 2), jnp.asarray(0.3 - weights.sum(0) / 2),
        units("binary", N), units("binary", M),
    )  # fmt: skip


STATES = ((np.arange(2**N)[:, None] >> np.arange(N)) & 1).astype(float)


def law(model: RBM) -> tuple[np.ndarray, np.ndarray]:
    """Probability and reduced potential of every visible state, by NumPy."""
    inputs = BETA * (np.asarray(model.hidden_bias) + STATES @ np.asarray(model.weights))
    u = -BETA * STATES @ np.asarray(model.visible_bias) - np.logaddexp(0, inputs).sum(1)
    p = np.exp(u.min() - u)
    return p / p.sum(), u


def state_of(trainer: Trainer, model: RBM, driver: np.ndarray, auditor: np.ndarray | None = None):
    """State of a run whose walkers are put somewhere, with the auditor's weights left at one."""
    state = trainer.init(jax.random.key(1), model)
    potential = Potential(model, jnp.asarray(BETA))
    ensemble = state.ensemble.restarted(trainer.kernel, potential, jnp.asarray(driver, float))
    parts = [ensemble]
    if auditor is not None:
        assert state.auditor is not None
        parts.append(state.auditor.restarted(trainer.kernel, potential, jnp.asarray(auditor, float)))
        return eqx.tree_at(lambda s: (s.ensemble, s.auditor), state, tuple(parts))
    return eqx.tree_at(lambda s: s.ensemble, state, ensemble)


def trainer_of(make=pcd, **more) -> Trainer:
    given = {"n_walkers": 256, "auditor_groups": 16, "auditor_walkers": 16, "n_probes": 256} | more
    found = make(BlockGibbs(), optax.sgd(0.1), k=1, **given)
    return eqx.tree_at(lambda t: t.controls.beta, found, jnp.asarray(BETA))


@pytest.mark.parametrize("make", [pcd, cd, jarzynski])
def test_walkers_of_the_model_are_left_alone(make, tmp_path: Path):
    rng, model = np.random.default_rng(5), rbm(1.5)
    p, _ = law(model)
    trainer = trainer_of(make)
    data, driver, auditor = (STATES[rng.choice(2**N, n, p=p)] for n in (2000, 256, 256))
    probe = Probe(trainer, data, [0], tmp_path)
    assert probe.look(state_of(trainer, model, driver, auditor)) is None
    (row,) = read_probes(tmp_path / "probes.csv")
    assert not row["has_moved"] and not row["is_apart"] and row["longest"] == 16
    assert abs(row["drift"]) < 4.5 * row["drift_stderr"] and abs(row["auditor_gap"]) < 4.5 * row["auditor_gap_stderr"]
    assert all(item["regime"] is None for item in probe_evidence(tmp_path))
    assert probe.rows == [row]


def test_walkers_that_lag_are_named(tmp_path: Path):
    """Saboteur: walkers of another model, as a rate too high for k leaves them behind."""
    rng, model = np.random.default_rng(6), rbm(1.5)
    p, u = law(model)
    data, auditor, behind = STATES[rng.choice(2**N, 2000, p=p)], STATES[rng.choice(2**N, 256, p=p)], STATES[:256]
    trainer = trainer_of(n_probes=200)
    probe = Probe(trainer, data, [0], tmp_path)
    said = probe.look(state_of(trainer, model, behind, auditor))
    assert said is not None and "lag behind" in said and "k = 1 sweeps" in said
    row = probe.rows[-1]
    assert row["has_moved"] and row["is_apart"] and row["relaxation"] < 4
    assert row["auditor_gap"] == pytest.approx(u.mean() - p @ u, abs=4.5 * row["auditor_gap_stderr"])
    regimes = {item["name"]: item["regime"] for item in probe_evidence(tmp_path)}
    assert regimes["drift of the training's walkers"] == "out_of_equilibrium"
    assert regimes["driver against auditor"] == "out_of_equilibrium" and regimes["gap of new walkers"] is None
    assert Probe(trainer, data, [7], None).look(state_of(trainer, model, behind)) is None  # not its time


@pytest.mark.slow
def test_gap_to_the_auditor_has_the_error_it_states():
    """The auditor's walkers are exact for another model and carry the weights of the switch."""
    rng, before, after = np.random.default_rng(7), rbm(1.0), rbm(1.3)
    p_before, p_after = law(before)[0], law(after)[0]
    trainer, z, bare = trainer_of(n_probes=2), [], []
    template = trainer.init(jax.random.key(2), before)
    for _ in range(60):
        driver, auditor = (STATES[rng.choice(2**N, 256, p=p)] for p in (p_after, p_before))
        state = state_of(trainer, before, auditor, auditor)
        assert state.auditor is not None and template.auditor is not None
        weighted, _ = switch(trainer.kernel, Potential(after, jnp.asarray(BETA)), state.auditor)
        state = eqx.tree_at(
            lambda s: (s.model, s.auditor), state_of(trainer, after, driver, auditor), (after, weighted)
        )
        found = Probe(trainer, STATES, [0], None)._apart(state)
        assert found is not None
        z.append(found.value / found.stderr)
        unweighted = state_of(trainer, after, driver, auditor)
        found = Probe(trainer, STATES, [0], None)._apart(unweighted)
        assert found is not None
        bare.append(found.value / found.stderr)
    # mean of 60: s.e. 0.13; spread of 60 t-like numbers: s.e. 0.1
    assert abs(np.mean(z)) < 0.6 and 0.7 < np.std(z) < 1.4
    assert abs(np.mean(bare)) > 1.2  # saboteur: weights left out (an unbiased one stays below 0.6, see above)


def test_auditors_without_weight_judge_nobody():
    model = rbm(1.0)
    trainer = trainer_of()
    far = np.zeros((256, N))
    state = state_of(trainer, model, far, far)
    assert state.auditor is not None
    account = jax.tree.map(lambda leaf: leaf, state.auditor.account)
    lw = eqx.tree_at(lambda a: a.log_weight.hi, account, account.log_weight.hi.at[0].add(60.0))
    state = eqx.tree_at(lambda s: s.auditor.account, state, lw)
    assert Probe(trainer, STATES, [0], None)._apart(state) is None
