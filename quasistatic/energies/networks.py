"""Layers of energy networks, per sample and deterministic, and how they are put together.

Weights are drawn so that unit-variance inputs keep unit variance through every layer (He et al., ICCV 2015, with the
gain of the activation in use). With the usual smaller weights the deeper features of a fresh network are almost linear
functions of the sample, whose means a Gaussian start has already right: all that is left to learn from is noise.
"""

import math
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._types import Key, Scalar
from quasistatic.errors import InputError

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "leaky_relu": lambda x: jax.nn.leaky_relu(x, 0.2),
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}
"""Activations by name. Langevin drifts want smooth ones; `leaky_relu` is what the CIFAR network was published with."""


class Linear(eqx.Module):
    """`x W + b`, features last. Args: weight `(n_in, n_out)`; bias `(n_out,)`."""

    weight: Float[Array, "n_in n_out"]
    bias: Float[Array, " n_out"]

    @classmethod
    def initialise(cls, key: Key, n_in: int, n_out: int, gain: float = 1.0) -> "Linear":
        """Normal weights of variance `gain / n_in`, no bias."""
        weight = math.sqrt(gain / n_in) * jax.random.normal(key, (n_in, n_out))
        return cls(weight, jnp.zeros(n_out))

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
    def initialise(
        cls, key: Key, n_in: int, n_out: int, kernel: int, stride: int, padding: int, gain: float = 1.0
    ) -> "Conv":
        """Entries as in `Linear`, with `n_in kernel^2` inputs."""
        flat = Linear.initialise(key, n_in * kernel**2, n_out, gain)
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


def gain_of(activation: str) -> float:
    """`1 / E[act(z)^2]` of a standard normal `z`: the variance times fan-in that weights need to keep unit variance."""
    z, weight = np.polynomial.hermite_e.hermegauss(64)
    return float(weight.sum() / (weight @ np.asarray(ACTIVATIONS[activation](jnp.asarray(z))) ** 2))


def network(
    key: Key,
    size: int,
    convolutions: Sequence[tuple[int, int, int, int, int]],
    widths: Sequence[int],
    shape: tuple[int, int, int] | None,
    activation: str,
) -> Network:
    """Network with a last layer of zeros.

    Args:
        key: random key.
        size: coordinates of a sample.
        convolutions: list of (channels in, out, kernel, stride, padding).
        widths: units of the hidden dense layers.
        shape: `(height, width, channels)` of a sample, None without convolutions.
        activation: name, see `ACTIVATIONS`.
    """
    if activation not in ACTIVATIONS:
        raise InputError(f"unknown activation {activation!r}; choose one of {sorted(ACTIVATIONS)}")
    if size < 1 or any(width < 1 for width in widths):
        raise InputError(f"a network needs at least one unit per layer, got size {size} and widths {tuple(widths)}")
    keys = jax.random.split(key, len(convolutions) + len(widths) + 1)
    convs, n_in = [], size
    extent: tuple[int, int, int] = shape if shape is not None else (1, 1, size)  # used by convolutions only
    for key_layer, spec in zip(keys, convolutions, strict=False):
        conv = Conv.initialise(key_layer, *spec, gain=gain_of(activation))
        extent = (conv.out_size(extent[0]), conv.out_size(extent[1]), spec[1])
        if min(extent) < 1:
            raise InputError(f"images of {shape} are too small for these convolutions; drop one or enlarge them")
        n_in = math.prod(extent)
        convs.append(conv)
    layers = []
    for key_layer, n_out in zip(keys[len(convs) :], (*widths, 1), strict=True):
        layers.append(Linear.initialise(key_layer, n_in, n_out, gain_of(activation)))
        n_in = n_out
    layers[-1] = layers[-1].zeroed()
    return Network(tuple(convs), tuple(layers), shape, activation)
