"""Figures of training with k steps: what is learned, quality against sampling time, and what cannot be learned."""

from __future__ import annotations

from typing import Any

import numpy as np

from quasistatic.evaluate.dynamics import (
    CurieWeiss,
    CurieWeissLimit,
    IsingRing,
    LangevinMode,
    OutOfReach,
    gaussian_divergence,
)

INK, RED, BLUE, GREEN, SAND = "#444444", "#C8501E", "#1F6FB4", "#4E8F3A", "#7A6C5D"
COLOURS = (BLUE, RED, GREEN, SAND)
TIMES = tuple(int(t) for t in np.unique(np.round(np.geomspace(1, 300, 40))))


def stiffness() -> Any:
    """Learned stiffness of a Langevin mode against k, and what it generates."""
    from quasistatic.plots import grid_of, styled

    fig, (left, right) = grid_of(1, 2)
    mode, k = LangevinMode(start=1.0), np.geomspace(0.15, 12, 60)
    with styled():
        for d, colour in zip((0.5, 2.0, 4.0, 9.0), COLOURS, strict=True):
            left.plot(k, [mode.learned(d, x) for x in k], color=colour, label=f"d = {d:g}")
            left.axhline(1 / d, color=colour, ls=":", lw=0.9)
        left.axhline(0, color=INK, lw=0.7)
        left.set_xscale("log")
        left.set_ylim(-2.2, 2.6)
        left.set_xlabel("k, time from start to gradient")
        left.set_ylabel("learned stiffness j*")
        left.set_title("A start of variance 1; dotted: equilibrium, 1/d")
        left.legend(loc="lower right")
        t = np.geomspace(0.05, 50, 200)
        for trained, colour in zip((0.5, 1.0, 2.0, 8.0), COLOURS, strict=True):
            value = gaussian_divergence(mode.generated(4.0, trained, t), 4.0)
            right.plot(t, value, color=colour, label=f"k = {trained:g}")
            right.axvline(trained, color=colour, ls=":", lw=0.9)
        right.set_xscale("log")
        right.set_ylim(-0.01, 0.5)
        right.set_xlabel("sampling time t")
        right.set_ylabel("divergence from the data [nats]")
        right.set_title("d = 4: exact at t = k, and only there")
        right.legend(loc="upper left")
    return fig


def quality(curves: dict[str, tuple[int | None, np.ndarray]]) -> Any:
    """Divergence of the data from the walkers of an enumerated RBM. Args: by legend, `k` and values at `TIMES`."""
    from quasistatic.plots import grid_of, styled

    fig, (ax,) = grid_of(1, 1)
    with styled():
        for (name, (k, values)), colour in zip(curves.items(), COLOURS, strict=True):
            ax.plot(TIMES, values, color=colour, label=name, ls="-" if k else "--")
            if k:
                ax.axvline(k, color=colour, ls=":", lw=0.9)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("sampling steps t")
        ax.set_ylabel("divergence [nats]")
        ax.set_title("RBM 4+2: best at t = k when k is short")
        ax.legend(loc="best")
    return fig


def thresholds() -> Any:
    """Learned coupling of Curie-Weiss data against k, and the largest correlation of a ring."""
    from quasistatic.plots import grid_of, styled

    fig, (left, right) = grid_of(1, 2)
    k = np.geomspace(0.12, 20, 50)
    with styled():
        for teacher, colour in zip((0.3, 0.5, 0.8), COLOURS[:3], strict=True):
            data, limit = 1 / (1 - teacher), CurieWeissLimit()
            left.plot(k, [limit.learned(data, x) for x in k], color=colour, label=f"data of J = {teacher:g}")
            at = CurieWeissLimit.ferromagnetic_time(teacher)
            left.plot([at], [1.0], "o", ms=4, color=colour)
        finite, few = CurieWeiss(n_spins=20), np.geomspace(0.25, 20, 12)
        data = finite.equilibrium(0.5)
        found = [finite.learned(data, x) for x in few]
        left.plot(few, found, "s", ms=3, color=INK, label="N = 20, J = 0.5")
        left.axhline(1, color=INK, lw=0.8)
        left.set_xscale("log")
        left.set_ylim(0, 2.4)
        left.set_xlabel("k, updates per spin")
        left.set_ylabel("learned coupling J*")
        left.set_title("Curie-Weiss: ferromagnetic above the line")
        left.legend(loc="upper right")
        ring = IsingRing()
        right.plot(k, [ring.reach(x)[1] for x in k], color=INK, label="infinite coupling")
        right.fill_between(k, [ring.reach(x)[1] for x in k], 1, color=INK, alpha=0.12, lw=0)
        for data, colour in zip((0.3, 0.5, 0.7), COLOURS[:3], strict=True):
            least = ring.least_time(data)
            right.plot([least, k[-1]], [data, data], color=colour, lw=1)
            right.plot([least], [data], "o", ms=4, color=colour)
            right.plot(k, [_equilibrium(ring, data, x) for x in k], color=colour, ls="--", lw=1)
        right.plot([], [], color=INK, lw=1, marker="o", ms=4, label="data, from the least k on")
        right.plot([], [], color=INK, ls="--", lw=1, label="equilibrium of what is learned")
        right.set_xscale("log")
        right.set_ylim(0, 1)
        right.set_xlabel("k, updates per spin")
        right.set_ylabel("correlation of neighbours")
        right.set_title("Ising ring: the shaded cannot be learned")
        right.legend(loc="lower right")
    return fig


def _equilibrium(ring: IsingRing, data: float, k: float) -> float:
    """Equilibrium correlation of the learned ring; a gap in the curve where the data are out of reach."""
    try:
        return ring.equilibrium(ring.learned(data, k))
    except OutOfReach:
        return float("nan")
