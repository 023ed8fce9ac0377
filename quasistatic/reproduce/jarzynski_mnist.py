"""Three digits in unequal numbers: the masses that a ConvNet learns with Jarzynski weights, by PCD and by CD.

The digits 2, 3 and 6 of MNIST in proportions 0.6 : 0.3 : 0.1, averaged to 14 x 14 pixels in [-1, 1], with Gaussian
noise of standard deviation 0.3. The energy is the published network (76,993 parameters) inside a Gaussian with the mean
and covariance of the data. At the start the network is zero, so the model *is* that Gaussian: every walker of every
method is drawn from it exactly, none from the data (CD restarts from data afterwards: that is what CD is).

Masses are those of the **model**, not of its walkers: annealed importance sampling from the Gaussian, with walkers that
no training has seen, weighs each digit (a quadratic discriminant tells them apart). The live cross-entropy comes from
copies audited beside the updates.

What was measured on the way, for networks of one's own:

* With the customary small initial weights and noisy inputs the first gradients of 1,000 walkers and 1,000 images hold
  no signal at all (signal to noise 0.0 in squared norm): the Gaussian has the data's moments, and small features are
  linear. With weights that keep unit variance it is 0.5, with denoised inputs, too, 1.1.
* Walkers that steer 77,000 parameters misjudge their own weights, the more the faster they go and the fewer they are.
  1,000 updates at rate 1.5e-4: with 1,024 walkers the masses of the model are .66 : .28 : .05 (s.e. .03), with 2,048
  (run here) .62 : .31 : .07 (s.e. .01), cross-entropy 91.8 nats. After 1,500 updates at 3e-4 with 1,024 it is 89.0, but
  the driver says .62 : .29 : .09 where the model has .65 : .15 : .20.
* PCD ends with .61 : .28 : .10 and 94.0 nats, having been up to 35 nats worse than its start on the way; CD stays at 98
  nats with .77 : .22 : .00, while its walkers, put back at the data all the time, show the right masses.

Reference:
    Carbone, Hua, Coste and Vanden-Eijnden, NeurIPS 2023 (arXiv 2305.19414), the experiment on MNIST.
"""

from __future__ import annotations

import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from quasistatic._keys import named
from quasistatic._results import Estimate
from quasistatic._types import Key
from quasistatic.datasets import mnist_mixture
from quasistatic.datasets.digit_mixture import DigitMixture, classes_of
from quasistatic.energies import Gaussian, convnet
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.neural import Inputs, Neural
from quasistatic.evaluate.annealing import annealed
from quasistatic.kernels import HMC, MALA
from quasistatic.regulators import Restart
from quasistatic.reproduce.rows import Row
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.estimators import log_z_from_groups
from quasistatic.train.anchor import Anchors
from quasistatic.train.auditing import AnchoredAuditor
from quasistatic.train.step import run_chunk
from quasistatic.train.trainer import Trainer, jarzynski, pcd

DIGITS, MASSES = (2, 3, 6), (0.6, 0.3, 0.1)
NOISE, SIDE, POOL = 0.3, 14, 2
METHODS = ("jarzynski", "pcd", "cd")
MIN_ESS = 30.0
"""Effective walkers below which a mass is printed as unreliable."""


class Size(NamedTuple):
    """How large an experiment is.

    Attributes:
        n_walkers: walkers of every method.
        n_steps: updates of every method.
        batch_size: images per update.
        rate: largest step of Adam; a cosine takes it to a twentieth.
        n_chains: walkers of the final annealing.
        n_temperatures: its temperatures.
        n_records: recorded steps.
        convolutions: of the network: name or list.
    """

    n_walkers: int
    n_steps: int
    batch_size: int
    rate: float
    n_chains: int
    n_temperatures: int
    n_records: int
    convolutions: str | tuple[tuple[int, int, int, int, int], ...] = "mnist"


FULL = Size(2048, 1000, 512, 1.5e-4, 1024, 500, 20)
QUICK = Size(64, 60, 32, 4e-4, 32, 30, 3, ((1, 8, 4, 2, 1), (8, 16, 4, 2, 1)))  # compiling is most of its time


class Trace(NamedTuple):
    """One run.

    Attributes:
        step: recorded steps.
        walkers: mass of each digit among the walkers, weighted where the method weighs, shape `(n, 3)`.
        ess: ESS fraction of the driver, NaN where it has no weights.
        anchor_step: steps of the audited copies.
        entropy: their cross-entropy of the test images, nats.
        stderr: its standard error.
        x: walkers at the end, drawn by their weights.
        model: trained energy.
        seconds: wall-clock time.
    """

    step: np.ndarray
    walkers: np.ndarray
    ess: np.ndarray
    anchor_step: np.ndarray
    entropy: np.ndarray
    stderr: np.ndarray
    x: np.ndarray
    model: AbstractEnergy
    seconds: float


class Masses(NamedTuple):
    """What annealing says about a model.

    Attributes:
        log_z: `log Z`.
        entropy: cross-entropy of the test images, nats.
        masses: mass of each digit, shape `(3,)`.
        stderr: standard errors, from groups.
        ess: effective walkers.
    """

    log_z: Estimate
    entropy: float
    masses: np.ndarray
    stderr: np.ndarray
    ess: float


def images(n_copies: int = 8) -> DigitMixture:
    """The data. Raises: InputError where MNIST is not found."""
    return mnist_mixture(DIGITS, MASSES, pool=POOL, noise=NOISE, n_copies=n_copies)


def student(key: Key, x: np.ndarray, size: Size = FULL) -> Neural:
    """Network, zero at first, in the Gaussian with the moments of the data."""
    covariance = np.cov(x.astype(np.float64), rowvar=False)
    law = Gaussian.from_covariance(jnp.asarray(x.mean(0), float), jnp.asarray(covariance, float))
    return convnet(key, (SIDE, SIDE, 1), size.convolutions, law=law, inputs=Inputs.denoised(law, NOISE))


def trainer(method: str, size: Size) -> Trainer:
    """Trainer of one of `METHODS`: the same walkers, kernel, optimiser and number of updates."""
    optimiser = optax.adam(optax.cosine_decay_schedule(size.rate, size.n_steps, 0.05))
    options: dict[str, Any] = dict(
        n_walkers=size.n_walkers, step_size=0.03, auditor_groups=0, batch_size=size.batch_size
    )
    if method == "jarzynski":
        return jarzynski(MALA(), optimiser, resample_below=0.5, **options)
    regulators = (Restart("data"),) if method == "cd" else ()
    return pcd(MALA(), optimiser, regulators=regulators, **options)


def run(key: Key, method: str, data: DigitMixture, size: Size, *, shows: bool = False) -> Trace:
    """One training.

    Args:
        key: random key.
        method: one of `METHODS`.
        data: images.
        size: size of the experiment.
        shows: print a line per record on standard error.
    """
    started = time.perf_counter()
    train, test = data.dataset.train, data.dataset.test
    machine = trainer(method, size)
    model = student(named(key, "student"), train, size)
    state = machine.init(named(key, "run"), model)
    auditing = auditor(named(key, "audit"), model, test, size)
    rows, x, anchors = [], jnp.asarray(train), []
    last = 0
    for stop in np.unique(np.linspace(0, size.n_steps, size.n_records + 1).astype(int))[1:]:
        state = run_chunk(machine, state, x, jnp.asarray(stop, jnp.int32))
        anchors += auditing.advance(state, int(stop) - last, is_age=len(rows) % 5 == 4)
        last = int(stop)
        weights = np.asarray(state.ensemble.weights()) if method == "jarzynski" else None
        masses = masses_of(data, np.asarray(state.ensemble.x), weights)
        ess = float(jnp.min(state.ensemble.ess())) if method == "jarzynski" else np.nan
        rows.append((stop, *masses, ess))
        if shows:
            _show(method, int(stop), size, rows[-1], auditing, time.perf_counter() - started)
    anchors += auditing.finish(state)
    found = [a for a in sorted(anchors, key=lambda a: a.step) if a.ll_heldout.value is not None]
    table = np.array(rows, float)
    weights = state.ensemble.weights() if method == "jarzynski" else jnp.full(size.n_walkers, 1 / size.n_walkers)
    chosen = jax.random.choice(named(key, "shown"), size.n_walkers, (64,), p=weights)
    return Trace(
        table[:, 0],
        table[:, 1:4],
        table[:, 4],
        np.array([a.step for a in found]),
        np.array([-float(a.ll_heldout.value or 0) for a in found]),
        np.array([float(a.ll_heldout.stderr or 0) for a in found]),
        np.asarray(state.ensemble.x)[np.asarray(chosen)],
        state.model,
        time.perf_counter() - started,
    )


def _show(method: str, stop: int, size: Size, row: tuple, auditing: AnchoredAuditor, seconds: float) -> None:
    shares = ", ".join(f"{mass:.2f}" for mass in row[1:4])
    line = f"{method} {stop}/{size.n_steps}  walkers {shares}  ESS {row[4]:.2f}"
    if auditing.latest is not None and auditing.latest.ll_heldout.value is not None:
        line += f"  cross-entropy {-auditing.latest.ll_heldout.value:.2f} of step {auditing.latest.step}"
    print(f"{line}  {seconds:.0f} s, {seconds / stop * (size.n_steps - stop):.0f} s left", file=sys.stderr)


def auditor(key: Key, model: Neural, test: Any, size: Size) -> AnchoredAuditor:
    """Audits copies beside the updates; their likelihoods are of the test images."""

    def likelihoods(energy: Any, beta: Any, log_z: Estimate) -> tuple[Estimate, Estimate]:
        del beta
        found = -log_z - float(_mean_potential(energy, jnp.asarray(test)))
        return found, found

    kernel = HMC(n_leapfrog=4)
    plan = Anchors(
        n_groups=16,
        n_walkers=max(4, size.n_chains // 64),
        max_temperatures=max(32, size.n_temperatures // 2),
        share=0.15,
    )
    cost = 2.0 * size.n_walkers + size.batch_size
    return AnchoredAuditor(
        key, plan, kernel, model.base(), likelihoods, beta=1.0, step_size=0.25, cost=cost / kernel.n_leapfrog
    )


@jax.jit
def _mean_potential(energy: Any, x: Any) -> Any:
    # whole blocks: a remainder would be a second program
    blocks = jnp.resize(x, (-(-len(x) // 256), 256, x.shape[1]))
    return jnp.mean(jax.lax.map(jax.vmap(lambda one: energy(one)), blocks).ravel()[: len(x)])


def masses_of(data: DigitMixture, x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Mass of each digit among samples, shape `(3,)`."""
    classes = classes_of(data.dataset.train, data.labels["train"], x)
    weights = np.full(len(x), 1 / len(x)) if weights is None else weights
    return np.array([weights[classes == k].sum() for k in range(len(DIGITS))])


def weighed(key: Key, model: Any, data: DigitMixture, size: Size, *, n_groups: int = 16) -> Masses:
    """Masses and cross-entropy of a model by annealing from its Gaussian.

    Args:
        key: random key, used by nothing else.
        model: trained energy.
        data: images.
        size: size of the annealing.
        n_groups: independent groups.
    """
    end: Ensemble = annealed(
        key, model, model.base(), n_temperatures=size.n_temperatures, n_chains=size.n_chains, n_groups=n_groups,
        kernel=HMC(n_leapfrog=4), step_size=0.25,
    )  # fmt: skip
    groups = np.asarray(end.log_partition_groups(), np.float64)
    log_z = log_z_from_groups(groups, ess=float(jnp.mean(end.ess())), bias="low", method="annealing")
    classes = classes_of(data.dataset.train, data.labels["train"], np.asarray(end.x))
    w = np.asarray(end.weights(), np.float64)
    one_hot = np.eye(len(DIGITS))[classes]
    masses = w @ one_hot / w.sum()
    # ratio estimator: groups are independent
    residual = (w[:, None] * (one_hot - masses)).reshape(n_groups, -1, len(DIGITS)).sum(1) / w.sum()
    stderr = np.sqrt((residual**2).sum(0) * n_groups / (n_groups - 1))
    energy = float(_mean_potential(model, jnp.asarray(data.dataset.test)))
    entropy = energy + (log_z.value if log_z.value is not None else np.nan)
    return Masses(log_z, entropy, masses, stderr, float(w.sum() ** 2 / (w**2).sum()))


def check(key: Key, is_quick: bool = False) -> tuple[list[Row], dict[str, Any]]:
    """All rows, and the figures.

    Args:
        key: random key; run keys are derived from it.
        is_quick: a few updates of few walkers and a smaller network, to see that everything works; the masses are then
            those of a model that has hardly learned, and only the books are judged.
    """
    size = QUICK if is_quick else FULL
    data = images(1 if is_quick else 8)
    traces, found, rows = {}, {}, []
    for method in METHODS:
        traces[method] = run(named(key, method), method, data, size, shows=not is_quick)
        found[method] = weighed(named(key, f"weighed {method}"), traces[method].model, data, size)
        rows += mass_rows(method, found[method], is_judged=method == "jarzynski" and not is_quick)
        rows += entropy_rows(method, traces[method], found[method])
    return rows, {"jarzynski-mnist": curves(traces, found), "jarzynski-mnist-walkers": walkers(traces, data)}


def mass_rows(method: str, found: Masses, *, is_judged: bool) -> list[Row]:
    """Mass of each digit in the model; only Jarzynski's are judged, the others stand beside them."""
    note = "" if found.ess >= MIN_ESS else f", UNRELIABLE: {found.ess:.0f} effective walkers"
    return [
        Row(
            f"{NAMES[method]}: mass of the digit {digit} in the model (ESS {found.ess:.0f}{note})",
            truth,
            float(mass) if found.ess >= MIN_ESS or not is_judged else None,
            float(stderr),
            0.07 if is_judged else 1.0,
        )
        for digit, truth, mass, stderr in zip(DIGITS, MASSES, found.masses, found.stderr, strict=True)
    ]


def entropy_rows(method: str, trace: Trace, found: Masses) -> list[Row]:
    """Live cross-entropy of the final model against annealing with other walkers."""
    is_final = len(trace.anchor_step) > 0 and trace.anchor_step[-1] == trace.step[-1]
    if not is_final or found.log_z.stderr is None:
        return [Row(f"{NAMES[method]}: live cross-entropy minus annealing [nats]", 0.0, None, None, 0.0)]
    stderr = float(np.hypot(trace.stderr[-1], found.log_z.stderr))
    difference = float(trace.entropy[-1] - found.entropy)
    label = f"{NAMES[method]}: live cross-entropy of the test images ({trace.entropy[-1]:.2f} nats) minus annealing"
    return [
        Row(label, 0.0, difference, stderr, 3 * stderr),
        Row(f"{NAMES[method]}: their combined standard error [nats]", 0.0, stderr, None, 2.0),
    ]


def curves(traces: dict[str, Trace], found: dict[str, Masses]) -> Any:
    """Masses of the walkers and of the models, cross-entropy and ESS, against the update."""
    from quasistatic.plots import grid_of, styled

    fig, axes = grid_of(2, 3)
    with styled():
        for method, trace in traces.items():
            style: dict[str, Any] = dict(color=COLOURS[method], lw=1.3, label=NAMES[method])
            point: dict[str, Any] = dict(color=COLOURS[method], fmt="o", ms=4, capsize=2)
            for k, ax in enumerate(axes[:3]):
                ax.plot(trace.step, trace.walkers[:, k], **style)
                ax.errorbar(1.03 * trace.step[-1], found[method].masses[k], found[method].stderr[k], **point)
            axes[3].errorbar(trace.anchor_step, trace.entropy, trace.stderr, **style)
            axes[3].errorbar(1.03 * trace.step[-1], found[method].entropy, found[method].log_z.stderr or 0.0, **point)
            if np.isfinite(trace.ess).any():
                axes[4].plot(trace.step, trace.ess, **style)
        for digit, truth, ax in zip(DIGITS, MASSES, axes, strict=False):
            ax.axhline(truth, color="#444444", lw=0.8, ls=":")
            ax.set_title(f"mass of the digit {digit}: walkers (line), model (point)", fontsize=9)
            ax.set_ylim(0, 1)
        axes[3].set_title("cross-entropy [nats], live (line), annealed (point)", fontsize=9)
        axes[4].set_title("effective sample size of the driver", fontsize=9)
        axes[4].set_ylim(0, 1.03)
        axes[5].set_visible(False)
        for ax in axes[:5]:
            ax.set_xlabel("update", fontsize=8.5)
            ax.tick_params(labelsize=8)
        axes[0].legend(loc="lower left")
    return fig


def walkers(traces: dict[str, Trace], data: DigitMixture) -> Any:
    """64 walkers of each method at the end of its run, drawn by their weights, and 64 images of the data."""
    from quasistatic.plots import grid_of, styled

    fig, axes = grid_of(2, 2)
    fig.set_size_inches(8, 8.4)
    rng = np.random.RandomState(0)
    shown = {"data": data.dataset.train[rng.choice(len(data.dataset.train), 64, replace=False)]}
    shown |= {NAMES[method]: trace.x for method, trace in traces.items()}
    with styled():
        for ax, (name, x) in zip(axes, shown.items(), strict=True):
            tiles = np.pad(x.reshape(8, 8, SIDE, SIDE), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=1.0)
            ax.imshow(tiles.transpose(0, 2, 1, 3).reshape(8 * (SIDE + 1), -1), cmap="gray_r", vmin=-1, vmax=1)
            ax.set_title(name, fontsize=9)
            ax.set_axis_off()
    return fig


NAMES = {"jarzynski": "Jarzynski weights", "pcd": "PCD", "cd": "CD"}
COLOURS = {"jarzynski": "#1F6FB4", "pcd": "#C8501E", "cd": "#4E8F3A"}
