"""Published numbers and laws, repeated and compared: one module per paper.

A module has one function `check(key, is_quick)` that returns rows, or rows and figures by name. Rows carry what was
expected, what came out, its standard error and the tolerance; a row that fails makes the command end with exit code 1.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax

from quasistatic.errors import InputError
from quasistatic.reproduce.rows import Row

SEED = 0


@dataclass(frozen=True)
class Entry:
    """Something that can be reproduced.

    Args:
        name: what the user types.
        title: what it is.
        reference: authors, year, arXiv number.
        module: module of this package that checks it.
        is_resumable: whether its runs keep files in the output folder, and go on from them when called again.
    """

    name: str
    title: str
    reference: str
    module: str
    is_resumable: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a reproduction found.

    Args:
        name: name of the entry.
        rows: one per compared number.
        figures: paths of figures that were written.
        drawn: figures by name.
    """

    name: str
    rows: list[Row]
    figures: list[str] = field(default_factory=list)
    drawn: dict[str, Any] = field(default_factory=dict)

    @property
    def is_ok(self) -> bool:
        return all(row.ok for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """Mapping with name, rows and figures."""
        return {"name": self.name, "rows": [row.as_json() for row in self.rows], "figures": self.figures}


ENTRIES = (
    Entry(
        "ledger-laws",
        "work, heat and free energy on solvable models",
        "Jarzynski 1997; Crooks 1999",
        "ledger_laws",
    ),
    Entry(
        "live-likelihood",
        "the live likelihood beside the exact one, seeds and ages of digits-rbm",
        "Carbone, Hua, Coste, Vanden-Eijnden 2023, arXiv:2305.19414",
        "live_likelihood",
    ),
    Entry(
        "jarzynski-mixture",
        "masses of two modes in 50 dimensions: weights, PCD and CD",
        "Carbone, Hua, Coste, Vanden-Eijnden 2023, arXiv:2305.19414",
        "jarzynski_mixture",
    ),
    Entry(
        "jarzynski-mnist",
        "masses of three digits in a ConvNet: weights, PCD and CD",
        "Carbone, Hua, Coste, Vanden-Eijnden 2023, arXiv:2305.19414",
        "jarzynski_mnist",
    ),
    Entry(
        "minimal-dissipation",
        "work of the walkers beside the closed forms; schedules of least work; a quartic energy",
        "Hnybida, Verret 2025, arXiv:2510.03137",
        "minimal_dissipation",
    ),
    Entry(
        "temperature",
        "endogenous temperature: published law, thermostat, populations that freeze; an RBM on MNIST",
        "Süleymanoğlu 2026, arXiv:2603.02525",
        "temperature",
        is_resumable=True,
    ),
    Entry(
        "equilibrium-propagation",
        "what estimators of equilibrium propagation learn from equal samples; signal over noise",
        "Litman 2025, arXiv:2511.22024",
        "equilibrium_propagation",
    ),
    Entry(
        "non-convergent",
        "training with short runs: solvable models, a Boltzmann machine, RBMs and a ConvNet on MNIST",
        "Agoritsas, Catania, Decelle, Seoane 2023, arXiv:2301.09428",
        "non_convergent",
    ),
)
"""Everything that is reproduced."""


def reproduce(name: str, *, is_quick: bool = False, folder: Path | None = None) -> Outcome:
    """Runs one entry.

    Args:
        name: name of an entry.
        is_quick: fewer walkers, wider errors.
        folder: where runs that can be resumed keep their files.

    Raises:
        InputError: unknown name.
    """
    entries = {entry.name: entry for entry in ENTRIES}
    if name not in entries:
        raise InputError(f"nothing to reproduce is called {name!r}; choose one of {', '.join(entries)}")
    check = importlib.import_module(f"quasistatic.reproduce.{entries[name].module}").check
    options = {"folder": folder} if entries[name].is_resumable else {}
    found = check(jax.random.key(SEED), is_quick, **options)
    rows, drawn = found if isinstance(found, tuple) else (found, {})
    return Outcome(name, rows, drawn=drawn)
