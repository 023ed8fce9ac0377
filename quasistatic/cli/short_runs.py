"""Short runs of a configuration: checks, the law they start from, and the protocol that is trained and replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from quasistatic.errors import InputError

if TYPE_CHECKING:
    from quasistatic.energies import AbstractEnergy, AbstractTractable
    from quasistatic.kernels import AbstractKernel


def check_short_run(config: Any) -> None:
    """Raises InputError for keys of short runs that belong to no such run, or do not fit the samples."""
    training, kernel, run = config.training, config.kernel, config.short_run
    is_gibbs = kernel.kind in ("block_gibbs", "gibbs")
    if training.data_noise and is_gibbs:
        raise InputError("training.data_noise is for continuous samples; set it to 0")
    if training.method != "short-run":
        for key, field in type(run).model_fields.items():
            if getattr(run, key) != field.default:
                raise InputError(f"short_run.{key} is for training.method = 'short-run', not {training.method!r}")
        return
    if run.k is not None and run.k != kernel.n_sweeps:
        raise InputError(
            f"short_run.k = {run.k} and kernel.n_sweeps = {kernel.n_sweeps} both say how long a run is; give one"
        )
    if kernel.n_sweeps_late is not None:
        raise InputError("kernel.n_sweeps_late would change what a short run is; drop it")
    if kernel.fused and (run.first_step != 1 or run.first_temperature != 1):
        raise InputError("kernel.fused has no schedule within a run; set it to false")
    if is_gibbs and (run.start in ("gaussian", "box") or run.scale != 1 or run.first_step != 1):
        raise InputError(
            "two-state samples start from short_run.start = 'noise' or 'mean-field', without scale and first_step"
        )
    if run.start == "box" and run.scale != 1:
        raise InputError(
            f"short_run.start = 'box' is as wide as low and high say; drop short_run.scale = {run.scale:g}"
        )
    if not run.low < run.high:
        raise InputError(f"short_run.low must be below short_run.high, got {run.low:g} and {run.high:g}")
    if (run.low, run.high) != (-1.0, 1.0) and run.start != "box":
        raise InputError(f"short_run.low and short_run.high are for start = 'box', not {run.start!r}; drop them")


def start_of(config: Any, model: AbstractEnergy, x: np.ndarray) -> AbstractTractable:
    """Law from which the runs start.

    Args:
        config: the run's configuration.
        model: the energy, for the states of its units.
        x: training samples, shape `(n, d)`; a skeleton of two rows gives a law to be filled from a checkpoint.
    """
    from quasistatic.cli.custom import base_law
    from quasistatic.energies import starts, units

    section, size = config.short_run, x.shape[1]
    states: Any = model
    if config.kernel.kind == "gibbs":  # custom energies get their units from the configuration
        states = units(config.model.units, size)
    if section.start == "box":
        return starts.box(section.low, section.high, size)
    if section.start == "gaussian":
        return base_law("covariance", section.scale, x, units_name=None)
    if section.start == "mean-field":
        return starts.mean_field(x, states, scale=section.scale)
    return starts.noise(states, size, scale=section.scale)


def with_schedule(config: Any, kernel: AbstractKernel) -> AbstractKernel:
    """The kernel with the schedule of the short runs, where there is one."""
    from quasistatic.kernels import ramped

    run = config.short_run
    if config.training.method != "short-run":
        return kernel
    return ramped(kernel, config.kernel.n_sweeps, first_step=run.first_step, first_temperature=run.first_temperature)
