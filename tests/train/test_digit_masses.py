"""The parts of `reproduce jarzynski-mnist`, on blobs of a few numbers where the answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic._results import Estimate
from quasistatic.datasets import Dataset, DigitMixture
from quasistatic.datasets.digit_mixture import classes_of
from quasistatic.reproduce import jarzynski_mnist as experiment
from quasistatic.reproduce.jarzynski_mnist import Masses, Size, Trace

SIZE = Size(n_walkers=64, n_steps=4, batch_size=32, rate=1e-4, n_chains=320, n_temperatures=4, n_records=2)


@pytest.fixture(scope="module")
def data():
    """Three classes of 196 numbers with noise, masses .6, .3, .1."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 196))
    parts, labels = {}, {}
    for part, n in (("train", 1000), ("heldout", 200), ("test", 200)):
        labels[part] = np.repeat([0, 1, 2], [int(n * mass) for mass in experiment.MASSES])
        clean = centres[labels[part]] * rng.normal(1, 0.2, (n, 1))
        parts[part] = (clean + 0.3 * rng.normal(size=(n, 196))).astype(np.float32)
    dataset = Dataset(name="blobs", **parts, event_shape=(14, 14), kind="real", provenance={})
    return DigitMixture(dataset, labels, experiment.MASSES)


@pytest.mark.slow
def test_an_untrained_student_is_its_gaussian(data):
    """No work on the path, so `log Z` is exact; masses are those of the Gaussian's own samples."""
    model = experiment.student(jax.random.key(0), data.dataset.train)
    found = experiment.weighed(jax.random.key(1), model, data, SIZE)
    assert found.log_z.value == pytest.approx(float(model.base().log_partition(1.0)), rel=1e-6)
    assert found.ess == pytest.approx(SIZE.n_chains, rel=1e-6)
    x = np.asarray(model.base().sample_exact(jax.random.key(2), 1.0, 20_000))
    exact = np.bincount(classes_of(data.dataset.train, data.labels["train"], x), minlength=3) / len(x)
    stderr = np.sqrt(found.stderr**2 + exact * (1 - exact) / len(x))
    assert (np.abs(found.masses - exact) < 4.5 * stderr + 1e-9).all()
    assert found.masses.sum() == pytest.approx(1.0) and found.stderr.max() < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("method", experiment.METHODS)
def test_every_method_runs_and_starts_at_the_gaussian(method, data, capsys):
    trace = experiment.run(jax.random.key(3), method, data, SIZE, shows=True)
    assert trace.step.tolist() == [2, 4] and trace.x.shape == (64, 196)
    np.testing.assert_allclose(trace.walkers.sum(1), 1.0, rtol=1e-5)
    assert np.isfinite(trace.ess).all() == (method == "jarzynski")
    assert trace.anchor_step[-1] == 4 and (trace.stderr < 0.5).all()
    assert f"{method} 4/4" in capsys.readouterr().err
    found = experiment.weighed(jax.random.key(4), trace.model, data, SIZE)
    rows = experiment.entropy_rows(method, trace, found)
    assert all(row.ok for row in rows)
    saboteur = found._replace(entropy=found.entropy + 10 * (rows[0].stderr or 0.0) + 1e-3)
    assert not experiment.entropy_rows(method, trace, saboteur)[0].ok


def test_an_unreliable_mass_is_not_passed_off_as_a_mass():
    """Below 30 effective walkers the value is printed as unreliable, and the row of a judged method fails."""
    sure = Masses(
        Estimate(1.0, 0.1, 200.0, "low", "annealing"), 90.0, np.array([0.61, 0.29, 0.1]), np.full(3, 0.02), 200
    )
    rows = experiment.mass_rows("jarzynski", sure, is_judged=True)
    assert all(row.ok for row in rows) and "UNRELIABLE" not in rows[0].quantity
    few = experiment.mass_rows("jarzynski", sure._replace(ess=12.0), is_judged=True)
    assert not any(row.ok for row in few) and "UNRELIABLE: 12" in few[0].quantity
    wrong = experiment.mass_rows("jarzynski", sure._replace(masses=np.array([0.8, 0.1, 0.1])), is_judged=True)
    assert [row.ok for row in wrong] == [False, False, True]
    beside = experiment.mass_rows("pcd", sure._replace(ess=12.0), is_judged=False)
    assert all(row.ok for row in beside) and "UNRELIABLE" in beside[0].quantity


def test_figures_have_ink(data):
    x = np.asarray(data.dataset.train[:64])
    trace = Trace(
        np.array([2.0, 4.0]), np.full((2, 3), 1 / 3), np.array([0.9, 0.8]), np.array([2, 4]), np.array([3.0, 2.0]),
        np.array([0.1, 0.1]), x, jnp.zeros(()), 1.0,
    )  # fmt: skip
    found = Masses(Estimate(1.0, 0.1, None, "low", "annealing"), 2.0, np.full(3, 1 / 3), np.full(3, 0.02), 200.0)
    for figure in (
        experiment.curves({"jarzynski": trace, "pcd": trace}, {"jarzynski": found, "pcd": found}),
        experiment.walkers({name: trace for name in experiment.METHODS}, data),
    ):
        figure.canvas.draw()
        assert np.asarray(figure.canvas.buffer_rgba())[..., :3].std() > 5
