"""Neural energies: a network inside a confining law.

    E(x) = E_0(x) + f(x),      f(x) = 0 at initialisation,

so that the initial model *is* the confining law `E_0`, a Gaussian: its walkers are exact samples, its `log Z` is known,
and the books open without any work. Networks are deterministic functions of one flat sample (no dropout, no batch
statistics: a weight is meaningless where the energy of a walker depends on its neighbours).

Reference:
    Carbone, Hua, Coste and Vanden-Eijnden, NeurIPS 2023 (arXiv 2305.19414): the image networks are those of its
    experiments; Nijkamp et al., AAAI 2020 (the CIFAR network).
"""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from quasistatic._types import Key, Scalar, ScalarLike
from quasistatic.energies.base import AbstractEnergy, AbstractTractable
from quasistatic.energies.gaussian import Gaussian
from quasistatic.energies.networks import Network, network
from quasistatic.errors import InputError

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


class Inputs(eqx.Module):
    """What a network sees of a sample: `M (x - shift)`, fixed while the network is trained.

    Args:
        shift: subtracted, shape `(d,)`.
        matrix: `M`, shape `(d, d)`, or a number.
    """

    shift: Float[Array, " d"]
    matrix: Float[Array, "d d"] | Float[Array, ""]

    @classmethod
    def of_law(cls, law: AbstractTractable, size: int) -> "Inputs":
        """Centred, and unit variance on average, under a Gaussian; the sample itself for any other law."""
        if isinstance(law, Gaussian):
            inverse = solve_triangular(jnp.tril(law.precision_factor), jnp.eye(size), lower=True)
            return cls(law.mean, jnp.sqrt(size / jnp.sum(inverse**2)))
        scale = jnp.asarray(law.scale if isinstance(law, IsotropicGaussian) else 1.0, float)
        return cls(jnp.zeros(size), 1 / scale)

    @classmethod
    def denoised(cls, law: Gaussian, noise: float, gain: float = 2.0) -> "Inputs":
        """Linear estimate of a clean sample: `M` proportional to `(S - noise^2) / S`, `S` the law's covariance.

        Features of a network that sees the noise of every coordinate are mostly noise themselves.

        Args:
            law: Gaussian with the moments of the noisy data.
            noise: standard deviation of the noise, below the spread of the data in some direction.
            gain: factor on the inputs, in units of the data's mean standard deviation.
        """
        factor = np.tril(np.asarray(law.precision_factor, np.float64))
        precision, vectors = np.linalg.eigh(factor @ factor.T)
        keep = np.clip(1 - noise**2 * precision, 0, None)
        matrix = gain / np.sqrt(np.mean(1 / precision)) * (vectors * keep) @ vectors.T
        return cls(law.mean, jnp.asarray(matrix, law.mean.dtype))

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        x = x - jax.lax.stop_gradient(self.shift)
        matrix = jax.lax.stop_gradient(self.matrix)
        return matrix @ x if matrix.ndim else matrix * x


class Seeing(eqx.Module):
    """A network behind fixed inputs. Args: network, of what `inputs` make of a sample; inputs."""

    network: Any
    inputs: Inputs

    def __call__(self, x: Float[Array, " d"]) -> Scalar:
        return self.network(self.inputs(x))


class Neural(AbstractEnergy):
    """`E(x) = E_0(x) + f(x)`: a network `f` in a confining law `E_0` that is not trained.

    Args:
        network: callable `x -> scalar`, its floating-point arrays are the parameters.
        confinement: `E_0`, a law with known Z; the model itself as long as the network is zero.
        size: number of coordinates of a sample.
        block_size: walkers evaluated at a time on CPU, 0 for all (bounds the memory of convolutions).
    """

    network: Any
    confinement: AbstractTractable
    size: int = eqx.field(static=True)
    block_size: int = eqx.field(static=True, default=0)

    def __call__(self, x: Float[Array, " d"]) -> Scalar:
        return self.base()(x) + self.network(x)

    def validate(self, x: np.ndarray, *, name: str = "data") -> None:
        if x.ndim != 2 or x.shape[1] != self.size:
            raise InputError(
                f"{name} has shape {x.shape}, but the model has {self.size} coordinates: expected (n, {self.size}); "
                "flatten images"
            )
        super().validate(x, name=name)

    def base(self) -> AbstractTractable:
        """The confining law; gradients do not reach its parameters."""
        return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf, self.confinement)


def mlp(
    key: Key,
    size: int,
    widths: Sequence[int] = (128, 128),
    *,
    scale: float = 1.0,
    law: AbstractTractable | None = None,
    inputs: Inputs | None = None,
    activation: str = "silu",
) -> Neural:
    """Multilayer perceptron energy, zero at initialisation.

    Args:
        key: random key.
        size: coordinates of a sample.
        widths: units of each hidden layer.
        scale: standard deviation of the confining Gaussian; cover the data with it.
        law: another confining law, such as `Gaussian.from_covariance(mean, covariance)` of the data.
        inputs: what the network sees of a sample; by default the sample centred and scaled by the confining law.
        activation: name, see `ACTIVATIONS`.
    """
    law = _confining(law, size, scale)
    return Neural(_seen(network(key, size, (), widths, None, activation), law, size, inputs), law, size)


def convnet(
    key: Key,
    shape: tuple[int, int, int] = (28, 28, 1),
    architecture: str | Sequence[tuple[int, int, int, int, int]] = "mnist",
    *,
    widths: Sequence[int] | None = None,
    scale: float = 1.0,
    law: AbstractTractable | None = None,
    inputs: Inputs | None = None,
    activation: str | None = None,
) -> Neural:
    """Convolutional energy of flat images, zero at initialisation.

    Args:
        key: random key.
        shape: `(height, width, channels)` of an image.
        architecture: name, see `ARCHITECTURES`, or its list of (channels in, out, kernel, stride, padding).
        widths: dense layers after the convolutions; default `(64,)` for `"mnist"`, none otherwise.
        scale: standard deviation of the confining Gaussian.
        law: another confining law, as for `mlp`.
        inputs: what the network sees, as for `mlp`.
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
    law = _confining(law, size, scale)
    inner = network(key, size, convolutions, widths, shape, activation)
    return Neural(_seen(inner, law, size, inputs), law, size, block_size=256)


def _confining(law: AbstractTractable | None, size: int, scale: float) -> AbstractTractable:
    if law is not None:
        return law
    if not 0 < scale < math.inf:
        raise InputError(f"the confining Gaussian needs a scale that is positive and finite, got {scale}")
    return IsotropicGaussian(size, scale)


def _seen(inner: Network, law: AbstractTractable, size: int, inputs: Inputs | None) -> Seeing:
    return Seeing(inner, Inputs.of_law(law, size) if inputs is None else inputs)
