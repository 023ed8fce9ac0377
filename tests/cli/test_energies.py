"""Energies of one's own: functions, modules, factories; their partition function comes from the bridge."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import quasistatic
from tests.cli.conftest import Cli, settings

WALK = settings(
    "run.n_steps=40",
    "data.n_samples=300",
    "training.n_walkers=200",
    "auditor.n_walkers=100",
    "record.every=20",
    "record.checkpoint_every=20",
    "kernel.step_size=0.1",
    "optimiser.rate=1e-9",
    "model.n_bridge=60",
)
GAUSSIAN = """
import equinox as eqx
import jax.numpy as jnp

class Well(eqx.Module):
    stiffness: jnp.ndarray
    def __call__(self, x):
        return 0.5 * jnp.sum(self.stiffness * (x - 0.3) ** 2)

energy = Well(jnp.array([0.7, 1.9]))

def function(x):
    return 0.5 * (0.7 * (x[0] - 0.3) ** 2 + 1.9 * (x[1] - 0.3) ** 2)
"""
LOG_Z = np.log(2 * np.pi) - 0.5 * np.log(0.7 * 1.9)


@pytest.fixture
def module(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Name of a module with two ways to say one Gaussian energy; new for each test, as imports are cached."""
    name = f"well_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(GAUSSIAN)
    return name


BOX = settings("kernel.kind=mala", "kernel.fused=false", "model.base=uniform")


@pytest.mark.parametrize("attribute, options", [pytest.param("energy", [], marks=pytest.mark.slow), ("function", BOX)])
def test_bridge_finds_log_z(attribute: str, options: list[str], cli: Cli, module: str):
    path = list(sys.path)
    done = cli("train", "mixture", *WALK, *options, "--energy", f"{module}:{attribute}", "--out", "run")
    assert done.code == 0, done.err
    assert sys.path == path and not Path("__pycache__").exists()
    log_z = json.loads(Path("run/result.json").read_text())["final"]["log_z"]
    expected = _in_box(Path("run")) if options == BOX else LOG_Z
    assert abs(log_z["value"] - expected) < 4.5 * log_z["stderr"]
    assert log_z["stderr"] < 0.1
    if attribute != "function":
        assert np.allclose(_well(quasistatic.load("run").model), [0.7, 1.9], atol=1e-6)


def _well(model) -> np.ndarray:
    """Stiffness of a loaded model, inside its wrappers."""
    inside = getattr(model, "energy", model)
    return np.asarray(inside.function.stiffness)


def _in_box(folder: Path) -> float:
    """Log Z of the well inside the box of the uniform base."""
    from scipy.stats import norm

    model = quasistatic.load(folder).model
    low, high = np.asarray(model.box.low, float), np.asarray(model.box.high, float)
    width = 1 / np.sqrt([0.7, 1.9])
    inside = norm.cdf((high - 0.3) / width) - norm.cdf((low - 0.3) / width)
    return float(LOG_Z + np.log(inside).sum())


@pytest.mark.slow
def test_two_state_energy(cli: Cli, tmp_path: Path):
    (tmp_path / "chain_of_bits.py").write_text(
        "import jax.numpy as jnp\nimport equinox as eqx\n"
        "class Chain(eqx.Module):\n"
        "    bias: jnp.ndarray\n"
        "    def __call__(self, x):\n"
        "        return -jnp.sum(self.bias * x) - 0.5 * jnp.sum(x[1:] * x[:-1])\n"
        "def make(key):\n    return Chain(jnp.linspace(-0.5, 0.8, 6))\n"
    )
    x = np.random.default_rng(3).integers(0, 2, (80, 6)).astype(np.float32)
    np.save(tmp_path / "bits.npy", x)
    options = settings(
        *"data.source=file kernel.kind=gibbs kernel.fused=false model.base=frequencies model.units=binary".split()
    )
    done = cli(
        "train", "mixture", *WALK, *options, "--data", "bits.npy", "--energy", "chain_of_bits:make", "--out", "run"
    )
    assert done.code == 0, done.err
    states = (np.arange(64)[:, None] >> np.arange(6)) & 1
    u = -states @ np.linspace(-0.5, 0.8, 6) - 0.5 * (states[:, 1:] * states[:, :-1]).sum(1)
    log_z = json.loads(Path("run/result.json").read_text())["final"]["log_z"]
    assert abs(log_z["value"] - np.log(np.exp(-u).sum())) < 4.5 * log_z["stderr"]
