"""What a computation can say about itself: estimates with their errors, and named outcomes of a run.

An `Estimate` never travels without the things that make it usable: its standard error, the effective sample
size behind it, the direction of its bias, and the method. What cannot be given honestly is `None`, with a
reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from scipy.special import ndtri, stdtrit

_OPPOSITE_BIAS = {"low": "high", "high": "low"}


@dataclass(frozen=True)
class Estimate:
    """Number estimated from samples, in nats unless the method says otherwise.

    A value or standard error that is not finite is withheld (set to `None`) and the reason says so: JSON has
    no `nan`.

    Args:
        value: The estimate, or `None` when it is withheld.
        stderr: Its standard error (one sigma), or `None` when it is withheld.
        ess: Effective sample size as a fraction of the walkers, in (0, 1], or `None` when it has no meaning
            here.
        bias: Direction in which the value is off on average: "none", "low", "high" or "unknown".
        method: How it was obtained, in a few words.
        reason: Why something is withheld.
        dof: Degrees of freedom of the standard error; `None` means a normal law.
    """

    value: float | None
    stderr: float | None
    ess: float | None
    bias: str
    method: str
    reason: str | None = None
    dof: float | None = None

    def __post_init__(self) -> None:
        for name in ("value", "stderr", "ess"):
            number = getattr(self, name)
            if number is None:
                continue
            number = float(number)
            if not math.isfinite(number):
                reason = self.reason or f"the {name} is not finite ({number})"
                object.__setattr__(self, "reason", reason)
                number = None
            object.__setattr__(self, name, number)
        if self.value is None:
            object.__setattr__(self, "stderr", None)

    @classmethod
    def withheld(cls, reason: str, method: str) -> Estimate:
        """Estimate without a value: `reason` says why."""
        return cls(None, None, None, "unknown", method, reason)

    @property
    def is_withheld(self) -> bool:
        """Whether there is no value."""
        return self.value is None

    def as_json(self) -> dict[str, Any]:
        """Mapping with value, stderr, ess, bias, method, and reason when something is withheld."""
        fields: dict[str, Any] = {
            "value": self.value,
            "stderr": self.stderr,
            "ess": self.ess,
            "bias": self.bias,
            "method": self.method,
        }
        if self.reason is not None:
            fields["reason"] = self.reason
        return fields

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Two-sided confidence interval `value -+ q stderr`, or `None` without a value or a standard error.

        Args:
            level: Coverage, in (0, 1). `q` is Student's quantile with `dof` degrees of freedom, normal
                without.
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level must be between 0 and 1, got {level}; the usual choice is 0.95")
        if self.value is None or self.stderr is None:
            return None
        upper_tail = 0.5 + level / 2
        quantile = float(ndtri(upper_tail) if self.dof is None else stdtrit(self.dof, upper_tail))
        return self.value - quantile * self.stderr, self.value + quantile * self.stderr

    def shift(self, c: float) -> Estimate:
        """Estimate of `value + c` for an exactly known `c`."""
        return replace(self, value=None if self.value is None else self.value + float(c))

    def scale(self, c: float) -> Estimate:
        """Estimate of `c value` for an exactly known `c`; a negative `c` turns the bias around."""
        return replace(
            self,
            value=None if self.value is None else self.value * float(c),
            stderr=None if self.stderr is None else self.stderr * abs(float(c)),
            bias=_OPPOSITE_BIAS.get(self.bias, self.bias) if c < 0 else self.bias,
        )

    def __add__(self, c: float) -> Estimate:
        return self.shift(c)

    def __radd__(self, c: float) -> Estimate:
        return self.shift(c)

    def __sub__(self, c: float) -> Estimate:
        return self.shift(-c)

    def __rsub__(self, c: float) -> Estimate:
        return self.scale(-1.0).shift(c)

    def __neg__(self) -> Estimate:
        return self.scale(-1.0)


class RESULTS(IntEnum):
    """Outcome of a run, folded into the train state as an integer and inspected between chunks."""

    ok = 0
    nonfinite_energy = 1
    nonfinite_parameters = 2
    ess_collapsed = 3
    frozen_chains = 4
    temperature_clamped = 5
    ladder_torn = 6

    @property
    def message(self) -> str:
        """What happened, in one line."""
        return _OUTCOMES[self][0]

    @property
    def remedy(self) -> str:
        """What to do about it, in one line; empty for `ok`."""
        return _OUTCOMES[self][1]


_OUTCOMES = {
    RESULTS.ok: ("the run is in order", ""),
    RESULTS.nonfinite_energy: (
        "a walker reached an energy that is not finite",
        "lower kernel.step_size or optimiser.rate, or bound the energy where the walkers escape",
    ),
    RESULTS.nonfinite_parameters: (
        "a parameter of the model is not finite",
        "lower optimiser.rate, or add an L2 penalty (training.l2)",
    ),
    RESULTS.ess_collapsed: (
        "the effective sample size of the driving walkers collapsed: a few of them carry all the weight",
        "lower optimiser.rate, raise kernel.n_sweeps or training.n_walkers, or raise training.resample_below",
    ),
    RESULTS.frozen_chains: (
        "the walkers no longer move: almost no unit flips, or almost no proposal is accepted",
        "lower kernel.step_size, raise kernel.n_sweeps, or keep the weights small (training.l2)",
    ),
    RESULTS.temperature_clamped: (
        "the temperature is pinned at the limit of its regulator, which therefore controls nothing",
        "raise the limit (temperature.highest), lower optimiser.rate or temperature.set_point, or add an L2 penalty "
        "(training.l2)",
    ),
    RESULTS.ladder_torn: (
        "the ladder of replicas has torn: hardly any exchange between the model and the last frozen rung is accepted",
        "lower the learning rate (and the slew of a thermostat), or look at the ladder more often (exchange.every)",
    ),
}
