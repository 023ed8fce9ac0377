"""The section `[exchange]`: what is refused, and a run with everything on from the command line to the report."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from quasistatic.cli.build import build
from quasistatic.cli.config import load_config
from quasistatic.cli.stacks import at_model, has_stacks, steering_of
from quasistatic.errors import InputError
from quasistatic.plots.views import walkers
from quasistatic.run import Archive
from quasistatic.train.ascent import Steering
from quasistatic.train.plan import Plan
from tests.cli.conftest import Cli, settings

TINY = (
    "run.n_steps=50 data.batch_size=64 model.n_hidden=4 training.n_walkers=32 auditor.n_walkers=16 "
    "optimiser.max_kl=0.01 exchange.every=10 exchange.target=0.97 exchange.max_rungs=3 "
    "record.every=20 record.n_ages=4 record.checkpoint_every=20"
).split()


@pytest.mark.parametrize(
    "recipe, overrides, message",
    [
        ("digits-rbm", ["exchange.every=10"], "belongs to exchange.kind"),
        ("ising", ["exchange.kind=trajectory"], "model.kind = 'rbm'"),
        ("digits-everything", ["training.method=cd", "temperature.signal=excess_work"], "restarts its walkers"),
        ("digits-everything", ["exchange.torn=0.6"], "must be below"),
        ("digits-everything", ["exchange.every=10"], "multiple of exchange.every"),
        ("digits-everything", ["record.checkpoint_every=110"], "multiple of exchange.every"),
        ("digits-everything", ["exchange.target=1.0"], "exchange.target"),
        ("digits-everything", ["exchange.n_rungs=4"], "belongs to exchange.kind = 'tempering'"),
        ("digits-rbm", ["exchange.kind=tempering", "exchange.every=10"], "belongs to exchange.kind = 'trajectory'"),
        ("digits-rbm", ["exchange.kind=tempering", "exchange.hottest=1"], "exchange.hottest"),
        ("digits-rbm", ["exchange.kind=tempering", "training.method=cd"], "use 'pcd' with exchange.kind = 'tempering'"),
        ("digits-rbm", ["exchange.kind=tempering", "training.method=jarzynski"], "every rung of a tempered stack"),
        ("digits-rbm", ["exchange.kind=tempering", "optimiser.kind=least-work"], "least-work"),
        (
            "digits-rbm",
            ["exchange.kind=tempering", "temperature.kind=thermostat", "temperature.signal=excess_work"],
            "signal = 'excess_work'",
        ),
    ],
)
def test_refused(recipe, overrides, message):
    with pytest.raises(InputError, match=message):
        load_config(recipe, overrides)


def test_what_is_built():
    plain, config = load_config("digits-rbm"), load_config("digits-everything")
    assert steering_of(plain) is None and not has_stacks(plain)
    assert steering_of(config) == Steering(every=25, target=0.6)
    x = np.arange(24.0).reshape(2, 3, 4)
    tempered = load_config(
        "ising", ["training.method=pcd", "exchange.kind=tempering", "exchange.n_rungs=3", "exchange.hottest=2.0"]
    )
    kernel = build(tempered).trainer.kernel  # any model
    assert steering_of(tempered) is None and has_stacks(tempered) and kernel.n_replicas == 3
    np.testing.assert_allclose(kernel.ladder.ratios, 2.0 ** -np.array([1.0, 0.5, 0.0]))
    huge = ["training.method=pcd", "training.n_walkers=1000000", "exchange.kind=tempering", "exchange.n_rungs=10000"]
    with pytest.raises(InputError, match="in stacks of exchange.n_rungs = 10000"):
        build(load_config("digits-rbm", huge))
    assert at_model(plain, x).shape == (2, 3, 4) and np.array_equal(at_model(config, x), x[:, 2])


def test_a_plan_with_looks_stops_at_them_alone():
    plan = Plan(105, record_every=20, n_ages=6, checkpoint_every=40, every=10)
    assert plan.stops(0) == [*range(10, 101, 10), 105]
    assert plan.ages == [10, 20, 50, 105] and plan.rows == {10, 20, 40, 50, 60, 80, 100, 105}
    assert Plan(105, record_every=20, n_ages=6, checkpoint_every=40).ages == [1, 3, 6, 16, 41, 105]
    with pytest.raises(InputError, match="multiples"):
        Plan(100, record_every=25, checkpoint_every=40, every=10)


@pytest.mark.slow
def test_everything_from_the_command_line(cli: Cli):
    """Training with a growing ladder, evaluation, samples by both methods, report and diagnosis of its run."""
    done = cli("train", "digits-everything", *settings(*TINY), "--out", "all")
    assert done.code == 0, done.err
    assert "ladder of 3 rungs" in done.out
    result = json.loads(Path("all/result.json").read_text(encoding="utf-8"))
    ladder, final = result["ladder"], result["final"]
    assert ladder["n_rungs"] == 3 == len(ladder["betas"]) and ladder["n_frozen"] == 1 and len(ladder["acceptance"]) == 2
    assert [event["name"] for event in ladder["events"]].count("frozen") == 1
    assert abs(final["log_z"]["value"] - final["exact"]["log_z"]) < 5 * final["log_z"]["stderr"] < 1.5
    with open("all/metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["10", "20", "40", "50"]
    assert [int(row["n_rungs"]) for row in rows][-1] == 3 and 0 < float(rows[-1]["rung_acceptance"]) <= 1
    page = Path("all/report.html").read_text(encoding="utf-8")
    assert 'id="ladder"' in page and "model frozen into a rung" in page and "Exchanges of replicas" in page
    assert "Walkers of the driver" in page
    found = json.loads(cli("evaluate", "all", "--json", "--temperatures", "50", "--chains", "32").out)
    assert found["beta"] == float(rows[-1]["beta"]) and found["exact"]["log_z"]["value"] is not None
    for more in ((), ("--method", "ptt"), ("--which", "best")):
        drawn = cli("sample", "all", "--n", "8", "--steps", "20", "--json", *more)
        assert drawn.code == 0 and json.loads(drawn.out)["shape"] == [8, 64], drawn.err
    verdict = cli("diagnose", "all", "--json")
    assert verdict.code == 0 and json.loads(verdict.out)["regime"] in ("equilibrium", "out_of_equilibrium")
    assert cli("train", "--out", "all", "--resume").code == 0  # finished: shows the result again


@pytest.mark.slow
def test_a_tempered_run_from_the_command_line(cli: Cli):
    """Training, report, samples, export and diagnosis of a run whose walkers are replicas in temperature."""
    of_trajectories = ("exchange.", "optimiser.max_kl")
    tiny = [*(s for s in TINY if not s.startswith(of_trajectories)), "exchange.kind=tempering", "exchange.n_rungs=3"]
    done = cli("train", "digits-rbm", *settings(*tiny, "training.method=pcd", "kernel.pace=5.0"), "--out", "tempered")
    assert done.code == 0, done.err
    assert "ladder of 3 rungs" in done.out and "torn" not in done.out
    final = json.loads(Path("tempered/result.json").read_text(encoding="utf-8"))["final"]
    assert abs(final["log_z"]["value"] - final["exact"]["log_z"]) < 5 * final["log_z"]["stderr"] < 1.5
    assert final["excess_work"] is None and final["driver"]["log_z"] is None
    arrays = Archive("tempered/checkpoints/last.npz")
    shown = walkers(arrays, "ensemble")
    assert shown is not None and np.array_equal(shown, arrays["ensemble/x"][:, -1])
    assert np.array_equal(walkers(arrays, "auditor"), arrays["auditor/x"])
    assert "Exchanges of replicas" in Path("tempered/report.html").read_text(encoding="utf-8")
    for more in ((), ("--method", "ptt"), ("--method", "tempering", "--rungs", "3")):
        drawn = cli("sample", "tempered", "--n", "8", "--steps", "20", "--json", *more)
        assert drawn.code == 0 and json.loads(drawn.out)["shape"] == [8, 64], drawn.err
    assert cli("export", "tempered", "tempered.h5").code == 0
    verdict = json.loads(cli("diagnose", "tempered", "--json").out)
    assert "exchanges" in {item["name"] for item in verdict["evidence"]}
