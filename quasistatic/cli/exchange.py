"""The section `[exchange]` of a run: whether walkers are stacks of replicas, in temperature or in the training's past.

Nothing here needs JAX.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from quasistatic.errors import InputError

Count = Annotated[int, Field(ge=1, le=10**6)]
Open = Annotated[float, Field(gt=0, lt=1)]


class ExchangeSection(BaseModel):
    """Replica exchange while training.

    `kind = "trajectory"`: every walker is a stack of replicas, in frozen earlier models of the same training and in the
    live one, that change places after every `n_between` sweeps (`kernel.n_sweeps` then counts rounds). Every `every`
    updates the acceptance of exchanges with the live model is measured: below `target` the model is frozen into a rung
    (up to `max_rungs`), below `torn` the updates since the last look are undone and the learning rate is multiplied by
    `factor`; after `max_rejections` in a row the run ends.

    `kind = "tempering"`: the replicas live in the live model at `n_rungs` temperatures in geometric progression, from
    its own to `hottest` times that. Any model, plain persistent walkers only; the auditor's walkers are single ones.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["none", "trajectory", "tempering"] = "none"
    n_between: Count = 1
    n_rungs: Annotated[int, Field(ge=2, le=10**4)] = 8
    hottest: Annotated[float, Field(gt=1)] = 5.0
    every: Count = 50
    target: Open = 0.3
    torn: Annotated[float, Field(ge=0, lt=1)] = 0.1
    factor: Open = 0.5
    max_rungs: Annotated[int, Field(ge=2, le=10**4)] = 64
    max_rejections: Count = 10


KINDS_OF = {"n_between": ("trajectory", "tempering"), "n_rungs": ("tempering",), "hottest": ("tempering",)}
"""Kinds that a key belongs to; all others are of a trajectory."""


def check_exchange(config: Any) -> None:
    """Raises InputError for settings of the exchange that do not fit. Args: config, the whole configuration."""
    section, method = config.exchange, config.training.method
    for name, field in ExchangeSection.model_fields.items():
        kinds = KINDS_OF.get(name, ("trajectory",))
        if name != "kind" and section.kind not in kinds and getattr(section, name) != field.default:
            raise InputError(
                f"exchange.{name} belongs to exchange.kind = {' or '.join(map(repr, kinds))}, not {section.kind!r}; "
                "set the kind or drop it"
            )
    if section.kind == "none":
        return
    if method not in ("pcd", "jarzynski"):
        raise InputError(
            f"training.method = {method!r} restarts its walkers, which stacks of replicas cannot be; "
            + ("use 'pcd'" + " or 'jarzynski'" * (section.kind == "trajectory"))
            + f" with exchange.kind = {section.kind!r}"
        )
    if section.kind == "tempering":
        if config.temperature.kind == "thermostat" and config.temperature.signal == "excess_work":
            raise InputError(
                "temperature.signal = 'excess_work' is that of the model, and the walkers' work is that of all rungs "
                "of a tempered stack; use 'flip_rate', or exchange.kind = 'trajectory'"
            )
        if config.optimiser.kind == "least-work":
            raise InputError(
                "optimiser.kind = 'least-work' times its steps by the work of the model, and the walkers' work is that "
                "of all rungs of a tempered stack; use another optimiser, or exchange.kind = 'trajectory'"
            )
        if method == "jarzynski":
            raise InputError(
                "training.method = 'jarzynski' weighs walkers by the work of the model, and every rung of a tempered "
                "stack moves with the model; use 'pcd', or exchange.kind = 'trajectory', whose lower rungs stay"
            )
        return
    if config.model.kind != "rbm":
        raise InputError(
            "exchange.kind = 'trajectory' starts from an RBM without couplings: it needs model.kind = 'rbm', not "
            f"{config.model.kind!r}; exchange.kind = 'tempering' takes any model"
        )
    if section.torn >= section.target:
        raise InputError(f"exchange.torn = {section.torn:g} must be below exchange.target = {section.target:g}")
    for key in ("every", "checkpoint_every"):
        if getattr(config.record, key) % section.every:
            raise InputError(
                f"record.{key} = {getattr(config.record, key)} must be a multiple of exchange.every = {section.every}: "
                "only updates after which the ladder held are recorded"
            )
