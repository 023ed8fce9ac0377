"""One page about a run: report.html, complete in itself, opened from disk, readable on a phone.

    from quasistatic.report import write_report
    write_report("runs/digits-rbm-001")

The page loads nothing: scripts, styles and images stand in it, and its content policy forbids the rest.
"""

from __future__ import annotations

import os
import re
from importlib.resources import files
from pathlib import Path

from plotly.offline import get_plotlyjs

from quasistatic.errors import InputError
from quasistatic.report.charts import as_script
from quasistatic.report.markup import escape
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
    summary = summarise(run)
    sections: list[Section] = [
        headline(summary),
        curves(run),
        weights(run),
        pictures(run),
        configuration(run),
        environment(run),
        glossary(),
    ]
    name = run.path.resolve().name
    parts = {
        "title": f"{escape(name)} \u00b7 quasistatic",
        "header": header(run, summary),
        "nav": "".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in sections),
        "main": "\n".join(s.html for s in sections),
        "footer": "Written by quasistatic. Logarithms are natural: 1 nat is 1.4427 bits.",
        "charts": as_script(chart for s in sections for chart in s.charts),
        "plotly": get_plotlyjs(),
        "css": _resource("page.css"),
        "js": _resource("page.js"),
    }
    # One pass: text of the run that looks like a place in the template stays text.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _resource("page.html"))


def _resource(name: str) -> str:
    return (files("quasistatic.report") / name).read_text(encoding="utf-8")
