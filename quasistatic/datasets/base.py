"""Data set: samples that have been looked at, and where they came from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float32, Shaped

from quasistatic.errors import InputError

Kind = Literal["binary", "spin", "real", "categorical"]
LEVELS: dict[str, tuple[float, ...]] = {"binary": (0.0, 1.0), "spin": (-1.0, 1.0)}


@dataclass(frozen=True)
class Dataset:
    """Training, held-out and test samples, flattened, as float32.

    Args:
        name: Name, as recipes and run folders say it.
        train: Training samples, shape `(n, d)` (or `(n, ...)` for energies of shaped samples).
        heldout: Held-out samples of the same shape, or `None`.
        test: Test samples, or `None` when they have not been read: only `evaluate` reads them.
        event_shape: Shape of one sample before it was flattened, such as `(8, 8)`; `None` without one.
        kind: "binary" {0, 1}, "spin" {-1, 1}, "real", or "categorical" (integer codes).
        provenance: Where the samples come from and the SHA-256 of what was read; values for JSON.
        n_labels: Last values of a sample that say its class, not part of `event_shape`.

    Raises:
        InputError: If a part is empty, is not float32, holds NaN or infinity, has samples of another shape
            than `train`, or values that are not of its kind.
    """

    name: str
    train: Float32[np.ndarray, "n_train ..."]
    heldout: Float32[np.ndarray, "n_heldout ..."] | None
    test: Float32[np.ndarray, "n_test ..."] | None
    event_shape: tuple[int, ...] | None
    kind: Kind
    provenance: dict[str, Any]
    n_labels: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"unknown kind of data {self.kind!r}; use one of {', '.join(get_args(Kind))}")
        event = np.shape(self.train)[1:]
        for part in ("train", "heldout", "test"):
            x, name = getattr(self, part), f"{part} data of {self.name}"
            if x is None and part != "train":
                continue
            if not isinstance(x, np.ndarray) or x.dtype != np.float32:
                raise InputError(
                    f"{name} must be a float32 array, got {getattr(x, 'dtype', type(x).__name__)}; convert it"
                )
            require_samples(x, name=name)
            if x.shape[1:] != event:
                raise InputError(f"{name} has samples of shape {x.shape[1:]}, the training data of shape {event}")
            if self.kind in LEVELS:
                require_binary(x, LEVELS[self.kind], name=name)
        if self.event_shape is not None and math.prod(self.event_shape) + self.n_labels != math.prod(event):
            raise InputError(f"event_shape {self.event_shape} does not hold the {math.prod(event)} values of a sample")


def require_binary(x: Shaped[np.ndarray, "n ..."], levels: Sequence[float] = (0, 1), *, name: str = "data") -> None:
    """Raises `InputError` unless every value is one of two levels, naming the first that is not.

    Args:
        x: Samples, first axis first.
        levels: The two values.
        name: What the message calls the data.
    """
    low, high = levels
    is_bad = (x != low) & (x != high)
    if is_bad.any():
        index = tuple(int(i) for i in np.unravel_index(int(np.argmax(is_bad)), x.shape))
        raise InputError(
            f"{name} must hold only {low:g} and {high:g}, got {x[index]:g} at index {index} "
            f"({np.mean(is_bad):.1%} of the values are neither); binarise it or choose other units"
        )


def require_samples(x: Any, *, name: str = "data") -> None:
    """Raises `InputError` unless `x` is a non-empty array of finite numbers, samples along the first axis.

    Args:
        x: Array with at least two axes.
        name: What the message calls the data.
    """
    x = np.asanyarray(x)
    if x.dtype.kind not in "biuf":
        raise InputError(f"{name} must hold real numbers, got dtype {x.dtype}; object arrays and text are refused")
    if x.ndim < 2:
        raise InputError(
            f"{name} must have shape (samples, values...), got {x.shape}; reshape to (-1, 1) if each number is a sample"
        )
    if x.size == 0:
        raise InputError(f"{name} is empty: its shape is {x.shape}")
    if x.dtype.kind == "f":
        is_bad = ~np.isfinite(x)
        if is_bad.any():
            index = tuple(int(i) for i in np.unravel_index(int(np.argmax(is_bad)), x.shape))
            raise InputError(
                f"{name} must be finite, got {x[index]} at index {index} ({int(is_bad.sum())} of {x.size} "
                "values are not); remove or impute them"
            )


def as_samples(x: Any, *, name: str = "data") -> Float32[np.ndarray, "n d"]:
    """Float32 copy of `x` with one flat row for each sample, after `require_samples`.

    Raises:
        InputError: As `require_samples`, and for numbers that float32 cannot hold.
    """
    require_samples(x, name=name)
    with np.errstate(over="ignore"):
        flat = np.asarray(x).astype(np.float32).reshape(len(x), -1)
    if not np.isfinite(flat).all():
        raise InputError(f"{name} exceeds the range of float32 (largest value {np.abs(x).max():g}); rescale it")
    return flat


def infer_kind(*parts: Shaped[np.ndarray, ...] | None) -> Kind:
    """Kind that fits all parts: "binary" for {0, 1}, "spin" for {-1, 1}, otherwise "real"."""
    given = [part for part in parts if part is not None]
    for kind in ("binary", "spin"):
        low, high = LEVELS[kind]
        if all(np.all((part == low) | (part == high)) for part in given):
            return kind
    return "real"


def split_rows(n: int, n_heldout: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training and held-out rows by a fixed permutation, whatever the seed of a run.

    NumPy guarantees the stream of `RandomState` for ever, that of `Generator` it does not.
    """
    order = np.random.RandomState(0).permutation(n)
    return order[: n - n_heldout], order[n - n_heldout :]


def split_fraction(n: int, heldout_fraction: float, *, name: str) -> tuple[np.ndarray, np.ndarray]:
    """As `split_rows`, for a share of the rows; at least one row on either side.

    Raises:
        InputError: For a share outside [0, 1), or fewer than two rows to be split.
    """
    if not 0 <= heldout_fraction < 1:
        raise InputError(f"heldout_fraction must be at least 0 and below 1, got {heldout_fraction}")
    if heldout_fraction == 0:
        return split_rows(n, 0)
    if n < 2:
        raise InputError(f"{name} has {n} sample, which cannot be split; use heldout_fraction = 0 or add samples")
    return split_rows(n, min(max(round(n * heldout_fraction), 1), n - 1))


def sha256(data: bytes) -> str:
    """SHA-256 of bytes, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, hexadecimal, without holding the file in memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
