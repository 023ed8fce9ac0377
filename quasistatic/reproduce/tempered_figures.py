"""Figures of endogenous temperature: the recorded run through the law, populations that freeze, training on MNIST."""

from __future__ import annotations

from typing import Any

import numpy as np

from quasistatic.reproduce.freezing import Trace
from quasistatic.reproduce.tempered_mnist import Finished

COLOURS = {
    "fixed-1": "#444444",
    "fixed-0.9225": "#1F6FB4",
    "gauge": "#8FC1E8",
    "published": "#C8501E",
    "thermostat": "#4E8F3A",
    "replicas": "#8A4FA3",
}


def recorded_figure(table: dict[str, np.ndarray], course: np.ndarray) -> Any:
    """Recorded flip rates; reference and micro temperature beside the recorded ones. Args: course, `(2, epochs)`."""
    from quasistatic.plots import grid_of, styled

    fig, axes = grid_of(1, 3)
    with styled():
        axes[0].plot(table["epoch0"], table["flip"], color="#444444")
        axes[0].set_ylabel("flip rate, recorded")
        for ax, name, label, values in zip(axes[1:], ("c", "Tmicro"), ("reference q", "T_micro"), course, strict=True):
            ax.plot(table["epoch0"], table[name], color="#C8501E", lw=3, alpha=0.4, label="recorded")
            ax.plot(table["epoch0"], values, color="#111418", lw=0.9, label="law, from the flip rates")
            ax.set_ylabel(label)
            ax.legend(loc="best")
        for ax in axes:
            ax.set_xlabel("epoch")
    return fig


def freezing_figure(traces: dict[str, Trace]) -> Any:
    """Flip rates and temperatures of frozen walkers with a thermostat, and of a training that freezes."""
    from quasistatic.plots import grid_of, styled

    fig, axes = grid_of(2, 2)
    frozen, training = traces["frozen"], traces["training"]
    with styled():
        for k, set_point in enumerate((0.05, 0.2, 0.3)):
            label = f"set-point {set_point}"
            axes[0].plot(frozen.flip_rate[5 * k, :300], lw=0.8, label=label)
            axes[1].plot(frozen.temperature[5 * k, :300], lw=0.8, label=label)
        axes[0].set_title("frozen walkers: flip rate")
        axes[1].set_title("frozen walkers: T")
        axes[1].legend(loc="best")
        lanes = len(training.flip_rate) // 2
        for name, part, ink in (
            ("T = 1", slice(None, lanes), "#444444"),
            ("thermostat", slice(lanes, None), "#4E8F3A"),
        ):
            axes[2].plot(_smooth(training.flip_rate[part]).T, color=ink, lw=0.7, alpha=0.7)
            axes[3].plot(training.temperature[part].T, color=ink, lw=0.7, alpha=0.7)
            axes[2].plot([], [], color=ink, label=name)
        axes[2].set_yscale("log")
        axes[2].set_title("training to freezing: flip rate, 8 seeds")
        axes[3].set_title("training to freezing: T")
        axes[2].legend(loc="best")
        for ax in axes:
            ax.set_xlabel("update")
    return fig


def _smooth(values: np.ndarray, width: int = 50) -> np.ndarray:
    """Means of blocks, repeated over the block."""
    n = values.shape[1] // width * width
    return np.repeat(values[:, :n].reshape(len(values), -1, width).mean(2), width, axis=1)


def training_figure(runs: dict[str, list[Finished]]) -> Any:
    """Flip rate, T, norm over T and smoothed signal by epoch, and the test log-likelihood, of all runs."""
    from quasistatic.plots import grid_of, styled

    fig, axes = grid_of(2, 2)
    shown = (("flip_rate", "flip rate"), ("temperature", "T"), ("norm_over_t", "|W| / T"))
    with styled():
        for condition, finished in runs.items():
            ink, dashes = COLOURS[condition], "--" if condition == "gauge" else "-"
            for run in finished:
                for ax, (name, _) in zip(axes[:3], shown, strict=True):
                    ax.plot(run.column("epoch"), run.column(name), color=ink, lw=0.9, ls=dashes)
            axes[0].plot([], [], color=ink, ls=dashes, label=condition)
            likelihoods = [run.judged.get("ll_test") for run in finished]
            x = [list(runs).index(condition)] * len(likelihoods)
            axes[3].plot(x, [np.nan if value is None else value for value in likelihoods], "o", color=ink, ms=4)
        for ax, (_, label) in zip(axes[:3], shown, strict=True):
            ax.set_xlabel("epoch")
            ax.set_title(label)
        axes[0].legend(loc="best")
        axes[3].set_xticks(range(len(runs)), list(runs), rotation=20)
        axes[3].set_title("test log-likelihood [nats]")
    return fig
