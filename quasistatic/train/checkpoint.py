"""Checkpoints: a pytree as one npz file, written atomically, read without pickle.

Every array leaf becomes a member named by its tree path (`model/weights`), so that NumPy alone can read a checkpoint;
a member
`__meta__` holds a JSON object. The file appears under its name only when it is complete: a killed run leaves the
previous
checkpoint, never half a new one. (A single small file per checkpoint needs no checkpointing library; zip members carry
checksums, so truncation and damage are noticed.)
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from quasistatic.errors import InputError

FORMAT = 1
"""Version of the layout described above."""

Tree = TypeVar("Tree")


def names_of(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Array leaves of a pytree with their path names, `prefix/field/...`."""
    leaves = jax.tree_util.tree_flatten_with_path(eqx.filter(tree, eqx.is_array_like))[0]
    head = f"{prefix}/" if prefix else ""
    return [(head + jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def save(path: Path, trees: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Writes pytrees and metadata to `path`, atomically.

    Args:
        path: file to write; an existing one is replaced only by a complete file.
        trees: pytrees by prefix; an empty prefix puts leaves at the top.
        meta: JSON-serialisable metadata; `format` is added.
    """
    members = {name: np.asarray(leaf) for prefix, tree in trees.items() for name, leaf in names_of(tree, prefix)}
    text = json.dumps({"format": FORMAT, **meta}, sort_keys=True)
    members["__meta__"] = np.frombuffer(text.encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    with open(temporary, "wb") as file:
        np.savez(file, **members)  # pyright: ignore[reportArgumentType]
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_text(path: Path, text: str) -> None:
    """Writes a small text file atomically."""
    temporary = path.with_name(f".{path.name}.partial")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def fill(skeleton: Tree, archive: Mapping[str, np.ndarray], prefix: str = "") -> Tree:
    """Pytree like `skeleton` with its array leaves read from an archive.

    Args:
        skeleton: pytree of the right structure, such as a freshly initialised state.
        archive: arrays by path name.
        prefix: prefix under which the tree was saved.

    Raises:
        InputError: a leaf is missing or has another shape or type: the file belongs to another configuration.
    """

    def read(name: str, leaf: Any) -> Any:
        if name not in archive:
            raise InputError(
                f"the checkpoint has no {name}: it belongs to another configuration; use that run's own config.toml"
            )
        found, expected = archive[name], np.asarray(leaf)
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise InputError(
                f"the checkpoint's {name} is {found.dtype}{list(found.shape)}, the configuration needs "
                f"{expected.dtype}{list(expected.shape)}; use the run's own config.toml"
            )
        return jnp.asarray(found)

    arrays, rest = eqx.partition(skeleton, eqx.is_array_like)
    leaves = [read(name, leaf) for name, leaf in names_of(skeleton, prefix)]
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), leaves), rest)
