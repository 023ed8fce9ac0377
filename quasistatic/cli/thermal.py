"""From the section `[temperature]` to a regulator."""

from __future__ import annotations

import math

from quasistatic.cli.config import Config
from quasistatic.cli.temperature import TemperatureSection
from quasistatic.regulators import AbstractRegulator, EndogenousTemperature, Thermostat


def temperature_regulators(config: Config, n_samples: int, n_units: int) -> tuple[AbstractRegulator, ...]:
    """Regulator of the temperature of a configuration, or none.

    Args:
        config: the run's configuration.
        n_samples: training rows; `n_samples // data.batch_size` updates are an epoch of the published law.
        n_units: visible units.
    """
    every = max(n_samples // (config.data.batch_size or max(n_samples, 1)), 1)
    return _regulators(config.temperature, config.model.beta, every, n_units)


def _regulators(section: TemperatureSection, beta: float, every: int, n_units: int) -> tuple[AbstractRegulator, ...]:
    if section.kind == "thermostat":
        thermostat = Thermostat(
            section.set_point,
            section.signal,
            smoothing=section.smoothing,
            k_p=section.k_p,
            k_i=section.k_i,
            most=math.log(section.highest * beta),
            slew=section.slew,
            patience=section.patience,
            beta=beta,
        )
        return (thermostat,)
    if section.kind == "published":
        law = EndogenousTemperature(
            every,
            gain=section.gain,
            smoothing=section.flip_smoothing,
            gap_scale=section.gap_scale,
            start=1 / beta,
            n_units=n_units if section.intensive else 1,
        )
        return (law,)
    return ()
