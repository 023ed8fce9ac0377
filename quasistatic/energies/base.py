"""Energies: the contract every model fulfils.

A model is a pytree of parameters with `p(x) = exp(-beta E(x)) / Z(beta)`. `__call__` is the energy of **one** sample;
batches are made with `jax.vmap`, so a per-sample energy cannot depend on its batch (which would silently invalidate
every weight). All that follows is derived from the *reduced potential* `u(x) = reduced(x, beta)`, in nats.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._types import Key, Sample, Scalar, ScalarLike
from quasistatic.errors import InputError


class AbstractEnergy(eqx.Module):
    """Energy of one sample, as a pytree of parameters.

    A complete member:

    ```python
    >>> import equinox as eqx, jax.numpy as jnp
    >>> from quasistatic.energies import AbstractEnergy
    >>> class Quartic(AbstractEnergy):
    ...     stiffness: jnp.ndarray
    ...     def __call__(self, x):
    ...         return jnp.sum(self.stiffness * x**4)
    >>> float(Quartic(jnp.array(2.0))(jnp.array([1.0, 2.0])))
    34.0

    ```
    """

    @abc.abstractmethod
    def __call__(self, x: Sample) -> Scalar:
        """Energy `E(x)` of one sample (at `beta = 1`, in units of k_B T)."""

    def reduced(self, x: Sample, beta: ScalarLike, context: Any = None) -> Scalar:
        """Reduced potential `u(x)` in nats; `beta * E(x)` unless hidden degrees of freedom were summed out."""
        del context
        return beta * self(x)

    def validate(self, x: np.ndarray, *, name: str = "data") -> None:
        """Raises `InputError` when samples lie outside the domain of the model. Args: x, shape `(n, ...)`."""
        if not np.all(np.isfinite(x)):
            bad = int(np.argmax(~np.isfinite(x.reshape(len(x), -1)).all(axis=1)))
            raise InputError(f"{name} holds NaN or infinite values (first in row {bad}); remove or impute them")

    def weighted_gradient(
        self, x: Float[Array, "n ..."], weights: Float[Array, " n"], beta: ScalarLike, cache: Any = None
    ) -> "AbstractEnergy":
        """Gradient `sum_i w_i du(x_i)/dtheta`, as a pytree shaped like the model (None where nothing is trained).

        Args:
            x: samples, walkers first.
            weights: one weight per sample; they need not sum to one.
            beta: inverse temperature.
            cache: what a kernel stored for these samples, when the energy can reuse it.
        """
        del cache
        trained, fixed = eqx.partition(self, eqx.is_inexact_array)

        def total(parameters: Any) -> Scalar:
            energy = eqx.combine(parameters, fixed)
            return jnp.sum(weights * jax.vmap(lambda sample: energy.reduced(sample, beta))(x))

        return jax.grad(total)(trained)

    def interaction_mask(self) -> Any:
        """Pytree of booleans: which leaves L1/L2 penalties act on. Default: arrays of two or more axes."""
        return jax.tree.map(lambda leaf: eqx.is_inexact_array(leaf) and leaf.ndim >= 2, self)


class AbstractTractable(AbstractEnergy):
    """Energy whose partition function is known and which can be sampled exactly: the place where books open."""

    @property
    def has_any_beta(self) -> bool:
        """Whether `log Z` and exact samples are known at every beta, not only at 1."""
        return True

    @abc.abstractmethod
    def log_partition(self, beta: ScalarLike) -> Scalar:
        """`log Z(beta) = log sum_x exp(-u(x))` (an integral for continuous samples), in nats."""

    @abc.abstractmethod
    def sample_exact(self, key: Key, beta: ScalarLike, n: int) -> Float[Array, "n ..."]:
        """`n` independent exact samples at inverse temperature `beta`."""


class CallableEnergy(AbstractEnergy):
    """Any function or Equinox module `x -> scalar` as an energy.

    Args:
        function: callable on one sample. The floating-point arrays of an Equinox module are its parameters.
        levels: allowed values of discrete samples, such as `(0, 1)`; None for continuous samples.
    """

    function: Callable[[Any], Any]
    levels: tuple[float, ...] | None = eqx.field(static=True, default=None)

    def __call__(self, x: Sample) -> Scalar:
        value = jnp.asarray(self.function(x))
        if value.shape != ():
            raise InputError(
                f"an energy maps one sample to a scalar, but this one returned shape {value.shape} for a sample of "
                f"shape {jnp.shape(x)}; sum over the remaining axes"
            )
        return value

    def validate(self, x: np.ndarray, *, name: str = "data") -> None:
        super().validate(x, name=name)
        if self.levels is not None and not np.isin(x, self.levels).all():
            raise InputError(f"{name} holds values outside {self.levels}; binarise the data or choose other levels")


def as_energy(model: Any, *, levels: tuple[float, ...] | None = None) -> AbstractEnergy:
    """The model itself if it is an energy, a wrapped callable otherwise.

    Raises:
        InputError: `model` is not callable.
    """
    if isinstance(model, AbstractEnergy):
        return model
    if not callable(model):
        raise InputError(f"an energy must be callable on one sample, got {type(model).__name__}")
    return CallableEnergy(model, levels=levels)
