"""Configuration of networks trained by free and nudged phases: recipes with a section `[equilibrium]`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from quasistatic.cli import toml
from quasistatic.cli.config import Count, Decay, Positive, _Section
from quasistatic.errors import InputError

SECTION = "equilibrium"
"""The section that tells these configurations from the others."""


class NudgedRun(_Section):
    """Name, randomness and length of the run."""

    recipe: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = "run"
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    n_epochs: Positive
    max_minutes: Annotated[float, Field(gt=0)] | None = None


class NudgedData(_Section):
    """Samples and answers: `digits` (embedded), `mnist` (IDX files in `path`) or `file` (an .npz in `path` with
    `inputs` and `targets`, classes or values); `shift` moves training images at random."""

    source: Literal["digits", "mnist", "file"]
    path: Annotated[str, Field(min_length=1)] | None = None
    batch_size: Positive = 32
    n_heldout: Count | None = None  # 5,000 images of MNIST, a fifth of a file
    shift: Annotated[int, Field(ge=0, le=8)] = 0


class NetworkSection(_Section):
    """Layered network: `hidden` layers of `units`, or `channels` of convolutions with pooling; `output`; `cost`."""

    hidden: list[Positive] = []
    channels: list[Positive] = []
    units: Literal["box", "binary", "spin"] = "box"
    output: Literal["real", "box", "binary", "spin", "softmax"] = "real"
    cost: Literal["squared", "cross-entropy"] = "squared"
    gain: Annotated[float, Field(gt=0, le=100)] = 0.7


class PhasesSection(_Section):
    """Phases and estimator, see `equilibrium.EquilibriumPropagation`; `start` of the free phase.

    `centred`, `coupled-centred` and `random-sign` need a `nudge` below 1 where outputs are real or on a box.
    """

    nudge: Annotated[float, Field(gt=0, le=1e6)] = 0.2
    temperature: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    variant: Literal[
        "one-sided",
        "centred",
        "random-sign",
        "coupled",
        "coupled-centred",
        "covariance",
        "reweighting",
        "path-integral",
    ] = "centred"
    n_free: Positive = 15
    n_nudged: Positive = 15
    tolerance: Annotated[float, Field(ge=0, le=1)] = 0.0
    n_replicas: Positive = 1
    n_nodes: Positive = 4
    momentum: Decay = 0.0
    start: Literal["zero", "batch", "example"] = "batch"


class NudgedOptimiser(_Section):
    """Descent: `rate`, times `rates` of every interaction, times `decay` after every epoch."""

    kind: Literal["sgd", "adam"] = "sgd"
    rate: Annotated[float, Field(gt=0, le=1e6)] = 0.05
    rates: list[Annotated[float, Field(gt=0, le=1e6)]] = []
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    momentum: Decay | None = None  # 0 for SGD, 0.9 for Adam
    weight_decay: Annotated[float, Field(ge=0, le=100)] = 0.0


class NudgedRecord(_Section):
    """Epochs between checkpoints; sweeps of the free phase that answers (0: as in training)."""

    checkpoint_every: Positive = 1
    n_sweeps_evaluated: Count = 0


class NudgedConfig(_Section):
    """All of a run."""

    run: NudgedRun
    data: NudgedData
    network: NetworkSection
    equilibrium: PhasesSection
    optimiser: NudgedOptimiser = NudgedOptimiser()
    record: NudgedRecord = NudgedRecord()


def keys() -> dict[str, list[str]]:
    """Keys of every section, in order."""
    found: dict[str, Any] = {name: field.annotation for name, field in NudgedConfig.model_fields.items()}
    return {name: list(part.model_fields) for name, part in found.items()}


def is_nudged(recipe: str | None, folder: Path | None) -> bool:
    """Whether a recipe (or the folder that is resumed) is one of these. Unreadable ones are left to others."""
    if recipe is None:
        return folder is not None and SECTION in _stored(folder)
    try:
        return SECTION in toml.read(recipe)[0]
    except InputError:
        return False


def load(recipe: str | None, folder: Path | None, settings: Iterable[str]) -> NudgedConfig:
    """Configuration of a recipe, a TOML file, or the folder that is resumed, with settings applied.

    Raises:
        InputError: anything about it is wrong; one line says what.
    """
    if recipe is not None:
        raw, name = toml.read(recipe)
        raw.setdefault("run", {}).setdefault("recipe", name)
    else:
        assert folder is not None
        raw, name = _stored(folder), str(folder / "config.toml")
    raw = toml.override(raw, settings, keys())
    try:
        config = NudgedConfig.model_validate(raw)
    except ValidationError as error:
        raise InputError(toml.problem(error, raw, keys(), name)) from None
    _check_network(config.network, name)
    if config.data.source == "digits" and (config.data.path is not None or config.data.n_heldout is not None):
        raise InputError(f"{name}: data.path and data.n_heldout are not used by data.source = 'digits'; drop them")
    if config.data.source == "file" and config.data.path is None:
        raise InputError(f"{name}: data.source = 'file' needs data.path, an .npz file with inputs and targets")
    if config.data.source == "file" and (config.data.shift or config.network.channels):
        raise InputError(f"{name}: data.shift and network.channels are for images, which a file is not; drop them")
    return config


def _check_network(network: NetworkSection, name: str) -> None:
    if network.hidden and network.channels:
        raise InputError(f"{name}: give network.hidden or network.channels, not both")
    if network.output == "softmax" and not network.hidden:
        raise InputError(f"{name}: a softmax read-out needs network.hidden; give it")
    if network.output == "softmax" and network.cost != "cross-entropy":
        raise InputError(f"{name}: network.output = 'softmax' needs network.cost = 'cross-entropy'; set it")
    if network.channels and (network.units, network.output) != ("box", "real"):
        raise InputError(
            f"{name}: network.channels make box units with real outputs; drop network.units and network.output"
        )


def stored(folder: Path) -> NudgedConfig:
    """Configuration of a run folder. Raises: InputError when it is not one of these."""
    raw = _stored(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    if SECTION not in raw:
        raise InputError(f"{folder} is not a run of a network with nudges: its config.toml has no [{SECTION}]")
    try:
        return NudgedConfig.model_validate(raw)
    except ValidationError as error:
        raise InputError(toml.problem(error, raw, keys(), str(folder / "config.toml"))) from None


def same_run(a: BaseModel, b: BaseModel) -> bool:
    """Whether two configurations compute the same, however long a session lasts and wherever the data are."""

    def core(config: BaseModel) -> dict[str, Any]:
        parts = config.model_dump()
        parts["run"].pop("max_minutes")
        parts["data"].pop("path")
        return parts

    return core(a) == core(b)


def _stored(folder: Path) -> dict[str, Any]:
    path = folder / "config.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}
