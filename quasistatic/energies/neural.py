"""Neural energies: a network inside a confining Gaussian.

    E(x) = |x|^2 / (2 s^2) + f(x),      f(x) = 0 at initialisation,

so that the initial model *is* the Gaussian: its walkers are exact samples, its `log Z` is known, and the books open
without any work. Networks are deterministic functions of one flat sample (no dropout, no batch statistics: a weight
is meaningless where the energy of a walker depends on its neighbours).

Reference:
    Carbone, Hua, Coste and Vanden-Eijnden, NeurIPS 2023 (arXiv 2305.19414): the image networks are those of its
    experiments; Nijkamp et al., AAAI 2020 (the CIFAR network).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._types import Key, Scalar, ScalarLike
from quasistatic.energies.base import AbstractEnergy, AbstractTractable
from quasistatic.errors import InputError

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "leaky_relu": lambda x: jax.nn.leaky_relu(x, 0.2),
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}
"""Activations by name. Langevin drifts want smooth ones; `leaky_relu` is what the CIFAR network was published with."""

ARCHITECTURES: dict[str, tuple[tuple[int, int, int, int, int], ...]] = {
    "mnist": ((1, 16, 5, 2, 4), (16, 32, 3, 2, 1), (32, 64, 3, 2, 1), (64, 64, 3, 2, 1)),
    "cifar": ((3, 64, 3, 1, 1), (64, 128, 4, 2, 1), (128, 256, 4, 2, 1), (256, 512, 4, 2, 1)),
}
"""Convolutions of the published networks: channels in, channels out, kernel, stride, padding."""


class IsotropicGaussian(AbstractTractable):
    """`E(x) = |x|^2 / (2 s^2)`, with `log Z(beta) = (d/2) log(2 pi s^2 / beta)`.

    Args:
        size: number of coordinates `d`.
        scale: standard deviation `s`.
    """

    size: int = eqx.field(static=True)
    scale: ScalarLike

    def __call__(self, x: Float[Array, " d"]) -> Scalar:
        return jnp.sum(x**2) / (2 * self.scale**2)

    def log_partition(self, beta: ScalarLike) -> Scalar:
        return 0.5 * self.size * jnp.log(2 * jnp.pi * jnp.asarray(self.scale) ** 2 / beta)

    def sample_exact(self, key: Key, beta: ScalarLike, n: int) -> Float[Array, "n d"]:
        return self.scale / jnp.sqrt(beta) * jax.random.normal(key, (n, self.size))


class Linear(eqx.Module):
    """`x W + b`, features last. Args: weight `(n_in, n_out)`; bias `(n_out,)`."""

    weight: Float[Array, "n_in n_out"]
    bias: Float[Array, " n_out"]

    @classmethod
    def initialise(cls, key: Key, n_in: int, n_out: int) -> "Linear":
        """Uniform entries of variance `1 / (3 n_in)`."""
        key_weight, key_bias = jax.random.split(key)
        limit = 1 / math.sqrt(n_in)
        weight = jax.random.uniform(key_weight, (n_in, n_out), minval=-limit, maxval=limit)
        return cls(weight, jax.random.uniform(key_bias, (n_out,), minval=-limit, maxval=limit))

    def zeroed(self) -> "Linear":
        """The same layer with all entries zero."""
        return jax.tree.map(jnp.zeros_like, self)

    def __call__(self, x: Float[Array, "... n_in"]) -> Float[Array, "... n_out"]:
        return x @ self.weight + self.bias


class Conv(eqx.Module):
    """Two-dimensional convolution of one image, channels last.

    On CPU it is written as patches times a matrix, several times faster there than the compiler's convolution; on
    other devices it is the native one. Both give the same numbers up to rounding (tests compare them).

    Args:
        weight: shape `(kernel, kernel, n_in, n_out)`.
        bias: shape `(n_out,)`.
        stride: step of the window.
        padding: zeros on each side.
    """

    weight: Float[Array, "k k n_in n_out"]
    bias: Float[Array, " n_out"]
    stride: int = eqx.field(static=True)
    padding: int = eqx.field(static=True)

    @classmethod
    def initialise(cls, key: Key, n_in: int, n_out: int, kernel: int, stride: int, padding: int) -> "Conv":
        """Entries as in `Linear`, with `n_in kernel^2` inputs."""
        flat = Linear.initialise(key, n_in * kernel**2, n_out)
        return cls(flat.weight.reshape(kernel, kernel, n_in, n_out), flat.bias, stride, padding)

    def out_size(self, size: int) -> int:
        """Height (or width) of the output for one of the input."""
        return (size + 2 * self.padding - self.weight.shape[0]) // self.stride + 1

    def __call__(self, x: Float[Array, "height width n_in"]) -> Float[Array, "out_height out_width n_out"]:
        return self.native(x) if jax.default_backend() != "cpu" else self.patched(x)

    def native(self, x: Float[Array, "height width n_in"]) -> Float[Array, "out_height out_width n_out"]:
        """The compiler's convolution."""
        y = jax.lax.conv_general_dilated(
            x[None],
            self.weight,
            (self.stride, self.stride),
            [(self.padding, self.padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y[0] + self.bias

    def patched(self, x: Float[Array, "height width n_in"]) -> Float[Array, "out_height out_width n_out"]:
        """Patches times a matrix."""
        return self.patches(x) @ self.weight.reshape(-1, self.weight.shape[-1]) + self.bias

    def patches(self, x: Float[Array, "height width n_in"]) -> Float[Array, "out_height out_width k_k_n_in"]:
        """Inputs of every output pixel, in the order of the flattened weight."""
        k, s, p = self.weight.shape[0], self.stride, self.padding
        height, width = (self.out_size(n) for n in x.shape[:2])
        # pad to whole strides, then split every axis into (block, phase): all slices below are dense
        blocks = [out + (k - 1) // s for out in (height, width)]
        more = [(p, s * b - n - p) for b, n in zip(blocks, x.shape[:2], strict=True)]
        x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(lo, hi, 0) for lo, hi in more] + [(0, 0, 0)])
        x = x.reshape(blocks[0], s, blocks[1], s, x.shape[2])
        windows = [
            x[i // s : i // s + height, i % s, j // s : j // s + width, j % s] for i in range(k) for j in range(k)
        ]
        return jnp.concatenate(windows, axis=-1)


class Network(eqx.Module):
    """Convolutions, then dense layers, down to one number per sample.

    Args:
        convolutions: applied first, to the sample as an image.
        layers: dense layers; no activation after the last.
        shape: `(height, width, channels)` of a flat sample, or None without convolutions.
        activation: name, see `ACTIVATIONS`.
    """

    convolutions: tuple[Conv, ...]
    layers: tuple[Linear, ...]
    shape: tuple[int, int, int] | None = eqx.field(static=True, default=None)
    activation: str = eqx.field(static=True, default="silu")

    def __call__(self, x: Float[Array, " d"]) -> Scalar:
        act = ACTIVATIONS[self.activation]
        if self.shape is not None:
            x = x.reshape(self.shape)
        for convolution in self.convolutions:
            x = act(convolution(x))
        x = x.reshape(-1)
        for layer in self.layers[:-1]:
            x = act(layer(x))
        return self.layers[-1](x)[0]

    def traced(self, x: Float[Array, " d"], shifts: Sequence[Array]) -> tuple[Scalar, list[Array]]:
        """The same number with the output of every layer shifted, and the inputs of every layer.

        Derivatives in the shifts, at zero, are the signals that reach the layers' outputs on the way back.

        Args:
            x: one sample.
            shifts: one array per layer, convolutions first, that broadcasts with its output.

        Returns:
            The value, and inputs of shape `(positions, n_in)` per layer: patches of convolutions, one row otherwise.
        """
        act, inputs = ACTIVATIONS[self.activation], []
        if self.shape is not None:
            x = x.reshape(self.shape)
        for convolution, shift in zip(self.convolutions, shifts, strict=False):
            patches = convolution.patches(x)
            inputs.append(patches.reshape(-1, patches.shape[-1]))
            x = act(patches @ convolution.weight.reshape(-1, convolution.weight.shape[-1]) + convolution.bias + shift)
        x = x.reshape(-1)
        for i, (layer, shift) in enumerate(zip(self.layers, shifts[len(self.convolutions) :], strict=True)):
            inputs.append(x[None])
            x = layer(x) + shift
            x = x if i == len(self.layers) - 1 else act(x)
        return x[0], inputs


class Neural(AbstractEnergy):
    """`E(x) = |x|^2 / (2 s^2) + f(x)`: a network in a confining Gaussian.

    Args:
        network: callable `x -> scalar`, its floating-point arrays are the parameters.
        size: number of coordinates of a sample.
        scale: `s`; infinity for no Gaussian (the walkers then need a box and a uniform law to start from).
        block_size: walkers evaluated at a time on CPU, 0 for all (small blocks stay in the cache).
    """

    network: Any
    size: int = eqx.field(static=True)
    scale: float = eqx.field(static=True, default=1.0)
    block_size: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        if not self.scale > 0:
            raise InputError(f"the confining Gaussian needs a scale > 0, got {self.scale}")

    def __call__(self, x: Float[Array, " d"]) -> Scalar:
        return jnp.sum(x**2) / (2 * self.scale**2) + self.network(x)

    def validate(self, x: np.ndarray, *, name: str = "data") -> None:
        if x.ndim != 2 or x.shape[1] != self.size:
            raise InputError(
                f"{name} has shape {x.shape}, but the model has {self.size} coordinates: expected (n, {self.size}); "
                "flatten images"
            )
        super().validate(x, name=name)

    def base(self) -> IsotropicGaussian:
        """The confining Gaussian: the model itself as long as the last layer is zero."""
        if not math.isfinite(self.scale):
            raise InputError("without a confining Gaussian there is no law to start from; give law = UniformBox(...)")
        return IsotropicGaussian(self.size, self.scale)


def mlp(
    key: Key, size: int, widths: Sequence[int] = (128, 128), *, scale: float = 1.0, activation: str = "silu"
) -> Neural:
    """Multilayer perceptron energy, zero at initialisation.

    Args:
        key: random key.
        size: coordinates of a sample.
        widths: units of each hidden layer.
        scale: standard deviation of the confining Gaussian; cover the data with it.
        activation: name, see `ACTIVATIONS`.
    """
    return Neural(_network(key, size, (), widths, None, activation), size, scale)


def convnet(
    key: Key,
    shape: tuple[int, int, int] = (28, 28, 1),
    architecture: str | Sequence[tuple[int, int, int, int, int]] = "mnist",
    *,
    widths: Sequence[int] | None = None,
    scale: float = 1.0,
    activation: str | None = None,
) -> Neural:
    """Convolutional energy of flat images, zero at initialisation.

    Args:
        key: random key.
        shape: `(height, width, channels)` of an image.
        architecture: name, see `ARCHITECTURES`, or its list of (channels in, out, kernel, stride, padding).
        widths: dense layers after the convolutions; default `(64,)` for `"mnist"`, none otherwise.
        scale: standard deviation of the confining Gaussian.
        activation: name; default `"leaky_relu"` for `"cifar"`, `"silu"` otherwise.

    With 28 x 28 images `"mnist"` has 76,993 parameters, with 32 x 32 x 3 `"cifar"` 2,763,393, as published.
    """
    if isinstance(architecture, str) and architecture not in ARCHITECTURES:
        raise InputError(f"unknown architecture {architecture!r}; choose one of {sorted(ARCHITECTURES)} or give a list")
    convolutions = ARCHITECTURES[architecture] if isinstance(architecture, str) else tuple(architecture)
    if widths is None:
        widths = (64,) if architecture == "mnist" else ()
    if activation is None:
        activation = "leaky_relu" if architecture == "cifar" else "silu"
    if convolutions[0][0] != shape[2]:
        raise InputError(f"the first convolution takes {convolutions[0][0]} channels, but images have {shape[2]}")
    size = math.prod(shape)
    return Neural(_network(key, size, convolutions, widths, shape, activation), size, scale, block_size=64)


def _network(key, size, convolutions, widths, shape, activation) -> Network:
    if activation not in ACTIVATIONS:
        raise InputError(f"unknown activation {activation!r}; choose one of {sorted(ACTIVATIONS)}")
    if size < 1 or any(width < 1 for width in widths):
        raise InputError(f"a network needs at least one unit per layer, got size {size} and widths {tuple(widths)}")
    keys = jax.random.split(key, len(convolutions) + len(widths) + 1)
    convs, n_in = [], size
    extent = shape
    for key_layer, spec in zip(keys, convolutions, strict=False):
        conv = Conv.initialise(key_layer, *spec)
        extent = (conv.out_size(extent[0]), conv.out_size(extent[1]), spec[1])
        if min(extent) < 1:
            raise InputError(f"images of {shape} are too small for these convolutions; drop one or enlarge them")
        n_in = math.prod(extent)
        convs.append(conv)
    layers = []
    for key_layer, n_out in zip(keys[len(convs) :], (*widths, 1), strict=True):
        layers.append(Linear.initialise(key_layer, n_in, n_out))
        n_in = n_out
    layers[-1] = layers[-1].zeroed()
    return Network(tuple(convs), tuple(layers), shape, activation)
