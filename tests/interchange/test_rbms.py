"""Files of `rbms`: the law survives the way there and back, and `rbms` itself reads and writes them where installed."""

from __future__ import annotations

import itertools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import RBM, Binary, Box, units
from quasistatic.errors import InputError
from quasistatic.interchange import read_rbms, write_rbms
from quasistatic.train.plan import Plan

h5py = pytest.importorskip("h5py")
RNG = np.random.default_rng(8)
W, A, B = RNG.normal(size=(4, 3)), RNG.normal(size=4), RNG.normal(size=3)


def model_of(visible: str = "binary", hidden: str = "binary") -> RBM:
    return RBM(jnp.asarray(W), jnp.asarray(A), jnp.asarray(B), units(visible, 4), units(hidden, 3))


def law(weights, visible_bias, hidden_bias, visible: str, hidden: str, beta: float) -> np.ndarray:
    """Probabilities of visible states, in the order of their bits, by a sum over joint states."""
    bits = [(-1.0, 1.0) if kind == "spin" else (0.0, 1.0) for kind in (visible, hidden)]
    v, h = (np.array(list(itertools.product(b, repeat=n))) for b, n in zip(bits, weights.shape, strict=True))
    e = -(v @ visible_bias)[:, None] - (h @ hidden_bias)[None] - v @ weights @ h.T
    p = np.exp(-beta * e).sum(1)
    return p / p.sum()


@pytest.mark.parametrize("visible", ["binary", "spin"])
@pytest.mark.parametrize("hidden", ["binary", "spin"])
def test_the_law_survives(visible: str, hidden: str, tmp_path: Path):
    beta, states = 0.7, np.array([[0, 1, 1, 0], [1, 0, 0, 0]], float)
    chains = 2 * states - 1 if visible == "spin" else states
    models = {3: model_of(visible, hidden), 10: model_of(visible, hidden)}
    write_rbms(tmp_path / "x.h5", models, beta=beta, chains=chains, n_sweeps=7, l2=0.5)
    found = read_rbms(tmp_path / "x.h5")
    assert (found.update, found.updates) == (10, (3, 10))
    assert (found.hyperparameters["gibbs_steps"], found.hyperparameters["L2"]) == (7, 0.5)
    np.testing.assert_array_equal(found.chains, states)
    given = law(W, A, B, visible, hidden, beta)
    m = found.model
    read = law(*(np.asarray(p) for p in (m.weights, m.visible_bias, m.hidden_bias)), "binary", "binary", 1.0)
    np.testing.assert_allclose(read, given, rtol=1e-12)
    first = read_rbms(tmp_path / "x.h5", 3).model
    np.testing.assert_array_equal(first.weights, m.weights)
    write_rbms(tmp_path / "y.h5", models, beta={3: 2 * beta, 10: beta})
    np.testing.assert_allclose(read_rbms(tmp_path / "y.h5", 3).model.weights, 2 * m.weights, rtol=1e-12)
    if visible == "spin":  # saboteur: parameters of spins taken for those of bits
        assert np.abs(law(beta * W, beta * A, beta * B, "binary", "binary", 1.0) - given).max() > 0.01


def test_names_and_links_are_those_of_the_layout(tmp_path: Path):
    write_rbms(tmp_path / "x.h5", {5: model_of()}, seconds={5: 1.5})
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["model_type"][()] == b"BBRBM"
        assert set(file["update_5/params"]) == {"weight_matrix", "vbias", "hbias"}
        assert file["update_5/weight_matrix"] == file["update_5/params/weight_matrix"]  # one object, two names
        assert file["update_5/time"][()] == 1.5 and bool(file["update_5/flags/checkpoint"][()])
        needed = {"batch_size", "gibbs_steps", "learning_rate", "L1", "L2", "num_hiddens", "num_visibles", "num_chains"}
        assert needed <= set(file["hyperparameters"])
    with pytest.raises(InputError, match="already exists"):
        write_rbms(tmp_path / "x.h5", {5: model_of()})


def test_files_without_the_group_of_parameters(tmp_path: Path):
    with h5py.File(tmp_path / "old.h5", "w") as file:
        for name, array in zip(("weight_matrix", "vbias", "hbias"), (W, A, B), strict=True):
            file[f"update_2/{name}"] = array
    found = read_rbms(tmp_path / "old.h5")
    np.testing.assert_array_equal(found.model.weights, W)
    assert found.chains is None and found.seconds is None


def test_what_cannot_be_read_says_why(tmp_path: Path):
    path = tmp_path / "x.h5"
    with pytest.raises(InputError, match="no file"):
        read_rbms(path)
    path.write_bytes(b"\x89HDF\r\n\x1a\n truncated")
    with pytest.raises(InputError, match="cannot be read"):
        read_rbms(path)
    path.unlink()
    write_rbms(path, {5: model_of()})
    with pytest.raises(InputError, match="no update 6; it has 5"):
        read_rbms(path, 6)
    with h5py.File(path, "a") as file:
        del file["model_type"]
        file["model_type"] = "PBRBM"
    with pytest.raises(InputError, match="PBRBM"):
        read_rbms(path)
    with h5py.File(path, "a") as file:
        del file["model_type"], file["update_5/params/vbias"]
        file["update_5/params/vbias"] = A[:2]
    with pytest.raises(InputError, match="do not fit"):
        read_rbms(path)
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(InputError, match="not a file of rbms"):
        read_rbms(tmp_path / "empty.h5")
    with pytest.raises(InputError, match="two-state"):
        write_rbms(tmp_path / "y.h5", {1: RBM(*map(jnp.asarray, (W, A, B)), Box(4), Binary(3))})
    with pytest.raises(InputError, match="same units"):
        write_rbms(tmp_path / "y.h5", {1: model_of(), 2: model_of("spin")})
    assert not (tmp_path / "y.h5").exists() and not (tmp_path / "y.h5.partial").exists()


def test_rbms_reads_ours_and_we_read_theirs(tmp_path: Path):
    pytest.importorskip("rbms")
    import torch
    from rbms.io import load_model, load_params, save_model

    write_rbms(tmp_path / "x.h5", {5: model_of()}, chains=np.ones((6, 4)), rate=0.1, seed=3, batch_size=20)
    device = torch.device("cpu")
    params = load_params(str(tmp_path / "x.h5"), 5, device, torch.float64)
    np.testing.assert_allclose(params.weight_matrix.numpy(), W, rtol=1e-15)
    params, chains, _, hyper = load_model(str(tmp_path / "x.h5"), 5, device, torch.float64)
    assert chains["visible"].shape == (6, 4) and hyper["learning_rate"] == 0.1 and hyper["seed"] == 3
    free = params.compute_energy_visibles(torch.ones(1, 4, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(free, -A.sum() - np.logaddexp(0, B + W.sum(0)).sum(), rtol=1e-4)
    save_model(str(tmp_path / "theirs.h5"), params, chains, 9, 2.5)
    found = read_rbms(tmp_path / "theirs.h5")
    np.testing.assert_allclose(found.model.hidden_bias, B, rtol=1e-15)
    assert (found.update, found.seconds) == (9, 2.5) and found.chains.shape == (6, 4)


def test_grid_of_checkpoints_of_rbms():
    assert Plan(100, n_ages=10, spacing="exp").ages == [1, 2, 3, 6, 9, 15, 25, 39, 63, 100]
    assert len(Plan(10000, n_ages=50, spacing="exp").ages) == 46
    assert Plan(1000, n_ages=4, spacing="linear").ages == [250, 500, 750, 1000]
    assert Plan(1000, n_ages=4).ages == [1, 10, 100, 1000] and Plan(1000, n_ages=1, spacing="exp").ages == [1000]
    with pytest.raises(InputError, match="spaced log, exp, linear"):
        Plan(10, spacing="square")
