"""Some coordinates held at given values: the energy of the others.

The conditional law of the free coordinates is again a model of the same kind for an RBM (the clamped units shift the
hidden biases) and for a pairwise model (they shift the fields), so that every kernel works on it without knowing.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from quasistatic._types import Scalar, ScalarLike
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.pairwise import Pairwise
from quasistatic.energies.rbm import RBM
from quasistatic.errors import InputError


class Clamped(AbstractEnergy):
    """Energy of the free coordinates of a flat sample.

    Args:
        energy: the whole model.
        free: positions of the free coordinates, in order, shape `(n_free,)`.
        whole: a sample that holds the clamped values, shape `(n,)`.
    """

    energy: AbstractEnergy
    free: Int[Array, " n_free"]
    whole: Float[Array, " n"]

    @property
    def block_size(self) -> int:
        """Walkers the model wants evaluated at a time, 0 for all."""
        return getattr(self.energy, "block_size", 0)

    @property
    def levels(self) -> tuple[float, ...] | None:
        """Allowed values of discrete samples."""
        return getattr(self.energy, "levels", None)

    def reduced(self, x: Float[Array, " n_free"], beta: ScalarLike, context: Any = None) -> Scalar:
        return self.energy.reduced(self.whole.at[self.free].set(x.astype(self.whole.dtype)), beta, context)

    def __call__(self, x: Float[Array, " n_free"]) -> Scalar:
        return self.reduced(x, 1.0)


def clamped(energy: AbstractEnergy, n: int, at: Any, values: Any) -> tuple[AbstractEnergy, Int[np.ndarray, " n_free"]]:
    """Model of the free coordinates, up to a constant of the energy.

    Args:
        energy: model of `n` coordinates.
        n: length of a sample.
        at: positions of the clamped coordinates.
        values: their values.

    Returns:
        The conditional model, and the positions of its coordinates in the whole sample.

    Raises:
        InputError: positions out of range or repeated, nothing left free, or values that the units do not take.
    """
    at, values = np.asarray(at, np.int64).reshape(-1), np.asarray(values, np.float64).reshape(-1)
    if len(at) != len(values) or len(np.unique(at)) != len(at) or (len(at) and not 0 <= at.min() <= at.max() < n):
        raise InputError(f"clamps name different coordinates from 0 to {n - 1}, one value for each")
    free = np.setdiff1d(np.arange(n), at)
    if not len(free):
        raise InputError("every coordinate is clamped; leave some free")
    if isinstance(energy, RBM):
        kind: type[Any] = type(energy.visible)
        _check_states(kind.levels, values)
        held = jnp.asarray(values, energy.weights.dtype)
        return RBM(
            energy.weights[free], energy.visible_bias[free], energy.hidden_bias + held @ energy.weights[at],
            kind(len(free)), energy.hidden,
        ), free  # fmt: skip
    if isinstance(energy, Pairwise):
        kind = type(energy.units)
        _check_states(kind.levels, values)
        fields = energy.fields[free] + energy.coupling_matrix()[np.ix_(free, at)] @ jnp.asarray(values)
        edges, place = np.asarray(energy.edges), np.full(n, -1)
        place[free] = np.arange(len(free))
        inside = (place[edges] >= 0).all(1)
        couplings = energy.couplings[np.flatnonzero(inside)]
        return Pairwise(fields, couplings, jnp.asarray(place[edges[inside]]), kind(len(free))), free
    _check_states(getattr(energy, "levels", None), values)
    return Clamped(energy, jnp.asarray(free), jnp.zeros(n).at[at].set(jnp.asarray(values, float))), free


def _check_states(levels: tuple[float, ...] | None, values: np.ndarray) -> None:
    """Raises InputError for clamped values that are no states of the model."""
    if not np.isfinite(values).all():
        raise InputError("clamped values must be finite")
    if levels is not None and not (known := np.isin(values, levels)).all():
        states = " and ".join(f"{level:g}" for level in levels)
        raise InputError(
            f"clamped units have the states {states}, got {values[~known][0]:g}; hold them at one of these"
        )
