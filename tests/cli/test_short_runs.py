"""Short runs on the command line: what is trained is what is replayed, and clamped values stay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tests.cli.conftest import Cli, settings

SHORT = (
    "training.method=short-run short_run.k=3 short_run.start=mean-field record.n_probes=64 record.probe=8 "
    "run.n_steps=200 model.n_hidden=4 training.n_walkers=400 training.centred=true auditor.n_groups=0 record.every=100 "
    "record.n_ages=3 record.checkpoint_every=100 optimiser.schedule=constant optimiser.rate=1.0 model.weight_scale=0.1"
).split()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short-run RBM on the digits."""
    from quasistatic.cli.main import main

    folder = tmp_path_factory.mktemp("short") / "run"
    assert main(["train", "digits-rbm", *settings(*SHORT), "--out", str(folder)]) == 0
    return folder


def drawn(cli: Cli, folder: Path, tmp_path: Path, *more: object) -> tuple[dict, np.ndarray]:
    done = cli("sample", folder, "--n", 4000, "--json", "--out", tmp_path / "x.npz", *more)
    assert done.code == 0, done.err
    return json.loads(done.out), np.load(tmp_path / "x.npz", allow_pickle=False)["x"]


def sigmas(x: np.ndarray, mean: np.ndarray, n: float = np.inf) -> float:
    """Largest difference of means in standard errors; a pseudo-count keeps units that never flip apart from zero."""
    p = ((x.mean(0) + mean) / 2 * len(x) + 1) / (len(x) + 2)
    return float(np.abs((x.mean(0) - mean) / np.sqrt(p * (1 - p) * (1 / len(x) + 1 / n))).max())


def test_samples_are_made_as_the_walkers_were(trained: Path, cli: Cli, tmp_path: Path):
    from quasistatic import load
    from quasistatic.datasets import digits

    said, x = drawn(cli, trained, tmp_path)
    assert said["steps"] == 3 and "mean-field" in said["from"]
    archive = load(trained).checkpoint("last")
    assert not bool(archive["ensemble/anchored"])
    walkers = archive["ensemble/x"]
    assert sigmas(x, walkers.mean(0), len(walkers)) < 5
    _, at_start = drawn(cli, trained, tmp_path, "--steps", 0)
    data = digits().train
    assert sigmas(at_start, (data.sum(0) + 1) / (len(data) + 2)) < 4.5
    # means agree already there, correlations need the sweeps
    busy = np.flatnonzero((data.mean(0) > 0.2) & (data.mean(0) < 0.8))
    pairs = [np.corrcoef(part[:, busy].T)[np.triu_indices(len(busy), 1)] for part in (at_start, x)]
    assert np.abs(pairs[0]).max() < 5 / np.sqrt(4000) and np.abs(pairs[1]).max() > 0.15


def test_walkers_are_followed_at_every_age(trained: Path):
    from quasistatic.train.probe import probe_evidence, read_probes

    rows = read_probes(trained / "probes.csv")
    assert [row["step"] for row in rows] == [1, 14, 200]
    assert all(row["k"] == 3 and row["longest"] == 24 for row in rows)
    for row in rows:
        assert row["gap_long"] - row["gap_k"] == pytest.approx(row["drift"], abs=1e-4)
        is_far = abs(row["drift"]) > 0.3 * row["spread"]
        assert row["has_moved"] == (abs(row["drift"]) > 5 * row["drift_stderr"] and is_far)
        assert (row["relaxation"] is not None) == bool(row["has_moved"])
    said, new = probe_evidence(trained)  # there is no auditor
    assert new["name"] == "gap of new walkers" and new["regime"] is None
    assert all(row["auditor_gap"] is None and row["gap_fresh"] is not None for row in rows)
    assert (
        (said["regime"] == "out_of_equilibrium") == bool(rows[-1]["has_moved"]) == (said["value"] > said["threshold"])
    )
    assert probe_evidence(trained / "ages") == []
    final = json.loads((trained / "result.json").read_text())["final"]["probe"]
    assert {name: final[name] for name in rows[-1]} == rows[-1]
    assert (final["warning"] is not None) == bool(final["has_moved"])


def test_a_run_goes_to_rbms_and_back(trained: Path, cli: Cli, tmp_path: Path):
    from quasistatic import load
    from quasistatic.interchange import read_rbms

    done = cli("export", trained, tmp_path / "x.h5")
    assert done.code == 0, done.err
    found, run = read_rbms(tmp_path / "x.h5"), load(trained)
    assert found.updates == (1, 14, 200) and found.hyperparameters["gibbs_steps"] == 3
    model = run.model
    np.testing.assert_allclose(found.model.weights, run.settings.model.beta * model.weights, rtol=1e-6)
    np.testing.assert_array_equal(found.chains, run.checkpoint("last")["ensemble/x"])
    again = cli("export", trained, tmp_path / "x.h5")
    assert again.code == 2 and "already exists" in again.err
    assert cli("export", trained, tmp_path / "y.h5", "--which", "averaged").code == 2
    assert not (tmp_path / "y.h5").exists()


def test_clamped_values_stay_and_the_others_follow(trained: Path, cli: Cli, tmp_path: Path):
    from quasistatic import load
    from tests.laws.enumeration import states

    said, x = drawn(cli, trained, tmp_path, "--clamp", "0:32=0", "--clamp", "33:62=1", "--steps", 30)
    assert said["n_clamped"] == 61
    assert (x[:, :32] == 0).all() and (x[:, 33:62] == 1).all()
    free = [32, 62, 63]
    full = np.tile(x[0], (8, 1))
    full[:, free] = states("binary", 3)
    model = load(trained).model
    u = np.array([float(model.reduced(jnp.asarray(v), 1.0)) for v in full])
    p = np.exp(-(u - u.min())) / np.exp(-(u - u.min())).sum()
    found = np.bincount((x[:, free] @ [4, 2, 1]).astype(int), minlength=8)
    assert np.abs((found - 4000 * p) / np.sqrt(4000 * p * (1 - p) + 1)).max() < 4.5


@pytest.mark.parametrize(
    "given, named",
    [
        (["--clamp", "0:4=0,1"], "0:4"),
        (["--clamp", "60:70=1"], "0:64"),
        (["--clamp", "3=1", "--clamp", "0:5=1"], "twice"),
        (["--clamp", "a=1"], "FIRST:STOP"),
        (["--clamp", "3=0.5"], "0.5"),
        (["--clamp", "0:64=1"], "free"),
    ],
)
def test_wrong_clamps_are_refused(trained: Path, cli: Cli, given: list[str], named: str):
    done = cli("sample", trained, *given)
    assert done.code == 2 and named in done.err and len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    "change, named",
    [
        ("training.method=pcd", "short_run."),
        ("kernel.n_sweeps=5", "short_run.k"),
        ("short_run.start=box", "two-state"),
        ("short_run.start=gaussian", "two-state"),
        ("kernel.n_sweeps_late=4", "n_sweeps_late"),
        ("training.data_noise=0.1", "data_noise"),
        ("short_run.k=0", "short_run.k"),
    ],
)
def test_settings_that_do_not_fit_are_refused(cli: Cli, change: str, named: str):
    done = cli("train", "digits-rbm", *settings(*SHORT, change))
    assert done.code == 2 and named in done.err and not Path("runs").exists()


@pytest.mark.slow
def test_quality_by_age_and_time_is_written_drawn_and_resumed(trained: Path, cli: Cli, tmp_path: Path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    done = cli("quality", folder, "--chains", 200, "--longest", 24, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["k"] == 3 and 3 in found["times"] and found["times"][-1] == 24
    assert list(found["ages"]) == ["1", "14", "200"]
    for age in found["ages"].values():
        assert all(len(values) == len(found["times"]) for values in age["scores"].values())
    at, last = found["times"].index(3), found["ages"]["200"]
    # correlations were learned by the last age and not yet at the first
    assert last["scores"]["second_error"][at] < 0.8 * found["ages"]["1"]["scores"]["second_error"][at]
    assert (folder / "quality.png").stat().st_size > 10_000
    text = (folder / "quality.json").read_text()
    again = cli("quality", folder, "--chains", 200, "--longest", 24)
    assert again.code == 0 and (folder / "quality.json").read_text() == text
    assert "second_error" in again.out and "mixing time" in again.out
    assert cli("quality", folder, "--longest", 2).code == 2
