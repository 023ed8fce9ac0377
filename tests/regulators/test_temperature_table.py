"""The table of acceptance tests (README.md) names tests that exist, and names one for every statement."""

from pathlib import Path

from tests.laws.test_acceptance_table import missing, named

TABLE = Path(__file__).parent / "README.md"


def test_every_statement_has_tests_and_every_test_exists():
    rows = [row for row in TABLE.read_text(encoding="utf-8").splitlines() if row.startswith("| ") and "::" in row]
    numbers = [row.split("|")[1].strip() for row in rows if row.startswith("| T-")]
    assert numbers == [f"T-{n:02d}" for n in range(1, 26)]
    assert all(named(row) for row in rows)
    assert [lost for row in rows for lost in missing(row)] == []
