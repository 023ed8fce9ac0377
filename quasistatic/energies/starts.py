"""Laws from which short runs start: fixed, sampled exactly, and independent of the parameters of the model.

A run of `k` sweeps from a fixed law `rho_0` has the law `rho_k(theta) = M_theta^k rho_0`. It is what is trained,
and what is replayed to generate samples; a start that moved with `theta` could not be replayed from the model alone.

Reference:
    Agoritsas, Catania, Decelle and Seoane, ICML 2023 (arXiv 2301.09428); Nijkamp et al., NeurIPS 2019 (uniform noise).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._types import Key, Scalar, ScalarLike
from quasistatic.energies.base import AbstractEnergy, AbstractTractable
from quasistatic.energies.gaussian import IndependentUnits, UniformBox
from quasistatic.energies.units import UNITS, AbstractUnits
from quasistatic.errors import InputError


class DiagonalGaussian(AbstractTractable):
    """Independent Gaussians, `E(x) = 1/2 sum_i ((x_i - m_i) / s_i)^2`.

    `log Z(beta) = sum_i log s_i + (d/2) log(2 pi / beta)`.

    Args:
        mean: `m`, shape `(d,)`.
        scale: standard deviations `s`, shape `(d,)`.
    """

    mean: Float[Array, " d"]
    scale: Float[Array, " d"]

    def __call__(self, x: Float[Array, " d"]) -> Scalar:
        return 0.5 * jnp.sum(((x - self.mean) / self.scale) ** 2)

    def log_partition(self, beta: ScalarLike) -> Scalar:
        return jnp.sum(jnp.log(self.scale)) + 0.5 * self.mean.size * jnp.log(2 * jnp.pi / beta)

    def sample_exact(self, key: Key, beta: ScalarLike, n: int) -> Float[Array, "n d"]:
        noise = jax.random.normal(key, (n, self.mean.size), self.mean.dtype)
        return self.mean + self.scale / jnp.sqrt(beta) * noise


def noise(energy: AbstractEnergy, size: int, *, scale: float = 1.0) -> AbstractTractable:
    """Noise suited to an energy: uniform over its states, normal without states.

    Args:
        energy: model; only the states of its units are looked at.
        size: coordinates of a sample.
        scale: standard deviation of the normal.
    """
    states = states_of(energy, size)
    if states is not None:
        return IndependentUnits(jnp.zeros(size), states)
    return gaussian(jnp.zeros(size), scale)


def mean_field(data: Any, energy: AbstractEnergy, *, scale: float = 1.0) -> AbstractTractable:
    """Independent coordinates with the frequencies of the data; means and variances of the data without states.

    Frequencies count one more sample of every state, so that no unit is fixed for ever.

    Args:
        data: samples, shape `(n, d)`.
        energy: model; only the states of its units are looked at.
        scale: factor on the standard deviations, without states.
    """
    x = _checked(data)
    states = states_of(energy, x.shape[1])
    if states is None:
        spread = np.maximum(x.std(0), 1e-3 * max(float(x.std()), 1e-6))  # a constant column still needs a width
        return gaussian(x.mean(0), scale * spread)
    levels = np.asarray(states.levels)
    mean = (x.sum(0) + levels.sum()) / (len(x) + len(levels))
    return IndependentUnits(states.field_of_mean(jnp.asarray(mean, float)), states)


def gaussian(mean: Any, scale: Any) -> DiagonalGaussian:
    """Independent Gaussians of given means and standard deviations. Raises: InputError unless these are positive.

    Args:
        mean: shape `(d,)`.
        scale: shape `(d,)`, or one number.
    """
    mean = np.asarray(mean, np.float64)
    scale = np.broadcast_to(np.asarray(scale, np.float64), mean.shape)
    if mean.ndim != 1 or not np.isfinite(mean).all() or not (np.isfinite(scale).all() and (scale > 0).all()):
        raise InputError("a Gaussian start needs finite means, shape (d,), and positive standard deviations")
    return DiagonalGaussian(jnp.asarray(mean, float), jnp.asarray(scale, float))


def box(low: float, high: float, size: int) -> UniformBox:
    """Uniform noise in `[low, high]^size`. Raises: InputError for an empty box."""
    if not -np.inf < low < high < np.inf:
        raise InputError(f"a box is low < high, both finite, got {low} and {high}")
    return UniformBox(jnp.full(size, float(low)), jnp.full(size, float(high)))


def states_of(energy: AbstractEnergy, size: int) -> AbstractUnits | None:
    """Units with the states of an energy's samples, or None for continuous samples.

    Raises:
        InputError: the states are neither {0, 1} nor {-1, 1}.
    """
    levels = levels_of(energy)
    if levels is None:
        return None
    for kind in UNITS.values():
        if levels == kind.levels:
            found: type[Any] = kind
            return found(size)
    raise InputError(f"noise over the states {levels} is not known; give a law with exact samples")


def levels_of(energy: AbstractEnergy) -> tuple[float, ...] | None:
    """Values that a coordinate of an energy's samples can have, or None for continuous samples."""
    for part in (energy, getattr(energy, "visible", None), getattr(energy, "units", None)):
        levels = getattr(part, "levels", None)
        if levels is not None:
            return tuple(levels)
    return None


def as_arrays(law: AbstractTractable) -> AbstractTractable:
    """The same law with its numbers as arrays of the default precision, as checkpoints need them."""

    def converted(leaf: Any) -> Any:
        is_number = isinstance(leaf, float | np.floating) or eqx.is_inexact_array(leaf)
        return jnp.asarray(leaf, float) if is_number else leaf

    return jax.tree.map(converted, law)


def _checked(data: Any) -> np.ndarray:
    x = np.asarray(data, np.float64)
    if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
        raise InputError(f"data must be finite and of shape (n, d), got shape {x.shape}")
    return x
