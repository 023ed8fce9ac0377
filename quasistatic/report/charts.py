"""The charts of the page as data: one strict JSON object, free of markup, that `page.js` hands to Plotly."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from quasistatic.plots import POPULATIONS, views
from quasistatic.plots.panels import PALETTE, Curve, Panel
from quasistatic.run import Archive

N_POINTS_MAX = 3000  # of a curve; a longer one is thinned, its first and last points kept
N_DOTS_MAX = 2000

Chart = dict[str, Any]


def curve_chart(panel: Panel) -> Chart:
    """Chart of curves over training steps."""
    return {
        "id": panel.name,
        "kind": "curves",
        "y_label": panel.y_label,
        "bounds": None if panel.bounds is None else list(panel.bounds),
        "zero": panel.zero,
        "curves": [_curve(curve) for curve in panel.curves],
    }


def weight_chart(weights: dict[str, views.Weights]) -> Chart:
    """Histograms of the relative weights of populations, in common bins."""
    bars = []
    for role, w in weights.items():
        edges, share = views.histogram(w, list(weights.values()))
        label = f"{role}, ESS {w.ess:.2f}"
        bars.append({"label": label, "role": role, "edges": _plain(edges), "share": _plain(share)})
    return {"id": "weights", "kind": "bars", "y_label": "share of the walkers", "bars": bars}


def couplings_chart(matrix: np.ndarray) -> Chart:
    """Matrix of couplings, coloured around zero."""
    rows = [_plain(row) for row in matrix]
    return {"id": "couplings", "kind": "heat", "values": rows, "limit": views.symmetric_limit(matrix)}


def scatter_chart(arrays: Archive) -> Chart | None:
    """Walkers that live in the plane, and the means of a mixture."""
    clouds = []
    for population, role in reversed(POPULATIONS):  # the smaller population on top
        x = views.planar(arrays, population)
        if x is not None:
            chosen = x[_thinned(len(x), N_DOTS_MAX)]
            cloud = {"label": role, "role": role, "x": _plain(chosen[:, 0]), "y": _plain(chosen[:, 1])}
            clouds.append(cloud)
    if not clouds:
        return None
    means = views.planar_means(arrays)
    centres = None if means is None else {"x": _plain(means[:, 0]), "y": _plain(means[:, 1])}
    return {"id": "scatter", "kind": "scatter", "clouds": clouds, "means": centres}


def as_script(charts: Iterable[Chart]) -> str:
    """JSON of charts and palette that can stand inside a script element: no `<`, no `&`, no nan."""
    text = json.dumps({"palette": PALETTE, "charts": list(charts)}, allow_nan=False, separators=(",", ":"))
    escapes = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
    for character, escape in escapes.items():
        text = text.replace(character, escape)
    return text


def _curve(curve: Curve) -> dict[str, Any]:
    kept = _thinned(len(curve.x), N_POINTS_MAX)
    return {
        "label": curve.label,
        "role": curve.role,
        "style": curve.style,
        "symbol": curve.symbol,
        "x": _plain(curve.x[kept]),
        "y": _plain(curve.y[kept]),
        "half_width": None if curve.half_width is None else _plain(curve.half_width[kept]),
    }


def _thinned(n: int, n_max: int) -> np.ndarray:
    return np.arange(n) if n <= n_max else np.linspace(0, n - 1, n_max).astype(int)


def _plain(values: np.ndarray) -> list[float | None]:
    """Numbers for JSON, every digit kept; `None` for what is not finite."""
    return [float(value) if np.isfinite(value) else None for value in values]
