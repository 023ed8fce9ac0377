"""Anchors: right at every age, the same after a resume, without influence on the training, and silent when lost."""

import csv
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic.datasets import Dataset
from quasistatic.errors import InputError
from quasistatic.train import loop
from quasistatic.train.anchor import Anchors, read, read_rows, schedule

PLAN = loop.Plan(240, record_every=20, n_ages=7, checkpoint_every=60, n_exact=7)
ANCHORS = Anchors(n_walkers=8, max_temperatures=200, share=0.5)


def correlated_data(n=600):
    """Two prototypes with noise: a few hundred violent updates learn them."""
    rng = np.random.default_rng(0)
    prototypes = rng.random((2, 12)) < 0.5
    x = prototypes[rng.integers(0, 2, n)] ^ (rng.random((n, 12)) < 0.1)
    return x.astype(np.float32)


@functools.cache
def parts(anchors=ANCHORS, beta=0.8):
    x = correlated_data()
    model = qs.RBM.initialise(jax.random.key(1), 12, 6, weight_scale=0.01, data=x)
    trainer = qs.pcd(
        qs.BlockGibbs(), optax.sgd(0.5), k=1, n_walkers=32, batch_size=50, auditor_groups=0, anchors=anchors,
        controls=qs.Controls.of(beta=beta),
    )  # fmt: skip
    return jax.random.key(3), trainer, model, Dataset("two", x[:500], x[500:], None, None, "binary", {})


class StopAt:
    """Progress that interrupts like Ctrl-C at a step."""

    def __init__(self, step):
        self.step = step

    def start(self, step, n_steps):
        pass

    def update(self, row):
        if row["step"] == self.step:
            raise KeyboardInterrupt

    def close(self):
        pass


def rows_of(path):
    with open(path) as file:
        return [{k: v for k, v in row.items() if not k.startswith("time_")} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("anchors") / "whole"
    folder.mkdir()
    return loop.fit(*parts(), PLAN, folder=folder)


def test_every_age_is_audited_and_right(whole):
    anchors = {row["step"]: row for row in read_rows(whole.folder / "anchors.csv")}
    assert set(PLAN.ages) <= set(anchors)
    z = []
    for row in whole.rows:
        if row["step"] in PLAN.ages:
            found = anchors[row["step"]]
            z.append((found["log_z"] - row["log_z_exact"]) / found["log_z_stderr"])
            assert found["log_z_stderr"] < 0.1
    assert len(z) == len(PLAN.ages) and np.abs(z).max() < 4.5
    assert np.ptp([row["log_z_exact"] for row in whole.rows if row["log_z_exact"] is not None]) > 1  # it did learn


def test_rows_say_which_step_they_belong_to(whole):
    anchors = {row["step"]: row for row in read_rows(whole.folder / "anchors.csv")}
    seen = [row for row in whole.rows if row["anchor_step"] is not None]
    assert len(seen) > 5
    for row in seen:
        source = anchors[row["anchor_step"]]
        assert source["ready_at"] <= row["step"]
        assert row["log_z"] == source["log_z"] and row["ll_heldout"] == source["ll_heldout"]
        if row["anchor_step"] != row["step"]:
            assert row["excess_work"] is None  # work and log Z of different models do not subtract
    last = whole.rows[-1]
    assert last["anchor_step"] == last["step"] == PLAN.n_steps
    assert whole.summary["final"]["ll_heldout"]["value"] == last["ll_heldout"]


@pytest.mark.parametrize("step", [*(pytest.param(n, marks=pytest.mark.slow) for n in (5, 60)), 140])
def test_resumed_equals_uninterrupted(step, whole, tmp_path):
    folder = tmp_path / "cut"
    folder.mkdir()
    at = min(s for s in PLAN.stops(0) if s >= step)
    with pytest.raises(KeyboardInterrupt):
        loop.fit(*parts(), PLAN, folder=folder, progress=StopAt(at))
    loop.fit(*parts(), PLAN, folder=folder, resume=True)
    assert rows_of(folder / "metrics.csv") == rows_of(whole.folder / "metrics.csv")
    assert (folder / "anchors.csv").read_text() == (whole.folder / "anchors.csv").read_text()


def test_training_does_not_notice(whole):
    alone = loop.fit(*parts(anchors=None), PLAN)
    for a, b in zip(jax.tree.leaves(alone.state.model), jax.tree.leaves(whole.state.model), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(alone.state.ensemble.x, whole.state.ensemble.x)


def test_schedule_takes_steps_of_equal_spread():
    """Spread `sd(s) ~ s` means a path length `s^2`: its inverse is the square root."""
    spread = (np.arange(64) + 0.5) / 64
    fractions = schedule(spread, variance=4 * spread.sum() ** 2 / 100, n_max=1000)
    assert len(fractions) == 101 and fractions[0] == 0 and fractions[-1] == 1
    np.testing.assert_allclose(fractions, np.sqrt(np.linspace(0, 1, 101)), atol=0.02)
    assert np.all(np.diff(fractions) > 0)
    assert len(schedule(spread, variance=1e-9, n_max=300)) == 301
    assert len(schedule(0 * spread, variance=1.0, n_max=300)) == 17
    assert np.all(np.isfinite(schedule(np.where(spread > 0.5, np.nan, spread), variance=1.0, n_max=300)))


@pytest.mark.parametrize("what", ["groups", "step", "nan"])
def test_a_lost_thread_is_named(what):
    """Groups that disagree, a step that left no walkers, energies that are not finite: no number."""
    _, trainer, model, dataset = parts()
    from quasistatic.energies import IndependentUnits
    from quasistatic.train.anchor import opened

    base = IndependentUnits(jnp.zeros(12), model.visible)
    step = jnp.asarray(0, jnp.int32)
    job = opened(jax.random.key(0), trainer.kernel, model, base, jnp.asarray(1.0), step, 16, 8, 33)
    assert read(job).value is not None
    if what == "step":
        broken = eqx.tree_at(lambda j: j.lowest, job, jnp.asarray(1.0))
    else:
        offsets = jnp.arange(16.0) ** 2 if what == "groups" else jnp.full(16, jnp.nan)
        broken = eqx.tree_at(lambda j: j.ensemble.log_z, job, job.ensemble.log_z.add(offsets))
    found = read(broken)
    assert (
        found.value is None
        and found.reason
        and {"groups": "disagree", "step": "one temperature", "nan": "finite"}[what] in found.reason
    )


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Anchors(n_groups=8), "16 groups"),
        (lambda: Anchors(max_temperatures=3), "max_temperatures"),
        (lambda: Anchors(share=0.0), "share"),
        (lambda: qs.pcd(qs.BlockGibbs(), optax.sgd(0.1), anchors=ANCHORS), "either an auditor"),
    ],
)
def test_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
