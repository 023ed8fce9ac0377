"""Interleaved rounds and their table, for all benchmarks."""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

PAUSE = 0.5
"""Seconds between candidates: OpenMP threads of the other library spin for 0.2 s after their last parallel region."""


def arguments(description: str | None, rounds: int) -> argparse.Namespace:
    """Command line of a benchmark. Args: its docstring; rounds by default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def first_calls(candidates: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Results of the first calls, which compile."""
    results = {}
    for name, candidate in candidates.items():
        started = time.perf_counter()
        results[name] = candidate()
        print(f"{name:28s} first call {time.perf_counter() - started:6.2f} s")
    return results


def interleaved(candidates: dict[str, Callable[[], Any]], n_rounds: int, n_per_call: int) -> dict[str, list[float]]:
    """Milliseconds per unit of work of every round; a call does `n_per_call` units and returns when they are done."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(n_rounds):
        for name, candidate in candidates.items():
            time.sleep(PAUSE)
            started = time.perf_counter()
            candidate()
            times[name].append((time.perf_counter() - started) / n_per_call * 1e3)
    return times


def report(times: dict[str, list[float]], reference: str, *, as_json: bool) -> None:
    """Medians, spreads, and the median ratio to a candidate within rounds."""
    rows = []
    for name, values in times.items():
        ratio = statistics.median(v / o for v, o in zip(values, times[reference], strict=True))
        median = statistics.median(values)
        rows.append({"name": name, "median_ms": median, "min_ms": min(values), "max_ms": max(values), "ratio": ratio})
        print(f"{name:28s} {median:7.1f} ms  [{min(values):.1f}, {max(values):.1f}]  {ratio:5.2f} x {reference}")
    if as_json:
        print(json.dumps({"device": jax.devices()[0].device_kind, "rows": rows}))
