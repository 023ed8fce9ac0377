"""Figures of a run for papers: PNG at 300 dots per inch, and SVG.

    from quasistatic.plots import save_figures
    from quasistatic.run import Run
    save_figures(Run("runs/digits-rbm-001"), "figures")

Figures are objects of their own: no window, no pyplot, no lasting change of settings.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from quasistatic.errors import InputError
from quasistatic.plots import views
from quasistatic.plots.panels import PALETTE, Curve, Panel, panels
from quasistatic.run import Archive, Run

POPULATIONS: tuple[tuple[views.Population, str], ...] = (("ensemble", "driver"), ("auditor", "auditor"))

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E5E8",
    "grid.linewidth": 0.6,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.3,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "svg.fonttype": "path",
    "svg.hashsalt": "quasistatic",  # the same run gives the same file
}


def figures(run: Run) -> dict[str, Figure]:
    """Every figure that this run has the numbers for, by name.

    Curves: likelihood, log_z, live_error, ess, work, excess_work, bias, efficiency, flip_rate, gradient_norm, score,
    beta, temperature, norm_over_t, smoothed_signal. From the last checkpoint: weights, walkers, filters, couplings,
    scatter.

    Raises:
        InputError: When a file that the figures need is damaged.
    """
    with matplotlib.rc_context(_STYLE):
        drawn = {panel.name: _draw_panel(panel) for panel in panels(run) if panel.curves}
        if run.has("checkpoints/last.npz"):
            arrays = run.checkpoint("last")
            shape = run.image_shape if run.has("environment.json") else None
            makers: dict[str, Callable[[], Figure | None]] = {
                "weights": lambda: _weights(arrays),
                "walkers": lambda: _walkers(arrays, shape),
                "filters": lambda: _filters(arrays, shape),
                "couplings": lambda: _couplings(arrays),
                "scatter": lambda: _scatter(arrays),
            }
            made = {name: make() for name, make in makers.items()}
            drawn.update({name: figure for name, figure in made.items() if figure is not None})
    return drawn


def save_figures(run: Run, folder: str | Path) -> list[Path]:
    """Writes every figure as PNG and SVG.

    Args:
        run: A run folder.
        folder: Where the files go; made when it does not exist.

    Returns:
        Paths of the files, PNG and SVG of the same figure next to each other.

    Raises:
        InputError: When the run has nothing to draw, a file of it is damaged, or `folder` cannot be written.
    """
    drawn = figures(run)
    if not drawn:
        raise InputError(f"{run.path} has nothing to draw (yet): no row in metrics.csv and no checkpoint")
    return write_figures(drawn, folder)


def write_figures(drawn: dict[str, Figure], folder: str | Path) -> list[Path]:
    """Writes figures as PNG and SVG.

    Args:
        drawn: figures by name.
        folder: Where the files go; made when it does not exist.

    Raises:
        InputError: `folder` cannot be written.
    """
    folder = Path(folder)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(_STYLE):
            for name, figure in drawn.items():
                figure.draw_without_rendering()
                figure.set_layout_engine("none")  # laid out once, for both files
                for suffix, metadata in ((".png", None), (".svg", {"Date": None})):
                    path = folder / f"{name}{suffix}"
                    figure.savefig(path, metadata=metadata)
                    paths.append(path)
    except OSError as error:
        raise InputError(f"cannot write figures to {folder}: {error.strerror or error}") from None
    return paths


def styled() -> Any:
    """Context in which axes are drawn in the package's style."""
    return matplotlib.rc_context(_STYLE)


def grid_of(n_rows: int, n_columns: int) -> tuple[Figure, list[Axes]]:
    """Figure with a grid of axes in the package's style, row by row."""
    with matplotlib.rc_context(_STYLE):
        figure = _figure(3.7 * n_columns, 2.7 * n_rows)
        axes = figure.subplots(n_rows, n_columns, squeeze=False)
    return figure, list(axes.flat)


def colour(role: str) -> str:
    """Colour of a role on white."""
    return PALETTE[role][0]


def _figure(width: float = 4.6, height: float = 2.9) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw_panel(panel: Panel) -> Figure:
    figure = _figure()
    axes = figure.add_subplot()
    if panel.zero:
        axes.axhline(0, color="#888888", linewidth=0.8)
    for curve in panel.curves:
        _draw_curve(axes, curve)
    axes.set_xlabel("training step")
    axes.set_ylabel(panel.y_label)
    if panel.bounds is not None:
        axes.set_ylim(*panel.bounds)
    axes.margins(x=0.01)
    if len(panel.curves) > 1 or {curve.role for curve in panel.curves} & {"driver", "auditor"}:
        axes.legend(loc="best", handlelength=2.2)
    return figure


def _draw_curve(axes: Axes, curve: Curve) -> None:
    ink = colour(curve.role)
    if curve.style == "points":
        marker = {"circle": "o", "diamond": "D"}[curve.symbol]
        face = "white" if curve.symbol == "circle" else ink
        axes.errorbar(
            curve.x,
            curve.y,
            yerr=curve.half_width,
            linestyle="none",
            marker=marker,
            markersize=3.6,
            markerfacecolor=face,
            markeredgecolor=ink,
            markeredgewidth=0.8,
            ecolor=ink,
            elinewidth=0.9,
            capsize=1.5,
            label=curve.label,
            zorder=4,
        )
        return
    if curve.half_width is not None:
        low, high = curve.y - curve.half_width, curve.y + curve.half_width
        axes.fill_between(curve.x, low, high, color=ink, alpha=0.2, linewidth=0)
    dashes = {"line": "-", "dashed": (0, (4, 2))}[curve.style]
    axes.plot(curve.x, curve.y, color=ink, linestyle=dashes, label=curve.label)


def _weights(arrays: Archive) -> Figure | None:
    found = {label: views.weights(arrays, name) for name, label in POPULATIONS}
    found = {label: w for label, w in found.items() if w is not None and not w.are_equal}
    if not found:
        return None
    figure = _figure()
    axes = figure.add_subplot()
    for label, w in found.items():
        edges, share = views.histogram(w, [other for other in found.values() if other is not None])
        axes.stairs(share, edges, color=colour(label), fill=True, alpha=0.2)
        text = f"{label}, ESS {w.ess:.2f}"
        axes.stairs(share, edges, color=colour(label), linewidth=1.2, label=text)
    axes.set_xlabel("log(weight / mean weight) [nats]")
    axes.set_ylabel("share of the walkers")
    axes.legend(loc="best")
    return figure


def _walkers(arrays: Archive, shape: tuple[int, int] | None) -> Figure | None:
    found = [(label, views.walker_tiles(arrays, name, shape, n_max=48)) for name, label in POPULATIONS]
    drawn = [(label, tiles) for label, tiles in found if tiles is not None]
    if not drawn:
        return None
    grids = [views.image_grid(tiles) for _, tiles in drawn]
    figure = _figure(5.2, sum(0.35 + 5.0 * grid.shape[0] / grid.shape[1] for grid in grids))
    for i, (label, tiles) in enumerate(drawn):
        axes = figure.add_subplot(len(drawn), 1, i + 1)
        low, high = views.grey_limits(tiles)
        _draw_image(axes, grids[i], "gray_r", low, high)
        axes.set_title(f"{label}, {len(tiles)} walkers", loc="left")
        axes.set_facecolor("#B9BFC9")
    return figure


def _filters(arrays: Archive, shape: tuple[int, int] | None) -> Figure | None:
    tiles = views.filter_tiles(arrays, shape)
    if tiles is None:
        return None
    grid = views.image_grid(tiles)
    figure = _figure(5.2, min(6.5, 0.6 + 4.6 * grid.shape[0] / grid.shape[1]))
    axes = figure.add_subplot()
    limit = views.symmetric_limit(tiles)
    image = _draw_image(axes, grid, "RdBu_r", -limit, limit)
    figure.colorbar(image, ax=axes, shrink=0.85, label="weight", extend="both")
    return figure


def _couplings(arrays: Archive) -> Figure | None:
    matrix = views.couplings_matrix(arrays)
    if matrix is None:
        return None
    figure = _figure(3.9, 3.2)
    axes = figure.add_subplot()
    limit = views.symmetric_limit(matrix)
    image = _draw_image(axes, matrix, "RdBu_r", -limit, limit)
    axes.set_axis_on()
    axes.grid(False)
    axes.set_facecolor("#D9DCE1")
    axes.set_xlabel("unit j")
    axes.set_ylabel("unit i")
    figure.colorbar(image, ax=axes, label="coupling $J_{ij}$")
    return figure


def _scatter(arrays: Archive) -> Figure | None:
    found = [(label, views.planar(arrays, name)) for name, label in POPULATIONS]
    drawn = [(label, x) for label, x in found if x is not None]
    if not drawn:
        return None
    figure = _figure(3.4 * len(drawn), 3.2)
    means = views.planar_means(arrays)
    low, high = np.min([x.min() for _, x in drawn]), np.max([x.max() for _, x in drawn])
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    for i, (label, x) in enumerate(drawn):
        axes = figure.add_subplot(1, len(drawn), i + 1)
        axes.plot(*x.T, ".", markersize=2, color=colour(label), alpha=0.5, rasterized=True)
        if means is not None:
            axes.plot(*means.T, "+", markersize=9, markeredgewidth=1.6, color="#111418", label="model's means")
            axes.legend(loc="best")
        axes.set_title(f"{label}, {len(x)} walkers", loc="left")
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.set_xlabel("$x_1$")
        axes.set_ylabel("$x_2$")
    return figure


def _draw_image(axes: Axes, values: np.ndarray, colours: str, low: float, high: float):
    image = axes.imshow(values, cmap=colours, norm=Normalize(low, high), interpolation="nearest")
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image
