"""Data of a configuration, and whether memory holds what is asked for."""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from quasistatic import datasets
from quasistatic.cli import spins
from quasistatic.cli.config import Config, DataSection
from quasistatic.datasets import Dataset
from quasistatic.datasets.labelled import labelled_digits, labelled_mnist
from quasistatic.errors import InputError


def load_data(config: Config, *, with_test: bool = False) -> Dataset:
    """Data of a configuration.

    Args:
        config: the run's configuration.
        with_test: read the test set too, where there is one (`evaluate` only).

    Raises:
        InputError: the file is missing or unfit, or memory cannot hold the data.
    """
    section: DataSection = config.data
    if section.source in ("ising", "mixture"):
        fits_memory(8 * 40 * section.n_samples, f"data.n_samples = {section.n_samples}")
    if section.labels:
        is_mnist = section.source == "mnist"
        found = labelled_mnist(section.path, n_heldout=10000, with_test=with_test) if is_mnist else labelled_digits()
        dataset = datasets.with_labels(found)
    elif section.source == "digits":
        dataset = datasets.digits()
    elif section.source == "cifar10":
        dataset = datasets.cifar10(section.path, with_test=with_test)
    elif section.source == "mnist":
        dataset = _mnist(section, with_test)
    elif section.source == "ising":
        dataset = spins.ising(section.n_samples)
    elif section.source == "mixture":
        dataset = datasets.mixture_2d(section.n_samples, seed=0)
    else:
        dataset = datasets.from_file(str(section.path), heldout_fraction=section.heldout_fraction)
    if not len(dataset.train) or not np.asarray(dataset.train)[0].size:
        raise InputError(f"{section.path or section.source} holds no training samples")
    return dataset


def _mnist(section: DataSection, with_test: bool) -> Dataset:
    if section.digits is None and section.pool == 1 and not section.noise:
        return datasets.mnist(section.path, binary=section.binary, with_test=with_test)
    if section.digits is None:
        raise InputError("data.pool and data.noise are for chosen digits; give data.digits (all: 0 to 9), too")
    dataset = datasets.mnist_mixture(
        section.digits, section.masses, path=section.path, binary=section.binary, pool=section.pool,
        noise=section.noise, n_copies=section.n_copies,
    ).dataset  # fmt: skip
    return dataset if with_test else dataclasses.replace(dataset, test=None)


def fits_memory(n_bytes: int, culprit: str) -> None:
    """Raises InputError when main memory is smaller than what a setting, named as the culprit, needs."""
    available = physical_memory()
    if available is not None and n_bytes > available:
        raise InputError(
            f"{culprit} needs at least {n_bytes / 2**30:,.1f} GiB, this machine has {available / 2**30:,.1f}; lower it"
        )


def physical_memory() -> int | None:
    """Bytes of main memory, or None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
