"""Costs: what a network's output is asked to be.

A cost acts on the output of one sample and does not depend on temperature. Where it is quadratic it is one more well of
the output units, and a nudged unit stays as easy to sample as a free one.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import Scalar
from quasistatic.errors import InputError

Output = Float[Array, " n_out"]


class AbstractCost(eqx.Module):
    """Cost `C(o; y)` of an output `o` with target `y`, in the units of the energy."""

    @abc.abstractmethod
    def __call__(self, output: Output, target: Output) -> Scalar:
        """Cost of one output."""

    @property
    def is_quadratic(self) -> bool:
        """Whether `C = |o|^2 / 2 - o . y` up to a constant."""
        return False


class SquaredError(AbstractCost):
    """`C = |o - y|^2 / 2`. With temperature T and nudge b: likelihood of a Gaussian read-out of variance `T / b`."""

    def __call__(self, output: Output, target: Output) -> Scalar:
        return 0.5 * jnp.sum((output - target) ** 2)

    @property
    def is_quadratic(self) -> bool:
        return True


class CrossEntropy(AbstractCost):
    """`C = -sum_k y_k log softmax(o)_k`, for a target that sums to one. At nudge T: an averaged classifier."""

    def __call__(self, output: Output, target: Output) -> Scalar:
        return jax.nn.logsumexp(output) * jnp.sum(target) - jnp.sum(output * target)


class LinearCost(AbstractCost):
    """`C = y . o`: a force on the output, the exactly solvable drag."""

    def __call__(self, output: Output, target: Output) -> Scalar:
        return jnp.sum(output * target)


COSTS: dict[str, type[AbstractCost]] = {"squared": SquaredError, "cross-entropy": CrossEntropy}
"""Costs by the names used in configuration files."""


def cost(name: str) -> AbstractCost:
    """Cost given by name. Raises: InputError for an unknown name."""
    if name not in COSTS:
        raise InputError(f"unknown cost {name!r}; choose one of {sorted(COSTS)}")
    return COSTS[name]()
