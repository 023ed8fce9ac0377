"""`train` and `evaluate` for networks with free and nudged phases."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from quasistatic.cli import folders
from quasistatic.cli.build import absolute
from quasistatic.cli.live import LiveLine, clock
from quasistatic.cli.nudged_config import NudgedConfig, load, same_run, stored
from quasistatic.cli.results import write_report_of
from quasistatic.cli.toml import dump
from quasistatic.datasets.labelled import Labelled, Valued, labelled_digits, labelled_mnist, paired_file
from quasistatic.energies.costs import cost
from quasistatic.energies.hopfield import Layered, convolutional_hopfield, hopfield
from quasistatic.equilibrium.rule import EquilibriumPropagation
from quasistatic.errors import InputError
from quasistatic.run import Archive
from quasistatic.train import checkpoint
from quasistatic.train.checkpoint import write_text
from quasistatic.train.nudged import NudgedState, NudgedTrainer
from quasistatic.train.nudged_loop import NudgedPlan, evaluated, fit_nudged

INTERRUPTED = 130
N_HELDOUT = 5000
"""Rows of MNIST's training file that are held out by default."""


def train_nudged(
    recipe: str | None,
    settings: Sequence[str],
    *,
    out: Path | None = None,
    max_minutes: float | None = None,
) -> int:
    """Trains, writes the report, prints the result.

    Args:
        recipe: recipe or TOML file; None for the settings of the folder that is resumed.
        settings: `section.key=value` overrides.
        out: run folder, new or one of this kind to go on with.
        max_minutes: limit of this session.

    Returns:
        Exit code.

    Raises:
        InputError: something given is wrong; nothing was written.
        RunFailure: the run stopped itself for a named reason.
    """
    begun = None if out is None else folders.config_file(out)
    config = load(recipe, out, settings)
    if config.data.path is not None:
        config = _with_path(config, absolute(config.data.path))
    if out is not None:
        if begun is not None and not same_run(config, stored(out)):
            raise InputError(f"{out} was started with other settings; resume it with its own, or choose another --out")
        folders.check_checkpoint(out)
        folders.check_creatable(out)
    network, trainer, data = build(config)
    key = jax.random.key(config.run.seed)
    trainer.init(key, network, len(data.dataset.train))  # what does not fit is refused before anything is written
    if out is not None:
        folders.check_same_data(out, data.dataset)
    folder = folders.numbered(config.run.recipe) if out is None else out
    is_new = out is None or not out.exists()
    folders.make(folder)
    if begun is None:
        write_text(folder / "config.toml", dump(config))
        write_text(folder / "environment.json", json.dumps(folders.environment(data.dataset), indent=1) + "\n")
    plan = NudgedPlan(
        config.run.n_epochs,
        config.record.checkpoint_every,
        max_minutes or config.run.max_minutes,
        config.record.n_sweeps_evaluated,
    )
    with folders.removed_if_refused(folder, is_new=is_new):
        done = fit_nudged(key, trainer, network, data, plan, folder=folder, resume=True, progress=LiveLine(folder.name))
    if done.is_interrupted:
        print(f"stopped in time; go on with: quasistatic train --out {folder} --resume", file=sys.stderr)
        return INTERRUPTED
    last = done.rows[-1]
    write_report_of(folder)
    print(f"{folder.name}: {last['epoch']} epochs in {clock(last['time_elapsed'])}")
    wrong = "" if last["error"] is None else f", error {last['error']:.2%}"
    print(f"  training: cost {last['cost']:.4f}{wrong} (while learning)")
    if last["error_heldout"] is None and last["cost_heldout"] is not None:
        print(f"  held out: cost {last['cost_heldout']:.4f}")
    if last["error_heldout"] is not None:
        print(f"  held out: error {last['error_heldout']:.2%} ± {last['error_heldout_stderr']:.2%}")
    print(f"report: {folder / 'report.html'}")
    return 0


def evaluate_nudged(folder: Path, *, is_json: bool, data: str | None = None) -> None:
    """Prints cost and error of the last checkpoint on every part of the data, the test file included.

    Args:
        folder: run folder.
        is_json: print JSON.
        data: file or folder of the data, where it is not that of the run.
    """
    trainer, state, labelled, config = restore(folder, with_test=True, data=data)
    found: dict[str, Any] = {"run": str(folder), "step": int(state.step)}
    for part in labelled.parts:
        found |= evaluated(trainer, state, labelled, part, config.record.n_sweeps_evaluated)
    if is_json:
        print(json.dumps(found))
        return
    for part in labelled.parts:
        error = found[f"error_{part}"]
        wrong = "" if error is None else f", error {error:.2%} ± {found[f'error_{part}_stderr']:.2%}"
        print(f"  {part:>8}: cost {found[f'cost_{part}']:.4f}{wrong}")


def restore(
    folder: Path, *, with_test: bool = False, data: str | None = None
) -> tuple[NudgedTrainer, NudgedState, Labelled | Valued, NudgedConfig]:
    """Trainer, last state, data and configuration of a run folder. Raises: InputError when it is not such a run."""
    config = stored(folder)
    if data is not None:
        config = _with_path(config, absolute(data))
    network, trainer, labelled = build(config, with_test=with_test)
    state = trainer.init(jax.random.key(config.run.seed), network, len(labelled.dataset.train))
    return trainer, checkpoint.fill(state, Archive(folder / "checkpoints" / "last.npz")), labelled, config


def _with_path(config: NudgedConfig, path: str | None) -> NudgedConfig:
    return config.model_copy(update={"data": config.data.model_copy(update={"path": path})})


def build(config: NudgedConfig, *, with_test: bool = False) -> tuple[Layered, NudgedTrainer, Labelled | Valued]:
    """Start parameters, trainer and data of a configuration."""
    section, part = config.data, config.network
    image: tuple[int, int] | None = None
    data: Labelled | Valued
    if section.source == "digits":
        data, image = labelled_digits(), (8, 8)
    elif section.source == "mnist":
        n_heldout = N_HELDOUT if section.n_heldout is None else section.n_heldout
        data, image = labelled_mnist(section.path, n_heldout=n_heldout, with_test=with_test), (28, 28)
    else:
        data = paired_file(str(section.path), section.n_heldout)
    if isinstance(data, Labelled) and part.output == "spin" and part.cost == "squared":
        data = replace(data, low=-1.0)  # a target of 0 would not nudge a spin
    n_out = data.targets("train").shape[1]
    key = jax.random.fold_in(jax.random.key(config.run.seed), 1)
    n_in = data.dataset.train.shape[1]
    if part.channels and image is not None:
        network = convolutional_hopfield(key, (image[0], image[1], 1), part.channels, n_out, gains=part.gain)
    else:
        sizes = (n_in, *part.hidden, n_out)
        network = hopfield(key, sizes, units=part.units, output=part.output, gain=part.gain)
    phases = config.equilibrium
    rule = EquilibriumPropagation(
        cost=cost(part.cost),
        nudge=jnp.asarray(phases.nudge, float),
        temperature=phases.temperature,
        variant=phases.variant,
        n_free=phases.n_free,
        n_nudged=phases.n_nudged,
        tolerance=phases.tolerance,
        n_replicas=phases.n_replicas,
        n_nodes=phases.n_nodes,
        momentum=phases.momentum,
    )
    trainer = NudgedTrainer(
        rule,
        _optimiser(config, len(data.dataset.train) // config.data.batch_size),
        tuple(config.optimiser.rates),
        config.data.batch_size,
        phases.start,
        config.data.shift,
        image,
    )
    return network, trainer, data


def _optimiser(config: NudgedConfig, per_epoch: int) -> optax.GradientTransformation:
    section = config.optimiser
    rate = optax.exponential_decay(section.rate, max(per_epoch, 1), section.decay, staircase=True)
    if section.kind == "adam":
        descent = optax.adam(rate, b1=0.9 if section.momentum is None else section.momentum)
    else:
        descent = optax.sgd(rate, momentum=section.momentum or None)
    return optax.chain(optax.add_decayed_weights(section.weight_decay), descent) if section.weight_decay else descent
