"""The two-mode student: exact mass and log Z, and the direction in which each method is wrong, in the small."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.reproduce import jarzynski_mixture as experiment
from quasistatic.reproduce.rows import Row
from tests.laws.battery import quick_jit


def test_student_is_normalised_and_sampled(key):
    """`log Z` against a sum over the mixture's components, samples against its masses."""
    model = experiment.teacher()
    x = np.asarray(quick_jit(lambda key: model.sample_exact(key, 1.0, 20_000))(key))
    assert abs((x[:, 0] > -2).mean() - 0.75) < 5 * np.sqrt(0.1875 / 20_000)
    np.testing.assert_allclose(float(model.mass), 0.75, atol=1e-6)
    # E[exp(u) g(x)] = 1/Z for a normalised g: here the second component's own density
    near = x[x[:, 0] > -2]
    log_g = -0.5 * np.sum((near - np.asarray(model.means[1])) ** 2, 1) - 0.5 * 50 * np.log(2 * np.pi)
    u = np.asarray(quick_jit(lambda x: jax.vmap(model)(x))(jnp.asarray(near)))
    inverse = np.log(0.75) + np.log(np.mean(np.exp(u + log_g)))
    np.testing.assert_allclose(-inverse, float(model.log_partition(1.0)), atol=1e-2)


def test_data_have_exactly_the_teachers_masses(key):
    x = experiment.samples(key, 1000)
    assert int((x[:, 0] > -2).sum()) == 750


@pytest.mark.slow
@pytest.mark.parametrize("method", experiment.METHODS)
def test_a_short_run_books_what_it_should(method):
    """300 updates: the means move apart, the auditor's log Z is the exact one, CD has no books."""
    trace = experiment.run(jax.random.key(0), method, n_walkers=200, n_steps=300, n_records=3, auditor_walkers=32)
    assert list(trace.step) == [100, 200, 300]
    assert np.all(np.diff(trace.divergence) < 0)
    if method == "jarzynski":
        assert np.abs(trace.error / trace.stderr).max() < 4.5 and trace.stderr.max() < 0.3
    else:
        assert np.isnan(trace.error).all() and np.isnan(trace.ess).all()


def test_rows_of_numpy_numbers_are_json():
    """What a row holds may come from NumPy; `reproduce --json` has to print it."""
    row = Row("mass", 0.75, np.float64(0.76), np.float64(0.01), 0.03)
    assert json.loads(json.dumps(row.as_json()))["ok"] is True
