"""The table of acceptance tests (README.md) names tests that exist, and names one for every statement."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TABLE = TESTS / "laws" / "README.md"


def named(row: str) -> list[tuple[str, str]]:
    """File and test of every name in a row; `::name` alone belongs to the file before it."""
    found, file = [], ""
    for name in re.findall(r"`([^`]*::\w+)`", row):
        path, test = name.split("::")
        file = path or file
        found.append((file, test))
    return found


def missing(row: str) -> list[str]:
    """Names of a row for which there is no test function."""
    lost = []
    for file, test in named(row):
        path = TESTS / file
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
        if test not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}:
            lost.append(f"{file}::{test}")
    return lost


def rows() -> list[str]:
    return [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and "::" in line]


def test_every_statement_has_tests_and_every_test_exists():
    assert [row.split("|")[1].strip() for row in rows()[:20]] == [f"T{i}" for i in range(1, 21)]
    assert all(named(row) for row in rows())
    assert [lost for row in rows() for lost in missing(row)] == []


def test_saboteur_a_lost_test_is_noticed():
    assert missing("| T1 | x | `laws/test_identities.py::test_that_never_was` |")
    assert missing("| T1 | x | `laws/no_such_file.py::test_anything` |")
