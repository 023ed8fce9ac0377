"""The objective `dA = A(b) - A(0)` from samples, and what it must obey.

    forward    dA = -T log <exp(-b C / T)>_0                  reduced work b C / T of an instantaneous nudge
    BAR        both ends: works b C / T from the free phase, -b C / T from the nudged one
    TI         dA = int_0^b <C>_t dt
    ramp       dA = -T log <exp(-W / T)>                      work of a ramp

    b <C>_b  <=  dA = b <C>_b + T KL(pi_b | pi_0)  <=  b <C>_0 = dA + T KL(pi_0 | pi_b) .

for `b` of either sign; for `C >= 0` and `b > 0` also `dA >= 0`. A violation beyond errors proves that a phase is not in
equilibrium: the negative contrasts of deterministic relaxations are the T -> 0 shadow of it.

Reference:
    Litman 2025, theorems 4.2 and 5.1 (arXiv 2511.22024) at b = 1; any b here. Estimators: `thermo.estimators`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from quasistatic._results import Estimate
from quasistatic.errors import InputError
from quasistatic.thermo.estimators import bar, jarzynski

Costs = Float[np.ndarray, "examples n"] | Float[Array, "examples n"]
LIMIT = 4.0
"""Standard errors beyond which an inequality counts as violated."""


def forward(costs: Costs, nudge: float, temperature: float) -> Estimate:
    """`dA` from free samples, mean over examples. Args: `C`, examples first; `b`; `T`. High by about s.e.^2 / 2T."""
    return _over_examples(lambda c: jarzynski(nudge * c / temperature), temperature, costs)


def both_ends(free: Costs, nudged: Costs, nudge: float, temperature: float) -> Estimate:
    """`dA` by Bennett's ratio, mean over examples. Args: `C` of free and of nudged samples; `b`; `T`."""
    return _over_examples(
        lambda f, n: bar(nudge * f / temperature, -nudge * n / temperature), temperature, free, nudged
    )


def from_works(works: Costs, temperature: float) -> Estimate:
    """`dA` from the reduced works of a ramp, mean over examples. Args: `W / T`, examples first; `T`."""
    return _over_examples(jarzynski, temperature, works)


def integrated(costs: Sequence[Costs], weights: Sequence[float]) -> Estimate:
    """`dA = sum_j w_j <C>_{t_j}`, mean over examples. Args: `C` at each node; weights of the quadrature.

    The standard error is that of the means; the error of the quadrature is not in it.
    """
    if len(costs) != len(weights) or not costs:
        raise InputError(f"one weight per node is needed, got {len(weights)} weights for {len(costs)} nodes")
    means = [mean_cost(c) for c in costs]
    value = sum(float(w) * float(m.value or 0.0) for w, m in zip(weights, means, strict=True))
    errors = [m.stderr for m in means]
    if any(e is None for e in errors):
        return Estimate(value, None, None, "unknown", "TI", "too few walkers per example for a standard error")
    stderr = math.sqrt(sum((float(w) * float(e or 0.0)) ** 2 for w, e in zip(weights, errors, strict=True)))
    return Estimate(value, stderr, None, "unknown", "TI")


def mean_cost(costs: Costs, weight: Costs | None = None) -> Estimate:
    """`<C>` over samples, mean over examples, with its standard error. Args: `C`; weights that sum to one, or None."""
    c = np.asarray(costs, np.float64)
    if c.ndim != 2:
        raise InputError(f"costs have examples first and walkers second, got shape {c.shape}")
    w = np.full(c.shape, 1.0 / c.shape[1]) if weight is None else np.asarray(weight, np.float64)
    means = np.sum(w * c, axis=1)
    n_effective = 1.0 / np.sum(w**2, axis=1)
    value = float(means.mean())
    if n_effective.min() < 2:
        return Estimate(value, None, None, "none", "mean cost", "fewer than two effective walkers per example")
    variances = np.sum(w**2 * (c - means[:, None]) ** 2, axis=1) * n_effective / (n_effective - 1)
    return Estimate(
        value, math.sqrt(variances.sum()) / len(c), float(n_effective.min() / c.shape[1]), "none", "mean cost"
    )


@dataclass(frozen=True)
class Sandwich:
    """`b <C>_b <= dA <= b <C>_0` with errors.

    Args:
        lower: `b <C>_b`.
        middle: `dA`.
        upper: `b <C>_0`.
        violations: names of the inequalities that fail by more than `LIMIT` standard errors.
        can_fail: False where both bounds come from one set of samples, which obeys them whatever its law.
    """

    lower: Estimate
    middle: Estimate
    upper: Estimate
    violations: tuple[str, ...]
    can_fail: bool = True

    @property
    def is_consistent(self) -> bool:
        """Whether nothing contradicts equilibrium. It cannot prove it."""
        return not self.violations

    def as_json(self) -> dict[str, Any]:
        """Mapping of all fields."""
        parts = {name: getattr(self, name).as_json() for name in ("lower", "middle", "upper")}
        return {**parts, "violations": list(self.violations), "can_fail": self.can_fail}


def sandwich(
    free: Costs,
    nudged: Costs,
    nudge: float,
    delta_a: Estimate,
    *,
    weight: Costs | None = None,
    can_fail: bool = True,
) -> Sandwich:
    """Bounds on `dA`, and whether the phases respect them.

    Args:
        free: `C` of the free samples, examples first.
        nudged: `C` of the nudged samples.
        nudge: `b`, of either sign.
        delta_a: `dA` by any estimator.
        weight: weights of the nudged samples, or None.
        can_fail: False where the nudged samples are the free ones with weights.
    """
    lower, upper = mean_cost(nudged, weight).scale(nudge), mean_cost(free).scale(nudge)
    zero = Estimate(0.0, 0.0, None, "none", "exact")
    ordered = [
        ("b <C>_b <= dA", lower, delta_a),
        ("dA <= b <C>_0", delta_a, upper),
        ("b <C>_b <= b <C>_0", lower, upper),
    ]
    if nudge > 0 and min(float(np.min(free)), float(np.min(nudged))) >= 0:
        ordered.append(("dA >= 0", zero, delta_a))
    broken = tuple(name for name, small, large in ordered if _exceeds(small, large))
    return Sandwich(lower, delta_a, upper, broken, can_fail)


def _exceeds(small: Estimate, large: Estimate) -> bool:
    if small.value is None or large.value is None or small.stderr is None or large.stderr is None:
        return False
    excess = small.value - large.value
    # rounding of exact inputs is no violation
    return excess > LIMIT * math.hypot(small.stderr, large.stderr) + 1e-12 * (1 + abs(large.value))


def _over_examples(estimator: Callable[..., Estimate], temperature: float, *samples: Costs) -> Estimate:
    """Mean over examples of `T` times the estimates of reduced free energies."""
    arrays = [np.asarray(s, np.float64) for s in samples]
    if any(a.ndim != 2 or len(a) != len(arrays[0]) for a in arrays):
        raise InputError(f"costs have examples first and walkers second, got shapes {[a.shape for a in arrays]}")
    each = [estimator(*rows) for rows in zip(*arrays, strict=True)]
    method = each[0].method
    missing = next((e.reason for e in each if e.value is None), None)
    if missing is not None:
        return Estimate.withheld(missing, method)
    value = sum(float(e.value or 0.0) for e in each) / len(each) * temperature
    ess = min((e.ess for e in each if e.ess is not None), default=None)
    reason = next((e.reason for e in each if e.stderr is None), None)
    if reason is not None:
        return Estimate(value, None, ess, each[0].bias, method, reason)
    stderr = math.sqrt(sum(float(e.stderr or 0.0) ** 2 for e in each)) / len(each) * temperature
    return Estimate(value, stderr, ess, each[0].bias, method)
