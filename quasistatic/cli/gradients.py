"""`diagnose RUN --gradients`: estimators beside exact gradients of a run's own network, layer by layer."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from quasistatic.cli.nudged import restore
from quasistatic.equilibrium.check import Agreement, check_gradients

N_EXAMPLES = 4


def print_gradients(folder: Path, *, is_json: bool = False) -> None:
    """Prints the agreement of every estimator with the reference.

    Args:
        folder: folder of a run with nudges.
        is_json: print JSON.

    Raises:
        InputError: the folder is no such run.
    """
    trainer, state, data, config = restore(folder)
    inputs = jnp.asarray(data.dataset.train[:N_EXAMPLES], float)
    targets = jnp.asarray(data.targets("train")[:N_EXAMPLES], float)
    found = check_gradients(
        jax.random.key(config.run.seed),
        state.network,
        trainer.rule.cost,
        inputs,
        targets,
        nudge=config.equilibrium.nudge,
        temperature=config.equilibrium.temperature,
    )
    if is_json:
        rows = [{k: None if v != v else v for k, v in row.as_json().items()} for row in found]
        print(json.dumps({"run": str(folder), "gradients": rows}))
        return
    Console(highlight=False).print(_table(found))


def _table(found: list[Agreement]) -> Table:
    shown = Table(title=f"gradients of {N_EXAMPLES} examples")
    for name in ("estimator", "reference", "layer", "cosine", "difference", "from noise"):
        shown.add_column(name, justify="left" if name in ("estimator", "reference", "layer") else "right")
    for row in found:
        values = (f"{row.cosine:.4f}", f"{row.relative:.2%}", f"{row.expected:.2%}")
        numbers = ["-" if "nan" in value else value for value in values]
        shown.add_row(row.estimator, row.reference, row.layer, *numbers)
    return shown
