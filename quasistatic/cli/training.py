"""The command `train`: everything is checked, then a folder is made, then the run goes."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from quasistatic.cli import folders
from quasistatic.cli.build import Parts, absolute, build
from quasistatic.cli.config import Config, keys, load_config, resolve
from quasistatic.cli.live import LiveLine
from quasistatic.cli.nudged import train_nudged
from quasistatic.cli.nudged_config import is_nudged
from quasistatic.cli.results import print_result, write_report_of
from quasistatic.cli.stacks import steering_of
from quasistatic.cli.toml import override
from quasistatic.errors import InputError, RunFailure
from quasistatic.run import Run
from quasistatic.train.loop import Plan, fit

DEFAULT = "digits-rbm"
INTERRUPTED = 130


def train_run(
    recipe: str | None,
    settings: Sequence[str],
    *,
    out: Path | None = None,
    is_resumed: bool = False,
    seed: int | None = None,
    device: str | None = None,
    max_minutes: float | None = None,
    energy: str | None = None,
    data: str | None = None,
) -> int:
    """Trains, writes the report, prints the result.

    Args:
        recipe: recipe or TOML file; None for the settings of the folder that is resumed, or the default
            recipe.
        settings: `section.key=value` overrides.
        out: run folder.
        is_resumed: go on with the run in `out`.
        seed: `run.seed`.
        device: name of a JAX device.
        max_minutes: limit of this session; it is not kept for the next one.
        energy: `module:attr`.
        data: `data.path`.

    Returns:
        Exit code.

    Raises:
        InputError: something given is wrong; nothing was written.
        RunFailure: the run stopped itself for a named reason.
    """
    if max_minutes is not None and not 0 < max_minutes < float("inf"):
        raise InputError(f"--max-minutes must be a positive number, got {max_minutes}")
    _check_out(out, is_resumed)
    shortcuts = list(_shortcuts(seed, energy, data))
    if is_nudged(recipe, out if is_resumed else None):
        with on_device(device):
            return train_nudged(recipe, [*settings, *shortcuts], out=out, max_minutes=max_minutes)
    stored = None if out is None else folders.stored_config(out)
    config = _config(recipe, [*settings, *shortcuts], stored)
    if out is not None:
        if stored is not None:
            folders.check_same(config, stored, out)
            if (out / "result.json").is_file():
                return _finished(out)
            folders.check_checkpoint(out)
        folders.check_creatable(out)
    with on_device(device):
        parts = build(config)
        if out is not None and stored is not None:
            folders.check_same_data(out, parts.dataset)
        return _train(config, parts, out, is_new=stored is None, max_minutes=max_minutes)


def _train(config: Config, parts: Parts, out: Path | None, *, is_new: bool, max_minutes: float | None) -> int:
    folder = folders.numbered(config.run.recipe) if out is None else out
    existed = out is not None and out.exists()
    folders.make(folder)
    folders.write_start(folder, config, parts.dataset)
    plan = Plan(
        n_steps=config.run.n_steps,
        record_every=config.record.every,
        n_ages=config.record.n_ages,
        spacing=config.record.spacing,
        checkpoint_every=config.record.checkpoint_every,
        max_minutes=max_minutes or config.run.max_minutes,
    )
    try:
        with folders.removed_if_refused(folder, is_new=is_new and not existed):
            done = fit(
                *parts, plan, folder=folder, resume=True, progress=LiveLine(folder.name), steering=steering_of(config)
            )
    except RunFailure as failure:
        write_report_of(folder)
        message = f"{failure}; the last good state is in {folder / 'checkpoints'}"
        raise RunFailure(message, result=failure.result) from None
    if done.is_interrupted:
        print(f"{done.message}; go on with: quasistatic train --out {folder} --resume", file=sys.stderr)
        return INTERRUPTED
    write_report_of(folder)
    print_result(Run(folder))
    return 0


def _check_out(out: Path | None, is_resumed: bool) -> None:
    if out is None and is_resumed:
        raise InputError("--resume needs --out DIR, the run folder to go on with")
    if out is not None and out.exists() and not is_resumed:
        raise InputError(f"{out} already exists; add --resume to go on with it, or choose another --out")


def _shortcuts(seed: int | None, energy: str | None, data: str | None) -> Iterator[str]:
    if seed is not None:
        yield f"run.seed={seed}"
    if energy is not None:
        yield "model.kind=custom"
        yield f"model.energy={json.dumps(energy)}"
    if data is not None:
        yield f"data.path={json.dumps(absolute(data))}"


def _config(recipe: str | None, settings: Sequence[str], stored: Config | None) -> Config:
    if recipe is None and stored is not None:
        raw = {name: _without_none(part) for name, part in stored.model_dump().items()}
        config = resolve(override(raw, settings, keys()), source="config.toml")
    else:
        config = load_config(recipe or DEFAULT, settings)
    if config.data.path is None:
        return config
    path = absolute(config.data.path)
    return config.model_copy(update={"data": config.data.model_copy(update={"path": path})})


def _without_none(part: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if value is not None}


def _finished(folder: Path) -> int:
    run = Run(folder)
    result = run.result or {}
    if result.get("result") == "ok":
        print_result(run)
        return 0
    raise RunFailure(f"{folder} has ended: {result.get('message')}", result=str(result.get("result")))


@contextlib.contextmanager
def on_device(name: str | None) -> Iterator[None]:
    """Makes a device the default one. Raises: InputError when there is no such device."""
    if name is None:
        yield
        return
    platform, _, index = name.partition(":")
    try:
        found = jax.devices(platform)
        chosen = found[int(index or 0)] if int(index or 0) >= 0 else None
    except (RuntimeError, ValueError, IndexError, AssertionError):
        chosen = None
    if chosen is None:
        known = ", ".join(f"{device.platform}:{device.id}" for device in jax.devices())
        raise InputError(f"no device is called {name!r}; this machine has {known}")
    with jax.default_device(chosen):
        yield
