"""Run folders as the command line sees them: numbers, first files, and when one may be resumed."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from quasistatic.cli.config import Config, dump_toml, keys, resolve
from quasistatic.datasets import Dataset
from quasistatic.errors import InputError
from quasistatic.run import Run
from quasistatic.train.checkpoint import write_text

RUNS = "runs"
PACKAGES = ("jax", "jaxlib", "equinox", "optax", "numpy", "scipy", "scikit-learn")
FREE_TO_CHANGE = {("run", "max_minutes"), ("data", "path")}  # settings that do not change what a run computes


def with_data(config: Config, path: str) -> Config:
    """The configuration with its data elsewhere.

    Raises:
        InputError: its data are not read from a path.
    """
    if config.data.source in ("digits", "ising", "mixture"):
        raise InputError(f"--data is not used by a run on data.source = {config.data.source!r}; drop it")
    moved = config.data.model_copy(update={"path": str(Path(path).expanduser().resolve())})
    return config.model_copy(update={"data": moved})


def numbered(recipe: str) -> Path:
    """Creates the next free folder `runs/RECIPE-NNN`; two runs that start at once get different ones.

    Raises:
        InputError: the folder cannot be created.
    """
    root = Path(RUNS)
    pattern = re.compile(rf"{re.escape(recipe)}-(\d+)")
    make(root)
    found = [int(match[1]) for path in root.iterdir() if (match := pattern.fullmatch(path.name))]
    number = max(found, default=0) + 1
    while True:
        folder = root / f"{recipe}-{number:03d}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise InputError(f"cannot create {folder}: {error.strerror}") from None


def make(folder: Path) -> None:
    """Creates a folder and its parents. Raises: InputError when that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{folder} is a file, not a folder; choose another --out") from None
    except OSError as error:
        raise InputError(f"cannot create {folder}: {error.strerror}") from None


def check_creatable(folder: Path) -> None:
    """Raises InputError when a folder could not be created where it should be; creates nothing."""
    parent = folder.absolute()
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise InputError(f"cannot create {folder}: {parent} is a file; choose another --out")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot create {folder}: no permission to write in {parent}; choose another --out")


@contextlib.contextmanager
def removed_if_refused(folder: Path, *, is_new: bool) -> Iterator[None]:
    """Leaves no trace of a run that is refused before its first step. Args: folder; whether this run made it."""
    try:
        yield
    except InputError:
        if is_new:
            shutil.rmtree(folder)
        raise


def config_file(folder: Path) -> Path | None:
    """The config.toml of a run folder, or None when nothing has been written into it.

    Raises:
        InputError: the folder holds something else than a run of this package.
    """
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise InputError(f"{folder} is a file, not a run folder; choose another --out")
    path = folder / "config.toml"
    if not path.is_file():
        foreign = [entry.name for entry in folder.iterdir() if not entry.name.endswith(".partial")]
        if foreign:
            raise InputError(
                f"{folder} is not a run folder: it has no config.toml but holds {min(foreign)!r}; choose another --out"
            )
        return None
    return path


def stored_config(folder: Path) -> Config | None:
    """Configuration that a folder was made with, or None when nothing has been written into it.

    Raises:
        InputError: the folder holds something else than a run of this package, or a damaged one.
    """
    path = config_file(folder)
    if path is None:
        return None
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        if missing := [name for name in keys() if name not in raw]:
            raise InputError(f"{path} is cut off: it has no [{missing[0]}]; the run cannot be resumed")
        return resolve(raw, source=str(path))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from None


def check_same(config: Config, stored: Config, folder: Path) -> None:
    """Raises InputError when a run would be resumed under other settings than it was started with."""
    new, old = config.model_dump(), stored.model_dump()
    for name, part in old.items():
        for key, value in part.items():
            if new[name][key] != value and (name, key) not in FREE_TO_CHANGE:
                raise InputError(
                    f"{folder} was started with {name}.{key} = {value!r}, not {new[name][key]!r}; resume it "
                    "with its own config.toml, or choose another --out"
                )


def check_checkpoint(folder: Path) -> None:
    """Raises InputError when the checkpoint to go on from is cut off or foreign; there may be none."""
    path = folder / "checkpoints" / "last.npz"
    if path.exists():
        Run(folder).checkpoint("last")


def check_same_data(folder: Path, dataset: Dataset) -> None:
    """Raises InputError when a run would be resumed on other data than it was started with."""
    path = folder / "environment.json"
    if not path.is_file():
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8")).get("data", {})
    except (ValueError, AttributeError, OSError):
        raise InputError(f"{path} is damaged: it is not a JSON object; the run cannot be resumed") from None
    now = describe_data(dataset)
    for key in ("n_train", "n_heldout", "n_units", "sha256"):
        if stored.get(key) != now[key]:
            raise InputError(
                f"{folder} was started on other data ({key} was {stored.get(key)}, is {now[key]}); give the "
                "same, or another --out"
            )


def write_start(folder: Path, config: Config, dataset: Dataset) -> None:
    """Writes config.toml and environment.json where missing; the first makes it a run folder."""
    if not (folder / "config.toml").is_file():
        write_text(folder / "config.toml", dump_toml(config))
    if not (folder / "environment.json").is_file():
        write_text(folder / "environment.json", json.dumps(environment(dataset), indent=1) + "\n")


def environment(dataset: Dataset) -> dict[str, Any]:
    """Versions, device and data of a run."""
    device = next(iter(jnp.zeros(()).devices()))
    return {
        "python": platform.python_version(),
        "quasistatic": sys.modules["quasistatic"].__version__,  # the package lies above this layer
        "packages": {name: _version(name) for name in PACKAGES},
        "jax": _version("jax"),
        "device": device.device_kind,
        "backend": device.platform,
        "precision": str(np.dtype(jax.dtypes.canonicalize_dtype(float))),
        "cpu_count": os.cpu_count(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "data": describe_data(dataset),
    }


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """Shape, provenance and fingerprint of the data."""
    train = np.ascontiguousarray(dataset.train)
    shape = dataset.event_shape
    return {
        "name": dataset.name,
        "kind": dataset.kind,
        "event_shape": list(shape) if shape is not None and len(shape) in (2, 3) else None,
        "n_units": int(train[0].size),
        "n_labels": dataset.n_labels,
        "n_train": len(train),
        "n_heldout": 0 if dataset.heldout is None else len(dataset.heldout),
        "n_test": None if dataset.test is None else len(dataset.test),
        "sha256": _fingerprint(train),
        "provenance": dataset.provenance,
    }


def _fingerprint(x: np.ndarray) -> str:
    return hashlib.sha256(str((x.shape, str(x.dtype))).encode() + x.tobytes()).hexdigest()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
