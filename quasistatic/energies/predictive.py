"""Predictive coding: every layer is its prediction from the layer below, plus noise.

    E(h; x) = 1/2 sum_k |h_k - f_k(h_{k-1})|^2 ,   f_1(x) = x W_1 + b_1 ,   f_k(h) = act(h) W_k + b_k .

The free law factorises: `h_k = f_k(h_{k-1}) + sqrt(T) xi`. It is sampled exactly from the inputs upwards, `Z_0` does
not depend on the parameters, and the free phase contributes nothing to the gradient: `grad dA = <dE/dtheta>_b`.

Reference:
    Whittington and Bogacz 2017; Litman 2025 (arXiv 2511.22024) for the nudged law at finite temperature.
"""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._random import fold
from quasistatic._types import Key, Scalar, ScalarLike
from quasistatic.energies.networks import ACTIVATIONS, Linear
from quasistatic.energies.nudged import AbstractNetwork
from quasistatic.errors import InputError


class PredictiveCoding(AbstractNetwork):
    """Predictive-coding energy. One sample is the concatenation of all layers above the inputs.

    Args:
        predictions: maps `W_k, b_k`; the first acts on the inputs, the others on activated layers.
        activation: name, see `networks.ACTIVATIONS`.
    """

    predictions: tuple[Linear, ...]
    activation: str = eqx.field(static=True, default="tanh")

    def __check_init__(self):
        if self.activation not in ACTIVATIONS:
            raise InputError(f"unknown activation {self.activation!r}; choose one of {sorted(ACTIVATIONS)}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units of every layer above the inputs."""
        return tuple(p.bias.size for p in self.predictions)

    def split(self, x: Float[Array, " n"]) -> tuple[Array, ...]:
        """Layers of a flat state."""
        return tuple(jnp.split(x, np.cumsum(self.sizes)[:-1]))

    def predicted(self, k: int, below: Float[Array, " n_below"]) -> Float[Array, " n_k"]:
        """`f_k` of the layer below, the inputs for `k = 0`."""
        return self.predictions[k](below if k == 0 else ACTIVATIONS[self.activation](below))

    def energy(self, x: Float[Array, " n"], inputs: Any) -> Scalar:
        below, total = inputs, jnp.zeros((), x.dtype)
        for k, layer in enumerate(self.split(x)):
            total = total + 0.5 * jnp.sum((layer - self.predicted(k, below)) ** 2)
            below = layer
        return total

    def output(self, x: Float[Array, " n"]) -> Float[Array, " n_out"]:
        return self.split(x)[-1]

    def sample_free(self, key: Key, inputs: Float[Array, " n_in"], temperature: ScalarLike) -> Float[Array, " n"]:
        """One exact draw of the free law, from the inputs upwards; the forward pass at `temperature` 0."""
        below, layers = inputs, []
        for k in range(len(self.predictions)):
            mean = self.predicted(k, below)
            noise = jax.random.normal(fold(key, k), mean.shape, mean.dtype)
            below = mean + jnp.sqrt(jnp.asarray(temperature, mean.dtype)) * noise
            layers.append(below)
        return jnp.concatenate(layers)

    def log_partition_free(self, temperature: ScalarLike) -> Scalar:
        """`log Z_0 = (n / 2) log(2 pi T)`, whatever the parameters."""
        return 0.5 * sum(self.sizes) * jnp.log(2 * math.pi * jnp.asarray(temperature))


def predictive_coding(key: Key, sizes: Sequence[int], *, activation: str = "tanh") -> PredictiveCoding:
    """Network with normal weights of variance `1 / n_in` and no biases.

    Args:
        key: random key.
        sizes: inputs, hidden layers, outputs.
        activation: name, see `networks.ACTIVATIONS`.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise InputError(f"sizes are inputs, hidden layers and outputs, each at least 1, got {tuple(sizes)}")
    keys = jax.random.split(key, len(sizes) - 1)
    pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return PredictiveCoding(tuple(Linear.initialise(k, n, m) for k, n, m in pairs), activation)
