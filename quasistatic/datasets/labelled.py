"""Samples with classes or values, for networks that answer: one-hot targets of classes, or values as they are."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int

from quasistatic.datasets.base import Dataset, sha256, sha256_file, split_rows
from quasistatic.datasets.idx import find_idx, mnist_images, read_idx, search_folders
from quasistatic.errors import InputError

_N_HELDOUT_DIGITS = 360


@dataclass(frozen=True)
class Labelled:
    """Samples and their classes.

    Args:
        dataset: samples.
        labels: class of every row of "train", "heldout" and "test", where there are such rows.
        n_classes: number of classes.
        low: target of the outputs of other classes; -1 for spins.
    """

    dataset: Dataset
    labels: dict[str, Int[np.ndarray, ...]]
    n_classes: int
    low: float = 0.0

    def __post_init__(self) -> None:
        for part, labels in self.labels.items():
            x = getattr(self.dataset, part)
            if x is None or len(x) != len(labels):
                raise InputError(f"{part} has {0 if x is None else len(x)} samples, but {len(labels)} labels")
            if len(labels) and not 0 <= labels.min() <= labels.max() < self.n_classes:
                raise InputError(f"labels of {part} must lie between 0 and {self.n_classes - 1}, got {labels.max()}")

    def targets(self, part: str) -> Float32[np.ndarray, "n n_classes"]:
        """Targets: 1 for the class, `low` for the others. Args: part, "train", "heldout" or "test"."""
        one_hot = np.eye(self.n_classes, dtype=np.float32)[self.labels[part]]
        return one_hot + np.float32(self.low) * (1 - one_hot)

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts that have answers."""
        return tuple(self.labels)


@dataclass(frozen=True)
class Valued:
    """Samples and the values they are to be answered with.

    Args:
        dataset: samples.
        values: values of every row of "train", "heldout" and "test", where there are such rows.
    """

    dataset: Dataset
    values: dict[str, Float32[np.ndarray, "n n_out"]]

    def __post_init__(self) -> None:
        for part, values in self.values.items():
            x = getattr(self.dataset, part)
            if x is None or values.ndim != 2 or len(x) != len(values):
                raise InputError(
                    f"{part} has {0 if x is None else len(x)} samples, but values of shape {values.shape}; "
                    "one row of values per sample is needed"
                )
            if not np.isfinite(values).all():
                raise InputError(f"values of {part} must be finite")

    def targets(self, part: str) -> Float32[np.ndarray, "n n_out"]:
        """The values. Args: part, "train", "heldout" or "test"."""
        return self.values[part]

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts that have answers."""
        return tuple(self.values)


def paired_file(path: str | Path, n_heldout: int | None = None) -> Labelled | Valued:
    """Samples of an `.npz` file with `inputs` `(n, d)` and `targets`: integer classes `(n,)`, or values `(n, n_out)`.

    Args:
        path: the file.
        n_heldout: rows that are held out, in a fixed permutation; None for a fifth.

    Raises:
        InputError: the file is missing, damaged or holds something else.
    """
    path = Path(path)
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            missing = {"inputs", "targets"} - set(file.files)
            if missing:
                raise InputError(f"{path} lacks {' and '.join(sorted(missing))}; it holds {', '.join(file.files)}")
            inputs, targets = file["inputs"], file["targets"]
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"cannot read {path}: an .npz file with arrays inputs and targets is needed ({error})"
        ) from None
    if inputs.ndim != 2 or inputs.dtype.kind not in "buif" or not len(inputs):
        raise InputError(f"{path}: inputs must be numbers of shape (n, values), got {inputs.dtype} {inputs.shape}")
    if len(targets) != len(inputs) if targets.ndim else True:
        raise InputError(f"{path}: inputs have shape {inputs.shape}, but targets {targets.shape}; rows must agree")
    if not np.isfinite(inputs).all():
        raise InputError(f"{path}: inputs must be finite")
    n_heldout = len(inputs) // 5 if n_heldout is None else n_heldout
    if not 0 <= n_heldout < len(inputs):
        raise InputError(f"n_heldout must lie between 0 and {len(inputs) - 1}, got {n_heldout}")
    train, heldout = split_rows(len(inputs), n_heldout)
    x = inputs.astype(np.float32)
    provenance = {"source": path.name, "rule": "as given; fixed permutation", "sha256": {path.name: sha256_file(path)}}
    rows = {"train": train} | ({"heldout": heldout} if n_heldout else {})
    data = Dataset(path.stem, x[train], x[heldout] if n_heldout else None, None, (x.shape[1],), "real", provenance)
    if targets.ndim == 1 and targets.dtype.kind in "iu":
        if targets.min() < 0:
            raise InputError(f"{path}: classes must be 0, 1, ..., got {targets.min()}")
        n_classes = int(targets.max()) + 1
        return Labelled(data, {part: targets[i].astype(int) for part, i in rows.items()}, n_classes)
    if targets.ndim != 2 or targets.dtype.kind not in "buif":
        raise InputError(
            f"{path}: targets must be integer classes of shape (n,) or values of shape (n, n_out), got "
            f"{targets.dtype} {targets.shape}"
        )
    return Valued(data, {part: targets[i].astype(np.float32) for part, i in rows.items()})


def labelled_digits() -> Labelled:
    """The 1,797 embedded 8x8 digits, grey values over 16; split 1,437 / 360 as `digits`."""
    from sklearn.datasets import load_digits

    grey, classes = (np.asarray(part) for part in load_digits(return_X_y=True))
    x = (grey / 16.0).astype(np.float32)
    train, heldout = split_rows(len(x), _N_HELDOUT_DIGITS)
    provenance = {
        "source": "scikit-learn, load_digits",
        "rule": "grey / 16; fixed permutation",
        "sha256": {"grey": sha256(grey.astype(np.uint8).tobytes())},
    }
    data = Dataset("digits", x[train], x[heldout], None, (8, 8), "real", provenance)
    return Labelled(data, {"train": classes[train].astype(int), "heldout": classes[heldout].astype(int)}, 10)


def labelled_mnist(path: str | Path | None = None, *, n_heldout: int = 5000, with_test: bool = False) -> Labelled:
    """MNIST (or files of its names and shapes, such as Fashion-MNIST) with labels, grey values over 255.

    Args:
        path: folder of the IDX files; where to look without it is explained in `mnist`.
        n_heldout: last rows of the training file that are held out, 0 for none.
        with_test: read the test file too (`evaluate` does, training does not).

    Raises:
        InputError: files are missing or damaged, or `n_heldout` leaves nothing to train on.
    """
    folders = search_folders(path)
    images, checksums = mnist_images(folders, "train")
    if not 0 <= n_heldout < len(images):
        raise InputError(f"n_heldout must lie between 0 and {len(images) - 1}, got {n_heldout}")
    classes, of_labels = _classes(folders, "train-labels", len(images))
    checksums = checksums | of_labels
    cut = len(images) - n_heldout
    parts = {"train": _grey(images[:cut]), "heldout": _grey(images[cut:]) if n_heldout else None, "test": None}
    labels = {"train": classes[:cut]} | ({"heldout": classes[cut:]} if n_heldout else {})
    if with_test:
        images_test, of_test = mnist_images(folders, "test")
        classes_test, of_test_labels = _classes(folders, "t10k-labels", len(images_test))
        parts["test"], labels["test"] = _grey(images_test), classes_test
        checksums = checksums | of_test | of_test_labels
    provenance = {"source": "IDX files", "rule": "grey / 255", "sha256": checksums}
    data = Dataset("mnist", parts["train"], parts["heldout"], parts["test"], (28, 28), "real", provenance)
    return Labelled(data, labels, 10)


def with_labels(labelled: Labelled) -> Dataset:
    """Binary samples followed by their class, one unit each: a joint model of both generates by class, and classifies.

    Args:
        labelled: samples with values in [0, 1], which become 1 where they are at least a half.
    """
    data = labelled.dataset

    def joint(part: str) -> np.ndarray | None:
        x = getattr(data, part)
        if x is None:
            return None
        return np.concatenate([(x >= 0.5).astype(np.float32), np.eye(labelled.n_classes, dtype=np.float32)[
            labelled.labels[part]
        ]], axis=1)  # fmt: skip

    train = joint("train")
    assert train is not None
    provenance = data.provenance | {"rule": "1 where grey is at least half; then the class, one unit each"}
    return Dataset(
        data.name, train, joint("heldout"), joint("test"), data.event_shape, "binary", provenance, labelled.n_classes
    )


def _grey(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def _classes(folders: list[Path], stem: str, n: int) -> tuple[np.ndarray, dict[str, str]]:
    path = find_idx(folders, stem, 1)
    if path is None:
        raise InputError(f"labels not found: no {stem}-idx1-ubyte in {', '.join(map(str, folders))}; add the file")
    classes = read_idx(path)
    if classes.shape != (n,):
        raise InputError(f"{path} holds an array of shape {classes.shape}, but there are {n} images")
    return classes.astype(int), {path.name: sha256_file(path)}
