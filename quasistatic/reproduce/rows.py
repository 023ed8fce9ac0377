"""One compared number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from quasistatic._results import Estimate

SIGMAS = 4.5  # two-sided: a true row fails about once in 150,000 times


@dataclass(frozen=True)
class Row:
    """A number beside the number that was expected.

    Args:
        quantity: what is compared, with its unit.
        expected: exact or published value.
        measured: what came out; None when it was withheld.
        stderr: standard error of `measured`; 0 for identities.
        tolerance: largest difference that agrees.
    """

    quantity: str
    expected: float
    measured: float | None
    stderr: float | None
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether measured and expected agree."""
        if self.measured is None or not math.isfinite(self.measured):
            return False
        return bool(abs(self.measured - self.expected) <= self.tolerance)

    @classmethod
    def of(cls, quantity: str, expected: float, estimate: Estimate) -> Row:
        """Row that tolerates `SIGMAS` standard errors of an estimate."""
        tolerance = SIGMAS * estimate.stderr if estimate.stderr is not None else 0.0
        return cls(quantity, expected, estimate.value, estimate.stderr, tolerance)

    def as_json(self) -> dict[str, Any]:
        """Mapping with quantity, expected, measured, stderr, tolerance and ok."""
        return {
            "quantity": self.quantity,
            "expected": self.expected,
            "measured": None if self.measured is None else float(self.measured),
            "stderr": None if self.stderr is None else float(self.stderr),
            "tolerance": self.tolerance,
            "ok": self.ok,
        }
