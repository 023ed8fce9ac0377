"""IDX files (the format of MNIST), plain or gzipped.

Two zero bytes, a byte for the type (8: unsigned byte), a byte for the number of axes, big-endian sizes,
values.

Reference:
    Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits (1998).
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from quasistatic.datasets.base import Dataset, require_samples, sha256_file
from quasistatic.errors import InputError

ENVIRONMENT = "QUASISTATIC_DATA"
_TRAIN, _TEST = "train-images", "t10k-images"
_N_TRAIN, _N_HELDOUT, _N_TEST = 50_000, 10_000, 10_000
_THRESHOLD = 127


def mnist(path: str | Path | None = None, binary: bool = True, *, with_test: bool = False) -> Dataset:
    """MNIST: 50,000 images for training, 10,000 held out, and the t10k file for the test when it is asked for.

    Rows 0 to 49,999 of the training file are for training, rows 50,000 to 59,999 are held out.

    Args:
        path: Folder of the IDX files. Without it they are looked for in the folder named by the environment
            variable QUASISTATIC_DATA, then in `.cache/quasistatic` of the home folder; each itself or its
            `mnist` folder.
        binary: 1 where the grey value exceeds 127, else 0; otherwise real values `x / 127.5 - 1` in [-1, 1].
        with_test: Read the test file too (`evaluate` does, training does not).

    Raises:
        InputError: If a file is not found, is damaged, or is not of the size of MNIST.
    """
    folders = search_folders(path)
    images, checksums = mnist_images(folders, "train")
    test = None
    if with_test:
        images_test, checksum_test = mnist_images(folders, "test")
        test, checksums = as_units(images_test, binary), checksums | checksum_test
    return Dataset(
        name="mnist",
        train=as_units(images[:_N_TRAIN], binary),
        heldout=as_units(images[_N_TRAIN:], binary),
        test=test,
        event_shape=(28, 28),
        kind="binary" if binary else "real",
        provenance={"source": "IDX files", "rule": rule(binary), "sha256": checksums},
    )


def read_idx(path: str | Path) -> UInt8[np.ndarray, ...]:
    """Array of an IDX file of unsigned bytes; gzipped files are recognised by their content.

    Raises:
        InputError: If the file is missing, truncated, longer than it says, or something else.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(f"{path} is a damaged or truncated gzip file ({error}); get it again") from None
    if len(data) < 4 or data[:2] != b"\0\0":
        raise InputError(f"{path} is not an IDX file: it starts with {data[:4].hex(' ') or 'nothing'}, not 00 00")
    code, n_axes = data[2], data[3]
    if code != 8 or n_axes == 0:
        raise InputError(f"{path} holds IDX type {code:#04x} with {n_axes} axes; only arrays of bytes (0x08) are read")
    start = 4 + 4 * n_axes
    if len(data) < start:
        raise InputError(f"{path} ends within its header; get it again")
    shape = struct.unpack(f">{n_axes}I", data[4:start])
    if len(data) - start != math.prod(shape):
        raise InputError(
            f"{path} announces shape {shape}, {math.prod(shape)} bytes, but holds {len(data) - start}; get it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def as_units(images: Shaped[np.ndarray, "n ..."], binary: bool) -> Float32[np.ndarray, "n d"]:
    """Flat float32 rows of grey images: {0, 1} by the threshold, or scaled to [-1, 1]."""
    flat = images.reshape(len(images), -1)
    return (flat > _THRESHOLD).astype(np.float32) if binary else flat.astype(np.float32) / np.float32(127.5) - 1


def rule(binary: bool) -> str:
    """What `as_units` did, in words."""
    return f"1 where grey > {_THRESHOLD}" if binary else "grey / 127.5 - 1"


def search_folders(path: str | Path | None) -> list[Path]:
    """Folders in which IDX files are looked for, in this order."""
    if path is not None:
        path = Path(path).expanduser()
        if not path.is_dir():
            raise InputError(f"{path} is not a folder; give the folder that holds the IDX files")
        return [path, path / "mnist"]
    named = os.environ.get(ENVIRONMENT)
    roots = ([Path(named).expanduser()] if named else []) + [Path.home() / ".cache" / "quasistatic"]
    return [folder for root in roots for folder in (root, root / "mnist")]


def mnist_images(folders: list[Path], part: str) -> tuple[UInt8[np.ndarray, "n 28 28"], dict[str, str]]:
    """All images of MNIST's `"train"` or `"test"` file, and its checksum by file name."""
    return _images(folders, _TRAIN, _N_TRAIN + _N_HELDOUT) if part == "train" else _images(folders, _TEST, _N_TEST)


def find_idx(folders: list[Path], stem: str, n_axes: int = 3) -> Path | None:
    """First IDX file called `stem` in its usual spellings, or `None`. Args: n_axes, 3 of images, 1 of labels."""
    names = [f"{stem}{separator}idx{n_axes}-ubyte{end}" for end in ("", ".gz") for separator in ("-", ".")]
    return next((folder / name for folder in folders for name in names if (folder / name).is_file()), None)


def _images(folders: list[Path], stem: str, n_expected: int) -> tuple[np.ndarray, dict[str, str]]:
    """Images of one file of MNIST, and its checksum by file name."""
    path = find_idx(folders, stem)
    if path is None:
        places = ", ".join(str(folder) for folder in folders)
        raise InputError(
            f"MNIST not found: no {stem}-idx3-ubyte or {stem}-idx3-ubyte.gz in {places}; "
            f"give its folder with --data (path) or set {ENVIRONMENT}"
        )
    images = read_idx(path)
    if images.shape != (n_expected, 28, 28):
        raise InputError(f"{path} holds an array of shape {images.shape}, but MNIST has {(n_expected, 28, 28)} there")
    require_samples(images, name=str(path))
    return images, {path.name: sha256_file(path)}
