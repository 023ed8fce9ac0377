"""The embedded digits and the drawn mixture: what they hold is fixed for ever."""

import hashlib

import numpy as np
import pytest

from quasistatic.datasets import MIXTURE_2D, digits, mixture_2d
from quasistatic.errors import InputError


@pytest.fixture(scope="module")
def data():
    return digits()


def test_digits_are_binary_and_split_as_agreed(data):
    assert data.train.shape == (1437, 64)
    assert data.heldout.shape == (360, 64)
    assert data.test is None
    assert (data.kind, data.event_shape) == ("binary", (8, 8))
    assert set(np.unique(data.train)) == {0.0, 1.0}


def test_digits_never_change(data):
    bits = np.packbits(np.concatenate([data.train, data.heldout]).astype(bool)).tobytes()
    assert hashlib.sha256(bits).hexdigest() == "27b2d9b76d7ecd59c95df564696ac2c90b7891afc9aed96fc816126b106ed34f"


def test_digits_are_the_thresholded_images_of_scikit_learn(data):
    """Same images in another order; a threshold of 7 or 9 is another data set."""
    from sklearn.datasets import load_digits

    grey = load_digits().data
    rows = np.concatenate([data.train, data.heldout])

    def ordered(x):
        return x[np.lexsort(x.T)]

    np.testing.assert_array_equal(ordered(rows), ordered((grey >= 8).astype(np.float32)))
    for wrong in (7, 9):
        assert not np.array_equal(ordered(rows), ordered((grey >= wrong).astype(np.float32)))


def test_digits_are_split_without_favour(data):
    """Held-out frequencies agree with those of training within 5 standard errors, pixel by pixel."""
    p = np.concatenate([data.train, data.heldout]).mean(axis=0)
    stderr = np.sqrt(p * (1 - p) * (1 / 1437 + 1 / 360))
    assert np.all(np.abs(data.train.mean(axis=0) - data.heldout.mean(axis=0)) <= 5 * stderr + 1e-12)


def test_mixture_follows_its_law():
    """Mean, covariance and mean log density within 4.5 standard errors computed from the samples."""
    data = mixture_2d(200_000, seed=3)
    x = data.train.astype(np.float64)
    law = MIXTURE_2D
    mean = law.probabilities @ law.means
    second = np.einsum("k,kij->ij", law.probabilities, law.covariances + np.einsum("ki,kj->kij", law.means, law.means))
    products = np.einsum("ni,nj->nij", x, x).reshape(-1, 4)
    for measured, expected in ((x, mean), (products, second.reshape(4))):
        stderr = measured.std(axis=0) / np.sqrt(len(x))
        assert np.all(np.abs(measured.mean(axis=0) - expected) < 4.5 * stderr)
        assert not np.all(np.abs(measured.mean(axis=0) - 1.03 * expected) < 4.5 * stderr)
    # int p^2 is known for Gaussians: sum_kl p_k p_l N(m_k; m_l, C_k + C_l).
    density = np.exp(law.log_density(x))
    pairs = law.covariances[:, None] + law.covariances[None]
    apart = law.means[:, None] - law.means[None]
    squares = np.einsum("kli,klij,klj->kl", apart, np.linalg.inv(pairs), apart)
    overlap = np.exp(-squares / 2) / np.sqrt(np.linalg.det(2 * np.pi * pairs))
    expected = law.probabilities @ overlap @ law.probabilities
    assert abs(density.mean() - expected) < 4.5 * density.std() / np.sqrt(len(x))


def test_mixture_is_drawn_by_its_seed():
    data, again, other = mixture_2d(50, seed=1), mixture_2d(50, seed=1), mixture_2d(50, seed=2)
    np.testing.assert_array_equal(data.train, again.train)
    assert not np.array_equal(data.train, other.train)
    assert (data.train.shape, data.heldout.shape, data.kind) == ((50, 2), (10, 2), "real")
    assert mixture_2d(1).heldout.shape == (1, 2)
    assert data.provenance["probabilities"] == [0.6, 0.3, 0.1]


@pytest.mark.parametrize(
    ("n", "seed", "message"), [(0, 0, "at least 1, got 0"), (5, -1, "must not be negative, got -1")]
)
def test_impossible_mixtures_are_named(n, seed, message):
    with pytest.raises(InputError, match=message):
        mixture_2d(n, seed)
