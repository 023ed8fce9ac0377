"""Evidence from the files of a run: its outcome, its score, its gradient, its flips."""

from __future__ import annotations

import json

import numpy as np

from quasistatic.diagnose.evidence import Evidence, Probe
from quasistatic.errors import InputError
from quasistatic.evaluate.mixing import linear_drift
from quasistatic.run import Run
from quasistatic.thermo.replicas import TORN
from quasistatic.train.alarm import FACTOR, growth

FEWEST_FLIPS = 1e-3
WORSE = 0.1
"""Share of the first score by which the last one may be below it."""
MIN_ROWS = 8
WORSE_LATER = 3.0
"""Second-moment error of the longest runs over the least one that tells a model of short runs."""


def recorded_evidence(run: Run, probe: Probe | None) -> list[Evidence]:
    """What `metrics.csv`, `result.json` and, where `quality` has been run, `quality.json` say about the regime."""
    del probe
    found = [*_outcome(run), *_quality(run)]
    if not run.has("metrics.csv"):
        return found
    table = run.metrics
    return [*found, *_score(table), *_drift(table), *_jump(table), *_flips(table), *_exchanges(table)]


def _column(table: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    values = table.get(name, np.empty(0))
    steps = table.get("step", np.empty(0))
    is_known = np.isfinite(values)
    return steps[is_known], values[is_known]


def _outcome(run: Run) -> list[Evidence]:
    outcome = (run.result or {}).get("result")
    regime = {
        "nonfinite_energy": "diverging", "nonfinite_parameters": "diverging", "frozen_chains": "frozen"
    }.get(str(outcome))  # fmt: skip
    if regime is None:
        return []
    return [Evidence("outcome", 1.0, 1.0, None, regime, f"the run ended itself: {outcome}")]


def _quality(run: Run) -> list[Evidence]:
    """Samples that are best at the `k` of the training and worse later are made by the dynamics, not by the model."""
    path = run.path / "quality.json"
    if not path.is_file():
        return []
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        k, times, last = int(read["k"]), list(read["times"]), list(read["ages"].values())[-1]
        errors = [np.nan if e is None else float(e) for e in last["scores"]["second_error"]]
        crossing, forgotten = last["gap"]["crossing"], last["mixing_time"]
        best = int(np.nanargmin(errors))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}); delete it, or run quality again") from None
    ratio, t = errors[-1] / max(errors[best], np.finfo(float).tiny), times[best]
    is_best_at_k = ratio > WORSE_LATER and k / 2 <= t <= 2 * k
    met = "never meets" if crossing is None else f"meets at t = {crossing:.3g}"
    words = (
        f"second-moment error of samples after {times[-1]:,} sweeps over the least, which is at t = {t:,} (k = {k:,}); "
        f"their mean potential {met} that of the data; mixing time "
        + (f"above {times[-1] // 2:,}" if forgotten is None else f"about {forgotten:,}")
        + " sweeps"
    )
    regime = "out_of_equilibrium" if is_best_at_k else None
    return [Evidence("quality against sampling time", ratio, WORSE_LATER, None, regime, words)]


def _score(table: dict[str, np.ndarray]) -> list[Evidence]:
    """The score of held-out rows below that of the untrained model says that learning goes the wrong way."""
    _, score = _column(table, "score")
    if len(score) < 2:
        return []
    change, threshold = float(score[-1] - score[0]), -WORSE * abs(float(score[0]))
    is_worse = change < threshold
    words = "held-out score, change since the first record" + (": worse than the untrained model" if is_worse else "")
    return [Evidence("score change", change, threshold, None, "diverging" if is_worse else None, words)]


def _drift(table: dict[str, np.ndarray]) -> list[Evidence]:
    """Log of the gradient over the later half: it grows steadily where learning runs away."""
    steps, norm = _column(table, "gradient_norm")
    half = len(norm) // 2
    steps, norm = steps[half:], norm[half:]
    if len(norm) < MIN_ROWS or not np.all(norm > 0):
        return []
    drift = linear_drift(np.log(norm), steps)
    span = float(steps[-1] - steps[0])
    grown, error, threshold = drift.slope * span, drift.stderr * span, float(np.log(2.0))
    is_growing = grown > threshold and grown > 4 * error
    words = "growth of the log gradient norm over the later half" + (": it runs away" if is_growing else "")
    # alone it is no verdict: a model that still learns can have a growing gradient
    return [Evidence("gradient growth", grown, threshold, error, None, words)]


def _jump(table: dict[str, np.ndarray]) -> list[Evidence]:
    """A gradient that has left its range by orders of magnitude: `train` warned about it."""
    _, norm = _column(table, "gradient_norm")
    times = growth(norm.tolist())
    if times is None:
        return []
    is_wild = times > FACTOR
    words = "gradient norm over its median, last record" + (": it has run away" if is_wild else "")
    return [Evidence("gradient jump", times, FACTOR, None, "diverging" if is_wild else None, words)]


def _flips(table: dict[str, np.ndarray]) -> list[Evidence]:
    _, rate = _column(table, "flip_rate")
    if not len(rate):
        return []
    last = float(rate[-1])
    is_still = last < FEWEST_FLIPS
    words = "units that a sweep changes, last record" + (": hardly any" if is_still else "")
    return [Evidence("flip rate", last, FEWEST_FLIPS, None, "frozen" if is_still else None, words)]


def _exchanges(table: dict[str, np.ndarray]) -> list[Evidence]:
    """Whether stacks still exchange replicas. A torn ladder says nothing about the regime, only that it is no help."""
    _, accepted = _column(table, "rung_acceptance")
    if not len(accepted):
        return []
    last = float(accepted[-1])
    words = "exchanges of replicas that are accepted, last record"
    if last < TORN:
        words += ": the ladder is torn, none goes from end to end; see exchange.n_rungs (tempering) or exchange.target"
    return [Evidence("exchanges", last, TORN, None, None, words)]
