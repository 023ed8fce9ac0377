"""Digits in chosen proportions: exact masses, disjoint parts, averaged pixels, reproducible noise."""

import numpy as np
import pytest

from quasistatic.datasets import mnist_mixture
from quasistatic.datasets.digit_mixture import classes_of, pooled
from quasistatic.errors import InputError

MASSES = (0.5, 0.3, 0.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of the size of MNIST whose images carry their digit as a grey value, and their row number in pixels."""
    from tests.datasets.conftest import idx_bytes

    folder = tmp_path_factory.mktemp("digits")
    for stem, n in (("train", 60_000), ("t10k", 10_000)):
        labels = (np.arange(n) * 7 % 10).astype(np.uint8)
        images = np.zeros((n, 28, 28), np.uint8)
        images[:, 0, :16] = 255 * ((np.arange(n)[:, None] >> np.arange(16)) & 1)
        images[:, 14:] = 20 * labels[:, None, None]
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return folder


def test_proportions_are_exact_and_parts_do_not_meet(folder):
    found = mnist_mixture((4, 0, 9), MASSES, path=folder)
    for part, first, n_per_digit in (("train", 0, 5000), ("heldout", 50_000, 1000), ("test", 0, 1000)):
        x, labels = getattr(found.dataset, part), found.labels[part]
        counts = [int(n_per_digit / 0.5 * mass) for mass in MASSES]
        np.testing.assert_array_equal(np.bincount(labels), counts)
        # the grey value says the digit, the bits say the row
        np.testing.assert_array_equal(np.round((x[:, -1] + 1) * 127.5 / 20).astype(int), np.array([4, 0, 9])[labels])
        rows = ((x[:, :16] > 0) @ 2.0 ** np.arange(16)).astype(int)
        assert len(set(rows)) == len(rows) and rows.min() >= first
        if part == "train":
            assert rows.max() < 50_000
    assert found.dataset.event_shape == (28, 28) and found.masses == pytest.approx(MASSES)


def test_noise_and_copies(folder):
    clean = mnist_mixture((1, 2), path=folder, pool=2).dataset
    noisy = mnist_mixture((1, 2), path=folder, pool=2, noise=0.3, n_copies=3, seed=5)
    again = mnist_mixture((1, 2), path=folder, pool=2, noise=0.3, n_copies=3, seed=5).dataset
    np.testing.assert_array_equal(noisy.dataset.train, again.train)
    assert clean.event_shape == (14, 14) and len(noisy.dataset.train) == 3 * len(clean.train)
    difference = noisy.dataset.train - np.tile(clean.train, (3, 1))
    n = difference.size
    assert abs(difference.mean()) < 5 * 0.3 / np.sqrt(n)
    assert abs(difference.std() / 0.3 - 1) < 5 / np.sqrt(2 * n)
    first, second = np.split(difference, 3)[:2]
    assert abs(np.mean(first * second)) < 5 * 0.09 / np.sqrt(first.size)  # copies have noise of their own
    np.testing.assert_array_equal(
        np.bincount(noisy.labels["train"]), 3 * np.bincount(noisy.labels["train"][: len(first)])
    )


def test_pixels_are_averaged_in_squares():
    x = np.random.default_rng(0).integers(0, 256, (2, 28, 28)).astype(np.uint8)
    np.testing.assert_allclose(pooled(x, 2)[1, 3, 5], x[1, 6:8, 10:12].mean(), rtol=1e-6)
    assert pooled(x, 1) is x


def test_classes_are_told_apart():
    """Two Gaussian classes with one mean and different covariances: the discriminant must be quadratic."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(size=(4000, 6)), 3 * rng.normal(size=(4000, 6))]).astype(np.float32)
    labels = np.repeat([0, 1], 4000)
    wrong = (classes_of(x[::2], labels[::2], x[1::2]) != labels[1::2]).mean()
    # Bayes: |x|^2 against its threshold t = 6 log 9 / (1 - 1/9); chi-squared tails of six degrees of freedom
    t = 6 * np.log(9) / (1 - 1 / 9)

    def tail(y):
        return np.exp(-y / 2) * (1 + y / 2 + y**2 / 8)

    bayes = 0.5 * (tail(t) + 1 - tail(t / 9))
    # estimated means and covariances cost up to a percent (2 x 27 parameters from 4,000 samples)
    assert abs(wrong - bayes) < 4 * np.sqrt(bayes * (1 - bayes) / 4000) + 0.01


@pytest.mark.parametrize(
    "change, message",
    [
        ({"digits": (2, 2)}, "different numbers"),
        ({"digits": (2, 11)}, "0 to 9"),
        ({"masses": (1.0,)}, "as many masses"),
        ({"masses": (1.0, -1.0)}, "positive"),
        ({"masses": (1.0, 1e-9)}, "no image"),
        ({"pool": 3}, "divide 28"),
        ({"noise": -0.1}, "at least 0"),
        ({"noise": 0.1, "binary": True}, "grey values"),
    ],
)
def test_bad_input(change, message, folder):
    with pytest.raises(InputError, match=message):
        mnist_mixture(**({"digits": (2, 3), "path": folder} | change))


def test_missing_labels_are_named(folder, tmp_path):
    for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(InputError, match="train-labels"):
        mnist_mixture((2, 3), path=tmp_path)
