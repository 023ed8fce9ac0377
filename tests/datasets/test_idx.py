"""IDX files and MNIST, found and checked."""

import gzip
import os

import numpy as np
import pytest

from quasistatic.datasets import mnist, read_idx
from quasistatic.datasets.idx import ENVIRONMENT, as_units
from quasistatic.errors import InputError


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No environment variable, and a home folder without a cache."""
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path / "home")
    return tmp_path


@pytest.fixture
def real_files():
    if not os.environ.get(ENVIRONMENT):
        pytest.skip(f"MNIST is not at hand: set {ENVIRONMENT} to the folder of its IDX files")
    try:
        return mnist(with_test=True)
    except InputError as error:
        if "MNIST not found" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("name", ["x-idx3-ubyte", "x-idx3-ubyte.gz"])
def test_idx_round_trip(tmp_path, write_idx, images, name):
    read = read_idx(write_idx(tmp_path / name, images))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, images)


def test_gzip_is_recognised_by_content_not_by_name(tmp_path, write_idx, images):
    packed = write_idx(tmp_path / "a.gz", images)
    packed.rename(tmp_path / "a-idx3-ubyte")
    np.testing.assert_array_equal(read_idx(tmp_path / "a-idx3-ubyte"), images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cut": 7}, r"announces shape \(30, 3, 5\), 450 bytes, but holds 443"),
        ({"extra": b"abc"}, "450 bytes, but holds 453"),
        ({"shape": (2**31, 2**31, 99)}, "but holds 450"),
        ({"code": 13}, "IDX type 0x0d with 3 axes; only arrays of bytes"),
        ({"cut": 450 + 5}, "ends within its header"),
        ({"cut": 450 + 14}, "is not an IDX file: it starts with 00 00"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, write_idx, images, changes, message):
    path = write_idx(tmp_path / "x-idx3-ubyte", images, **changes)
    with pytest.raises(InputError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it starts with nothing"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "it starts with 89 50 4e 47"),
        (gzip.compress(b"\0\0\x08\x01" + bytes(5000), mtime=0)[:-9], "damaged or truncated gzip file"),
        (b"\x1f\x8b" + bytes(50), "damaged or truncated gzip file"),
    ],
)
def test_foreign_files_are_named(tmp_path, content, message):
    path = tmp_path / "x-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_idx(path)


def test_missing_idx_file_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot read .*: No such file"):
        read_idx(tmp_path / "none")


def test_grey_becomes_binary_above_127_or_is_scaled():
    grey = np.array([[[0, 127, 128, 255]]], np.uint8)
    np.testing.assert_array_equal(as_units(grey, True), [[0, 0, 1, 1]])
    np.testing.assert_allclose(as_units(grey, False), [[-1, -0.5 / 127.5, 0.5 / 127.5, 1]], atol=1e-7)


def test_mnist_says_where_it_looked(nowhere, tmp_path):
    with pytest.raises(InputError, match=f"MNIST not found: no train-images.*--data.*{ENVIRONMENT}") as caught:
        mnist()
    assert str(tmp_path / "home" / ".cache" / "quasistatic") in str(caught.value)
    with pytest.raises(InputError, match="is not a folder"):
        mnist(tmp_path / "absent")
    with pytest.raises(InputError, match="MNIST not found"):
        mnist(tmp_path)


def test_mnist_order_of_search(nowhere, monkeypatch, tmp_path, write_idx, images):
    """The given folder, then the variable (itself or its subfolder), then the cache; wrong sizes tell them apart."""

    def put(folder, n):
        folder.mkdir(parents=True)
        write_idx(folder / "train-images-idx3-ubyte.gz", images[:n])

    def found(path=None):
        with pytest.raises(InputError, match="but MNIST has") as caught:
            mnist(path)
        return int(str(caught.value).split("shape (")[1].split(",")[0])

    put(tmp_path / "home" / ".cache" / "quasistatic", 1)
    assert found() == 1
    put(tmp_path / "named" / "mnist", 2)
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "named"))
    assert found() == 2
    write_idx(tmp_path / "named" / "train-images.idx3-ubyte", images[:3])
    assert found() == 3
    put(tmp_path / "given", 4)
    assert found(tmp_path / "given") == 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="MNIST not found"):
        mnist(tmp_path / "empty")  # a folder that was asked for is not replaced by another


def test_mnist_is_split_as_agreed(tmp_path, write_idx):
    """Images that carry their own row number in four pixels."""
    rows = np.zeros((60_000, 28, 28), np.uint8)
    rows[:, 0, :16] = 255 * ((np.arange(60_000)[:, None] >> np.arange(16)) & 1)
    write_idx(tmp_path / "train-images-idx3-ubyte", rows)
    data = mnist(tmp_path)
    assert data.test is None
    assert (data.event_shape, data.kind) == ((28, 28), "binary")
    numbers = np.concatenate([data.train, data.heldout])[:, :16] @ 2.0 ** np.arange(16)
    np.testing.assert_array_equal(numbers, np.arange(60_000))
    assert len(data.train) == 50_000
    with pytest.raises(InputError, match="no t10k-images"):
        mnist(tmp_path, with_test=True)


def test_real_mnist(real_files):
    data = real_files
    assert (data.train.shape, data.heldout.shape, data.test.shape) == ((50_000, 784), (10_000, 784), (10_000, 784))
    # Share of bright pixels in the canonical files.
    means = [float(x.mean(dtype=np.float64)) for x in (data.train, data.heldout, data.test)]
    np.testing.assert_allclose(means, [0.13256227040816326, 0.13073852040816328, 0.13422946428571428], rtol=1e-9)


def test_real_mnist_scaled(real_files):
    data = mnist(binary=False)
    assert (data.kind, data.train.min(), data.train.max()) == ("real", -1.0, 1.0)
    np.testing.assert_array_equal(data.train > 0, real_files.train == 1)
