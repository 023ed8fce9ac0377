"""What a data set refuses, and the split that no seed changes."""

import dataclasses

import jaxtyping
import numpy as np
import pytest

from quasistatic.datasets import Dataset, infer_kind, require_binary
from quasistatic.datasets.base import as_samples, require_samples, split_fraction, split_rows
from quasistatic.errors import InputError


@pytest.fixture
def unchecked():
    """Without the type checks of the tests, which would speak first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _dataset(**fields):
    x = np.float32([[0, 1, 1], [1, 0, 0]])
    given = {
        "name": "toy", "train": x, "heldout": x[:1], "test": None, "event_shape": None, "kind": "binary",
        "provenance": {},
    }  # fmt: skip
    return Dataset(**(given | fields))


def test_good_parts_are_kept_as_they_are():
    data = _dataset(heldout=None, event_shape=(3, 1))
    assert data.train.shape == (2, 3)
    assert data.heldout is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train": np.zeros((2, 3))}, "train data of toy must be a float32 array, got float64"),
        ({"train": [[0.0, 1.0]]}, "must be a float32 array, got list"),
        ({"train": np.float32([0, 1])}, r"must have shape \(samples, values...\), got \(2,\)"),
        ({"train": np.zeros((0, 3), np.float32)}, r"train data of toy is empty: its shape is \(0, 3\)"),
        ({"heldout": np.float32([[0, 1, np.nan]])}, r"heldout data of toy must be finite, got nan at index \(0, 2\)"),
        ({"heldout": np.float32([[0, 1]])}, r"heldout data of toy has samples of shape \(2,\), the training data"),
        ({"test": np.float32([[0, 1, 2]])}, r"test data of toy must hold only 0 and 1, got 2 at index \(0, 2\)"),
        ({"kind": "spin"}, "must hold only -1 and 1, got 0"),
        ({"kind": "grey"}, "unknown kind of data 'grey'; use one of binary, spin, real"),
        ({"event_shape": (2, 2)}, r"event_shape \(2, 2\) does not hold the 3 values of a sample"),
    ],
)
def test_wrong_parts_are_named(unchecked, fields, message):
    with pytest.raises(InputError, match=message) as caught:
        _dataset(**fields)
    assert "\n" not in str(caught.value)


def test_require_binary_names_the_first_offender():
    x = np.zeros((4, 3), np.float32)
    require_binary(x)
    x[2, 1] = 0.5
    with pytest.raises(InputError, match=r"pixels must hold only 0 and 1, got 0.5 at index \(2, 1\) \(8.3% of"):
        require_binary(x, name="pixels")
    with pytest.raises(InputError, match="must hold only -1 and 1, got 0"):
        require_binary(np.zeros((1, 1)), (-1, 1))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.array([[None, 1]], dtype=object), "must hold real numbers, got dtype object; object arrays"),
        (np.array([["a", "b"]]), "must hold real numbers, got dtype <U1"),
        (np.ones((2, 2), complex), "must hold real numbers, got dtype complex128"),
        (np.ones(5), r"got \(5,\); reshape to \(-1, 1\)"),
        (np.float64(3.0), r"got \(\)"),
        (np.zeros((3, 0)), r"is empty: its shape is \(3, 0\)"),
        (np.array([[1.0, -np.inf], [np.nan, 0.0]]), r"got -inf at index \(0, 1\) \(2 of 4 values are not\)"),
    ],
)
def test_unusable_arrays_are_named(x, message):
    with pytest.raises(InputError, match=message):
        require_samples(x)


def test_samples_become_flat_float32_or_are_refused():
    x = np.arange(24, dtype=np.int64).reshape(2, 3, 4)
    flat = as_samples(x)
    assert flat.dtype == np.float32
    np.testing.assert_array_equal(flat, x.reshape(2, 12))
    with pytest.raises(InputError, match="exceeds the range of float32"):
        as_samples(np.array([[1.0, -1e39]]))


def test_kind_is_what_fits_all_parts():
    zero_one, signs = np.float32([[0, 1]]), np.float32([[-1, 1]])
    assert infer_kind(zero_one, None) == "binary"
    assert infer_kind(signs) == "spin"
    assert infer_kind(zero_one, signs) == "real"
    assert infer_kind(np.float32([[0, 0.5]])) == "real"


def test_split_is_a_permutation_that_never_changes():
    train, heldout = split_rows(10, 3)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, heldout])), np.arange(10))
    np.testing.assert_array_equal(np.concatenate([train, heldout]), [2, 8, 4, 9, 1, 6, 7, 3, 0, 5])


@pytest.mark.parametrize(("n", "fraction", "n_heldout"), [(10, 0.2, 2), (2, 0.01, 1), (3, 0.99, 2), (7, 0.0, 0)])
def test_split_keeps_a_row_on_either_side(n, fraction, n_heldout):
    train, heldout = split_fraction(n, fraction, name="x")
    assert (len(train), len(heldout)) == (n - n_heldout, n_heldout)


@pytest.mark.parametrize(
    ("n", "fraction", "message"),
    [(1, 0.5, "cannot be split"), (5, 1.0, "below 1"), (5, -0.1, "at least 0"), (5, np.nan, "at least 0")],
)
def test_impossible_splits_are_named(n, fraction, message):
    with pytest.raises(InputError, match=message):
        split_fraction(n, fraction, name="x")
