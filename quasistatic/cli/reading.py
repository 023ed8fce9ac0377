"""Commands that read: recipes, report, reproduce."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from quasistatic.cli import toml
from quasistatic.errors import InputError

CHECK_FAILED = 1


def show_recipes(name: str | None) -> None:
    """Lists the recipes, or prints one."""
    if name is not None:
        print(toml.recipe(name), end="")
        return
    known = toml.recipes()
    width = max(map(len, known))
    for title, text in known.items():
        print(f"{title:<{width}}  {summary(text)}")
    print("\nquasistatic train NAME trains one; quasistatic recipes NAME prints it, to edit")


def summary(text: str) -> str:
    """First sentence of a recipe's opening comment, without its name."""
    comment = " ".join(line.lstrip("# ") for line in text.split("\n\n")[0].splitlines())
    return comment.partition(": ")[2].split(". ")[0].rstrip(".")


def report_run(folder: Path, *, figures: Path | None) -> None:
    """Writes report.html and, when asked, figures for papers."""
    from quasistatic.report import write_report
    from quasistatic.run import Run

    run = Run(folder)
    if figures is not None and figures.exists() and not figures.is_dir():
        raise InputError(f"{figures} is a file, not a folder; choose another --figures")
    print(write_report(folder))
    if figures is not None:
        from quasistatic.plots import save_figures

        for path in save_figures(run, figures):
            print(path)


def reproduce_named(name: str | None, *, is_quick: bool, is_json: bool, out: Path | None = None) -> int:
    """Runs one reproduction, or lists them. Returns: exit code, 1 when a row disagrees."""
    from quasistatic.plots import write_figures
    from quasistatic.reproduce import ENTRIES, reproduce

    if name is None:
        listed = [{"name": e.name, "title": e.title, "reference": e.reference} for e in ENTRIES]
        if is_json:
            print(json.dumps(listed, indent=1, ensure_ascii=False))
            return 0
        for entry in ENTRIES:
            print(f"{entry.name:<24} {entry.title}\n{'':25}{entry.reference}")
        return 0
    is_resumable = any(entry.is_resumable for entry in ENTRIES if entry.name == name)
    if out is not None and out.exists() and not (is_resumable and out.is_dir()):
        raise InputError(f"{out} exists and is not overwritten; choose another folder for the figures")
    outcome = reproduce(name, is_quick=is_quick, folder=out)
    if out is not None and outcome.drawn:
        outcome.figures.extend(str(path) for path in write_figures(outcome.drawn, out))
    if is_json:
        print(json.dumps(outcome.as_json(), indent=1))
        return 0 if outcome.is_ok else CHECK_FAILED
    table = Table(title=name, title_justify="left", box=None, pad_edge=False)
    table.add_column("quantity")
    for column in ("expected", "measured", "s.e.", "tolerance", ""):
        table.add_column(column, justify="right")
    for row in outcome.rows:
        measured = "withheld" if row.measured is None else f"{row.measured:.5g}"
        stderr = "" if not row.stderr else f"{row.stderr:.2g}"
        verdict = "ok" if row.ok else "FAILED"
        table.add_row(row.quantity, f"{row.expected:.5g}", measured, stderr, f"{row.tolerance:.2g}", verdict)
    _console().print(table)
    for path in outcome.figures:
        print(path)
    n_failed = sum(not row.ok for row in outcome.rows)
    print(f"{len(outcome.rows)} rows, {n_failed} failed" if n_failed else f"{len(outcome.rows)} rows, all agree")
    return CHECK_FAILED if n_failed else 0


def _console() -> Console:
    return Console(highlight=False, width=None)
