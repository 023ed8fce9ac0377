"""Units: sets of conditionally independent degrees of freedom.

Given a field, the units of a layer are independent with `p(x_i) ~ exp(f_i x_i - e(x_i))`. Everything a model needs of
them are a few functions of the natural parameters, so model code is written once and a new unit type (Gaussian, Potts,
box) is one more class. Natural parameters are in energy units; callers multiply them by beta, once.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._random import bernoulli_logits
from quasistatic._types import Key
from quasistatic.errors import InputError


class AbstractUnits(eqx.Module):
    """A set of `size` conditionally independent units.

    `cgf` is the cumulant generating function `log sum_x exp(natural . x)` per unit; its first two derivatives are
    `mean` and `variance`, which the tests check for every member. `levels` lists the states of discrete units.
    """

    size: eqx.AbstractVar[int]
    levels: eqx.AbstractClassVar[tuple[float, ...] | None]

    @abc.abstractmethod
    def energies(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """Intrinsic energy of each unit besides the field (zero for binary units)."""

    @abc.abstractmethod
    def natural(self, field: Float[Array, " n"]) -> Any:
        """Natural parameters under a field, in energy units: the field itself, or a pytree with the curvature."""

    @abc.abstractmethod
    def cgf(self, natural: Any) -> Float[Array, " n"]:
        """`log sum_x exp(natural . x)` per unit."""

    @abc.abstractmethod
    def mean(self, natural: Any) -> Float[Array, " n"]:
        """Mean of each unit."""

    @abc.abstractmethod
    def variance(self, natural: Any) -> Float[Array, " n"]:
        """Variance of each unit."""

    @abc.abstractmethod
    def mode(self, natural: Any) -> Float[Array, " n"]:
        """Most probable state of each unit: the zero-temperature limit of `sample`."""

    @abc.abstractmethod
    def sample(self, key: Key, natural: Any) -> Float[Array, " n"]:
        """One draw of all units."""

    @abc.abstractmethod
    def field_of_mean(self, mean: Float[Array, " n"]) -> Float[Array, " n"]:
        """Field under which the units have this mean (used to start a model at the data frequencies)."""

    def validate(self, x: np.ndarray, *, name: str = "data") -> None:
        """Raises `InputError` unless `x`, shape `(n, size)`, holds states of these units only."""
        if x.ndim != 2 or x.shape[1] != self.size:
            raise InputError(
                f"{name} has shape {x.shape}, but the model has {self.size} units: expected (n, {self.size})"
            )
        if not np.all(np.isfinite(x)):
            raise InputError(f"{name} holds NaN or infinite values; remove or impute them")
        if self.levels is not None:
            bad = ~np.isin(x, self.levels)
            if bad.any():
                row, column = np.argwhere(bad)[0]
                raise InputError(
                    f"{name} holds {x[row, column]:g} (row {row}, column {column}), but {type(self).__name__} units "
                    f"take values {set(self.levels)}; binarise the data or choose other units"
                )


class Binary(AbstractUnits):
    """Bernoulli units with states {0, 1}. Args: size: number of units."""

    size: int = eqx.field(static=True)
    levels = (0.0, 1.0)

    def energies(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.zeros_like(x)

    def natural(self, field: Float[Array, " n"]) -> Float[Array, " n"]:
        return field

    def cgf(self, natural: Float[Array, " n"]) -> Float[Array, " n"]:
        return _softplus(natural)

    def mean(self, natural: Float[Array, " n"]) -> Float[Array, " n"]:
        return jax.nn.sigmoid(natural)

    def variance(self, natural: Float[Array, " n"]) -> Float[Array, " n"]:
        return jax.nn.sigmoid(natural) * jax.nn.sigmoid(-natural)

    def mode(self, natural: Float[Array, " n"]) -> Float[Array, " n"]:
        return (natural > 0).astype(natural.dtype)

    def sample(self, key: Key, natural: Float[Array, " n"]) -> Float[Array, " n"]:
        return bernoulli_logits(key, natural)

    def field_of_mean(self, mean: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.log(mean) - jnp.log1p(-mean)


class Spin(AbstractUnits):
    """Ising spins with states {-1, +1}. Args: size: number of units."""

    size: int = eqx.field(static=True)
    levels = (-1.0, 1.0)

    def energies(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.zeros_like(x)

    def natural(self, field: Float[Array, " n"]) -> Float[Array, " n"]:
        return field

    def cgf(self, natural: Float[Array, " n"]) -> Float[Array, " n"]:
        return _log_2_cosh(natural)

    def mean(self, natural: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.tanh(natural)

    def variance(self, natural: Float[Array, " n"]) -> Float[Array, " n"]:
        return 4.0 * jax.nn.sigmoid(2.0 * natural) * jax.nn.sigmoid(-2.0 * natural)

    def mode(self, natural: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.where(natural > 0, 1.0, -1.0).astype(natural.dtype)

    def sample(self, key: Key, natural: Float[Array, " n"]) -> Float[Array, " n"]:
        return 2.0 * bernoulli_logits(key, 2.0 * natural) - 1.0

    def field_of_mean(self, mean: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.arctanh(mean)


UNITS: dict[str, type[Binary] | type[Spin]] = {"binary": Binary, "spin": Spin}
"""Unit types by the names used in configuration files."""


def units(name: str, size: int) -> AbstractUnits:
    """Units of a type given by name. Raises: InputError for an unknown name or a size below 1."""
    if name not in UNITS:
        raise InputError(f"unknown units {name!r}; choose one of {sorted(UNITS)}")
    if size < 1:
        raise InputError(f"a layer needs at least one unit, got {size}")
    kind: type[Any] = UNITS[name]
    return kind(size)


# Written with absolute values, 3 times faster than `jax.nn.softplus` and `jnp.logaddexp`. Autodiff would see their kink
# at zero, where every untrained model is (slope 0 for 1/2): hence derivatives of our own.


@jax.custom_jvp
def _softplus(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


_softplus.defjvps(lambda tangent, _, x: tangent * jax.nn.sigmoid(x))


@jax.custom_jvp
def _log_2_cosh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.abs(x) + jnp.log1p(jnp.exp(-2.0 * jnp.abs(x)))


_log_2_cosh.defjvps(lambda tangent, _, x: tangent * jnp.tanh(x))
