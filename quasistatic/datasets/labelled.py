"""Images with classes, for networks that answer: grey values in [0, 1] and one-hot targets."""

from __future__ import annotations

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
    """

    dataset: Dataset
    labels: dict[str, Int[np.ndarray, ...]]
    n_classes: int

    def __post_init__(self) -> None:
        for part, labels in self.labels.items():
            x = getattr(self.dataset, part)
            if x is None or len(x) != len(labels):
                raise InputError(f"{part} has {0 if x is None else len(x)} samples, but {len(labels)} labels")
            if len(labels) and not 0 <= labels.min() <= labels.max() < self.n_classes:
                raise InputError(f"labels of {part} must lie between 0 and {self.n_classes - 1}, got {labels.max()}")

    def targets(self, part: str) -> Float32[np.ndarray, "n n_classes"]:
        """One-hot targets. Args: part, "train", "heldout" or "test"."""
        return np.eye(self.n_classes, dtype=np.float32)[self.labels[part]]


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
