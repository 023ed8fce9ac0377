"""The ladder of a run that trained with replicas: its rungs, and what happened to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quasistatic.report.markup import escape
from quasistatic.report.sections import Section
from quasistatic.run import Run

WORDS = {"frozen": "model frozen into a rung", "ladder_torn": "torn: updates undone, rate lowered"}


def ladder_sections(run: Run) -> list[Section]:
    """The section about the ladder, or none for a run without one. Args: run, a run folder."""
    found = (run.result or {}).get("ladder")
    if not isinstance(found, dict):
        return []
    accepted, errors = found["acceptance"], found["acceptance_stderr"]
    rungs = [
        (str(k), f"{1 / beta:.3f}", _accepted(accepted, errors, k)) for k, beta in enumerate(found["betas"])
    ]  # the last one is the model
    events = [
        (f"{event['step']:,}", WORDS[event["name"]], f"{event['acceptance']:.3f}",
         str(event["n_rungs"]), f"{event['lr_scale']:.3g}") for event in found["events"]
    ]  # fmt: skip
    note = (
        f"Every walker is a stack of {found['n_rungs']} replicas, one in each rung; the last rung is the model. Round "
        f"trips from end to end per stack and round: {found['round_trips']:.2g}."
    )
    body = f'<p class="small">{escape(note)}</p>' + _table(("rung", "T", "exchanges with the next"), rungs)
    if events:
        body += _table(("step", "what happened", "acceptance", "rungs", "rate factor"), events)
    return [Section("ladder", "Ladder", f'<section id="ladder"><h2>Ladder</h2>{body}</section>')]


def _accepted(accepted: list[float], errors: list[Any], k: int) -> str:
    if k >= len(accepted):
        return "\u2013"
    return f"{accepted[k]:.3f}" + (f" \u00b1 {errors[k]:.3f}" if errors[k] is not None else "")


def _table(names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="card scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
