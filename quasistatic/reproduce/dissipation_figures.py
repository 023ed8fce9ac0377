"""Figures of minimal-dissipation learning: walkers as ridges beside their work, and ways to learn compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from quasistatic.reproduce.quartic import Learned
from quasistatic.reproduce.trap_learning import Setting, Trajectory, gains, population

INK, MODEL, WALKERS, TRUTH = "#444444", "#C8501E", "#1F6FB4", "#4E8F3A"
N_RIDGES = 26
FRAME: Any = dict(frameon=True, facecolor="white", edgecolor="none", framealpha=0.9)


def ridge(setting: Setting, run: Trajectory, step: float) -> Any:
    """Walkers against time, downward, with the model's centre; and work: measured, exact for this step, closed form."""
    from quasistatic.plots import grid_of, styled

    fig, (left, right) = grid_of(1, 2)
    n = run.x.shape[0]
    time = np.arange(n) * step
    with styled():
        _ridges(left, run, time)
        gain = gains(setting.kind, setting.mobility, duration=1.0, step=step, n=n - 1)
        numbers = (setting.mobility, setting.centre, setting.mean)
        exact = population(gain, numbers, step=step)[2]
        right.fill_between(
            time, run.work[0] - 3 * run.stderr[0], run.work[0] + 3 * run.stderr[0], color=WALKERS, alpha=0.25, lw=0
        )
        right.plot(time, run.work[0], color=WALKERS, label="walkers, 3 standard errors")
        right.plot(time, exact, color=INK, ls="--", lw=1, label="exact, same steps")
        right.axhline(setting.closed_form, color=TRUTH, ls=":", lw=1.2, label="exact, continuous time, at the end")
        right.set_xlabel("time")
        right.set_ylabel("excess work [nats]")
        right.legend(loc="best", **FRAME)
        right.set_title(f"work {run.work[0, -1]:.2f} ± {run.stderr[0, -1]:.2f}, closed form {setting.closed_form:.2f}")
        left.set_title(setting.title)
    return fig


def _ridges(ax: Any, run: Trajectory, time: np.ndarray) -> None:
    shown = np.unique(np.linspace(0, len(time) - 1, N_RIDGES).astype(int))
    edges = np.linspace(-14.5, 14.5, 117)
    middle = 0.5 * (edges[1:] + edges[:-1])
    height = 2.2 * time[-1] / N_RIDGES
    for k in shown:
        share, _ = np.histogram(run.x[k], edges, density=True)
        top = time[k] - height * share / 0.42
        ax.fill_between(middle, time[k], top, color="white", lw=0, zorder=2 + k)
        ax.fill_between(middle, time[k], top, color=WALKERS, alpha=0.35, lw=0, zorder=2 + k)
        ax.plot(middle, top, color=WALKERS, lw=0.5, zorder=2 + k)
    above = 3 + len(time)
    ax.plot(run.centre[0], time, color=MODEL, lw=1.4, zorder=above, label="model")
    ax.plot([], [], color=WALKERS, lw=4, alpha=0.4, label="walkers")
    ax.axvline(0, color=INK, ls=":", lw=0.9, zorder=above, label="mean of the data")
    ax.set_xlim(-14, 14)
    ax.set_ylim(time[-1] + 0.03, -height - 0.03)
    ax.set_xlabel("x")
    ax.set_ylabel("time")
    ax.legend(loc="lower left" if run.centre[0, 0] > 0 else "upper right", **FRAME).set_zorder(above + 1)


def ways(found: list[Any], horizon: float) -> Any:
    """Excess work against time of four ways to learn: published closed forms, and walkers."""
    from quasistatic.plots import grid_of, styled

    fig, (ax,) = grid_of(1, 1)
    fig.set_size_inches(5.2, 3.6)
    with styled():
        colours = ("#7A6C5D", TRUTH, MODEL, WALKERS)
        for (way, run, exact, closed), colour in zip(found, colours, strict=True):
            t = np.linspace(0, 1, len(closed))
            ax.plot(t, closed, color=colour, lw=1.2, label=f"{way.label}: {way.published:.3f}")
            ax.plot(t, exact, color=colour, lw=0.9, ls=":")
            at = np.unique(np.linspace(0, len(closed) - 1, 14).astype(int))
            ax.errorbar(
                t[at], run.work[0, at], run.stderr[0, at], color=colour, fmt="o", ms=2.6, lw=0.8, zorder=3
            )  # fmt: skip
        ax.plot([], [], color=INK, lw=1.2, label="as published (constant rate: fast walkers)")
        ax.plot([], [], color=INK, lw=0.9, ls=":", label="exact, same steps")
        ax.errorbar([], [], [], color=INK, fmt="o", ms=2.6, lw=0.8, label="walkers, 1 standard error")
        ax.set_xlabel(f"time / {horizon:g}")
        ax.set_ylabel("excess work [nats]")
        ax.set_title("Four ways to learn the mean of a Gaussian in the same time")
        ax.set_ylim(-0.01, 0.44)
        ax.legend(loc="upper left")
    return fig


def quartic(exact: dict[float, dict[str, Learned]], measured: dict[str, Learned]) -> Any:
    """Divergence against excess work of the ways to learn a quartic energy, for both horizons."""
    from quasistatic.plots import grid_of, styled

    fig, (left, right) = grid_of(1, 2)
    rules = sorted(exact[20.0], key=lambda rule: exact[20.0][rule].excess)
    place = np.arange(len(rules))[::-1]
    with styled():
        for duration, colour in zip(exact, (TRUTH, INK), strict=True):
            found = [exact[duration][rule] for rule in rules]
            left.plot(
                [f.excess for f in found], place, "o", ms=4, color=colour, label=f"population, tau = {duration:g}"
            )
            learned = [(f.divergence, y) for f, y in zip(found, place, strict=True) if f.divergence > 1e-12]
            right.plot(*zip(*learned, strict=True), "o", ms=4, color=colour, label=f"population, tau = {duration:g}")
        left.errorbar(
            [measured[r].excess for r in rules], place - 0.22, xerr=[3 * measured[r].stderr for r in rules],
            fmt="s", ms=3, lw=1, color=WALKERS, label="walkers, tau = 20, 3 standard errors",
        )  # fmt: skip
        for ax, title in ((left, "excess work [nats]"), (right, "divergence of the learned law [nats]")):
            ax.set_yticks(place, [NAMES[rule] for rule in rules])
            ax.set_xlabel(title)
            ax.set_ylim(-0.7, len(rules) - 0.4)
        right.set_xscale("log")
        right.set_yticks(place, [""] * len(rules))
        fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        left.set_title("Quartic energy: cost")
        right.set_title("Quartic energy: what is learned")
    return fig


NAMES = {
    "discontinuous": "discontinuous",
    "continuous": "continuous",
    "weighted": "weighted",
    "line": "line, target known",
    "no friction": "no friction",
    "gradient": "plain gradient",
}
