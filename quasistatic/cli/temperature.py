"""The section `[temperature]` of a run: whether T stays, follows the published law, or is regulated.

The temperature that a run begins with is `1 / model.beta`. Nothing here needs JAX.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from quasistatic.errors import InputError


class TemperatureSection(BaseModel):
    """Temperature of model and walkers; every change of it is booked as work.

    `kind = "thermostat"` heats while `signal` of the driver is worse than `set_point` (flips per unit and update, ESS
    fraction, or excess work per update in nats), from `1 / model.beta` up to `highest`, by PI control with `k_p` and
    `k_i`, `smoothing` and `slew` (largest change of log T per update); after `patience` updates at its limit the run
    ends. `kind = "published"` is the law of arXiv:2603.02525, a reference that cannot heat: `gain`, `flip_smoothing`,
    `gap_scale`, once per epoch; `intensive` divides the gap by the number of units.
    `beta_power`: powers of beta left in the contrast of data and walkers, 1 for the gradient of the log-likelihood, 0
    as published (the factor 1/T dropped), -1 for a pace of `theta / T` that does not depend on T.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["fixed", "published", "thermostat"] = "fixed"
    beta_power: Literal[-1, 0, 1] = 1
    signal: Literal["flip_rate", "ess", "excess_work"] = "flip_rate"
    set_point: Annotated[float, Field(gt=0, le=1e6)] = 0.05
    smoothing: Annotated[float, Field(gt=0, le=1)] = 0.1
    k_p: Annotated[float, Field(ge=0, le=100)] = 0.5
    k_i: Annotated[float, Field(gt=0, le=100)] = 0.02
    highest: Annotated[float, Field(gt=0, le=1e9)] = 400.0
    slew: Annotated[float, Field(gt=0, le=100)] = 0.1
    patience: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1000
    gain: Annotated[float, Field(ge=0, le=100)] = 0.01
    flip_smoothing: Annotated[float, Field(gt=0, le=1)] = 0.01
    gap_scale: Annotated[float, Field(ge=0, le=100)] = 0.001
    intensive: bool = False


KEYS = {
    "thermostat": ("signal", "set_point", "smoothing", "k_p", "k_i", "highest", "slew", "patience"),
    "published": ("gain", "flip_smoothing", "gap_scale", "intensive"),
}
"""Keys of each kind that moves the temperature."""
CONTINUOUS = ("ula", "mala", "hmc")


def check_temperature(config: Any) -> None:
    """Raises InputError for settings of the temperature that do not fit. Args: config, the whole configuration."""
    section, kernel = config.temperature, config.kernel.kind
    for kind, names in KEYS.items():
        for name in names:
            if kind != section.kind and getattr(section, name) != TemperatureSection.model_fields[name].default:
                raise InputError(
                    f"temperature.{name} belongs to temperature.kind = {kind!r}, not {section.kind!r}; drop it"
                )
    optimiser = config.optimiser.kind
    if section.beta_power != 1 and optimiser in ("natural", "least-work"):
        raise InputError(f"optimiser.kind = {optimiser!r} needs temperature.beta_power = 1, the gradient of its metric")
    if section.kind == "fixed":
        return
    if config.model.kind == "mixture":
        raise InputError("a mixture has a known log Z at model.beta = 1 only; set temperature.kind = 'fixed'")
    reads_flips = section.kind == "published" or section.signal == "flip_rate"
    if reads_flips and kernel in CONTINUOUS:
        raise InputError(
            f"kernel.kind = {kernel!r} reports no flip rate; use temperature.kind = 'thermostat' with "
            "temperature.signal = 'ess' or 'excess_work'"
        )
    if section.kind == "published":
        if not 1e-6 < 1 / config.model.beta < 1e3:
            raise InputError(f"the published law holds T between 1e-6 and 1000, model.beta = {config.model.beta:g}")
        return
    if section.signal != "excess_work" and section.set_point >= 1:
        raise InputError(
            f"temperature.set_point of {section.signal!r} is a fraction below 1, got {section.set_point:g}"
        )
    if section.signal == "ess" and config.training.method != "jarzynski":
        raise InputError(
            "temperature.signal = 'ess' needs training.method = 'jarzynski', whose walkers carry weights; use "
            "'flip_rate' or 'excess_work'"
        )
    if section.k_i >= section.slew:
        raise InputError(
            f"temperature.k_i = {section.k_i:g} must be below temperature.slew = {section.slew:g}: an integral faster "
            "than the slew limit winds up"
        )
    if section.highest * config.model.beta <= 1:
        raise InputError(
            f"temperature.highest = {section.highest:g} must exceed the starting temperature 1 / model.beta = "
            f"{1 / config.model.beta:g}"
        )
