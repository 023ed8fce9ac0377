"""Answers that are values, and data of one's own: least squares, damaged files, classes of a file."""

import json

import jax
import numpy as np
import optax
import pytest

from quasistatic.cli.main import main
from quasistatic.cli.nudged import build
from quasistatic.cli.nudged_config import load
from quasistatic.datasets import Dataset
from quasistatic.datasets.labelled import Labelled, Valued, paired_file
from quasistatic.energies import hopfield
from quasistatic.equilibrium import EquilibriumPropagation
from quasistatic.errors import InputError
from quasistatic.train.nudged import NudgedTrainer
from quasistatic.train.nudged_loop import NudgedPlan, evaluated, fit_nudged


def problem(n=300, seed=2):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    y = x @ rng.normal(size=(4, 2)) + [0.3, -1.2] + 0.2 * rng.normal(size=(n, 2))
    return x.astype(np.float32), y.astype(np.float32)


def test_network_without_hidden_layers_learns_least_squares():
    """Real outputs rest at `Wx + b`; centred nudges then descend the squared error, whose minimum is known."""
    x, y = problem()
    data = Valued(Dataset("own", x, x[:50], None, (4,), "real", {}), {"train": y, "heldout": y[:50]})
    rule = EquilibriumPropagation(nudge=0.3, n_free=2, n_nudged=2)
    trainer = NudgedTrainer(rule, optax.sgd(0.3), (), len(x))
    fit = fit_nudged(jax.random.key(0), trainer, hopfield(jax.random.key(1), (4, 2)), data, NudgedPlan(200))
    a = np.c_[x, np.ones(len(x))]
    exact = np.linalg.lstsq(a, y, rcond=None)[0]
    np.testing.assert_allclose(fit.state.network.interactions[0].weight, exact[:4], atol=1e-6)
    np.testing.assert_allclose(fit.state.network.biases[0], exact[4], atol=1e-6)
    assert fit.rows[-1]["error"] is None and fit.rows[-1]["error_heldout"] is None
    cost = 0.5 * np.mean(np.sum((a[:50] @ exact - y[:50]) ** 2, 1))
    assert abs(evaluated(trainer, fit.state, data, "heldout")["cost_heldout"] - cost) < 1e-6


def test_held_out_cost_is_that_of_the_replicas():
    """Above temperature zero the cost of the mean answer is less than the mean cost, by `n_out T (1 - 1/R) / 2`."""
    x, y = problem(n=4000)
    data = Valued(Dataset("own", x, x, None, (4,), "real", {}), {"train": y, "heldout": y})
    rule = EquilibriumPropagation(nudge=0.3, temperature=0.4, variant="one-sided", n_free=2, n_nudged=2, n_replicas=8)
    trainer = NudgedTrainer(rule, optax.sgd(0.0), (), 50)
    network = hopfield(jax.random.key(1), (4, 2))
    state = trainer.init(jax.random.key(3), network, len(x))
    answers = x @ np.asarray(network.interactions[0].weight) + np.asarray(network.biases[0])
    squares = 0.5 * np.sum((answers - y) ** 2, 1)
    expected = squares.mean() + 0.4
    found = evaluated(trainer, state, data, "heldout")["cost_heldout"]
    # per answer: variance T/2 * 2 of the noise's square and T * 2 * square of the cross term, over all replicas
    error = np.sqrt((0.4**2 + 2 * 0.4 * squares.mean()) / (4000 * 8))
    assert abs(found - expected) < 4 * error
    assert abs(found - (expected - 0.4 * (1 - 1 / 8))) > 10 * error, "the cost of the mean answer is another"


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


SETTINGS = (
    "data.source=file data.batch_size=20 network.hidden=[] run.n_epochs=30 optimiser.rate=0.2 optimiser.decay=1.0 "
    "equilibrium.n_free=2 equilibrium.n_nudged=2"
)


def test_command_trains_a_regressor(tmp_path, capsys):
    x, y = problem()
    path, out = write(tmp_path / "own.npz", inputs=x, targets=y), tmp_path / "run"
    options = [f"--set={s}" for s in SETTINGS.split()]
    assert main(["train", "digits-ep", "--out", str(out), "--data", str(path), *options]) == 0
    assert "held out: cost" in capsys.readouterr().out
    assert main(["evaluate", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["error_train"] is None and 0.03 < found["cost_heldout"] < 0.06  # the noise: 2 x 0.2^2 / 2
    assert (out / "report.html").stat().st_size > 5_000
    data = paired_file(path)
    assert isinstance(data, Valued) and data.values["heldout"].shape == (60, 2)


def test_file_of_classes(tmp_path):
    x, _ = problem()
    classes = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    data = paired_file(write(tmp_path / "c.npz", inputs=x, targets=classes), 100)
    assert isinstance(data, Labelled) and data.n_classes == 3 and len(data.labels["heldout"]) == 100
    assert paired_file(tmp_path / "c.npz", 0).dataset.heldout is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"inputs": np.ones((4, 2))}, "lacks targets"),
        ({"inputs": np.ones(4), "targets": np.ones((4, 1))}, "inputs must be numbers"),
        ({"inputs": np.ones((4, 2)), "targets": np.ones((3, 1))}, "rows must agree"),
        ({"inputs": np.full((4, 2), np.nan), "targets": np.ones((4, 1))}, "inputs must be finite"),
        ({"inputs": np.ones((4, 2)), "targets": np.full((4, 1), np.inf)}, "values of train must be finite"),
        ({"inputs": np.ones((4, 2)), "targets": np.ones(4)}, "integer classes of shape"),
        ({"inputs": np.ones((4, 2)), "targets": np.array([0, 1, -1, 2])}, "classes must be 0, 1"),
        ({"inputs": np.ones((4, 2)), "targets": np.array([{}, 1, 2, 3], dtype=object)}, "cannot read"),
    ],
)
def test_damaged_files_are_refused(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message):
        paired_file(write(tmp_path / "x.npz", **arrays), 1)
    (tmp_path / "y.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:50])
    with pytest.raises(InputError, match="cannot read"):
        paired_file(tmp_path / "y.npz")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.source=file"], "needs data.path"),
        (["data.n_heldout=10"], "not used by data.source = 'digits'"),
        (["network.output=softmax", "network.hidden=[4]"], "needs network.cost = 'cross-entropy'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        load("digits-ep", None, settings)


def test_spins_are_nudged_to_minus_one():
    _, _, data = build(load("digits-ep", None, ["network.output=spin", "equilibrium.temperature=0.1",
                                                "equilibrium.variant=one-sided"]))  # fmt: skip
    assert set(np.unique(data.targets("train"))) == {-1.0, 1.0}


def test_damaged_configuration_is_named(tmp_path, capsys):
    config = "[run]\nn_epochs = 1\n[data]\nsource = 'digits'\n[network]\n[equilibrium]\nnudge = -1.0\n"
    (tmp_path / "config.toml").write_text(config)
    for command in (["evaluate", str(tmp_path)], ["diagnose", str(tmp_path), "--gradients"]):
        assert main(command) == 2
        assert "equilibrium.nudge" in capsys.readouterr().err
    for command, said in ((["sample", str(tmp_path)], "not sampled"), (["diagnose", str(tmp_path)], "--gradients")):
        assert main(command) == 2 and said in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path), "--which", "best"]) == 2 and "drop --which" in capsys.readouterr().err


def test_discrete_units_need_a_temperature():
    network = hopfield(jax.random.key(0), (3, 4, 2), units="binary")
    with pytest.raises(InputError, match="jump at temperature zero"):
        EquilibriumPropagation().check(network)
    EquilibriumPropagation(temperature=0.1, variant="one-sided").check(network)
