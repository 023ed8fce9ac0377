"""Trainer: a learning rule, a kernel, regulators and an optimiser, put together once.

Contrastive divergence, persistent chains, short runs and Jarzynski-corrected training are the same trainer with
different regulators; the constructors at the end carry the names people look for.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from quasistatic._keys import named
from quasistatic._types import Key
from quasistatic.energies.base import AbstractEnergy, AbstractTractable
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels import AbstractKernel, ramped
from quasistatic.metric.optim import makes_steps_of_scores
from quasistatic.regulators import AbstractRegulator, KeepESS, Resample, Restart, ShortRun
from quasistatic.rules import AbstractRule, MaximumLikelihood
from quasistatic.thermo.bridge import open_at_law
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.ledger import Ledger
from quasistatic.train.anchor import Anchors
from quasistatic.train.feedback import ORDERS, Feedback
from quasistatic.train.state import TrainState


class Trainer(eqx.Module):
    """Everything about a training run that does not evolve.

    Args:
        kernel: Markov kernel of both populations (of the auditor see `auditor_kernel`).
        rule: learning rule.
        optimiser: Optax transformation; it *descends* the rule's gradient.
        regulators: applied in order before each update.
        controls: initial controls.
        n_walkers: walkers of the driver.
        n_moved: walkers of the driver that are moved per update, a fresh random subset each time; the others only
            switch to the new model. 0 moves all. Gradient and books use all walkers in any case.
        n_groups: groups of the driver (weights and resampling act inside a group).
        batch_size: data rows per update, 0 for all.
        auditor_groups: independent groups of the auditor; at least 16 for a standard error, 0 for no auditor.
        auditor_walkers: walkers per auditor group.
        auditor_below: ESS fraction below which an auditor group resamples.
        anchors: audits copies of the model beside the updates, for models that change too fast for an auditor of
            every update; None for none.
        ema: decay of the parameter average, 0 for none.
        law: law with known Z from which walkers start; default: the model itself when tractable, else `model.base()`.
        n_bridge: annealing steps from that law to the initial model.
        keep_ess: shortens updates that would cost the driver too much of its effective sample size; None for none.
        feedback: estimate of the bias of the driver's own `log Z` (see `train.feedback`): `"update"` at next to no
            cost, `"path"` to the full leading order for a further pass over the walkers (with account weights), or
            `"off"`.
        frozen_after: updates without a single flip after which the run is declared frozen.
        memory: updates over which the work on a walker is correlated with itself, to predict the excess work (see
            `thermo.response`); several relaxation times, 0 for no prediction.
        n_probes: walkers of the driver (at most all) that are copied at every stored age and moved on at a fixed
            model, to see whether they are in equilibrium (`train.probe`); 0 for none.
        probe_factor: for how many times the sweeps of an update.
    """

    kernel: AbstractKernel
    rule: AbstractRule
    optimiser: optax.GradientTransformation = eqx.field(static=True)
    regulators: tuple[AbstractRegulator, ...] = ()
    controls: Controls = eqx.field(default_factory=Controls.of)
    n_walkers: int = eqx.field(static=True, default=512)
    n_moved: int = eqx.field(static=True, default=0)
    n_groups: int = eqx.field(static=True, default=1)
    batch_size: int = eqx.field(static=True, default=0)
    auditor_groups: int = eqx.field(static=True, default=16)
    auditor_walkers: int = eqx.field(static=True, default=64)
    auditor_below: float = eqx.field(static=True, default=0.5)
    anchors: Anchors | None = eqx.field(static=True, default=None)
    ema: float = eqx.field(static=True, default=0.0)
    law: AbstractTractable | None = None
    n_bridge: int = eqx.field(static=True, default=0)
    keep_ess: KeepESS | None = None
    feedback: str = eqx.field(static=True, default="update")
    frozen_after: int = eqx.field(static=True, default=200)
    memory: int = eqx.field(static=True, default=100)
    n_probes: int = eqx.field(static=True, default=0)
    probe_factor: int = eqx.field(static=True, default=16)

    def __check_init__(self):
        for name in ("n_walkers", "n_groups", "frozen_after", "probe_factor"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("batch_size", "n_moved", "auditor_groups", "auditor_walkers", "n_bridge", "memory", "n_probes"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.n_probes and min(self.n_probes, self.n_walkers) < 2:
            raise InputError(
                f"probes need at least 2 walkers for an error, got n_probes = {self.n_probes} of {self.n_walkers}; "
                "0 is none"
            )
        if self.n_moved > self.n_walkers:
            raise InputError(f"n_moved = {self.n_moved} exceeds the {self.n_walkers} walkers; lower it, or 0 for all")
        if self.n_moved and any(regulator.may_restart for regulator in self.regulators):
            raise InputError("walkers that are restarted must all be moved afterwards; set n_moved = 0")
        if self.kernel.n_replicas > 1 and any(regulator.may_restart for regulator in self.regulators):
            raise InputError("stacks of replicas cannot be restarted from data or noise; use persistent walkers")
        if self.anchors is not None and self.has_auditor:
            raise InputError("give either an auditor of every update or anchors; set auditor_groups = 0 for anchors")
        if self.feedback not in ORDERS:
            raise InputError(f"feedback must be one of {ORDERS}, got {self.feedback!r}")
        if not 0 <= self.ema < 1:
            raise InputError(f"ema is a decay in [0, 1), got {self.ema}")

    @property
    def has_auditor(self) -> bool:
        return self.auditor_groups > 0 and self.auditor_walkers > 0

    @property
    def auditor_kernel(self) -> AbstractKernel:
        """Kernel of the auditor: the driver's, or of single walkers where stacks would not tell the model's `log Z`."""
        return self.kernel if self.kernel.has_model_work else self.kernel.single

    @property
    def is_weighted(self) -> bool:
        """Whether the gradient uses the driver's weights."""
        return isinstance(self.rule, MaximumLikelihood) and self.rule.weighted

    @property
    def has_feedback(self) -> bool:
        """Whether the driver's feedback is estimated: its walkers make the gradient and are never put elsewhere."""
        has_phases = isinstance(self.rule, MaximumLikelihood)
        return self.feedback != "off" and has_phases and not self.is_restarted and self.n_walkers > 1

    @property
    def is_restarted(self) -> bool:
        """Whether the driver's walkers start anew in every update."""
        return any(isinstance(regulator, (Restart, ShortRun)) for regulator in self.regulators)

    def starting_law(self, model: AbstractEnergy) -> AbstractTractable:
        """Law with known Z at which the books are opened. Raises: InputError when there is none."""
        if self.law is not None:
            return self.law
        if isinstance(model, AbstractTractable):
            return model
        base = getattr(model, "base", None)
        if base is None:
            raise InputError(
                f"{type(model).__name__} has no law with known Z to start from; give law = Gaussian(...) or "
                "UniformBox(...) and a bridge (n_bridge of 100 or more)"
            )
        return base()

    def init(self, key: Key, model: AbstractEnergy) -> TrainState:
        """State before the first update.

        Args:
            key: run key; every random number of the run derives from it.
            model: initial parameters.

        Raises:
            InputError: kernel, rule and energy do not fit, or there is no law to start from.
        """
        self.kernel.check(model)
        self.rule.check(model)
        law = self.starting_law(model)
        ensemble, auditor = _open_populations(self, key, model, law)
        for population in (None if self.is_restarted else ensemble, auditor):
            _check_inside(self.kernel.single, population)
        trained = eqx.filter(model, eqx.is_inexact_array)
        opt_state = self.optimiser.init(trained)
        feedback = None
        if self.has_feedback:
            is_linear = not makes_steps_of_scores(opt_state)
            order = self.feedback if is_linear and self.is_weighted else "update"
            feedback = Feedback.open(trained, opt_state if is_linear else (), order=order, dtype=ensemble.u.dtype)
        return TrainState(
            model=model,
            averaged=model if self.ema else None,
            opt_state=opt_state,
            rule_state=self.rule.init(model),
            regulator_states=tuple(regulator.init() for regulator in self.regulators),
            ensemble=ensemble,
            auditor=auditor,
            controls=self.controls,
            ledger=Ledger.open(ensemble, memory=self.memory),
            auditor_ledger=Ledger.open(auditor) if auditor is not None else None,
            feedback=feedback,
            key=jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key,
            step=jnp.zeros((), jnp.int32),
            gradient_norm=jnp.zeros((), ensemble.u.dtype),
            data_potential=jnp.zeros((), ensemble.u.dtype),
            result=jnp.zeros((), jnp.int32),
        )


# not of the trainer: trainers that differ in rules and regulators share the program
_opened_at_law = eqx.filter_jit(open_at_law)


def _check_inside(kernel: AbstractKernel, population: Ensemble | None) -> None:
    """Raises InputError for walkers that begin outside the box of their kernel, where they could never move."""
    single: Any = getattr(kernel, "kernel", kernel)  # a ramped kernel holds another
    box = getattr(single, "box", None)
    if box is None or population is None or isinstance(population.x, Tracer):
        return
    low, high = float(jnp.min(population.x)), float(jnp.max(population.x))
    if not (box[0] <= low and high <= box[1]):
        raise InputError(
            f"walkers start between {low:.3g} and {high:.3g}, out of the kernel's box from {box[0]:g} to {box[1]:g}, "
            "and could never move; give the trainer a law inside the box, such as law = starts.box(low, high, size)"
        )


def _open_populations(
    trainer: Trainer, key: Key, model: AbstractEnergy, law: AbstractTractable
) -> tuple[Ensemble, Ensemble | None]:
    def opened(purpose: str, kernel: AbstractKernel, n_walkers: int, n_groups: int) -> Ensemble:
        return _opened_at_law(
            named(key, purpose),
            kernel,
            Potential(model, trainer.controls.beta),
            law,
            n_walkers=n_walkers,
            n_groups=n_groups,
            n_bridge=trainer.n_bridge,
            controls=trainer.controls,
        )

    driver = opened("driver", trainer.kernel, trainer.n_walkers, trainer.n_groups)
    if not trainer.has_auditor:
        return driver, None
    n = trainer.auditor_groups * trainer.auditor_walkers
    return driver, opened("auditor", trainer.auditor_kernel, n, trainer.auditor_groups)


def pcd(
    kernel: AbstractKernel,
    optimiser: optax.GradientTransformation,
    *,
    k: int = 1,
    centred: bool = False,
    **options: Any,
) -> Trainer:
    """Persistent contrastive divergence: persistent walkers, uniform weights, `k` sweeps (Tieleman 2008).

    Args:
        kernel: Markov kernel.
        optimiser: Optax transformation.
        k: sweeps per update.
        centred: centred gradient (RBM).
        options: further fields of `Trainer`.
    """
    return _trainer(kernel, optimiser, MaximumLikelihood(centred=centred), (), k, options)


def cd(
    kernel: AbstractKernel,
    optimiser: optax.GradientTransformation,
    *,
    k: int = 1,
    centred: bool = False,
    **options: Any,
) -> Trainer:
    """Contrastive divergence: walkers restarted from the batch at every update (Hinton 2002). Arguments as `pcd`."""
    return _trainer(kernel, optimiser, MaximumLikelihood(centred=centred), (Restart("data"),), k, options)


def short_run(
    kernel: AbstractKernel,
    optimiser: optax.GradientTransformation,
    start: AbstractTractable,
    *,
    k: int = 10,
    first_step: float = 1.0,
    first_temperature: float = 1.0,
    centred: bool = False,
    **options: Any,
) -> Trainer:
    """Short-run training: `k` sweeps from a fixed law before every update, with fresh walkers.

    What is trained is the law after `k` sweeps, not the equilibrium: sample by `k` sweeps from the same start.

    Args:
        kernel: Markov kernel.
        optimiser: Optax transformation.
        start: law of the start, independent of the model (`energies.starts` has noise, mean fields and boxes).
        k: sweeps of a run.
        first_step: step size of the first sweep over that of the last, falling in equal ratios.
        first_temperature: the same of the temperature.
        centred: centred gradient (RBM).
        options: further fields of `Trainer`.

    Reference:
        Agoritsas, Catania, Decelle and Seoane 2023 (arXiv 2301.09428); Nijkamp et al. 2019 (arXiv 1904.09770).
    """
    moves = ramped(kernel, k, first_step=first_step, first_temperature=first_temperature)
    return _trainer(moves, optimiser, MaximumLikelihood(centred=centred), (ShortRun(k, start),), k, options)


def jarzynski(
    kernel: AbstractKernel,
    optimiser: optax.GradientTransformation,
    *,
    k: int = 1,
    centred: bool = False,
    resample_below: float = 0.5,
    resample_method: Any = "systematic",
    **options: Any,
) -> Trainer:
    """Jarzynski-corrected training: persistent walkers with account weights, resampled when they degenerate.

    Args:
        kernel: Markov kernel.
        optimiser: Optax transformation.
        k: sweeps per update.
        centred: centred gradient (RBM).
        resample_below: ESS fraction that triggers resampling.
        resample_method: resampling method.
        options: further fields of `Trainer`.

    Reference:
        Carbone, Hua, Coste and Vanden-Eijnden 2023, algorithm 1 (arXiv 2305.19414).
    """
    rule = MaximumLikelihood(weighted=True, centred=centred)
    return _trainer(kernel, optimiser, rule, (Resample(resample_below, resample_method),), k, options)


def _trainer(kernel, optimiser, rule, regulators, k, options) -> Trainer:
    if k < 1:
        raise InputError(f"k is a number of sweeps of at least 1, got {k}")
    controls = options.pop("controls", None) or Controls.of(n_sweeps=k, step_size=options.pop("step_size", 0.01))
    controls = eqx.tree_at(lambda c: c.n_sweeps, controls, jnp.asarray(k, jnp.int32))
    more = tuple(options.pop("regulators", ()))
    rule = options.pop("rule", rule)
    return Trainer(kernel, rule, optimiser, regulators + more, controls, **options)
