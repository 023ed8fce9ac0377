"""From a configuration to the parts of a run: data, energy, kernel, trainer, plan."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
import optax

from quasistatic._keys import named
from quasistatic.cli.bases import box_of
from quasistatic.cli.config import NETWORKS, Config, OptimiserSection
from quasistatic.cli.custom import Boxed, base_law, check_energy, load_energy
from quasistatic.cli.data import fits_memory, load_data
from quasistatic.cli.networks import network
from quasistatic.cli.short_runs import start_of, with_schedule
from quasistatic.cli.stacks import stacked_trainer
from quasistatic.cli.thermal import temperature_regulators
from quasistatic.datasets import Dataset
from quasistatic.energies import (
    RBM,
    AbstractEnergy,
    AbstractTractable,
    GaussianMixture,
    Pairwise,
    UniformBox,
    units,
)
from quasistatic.energies.neural import Neural
from quasistatic.errors import InputError
from quasistatic.kernels import HMC, MALA, AbstractKernel, BlockGibbs, Gibbs, Langevin, SiteGibbs
from quasistatic.metric import minimal_dissipation, natural_gradient
from quasistatic.metric.solve import LARGEST_DENSE
from quasistatic.regulators import KeepPace, Resample, Restart, Scheduled, ShortRun
from quasistatic.rules import MaximumLikelihood
from quasistatic.thermo.controls import Controls
from quasistatic.train.anchor import Anchors
from quasistatic.train.trainer import Trainer

OF_SCORES = ("natural", "least-work")
"""Optimisers that make their steps of the scores of walkers and data."""


class Parts(NamedTuple):
    """What `train.loop.fit` takes: the run key, trainer, initial model and data."""

    key: Any
    trainer: Trainer
    model: AbstractEnergy
    dataset: Dataset


def build(config: Config) -> Parts:
    """All parts of a run; everything that can be refused is refused here, before a file is written.

    Raises:
        InputError: data are missing or unfit, sizes are impossible, or the parts do not fit together.
    """
    dataset = load_data(config)
    x = np.asarray(dataset.train)
    if config.data.batch_size > len(x):
        raise InputError(
            f"data.batch_size = {config.data.batch_size} exceeds the {len(x)} training samples; lower it (0 "
            "= all of them)"
        )
    check_memory(config, n_units=x[0].size, n_samples=len(x))
    key = jax.random.key(config.run.seed)
    model, law = make_model(config, key, x)
    for part, name in ((x, "training data"), (dataset.heldout, "held-out data")):
        if part is not None and len(part):
            model.validate(np.asarray(part), name=name)
    if dataset.n_labels and config.model.kind in ("convnet", "mlp", "mixture"):
        raise InputError(
            f"data.labels is for models of binary units, not model.kind = {config.model.kind!r}; use rbm or pairwise"
        )
    if config.model.kind == "custom":
        check_energy(model, x, path=str(config.model.energy))
    _check_solver(config, model)
    trainer = stacked_trainer(config, make_trainer(config, model, law, x), model)
    trainer.kernel.check(model)
    trainer.rule.check(model)
    return Parts(key, trainer, model, dataset)


def make_model(config: Config, key: Any, x: np.ndarray) -> tuple[AbstractEnergy, AbstractTractable | None]:
    """Initial model, and the law its walkers start from where the model does not bring one.

    Args:
        config: the run's configuration.
        key: run key.
        x: training samples `(n, d)`; their means set the biases.
    """
    section, key_model, n = config.model, named(key, "model"), x.shape[1]
    if section.kind == "rbm":
        units(section.units, n).validate(x, name="training data")
        model = RBM.initialise(
            key_model, n, section.n_hidden, visible=section.units, weight_scale=section.weight_scale, data=x
        )
        return model, None
    if section.kind == "pairwise":
        units(section.units, n).validate(x, name="training data")
        return Pairwise.initialise(n, units_name=section.units, data=x), None
    if section.kind == "mixture":
        return _mixture(section.n_components, key_model, x), None
    if section.kind in NETWORKS:
        return network(section, key_model, x, box_of(config)), None
    is_discrete = config.kernel.kind == "gibbs"
    levels = units(section.units, n).levels if is_discrete else None
    model = load_energy(str(section.energy), key_model, levels=levels)
    model.validate(x, name="training data")
    units_name = section.units if is_discrete else None
    law = base_law(section.base, section.base_scale, x, units_name=units_name, box=box_of(config))
    return (Boxed(model, law) if isinstance(law, UniformBox) else model), law


def _mixture(n_components: int, key: Any, x: np.ndarray) -> GaussianMixture:
    """Equal components of the data's covariance around random samples."""
    if not np.isfinite(x).all():
        raise InputError("training data holds NaN or infinite values; remove or impute them")
    if n_components > len(x):
        raise InputError(f"model.n_components = {n_components} exceeds the {len(x)} training samples; lower it")
    chosen = np.asarray(jax.random.choice(key, len(x), (n_components,), replace=False))
    covariance = np.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1]) / 2
    if np.linalg.eigvalsh(covariance).min() <= 1e-9 * max(np.trace(covariance), 1e-30):
        raise InputError(
            "training data have a direction without any spread; a Gaussian mixture cannot be placed on them"
        )
    probabilities = np.full(n_components, 1 / n_components)
    mixture = GaussianMixture.from_covariances(
        jax.numpy.asarray(probabilities, float),
        jax.numpy.asarray(x[chosen], float),
        jax.numpy.asarray(np.tile(covariance, (n_components, 1, 1)), float),
    )
    return mixture


def make_kernel(config: Config, model: AbstractEnergy) -> AbstractKernel:
    """Kernel of a configuration."""
    section, kind = config.kernel, config.kernel.kind
    if kind == "block_gibbs":
        return BlockGibbs()
    if kind == "ula":
        return Langevin(is_fused=section.fused, clip=section.clip, box=box_of(config))
    if kind == "mala":
        return MALA(clip=section.clip)
    if kind == "hmc":
        return HMC(section.n_leapfrog, section.adjusted, section.clip)
    if not isinstance(model, Pairwise):
        low, high = units(config.model.units, 1).levels or (0.0, 1.0)
        return SiteGibbs((low, high))
    n = model.units.size
    is_complete = len(model.couplings) == n * (n - 1) // 2
    return Gibbs() if is_complete else Gibbs.coloured(model)


def make_trainer(config: Config, model: AbstractEnergy, law: AbstractTractable | None, x: np.ndarray) -> Trainer:
    """Trainer of a configuration. Args: initial model; law of the walkers; training samples."""
    training, auditor = config.training, config.auditor
    regulators: tuple[Any, ...] = ()
    if training.method == "cd":
        regulators = (Restart("data"),)
    elif training.method == "short-run":
        regulators = (ShortRun(config.kernel.n_sweeps, start_of(config, model, x)),)
    elif training.method == "jarzynski":
        regulators = (Resample(training.resample_below, training.resample_method),)
    if config.kernel.n_sweeps_late is not None:
        begin = int(config.optimiser.decay_from * config.run.n_steps)
        regulators += (_late_sweeps(config.kernel.n_sweeps, config.kernel.n_sweeps_late, begin),)
    if config.kernel.pace is not None:
        most, fewest = config.kernel.most_sweeps, config.kernel.n_sweeps
        regulators += (KeepPace(training.n_walkers, ratio=config.kernel.pace, n_min=fewest, n_max=most),)
    regulators += temperature_regulators(config, len(x), x[0].size)
    rule = MaximumLikelihood(
        weighted=training.method == "jarzynski",
        centred=training.centred,
        positive=training.positive,
        l1=training.l1,
        l2=training.l2,
        data_noise=training.data_noise,
        beta_power=config.temperature.beta_power,
    )
    has_auditor = bool(auditor.n_groups and auditor.n_walkers)
    is_anchored = has_auditor and auditor.mode == "anchors"
    return Trainer(
        with_schedule(config, make_kernel(config, model)),
        rule,
        make_optimiser(config.optimiser, config.run.n_steps),
        regulators,
        Controls.of(beta=config.model.beta, n_sweeps=config.kernel.n_sweeps, step_size=config.kernel.step_size),
        n_walkers=training.n_walkers,
        n_groups=training.n_groups,
        n_moved=training.n_moved,
        batch_size=config.data.batch_size,
        auditor_groups=auditor.n_groups if has_auditor and not is_anchored else 0,
        auditor_walkers=auditor.n_walkers if has_auditor and not is_anchored else 0,
        anchors=Anchors(auditor.n_groups, auditor.n_walkers, auditor.max_temperatures, auditor.variance, auditor.share)
        if is_anchored
        else None,
        ema=config.optimiser.ema,
        law=law,
        n_bridge=config.model.n_bridge if config.model.kind == "custom" else 0,
        feedback=training.feedback,
        n_probes=min(config.record.n_probes, training.n_walkers) if training.n_walkers > 1 else 0,
        probe_factor=config.record.probe,
    )


def _check_solver(config: Config, model: AbstractEnergy) -> None:
    """Raises InputError when the solver of a natural gradient cannot take this model."""
    if config.optimiser.kind not in OF_SCORES:
        return
    n_parameters = sum(leaf.size for leaf in jax.tree.leaves(model) if eqx.is_inexact_array(leaf))
    if config.optimiser.solver == "dense" and n_parameters > LARGEST_DENSE:
        raise InputError(
            f"optimiser.solver = 'dense' takes at most {LARGEST_DENSE} parameters, this model has {n_parameters}; use "
            "'samples'"
        )
    if config.optimiser.solver == "kfac" and not isinstance(model, Neural):
        raise InputError(f"optimiser.solver = 'kfac' is for networks, not {type(model).__name__}; use 'samples'")


@functools.cache
def _late_sweeps(early: int, late: int, begin: int) -> Scheduled:
    """Another number of sweeps from step `begin` on."""
    return Scheduled("n_sweeps", lambda step: jax.numpy.where(step < begin, early, late))


def make_optimiser(section: OptimiserSection, n_steps: int) -> optax.GradientTransformation:
    """Optimiser of a configuration; the linear schedule reaches 0 after the last of `n_steps` updates.

    The same settings give the same object, so that a second run of a process finds its compiled step.
    """
    begin = int(section.decay_from * n_steps) if section.schedule == "linear" else n_steps
    is_of_scores = section.kind in OF_SCORES
    of_metric = (section.damping, section.solver, section.max_kl, section.adaptive, section.inflation)
    metric = of_metric if is_of_scores else None
    return _optimiser(section.kind, section.rate, section.momentum, section.weight_decay, begin, n_steps, metric)


@functools.cache
def _optimiser(
    kind: str,
    base_rate: float,
    momentum: float | None,
    weight_decay: float,
    begin: int,
    n_steps: int,
    metric: tuple[Any, ...] | None,
) -> optax.GradientTransformation:
    is_constant = begin >= n_steps
    rate: Any = base_rate if is_constant else optax.linear_schedule(base_rate, 0.0, n_steps - begin, begin)
    if metric is not None:
        damping, solver, max_kl, is_adaptive, inflation = metric
        if kind == "least-work":
            return minimal_dissipation(
                n_steps, relaxation=None, inflation=inflation, damping=damping, solver=solver, max_kl=max_kl
            )
        return natural_gradient(rate, damping=damping, solver=solver, max_kl=max_kl, is_adaptive=is_adaptive)
    if kind == "sgd":
        descent = optax.sgd(rate, momentum=momentum or None)
        return optax.chain(_decay(weight_decay), descent) if weight_decay else descent
    b1 = 0.9 if momentum is None else momentum
    if not weight_decay:
        return optax.adam(rate, b1=b1)
    return optax.chain(optax.scale_by_adam(b1=b1), _decay(weight_decay), optax.scale_by_learning_rate(rate))


def _decay(strength: float) -> optax.GradientTransformation:
    """Adds `strength` times the parameters to an update, where there is one.

    Arrays of a model that are not trained (a confining law, the scale of its inputs) have no gradient and stay.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def decayed(u: jax.Array, p: jax.Array) -> jax.Array:
            return u + jax.numpy.where(jax.numpy.any(u != 0), strength, 0.0) * p

        return jax.tree.map(decayed, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def check_memory(config: Config, *, n_units: int, n_samples: int) -> None:
    """Raises InputError when the parameters, walkers and data of a run cannot fit into memory.

    A lower bound: parameters with gradient, optimiser and averages, walkers with caches, and the data once.
    """
    wide = config.model.kind == "rbm"
    n_hidden = config.model.n_hidden if wide else 0
    n_parameters = {
        "rbm": n_units * n_hidden + n_units + n_hidden,
        "pairwise": n_units * (n_units + 1) // 2 + n_units**2,
        "mixture": config.model.n_components * (n_units**2 + n_units + 1),
    }.get(config.model.kind, 0)
    n_walkers = config.training.n_walkers + config.auditor.n_groups * config.auditor.n_walkers
    per_walker = 2 * n_units + 2 * n_hidden + 10
    n_rungs = config.exchange.n_rungs if config.exchange.kind == "tempering" else 1
    n_walkers += config.training.n_walkers * (n_rungs - 1)
    batch = config.data.batch_size or n_samples
    has_gram = config.optimiser.kind in OF_SCORES and config.optimiser.solver == "samples"
    gram = 3 * (config.training.n_walkers + batch) ** 2 if has_gram else 0
    total = 6 * n_parameters + n_walkers * per_walker + n_samples * n_units + batch * n_hidden + gram
    itemsize = np.dtype(jax.dtypes.canonicalize_dtype(float)).itemsize
    parts = {
        f"model.n_hidden = {n_hidden}" if wide else f"a model over {n_units} units": 6 * n_parameters
        + batch * n_hidden,
        f"training.n_walkers = {config.training.n_walkers}"
        + (f" in stacks of exchange.n_rungs = {n_rungs}" if n_rungs > 1 else ""): config.training.n_walkers
        * n_rungs
        * per_walker,
        f"auditor.n_groups x auditor.n_walkers = {config.auditor.n_groups} x {config.auditor.n_walkers}": (
            config.auditor.n_groups * config.auditor.n_walkers
        )
        * per_walker,
        f"optimiser.solver = 'samples' with data.batch_size = {batch} and training.n_walkers": gram,
    }
    fits_memory(itemsize * total, max(parts, key=lambda name: parts[name]))


def skeleton(config: Config, n_units: int) -> AbstractEnergy:
    """Model of the right structure with arbitrary parameters, to be filled from a checkpoint.

    Args:
        config: the run's configuration.
        n_units: length of one sample.
    """
    if config.model.kind == "mixture":
        k = config.model.n_components
        eye = np.tile(np.eye(n_units), (k, 1, 1))
        zeros = np.zeros((k, n_units))
        return GaussianMixture(*(jax.numpy.asarray(part, float) for part in (zeros[:, 0], zeros, eye)))
    return make_model(config, jax.random.key(0), placeholder(config, n_units))[0]


def placeholder(config: Config, n_units: int) -> np.ndarray:
    """Two samples of the right states, for structures whose numbers come from a checkpoint."""
    x = np.zeros((2, n_units))
    x[1] = 1.0
    if config.model.units == "spin":
        x[0] = -1.0
    return x


def absolute(path: str | None) -> str | None:
    """A data path that stays right when the run is read from another folder."""
    return None if path is None else str(Path(path).expanduser().resolve())
