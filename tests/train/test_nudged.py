"""Training by free and nudged phases: recipes, resume bit for bit, rates per layer, gradient check, shifts."""

import signal
import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from quasistatic.cli import toml
from quasistatic.cli.main import main
from quasistatic.cli.nudged_config import NudgedConfig, is_nudged, load
from quasistatic.datasets.base import Dataset
from quasistatic.datasets.labelled import Labelled, labelled_digits
from quasistatic.energies import SquaredError, hopfield
from quasistatic.equilibrium import EquilibriumPropagation
from quasistatic.equilibrium.check import check_gradients, implicit_gradient
from quasistatic.errors import InputError
from quasistatic.run import Run
from quasistatic.train.loop import NoProgress
from quasistatic.train.nudged import NudgedTrainer, run_steps, shifted
from quasistatic.train.nudged_loop import NudgedPlan, fit_nudged, read_rows

RECIPES = sorted(name for name in toml.recipes() if is_nudged(name, None))


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_survives_the_round_trip(name):
    config = load(name, None, [])
    assert config.run.recipe == name
    assert NudgedConfig.model_validate(tomllib.loads(toml.dump(config))) == config


def test_unknown_keys_are_named():
    with pytest.raises(InputError, match=r"did you mean equilibrium\.nudge"):
        load("digits-ep", None, ["equilibrium.nugde=1"])
    with pytest.raises(InputError, match="must be more than 0"):
        load("digits-ep", None, ["equilibrium.nudge=-1.0"])


@pytest.fixture(scope="module")
def small():
    data = labelled_digits()
    cut = {"train": 320, "heldout": 120}
    x = {name: getattr(data.dataset, name)[:n] for name, n in cut.items()}
    dataset = Dataset("digits", x["train"], x["heldout"], None, (8, 8), "real", {})
    return Labelled(dataset, {name: data.labels[name][:n] for name, n in cut.items()}, 10)


@pytest.fixture(scope="module")
def trainer():
    rule = EquilibriumPropagation(nudge=jnp.asarray(0.2), n_free=8, n_nudged=6)
    return NudgedTrainer(rule, optax.sgd(0.1, momentum=0.5), (1.0, 0.5), 16, "example", 1, (8, 8))


class Asked(NoProgress):
    """Somebody asks the run to stop while its second epoch is shown."""

    def update(self, row):
        if row["epoch"] == 2:
            signal.raise_signal(signal.SIGTERM)


def test_learning_and_resume_bit_for_bit(small, trainer, tmp_path):
    """Asked to stop after two epochs, two more: the state of an uninterrupted run; and it learns."""
    key, network = jax.random.key(0), hopfield(jax.random.key(1), (64, 32, 10))
    whole = fit_nudged(key, trainer, network, small, NudgedPlan(4), folder=tmp_path / "whole")
    plan = NudgedPlan(4, checkpoint_every=4)  # what was asked for is saved all the same
    first = fit_nudged(key, trainer, network, small, plan, folder=tmp_path / "parts", progress=Asked())
    assert first.is_interrupted and len(first.rows) == 2
    parts = fit_nudged(key, trainer, network, small, NudgedPlan(4), folder=tmp_path / "parts", resume=True)
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(parts.state), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert len(parts.rows) == 4 and [row["epoch"] for row in parts.rows] == [1, 2, 3, 4]
    last = whole.rows[-1]  # 80 steps on shifted images: far from trained, far from chance
    assert last["error_heldout"] + 4 * last["error_heldout_stderr"] < 0.9
    assert last["cost"] < whole.rows[0]["cost"]
    assert all(row["delta_a"] > 0 for row in whole.rows)
    plain = np.sqrt(last["error_heldout"] * (1 - last["error_heldout"]) / 120)  # binomial
    assert abs(last["error_heldout_stderr"] / plain - 1) < 0.02
    assert [row["cost"] for row in read_rows(tmp_path / "parts" / "metrics.csv")] == [r["cost"] for r in whole.rows]


@pytest.mark.slow
def test_rates_per_layer(trainer, small):
    """With rates (1, 1/2) the second layer moves half as far as with (1, 1)."""
    network, x = hopfield(jax.random.key(1), (64, 32, 10)), jnp.asarray(small.dataset.train, float)
    y, order = jnp.asarray(small.targets("train"), float), jnp.arange(320)
    moved = []
    for rates in ((1.0, 1.0), (1.0, 0.5)):
        one = NudgedTrainer(trainer.rule, optax.sgd(0.1), rates, 16, "zero")
        state, _, _ = run_steps(one, one.init(jax.random.key(0), network, 320), x, y, order, jnp.asarray(1))
        pairs = zip(state.network.interactions, network.interactions, strict=True)
        moved.append([a.weight - b.weight for a, b in pairs])
    np.testing.assert_allclose(moved[0][0], moved[1][0], rtol=1e-6)
    np.testing.assert_allclose(0.5 * moved[0][1], moved[1][1], rtol=1e-4, atol=1e-8)


def test_shifts_move_whole_images():
    x = jnp.zeros((50, 36)).at[:, 14].set(1.0)  # row 2, column 2
    moved = np.asarray(shifted(jax.random.key(0), x, (6, 6), 1)).reshape(50, 6, 6)
    assert np.all(moved.sum((1, 2)) == 1)
    places = {tuple(int(v) for v in np.argwhere(image)[0]) for image in moved}
    assert places == {(i, j) for i in (1, 2, 3) for j in (1, 2, 3)}


@pytest.mark.slow
def test_nudged_gradients_tend_to_the_implicit_gradient():
    """T -> 0, then b -> 0: the centred rule errs in second order, the one-sided one in first."""
    network = hopfield(jax.random.key(2), (4, 5, 3), gain=0.7)
    x = jax.random.uniform(jax.random.key(3), (3, 4))
    y = jnp.eye(3)
    worst = {}
    for nudge in (0.02, 0.004):
        options = {"nudge": nudge, "temperature": 0.0, "n_sweeps": 500}
        found = check_gradients(jax.random.key(0), network, SquaredError(), x, y, **options)
        for row in found:
            worst[row.estimator, nudge] = max(worst.get((row.estimator, nudge), 0.0), row.relative)
    if jax.config.jax_enable_x64:
        assert 3.5 < worst["one-sided", 0.02] / worst["one-sided", 0.004] < 7  # 5
        assert 12 < worst["centred", 0.02] / worst["centred", 0.004] < 50  # 25
    assert worst["centred", 0.004] < 1e-3
    slope = implicit_gradient(network, SquaredError(), x, y)
    assert float(jnp.linalg.norm(slope.interactions[1].weight)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("units, output, reference", [("binary", "binary", "enumeration"), ("box", "real", "reweight")])
def test_sampled_gradients_agree_within_their_errors(units, output, reference):
    """Above T = 0 every estimator differs from its reference by what its own noise makes, and none is its own judge."""
    network = hopfield(jax.random.key(2), (2, 3, 2), units=units, output=output, gain=1.5)
    x, y = jax.random.uniform(jax.random.key(3), (2, 2)), jnp.eye(2)
    options: dict = {"nudge": 0.4, "temperature": 0.7, "n_sweeps": 15, "n_replicas": 400, "n_groups": 12}
    found = check_gradients(jax.random.key(4), network, SquaredError(), x, y, **options)
    assert any(row.reference.startswith(reference) for row in found)
    assert all(row.estimator != row.reference for row in found)
    assert {"centred", "contrast", "path-integral", "holomorphic"} <= {row.estimator for row in found}
    for row in found:
        print(row)
        # the norm of a vector of errors: its expected square is `expected` squared
        assert 0 < row.expected and row.relative < 4 * row.expected, row


def test_a_nudge_that_no_output_withstands_is_refused():
    """At the nudge -b a real output keeps the curvature 1 - b: from b = 1 on it runs away."""
    network = hopfield(jax.random.key(2), (2, 3, 2))
    for variant in ("centred", "random-sign"):
        trainer = NudgedTrainer(EquilibriumPropagation(nudge=1.0, variant=variant), optax.sgd(0.1), batch_size=1)
        with pytest.raises(InputError, match="curvature 1"):
            trainer.init(jax.random.key(0), network, 4)
    NudgedTrainer(EquilibriumPropagation(nudge=1.0, variant="one-sided"), optax.sgd(0.1), batch_size=1).init(
        jax.random.key(0), network, 4
    )
    spins = hopfield(jax.random.key(2), (2, 3, 2), units="spin", output="spin")
    EquilibriumPropagation(nudge=3.0, temperature=0.1).check(spins)  # states that cannot leave


@pytest.mark.slow
def test_digits_ep_reads_digits_from_the_command_line(tmp_path, capsys):
    """The recipe: error of at most 5 % on held-out digits, a report, `evaluate`, `diagnose --gradients`."""
    out = tmp_path / "run"
    assert main(["train", "digits-ep", "--out", str(out), "--set", "run.n_epochs=12"]) == 0
    rows = Run(out).metrics
    assert rows["error_heldout"][-1] < 0.05
    assert (out / "report.html").stat().st_size > 10_000
    assert main(["evaluate", str(out), "--json"]) == 0
    assert "error_heldout" in capsys.readouterr().out
    assert main(["diagnose", str(out), "--gradients", "--json"]) == 0
    assert "centred" in capsys.readouterr().out
    assert main(["train", "digits-ep", "--out", str(out)]) == 2  # it exists


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant", ["one-sided", "coupled", "coupled-centred", "covariance", "reweighting", "path-integral"]
)
def test_every_variant_steps_at_finite_temperature(variant):
    """One compiled step of each: finite, and downhill on average for the low-noise ones."""
    network = hopfield(jax.random.key(2), (6, 8, 3), units="box")
    rule = EquilibriumPropagation(nudge=0.5, temperature=0.05, variant=variant, n_free=20, n_nudged=20, n_replicas=64)
    x, y = jax.random.uniform(jax.random.key(3), (4, 6)), jnp.eye(3)[jnp.asarray([0, 1, 2, 0])]
    slope, free, said = jax.jit(rule.gradient)(jax.random.key(4), network, x, y, network.zeros(4 * 64))
    zero = EquilibriumPropagation(nudge=0.05, variant="centred", n_free=200, n_nudged=200)
    exact, _, _ = zero.gradient(jax.random.key(0), network, x, y, network.zeros(4))
    a, b = slope.interactions[1].weight, exact.interactions[1].weight
    assert float(jnp.sum(a * b) / jnp.linalg.norm(a) / jnp.linalg.norm(b)) > 0.8
    assert float(said.delta_a) > 0 and free[0].shape == (256, 8)
