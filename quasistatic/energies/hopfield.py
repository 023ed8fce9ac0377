"""Layered Hopfield networks: layers of units, joined by bilinear interactions, driven by clamped inputs.

    E(s; x) = sum_k [ e(s_k) - b_k . s_k ] - sum_k Phi_k(s_k, s_{k+1}) ,   s_0 = x ,   Phi_k = s_{k+1} . (W_k * s_k) ,

with `e(s) = |s|^2 / 2` for box and real units and 0 for discrete ones. The field of a layer is what its neighbours and
its bias add up to; layers of equal parity do not see each other, so the even and the odd ones are updated in turn. The
part of the first field that comes from the inputs, the *drive*, is computed once per example.

Reference:
    Scellier and Bengio 2017 (arXiv 1602.05179); Scellier et al. 2023 (arXiv 2312.15103) for convolutions with pooling;
    Laborieux et al. 2021 (arXiv 2006.03824) for a softmax read-out outside the state.
"""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._types import Key, Scalar
from quasistatic.energies.interactions import AbstractInteraction, Dense, Pooled
from quasistatic.energies.networks import Linear
from quasistatic.energies.nudged import AbstractNetwork
from quasistatic.energies.units import AbstractUnits
from quasistatic.energies.wells import LAYERS, Box
from quasistatic.errors import InputError

Layers = tuple[Array, ...]
"""States of the free layers, in order."""


class Layered(AbstractNetwork):
    """Layered Hopfield energy. One sample is the concatenation of all free layers.

    Args:
        interactions: `W_0` (from the inputs) to the one that ends at the last layer.
        biases: one per free layer, a vector of its size or one number per channel.
        units: units of every free layer.
        readout: map from the last layer to the output, part of the cost and not of the state; None: the last layer
            itself is the output.
    """

    interactions: tuple[AbstractInteraction, ...]
    biases: tuple[Float[Array, "_"], ...]
    units: tuple[AbstractUnits, ...]
    readout: Linear | None = None

    def __check_init__(self):
        if not len(self.interactions) == len(self.biases) == len(self.units) > 0:
            raise InputError(
                f"a layered network needs as many interactions and biases as layers of units, at least one, got "
                f"{len(self.interactions)}, {len(self.biases)} and {len(self.units)}"
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units of the free layers."""
        return tuple(layer.size for layer in self.units)

    def split(self, x: Float[Array, "... n"]) -> Layers:
        """Layers of a flat state, the last axis."""
        return tuple(jnp.split(x, np.cumsum(self.sizes)[:-1], axis=-1))

    def join(self, layers: Layers) -> Float[Array, "... n"]:
        """Flat state of layers."""
        return jnp.concatenate(layers, axis=-1)

    def drive(self, inputs: Any) -> Float[Array, " n_1"]:
        """Part of the first layer's field that the inputs make, bias included. Args: inputs, None for none."""
        if inputs is None:
            return self.bias(0)
        return self.interactions[0].up(inputs) + self.bias(0)

    def bias(self, k: int) -> Float[Array, " n_k"]:
        """Bias of every unit of free layer `k`."""
        repeats = self.units[k].size // max(self.biases[k].size, 1)
        return self.biases[k] if repeats == 1 else jnp.tile(self.biases[k], repeats)

    def field(self, k: int, layers: Layers, drive: Float[Array, " n_1"]) -> Float[Array, " n_k"]:
        """Field of free layer `k`, minus the slope of all of the energy but `e(s_k)`."""
        field = drive if k == 0 else self.interactions[k].up(layers[k - 1]) + self.bias(k)
        return field if k == len(layers) - 1 else field + self.interactions[k + 1].down(layers[k + 1])

    def energy_of_layers(self, layers: Layers, drive: Float[Array, " n_1"]) -> Scalar:
        """Energy when the drive is already known."""
        own = sum(jnp.sum(u.energies(s)) for u, s in zip(self.units, layers, strict=True))
        below = drive * layers[0]
        total = own - jnp.sum(below)
        for k in range(1, len(layers)):
            total = total - jnp.sum((self.interactions[k].up(layers[k - 1]) + self.bias(k)) * layers[k])
        return total

    @property
    def levels(self) -> tuple[float, ...] | None:
        """States of its discrete units, None for a network of continuous ones only."""
        return next((layer.levels for layer in self.units if layer.levels is not None), None)

    def energy(self, x: Float[Array, " n"], inputs: Any) -> Scalar:
        layers = self.split(x)
        total = self.energy_of_layers(layers, self.drive(inputs))
        for layer, s in zip(self.units, layers, strict=True):
            if isinstance(layer, Box):  # walls: a sampler that proposes a state outside must not be believed
                total = jnp.where(jnp.all((s >= 0) & (s <= 1)), total, jnp.inf)
        return total

    def output(self, x: Float[Array, " n"]) -> Float[Array, " n_out"]:
        return self.output_of(self.split(x)[-1])

    def output_of(self, last: Float[Array, " n_last"]) -> Float[Array, " n_out"]:
        """Output of the last layer."""
        return last if self.readout is None else self.readout(last)

    def zeros(self, *leading: int) -> Layers:
        """Layers at the state nearest zero, with leading axes: the usual start of a relaxation."""
        return tuple(
            jnp.full((*leading, u.size), 0.0 if u.levels is None else min(u.levels, key=abs)) for u in self.units
        )

    def validate(self, x: np.ndarray, *, name: str = "data") -> None:
        bounds = np.cumsum((0, *self.sizes))
        if x.ndim != 2 or x.shape[1] != bounds[-1]:
            raise InputError(f"{name} has shape {x.shape}, but a state has {bounds[-1]} units: expected (n, that)")
        for k, layer in enumerate(self.units):
            layer.validate(x[:, bounds[k] : bounds[k + 1]], name=f"layer {k + 1} of {name}")

    def interaction_mask(self) -> "Layered":
        none = jax.tree.map(lambda _: False, self)
        masks = [jax.tree.map(eqx.is_inexact_array, interaction) for interaction in self.interactions]
        return eqx.tree_at(lambda m: m.interactions, none, tuple(masks))


def hopfield(
    key: Key,
    sizes: Sequence[int],
    *,
    units: str = "box",
    output: str = "real",
    gain: float = 0.7,
) -> Layered:
    """Dense layered network with weights and biases uniform within `gain / sqrt(n_in)` and `1 / (2 sqrt(n_in))`.

    Args:
        key: random key.
        sizes: inputs, hidden layers, outputs, such as `(784, 512, 10)`; no inputs is a first 0.
        units: units of the hidden layers: `"box"`, `"binary"` or `"spin"`.
        output: units of the last layer, also `"real"`; `"softmax"` makes the last size a read-out outside the state.
        gain: scale of the weights.

    Raises:
        InputError: fewer than two sizes, a size below 1, or unknown units.

    Reference:
        Scellier and Mishra 2025 (start and gain of the published dense networks).
    """
    if len(sizes) < 2 or sizes[0] < 0 or min(sizes[1:]) < 1:
        raise InputError(f"sizes are inputs, hidden layers and outputs, each at least 1, got {tuple(sizes)}")
    is_softmax = output == "softmax"
    if is_softmax and len(sizes) < 3:
        raise InputError("a softmax read-out needs a layer of units below it; give at least three sizes")
    names = [units] * (len(sizes) - 2) + ([] if is_softmax else [output])
    for name in names:
        if name not in LAYERS:
            raise InputError(f"unknown units {name!r}; choose one of {sorted(LAYERS)}")
    keys = jax.random.split(key, 2 * len(sizes))
    pairs = list(zip(sizes[:-1], sizes[1:], strict=True))

    def scale(n_in: int) -> float:
        return 1.0 / math.sqrt(max(n_in, 1))

    weights, biases = [], []
    for i, (n, m) in enumerate(pairs):
        weights.append(gain * scale(n) * jax.random.uniform(keys[2 * i], (n, m), minval=-1, maxval=1))
        biases.append(0.5 * scale(n) * jax.random.uniform(keys[2 * i + 1], (m,), minval=-1, maxval=1))
    readout = Linear(weights.pop(), biases.pop()) if is_softmax else None
    kinds = tuple(LAYERS[name](size) for name, size in zip(names, sizes[1:], strict=False))
    return Layered(tuple(Dense(w) for w in weights), tuple(biases), kinds, readout)


def convolutional_hopfield(
    key: Key,
    image: tuple[int, int, int],
    channels: Sequence[int],
    n_out: int,
    *,
    kernel: int = 3,
    gains: Sequence[float] | float = 0.5,
) -> Layered:
    """Convolutions with 2 x 2 average pooling between box layers, then a dense layer of real outputs.

    Average pooling keeps every conditional a truncated normal law (max-pooling does not).

    Args:
        key: random key.
        image: height, width, channels of the inputs; height and width divisible by `2 ** len(channels)`.
        channels: channels of the hidden layers.
        n_out: outputs.
        kernel: odd width of the windows.
        gains: scale of the weights, one or one per interaction.

    Raises:
        InputError: sizes that cannot be halved, an even window, or a wrong number of gains.
    """
    height, width, n_in = image
    if kernel % 2 == 0 or not channels:
        raise InputError(f"windows have odd width and there is at least one hidden layer, got {kernel} and {channels}")
    if height % 2 ** len(channels) or width % 2 ** len(channels):
        raise InputError(f"images of {height} x {width} cannot be halved {len(channels)} times; pad them")
    scales = [float(gains)] * (len(channels) + 1) if isinstance(gains, (int, float)) else list(gains)
    if len(scales) != len(channels) + 1:
        raise InputError(f"{len(channels) + 1} gains are needed, one per interaction, got {len(scales)}")
    keys = jax.random.split(key, 2 * len(scales))
    interactions, biases, units = [], [], []
    for i, n in enumerate(channels):
        fan_in = kernel**2 * n_in
        bound = 1.0 / math.sqrt(fan_in)
        weight = scales[i] * bound * jax.random.uniform(keys[2 * i], (kernel, kernel, n_in, n), minval=-1, maxval=1)
        interactions.append(Pooled(weight, (height, width)))
        biases.append(0.5 * bound * jax.random.uniform(keys[2 * i + 1], (n,), minval=-1, maxval=1))
        height, width, n_in = height // 2, width // 2, n
        units.append(LAYERS["box"](height * width * n))
    fan_in = height * width * n_in
    bound = 1.0 / math.sqrt(fan_in)
    interactions.append(Dense(scales[-1] * bound * jax.random.uniform(keys[-2], (fan_in, n_out), minval=-1, maxval=1)))
    biases.append(0.5 * bound * jax.random.uniform(keys[-1], (n_out,), minval=-1, maxval=1))
    return Layered(tuple(interactions), tuple(biases), (*units, LAYERS["real"](n_out)))
