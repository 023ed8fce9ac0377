"""Samples from a file: npy, npz, csv, or a folder of IDX images."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from quasistatic.datasets.base import Dataset, as_samples, infer_kind, sha256_file, split_fraction
from quasistatic.datasets.idx import as_units, find_idx, read_idx, rule
from quasistatic.errors import InputError

_PARTS = ("train", "heldout", "test")
_DELIMITERS = ",;\t"


def from_file(path: str | Path, heldout_fraction: float = 0.2) -> Dataset:
    """Data set from a file, rows are samples.

    * `.npy`: one array `(n, ...)`.
    * `.npz`: arrays `train` and, if there, `heldout` and `test`; or a single array of any name.
    * `.csv`: numbers separated by commas, semicolons or tabs; a first row without any number is a header.
    * a folder of IDX images: `train-images-idx3-ubyte` and, if there, `t10k-images-idx3-ubyte`, plain or
      gzipped; binary where the grey value exceeds 127.

    Samples with more than one axis are flattened and `event_shape` remembers them. Values in {0, 1} make the
    data "binary", values in {-1, 1} "spin". Without a `heldout` array a fixed permutation, the same for every
    seed, splits rows off.

    Args:
        path: File or folder.
        heldout_fraction: Share of the rows that is held out where the file does not say which; 0 for none.

    Raises:
        InputError: If the file is missing, damaged, pickled, of another type, or its values cannot be used.
    """
    path = Path(path).expanduser()
    readers = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv}
    if path.is_dir():
        return _idx_folder(path, heldout_fraction)
    if path.suffix.lower() not in readers:
        raise InputError(f"cannot tell the format of {path}; use {', '.join(readers)} or a folder of IDX files")
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        parts, checksum = readers[path.suffix.lower()](path), sha256_file(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except MemoryError:
        raise InputError(f"{path} announces more numbers than memory can hold; it is damaged or too large") from None
    return _assemble(path, parts, heldout_fraction, {path.name: checksum}, "")


def _read_npy(path: Path) -> dict[str, np.ndarray]:
    """The one array of a file."""
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise InputError(f"{path} is not an npy file; write it with numpy.save (pickled files are refused)")
    try:
        return {"train": np.load(path, allow_pickle=False)}
    except (ValueError, EOFError) as error:
        raise InputError(f"cannot read {path}: {_line(error)}") from None


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """Arrays called train, heldout, test; or a single array."""
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not an npz file or is truncated; write it with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive)
            if len(names) == 1:
                return {"train": archive[names[0]]}
            if "train" not in names or not set(names) <= set(_PARTS):
                raise InputError(
                    f"{path} holds arrays {', '.join(names) or 'without number'}; "
                    "store train and perhaps heldout and test, or a single array"
                )
            return {name: archive[name] for name in names}
    except InputError:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise InputError(f"cannot read {path}: {_line(error)}") from None


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    """Table of numbers, with or without a header."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file in UTF-8") from None
    if not first.strip():
        raise InputError(f"{path} is empty or starts with an empty line")
    delimiter = next((mark for mark in _DELIMITERS if mark in first), ",")
    cells = next(csv.reader([first], delimiter=delimiter))
    is_number = [_is_number(cell) for cell in cells]
    if any(is_number) and not all(is_number):
        column = is_number.index(False)
        raise InputError(f"{path}, line 1, column {column + 1}: {cells[column]!r} is not a number, though others are")
    has_header = not any(is_number)
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = file.readlines()[int(has_header) :]
        if not any(line.strip() for line in lines):
            raise InputError(f"{path} holds a header but no rows")
        return {"train": np.loadtxt(lines, delimiter=delimiter, ndmin=2, comments=None, quotechar='"')}
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file in UTF-8") from None
    except InputError:
        raise
    except ValueError as error:
        where = " (rows counted from 0 below the header)" if has_header else " (rows counted from 0)"
        raise InputError(f"{path} is not a table of numbers: {_line(error)}{where}") from None


def _idx_folder(path: Path, heldout_fraction: float) -> Dataset:
    """Binary images of a folder of IDX files."""
    found = {part: find_idx([path], stem) for part, stem in (("train", "train-images"), ("test", "t10k-images"))}
    if found["train"] is None:
        raise InputError(f"the folder {path} holds no train-images-idx3-ubyte (.gz); give another folder or a file")
    files = {part: file for part, file in found.items() if file is not None}
    images = {part: read_idx(file) for part, file in files.items()}
    for part, file in files.items():
        if images[part].ndim != 3 or not images[part].size:
            raise InputError(f"{file} holds an array of shape {images[part].shape}, not images (n, height, width)")
    parts = {part: as_units(x, True).reshape(x.shape) for part, x in images.items()}
    checksums = {file.name: sha256_file(file) for file in files.values()}
    return _assemble(path, parts, heldout_fraction, checksums, rule(True))


def _assemble(
    path: Path, parts: Mapping[str, Any], heldout_fraction: float, checksums: dict[str, str], rule_of_units: str
) -> Dataset:
    """Data set of checked, flattened parts; rows are held out if the file did not."""
    flat = {part: as_samples(x, name=f"{part} data in {path}") for part, x in parts.items()}
    event = parts["train"].shape[1:]
    for part, x in parts.items():
        if x.shape[1:] != event:
            raise InputError(f"{path}: {part} has samples of shape {x.shape[1:]}, train of shape {event}")
    split = "arrays of the file"
    if "heldout" not in flat:
        train, heldout = split_fraction(len(flat["train"]), heldout_fraction, name=str(path))
        if len(heldout):
            flat["heldout"] = flat["train"][heldout]
            flat["train"] = flat["train"][train]
        split = f"fixed permutation, heldout_fraction = {heldout_fraction:g}"
    return Dataset(
        name=path.stem,
        train=flat["train"],
        heldout=flat.get("heldout"),
        test=flat.get("test"),
        event_shape=event if len(event) > 1 else None,
        kind=infer_kind(*flat.values()),
        provenance={"source": path.name, "rule": "; ".join(filter(None, (rule_of_units, split))), "sha256": checksums},
    )


def _is_number(cell: str) -> bool:
    """Whether a cell reads as a number; `nan` does, and is refused later for what it is."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _line(error: Exception) -> str:
    """Message of a library in one line."""
    return " ".join(str(error).split()) or type(error).__name__
