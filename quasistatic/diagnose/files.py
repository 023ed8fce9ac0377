"""How healthy a run is, judged from its files alone: each check is one number with a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from quasistatic.diagnose.evidence import Evidence
from quasistatic.run import Run
from quasistatic.train.dissipated import is_slow_driving

LOW_ESS = 0.1
LOW_RATE = 1e-3
LARGE_ERROR = 0.3  # nats
LARGE_Z = 4.0


@dataclass(frozen=True)
class Check:
    """One verdict.

    Args:
        name: what was looked at.
        value: the number, None when the run has not recorded it.
        ok: True, False, or None when nothing can be said.
        note: what the number means, or what to do.
    """

    name: str
    value: float | None
    ok: bool | None
    note: str

    def as_json(self) -> dict[str, Any]:
        """Mapping with name, value, ok and note."""
        return {"name": self.name, "value": self.value, "ok": self.ok, "note": self.note}


@dataclass(frozen=True)
class Diagnosis:
    """Verdicts on a run.

    Args:
        run: folder.
        result: named outcome, None while the run is not finished.
        message: the outcome in words.
        step: last recorded step.
        checks: verdicts.
        regime: regime of the training, None with a `reason`.
        reason: why there is no regime.
        evidence: what the regime was told from.
        advice: what to do, in words.
    """

    run: str
    result: str | None
    message: str
    step: int | None
    checks: tuple[Check, ...]
    regime: str | None = None
    reason: str | None = None
    evidence: tuple[Evidence, ...] = ()
    advice: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Mapping with run, result, message, step, checks, regime, reason, evidence and advice."""
        return {
            "run": self.run,
            "result": self.result,
            "message": self.message,
            "step": self.step,
            "checks": [check.as_json() for check in self.checks],
            "regime": self.regime,
            "reason": self.reason,
            "evidence": [item.as_json() for item in self.evidence],
            "advice": list(self.advice),
        }


def diagnose_files(run: Run) -> Diagnosis:
    """Verdicts on the files of a run, finished or not, without a regime.

    Args:
        run: the run folder.

    Raises:
        InputError: a file of the run is damaged.
    """
    result = run.result or {}
    table = run.metrics if run.has("metrics.csv") else {}
    steps = table.get("step", np.empty(0))
    checks = (
        _driver(run, table),
        *(_auditor(run, table)),
        _rate(table),
        _driving(table),
        _exact(table),
    )
    return Diagnosis(
        str(run.path),
        result.get("result"),
        str(result.get("message") or "not finished"),
        int(steps[-1]) if len(steps) else None,
        checks,
    )


def _column(table: dict[str, np.ndarray], name: str) -> np.ndarray:
    values = table.get(name, np.empty(0))
    return values[np.isfinite(values)]


def _ess(table: dict[str, np.ndarray], column: str, name: str) -> Check:
    values = _column(table, column)
    if not len(values):
        return Check(name, None, None, "not recorded")
    lowest = float(values.min())
    note = "fraction of the walkers" if lowest >= LOW_ESS else "few walkers carry the weight"
    return Check(name, lowest, lowest >= LOW_ESS, note)


def _driver(run: Run, table: dict[str, np.ndarray]) -> Check:
    """The driver's weights matter where they make the gradient; elsewhere they only show its feedback."""
    found = _ess(table, "ess_driver", "driver's ESS, lowest")
    method = run.config.get("training", {}).get("method")
    if method == "jarzynski" or found.value is None:
        return found
    return Check(found.name, found.value, None, f"its weights are not used by {method}")


def _auditor(run: Run, table: dict[str, np.ndarray]) -> list[Check]:
    section = run.config.get("auditor", {})
    if not (section.get("n_groups") and section.get("n_walkers")):
        note = "none; evaluate brackets log Z instead"
        return [Check("auditor", None, None, note)]
    n_rows = len(table.get("step", ()))
    errors = _column(table, "log_z_stderr")
    checks = [_ess(table, "ess_auditor", "auditor's ESS, lowest")]
    if n_rows:
        withheld = 1 - len(_column(table, "log_z")) / n_rows
        note = "fraction" if withheld == 0 else "fraction: the path is too fast at times"
        checks.append(Check("records without log Z", withheld, withheld == 0, note))
    if len(errors):
        largest = float(errors.max())
        note = "nats" if largest <= LARGE_ERROR else "nats: enlarge the auditor"
        checks.append(Check("error of log Z, largest", largest, largest <= LARGE_ERROR, note))
    return checks


def _rate(table: dict[str, np.ndarray]) -> Check:
    for column, words in (("flip_rate", "flipped units per sweep"), ("accept_rate", "accepted moves")):
        values = _column(table, column)
        if len(values):
            last = float(values[-1])
            note = words if last >= LOW_RATE else f"{words}: hardly any"
            return Check(f"{column.replace('_', ' ')}, last", last, last >= LOW_RATE, note)
    return Check("flip rate", None, None, "the kernel reports none")


def _driving(table: dict[str, np.ndarray]) -> Check:
    """Whether lag and feedback, as estimated while training, explain the excess work that was measured."""
    name = "predicted over measured excess work, last"
    ratio = _column(table, "predicted_ratio")
    if not len(ratio):
        return Check(name, None, None, "no measured excess work to compare with")
    last = float(ratio[-1])
    row = np.flatnonzero(np.isfinite(table["predicted_ratio"]))[-1]
    excess, error = float(table["excess_work"][row]), float(table["excess_work_stderr"][row])
    notes = {
        True: "slow driving: the metric says what an update costs",
        False: "walkers dissipate behind barriers" if last < 1 else "updates are too large for linear response",
        None: "within two standard errors of the border of slow driving",
    }
    is_slow = is_slow_driving(last, last * error / excess)
    return Check(name, last, is_slow, notes[is_slow])


def _exact(table: dict[str, np.ndarray]) -> Check:
    name = "live vs exact log Z, |z|"
    columns = [table.get(column) for column in ("log_z", "log_z_stderr", "log_z_exact")]
    if any(column is None for column in columns):
        return Check(name, None, None, "no exact value is stored")
    live, error, exact = (np.asarray(column) for column in columns)
    is_known = np.isfinite(live) & np.isfinite(exact) & (error > 0)
    if not is_known.any():
        return Check(name, None, None, "no exact value is stored")
    z = float(np.max(np.abs(live - exact)[is_known] / error[is_known]))
    note = f"standard errors, worst of {int(is_known.sum())}" if math.isfinite(z) else "not finite"
    return Check(name, z, z <= LARGE_Z, note)
