"""Clamped models are the whole model on a slice, and laws of starts are what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from quasistatic.energies import CallableEnergy, IndependentUnits, clamped, starts
from quasistatic.errors import InputError
from tests.evaluate import models
from tests.laws import enumeration

BETA = 0.7


@pytest.mark.parametrize("which", ["rbm binary", "rbm spin", "pairwise", "callable"])
def test_conditional_potential_differs_by_a_constant(which):
    kind = "spin" if which != "rbm binary" and which != "callable" else "binary"
    model = models.rbm(visible=kind, hidden="spin") if "rbm" in which else models.pairwise(kind)
    n = 5 if "rbm" in which else 6
    energy = CallableEnergy(lambda x: model(x), levels=enumeration.LEVELS[kind]) if which == "callable" else model
    low, high = enumeration.LEVELS[kind]
    at, values = [3, 0], [high, low]
    part, free = clamped(energy, n, at, values)
    assert free.tolist() == [i for i in range(n) if i not in at]
    assert type(part).__name__ == ("Clamped" if which == "callable" else type(model).__name__)
    x = enumeration.states(kind, n)
    chosen = x[(x[:, 3] == high) & (x[:, 0] == low)]
    whole = np.array([float(energy.reduced(jnp.asarray(v), BETA)) for v in chosen])
    found = np.array([float(part.reduced(jnp.asarray(v), BETA)) for v in chosen[:, free]])
    assert np.ptp(whole - found) < 1e-12 < np.ptp(whole)
    wrong, _ = clamped(energy, n, at, [low, high])
    other = np.array([float(wrong.reduced(jnp.asarray(v), BETA)) for v in chosen[:, free]])
    assert np.ptp(whole - other) > 1e-3


@pytest.mark.parametrize(
    "at, values, named",
    [([0, 0], [1, 1], "different"), ([9], [1], "0 to 4"), (range(5), [1] * 5, "free"), ([1], [0.5], "0.5")],
)
def test_wrong_clamps_are_refused(at, values, named):
    with pytest.raises(InputError, match=named):
        clamped(models.rbm(), 5, list(at), values)


def test_laws_of_starts():
    data = np.array([[0, 1, 1], [0, 1, 0], [0, 0, 1], [0, 1, 1.0]])
    law = starts.mean_field(data, models.rbm(n_visible=3))
    assert isinstance(law, IndependentUnits)
    expected = (data.sum(0) + 1) / 6
    np.testing.assert_allclose(1 / (1 + np.exp(-np.asarray(law.fields))), expected, rtol=1e-12)
    even = starts.noise(models.pairwise(), 6).sample_exact(jax.random.key(0), 1.0, 4000)
    assert set(np.unique(even)) == {-1.0, 1.0} and np.abs(even.mean(0)).max() < 4.5 / np.sqrt(4000)
    mean, scale = np.array([0.5, -2.0]), np.array([0.3, 1.7])
    gaussian = starts.gaussian(mean, scale)
    log_p = -float(gaussian.reduced(jnp.asarray([0.1, 0.2]), 1.0)) - float(gaussian.log_partition(1.0))
    assert log_p == pytest.approx(stats.norm.logpdf([0.1, 0.2], mean, scale).sum(), abs=1e-12)
    x = np.asarray(gaussian.sample_exact(jax.random.key(1), 0.25, 40_000))
    assert np.abs((x.std(0) / (2 * scale) - 1) * np.sqrt(80_000)).max() < 4.5
    assert np.abs((x.mean(0) - mean) / (2 * scale) * 200).max() < 4.5
    with pytest.raises(InputError, match="states"):
        starts.noise(CallableEnergy(jnp.sum, levels=(0.0, 3.0)), 2)
