"""The last words of a run: its numbers with their errors, the exact ones beside them, the report's path."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from quasistatic.cli.live import clock, with_error
from quasistatic.errors import InputError
from quasistatic.run import Run
from quasistatic.thermo.replicas import TORN
from quasistatic.train.checkpoint import write_text

LABELS = {"ll_heldout": "held-out log-likelihood", "ll_train": "training log-likelihood", "log_z": "log Z"}


def print_result(run: Run) -> None:
    """Prints what a finished run has come to, on standard output."""
    result = run.result or {}
    final = result.get("final") or {}
    exact = final.get("exact") or {}
    driver = final.get("driver") or {}
    took = result.get("time_total")
    print(f"{run.path.name}: {result.get('step', 0):,} steps" + (f" in {clock(took)}" if took else ""))
    rows: list[tuple[str, str, str]] = []
    for name, label in LABELS.items():
        if name not in final:
            continue
        rows.append((label, *_live(final[name])))
        if exact.get(name) is not None:
            rows.append(("exact", f"{exact[name]:.4f}", "nats, exact"))
        if driver.get(name) is not None and name == "ll_heldout":
            rows.append(("driver's own", f"{driver[name]:.4f}", "nats, optimistic: feedback"))
    bias = driver.get("feedback_bias") or {}
    if bias.get("value") is not None:
        value = with_error(bias["value"], bias.get("stderr"))
        rows.append(("feedback bias", value, "nats, estimated, of the driver's log Z"))
    _print_columns(rows)
    if result.get("ladder"):
        print(_ladder(result["ladder"]))
    for line in _recovery(run):
        print(line)
    report = result.get("report")
    if report:
        print(f"report: {run.path / report}")


def _live(estimate: dict[str, Any]) -> tuple[str, str]:
    if estimate.get("value") is None:
        return "withheld", str(estimate.get("reason", ""))
    return with_error(estimate["value"], estimate.get("stderr")), "nats, live, from the auditor"


def _ladder(found: dict[str, Any]) -> str:
    """A training on a ladder, in a line."""
    accepted = found["acceptance"]
    torn = f"; torn {found['n_torn']} times" if found["n_torn"] or found["n_frozen"] else ""
    line = (
        f"  ladder of {found['n_rungs']} rungs, exchanges accepted {min(accepted):.2f} to {max(accepted):.2f}{torn}, "
        f"round trips {found['round_trips']:.2g} per stack and round"
    )
    if min(accepted) < TORN:
        remedy = "raise exchange.target" if found["n_frozen"] else "more exchange.n_rungs, or a lower exchange.hottest"
        line += f"\n  the ladder is torn between two rungs, no replica goes from end to end: {remedy}"
    return line


def _print_columns(rows: list[tuple[str, str, str]]) -> None:
    if not rows:
        return
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    for label, value, note in rows:
        print(f"  {label:>{widths[0]}}  {value:<{widths[1]}}  {note}".rstrip())


def _recovery(run: Run) -> list[str]:
    """Errors of the couplings where the truth is known."""
    config = run.config
    if config.get("data", {}).get("source") != "ising" or config.get("model", {}).get("kind") != "pairwise":
        return []
    from quasistatic.cli.load import load
    from quasistatic.cli.spins import recovery

    loaded = load(run.path)
    model = loaded.averaged or loaded.model
    found = recovery(model, loaded.settings.data.n_samples)  # pyright: ignore[reportArgumentType]
    name = "averaged couplings" if loaded.averaged is not None else "couplings"
    return [
        f"  {name}: r.m.s. error {found.rms:.4f}, expected from the data {found.rms_expected:.4f}; "
        f"chi2/dof {found.chi2 / found.dof:.2f} ({found.z:+.1f} sigma)"
    ]


def write_report_of(folder: Path) -> None:
    """Writes report.html and notes it in result.json."""
    from quasistatic.report import write_report

    try:
        path = write_report(folder)
    except InputError as error:  # the run itself is complete
        print(f"quasistatic: no report: {error}", file=sys.stderr)
        return
    result = Run(folder).result or {}
    result["report"] = path.name
    write_text(folder / "result.json", json.dumps(result, indent=1) + "\n")
