"""HDF5 files of the package `rbms`: Bernoulli-Bernoulli RBMs at some updates of a training.

    /model_type                                      "BBRBM"
    /hyperparameters/{num_visibles, num_hiddens, num_chains, batch_size, gibbs_steps, learning_rate, L1, L2, seed}
    /parallel_chains                                 visible states, shape (n, n_visible)
    /update_{t}/params/{weight_matrix, vbias, hbias} parameters; hard links to them beside `params`
    /update_{t}/time                                 seconds since the start

The energy there is `-a v - b h - v W h` on {0, 1}, at temperature one. What is written is `beta E` of the run, and
spins `s = 2 v - 1` become bits: `W' = 4 W`, `a' = 2 a - 2 sum_j W_ij`, `b' = 2 b - 2 sum_i W_ij`, up to a
constant. Files of older versions of `rbms` have parameters beside the group `params` only; they are read, too.

Reference:
    Layout of rbms 0.2 to 0.5 (Bereux et al.).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from quasistatic.energies import RBM, Binary, Spin, units
from quasistatic.errors import InputError

NAMES = ("weight_matrix", "vbias", "hbias")
REMEDY = "install the extra: pip install 'quasistatic[rbms]'"


@dataclass(frozen=True)
class RbmsFile:
    """What such a file holds, at one update.

    Args:
        model: the RBM, units {0, 1}, temperature one.
        update: number of the update.
        updates: all updates in the file.
        chains: visible states of the chains, those of the last update whatever `update` is; None without.
        hyperparameters: by name.
        seconds: time since the start of the training.
    """

    model: RBM
    update: int
    updates: tuple[int, ...]
    chains: np.ndarray | None
    hyperparameters: dict[str, Any]
    seconds: float | None


def read_rbms(path: str | Path, update: int | None = None) -> RbmsFile:
    """Reads a file.

    Args:
        path: HDF5 file.
        update: which update, None for the last.

    Raises:
        InputError: no such file or update, another kind of model, damaged arrays, or h5py is missing.
    """
    with _opened(Path(path)) as file:
        updates = tuple(sorted(int(name.removeprefix("update_")) for name in file if name.startswith("update_")))
        kind = file["model_type"][()] if "model_type" in file else b"BBRBM"
        kind = kind.decode() if isinstance(kind, bytes) else str(kind)
        if not updates:
            raise InputError(f"{path} holds no update_N: it is not a file of rbms")
        if kind != "BBRBM":
            raise InputError(f"{path} holds a model of type {kind!r}; Bernoulli-Bernoulli RBMs ('BBRBM') are read")
        chosen = updates[-1] if update is None else update
        if chosen not in updates:
            raise InputError(f"{path} has no update {chosen}; it has {_shown(updates)}")
        group = file[f"update_{chosen}"]
        model = _model(path, group["params"] if "params" in group else group)
        chains = np.asarray(file["parallel_chains"][()]) if "parallel_chains" in file else None
        if chains is not None and chains.ndim == 2 and chains.shape[1] != model.visible.size:
            raise InputError(f"{path}: chains of {chains.shape[1]} units, but the model has {model.visible.size}")
        settings = {name: _plain(node[()]) for name, node in file.get("hyperparameters", {}).items()}
        seconds = float(np.asarray(group["time"][()])) if "time" in group else None
    return RbmsFile(model, chosen, updates, chains, settings, seconds)


def write_rbms(
    path: str | Path,
    models: Mapping[int, RBM],
    *,
    beta: float | Mapping[int, float] = 1.0,
    chains: Any = None,
    batch_size: int = 0,
    n_sweeps: int = 1,
    rate: float = 0.0,
    l1: float = 0.0,
    l2: float = 0.0,
    seed: int = 0,
    seconds: Mapping[int, float] | None = None,
) -> None:
    """Writes a file that `rbms` loads. It holds no state of a random generator: training cannot be restored from it.

    Args:
        path: HDF5 file, which must not exist.
        models: RBM by update, at least one, of {0, 1} or spin units.
        beta: inverse temperature of all of them, or by update; the parameters take it in.
        chains: visible states in the RBM's own values, shape `(n, n_visible)`; None for none, written as one row of 0.
        batch_size: data rows per update.
        n_sweeps: sweeps per update, there `gibbs_steps`.
        rate: learning rate.
        l1: penalty on absolute weights.
        l2: penalty on squared weights.
        seed: seed of the training.
        seconds: time since the start by update.

    Raises:
        InputError: the file exists, other units, or h5py is missing.
    """
    path = Path(path)
    if not models:
        raise InputError("there is no model to write; give at least one")
    if path.exists():
        raise InputError(f"{path} already exists; choose another file")
    betas = beta if isinstance(beta, Mapping) else dict.fromkeys(models, beta)
    parameters = {step: _as_bits(model, betas[step]) for step, model in models.items()}
    some = next(iter(models.values()))
    if len({(type(m.visible), type(m.hidden), m.visible.size, m.hidden.size) for m in models.values()}) > 1:
        raise InputError("all models of a file have the same units; write others to a file of their own")
    n, m = some.visible.size, some.hidden.size
    x = np.zeros((1, n)) if chains is None else np.asarray(chains, np.float64)
    x = (x + 1) / 2 if isinstance(some.visible, Spin) and chains is not None else x
    if x.ndim != 2 or x.shape[1] != n:
        raise InputError(f"chains have shape (n, {n}), got {x.shape}")
    hyper = {
        "num_visibles": n, "num_hiddens": m, "num_chains": len(x), "batch_size": batch_size, "gibbs_steps": n_sweeps,
        "learning_rate": rate, "L1": l1, "L2": l2, "seed": seed, "train_size": 1.0, "filename": path.name,
    }  # fmt: skip
    partial = path.with_name(path.name + ".partial")
    try:
        with _opened(partial, "w") as file:
            file["model_type"] = "BBRBM"
            for name, value in hyper.items():
                file[f"hyperparameters/{name}"] = value
            file["parallel_chains"] = x.astype(np.float32)
            for step, arrays in parameters.items():
                group = file.create_group(f"update_{step}")
                for name, array in zip(NAMES, arrays, strict=True):
                    group[f"params/{name}"] = array
                    group[name] = group[f"params/{name}"]
                group["time"] = float((seconds or {}).get(step, 0.0))
                group.create_group("flags")["checkpoint"] = True
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def _opened(path: Path, mode: str = "r") -> Any:
    try:
        import h5py
    except ImportError:
        raise InputError(f"files of rbms need h5py; {REMEDY}") from None
    if mode == "r" and not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        return h5py.File(path, mode)
    except OSError as error:
        raise InputError(f"{path} cannot be {'read' if mode == 'r' else 'written'} as HDF5: {error}") from None


def _model(path: str | Path, group: Any) -> RBM:
    try:
        weights, visible_bias, hidden_bias = (np.asarray(group[name][()]) for name in NAMES)
    except (KeyError, OSError) as error:
        raise InputError(f"{path} lacks or cannot read the parameters {', '.join(NAMES)}: {error}") from None
    if weights.ndim != 2 or weights.shape != (visible_bias.size, hidden_bias.size):
        shapes = ", ".join(str(a.shape) for a in (weights, visible_bias, hidden_bias))
        raise InputError(f"{path}: parameters {', '.join(NAMES)} have shapes {shapes}, which do not fit together")
    if not all(np.isfinite(a).all() for a in (weights, visible_bias, hidden_bias)):
        raise InputError(f"{path} holds parameters that are not finite")
    n, m = weights.shape
    w, a, b = (jnp.asarray(p, float) for p in (weights, visible_bias.ravel(), hidden_bias.ravel()))
    return RBM(w, a, b, units("binary", n), units("binary", m))


def _as_bits(model: RBM, beta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`beta` times the parameters, those of spins turned into those of bits."""
    if not isinstance(model, RBM) or not all(isinstance(u, (Binary, Spin)) for u in (model.visible, model.hidden)):
        raise InputError(
            f"files of rbms hold RBMs of two-state units, got {type(model).__name__}"
            + (f" of {type(model.visible).__name__}, {type(model.hidden).__name__}" if isinstance(model, RBM) else "")
        )
    w, a, b = (np.asarray(p, np.float64) * beta for p in (model.weights, model.visible_bias, model.hidden_bias))
    if isinstance(model.visible, Spin):  # v' = 2 v - 1
        b, a, w = b - w.sum(0), 2 * a, 2 * w
    if isinstance(model.hidden, Spin):
        a, b, w = a - w.sum(1), 2 * b, 2 * w
    dtype = np.asarray(model.weights).dtype
    return w.astype(dtype), a.astype(dtype), b.astype(dtype)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.item() if hasattr(value, "item") and np.ndim(value) == 0 else value


def _shown(updates: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, updates[:6]))
    return shown if len(updates) <= 6 else f"{shown}, ..., {updates[-1]}"
