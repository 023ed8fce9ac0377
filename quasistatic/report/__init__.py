"""One page about a run: report.html, complete in itself, opened from disk, readable on a phone.

    from quasistatic.report import write_report
    write_report("runs/digits-rbm-001")

The page loads nothing: scripts, styles and images stand in it, and its content policy forbids the rest.
"""

from __future__ import annotations

import os
from pathlib import Path

from quasistatic.errors import InputError
from quasistatic.report.ladder import ladder_sections
from quasistatic.report.nudged import nudged_sections
from quasistatic.report.page import page_of
from quasistatic.report.sections import (
    Section,
    configuration,
    curves,
    environment,
    glossary,
    header,
    headline,
    pictures,
    weights,
)
from quasistatic.report.summary import summarise
from quasistatic.run import Run


def write_report(run_path: str | Path) -> Path:
    """Writes `report.html` into a run folder, finished or not.

    Args:
        run_path: The run folder.

    Returns:
        Path of the page.

    Raises:
        InputError: When there is no run, a file of it is damaged, or the page cannot be written. An older
            page is then left as it was.
    """
    run = Run(run_path)
    page = render(run)
    path = run.path / "report.html"
    unfinished = run.path / f".report-{os.getpid()}.html"
    try:
        unfinished.write_text(page, encoding="utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror}; free the place or copy the run") from None
    return path


def render(run: Run) -> str:
    """The page as text.

    Raises:
        InputError: When a file of the run is damaged.
    """
    if "equilibrium" in run.config:
        return page_of(*nudged_sections(run))
    summary = summarise(run)
    sections: list[Section] = [
        headline(summary),
        curves(run),
        *ladder_sections(run),
        weights(run),
        pictures(run),
        configuration(run),
        environment(run),
        glossary(),
    ]
    name = run.path.resolve().name
    return page_of(name, header(run, summary), sections)
