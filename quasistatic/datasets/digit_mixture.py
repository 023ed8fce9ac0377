"""Digits of MNIST in chosen proportions: images whose modes have masses that are known exactly.

What an energy-based model most easily gets wrong is how much of its mass lies in each mode. With a few digits in
unequal proportions the truth is known, and a classifier of the digits reads the masses of a model off its samples.

Reference:
    Carbone, Hua, Coste and Vanden-Eijnden, NeurIPS 2023 (arXiv 2305.19414), the experiment with three digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from quasistatic.datasets.base import Dataset, sha256_file
from quasistatic.datasets.idx import as_units, find_idx, mnist_images, read_idx, rule, search_folders
from quasistatic.errors import InputError

SIDE = 28


class DigitMixture(NamedTuple):
    """A data set and which digit each row shows.

    Attributes:
        dataset: images; real-valued unless binary.
        labels: positions in `digits` of the rows of "train", "heldout" and "test".
        masses: fractions of the digits in each part, exact up to rounding to whole images.
    """

    dataset: Dataset
    labels: dict[str, Int[np.ndarray, " n"]]
    masses: tuple[float, ...]


def mnist_mixture(
    digits: Sequence[int],
    masses: Sequence[float] | None = None,
    *,
    path: str | Path | None = None,
    binary: bool = False,
    pool: int = 1,
    noise: float = 0.0,
    n_copies: int = 1,
    seed: int = 0,
) -> DigitMixture:
    """As many images as there are of these digits in these proportions, train, held-out and test apart.

    Args:
        digits: different digits.
        masses: proportions, normalised here; None for equal ones.
        path: folder of the IDX files, as for `mnist`.
        binary: {0, 1} by the threshold of `mnist` instead of grey values in [-1, 1].
        pool: side of the squares of pixels that are averaged (before the threshold); 2 makes 14 x 14 images.
        noise: standard deviation of Gaussian noise added to grey values.
        n_copies: noisy copies of every training image.
        seed: seed of the noise.

    Raises:
        InputError: files are missing or damaged, or the proportions, digits, or sizes are impossible.
    """
    digits = tuple(int(digit) for digit in digits)
    masses = tuple(masses) if masses is not None else (1.0,) * len(digits)
    _check(digits, masses, binary, pool, noise, n_copies)
    total = float(sum(masses))
    masses = tuple(float(mass) / total for mass in masses)
    folders = search_folders(path)
    images, checksums = mnist_images(folders, "train")
    images_test, checksum_test = mnist_images(folders, "test")
    classes, checksum_labels = _labels(folders, "train-labels", len(images))
    classes_test, checksum_labels_test = _labels(folders, "t10k-labels", len(images_test))
    rng = np.random.RandomState(seed)  # its stream is the same in every version of NumPy
    parts, labels = {}, {}
    for part, (x, y, copies) in {
        "train": (images[:50_000], classes[:50_000], n_copies),
        "heldout": (images[50_000:], classes[50_000:], 1),
        "test": (images_test, classes_test, 1),
    }.items():
        rows, kinds = _chosen(y, digits, masses)
        clean = as_units(pooled(x[rows], pool), binary)
        noisy = [clean + np.float32(noise) * rng.standard_normal(clean.shape).astype(np.float32) for _ in range(copies)]
        parts[part] = np.concatenate(noisy) if noise else np.concatenate([clean] * copies)
        labels[part] = np.tile(kinds, copies)
    side = SIDE // pool
    name = "mnist-" + "".join(map(str, digits))
    provenance = {
        "source": "IDX files",
        "rule": rule(binary),
        "digits": list(digits),
        "masses": list(masses),
        "pool": pool,
        "noise": noise,
        "n_copies": n_copies,
        "seed": seed,
        "sha256": checksums | checksum_test | checksum_labels | checksum_labels_test,
    }
    dataset = Dataset(
        name=name,
        train=parts["train"],
        heldout=parts["heldout"],
        test=parts["test"],
        event_shape=(side, side),
        kind="binary" if binary else "real",
        provenance=provenance,
    )
    return DigitMixture(dataset, labels, masses)


def pooled(images: UInt8[np.ndarray, "n h w"], pool: int) -> np.ndarray:
    """Means over squares of `pool` x `pool` pixels, shape `(n, h / pool, w / pool)`."""
    if pool == 1:
        return images
    n, height, width = images.shape
    return images.reshape(n, height // pool, pool, width // pool, pool).mean((2, 4), dtype=np.float32)


def _chosen(
    y: UInt8[np.ndarray, " n"], digits: tuple[int, ...], masses: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """First rows of each digit in the largest numbers of these proportions, and which digit each is."""
    found = [np.flatnonzero(y == digit) for digit in digits]
    n = min(len(rows) / mass for rows, mass in zip(found, masses, strict=True))
    counts = [int(n * mass + 1e-9) for mass in masses]
    if min(counts) < 1:
        raise InputError(f"masses {masses} leave no image of one of the digits {digits}; make them less unequal")
    rows = np.concatenate([rows[:count] for rows, count in zip(found, counts, strict=True)])
    return rows, np.repeat(np.arange(len(digits)), counts)


def _labels(folders: list[Path], stem: str, n_expected: int) -> tuple[UInt8[np.ndarray, " n"], dict[str, str]]:
    path = find_idx(folders, stem, n_axes=1)
    if path is None:
        places = ", ".join(str(folder) for folder in folders)
        raise InputError(f"MNIST labels not found: no {stem}-idx1-ubyte or {stem}-idx1-ubyte.gz in {places}")
    labels = read_idx(path)
    if labels.shape != (n_expected,) or labels.max() > 9:
        raise InputError(f"{path} does not hold {n_expected} digits, but an array of shape {labels.shape}")
    return labels, {path.name: sha256_file(path)}


def _check(
    digits: tuple[int, ...], masses: tuple[float, ...], binary: bool, pool: int, noise: float, n_copies: int
) -> None:
    if not digits or len(set(digits)) != len(digits) or not all(0 <= digit <= 9 for digit in digits):
        raise InputError(f"digits must be different numbers from 0 to 9, got {list(digits)}")
    if len(masses) != len(digits):
        raise InputError(f"{len(digits)} digits need as many masses, got {len(masses)}")
    if not all(np.isfinite(mass) and mass > 0 for mass in masses):
        raise InputError(f"masses must be positive numbers, got {list(masses)}")
    if pool < 1 or SIDE % pool:
        raise InputError(f"pool must divide {SIDE} (1, 2, 4, 7, 14 or 28), got {pool}")
    if not (np.isfinite(noise) and noise >= 0) or n_copies < 1:
        raise InputError(f"noise must be at least 0 and n_copies at least 1, got {noise} and {n_copies}")
    if binary and noise:
        raise InputError("noise is for grey values; set binary = false or noise = 0")


def classes_of(
    digits: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], x: Float[np.ndarray, "m d"]
) -> Int[np.ndarray, " m"]:
    """Most probable class of samples by quadratic discriminants (one Gaussian per class, equal priors).

    Args:
        digits: labelled images.
        labels: their classes 0, 1, ...
        x: samples to classify.
    """
    scores = []
    for label in range(int(labels.max()) + 1):
        own = digits[labels == label].astype(np.float64)
        mean, covariance = own.mean(0), np.cov(own, rowvar=False)
        covariance[np.diag_indices_from(covariance)] += 1e-2 * np.trace(covariance) / len(covariance)
        factor = np.linalg.cholesky(np.linalg.inv(covariance))
        scores.append(np.log(np.diag(factor)).sum() - 0.5 * (((x - mean) @ factor) ** 2).sum(1))
    return np.argmax(scores, axis=0)
