"""Configuration: recipes are complete and valid, text survives a round trip, overrides have TOML's types."""

from __future__ import annotations

import tomllib

import pytest

from quasistatic.cli import toml
from quasistatic.cli.build import build
from quasistatic.cli.config import Config, dump_toml, keys, load_config
from quasistatic.errors import InputError
from quasistatic.regulators import KeepPace

NUDGED = {"digits-ep", "mnist-ep", "mnist-ep-deep", "mnist-ep-thermal"}  # of another shape: tests/train/test_nudged.py
RECIPES = sorted(set(toml.recipes()) - NUDGED)


def test_the_promised_recipes_are_there():
    assert set(toml.recipes()) >= NUDGED
    assert RECIPES == [
        "cifar10-short-run",
        "digits-everything",
        "digits-rbm",
        "ising",
        "mixture",
        "mnist-rbm",
        "mnist-rbm-fast",
        "mnist-rbm-long",
        "mnist-rbm-natural",
        "mnist-short-run",
    ]


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_survives_the_round_trip(name: str):
    config = load_config(name)
    assert config.run.recipe == name
    assert Config.model_validate(tomllib.loads(dump_toml(config))) == config


def test_every_kind_of_value_survives_the_round_trip(tmp_path):
    strange = 'path = "a \\"quoted\\" \\\\ name\\twith ü and \\u007f"'
    path = tmp_path / "strange name.toml"
    path.write_text(
        f'[run]\nn_steps = 1000000\nmax_minutes = 1e-05\n[data]\nsource = "file"\n{strange}\n'
        '[model]\nkind = "rbm"\n[training]\nl1 = 1\ncentred = true\n'
    )
    config = load_config(str(path))
    again = tmp_path / "again.toml"
    again.write_text(dump_toml(config))
    assert load_config(str(again)) == config
    assert config.training.l1 == 1.0 and config.run.max_minutes == 1e-5
    assert config.run.recipe == "strange-name"
    assert config.data.path == 'a "quoted" \\ name\twith ü and \x7f'


def test_kernel_follows_from_the_model(tmp_path):
    kinds = {"rbm": "block_gibbs", "pairwise": "gibbs", "mixture": "ula"}
    for model, kernel in kinds.items():
        path = tmp_path / f"{model}.toml"
        path.write_text(f'[run]\nn_steps = 1000\n[data]\nsource = "digits"\n[model]\nkind = "{model}"\n')
        assert load_config(str(path)).kernel.kind == kernel


def test_overrides_are_applied_in_order_and_typed():
    overrides = [
        "run.seed=3",
        "run.seed=4",
        "optimiser.rate=1e-3",
        "training.l2=1",
        "training.centred=true",
        "model.units=spin",
        'run.recipe="my-run"',
        "run.max_minutes=2",
        "run.max_minutes=none",
    ]
    config = load_config("digits-rbm", overrides)
    assert (config.run.seed, config.optimiser.rate, config.training.l2) == (4, 1e-3, 1.0)
    assert (config.training.centred, config.model.units, config.run.recipe) == (True, "spin", "my-run")
    assert config.run.max_minutes is None
    assert isinstance(config.training.l2, float)


def test_only_what_was_overridden_changes():
    plain, changed = load_config("ising").model_dump(), load_config("ising", ["run.seed=9"]).model_dump()
    plain["run"]["seed"] = 9
    assert plain == changed


@pytest.mark.parametrize(
    "mistyped, meant",
    [
        ("optimiser.rat=1", "optimiser.rate"),
        ("optimizer.rate=1", "optimiser.rate"),
        ("rate=1", "optimiser.rate"),
        ("training.n_walker=1", "training.n_walkers"),
        ("kernel.stepsize=1", "kernel.step_size"),
        ("model.n_steps=1", "run.n_steps"),
    ],
)
def test_mistyped_key_names_the_nearest(mistyped: str, meant: str):
    with pytest.raises(InputError, match=f"did you mean {meant}"):
        load_config("digits-rbm", [mistyped])


def test_hopeless_key_lists_what_there_is():
    with pytest.raises(InputError, match="the sections are run, data, model"):
        load_config("digits-rbm", ["foo.bar=1"])


def test_every_key_of_every_recipe_is_documented_by_its_section():
    for sections in keys().values():
        assert sections
    for text in toml.recipes().values():
        assert text.startswith("# ") and ": " in text.splitlines()[0]


def test_a_folder_called_like_a_recipe_does_not_hide_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ising").mkdir()
    assert load_config("ising").model.kind == "pairwise"


def test_sweeps_that_follow_the_memory_of_the_walkers():
    config = load_config("digits-rbm", ["kernel.pace=5.0", "kernel.n_sweeps=2", "kernel.most_sweeps=64"])
    (pace,) = build(config).trainer.regulators
    assert pace == KeepPace(config.training.n_walkers, ratio=5.0, n_min=2, n_max=64)
    for overrides, message in (
        (["kernel.most_sweeps=64"], "set the pace"),
        (["kernel.pace=5.0", "training.method=cd"], "restarts them"),
        (["kernel.pace=5.0", "kernel.n_sweeps_late=4"], "drop one"),
        (["kernel.pace=5.0", "kernel.n_sweeps=300"], "exceeds kernel.most_sweeps"),
        (["kernel.pace=0"], "kernel.pace"),
    ):
        with pytest.raises(InputError, match=message):
            load_config("digits-rbm", overrides)
