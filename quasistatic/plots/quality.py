"""Quality against sampling time as pictures: heat maps over the ages of a run, and curves of its last one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

NAMES = {
    "second_error": "second moments",
    "third_error": "third moments",
    "spectrum_error": "spectrum",
    "aats_error": "nearest neighbours",
    "mmd": "kernel discrepancy",
    "entropy_error": "entropy (compressed size)",
}
"""Scores that are drawn, with their titles."""


def quality_figure(found: Mapping[str, Any]) -> Figure:
    """Heat maps (age against sampling time) of six scores; with a single age, curves.

    Args:
        found: contents of a run's `quality.json`.
    """
    from quasistatic.plots import grid_of, styled

    ages, times = [int(age) for age in found["ages"]], np.asarray(found["times"])
    figure, axes = grid_of(2, 3)
    with styled():
        for ax, (name, title) in zip(axes, NAMES.items(), strict=True):
            rows = [age["scores"][name] for age in found["ages"].values()]
            values = np.array([[np.nan if v is None else v for v in row] for row in rows], float)
            if len(ages) > 1:
                _heat(figure, ax, ages, times, values)
            else:
                ax.loglog(times, values[0], color="#1F6FB4", marker="o", markersize=3)
            ax.axvline(found["k"], color="#C8501E", linewidth=1.2, linestyle=(0, (4, 2)))
            ax.set_xscale("log")
            ax.set_title(f"error of {title}" if not name.startswith(("mmd", "aats")) else title, loc="left")
        for ax in axes[3:]:
            ax.set_xlabel("sampling time [sweeps]; dashed: training's k")
        for ax in axes[::3]:
            ax.set_ylabel("training step" if len(ages) > 1 else "score")
    return figure


def _heat(figure: Figure, ax: Axes, ages: list[int], times: np.ndarray, values: np.ndarray) -> None:
    shown = np.where(values > 0, values, np.nan)
    if not np.isfinite(shown).any():
        return
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    norm = LogNorm(low, high if high > low else 2 * low)
    mesh = ax.pcolormesh(
        _edges(times), _edges(np.asarray(ages)), shown, norm=norm, cmap="viridis_r", rasterized=True, linewidth=0
    )
    ax.set_yscale("log")
    ax.grid(False)
    figure.colorbar(mesh, ax=ax)


def _edges(values: np.ndarray) -> np.ndarray:
    """Borders of cells around values in equal ratios."""
    log = np.log(values.astype(float))
    if len(log) == 1:
        return np.exp([log[0] - 0.3, log[0] + 0.3])
    middle = (log[1:] + log[:-1]) / 2
    return np.exp(np.concatenate([[2 * log[0] - middle[0]], middle, [2 * log[-1] - middle[-1]]]))
