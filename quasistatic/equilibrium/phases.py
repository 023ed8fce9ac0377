"""Phases: walkers of every example in equilibrium with a nudge, and what estimators keep of them.

The walkers of one example form a group of an ensemble; inputs and target are their context. Raising the nudge is a
switch, whose work the account books, and moving is relaxation, whose heat the kernel reports. Hence the Jarzynski
weights of a nudge ramp are those of any other protocol.

Symbols: network energy `E`, cost `C`, nudge `b`, temperature `T`, `F_b = E + b C`, `pi_b ~ exp(-F_b / T)`,
`A(b) = -T log Z_b`, `dA = A(b) - A(0)`; means `<.>_b`; `g = dE/dtheta`.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import Key, Scalar, ScalarLike
from quasistatic.energies.costs import AbstractCost
from quasistatic.energies.hopfield import Layered
from quasistatic.energies.nudged import AbstractNetwork, Example, Nudged, weighted_gradient
from quasistatic.energies.potential import Potential
from quasistatic.energies.predictive import PredictiveCoding
from quasistatic.energies.wells import AbstractWell
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.process import relax, switch


class Phase(eqx.Module):
    """States of **one** example with weights that stand for `pi_b`; phases of many examples have them first.

    Args:
        x: states, shape `(n, ...)`.
        cost: `C` of each state.
        weight: weights that sum to one: `1 / n` for samples, probabilities for a table of all states.
        nudge: `b`.
        is_table: weights are exact probabilities; a covariance then needs no correction for the number of samples.
    """

    x: Float[Array, "..."]
    cost: Float[Array, "*examples n"]
    weight: Float[Array, "*examples n"]
    nudge: Float[Array, "*examples"]
    is_table: bool = eqx.field(static=True, default=False)

    def mean(self, values: Float[Array, " n"]) -> Scalar:
        """Weighted mean over the states."""
        return jnp.sum(self.weight * values)


class Terms(eqx.Module):
    """An estimate of a gradient as coefficients on states: `sum_i c_i g(s_i) + d_i dC(s_i)/dtheta`.

    Every estimator of this package is a choice of coefficients; `gradient` turns them into parameters, once.

    Args:
        x: states, shape `(m, ...)`, examples first where there are many.
        on_energy: `c`.
        on_cost: `d`, which matters only for costs with parameters.
    """

    x: Float[Array, "..."]
    on_energy: Float[Array, "*examples m"]
    on_cost: Float[Array, "*examples m"]

    def scale(self, factor: ScalarLike) -> "Terms":
        """Terms of a multiple of the gradient, such as `1 / b` for the normalised objective `dA / b`."""
        return Terms(self.x, factor * self.on_energy, factor * self.on_cost)


def joined(*terms: Terms) -> Terms:
    """Sum of several estimates of one example."""
    parts = [[getattr(t, name) for t in terms] for name in ("x", "on_energy", "on_cost")]
    return Terms(*(jnp.concatenate(part) for part in parts))


def gradient(network: AbstractNetwork, cost: AbstractCost, terms: Terms, examples: Example) -> AbstractNetwork:
    """Mean over examples of what their terms amount to.

    Args:
        network: energy with an output.
        cost: cost of the output.
        terms: terms of all examples, examples first.
        examples: inputs and targets, examples first.

    Returns:
        Pytree shaped like the network; a descent direction is its negative.
    """
    if isinstance(network, Layered):
        return _layered_gradient(network, cost, terms, examples)
    n, m = terms.on_energy.shape
    context = jax.tree.map(lambda leaf: jnp.repeat(leaf, m, axis=0), examples)
    x = terms.x.reshape(n * m, *terms.x.shape[2:])
    return weighted_gradient(network, cost, x, context, terms.on_energy.ravel() / n, terms.on_cost.ravel() / n)


def _layered_gradient(network: Layered, cost: AbstractCost, terms: Terms, examples: Example) -> Layered:
    """The same for layered networks: the states of an example are summed before they meet its inputs.

    `E` is linear in the parameters, so that only products of states remain: one product with the inputs per example,
    however many states stand for it.
    """
    trained, fixed = eqx.partition(network, eqx.is_inexact_array)
    layers, c = network.split(terms.x), terms.on_energy[..., None]

    def total(parameters: Any) -> Scalar:
        whole: Any = eqx.combine(parameters, fixed)
        first = jnp.sum(c * layers[0], axis=1)
        if examples.inputs is None:
            value = -jnp.sum(first * whole.bias(0))
        else:
            value = -jnp.sum(first * jax.vmap(whole.drive)(examples.inputs))
        for k in range(1, len(layers)):
            below = jax.vmap(jax.vmap(whole.interactions[k].up))(layers[k - 1])
            value = value - jnp.sum(c * layers[k] * (below + whole.bias(k)))
        if network.readout is not None:
            of_states = jax.vmap(lambda s, y: cost(whole.output_of(s), y), (0, None))
            value = value + jnp.sum(terms.on_cost * jax.vmap(of_states)(layers[-1], examples.target))
        return value / terms.on_energy.shape[0]

    return jax.grad(total)(trained)


class Setup(eqx.Module):
    """Network, cost, kernel and temperature.

    Args:
        network: energy with an output.
        cost: cost of the output.
        kernel: Markov kernel that leaves `pi_b` invariant, such as `LayeredGibbs`.
        temperature: `T > 0`.
    """

    network: AbstractNetwork
    cost: AbstractCost
    kernel: AbstractKernel
    temperature: ScalarLike

    def __check_init__(self):
        if isinstance(self.temperature, (int, float)) and not self.temperature > 0:
            raise InputError(
                f"sampled phases need a temperature above 0, got {self.temperature}; `settle` relaxes at zero"
            )
        self.kernel.check(Nudged(self.network, self.cost, 0.0))

    def potential(self, nudge: ScalarLike) -> Potential:
        """`F_b / T`."""
        return Potential(Nudged(self.network, self.cost, nudge), 1.0 / self.temperature)

    def open(self, x: Float[Array, "examples replicas ..."], examples: Example) -> Ensemble:
        """Free walkers with open books, one group per example. Args: states; inputs and targets, examples first."""
        n, r = x.shape[:2]
        context = jax.tree.map(lambda leaf: jnp.repeat(leaf, r, axis=0), examples)
        flat = x.reshape(n * r, *x.shape[2:])
        return Ensemble.open(self.kernel, self.potential(jnp.zeros(())), flat, n_groups=n, context=context)

    def relaxed(self, key: Key, ensemble: Ensemble, nudge: ScalarLike, controls: Controls) -> Ensemble:
        """Walkers switched to a nudge and moved there; the work of the switch is booked."""
        after = self.potential(nudge)
        switched, _ = switch(self.kernel, after, ensemble)
        return relax(key, self.kernel, after, switched, controls)[0]

    def costs(self, ensemble: Ensemble) -> Float[Array, "examples replicas"]:
        """`C` of every walker."""
        costs = jax.vmap(lambda x, example: self.cost(self.network.output(x), example.target))(
            ensemble.x, ensemble.context
        )
        return ensemble.by_group(costs)

    def phase(self, ensemble: Ensemble, nudge: ScalarLike, *, is_weighted: bool = False) -> Phase:
        """Phases of all examples. Args: walkers; their nudge; is_weighted, use the weights of their accounts."""
        costs = self.costs(ensemble)
        x = ensemble.x.reshape(*costs.shape, *ensemble.x.shape[1:])
        weight = jnp.full_like(costs, 1.0 / costs.shape[1])
        if is_weighted:
            weight = jax.nn.softmax(ensemble.by_group(ensemble.log_weight()), axis=1)
        return Phase(x, costs, weight, jnp.broadcast_to(jnp.asarray(nudge, costs.dtype), costs.shape[:1]))


def check_push(network: AbstractNetwork, cost: AbstractCost, nudge: float) -> None:
    """Raises InputError for a nudge `-b` that no state withstands.

    A quadratic cost leaves outputs in a well of curvature 1 the curvature `1 - b`: real outputs then run away, those on
    a box stick to a wall that depends on where they came from.

    Args:
        network: energy with an output.
        cost: cost of the output.
        nudge: `b > 0`, of phases at `-b`.
    """
    if not cost.is_quadratic:
        return
    has_well = isinstance(network, PredictiveCoding)
    if isinstance(network, Layered) and network.readout is None:
        has_well = isinstance(network.units[-1], AbstractWell)
    if has_well and not nudge < 1:
        raise InputError(
            "the nudge -b pushes outputs away, which their well of curvature 1 holds for b < 1 only, got "
            f"b = {nudge:g}; lower the nudge, or use a one-sided rule"
        )


def concrete(value: ScalarLike) -> float | None:
    """The number, or None where it is not known while compiling."""
    try:
        return float(value)
    except (TypeError, jax.errors.ConcretizationTypeError):
        return None


def table(setup: Setup, states: Float[Array, "n ..."], example: Any, nudge: ScalarLike) -> Phase:
    """Exact phase of one example over a complete list of states, for networks small enough to enumerate.

    Args:
        setup: network, cost, temperature.
        states: all states.
        example: context of the example, without an examples axis.
        nudge: `b`.
    """
    u = jax.vmap(lambda s: setup.potential(nudge)(s, example))(states)
    costs = jax.vmap(lambda s: setup.cost(setup.network.output(s), example.target))(states)
    return Phase(states, costs, jax.nn.softmax(-u), jnp.asarray(nudge, costs.dtype), True)
