"""Imports go down only: the layers of docs/architecture.md, read from the syntax tree of every module.

Where an import stands makes no difference: inside a function, under TYPE_CHECKING, relative or absolute.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "quasistatic"

# First name below the package -> layer. A file that is not in this table fails the test: place it here and in
# docs/architecture.md in the same commit. Entries for files that do not exist yet are harmless.
LAYERS = {
    "errors": 0,
    "run": 0,
    "_types": 0,
    "_numerics": 0,
    "_results": 0,
    "_keys": 0,
    "_random": 0,
    "datasets": 0,
    "energies": 1,
    "kernels": 2,
    "thermo": 3,
    "metric": 3,
    "regulators": 4,
    "rules": 4,
    "evaluate": 4,
    "dissipation": 4,
    "equilibrium": 4,
    "train": 5,
    "diagnose": 6,
    "plots": 6,
    "report": 6,
    "watch": 6,
    "sklearn": 6,
    "interchange": 6,
    "cli": 7,
    "reproduce": 7,
    "__main__": 8,
    "__init__": 8,
}
STRANGERS = {"regulators", "rules", "evaluate", "dissipation", "equilibrium"}  # siblings that do not know each other
FILE_READERS = {"plots", "report", "run", "watch"}  # they see run files: each other and layer 0, nothing else
OUTSIDE = {"tests", "benchmarks", "examples", "docs"}  # of the repository, never of the package


def modules(root: Path) -> dict[str, Path]:
    """The dotted name of every module of the package, a package standing for its `__init__.py`."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def component(module: str) -> str:
    """The name a module is filed under in LAYERS."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported(module: str, source: str, is_package: bool, known: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import in `source`; `from a import b` is `a.b` where that is a module."""
    known = set(known)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".") if is_package else module.split(".")[:-1]
                anchor = parents[: len(parents) - node.level + 1]
                base = ".".join([*anchor, *([base] if base else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                is_submodule = full in known or (base == PACKAGE and alias.name in LAYERS)
                yield node.lineno, full if is_submodule else base


def violations(module: str, source: str, is_package: bool = False, known: Iterable[str] = ()) -> list[str]:
    """One line per import of `source` that the layers forbid."""
    here = component(module)
    if here not in LAYERS:
        return [f"{module}: `{here}` has no layer; add it to LAYERS and to docs/architecture.md"]
    found = []
    for line, target in imported(module, source, is_package, known):
        top = target.split(".")[0]
        where = f"{module}:{line} imports {target}"
        if top in OUTSIDE:
            found.append(f"{where}: the package must not import {top}")
        if top != PACKAGE:
            continue
        there = component(target)
        if there == here:
            continue
        if there not in LAYERS:
            found.append(f"{where}: `{there}` has no layer")
        elif LAYERS[there] > LAYERS[here]:
            found.append(f"{where}: up from layer {LAYERS[here]} to {LAYERS[there]}")
        elif {here, there} <= STRANGERS:
            found.append(f"{where}: siblings of layer 4 do not import each other")
        elif here in FILE_READERS and LAYERS[there] > 0 and there not in FILE_READERS:
            found.append(f"{where}: {here} reads run files only")
    return found


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """One import cycle of the graph as a closed walk, empty when there is none."""
    done: set[str] = set()

    def visit(node: str, trail: list[str]) -> list[str]:
        if node in trail:
            return [*trail[trail.index(node) :], node]
        if node in done:
            return []
        for successor in sorted(graph.get(node, ())):
            if closed := visit(successor, [*trail, node]):
                return closed
        done.add(node)
        return []

    return next((closed for node in sorted(graph) if (closed := visit(node, []))), [])


def import_graph(sources: dict[str, tuple[str, bool]]) -> dict[str, set[str]]:
    """Who imports whom inside the package, by module."""
    return {
        name: {t for _, t in imported(name, text, is_package, sources) if t in sources} - {name}
        for name, (text, is_package) in sources.items()
    }


def read_package(root: Path) -> dict[str, tuple[str, bool]]:
    """Source text and whether it is a package, by module."""
    return {
        name: (path.read_text(encoding="utf-8"), path.name == "__init__.py") for name, path in modules(root).items()
    }


def test_imports_go_down():
    sources = read_package(ROOT)
    assert PACKAGE in sources and "quasistatic.errors" in sources, "the walk did not find the package"
    found = [line for name, (text, pkg) in sources.items() for line in violations(name, text, pkg, sources)]
    assert not found, "\n".join(found)


def test_no_import_cycle():
    closed = cycle(import_graph(read_package(ROOT)))
    assert not closed, " -> ".join(closed)


PLANTED = {
    "up": ("quasistatic.energies.rbm", "from quasistatic.kernels.gibbs import BlockGibbs"),
    "up, whole module": ("quasistatic.kernels.gibbs", "import quasistatic.thermo.ledger as ledger"),
    "up, from the root": ("quasistatic.energies.rbm", "from quasistatic import train"),
    "up, in a function": ("quasistatic.thermo.process", "def f():\n    from quasistatic.train import loop"),
    "up, for types": (
        "quasistatic.thermo.process",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from quasistatic.rules import base",
    ),
    "up, relative": ("quasistatic.energies.rbm", "from ..kernels import gibbs"),
    "up, root name": ("quasistatic._keys", "from . import kernels"),
    "the front door": ("quasistatic.train.loop", "from quasistatic import load"),
    "sibling": ("quasistatic.rules.likelihood", "from quasistatic.regulators.resample import Resample"),
    "sibling, relative": ("quasistatic.evaluate.ais", "from ..rules.base import AbstractRule"),
    "report beyond the run files": ("quasistatic.report", "from quasistatic.energies.rbm import RBM"),
    "run beyond the run files": ("quasistatic.run", "from quasistatic.diagnose import verdict"),
    "tests": ("quasistatic.thermo.process", "from tests.helpers import walkers"),
    "stranger": ("quasistatic.utils", "import jax"),
    "import of a stranger": ("quasistatic.train.loop", "from quasistatic.utils.misc import thing"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_violation_is_found(name):
    module, source = PLANTED[name]
    assert len(violations(module, source)) == 1


ALLOWED = {
    "down": (
        "quasistatic.train.loop",
        "from quasistatic.thermo.process import switch\nimport quasistatic.errors",
    ),
    "own package": ("quasistatic.rules.likelihood", "from .base import AbstractRule"),
    "foreign": ("quasistatic.energies.rbm", "import jax.numpy as jnp\nfrom equinox import Module"),
    "front door": ("quasistatic", "from quasistatic.run import load"),
    "run files": (
        "quasistatic.report",
        "from quasistatic.plots import curve\nfrom quasistatic._results import Estimate",
    ),
    "layer 0": ("quasistatic.datasets.digits", "from quasistatic.errors import InputError"),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed_import_passes(name):
    module, source = ALLOWED[name]
    assert violations(module, source, is_package=module == PACKAGE) == []


def test_planted_cycle_is_found():
    sources = {
        "quasistatic.thermo": ("", True),
        "quasistatic.thermo.a": ("from .b import f", False),
        "quasistatic.thermo.b": ("def f():\n    from quasistatic.thermo import c", False),
        "quasistatic.thermo.c": ("import quasistatic.thermo.a", False),
    }
    closed = cycle(import_graph(sources))
    assert closed[0] == closed[-1] and set(closed) == set(sources) - {"quasistatic.thermo"}
    del sources["quasistatic.thermo.c"]
    assert cycle(import_graph(sources)) == []
