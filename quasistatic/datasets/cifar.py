"""CIFAR-10 from its binary files: records of one label byte and 3,072 pixels, the red plane first.

The files `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin` are those of the "binary version". Its Python
version is made of pickles, which are never loaded.

Reference:
    A. Krizhevsky, Learning multiple layers of features from tiny images (2009).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from quasistatic.datasets.base import Dataset, sha256_file
from quasistatic.datasets.idx import ENVIRONMENT, search_folders
from quasistatic.errors import InputError

_RECORD, _SHAPE = 3073, (3, 32, 32)
_FOLDERS = ("", "cifar-10-batches-bin", "cifar10", "cifar-10")
_N_HELDOUT = 5000


def cifar10(path: str | Path | None = None, *, with_test: bool = False) -> Dataset:
    """Colour images, `x / 127.5 - 1` in [-1, 1], flat with channels last; the last 5,000 (or a tenth) are held out.

    Args:
        path: folder of the binary files. Without it they are looked for where `mnist` looks, in the folder itself or in
            `cifar-10-batches-bin`, `cifar10` or `cifar-10` in it.
        with_test: read the test file too.

    Raises:
        InputError: files are missing or damaged.
    """
    roots = [folder / name for folder in search_folders(path) for name in _FOLDERS]
    parts, checksums = [], {}
    for number in range(1, 6):
        images, checksum = _read(roots, f"data_batch_{number}.bin")
        parts.append(images)
        checksums |= checksum
    x = _scaled(np.concatenate(parts))
    test = None
    if with_test:
        images, checksum = _read(roots, "test_batch.bin")
        test, checksums = _scaled(images), checksums | checksum
    cut = len(x) - min(_N_HELDOUT, max(len(x) // 10, 1))
    provenance = {"source": "CIFAR-10, binary version", "rule": "value / 127.5 - 1, channels last", "sha256": checksums}
    return Dataset("cifar10", x[:cut], x[cut:], test, (32, 32, 3), "real", provenance)


def _read(folders: list[Path], name: str) -> tuple[UInt8[np.ndarray, "n 3 32 32"], dict[str, str]]:
    found = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if found is None:
        stem = name.removesuffix(".bin")
        if any((folder / stem).is_file() for folder in folders):
            raise InputError(f"{stem} is a pickle of the Python version, which is never loaded; get the binary version")
        places = ", ".join(dict.fromkeys(str(folder) for folder in folders))
        raise InputError(f"CIFAR-10 not found: no {name} in {places}; give its folder with --data or set {ENVIRONMENT}")
    data = np.fromfile(found, np.uint8)
    if not len(data) or len(data) % _RECORD:
        raise InputError(f"{found} has {len(data):,} bytes, no multiple of {_RECORD:,}; get the binary version again")
    records = data.reshape(-1, _RECORD)
    if records[:, 0].max() > 9:
        raise InputError(f"{found} holds a label of {records[:, 0].max()}; labels are 0 to 9: it is another file")
    return records[:, 1:].reshape(-1, *_SHAPE), {found.name: sha256_file(found)}


def _scaled(images: UInt8[np.ndarray, "n 3 32 32"]) -> Float32[np.ndarray, "n 3072"]:
    return images.transpose(0, 2, 3, 1).reshape(len(images), -1).astype(np.float32) / np.float32(127.5) - 1
