"""The page of a network trained by nudges: error, cost, objective, saturation and distances over epochs."""

from __future__ import annotations

import re

import numpy as np

from quasistatic.errors import InputError
from quasistatic.plots.panels import Curve, Panel
from quasistatic.report import charts, markup
from quasistatic.report.markup import escape
from quasistatic.report.sections import Section
from quasistatic.run import Run

PANELS = (
    ("error", "Wrong answers", "fraction", ("error", "error_heldout"), "Training rows while learning; held out after."),
    ("cost", "Cost", "cost", ("cost", "cost_heldout"), "Mean cost of the free phase."),
    ("delta_a", "Objective", "energy", ("delta_a",), "A(b) - A(0), free to nudged; it must not be negative for b > 0."),
    ("saturation", "Saturation", "fraction", ("saturation",), "Box units at 0 or 1, which pass no signal on."),
    ("distance", "Distance of the phases", "r.m.s. per unit", ("distance",), "Last nudged phase from the free one."),
    ("gradient_norm", "Gradient", "norm", ("gradient_norm",), "Euclidean norm, mean over an epoch."),
    ("n_sweeps", "Sweeps", "sweeps", ("n_sweeps",), "Of the free phase, until it rests or its budget is spent."),
)


def nudged_sections(run: Run) -> tuple[str, str, list[Section]]:
    """Name, header and sections of the page.

    Args:
        run: run folder with metrics.csv.

    Raises:
        InputError: there are no metrics yet.
    """
    if not run.has("metrics.csv"):
        raise InputError(f"{run.path} has no metrics.csv yet; train first")
    table = run.metrics
    drawn, data = [], []
    for name, title, label, columns, note in PANELS:
        lines = [_curve(table, column, i) for i, column in enumerate(columns)]
        lines = [line for line in lines if line is not None]
        if lines:
            panel = Panel(name, title, label, note, tuple(lines))
            drawn.append(markup.figure(title, markup.chart(name, title), (note,), is_full=name == "error"))
            data.append(charts.curve_chart(panel))
    body = f'<section id="curves"><h2>Curves</h2><div class="charts">{"".join(drawn)}</div></section>'
    settings = escape((run.path / "config.toml").read_text(encoding="utf-8"))
    config = f'<section id="settings"><h2>Settings</h2><pre>{settings}</pre></section>'
    sections = [
        Section("result", "Result", _result(table), ()),
        Section("curves", "Curves", body, tuple(data)),
        Section("settings", "Settings", config, ()),
    ]
    name = run.path.resolve().name
    return name, f"<h1>{escape(name)}</h1>", sections


def _curve(table: dict[str, np.ndarray], column: str, i: int) -> Curve | None:
    y = table.get(column, np.empty(0))
    if not np.isfinite(y).any():
        return None
    error = table.get(f"{column}_stderr")
    half = None if error is None else 1.96 * error
    label = re.sub("_heldout", ", held out", column).replace("_", " ")
    return Curve(label, table["step"], y, "driver" if i == 0 else "auditor", half_width=half)


def _result(table: dict[str, np.ndarray]) -> str:
    rows = []
    for name, label in (("error", "wrong while learning"), ("error_heldout", "wrong, held out")):
        values = table.get(name, np.empty(0))
        if len(values) and np.isfinite(values[-1]):
            error = table.get(f"{name}_stderr")
            spread = "" if error is None else f" &plusmn; {error[-1]:.2%}"
            rows.append(f"<div><dt>{label}</dt><dd>{values[-1]:.2%}{spread}</dd></div>")
    rows.append(f"<div><dt>epochs</dt><dd>{int(table['epoch'][-1])}</dd></div>")
    glossary = f'<dl class="glossary">{"".join(rows)}</dl>'
    return f'<section id="result"><h2>Result</h2><div class="card">{glossary}</div></section>'
