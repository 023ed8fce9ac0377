"""Signal-to-noise ratio of every estimator against nudge and samples, on 12 spins that can be enumerated.

With `n` samples in all, `SNR = sqrt(n / n_1)` where `n_1` is the number at which signal and noise are equal:

    contrast       n_1 = 2 (V_b + V_0) / (b^2 |G|^2)           grows as 1 / b^2
    reweighting    n_1 = E_0 |r (g - <g>_b) - (g - <g>_0)|^2 / (b^2 |G|^2) ,   r = pi_b / pi_0
    covariance     n_1 = E_0 |(C - <C>_0) (g - <g>_0) / T + G|^2 / |G|^2
    centred        n_1 = 2 (V_b + V_-b) / (4 b^2 |G|^2)
    path integral  n_1 = K sum_k w_k^2 E_k |(C - <C>_k) (g - <g>_k) / T + G_k|^2 / |G|^2 ,   K = 4 nodes `b_k`

and `G` the gradient of the target: `dA_b / b`, the loss, or for `centred` `(A_b - A_-b) / 2b`. Samples are split evenly
between the phases. Estimators that follow a dynamics (ramps, coupled phases, Rao-Blackwell means) have no such number:
`nudge_noise_measured` measures all of them on a layered network.
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
from quasistatic.reproduce.nudge_noise_measured import draw_measured
from quasistatic.reproduce.rows import Row

NUDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 4.0)
PUBLISHED = {0.01: (1.0e5, 13.5, 14.9), 0.1: (1143.0, 13.1, 15.9), 1.0: (59.7, 12.2, 34.1)}
"""Samples at which signal equals noise, by enumeration at T = 1: contrast, reweighting, path integral."""
NAMES = ("contrast", "reweighting", "covariance", "centred", "path integral, 4 nodes")
SAMPLES = (10, 30, 100, 300, 1000, 3000, 10000)


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


def samples_for_signal(model: Spins, nudge: float) -> tuple[float, ...]:
    """`n_1` of the estimators `NAMES`. Args: model; nudge."""
    p0, p1 = model.law(0.0), model.law(nudge)
    f, b = model.statistic, nudge
    m0, m1 = p0 @ f, p1 @ f
    signal = np.sum((m1 - m0) ** 2) / b**2
    v0, v1 = (p @ ((f - p @ f) ** 2).sum(1) for p in (p0, p1))
    ratio = (p1 / p0)[:, None]
    one_phase = p0 @ ((ratio * (f - m1) - (f - m0)) ** 2).sum(1) / b**2
    slope, spread = _covariance(model, 0.0)
    down = model.law(-b)
    m_down, v_down = down @ f, down @ ((f - down @ f) ** 2).sum(1)
    both = 2 * (v1 + v_down) / np.sum((m1 - m_down) ** 2)
    x, w = np.polynomial.legendre.leggauss(4)
    nodes = [_covariance(model, b * (1 + node) / 2) for node in x]
    path = 4 * sum((0.5 * weight) ** 2 * noise for weight, (_, noise) in zip(w, nodes, strict=True)) / signal
    of_loss = spread / np.sum(slope**2)
    return tuple(map(float, (2 * (v0 + v1) / b**2 / signal, one_phase / signal, of_loss, both, path)))


def _covariance(model: Spins, nudge: float) -> tuple[Float[np.ndarray, " d"], float]:
    """Covariance of cost and statistic at a nudge, and the variance of a sample of it."""
    p = model.law(nudge)
    rows = (model.cost - p @ model.cost)[:, None] * (model.statistic - p @ model.statistic)
    slope = p @ rows
    return slope, float(p @ ((rows - slope) ** 2).sum(1))


def noise_rows(key: Key, n_repeats: int) -> list[Row]:
    """Exact numbers beside the published ones, and measured noise beside the exact one.

    Args:
        key: random key.
        n_repeats: repetitions of the measurement.
    """
    model, rows = spins(), []
    for nudge, (two, one, path) in PUBLISHED.items():
        exact = samples_for_signal(model, nudge)
        rows.append(Row(f"samples for SNR 1, contrast, nudge {nudge:g}", two, exact[0], 0.0, 0.02 * two))
        rows.append(Row(f"samples for SNR 1, reweighting, nudge {nudge:g}", one, exact[1], 0.0, 0.01 * one))
        rows.append(Row(f"samples for SNR 1, path integral, nudge {nudge:g}", path, exact[4], 0.0, 0.01 * path))
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
    for (name, values), n_1, total in zip(squares.items(), expected[:3], (2 * n, n, n), strict=True):
        stderr = float(np.std(values, ddof=1) / np.sqrt(n_repeats))
        measured = Estimate(float(np.mean(values)), stderr, None, "none", name)
        rows.append(Row.of(f"noise / signal of {name}, nudge {nudge:g}, {total} samples", n_1 / total, measured))
    return rows


def ratio_figure(measured: dict[str, list[Estimate]]) -> Any:
    """SNR from 1,000 samples against the nudge, exact and measured, and at a nudge of 0.01 against samples.

    Args:
        measured: result of `nudge_noise_measured.measured`.
    """
    from quasistatic.plots import grid_of, styled

    model, small = spins(), 0.01
    curves = np.array([samples_for_signal(model, b) for b in NUDGES]).T
    fig, (left, right, third) = grid_of(1, 3)
    with styled():
        for name, n_1 in zip(NAMES, curves, strict=True):
            left.plot(NUDGES, np.sqrt(1000 / n_1), marker="o", label=name)
            right.plot(SAMPLES, np.sqrt(np.array(SAMPLES) / n_1[NUDGES.index(small)]), marker="o")
        for ax, label in ((left, "nudge"), (right, f"samples, nudge {small:g}")):
            ax.axhline(1.0, color="0.5", ls=":", lw=1)
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_xlabel(label)
        left.set_ylabel("signal over noise, 1,000 samples")
        right.set_ylabel("signal over noise")
        left.legend()
        draw_measured(third, measured)
        third.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def _drawn(rng: np.random.Generator, p: np.ndarray, n: int) -> np.ndarray:
    return np.searchsorted(np.cumsum(p), rng.random(n)).clip(0, len(p) - 1)


def _phase(model: Spins, index: np.ndarray, nudge: float) -> Phase:
    n = len(index)
    x = jnp.asarray(index[:, None], float)  # the states themselves are not needed: gradients are made on the host
    return Phase(x, jnp.asarray(model.cost[index]), jnp.full(n, 1.0 / n), jnp.asarray(nudge, float))
