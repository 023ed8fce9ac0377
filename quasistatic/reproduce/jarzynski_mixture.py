"""Two modes in 50 dimensions: the mass that Jarzynski weights learn, and what PCD and CD learn instead.

Teacher: two unit Gaussians at -10 and +6 on the first axis, masses 1/4 and 3/4. Student: the same family, both modes
started together in the middle. The means are found by every method. The mass of a mode is not: persistent chains
cannot cross, so PCD drives it to one side for ever; CD descends a Fisher divergence, which does not see it; weights
do. Mass, `log Z` and cross-entropy of the student are known exactly at every step, so nothing here is estimated but
the auditor's `log Z`, which is what is being judged.

    U(x) = -log sum_i exp(-|x - a_i|^2 / 2 - z_i),   log Z = (d/2) log 2 pi + log sum_i exp(-z_i),   q = e^-z_2 / sum

Reference:
    Carbone, Hua, Coste and Vanden-Eijnden, NeurIPS 2023 (arXiv 2305.19414), the Gaussian-mixture experiment.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from quasistatic._keys import named
from quasistatic._types import Key, Scalar, ScalarLike
from quasistatic.energies.base import AbstractTractable
from quasistatic.kernels import Langevin
from quasistatic.regulators import Restart
from quasistatic.reproduce.rows import Row
from quasistatic.train.record import live_log_z
from quasistatic.train.step import run_chunk
from quasistatic.train.trainer import Trainer, jarzynski, pcd

SIZE, STEP_SIZE, N_STEPS, MASS = 50, 0.1, 8000, 0.75
RATE_MEAN, RATE_MASS = 0.0025, 0.0125
METHODS = ("jarzynski", "pcd", "cd")


class TwoModes(AbstractTractable):
    """`U(x) = -log sum_i exp(-|x - a_i|^2 / 2 - z_i)`, exact at beta = 1.

    Args:
        means: `a_i`, shape `(2, d)`.
        z: negative log masses up to a constant, shape `(2,)`; the first stays 0.
    """

    means: Float[Array, "2 d"]
    z: Float[Array, " 2"]

    def __call__(self, x: Float[Array, " d"]) -> Scalar:
        return -jax.nn.logsumexp(-0.5 * jnp.sum((x - self.means) ** 2, axis=-1) - self.z)

    def log_partition(self, beta: ScalarLike) -> Scalar:
        del beta
        return 0.5 * self.means.shape[1] * jnp.log(2 * jnp.pi) + jax.nn.logsumexp(-self.z)

    def sample_exact(self, key: Key, beta: ScalarLike, n: int) -> Float[Array, "n d"]:
        del beta
        key_mode, key_noise = jax.random.split(key)
        mode = jax.random.categorical(key_mode, -self.z, shape=(n,))
        return self.means[mode] + jax.random.normal(key_noise, (n, self.means.shape[1]), self.means.dtype)

    @property
    def mass(self) -> Scalar:
        """Probability of the second mode."""
        return jax.nn.softmax(-self.z)[1]


class Trace(NamedTuple):
    """One run, by recorded step.

    Attributes:
        step: steps.
        mass: learned mass of the second mode.
        divergence: exact in-sample `KL(data || model)`, nats.
        ess: smallest ESS fraction of the driver (weights ignored by PCD and CD are still booked; CD has none).
        error: auditor's `log Z` minus the truth.
        stderr: its standard error.
        driver_error: the driver's `log Z` minus the truth.
    """

    step: np.ndarray
    mass: np.ndarray
    divergence: np.ndarray
    ess: np.ndarray
    error: np.ndarray
    stderr: np.ndarray
    driver_error: np.ndarray


def teacher() -> TwoModes:
    """The law that made the data."""
    means = jnp.zeros((2, SIZE)).at[0, 0].set(-10.0).at[1, 0].set(6.0)
    return TwoModes(means, jnp.asarray([0.0, -np.log(MASS / (1 - MASS))]))


def student(key: Key) -> TwoModes:
    """Two overlapping modes of equal mass."""
    means = 0.01 * jax.random.normal(key, (2, SIZE))
    return TwoModes(means.at[:, 0].set(jnp.asarray([-0.1, 0.1])), jnp.zeros(2))


def samples(key: Key, n: int) -> Float[Array, "n d"]:
    """Data with exactly the teacher's masses."""
    mode = (jnp.arange(n) >= n - round(MASS * n)).astype(int)
    return teacher().means[mode] + jax.random.normal(key, (n, SIZE))


def trainer(method: str, n_walkers: int, auditor_walkers: int = 256) -> Trainer:
    """Trainer of one of `METHODS`; CD learns ten times faster because its contrast is of order `h`."""
    factor = 10.0 if method == "cd" else 1.0
    rates = TwoModes(jnp.full((2, 1), factor * RATE_MEAN), factor * RATE_MASS * jnp.asarray([0.0, 1.0]))

    def descend(gradient: Any, parameters: Any = None) -> Any:
        del parameters
        return jax.tree.map(lambda rate, slope: -rate * slope, rates, gradient)

    optimiser = optax.stateless(descend)
    kernel = Langevin(is_fused=True)
    options: dict[str, Any] = dict(
        n_walkers=n_walkers, step_size=STEP_SIZE, auditor_groups=16, auditor_walkers=auditor_walkers
    )
    if method == "jarzynski":
        return jarzynski(kernel, optimiser, resample_below=0.5, **options)
    every = 4 if method == "cd" else N_STEPS + 1  # PCD: once, at the data
    options |= dict(auditor_groups=0, regulators=(Restart("data", every=every),))
    return pcd(kernel, optimiser, **options)


def run(
    key: Key,
    method: str,
    *,
    n_walkers: int,
    n_steps: int = N_STEPS,
    n_records: int = 40,
    auditor_walkers: int = 256,
) -> Trace:
    """One training run.

    Args:
        key: random key; data, initial parameters and walkers are derived from it.
        method: one of `METHODS`.
        n_walkers: walkers, and data.
        n_steps: updates.
        n_records: recorded steps.
        auditor_walkers: walkers per group of the auditor.
    """
    data = samples(named(key, "data"), n_walkers)
    machine = trainer(method, n_walkers, auditor_walkers)
    state = machine.init(key, student(named(key, "student")))
    entropy = float(jnp.mean(jax.vmap(teacher())(data)) + teacher().log_partition(1.0))
    rows = []
    for stop in np.unique(np.linspace(0, n_steps, n_records + 1).astype(int))[1:]:
        state = run_chunk(machine, state, data, jnp.asarray(stop, jnp.int32))
        model: Any = state.model
        log_z = float(model.log_partition(1.0))
        live = live_log_z(state.auditor, state.auditor_ledger) if state.auditor is not None else None
        rows.append(
            (
                stop,
                float(model.mass),
                log_z + float(jnp.mean(jax.vmap(model)(data))) - entropy,
                float(jnp.min(state.ensemble.ess())) if bool(state.ensemble.anchored) else np.nan,
                live.value - log_z if live is not None and live.value is not None else np.nan,
                live.stderr if live is not None and live.stderr is not None else np.nan,
                float(state.ensemble.log_partition_groups()[0]) - log_z if method == "jarzynski" else np.nan,
            )
        )
    return Trace(*np.array(rows, float).T)


def check(key: Key, is_quick: bool = False) -> tuple[list[Row], dict[str, Any]]:
    """All rows, and the figure.

    Args:
        key: random key; run keys are folded from it.
        is_quick: one seed instead of three, a smaller auditor, and baselines of 1,000 walkers.
    """
    # a mass needs many walkers to be learned (4,000), and few to be lost
    n_seeds, n_baseline, auditor_walkers = (1, 1000, 64) if is_quick else (3, 4000, 256)
    traces = {
        method: [
            run(
                jax.random.fold_in(named(key, method), seed),
                method,
                n_walkers=4000 if method == "jarzynski" else n_baseline,
                auditor_walkers=auditor_walkers,
            )
            for seed in range(n_seeds)
        ]
        for method in METHODS
    }
    final = {method: np.array([trace.mass[-1] for trace in runs]) for method, runs in traces.items()}
    audited = traces["jarzynski"]
    z = np.concatenate([trace.error / trace.stderr for trace in audited])

    def stderr(values: np.ndarray) -> float | None:
        return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None

    rows = [
        Row("mass learned with Jarzynski weights", MASS, final["jarzynski"].mean(), stderr(final["jarzynski"]), 0.03),
        Row("mass learned by PCD (collapses to 1)", 1.0, final["pcd"].mean(), stderr(final["pcd"]), 0.01),
        Row("mass learned by CD (blind: .5 to .65)", 0.575, final["cd"].mean(), stderr(final["cd"]), 0.075),
        Row(
            "auditor's log Z, largest distance from the truth in standard errors",
            0.0,
            float(np.nanmax(np.abs([trace.error[-1] / trace.stderr[-1] for trace in audited]))),
            None,
            3.0,
        ),
        Row("recorded steps with the auditor inside 3 standard errors", 1.0, float((np.abs(z) < 3).mean()), None, 0.05),
        Row(
            "driver's own log Z minus the truth (the feedback bias the auditor does not have), nats",
            -0.3,
            float(np.mean([trace.driver_error[-1] for trace in audited])),
            stderr(np.array([trace.driver_error[-1] for trace in audited])),
            0.25,
        ),
    ]
    return rows, {"jarzynski-mixture": figure(traces)}


def figure(traces: dict[str, list[Trace]]) -> Any:
    """Mass, divergence, ESS and the error of `log Z` against the step."""
    from quasistatic.plots import grid_of, styled

    fig, axes = grid_of(2, 2)
    with styled():
        _draw(axes, traces)
    return fig


def _draw(axes: list[Any], traces: dict[str, list[Trace]]) -> None:
    mass, divergence, ess, error = axes
    for method, runs in traces.items():
        for i, trace in enumerate(runs):
            label = NAMES[method] if i == 0 else None
            style: dict[str, Any] = dict(color=COLOURS[method], lw=1.2, alpha=1 - 0.25 * i, label=label)
            mass.plot(trace.step, trace.mass, **style)
            # in-sample: below zero once the model has learned the sample's own fluctuations
            divergence.plot(trace.step, np.where(trace.divergence > 0, trace.divergence, np.nan), **style)
            if method == "jarzynski":
                ess.plot(trace.step, trace.ess, **style)
                own = "driver's own" if i == 0 else None
                error.plot(trace.step, trace.driver_error, **{**style, "ls": "--", "label": own})
                audited = "auditor, with its s.e." if i == 0 else None
                error.errorbar(
                    trace.step, trace.error, trace.stderr, color=style["color"], lw=0.8, alpha=style["alpha"],
                    label=audited,
                )  # fmt: skip
    mass.axhline(MASS, color="#444444", lw=0.8, ls=":")
    error.axhline(0, color="#444444", lw=0.8, ls=":")
    titles = (
        "learned mass of the second mode (truth dotted)",
        "KL(data || model), exact, in sample [nats]",
        "effective sample size of the driver",
        "log Z minus the truth [nats]",
    )
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("update", fontsize=8.5)
        ax.tick_params(labelsize=8)
    mass.set_ylim(0, 1.03)
    ess.set_ylim(0, 1.03)
    divergence.set_yscale("log")
    mass.legend(loc="lower left")
    error.legend(loc="lower left")


NAMES = {"jarzynski": "Jarzynski weights", "pcd": "PCD", "cd": "CD"}
COLOURS = {"jarzynski": "#1F6FB4", "pcd": "#C8501E", "cd": "#4E8F3A"}
