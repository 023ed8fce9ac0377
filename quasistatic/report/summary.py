"""The headline numbers of a run: every estimate with its error, its source, and whose parameters it rates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from quasistatic._results import RESULTS, Estimate
from quasistatic.errors import InputError
from quasistatic.plots.panels import auditor_dof
from quasistatic.run import Run

QUANTITIES = {
    "ll_heldout": "held-out log-likelihood",
    "ll_train": "training log-likelihood",
    "ll_test": "test log-likelihood",
    "log_z": "log Z",
    "feedback_bias": "bias of the driver's log Z, estimated",
}
_SOURCES = {
    "": "live (auditor)",
    "driver": "driver's own (optimistic)",
    "exact": "exact (enumeration)",
    "ema": "averaged parameters",
    "averaged": "averaged parameters",
}
_AVERAGED = {"ema", "averaged"}


@dataclass(frozen=True)
class Number:
    """One estimate of one quantity.

    Args:
        quantity: Key of `QUANTITIES`, or another name as the file has it.
        source: "" for the live number, else "driver", "exact", ... as the file has it.
        parameters: "raw" or "averaged": the parameters that the number belongs to.
        estimate: The number with its error; exact numbers have error 0.
    """

    quantity: str
    source: str
    parameters: str
    estimate: Estimate

    @property
    def label(self) -> str:
        """Name of the quantity in words."""
        return QUANTITIES.get(self.quantity, self.quantity)

    @property
    def origin(self) -> str:
        """Name of the source in words."""
        return _SOURCES.get(self.source, self.source)


@dataclass(frozen=True)
class Summary:
    """What a run has come to.

    Args:
        outcome: Name of the result, or `None` while the run is not finished.
        message: What happened, in the run's words.
        remedy: What to do about a failure; empty otherwise.
        step: Last step; `None` when nothing is recorded.
        n_steps: Steps asked for, when known.
        time_total: Seconds, when known.
        numbers: Every estimate, the live ones first.
        ess: Effective sample size of the driver's and the auditor's walkers, as fractions, where known.
    """

    outcome: str | None
    message: str
    remedy: str
    step: int | None
    n_steps: int | None
    time_total: float | None
    numbers: tuple[Number, ...]
    ess: dict[str, float]

    def find(self, quantity: str, source: str = "", parameters: str | None = None) -> Number | None:
        """The first number of a quantity from a source, or `None`."""
        for number in self.numbers:
            if (number.quantity, number.source) == (quantity, source):
                if parameters is None or number.parameters == parameters:
                    return number
        return None


def summarise(run: Run) -> Summary:
    """Reads `result.json`, or the last row of `metrics.csv` while there is none.

    Raises:
        InputError: When `result.json` is not what a run writes.
    """
    result = run.result
    table = run.metrics if run.has("metrics.csv") else {}
    last = {name: float(column[-1]) for name, column in table.items() if len(column)}
    section = run.config.get("run")
    n_steps = section.get("n_steps") if isinstance(section, dict) else None
    dof = auditor_dof(run)
    of_row = _numbers_of_row(last, dof)
    if result is None:
        step = int(last["step"]) if "step" in last else None
        ess = _ess(last)
        return Summary(None, "", "", step, _integer(n_steps), last.get("time_elapsed"), of_row, ess)
    outcome = result.get("result")
    if not isinstance(outcome, str):
        raise InputError(f"{run.path / 'result.json'} names no result; it was not written by quasistatic")
    known = RESULTS.__members__.get(outcome)
    remedy = known.remedy if known is not None else ""
    message = str(result.get("message") or (known.message if known is not None else ""))
    final = result.get("final")
    return Summary(
        outcome,
        message.removesuffix(remedy).rstrip(" ;") if remedy else message,
        remedy,
        _integer(result.get("step")),
        _integer(result.get("n_steps")) or _integer(n_steps),
        _real(result.get("time_total")) or last.get("time_elapsed"),
        tuple(_numbers(final, dof)) if isinstance(final, dict) else of_row,
        _ess({**last, **final} if isinstance(final, dict) else last),
    )


def _numbers(final: dict[str, Any], dof: int | None) -> list[Number]:
    """Estimates of `final`: at the top the live ones, in every object without a value another source's."""
    default = str(final.get("parameters", "raw"))
    found = []
    for key, content in final.items():
        if isinstance(content, dict) and "value" in content:
            found.append(_number(key, "", default, content, dof))
        elif isinstance(content, dict):
            parameters = str(content.get("parameters", "averaged" if key in _AVERAGED else default))
            for quantity, number in content.items():
                if _is_number(number):
                    found.append(_number(quantity, key, parameters, number, dof))
    order = list(QUANTITIES)
    ranked = sorted(found, key=lambda n: order.index(n.quantity) if n.quantity in order else len(order))
    return sorted(ranked, key=lambda n: n.source != "")


def _numbers_of_row(row: dict[str, float], dof: int | None) -> tuple[Number, ...]:
    """Estimates of the last row: live numbers and the driver's own, of the raw parameters."""
    found = []
    for quantity, error in (("ll_heldout", "ll_stderr"), ("ll_train", "ll_stderr"), ("log_z", "log_z_stderr")):
        value, stderr = _real(row.get(quantity)), _real(row.get(error))
        reason = None if value is not None else "not in the last row of metrics.csv"
        estimate = Estimate(value, stderr, None, "unknown", "auditor", reason, dof)
        found.append(Number(quantity, "", "raw", estimate))
    columns = (("ll_heldout", "driver", "ll_heldout_driver"), ("log_z", "driver", "log_z_driver"))
    for quantity, source, column in (*columns, ("log_z", "exact", "log_z_exact")):
        if _real(row.get(column)) is not None:
            found.append(_number(quantity, source, "raw", row[column], None))
    if (bias := _real(row.get("feedback_bias"))) is not None:
        content = {"value": bias, "stderr": row.get("feedback_bias_stderr"), "method": "halves of the driver"}
        found.append(_number("feedback_bias", "driver", "raw", content, None))
    return tuple(found)


def _number(quantity: str, source: str, parameters: str, content: Any, dof: int | None) -> Number:
    if not isinstance(content, dict):
        bias = {"exact": "none", "driver": "low" if quantity == "log_z" else "high"}.get(source, "unknown")
        stderr = 0.0 if source == "exact" else None
        estimate = Estimate(_real(content), stderr, None, bias, source or "unknown")
        return Number(quantity, source, parameters, estimate)
    estimate = Estimate(
        _real(content.get("value")),
        _real(content.get("stderr")),
        _real(content.get("ess")),
        str(content.get("bias", "unknown")),
        str(content.get("method", "unknown")),
        None if content.get("reason") is None else str(content["reason"]),
        dof if source == "" else None,
    )
    return Number(quantity, source, str(content.get("parameters", parameters)), estimate)


def _ess(content: dict[str, Any]) -> dict[str, float]:
    fractions = {role: _real(content.get(f"ess_{role}")) for role in ("auditor", "driver")}
    return {role: fraction for role, fraction in fractions.items() if fraction is not None}


def _is_number(content: Any) -> bool:
    if isinstance(content, dict):
        return "value" in content
    return isinstance(content, int | float) and not isinstance(content, bool)


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _real(value: Any) -> float | None:
    is_real = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
    return float(value) if is_real and math.isfinite(value) else None
