"""Rao-Blackwell statistics of layered networks: one end of every product replaced by its conditional mean.

    <s_{k-1} s_k> = < s_{k-1} m_k(s_{k-1}, s_{k+1}) > ,   m_k = <s_k | neighbours>_b ,

so the statistic `dE/dW_k = -s_{k-1} s_k` keeps its mean and loses the variance of the last draw. It applies to the
contrast, whose coefficients do not depend on the state; a covariance with a cost of the replaced layer would change.

Reference:
    Blackwell 1947; Gelfand and Smith 1990 (for Gibbs sampling).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import Scalar, ScalarLike
from quasistatic.energies.costs import AbstractCost
from quasistatic.energies.hopfield import Layered, Layers
from quasistatic.energies.nudged import Example
from quasistatic.energies.wells import with_well
from quasistatic.equilibrium.phases import Phase
from quasistatic.errors import InputError


def conditional_means(
    network: Layered, cost: AbstractCost, x: Float[Array, " n"], example: Any, nudge: ScalarLike, beta: ScalarLike
) -> Layers:
    """Mean of every layer given its neighbours in one state.

    Args:
        network: layered energy.
        cost: quadratic cost of the last layer.
        x: state.
        example: inputs and target.
        nudge: `b`.
        beta: `1 / T`.

    Raises:
        InputError: the cost is no well of the last layer.
    """
    if not cost.is_quadratic or network.readout is not None:
        raise InputError("conditional means need a quadratic cost of the last layer; use the plain contrast")
    layers, drive, means = network.split(x), network.drive(example.inputs), []
    for k, units in enumerate(network.units):
        natural = units.natural(network.field(k, layers, drive))
        if k == len(layers) - 1:
            natural = with_well(units, natural, nudge * example.target, nudge)
        means.append(units.mean(jax.tree.map(lambda leaf: beta * leaf, natural)))
    return tuple(means)


def rao_blackwell(
    network: Layered, cost: AbstractCost, start: Phase, end: Phase, examples: Example, temperature: ScalarLike
) -> Layered:
    """Gradient of `A(b_end) - A(b_start)`, mean over examples, with conditional means.

    Args:
        network: layered energy.
        cost: quadratic cost of the last layer.
        start: phases of all examples at the first nudge, examples first.
        end: the same at the second nudge.
        examples: inputs and targets, examples first.
        temperature: `T`.
    """
    trained, fixed = eqx.partition(network, eqx.is_inexact_array)

    def total(parameters: Any) -> Scalar:
        whole: Any = eqx.combine(parameters, fixed)

        def bilinear(x: Array, weight: Array, nudge: Array, example: Example) -> Scalar:
            means = conditional_means(network, cost, x, example, nudge, 1.0 / temperature)
            layers = network.split(x)
            value = jnp.sum(whole.drive(example.inputs) * means[0])
            for k in range(1, len(means)):
                value += jnp.sum((whole.interactions[k].up(layers[k - 1]) + whole.bias(k)) * means[k])
            return -weight * value

        def of_phase(phase: Phase) -> Scalar:
            over = jax.vmap(jax.vmap(bilinear, (0, 0, None, None)))
            return jnp.sum(over(phase.x, phase.weight, phase.nudge, examples)) / phase.cost.shape[0]

        return of_phase(end) - of_phase(start)

    return jax.grad(total)(trained)
