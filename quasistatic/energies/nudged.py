"""Networks with an output, and the nudge that pulls it towards a target.

    F_b(s; x, y) = E_theta(s; x) + b C(o(s), y) ,     pi_b(s) ~ exp(-F_b / T) ,     A(b) = -T log Z_b .

Inputs `x` and targets `y` are context: each walker has its own. The nudge `b` is a protocol from free (0) to nudged,
and the objective is the free-energy difference `A(b) - A(0)`; beta = 1 / T multiplies once, in the potential.

Reference:
    Litman 2025, sections 2 and 3 (arXiv 2511.22024); Scellier and Bengio 2017 (arXiv 1602.05179).
"""

import abc
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._types import Sample, Scalar, ScalarLike
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.costs import AbstractCost
from quasistatic.errors import InputError


class Example(eqx.Module):
    """Context of a walker: what it sees and what its output should be.

    Args:
        inputs: clamped inputs, or None for an energy without.
        target: target of the output, or None while there is none (free phase, prediction).
    """

    inputs: Float[Array, "..."] | None = None
    target: Float[Array, "..."] | None = None


class AbstractNetwork(AbstractEnergy):
    """Energy `E(s; x)` of a state given inputs, with a declared output `o(s)`.

    The context of its potential is an `Example`; None stands for no inputs.
    """

    @abc.abstractmethod
    def energy(self, x: Sample, inputs: Any) -> Scalar:
        """Energy of one state given the inputs of its example."""

    @abc.abstractmethod
    def output(self, x: Sample) -> Float[Array, " n_out"]:
        """Output of one state, what the cost looks at and what a prediction averages."""

    def __call__(self, x: Sample) -> Scalar:
        return self.energy(x, None)

    def reduced(self, x: Sample, beta: ScalarLike, context: Any = None) -> Scalar:
        return beta * self.energy(x, None if context is None else context.inputs)


class Nudged(AbstractEnergy):
    """`E + b C`: a network whose output is pulled towards the target of its context.

    Args:
        network: energy with an output.
        cost: cost of the output.
        nudge: `b`, a traced scalar; 0 is the free phase, negative values push away.
    """

    network: AbstractNetwork
    cost: AbstractCost
    nudge: ScalarLike

    @property
    def levels(self) -> tuple[float, ...] | None:
        """States of discrete units, None for continuous samples."""
        return getattr(self.network, "levels", None)

    def reduced(self, x: Sample, beta: ScalarLike, context: Any = None) -> Scalar:
        free = self.network.reduced(x, beta, context)
        if context is None or context.target is None:
            return free
        return free + beta * self.nudge * self.cost(self.network.output(x), context.target)

    def __call__(self, x: Sample) -> Scalar:
        return self.network(x)

    def validate(self, x: np.ndarray, *, name: str = "data") -> None:
        self.network.validate(x, name=name)


class Declared(AbstractNetwork):
    """Any energy with an output that the user declares.

    ```python
    >>> import jax.numpy as jnp
    >>> from quasistatic.energies import Declared
    >>> pair = Declared(lambda s, x: -s[0] * (s[1] + x[0]), output=[1])
    >>> float(pair.energy(jnp.array([1.0, -1.0]), jnp.array([3.0]))), pair.output(jnp.array([1.0, -1.0])).tolist()
    (-2.0, [-1.0])

    ```

    Args:
        function: callable of the state, or of the state and the inputs (a second positional parameter without a
            default, or with None); the floating-point arrays of an Equinox module or energy are its parameters.
        output: positions of the output in a flat state, or a function of the state.
        levels: states of discrete units, such as `(-1, 1)`; None for continuous ones.
    """

    function: Callable[..., Any]
    where: Callable[[Any], Any] | tuple[int, ...] = eqx.field(static=True)
    levels: tuple[float, ...] | None = eqx.field(static=True)
    has_inputs: bool = eqx.field(static=True)

    def __init__(
        self,
        function: Callable[..., Any],
        output: Callable[[Any], Any] | Sequence[int],
        levels: tuple[float, ...] | None = None,
    ):
        if not callable(function):
            raise InputError(f"an energy must be callable on one state, got {type(function).__name__}")
        self.function = function
        self.where = output if callable(output) else tuple(int(i) for i in output)
        self.levels = levels
        self.has_inputs = not isinstance(function, AbstractEnergy) and _takes_inputs(function)

    def energy(self, x: Sample, inputs: Any) -> Scalar:
        value = jnp.asarray(self.function(x, inputs) if self.has_inputs else self.function(x))
        if value.shape != ():
            raise InputError(f"an energy maps one state to a scalar, but this one returned shape {value.shape}")
        return value

    def output(self, x: Sample) -> Float[Array, " n_out"]:
        where: Any = self.where
        return x[jnp.asarray(where)] if isinstance(where, tuple) else jnp.atleast_1d(where(x))


def _takes_inputs(function: Callable[..., Any]) -> bool:
    """Whether the second parameter is an argument; other defaults, as of a closure, belong to the function."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    given = [p for p in inspect.signature(function).parameters.values() if p.kind in kinds]
    return len(given) > 1 and (given[1].default is inspect.Parameter.empty or given[1].default is None)


def weighted_gradient(
    network: AbstractNetwork,
    cost: AbstractCost | None,
    x: Float[Array, "n ..."],
    context: Any,
    on_energy: Float[Array, " n"],
    on_cost: Float[Array, " n"] | None = None,
) -> AbstractNetwork:
    """`sum_i c_i dE(s_i)/dtheta + d_i dC(s_i)/dtheta`: all that an estimator asks of a network.

    Args:
        network: energy with an output.
        cost: cost, or None to leave its part out.
        x: states, walkers first.
        context: an `Example` with walkers first.
        on_energy: `c`, one coefficient per state.
        on_cost: `d`, for outputs that have parameters of their own.

    Returns:
        Pytree shaped like the network, None where nothing is trained.
    """
    trained, fixed = eqx.partition(network, eqx.is_inexact_array)

    def total(parameters: Any) -> Scalar:
        whole: Any = eqx.combine(parameters, fixed)
        energies = jax.vmap(lambda s, example: whole.energy(s, None if example is None else example.inputs))(x, context)
        value = jnp.sum(on_energy * energies)
        if cost is None or on_cost is None:
            return value
        cost_of = cost
        costs = jax.vmap(lambda s, example: cost_of(whole.output(s), example.target))(x, context)
        return value + jnp.sum(on_cost * costs)

    return jax.grad(total)(trained)
