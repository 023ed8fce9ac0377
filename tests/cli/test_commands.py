"""The commands on tiny runs: files, numbers, JSON formats, numbering, resume, exit codes."""

from __future__ import annotations

import csv
import json
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import quasistatic
from quasistatic.cli.folders import numbered
from tests.cli.conftest import TINY, Cli, settings, tree_hash

ESTIMATE = {"value", "stderr", "ess", "bias", "method"}
FIRST_COLUMNS = (
    "step log_z log_z_stderr ll_train ll_heldout ll_stderr ess_driver ess_auditor work heat shadow_work excess_work "
    "flip_rate beta"
).split()


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_train_writes_a_run_folder(finished: Path):
    for name in ("config.toml", "environment.json", "metrics.csv", "result.json", "report.html"):
        assert (finished / name).is_file(), name
    assert (finished / "checkpoints" / "last.npz").is_file()
    assert sorted(path.name for path in (finished / "ages").iterdir())[-1] == "age-00000050.npz"
    config = tomllib.loads((finished / "config.toml").read_text())
    assert config["run"]["n_steps"] == 50 and config["optimiser"]["rate"] > 0
    rows = rows_of(finished)
    assert list(rows[0])[: len(FIRST_COLUMNS)] == FIRST_COLUMNS
    assert int(rows[-1]["step"]) == 50
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["data"]["event_shape"] == [8, 8]
    assert (environment["data"]["n_train"], environment["data"]["n_heldout"]) == (1437, 360)
    assert {"jax", "numpy", "equinox"} <= set(environment["packages"])


def test_train_ends_with_live_and_exact_numbers(cli: Cli):
    done = cli("train", *settings(*TINY), "--seed", 5)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("digits-rbm-001: 50 steps")
    held_out = next(i for i, line in enumerate(lines) if "held-out log-likelihood" in line)
    assert "±" in lines[held_out] and "exact" in lines[held_out + 1]
    assert lines[-1] == "report: runs/digits-rbm-001/report.html"
    assert "training to step 50" in done.err and "held-out" in done.err
    assert "\x1b" not in done.err  # no terminal, no control codes
    final = json.loads(Path("runs/digits-rbm-001/result.json").read_text())["final"]
    live, exact = final["ll_heldout"], final["exact"]["ll_heldout"]
    assert set(live) >= ESTIMATE
    assert abs(live["value"] - exact) < 5 * live["stderr"]


def test_folders_are_numbered(cli: Cli):
    for name in ("digits-rbm-007", "digits-rbm-x", "digits-rbm-7-old", "ising-100"):
        Path("runs", name).mkdir(parents=True)
    done = cli("train", *settings(*TINY))
    assert "digits-rbm-008" in done.out
    done = cli("train", *settings(*TINY, "run.recipe=other"))
    assert "other-001" in done.out


def test_runs_that_start_at_once_get_different_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: numbered("race"), range(32)))
    assert sorted(folder.name for folder in folders) == [f"race-{n:03d}" for n in range(1, 33)]


def test_seed_decides_the_run(cli: Cli):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert cli("train", *settings(*TINY), "--seed", seed, "--out", name).code == 0
    weights = [quasistatic.load(name).model.weights for name in "abc"]
    assert np.array_equal(weights[0], weights[1]) and not np.array_equal(weights[0], weights[2])


def test_resume_goes_on_and_then_prints_the_result(cli: Cli, finished: Path):
    options = ["--out", "run", "--resume"]
    done = cli("train", *settings(*TINY), "--max-minutes", "1e-9", *options)
    assert done.code == 130
    assert "--resume" in done.err and done.out == ""
    assert not Path("run/result.json").exists()
    config = Path("run/config.toml").read_text()
    assert cli("train", *settings(*TINY), *options).code == 0
    assert Path("run/config.toml").read_text() == config
    assert _but_time(Path("run")) == _but_time(finished)
    before = tree_hash(Path("run"))
    done = cli("train", *options)
    assert done.code == 0 and "held-out" in done.out
    assert tree_hash(Path("run")) == before


def test_resume_without_a_checkpoint_starts_the_run(cli: Cli):
    Path("run").mkdir()
    (Path("run") / ".config.toml.partial").write_text("[ru")  # killed while it wrote its first file
    assert cli("train", *settings(*TINY), "--out", "run", "--resume").code == 0
    assert Path("run/result.json").is_file()


def test_finished_failure_is_repeated(cli: Cli, run_copy: Path):
    result = json.loads((run_copy / "result.json").read_text())
    result.update(result="ess_collapsed", message="the walkers are gone")
    (run_copy / "result.json").write_text(json.dumps(result))
    done = cli("train", "--out", "run", "--resume")
    assert done.code == 3 and "the walkers are gone" in done.err and done.err.count("\n") == 1


def test_named_failure_of_a_run(cli: Cli):
    wild = settings(*"run.n_steps=200 data.n_samples=50 kernel.step_size=1000 training.n_walkers=16".split())
    done = cli("train", "mixture", *wild, *settings("record.checkpoint_every=100"), "--out", "run")
    assert done.code == 3
    assert json.loads(Path("run/result.json").read_text())["result"] != "ok"
    assert done.err.splitlines()[-1].startswith("quasistatic: ")


def test_evaluate_has_a_format_and_repeats_bit_for_bit(cli: Cli, run_copy: Path):
    options = ["evaluate", "run", "--json", "--temperatures", 101, "--chains", 64]
    first, second = cli(*options), cli(*options)
    assert first.code == 0, first.err
    assert first.out == second.out
    found = json.loads(first.out)
    assert list(found)[:5] == ["log_z", "ll_test", "ll_lower", "ll_upper", "exact"]
    for name in ("log_z", "ll_test", "ll_lower", "ll_upper"):
        assert set(found[name]) >= ESTIMATE
    exact = json.loads((run_copy / "result.json").read_text())["final"]["exact"]
    assert found["exact"]["log_z"]["value"] == pytest.approx(exact["log_z"], abs=1e-4)
    for name in ("log_z", "ll_test"):
        estimate = found[name]
        assert abs(estimate["value"] - found["exact"][name]["value"]) < 5 * estimate["stderr"] + 1e-4
    table = cli("evaluate", "run", "--temperatures", 101, "--chains", 64)
    assert "log-likelihood" in table.out and "exact" in table.out


def test_sample_writes_arrays_and_pictures(cli: Cli, run_copy: Path):
    done = cli("sample", "run", "--n", 7, "--steps", 3, "--json")
    summary = json.loads(done.out)
    assert (summary["n"], summary["shape"], summary["path"]) == (7, [7, 64], "run/samples.npz")
    with np.load("run/samples.npz", allow_pickle=False) as file:
        assert np.isin(file["x"], (0, 1)).all() and file["potential"].shape == (7,)
    first = np.load("run/samples.npz", allow_pickle=False)["x"]
    assert cli("sample", "run", "--n", 7, "--steps", 3).code == 0
    assert np.array_equal(first, np.load("run/samples.npz", allow_pickle=False)["x"])
    assert cli("sample", "run", "--n", 50, "--steps", 3, "--out", "s.png", "--which", "best").code == 0
    assert Path("s.png").read_bytes()[:4] == b"\x89PNG"


def test_report_and_diagnose(cli: Cli, run_copy: Path):
    (run_copy / "report.html").unlink()
    done = cli("report", "run")
    assert done.code == 0 and done.out == "run/report.html\n"
    found = json.loads(cli("diagnose", "run", "--json").out)
    assert found["result"] == "ok" and found["regime"] == "equilibrium" and found["advice"]
    assert all(set(check) == {"name", "value", "ok", "note"} for check in found["checks"])
    assert all(set(e) == {"name", "value", "threshold", "stderr", "regime", "words"} for e in found["evidence"])
    assert {e["name"] for e in found["evidence"]} >= {"still chains", "R-hat between starts", "autocorrelation time"}
    silent = cli("diagnose", "run", "--no-chains", "--json")
    assert json.loads(silent.out)["regime"] is None and json.loads(silent.out)["reason"]
    assert "regime: not determined;" in cli("diagnose", "run", "--no-chains").out


@pytest.mark.slow
def test_sample_by_replicas(cli: Cli, run_copy: Path):
    """Rungs among the stored ages, or temperatures: samples of the right kind, and what is said about the ladder."""
    for method, options in (("ptt", []), ("tempering", ["--rungs", 4])):
        done = cli("sample", "run", "--n", 40, "--steps", 41, "--method", method, *options, "--json")
        assert done.code == 0, done.err
        found = json.loads(done.out)
        x = np.load("run/samples.npz", allow_pickle=False)["x"]
        assert x.shape == (40, 64) and set(np.unique(x)) == {0.0, 1.0}
        assert found["rounds"] == 42 and found["n_sweeps_total"] == 42 * found["n_rungs"]  # two equal halves
        assert found["method"] == method and len(found["acceptance"]) == found["n_rungs"] - 1
        assert len(found["rungs"]) == found["n_rungs"] and min(found["acceptance"]) > 0
        assert found["autocorrelation_time"]["value"] > 0 and found["round_trips"]["value"] >= 0
        if method == "ptt":
            assert found["rungs"][0] == 0 and found["rungs"][-1] == 50
            exact = json.loads((run_copy / "result.json").read_text())["final"]["exact"]["log_z"]
            assert abs(found["log_z"]["value"] - exact) < 5 * found["log_z"]["stderr"]
    assert "exchanges accepted" in cli("sample", "run", "--n", 40, "--steps", 40, "--method", "ptt").out


def test_recipes_can_be_listed_printed_edited_and_trained(cli: Cli):
    listed = cli("recipes")
    assert listed.code == 0 and "digits-rbm" in listed.out
    printed = cli("recipes", "digits-rbm")
    Path("mine.toml").write_text(printed.out.replace('recipe = "digits-rbm"', 'recipe = "mine"'))
    assert cli("train", "mine.toml", *settings(*TINY)).code == 0
    assert Path("runs/mine-001/result.json").is_file()


def test_reproduce_lists_every_paper(cli: Cli):
    listed = {entry["name"]: entry for entry in json.loads(cli("reproduce", "--json").out)}
    papers = ("jarzynski-mixture", "minimal-dissipation", "temperature", "equilibrium-propagation", "non-convergent")
    assert set(papers) <= set(listed) and all("arXiv" in listed[name]["reference"] for name in papers)


def test_version_and_help(cli: Cli):
    assert cli("--version").out == f"quasistatic {quasistatic.__version__}\n"
    for command in ("train", "evaluate", "sample", "report", "recipes", "reproduce", "diagnose"):
        done = cli(command, "--help")
        assert done.code == 0 and done.out


def test_load_opens_a_run(finished: Path):
    run = quasistatic.load(finished)
    assert run.model.weights.shape == (64, 4)
    assert np.array_equal(np.asarray(run.model.weights), run.checkpoint("last")["model/weights"])
    assert run.averaged is None
    step = run.ages()[-1][0]
    assert np.array_equal(run.model_at(step).weights, run.model.weights)
    assert run.settings.model.n_hidden == 4


def _but_time(folder: Path) -> tuple[list[dict[str, str]], dict[str, bytes]]:
    """Metrics without clocks, and all arrays of the last checkpoint."""
    rows = [{name: cell for name, cell in row.items() if not name.startswith("time_")} for row in rows_of(folder)]
    archive = quasistatic.load(folder).checkpoint("last")
    return rows, {name: archive[name].tobytes() for name in archive}


def test_walkers_are_chosen_by_the_weights_of_their_groups_as_well():
    """Two groups of a Jarzynski training, one of e times the weight of the other."""
    from typing import Any

    import jax

    from quasistatic.cli.config import load_config
    from quasistatic.cli.load import LoadedRun
    from quasistatic.cli.sampling import chosen_walkers

    archive: Any = {
        "ensemble/x": np.arange(4.0)[:, None],
        "ensemble/account/log_weight/hi": np.log([0.5, 0.5, 0.9, 0.1]),
        "ensemble/log_z/hi": np.array([700.0, 701.0]),
        "controls/beta": np.asarray(0.7),
    }

    class Stored(LoadedRun):
        settings: Any = load_config("digits-rbm", ["training.method=jarzynski"])

        def checkpoint(self, which: str = "last") -> Any:
            return archive

    run, n = Stored.__new__(Stored), 40_000
    x, beta = chosen_walkers(jax.random.key(0), run, n, "last")
    p = np.array([0.5, 0.5, 0.9 * np.e, 0.1 * np.e]) / (1 + np.e)
    found = np.bincount(np.asarray(x[:, 0]).astype(int), minlength=4) / n
    assert beta == 0.7 and np.abs((found - p) / np.sqrt(p * (1 - p) / n)).max() < 4
