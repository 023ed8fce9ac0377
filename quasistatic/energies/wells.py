"""Continuous units in a quadratic well: on the box [0, 1], or on the whole line.

A unit has energy `c x^2 / 2 - f x`; its natural parameters are the pair (field `f`, curvature `c`), in energy units, 1
without a nudge. At inverse temperature beta the law is a normal one of mean `f / c` and variance `1 / (beta c)`,
truncated to the box; its mode `clip(f / c)` is one step of the deterministic relaxation.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._random import uniform
from quasistatic._types import Key, ScalarLike
from quasistatic.energies import truncated
from quasistatic.energies.units import AbstractUnits, Binary, Spin
from quasistatic.errors import InputError


class Well(eqx.Module):
    """Natural parameters of units in a well. Args: field `f`, curvature `c`, one of each per unit."""

    field: Float[Array, " n"]
    curvature: Float[Array, " n"]


class AbstractWell(AbstractUnits):
    """Continuous units with energy `x^2 / 2` besides their field. Args: size: number of units."""

    size: int = eqx.field(static=True)
    levels = None

    def energies(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return 0.5 * x**2

    def natural(self, field: Float[Array, " n"]) -> Well:
        return Well(field, jnp.ones_like(field))


class Box(AbstractWell):
    """Units on [0, 1]: hard-sigmoid units at temperature zero. Args: size: number of units."""

    def cgf(self, natural: Well) -> Float[Array, " n"]:
        return truncated.log_normaliser(natural.field, natural.curvature)

    def mean(self, natural: Well) -> Float[Array, " n"]:
        return truncated.mean(natural.field, natural.curvature)

    def variance(self, natural: Well) -> Float[Array, " n"]:
        return truncated.variance(natural.field, natural.curvature)

    def mode(self, natural: Well) -> Float[Array, " n"]:
        return jnp.clip(natural.field / natural.curvature, 0.0, 1.0)

    def sample(self, key: Key, natural: Well) -> Float[Array, " n"]:
        u = uniform(key, natural.field.shape, natural.field.dtype)
        return truncated.quantile(u, natural.field, natural.curvature)

    def field_of_mean(self, mean: Float[Array, " n"]) -> Float[Array, " n"]:
        """Field whose mode is this mean (the field of a given mean has no closed form)."""
        return mean

    def validate(self, x: np.ndarray, *, name: str = "data") -> None:
        super().validate(x, name=name)
        if np.any((x < 0) | (x > 1)):
            raise InputError(f"{name} holds values outside [0, 1], the range of box units; rescale it")


class Real(AbstractWell):
    """Units on the line: linear read-outs. Args: size: number of units."""

    def cgf(self, natural: Well) -> Float[Array, " n"]:
        f, c = natural.field, natural.curvature
        return 0.5 * f**2 / c + 0.5 * jnp.log(2 * math.pi / c)

    def mean(self, natural: Well) -> Float[Array, " n"]:
        return natural.field / natural.curvature

    def variance(self, natural: Well) -> Float[Array, " n"]:
        return 1.0 / natural.curvature

    def mode(self, natural: Well) -> Float[Array, " n"]:
        return natural.field / natural.curvature

    def sample(self, key: Key, natural: Well) -> Float[Array, " n"]:
        noise = jax.random.normal(key, natural.field.shape, natural.field.dtype)
        return natural.field / natural.curvature + noise / jnp.sqrt(natural.curvature)

    def field_of_mean(self, mean: Float[Array, " n"]) -> Float[Array, " n"]:
        return mean


def with_well(
    units: AbstractUnits, natural: Any, field: Float[Array, " n"], curvature: Float[Array, " n"] | ScalarLike
) -> Any:
    """Natural parameters with the energy `curvature x^2 / 2 - field x` added to each unit.

    For states 0 and 1 the square is the state itself, for spins it is a constant.

    Args:
        units: `Binary`, `Spin`, `Box` or `Real` units.
        natural: their natural parameters, in energy units.
        field: field of the nudge.
        curvature: curvature of the nudge.

    Raises:
        InputError: units that have no such rule.
    """
    if isinstance(units, AbstractWell):
        return Well(natural.field + field, natural.curvature + curvature)
    if isinstance(units, Binary):
        return natural + field - 0.5 * curvature
    if isinstance(units, Spin):
        return natural + field
    raise InputError(f"{type(units).__name__} units have no rule for a quadratic nudge; use binary, spin, box or real")


LAYERS: dict[str, Any] = {"binary": Binary, "spin": Spin, "box": Box, "real": Real}
"""Units of a layered network by the names used in configuration files."""
