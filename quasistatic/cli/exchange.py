"""The section `[exchange]` of a run: whether walkers are stacks of replicas along the training's own past.

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
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["none", "trajectory"] = "none"
    every: Count = 50
    n_between: Count = 1
    target: Open = 0.3
    torn: Annotated[float, Field(ge=0, lt=1)] = 0.1
    factor: Open = 0.5
    max_rungs: Annotated[int, Field(ge=2, le=10**4)] = 64
    max_rejections: Count = 10


def check_exchange(config: Any) -> None:
    """Raises InputError for settings of the exchange that do not fit. Args: config, the whole configuration."""
    section = config.exchange
    if section.kind == "none":
        for name, field in ExchangeSection.model_fields.items():
            if getattr(section, name) != field.default:
                raise InputError(f"exchange.{name} belongs to exchange.kind = 'trajectory'; set the kind or drop it")
        return
    if config.model.kind != "rbm":
        raise InputError(
            "exchange.kind = 'trajectory' starts from an RBM without couplings: it needs model.kind = 'rbm', not "
            f"{config.model.kind!r}"
        )
    if config.training.method not in ("pcd", "jarzynski"):
        raise InputError(
            f"training.method = {config.training.method!r} restarts its walkers, which stacks of replicas cannot be; "
            "use 'pcd' or 'jarzynski' with exchange.kind = 'trajectory'"
        )
    if section.torn >= section.target:
        raise InputError(f"exchange.torn = {section.torn:g} must be below exchange.target = {section.target:g}")
    for key in ("every", "checkpoint_every"):
        if getattr(config.record, key) % section.every:
            raise InputError(
                f"record.{key} = {getattr(config.record, key)} must be a multiple of exchange.every = {section.every}: "
                "only updates after which the ladder held are recorded"
            )
