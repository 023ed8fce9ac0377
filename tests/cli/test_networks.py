"""Networks and digit mixtures from a configuration."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import quasistatic
from quasistatic.cli.config import load_config
from quasistatic.errors import InputError
from tests.cli.conftest import Cli, settings

DIGITS = ("data.source=mnist", "data.binary=false", "data.digits=[2, 3, 6]")


def test_lists_survive_a_round_trip(tmp_path: Path):
    from quasistatic.cli.config import dump_toml

    config = load_config("mixture", ["model.kind=mlp", "model.widths=[8, 4]"])
    path = tmp_path / "again.toml"
    path.write_text(dump_toml(config))
    assert load_config(str(path)) == config and config.model.widths == [8, 4]


@pytest.mark.parametrize(
    "recipe, overrides, message",
    [
        ("mixture", ["training.n_groups=3"], "does not divide training.n_walkers = 2000"),
        ("mixture", ["model.kind=mlp", "model.base=uniform"], "'covariance' or 'isotropic', or inside the box"),
        ("mixture", ["model.kind=mlp", "model.widths=[0]"], "model.widths must be at least 1"),
        ("mixture", ["model.kind=mlp", "model.widths=8"], "a list such as"),
        ("mixture", ["model.kind=mlp", "kernel.kind=gibbs"], "does not move a model of kind 'mlp'"),
        ("mixture", ["data.noise=0.1"], "data.noise is for data.source = 'mnist'"),
        ("mnist-rbm", ["data.noise=0.1"], "set data.binary = false"),
        ("mnist-rbm", ["data.masses=[1.0]"], "give the digits"),
        ("mnist-rbm", [*DIGITS, "data.masses=[1.0]"], "1 values for 3 digits"),
        ("mnist-rbm", [*DIGITS, "data.n_copies=2"], "would repeat the same images"),
        ("mnist-rbm", ["data.digits=[12]"], "at most 9"),
    ],
)
def test_what_does_not_fit_is_refused(recipe: str, overrides: list[str], message: str):
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        load_config(recipe, overrides)


def test_an_image_must_hold_the_sample(cli: Cli):
    options = settings("model.kind=convnet", "run.n_steps=500", "model.image=[3, 1, 1]")
    done = cli("train", "mixture", *options, "--out", "run")
    assert done.code == 2 and "does not hold the 2 values" in done.err and not Path("run").exists()


@pytest.mark.slow
def test_an_mlp_is_trained_loaded_and_evaluated(cli: Cli):
    """Two coordinates: the evaluated log Z against a sum over a grid, and the model read back from the folder."""
    small = settings(
        "model.kind=mlp", "model.widths=[8]", "model.base=covariance", "model.base_scale=1.3", "run.n_steps=100",
        "data.n_samples=500", "training.n_walkers=200", "training.n_groups=2", "auditor.n_walkers=64",
        "record.every=50", "record.checkpoint_every=50", "kernel.step_size=0.1", "optimiser.rate=0.01",
    )  # fmt: skip
    done = cli("train", "mixture", *small, "--out", "run")
    assert done.code == 0, done.err
    model = quasistatic.load("run").model
    axis = np.linspace(-12, 12, 241)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    u = np.asarray(jax.vmap(model)(grid), np.float64)
    exact = np.log(np.exp(-u).sum() * (axis[1] - axis[0]) ** 2)
    live = json.loads(Path("run/result.json").read_text())["final"]["log_z"]
    assert abs(live["value"] - exact) < 4.5 * live["stderr"] + 1e-3 and live["stderr"] < 0.1
    done = cli("evaluate", "run", "--json", "--temperatures", "60", "--chains", "320")
    assert done.code == 0, done.err
    annealed = json.loads(done.out)["log_z"]
    assert abs(annealed["value"] - exact) < 4.5 * annealed["stderr"] + 1e-3 and annealed["stderr"] < 0.1
    assert float(np.ptp(np.asarray(jax.vmap(model.network)(grid)))) > 0.05  # it has learned something
