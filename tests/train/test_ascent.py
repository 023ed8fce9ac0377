"""Training on a growing ladder in a run folder: interrupted and resumed, it leaves the same bits."""

import jax
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic.datasets import Dataset
from quasistatic.errors import RunFailure
from quasistatic.train.ascent import Ascent, Steering
from quasistatic.train.trajectory import on_trajectory
from tests.train.test_kill import timeless

DATA = (np.random.default_rng(3).random((200, 9)) < np.linspace(0.1, 0.9, 9)).astype(np.float32)
DATA[:, 1] = DATA[:, 0]
DATASET = Dataset("made up", DATA, DATA[:40], None, None, "binary", {})
STEERING = Steering(every=10, target=0.98, torn=0.05, max_rungs=3)
OPTIMISER = optax.sgd(0.3)


def trained(folder, steering=STEERING, audited=None, **plan):
    """A weighted and regulated training on a growing ladder; goes on where the folder stopped."""
    folder.mkdir(exist_ok=True)
    model = qs.RBM.initialise(jax.random.key(1), 9, 3, data=DATA, weight_scale=0.3)
    plain = qs.jarzynski(
        qs.BlockGibbs(), OPTIMISER, n_walkers=64, batch_size=50, regulators=(qs.Thermostat(0.36, k_i=0.05),),
        **(audited or {"auditor_walkers": 16}),
    )  # fmt: skip
    plan = qs.Plan(60, record_every=20, n_ages=3, checkpoint_every=20, **plan)
    trainer = on_trajectory(plain, model)
    return qs.fit(
        jax.random.key(2), trainer, model, DATASET, plan, folder=folder, resume=True, steering=steering
    )  # fmt: skip


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.slow
def test_interrupted_between_looks_and_resumed(tmp_path, monkeypatch):
    """Stopped by the clock at the first row, then killed at a look without one: the same files as in one piece."""
    whole = trained(tmp_path / "a")
    rungs = [row["n_rungs"] for row in whole.rows]
    assert whole.summary["ladder"]["n_rungs"] == 3 == rungs[-1] > rungs[0] or rungs[0] == 3
    assert whole.rows[-1]["temperature"] > 1.02
    assert trained(tmp_path / "b", max_minutes=1e-9).is_interrupted
    advanced, seen = Ascent.advanced, []

    def killing(self, state, data, stop):
        seen.append(stop)
        if stop == 50:
            raise Killed
        return advanced(self, state, data, stop)

    monkeypatch.setattr(Ascent, "advanced", killing)
    with pytest.raises(Killed):
        trained(tmp_path / "b")
    assert seen[0] > 10  # it did go on
    monkeypatch.setattr(Ascent, "advanced", advanced)
    again = trained(tmp_path / "b")
    files, others = timeless(tmp_path / "a"), timeless(tmp_path / "b")
    assert files.keys() == others.keys() and "checkpoints/last.npz" in files
    assert files == others and whole.summary["ladder"] == again.summary["ladder"]


@pytest.mark.slow
def test_a_ladder_that_no_rate_mends_ends_the_run_by_name(tmp_path):
    """The failure is in result.json; the last good checkpoint stays."""
    with pytest.raises(RunFailure, match="torn") as failure:
        trained(tmp_path / "c", Steering(every=10, target=0.9999, torn=0.9998, max_rungs=3, max_rejections=1))
    assert failure.value.result == "ladder_torn"
    assert '"result": "ladder_torn"' in (tmp_path / "c" / "result.json").read_text(encoding="utf-8")


@pytest.mark.slow
def test_copies_of_the_model_are_audited_beside_a_ladder(tmp_path):
    """Anchors anneal single configurations to the live model, at its beta, while the walkers are stacks."""
    anchors = qs.train.anchor.Anchors(n_groups=16, n_walkers=32, share=5.0)
    done = trained(tmp_path, audited={"auditor_groups": 0, "anchors": anchors})
    live, exact = done.summary["final"]["log_z"], done.summary["final"]["exact"]["log_z"]
    assert done.summary["ladder"]["n_rungs"] == 3 and abs(live["value"] - exact) < 4.5 * live["stderr"] < 0.3
