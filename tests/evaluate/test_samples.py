"""Sample quality: definitions by hand, calibration on samples of one law, and defects that must show."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import IndependentUnits, units
from quasistatic.errors import InputError
from quasistatic.evaluate import adversarial_accuracy, moment_errors, quality, spectrum


def rows(*words):
    return np.array([[float(letter) for letter in word] for word in words])


def mixture(n, seed, *, modes=(0, 1)):
    """Correlated bits of two modes, drawn from the list `modes`."""
    rng = np.random.default_rng(seed)
    law = np.array([[0.9, 0.8, 0.3, 0.1, 0.6, 0.2], [0.1, 0.3, 0.7, 0.8, 0.5, 0.4]])
    return (rng.random((n, 6)) < law[rng.choice(modes, n)]).astype(float)


def test_adversarial_accuracy_of_a_worked_example():
    real = rows("00000000", "00000001", "11111111", "11111000")
    generated = rows("00000110", "11111110", "01010101", "11000000")
    assert adversarial_accuracy(generated, real) == (0.5, 0.0, 0.5)
    # by kind, not by position: exchanging the two sets exchanges the fractions
    assert adversarial_accuracy(real, generated) == (0.0, 0.5, 0.5)


def test_adversarial_accuracy_knows_copies_strangers_and_twins():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 1000, 3))
    assert adversarial_accuracy(x, x)[:2] == (0.0, 0.0)
    assert adversarial_accuracy(x + 100, x)[:2] == (1.0, 1.0)
    of_data, of_samples, error = adversarial_accuracy(x, y)
    # neighbours are shared, so fractions are a little more noisy than coin tosses: s.e. below 1.5 / sqrt(4 n)
    assert abs(of_data - 0.5) < 4 * 0.024 and abs(of_samples - 0.5) < 4 * 0.024
    assert error == pytest.approx(np.hypot(of_data - 0.5, of_samples - 0.5))
    assert adversarial_accuracy(1.5 * x, y)[2] > 3 * 4 * 0.024 / 2


def test_moment_errors_by_hand():
    x, y = mixture(50, 1), mixture(70, 2)
    errors = moment_errors(x, y)
    assert errors["mean_error"] == pytest.approx(np.mean((x.mean(0) - y.mean(0)) ** 2))
    difference = np.cov(x.T, bias=True) - np.cov(y.T, bias=True)
    assert errors["second_error"] == pytest.approx(np.mean(difference[np.triu_indices(6, 1)] ** 2))


@pytest.mark.parametrize("which", ["mean", "second"])
def test_floor_is_what_one_law_shows(which):
    """Error over floor in 300 pairs of samples of one law: 1 within 4 standard errors; not for uneven modes."""

    def ratio(modes):
        pairs = [(mixture(200, 2 * i, modes=modes), mixture(300, 2 * i + 1)) for i in range(300)]
        values = [moment_errors(x, y) for x, y in pairs]
        return np.array([v[f"{which}_error"] / v[f"{which}_floor"] for v in values])

    same, uneven = ratio((0, 1)), ratio((0, 0, 0, 1))
    stderr = same.std(ddof=1) / np.sqrt(len(same))
    assert stderr < 0.05
    assert abs(same.mean() - 1) < 4 * stderr + 1 / 200  # covariances divide by n, which is off by 1/n
    assert uneven.mean() - 1 > 4 * stderr + 1 / 200


def test_spectrum_is_that_of_the_centred_samples():
    x = mixture(80, 3) + 5.0
    singular = np.linalg.svd(x - x.mean(0), compute_uv=False)
    assert np.allclose(spectrum(x), singular**2 / len(x))


def test_quality_sees_a_lost_mode_and_is_json():
    heldout, fair, lost = mixture(900, 4), mixture(900, 5), mixture(900, 6, modes=(0,))
    energy = IndependentUnits(0.5 * jnp.arange(6.0), units("binary", 6))
    good, bad = (quality(x, heldout, energy=energy, beta=0.7, n_spectrum=3) for x in (fair, lost))
    assert json.loads(json.dumps(good, allow_nan=False)) == good
    assert len(good["spectrum_data"]) == len(good["spectrum_samples"]) == 3
    for name in ("mean_error", "second_error", "spectrum_error"):
        assert bad[name] > 10 * good[name]
    gap = 0.7 * (0.5 * np.arange(6.0)) @ (heldout.mean(0) - lost.mean(0))
    assert bad["energy_gap"] == pytest.approx(gap, abs=1e-5)
    assert abs(good["energy_gap"]) < 4 * good["energy_gap_stderr"] < abs(bad["energy_gap"])
    assert "energy_gap" not in quality(fair, heldout)


@pytest.mark.parametrize(
    "x, y, message",
    [
        (np.zeros((5, 3)), np.zeros((5, 4)), "shapes"),
        (np.zeros((1, 3)), np.zeros((5, 3)), "at least two"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "NaN"),
        (np.zeros((5, 3)), np.zeros((6, 3)), "equal numbers"),
    ],
)
def test_wrong_input_is_named(x, y, message):
    with pytest.raises(InputError, match=message):
        adversarial_accuracy(x, y)
