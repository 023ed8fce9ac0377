"""CIFAR-10 from binary files made here: order of the values, split, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quasistatic.datasets import cifar10
from quasistatic.errors import InputError

N = 30


def written(folder: Path) -> np.ndarray:
    """Files of a few records; returns all training images, channels first."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, images = np.random.default_rng(4), []
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        pixels = rng.integers(0, 256, (N, 3, 32, 32), dtype=np.uint8)
        records = np.concatenate([rng.integers(0, 10, (N, 1), dtype=np.uint8), pixels.reshape(N, -1)], 1)
        records.tofile(folder / name)
        images.append(pixels)
    return np.concatenate(images)


@pytest.mark.parametrize("place", ["", "cifar-10-batches-bin", "mnist/cifar10"])
def test_values_and_split(place: str, tmp_path: Path):
    images = written(tmp_path / place)
    found = cifar10(tmp_path, with_test=True)
    assert (len(found.train), len(found.heldout), len(found.test)) == (135, 15, 30)
    assert found.event_shape == (32, 32, 3) and found.kind == "real"
    for i, row, column, channel in ((0, 0, 0, 2), (7, 3, 31, 0), (100, 31, 5, 1)):
        value = found.train[i].reshape(32, 32, 3)[row, column, channel]
        assert value == np.float32(images[i, channel, row, column]) / np.float32(127.5) - 1
    assert found.test[0, 0] == np.float32(images[150, 0, 0, 0]) / np.float32(127.5) - 1
    assert cifar10(tmp_path).test is None and len(found.provenance["sha256"]) == 6


def test_what_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"no data_batch_1\.bin"):
        cifar10(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02}q\x01")
    with pytest.raises(InputError, match="never loaded"):
        cifar10(tmp_path)
    written(tmp_path)
    path = tmp_path / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="no multiple of 3,073"):
        cifar10(tmp_path)
    path.write_bytes(bytes([77]) + bytes(3072))
    with pytest.raises(InputError, match="label of 77"):
        cifar10(tmp_path)
