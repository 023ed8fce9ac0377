"""Fabricated files of images."""

import gzip
import struct

import numpy as np
import pytest


def idx_bytes(x, code=8, shape=None):
    """Content of an IDX file."""
    x = np.asarray(x, np.uint8)
    shape = x.shape if shape is None else shape
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + x.tobytes()


@pytest.fixture
def write_idx():
    """Writes an array of bytes as an IDX file; gzipped where the name says so."""

    def write(path, x, *, code=8, shape=None, cut=0, extra=b""):
        data = idx_bytes(x, code, shape) + extra
        data = data[: len(data) - cut]
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
        return path

    return write


@pytest.fixture
def images():
    """Thirty grey images of 3x5 pixels that show every value."""
    return np.random.default_rng(0).permutation(np.arange(30 * 15) % 256).reshape(30, 3, 5).astype(np.uint8)
