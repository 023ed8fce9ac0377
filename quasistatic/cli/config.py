"""Configuration of a run: one strict model per section, from a recipe or a TOML file and `--set` overrides.

A run is described by flat sections. Every key has a type and a range; an unknown key, a wrong type or a
value out of range is refused in one line that names the key, the value and what is allowed. Nothing here
needs JAX, so that a typing error is found in a moment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quasistatic.cli import toml
from quasistatic.cli.bases import check_base
from quasistatic.cli.checks import check_digits, check_pace
from quasistatic.cli.exchange import ExchangeSection, check_exchange
from quasistatic.cli.short_runs import check_short_run
from quasistatic.cli.temperature import TemperatureSection, check_temperature
from quasistatic.errors import InputError

MAX_STEPS = 2**31 - 1  # step counters are 32-bit integers on every device
Count = Annotated[int, Field(ge=0, le=MAX_STEPS)]
Positive = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class RunSection(_Section):
    """Name, randomness and length of the run."""

    recipe: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = "run"
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    n_steps: Positive
    max_minutes: Annotated[float, Field(gt=0)] | None = None


class DataSection(_Section):
    """Origin of the samples. `n_samples` is for drawn data, `heldout_fraction` files, the keys from `binary` on MNIST.

    `digits` keeps only these digits, in the proportions `masses`; `pool` averages squares of pixels, `noise` is added
    to grey values, `n_copies` times to each training image. With `labels` (digits, MNIST) the class of a sample follows
    its pixels, one unit for each class: `sample --label 3` then generates threes.
    """

    source: Literal["digits", "mnist", "cifar10", "ising", "mixture", "file"]
    path: Annotated[str, Field(min_length=1)] | None = None
    batch_size: Count = 0
    n_samples: Annotated[int, Field(ge=10, le=10**8)] = 20000
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    binary: bool = True
    labels: bool = False
    digits: list[Annotated[int, Field(ge=0, le=9)]] | None = None
    masses: list[Annotated[float, Field(gt=0)]] | None = None
    pool: Literal[1, 2, 4, 7] = 1
    noise: Annotated[float, Field(ge=0, le=100)] = 0.0
    n_copies: Annotated[int, Field(ge=1, le=1000)] = 1


class ModelSection(_Section):
    """The energy. `energy` is `module:attr`; `base`, `base_scale` and `n_bridge` anchor its log Z.

    Networks (`mlp`, `convnet`) live inside the law `base`, `base_scale` times as wide as the data: `"gaussian"` has the
    data's variances, `"covariance"` their covariance, `"isotropic"` their mean variance. `widths` are their hidden
    dense layers (default 128, 128 and 64), `image` is height, width, channels (default: a square of one channel).
    """

    kind: Literal["rbm", "pairwise", "mixture", "mlp", "convnet", "custom"]
    n_hidden: Positive = 24
    units: Literal["binary", "spin"] = "binary"
    weight_scale: Annotated[float, Field(ge=0, le=100)] = 0.01
    n_components: Annotated[int, Field(ge=1, le=10000)] = 4
    beta: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    energy: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    widths: list[Positive] | None = None
    activation: Literal["silu", "softplus", "tanh", "leaky_relu"] = "silu"
    architecture: Literal["mnist", "cifar"] = "mnist"
    image: Annotated[list[Positive], Field(min_length=3, max_length=3)] | None = None
    base: Literal["gaussian", "covariance", "isotropic", "uniform", "frequencies"] = "gaussian"
    base_scale: Annotated[float, Field(gt=0, le=1000)] = 1.5
    n_bridge: Annotated[int, Field(ge=0, le=10**7)] = 200


class KernelSection(_Section):
    """The Markov kernel: `n_sweeps` per update, and `n_sweeps_late` from `optimiser.decay_from` on (None: the same).

    With `pace` the sweeps double and halve with the autocorrelation time of the walkers' potential, to near a `pace`-th
    of it, at most `most_sweeps`; `n_sweeps` is then what they begin with, and the fewest.
    `step_size` is for Langevin kernels and HMC (there the leapfrog step), `fused`, `low` and `high` (a box) for `ula`,
    `n_leapfrog` and `adjusted` for `hmc`; `clip` limits every component of a drift.
    """

    kind: Literal["block_gibbs", "gibbs", "ula", "mala", "hmc"]
    n_sweeps: Annotated[int, Field(ge=1, le=10**6)] = 1
    n_sweeps_late: Annotated[int, Field(ge=1, le=10**6)] | None = None
    pace: Annotated[float, Field(gt=0, le=1e6)] | None = None
    most_sweeps: Annotated[int, Field(ge=1, le=10**6)] = 256
    step_size: Annotated[float, Field(gt=0, le=1000)] = 0.01
    fused: bool = False
    clip: Annotated[float, Field(gt=0)] | None = None
    low: float | None = None
    high: float | None = None
    n_leapfrog: Annotated[int, Field(ge=1, le=10**5)] = 10
    adjusted: bool = True


class TrainingSection(_Section):
    """The learning rule and the driving walkers, in `n_groups` equal groups that resample apart from each other.

    `resample_*` act on the method `jarzynski`.
    `n_moved` walkers, chosen at random, are moved per update (0: all); the others only meet the new parameters.
    `feedback` estimates the bias of the walkers' own log Z under `jarzynski`: `update` is cheap, `path` goes to the
    full leading order; there is none for natural steps, which are not linear in the gradient.
    `data_noise` is the standard deviation of the noise that every batch of continuous samples gets anew.
    """

    method: Literal["pcd", "cd", "short-run", "jarzynski"] = "pcd"
    n_walkers: Annotated[int, Field(ge=2, le=10**8)] = 512
    n_moved: Count = 0
    n_groups: Annotated[int, Field(ge=1, le=65536)] = 1
    resample_below: Fraction = 0.5
    resample_method: Literal["systematic", "stratified", "residual", "multinomial"] = "systematic"
    centred: bool = False
    positive: Literal["exact", "sampled"] = "exact"
    l1: Annotated[float, Field(ge=0)] = 0.0
    l2: Annotated[float, Field(ge=0)] = 0.0
    feedback: Literal["off", "update", "path"] = "update"
    data_noise: Annotated[float, Field(ge=0, le=100)] = 0.0


class ShortRunSection(_Section):
    """Runs of `training.method = "short-run"`: `k` sweeps (default `kernel.n_sweeps`) from a law that is not learned.

    `start`: `noise` (uniform states, or a normal law `scale` wide), `mean-field` (coordinates independent, each as in
    the data), `gaussian` (the data's mean and covariance) or `box` (uniform from `low` to `high`). `first_step` and
    `first_temperature` are those of the first sweep over those of the last.
    """

    k: Annotated[int, Field(ge=1, le=10**6)] | None = None
    start: Literal["noise", "mean-field", "gaussian", "box"] = "noise"
    scale: Annotated[float, Field(gt=0, le=1000)] = 1.0
    low: float = -1.0
    high: float = 1.0
    first_step: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    first_temperature: Annotated[float, Field(gt=0, le=1e6)] = 1.0


class OptimiserSection(_Section):
    """Gradient descent; a linear schedule falls to 0 after the fraction `decay_from` of the run.

    `momentum` is the decay of past steps (`sgd`, default 0) or of past gradients (`adam`, default 0.9). An update takes
    the share `rate * weight_decay` from all trained parameters (`training.l2` is a prior on interactions instead).

    For `kind = "natural"`: `damping` is added to the metric, `solver` finds the step, `max_kl` is the largest relative
    entropy of an update in nats, and `adaptive` lets the damping follow the updates' success. `kind = "least-work"`
    spends the `n_steps` of the run on natural steps of least excess work, with the measured lag of the walkers; `rate`
    and `schedule` then have no say. `inflation` is for a metric of far fewer rows than parameters.
    """

    kind: Literal["sgd", "adam", "natural", "least-work"] = "sgd"
    rate: Annotated[float, Field(gt=0, le=1e6)] = 0.05
    schedule: Literal["constant", "linear"] = "constant"
    decay_from: Decay = 0.5
    momentum: Decay | None = None
    weight_decay: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    ema: Decay = 0.0
    damping: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    solver: Literal["samples", "dense", "cg", "minres", "diagonal", "kfac"] = "samples"
    max_kl: Annotated[float, Field(gt=0, le=1000)] | None = None
    adaptive: bool = False
    inflation: Annotated[float, Field(gt=0, le=1e6)] = 1.0


class AuditorSection(_Section):
    """Independent walkers that weigh: groups, and walkers per group; 0 groups or 0 walkers for no auditor.

    `mode = "anchors"` audits copies of the model beside the updates; the keys from `max_temperatures` on are
    for it (`averaged`: copies of the averaged parameters where the run keeps them).
    """

    n_groups: Annotated[int, Field(ge=0, le=65536)] = 16
    n_walkers: Annotated[int, Field(ge=0, le=10**7)] = 64
    mode: Literal["every-update", "anchors"] = "every-update"
    max_temperatures: Annotated[int, Field(ge=64, le=10**7)] = 2000
    variance: Annotated[float, Field(gt=0, le=100)] = 1.0
    share: Annotated[float, Field(gt=0, le=100)] = 0.15
    averaged: bool = True


class RecordSection(_Section):
    """How often, in updates, a row is written and a checkpoint saved; how many models are kept.

    Their updates are spaced `log` (from 1 on), `exp` (the grid of the package `rbms`) or `linear`. At every such age
    copies of `n_probes` walkers are followed for `probe` times the sweeps of an update, to see whether they are in
    equilibrium with the model; 0 for none.
    """

    every: Positive = 20
    n_ages: Annotated[int, Field(ge=0, le=10000)] = 20
    spacing: Literal["log", "exp", "linear"] = "log"
    checkpoint_every: Positive = 500
    n_probes: Annotated[int, Field(ge=0, le=10**6)] = 128
    probe: Annotated[int, Field(ge=2, le=10**4)] = 16


class Config(_Section):
    """All of a run."""

    run: RunSection
    data: DataSection
    model: ModelSection
    kernel: KernelSection
    training: TrainingSection = TrainingSection()
    optimiser: OptimiserSection = OptimiserSection()
    temperature: TemperatureSection = TemperatureSection()
    auditor: AuditorSection = AuditorSection()
    record: RecordSection = RecordSection()
    short_run: ShortRunSection = ShortRunSection()
    exchange: ExchangeSection = ExchangeSection()


KERNELS = {
    "rbm": ("block_gibbs",),
    "pairwise": ("gibbs",),
    "mixture": ("ula", "mala", "hmc"),
    "mlp": ("ula", "mala", "hmc"),
    "convnet": ("ula", "mala", "hmc"),
    "custom": ("ula", "mala", "hmc", "gibbs"),
}
"""Kernels that move each kind of model, the default first."""

NETWORKS = ("mlp", "convnet")
"""Kinds of models that are networks in a confining law."""


def keys() -> dict[str, list[str]]:
    """Keys of every section, in order."""
    return {name: list(section(name).model_fields) for name in Config.model_fields}


def section(name: str) -> type[BaseModel]:
    """Model of one section."""
    return Config.model_fields[name].annotation  # type: ignore[return-value]


def resolve(raw: dict[str, Any], *, source: str) -> Config:
    """Configuration from parsed TOML.

    Args:
        raw: sections by name; the kernel's kind may be left to the model.
        source: where it comes from, for messages.

    Raises:
        InputError: unknown keys, wrong types, values out of range, or parts that do not fit together.
    """
    model = raw.get("model")
    kind = model.get("kind") if isinstance(model, dict) else None
    kernel = raw.get("kernel", {})
    if isinstance(kernel, dict) and "kind" not in kernel and kind in KERNELS:
        raw = {**raw, "kernel": (kernel := {**kernel, "kind": KERNELS[kind][0]})}
    short = raw.get("short_run")
    if isinstance(kernel, dict) and kernel.get("n_sweeps", 1) == 1 and isinstance(short, dict):
        raw = raw if not short.get("k") else {**raw, "kernel": {**kernel, "n_sweeps": short["k"]}}
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise InputError(toml.problem(error, raw, keys(), source)) from None
    try:
        _check_together(config)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    return config


def _check_together(config: Config) -> None:
    """Raises InputError for values that are each fine and do not fit."""
    model, kernel, data, training = config.model, config.kernel, config.data, config.training
    if kernel.kind not in KERNELS[model.kind]:
        fitting = " or ".join(repr(kind) for kind in KERNELS[model.kind])
        raise InputError(f"kernel.kind = {kernel.kind!r} does not move a model of kind {model.kind!r}; use {fitting}")
    if kernel.fused and kernel.kind != "ula":
        raise InputError(f"kernel.fused is a move of kernel.kind = 'ula', not of {kernel.kind!r}; set it to false")
    if (kernel.low is None) != (kernel.high is None):
        raise InputError("kernel.low and kernel.high make a box together; give both or neither")
    if kernel.low is not None and kernel.high is not None:
        if kernel.kind != "ula":
            raise InputError(f"kernel.low and kernel.high box kernel.kind = 'ula', not {kernel.kind!r}; drop them")
        if not kernel.low < kernel.high:
            raise InputError(f"kernel.low must be below kernel.high, got {kernel.low:g} and {kernel.high:g}")
    if kernel.clip is not None and kernel.kind not in ("ula", "mala", "hmc"):
        raise InputError(f"kernel.clip limits a drift, which kernel.kind = {kernel.kind!r} does not have; drop it")
    if model.kind == "mixture" and model.beta != 1:
        raise InputError(f"a mixture has a known log Z at model.beta = 1 only, got {model.beta}; set it to 1")
    if model.kind == "custom" and model.energy is None:
        raise InputError("model.kind = 'custom' needs model.energy = 'module:attr' (or --energy module:attr)")
    if model.kind != "custom" and model.energy is not None:
        raise InputError(f"model.energy is for model.kind = 'custom', not {model.kind!r}; set the kind or drop it")
    check_base(config)
    check_digits(data)
    if data.source == "file" and data.path is None:
        raise InputError(
            "data.source = 'file' needs data.path (or --data): a .npy, .npz, .csv file or a folder of IDX files"
        )
    if data.source in ("digits", "ising", "mixture") and data.path is not None:
        raise InputError(
            f"data.path is not used by data.source = {data.source!r}; set data.source = 'file' or drop the path"
        )
    if training.n_moved > training.n_walkers:
        raise InputError(
            f"training.n_moved = {training.n_moved} exceeds training.n_walkers = {training.n_walkers}; lower it "
            "(0 = all of them)"
        )
    if training.n_moved and training.method in ("cd", "short-run"):
        raise InputError(
            f"training.method = {training.method!r} restarts its walkers, which must all be moved afterwards; "
            "set training.n_moved = 0"
        )
    check_pace(kernel, training)
    check_short_run(config)
    if training.n_walkers % training.n_groups:
        raise InputError(
            f"training.n_groups = {training.n_groups} does not divide training.n_walkers = {training.n_walkers}; "
            "groups have equal size"
        )
    if training.centred and model.kind != "rbm":
        raise InputError(f"training.centred needs model.kind = 'rbm', not {model.kind!r}; set it to false")
    if training.positive == "sampled" and model.kind != "rbm":
        raise InputError(f"training.positive = 'sampled' needs model.kind = 'rbm', not {model.kind!r}; use 'exact'")
    _check_optimiser(config)
    check_temperature(config)
    check_exchange(config)
    if 0 < config.auditor.n_groups < 16 and config.auditor.n_walkers:
        raise InputError(
            "auditor.n_groups must be 0 (no auditor) or at least 16 for a standard error, got "
            f"{config.auditor.n_groups}"
        )
    if config.auditor.n_groups and config.auditor.n_walkers == 1:
        raise InputError("auditor.n_walkers must be 0 (no auditor) or at least 2 per group, got 1")
    for key in ("every", "checkpoint_every"):
        if getattr(config.record, key) > config.run.n_steps:
            raise InputError(
                f"record.{key} = {getattr(config.record, key)} exceeds run.n_steps = {config.run.n_steps}; lower it"
            )


def _check_optimiser(config: Config) -> None:
    section = config.optimiser
    for name in ("momentum", "weight_decay"):
        if section.kind not in ("sgd", "adam") and getattr(section, name):
            raise InputError(f"optimiser.{name} belongs to 'sgd' and 'adam', not {section.kind!r}: leave it out")
    strange = {"natural": ("inflation",), "least-work": ("adaptive",)}
    for key in strange.get(section.kind, ("damping", "solver", "max_kl", "adaptive", "inflation")):
        if getattr(section, key) != OptimiserSection.model_fields[key].default:
            raise InputError(f"optimiser.{key} does not go with optimiser.kind = {section.kind!r}; drop it")
    if section.kind not in strange:
        return
    if config.training.positive != "exact":
        raise InputError(f"optimiser.kind = {section.kind!r} needs training.positive = 'exact', whose metric it uses")
    if section.kind == "least-work" and config.run.n_steps < 2:
        raise InputError("optimiser.kind = 'least-work' spends run.n_steps of at least 2, got 1")
    if section.adaptive and (section.schedule != "constant" or section.rate > 1):
        raise InputError("optimiser.adaptive needs optimiser.schedule = 'constant' and optimiser.rate of at most 1")


def load_config(recipe_or_toml: str, overrides: Iterable[str] = ()) -> Config:
    """Configuration of a run.

    Args:
        recipe_or_toml: name of a recipe, or path of a `.toml` file.
        overrides: `section.key=value` settings, applied in order.

    Raises:
        InputError: anything about it is wrong; one line says what.
    """
    raw, name = toml.read(recipe_or_toml)
    run = raw.setdefault("run", {})
    if isinstance(run, dict):
        run.setdefault("recipe", re.sub(r"[^A-Za-z0-9_.-]", "-", name).lstrip("._-")[:64] or "run")
    return resolve(toml.override(raw, overrides, keys()), source=recipe_or_toml)


def dump_toml(config: Config) -> str:
    """TOML text with every setting; reading it back gives an equal configuration."""
    return toml.dump(config)
