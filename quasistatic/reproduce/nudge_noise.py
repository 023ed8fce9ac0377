"""Signal-to-noise ratio of every estimator against nudge and samples, on 12 spins that can be enumerated.

With `n` samples in all, `SNR = sqrt(n / n_1)` where `n_1` is the number at which signal and noise are equal:

    contrast       n_1 = 2 (V_b + V_0) / (b^2 |G|^2)           grows as 1 / b^2
    reweighting    n_1 = E_0 |r (g - <g>_b) - (g - <g>_0)|^2 / (b^2 |G|^2) ,   r = pi_b / pi_0
    covariance     n_1 = E_0 |(C - <C>_0) (g - <g>_0) / T + G|^2 / |G|^2

and `G` the gradient of the target, `dA_b / b` or the loss.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from quasistatic._results import Estimate
from quasistatic._types import Key
from quasistatic.equilibrium import Phase, contrast, covariance, reweighting
from quasistatic.reproduce.rows import Row

NUDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 4.0)
PUBLISHED = {0.01: (1.0e5, 13.5), 0.1: (1143.0, 13.1), 1.0: (59.7, 12.2)}
"""Samples at which signal equals noise, by enumeration at T = 1: contrast, reweighting."""


@dataclass(frozen=True)
class Spins:
    """States, cost and statistic of 12 coupled spins with three outputs, at temperature 1."""

    cost: Float[np.ndarray, " n"]
    statistic: Float[np.ndarray, "n d"]
    energy: Float[np.ndarray, " n"]

    def law(self, nudge: float) -> Float[np.ndarray, " n"]:
        """Probabilities at a nudge."""
        v = -(self.energy + nudge * self.cost)
        w = np.exp(v - v.max())
        return w / w.sum()


def spins() -> Spins:
    """Couplings `0.5 sin(1.3 i + 2.7 j)`, fields `0.3 cos(1.1 i)`, outputs 10 to 12 with targets 1, -1, 1."""
    i = np.arange(1, 13)
    pairs = np.stack(np.triu_indices(12, 1), 1)
    theta = np.concatenate([0.5 * np.sin(1.3 * i[pairs[:, 0]] + 2.7 * i[pairs[:, 1]]), 0.3 * np.cos(1.1 * i)])
    s = np.array(list(itertools.product((-1.0, 1.0), repeat=12)))
    statistic = -np.concatenate([s[:, pairs[:, 0]] * s[:, pairs[:, 1]], s], 1)
    cost = 0.5 * ((s[:, 9:] - np.array([1.0, -1.0, 1.0])) ** 2).sum(1)
    return Spins(cost, statistic, statistic @ theta)


def samples_for_signal(model: Spins, nudge: float) -> tuple[float, float, float]:
    """`n_1` of contrast, reweighting and covariance. Args: model; nudge."""
    p0, p1 = model.law(0.0), model.law(nudge)
    f, b = model.statistic, nudge
    m0, m1 = p0 @ f, p1 @ f
    signal = np.sum((m1 - m0) ** 2) / b**2
    v0, v1 = (p @ ((f - p @ f) ** 2).sum(1) for p in (p0, p1))
    ratio = (p1 / p0)[:, None]
    one_phase = p0 @ ((ratio * (f - m1) - (f - m0)) ** 2).sum(1) / b**2
    rows = (model.cost - p0 @ model.cost)[:, None] * (f - m0)
    slope = p0 @ rows
    spread = p0 @ ((rows - slope) ** 2).sum(1) / np.sum(slope**2)
    return 2 * (v0 + v1) / b**2 / signal, one_phase / signal, float(spread)


def noise_rows(key: Key, n_repeats: int) -> list[Row]:
    """Exact numbers beside the published ones, and measured noise beside the exact one.

    Args:
        key: random key.
        n_repeats: repetitions of the measurement.
    """
    model, rows = spins(), []
    for nudge, (two, one) in PUBLISHED.items():
        exact = samples_for_signal(model, nudge)
        rows.append(Row(f"samples for SNR 1, contrast, nudge {nudge:g}", two, exact[0], 0.0, 0.02 * two))
        rows.append(Row(f"samples for SNR 1, reweighting, nudge {nudge:g}", one, exact[1], 0.0, 0.01 * one))
    rng = np.random.default_rng(int(jax.random.randint(key, (), 0, 2**31 - 1)))
    n, nudge = 1000, 0.1
    p0, p1 = model.law(0.0), model.law(nudge)
    target = (p1 - p0) @ model.statistic / nudge
    loss = -(p0 * (model.cost - p0 @ model.cost)) @ model.statistic
    expected = samples_for_signal(model, nudge)
    squares: dict[str, list[float]] = {"contrast": [], "reweighting": [], "covariance": []}
    for _ in range(n_repeats):
        free, up = (_drawn(rng, p, n) for p in (p0, p1))
        found = {
            "contrast": (contrast(_phase(model, free, 0.0), _phase(model, up, nudge)).scale(1 / nudge), [free, up]),
            "reweighting": (reweighting(_phase(model, free, 0.0), nudge, 1.0).scale(1 / nudge), [free]),
            "covariance": (covariance(_phase(model, free, 0.0), 1.0), [free]),
        }
        for name, (terms, index) in found.items():
            g = np.asarray(terms.on_energy) @ model.statistic[np.concatenate(index)]
            goal = loss if name == "covariance" else target
            squares[name].append(float(np.sum((g - goal) ** 2) / np.sum(goal**2)))
    for (name, values), n_1, total in zip(squares.items(), expected, (2 * n, n, n), strict=True):
        stderr = float(np.std(values, ddof=1) / np.sqrt(n_repeats))
        measured = Estimate(float(np.mean(values)), stderr, None, "none", name)
        rows.append(Row.of(f"noise / signal of {name}, nudge {nudge:g}, {total} samples", n_1 / total, measured))
    return rows


def ratio_figure() -> Any:
    """SNR from 1,000 samples against the nudge."""
    from quasistatic.plots import grid_of, styled

    model = spins()
    curves = np.array([samples_for_signal(model, b) for b in NUDGES]).T
    fig, (ax,) = grid_of(1, 1)
    with styled():
        for name, n_1 in zip(("contrast", "reweighting", "covariance"), curves, strict=True):
            ax.plot(NUDGES, np.sqrt(1000 / n_1), marker="o", label=name)
        ax.axhline(1.0, color="0.5", ls=":", lw=1)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("nudge")
        ax.set_ylabel("signal over noise, 1,000 samples")
        ax.legend()
    return fig


def _drawn(rng: np.random.Generator, p: np.ndarray, n: int) -> np.ndarray:
    return np.searchsorted(np.cumsum(p), rng.random(n)).clip(0, len(p) - 1)


def _phase(model: Spins, index: np.ndarray, nudge: float) -> Phase:
    n = len(index)
    x = jnp.asarray(index[:, None], float)  # the states themselves are not needed: gradients are made on the host
    return Phase(x, jnp.asarray(model.cost[index]), jnp.full(n, 1.0 / n), jnp.asarray(nudge, float))
