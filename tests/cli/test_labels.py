"""Models of images and their classes: generation by class, and colour images on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import TINY, Cli, settings
from tests.datasets.test_cifar import written


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny RBM of digits and their classes."""
    from quasistatic.cli.main import main

    folder = tmp_path_factory.mktemp("labels") / "run"
    assert main(["train", "digits-rbm", *settings(*TINY, "data.labels=true"), "--out", str(folder)]) == 0
    return folder


def test_the_class_follows_the_pixels(joint: Path):
    from quasistatic import load
    from quasistatic.cli.data import load_data
    from quasistatic.datasets import digits
    from quasistatic.datasets.labelled import labelled_digits

    run = load(joint)
    data = load_data(run.settings)
    assert (run.n_units, run.n_labels, run.image_shape) == (74, 10, (8, 8))
    np.testing.assert_array_equal(data.train[:, :64], digits().train)
    np.testing.assert_array_equal(data.heldout[:, 64:].argmax(1), labelled_digits().labels["heldout"])
    assert (data.train[:, 64:].sum(1) == 1).all()


def test_samples_of_a_class(joint: Path, cli: Cli, tmp_path: Path):
    done = cli("sample", joint, "--n", 20, "--steps", 3, "--label", 3, "--json", "--out", tmp_path / "x.npz")
    assert done.code == 0, done.err
    assert json.loads(done.out)["n_clamped"] == 10
    x = np.load(tmp_path / "x.npz", allow_pickle=False)["x"]
    assert x.shape == (20, 74) and (x[:, 64:].argmax(1) == 3).all() and (x[:, 64:].sum(1) == 1).all()
    assert x[:, :64].std(0).max() > 0
    assert cli("sample", joint, "--n", 9, "--steps", 1, "--out", tmp_path / "x.png").code == 0
    assert "between 0 and 9" in cli("sample", joint, "--label", 10).err


def test_labels_where_there_are_none(cli: Cli, tmp_path: Path):
    refused = cli("train", "ising", *settings("data.labels=true"), "--out", tmp_path / "a")
    assert refused.code == 2 and "data.labels" in refused.err and not (tmp_path / "a").exists()
    refused = cli("train", "mnist-rbm", *settings("data.labels=true", "data.pool=2"), "--out", tmp_path / "a")
    assert refused.code == 2 and "whole binary images" in refused.err
    assert cli("train", "digits-rbm", *settings(*TINY), "--out", tmp_path / "b").code == 0
    refused = cli("sample", tmp_path / "b", "--label", 1)
    assert refused.code == 2 and "without labels" in refused.err


@pytest.mark.slow
def test_colour_images_are_trained_and_drawn(cli: Cli, tmp_path: Path):
    from matplotlib.image import imread

    written(tmp_path / "files")
    few = (
        "run.n_steps=2 data.batch_size=8 training.n_walkers=8 short_run.k=2 record.n_ages=1 record.n_probes=0 "
        "record.every=1 record.checkpoint_every=2 kernel.n_sweeps=2 model.architecture=mnist"
    ).split()
    refused = cli("train", "cifar10-short-run", *settings(*few), "--data", tmp_path / "files", "--out", tmp_path / "r")
    assert refused.code == 2 and "channels" in refused.err
    small = [s for s in few if "architecture" not in s and "n_sweeps" not in s]
    done = cli("train", "cifar10-short-run", *settings(*small), "--data", tmp_path / "files", "--out", tmp_path / "r")
    assert done.code == 0, done.err
    done = cli("sample", tmp_path / "r", "--n", 4, "--out", tmp_path / "x.png")
    assert done.code == 0, done.err
    picture = imread(tmp_path / "x.png")
    assert picture.ndim == 3 and np.abs(picture[..., 0] - picture[..., 2]).max() > 0.1
