"""From the section `[exchange]` to a trainer of stacks and its steering, and back from stacks to samples."""

from __future__ import annotations

from typing import Any

from quasistatic.cli.config import Config
from quasistatic.energies import AbstractEnergy
from quasistatic.kernels import parallel_tempering
from quasistatic.train.ascent import Steering, with_kernel
from quasistatic.train.trainer import Trainer
from quasistatic.train.trajectory import on_trajectory


def has_stacks(config: Config) -> bool:
    """Whether the walkers of a run are stacks of replicas."""
    return config.exchange.kind != "none"


def stacked_trainer(config: Config, trainer: Trainer, model: AbstractEnergy) -> Trainer:
    """The trainer as it is, or with stacks of replicas. Args: configuration, trainer, initial model."""
    section = config.exchange
    if section.kind == "trajectory":
        return on_trajectory(trainer, model, n_between=section.n_between)
    if section.kind == "tempering":
        kernel = parallel_tempering(trainer.kernel, section.n_rungs, section.hottest, n_between=section.n_between)
        return with_kernel(trainer, kernel)
    return trainer


def steering_of(config: Config) -> Steering | None:
    """When a run looks at its growing ladder and what it does about it, or None without one."""
    section = config.exchange
    if section.kind != "trajectory":
        return None
    return Steering(
        section.every, section.target, section.torn, section.factor, section.max_rungs, section.max_rejections
    )


def at_model(config: Config, x: Any) -> Any:
    """Stored walkers as samples of the model, of stacks the last replica. Args: positions, walkers first."""
    return x[:, -1] if has_stacks(config) else x
