"""Gradient check: every estimator beside the exact gradient of the user's own network, layer by layer.

At temperature zero the reference is the implicit-function gradient `dC(s*(theta)) / dtheta` of the free fixed point, by
automatic differentiation through one more sweep and a linear solve; nudges differ from it by their own order. Above
zero, networks whose states can be enumerated have exact phases. Otherwise the references are estimates of the same
target from the free phase alone: its covariance, and the free samples reweighted to the nudges. Where fewer than
`MIN_ESS` of these carry the weights, the reference is the contrast of other walkers that relaxed four times as long.
Estimators that push outputs out of their well are left out.

Reference:
    Ernoult et al. 2019 (arXiv 1905.13633), the comparison of nudged and backpropagated gradients.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._keys import named
from quasistatic._types import Key
from quasistatic.energies.costs import AbstractCost
from quasistatic.energies.hopfield import Layered
from quasistatic.energies.nudged import Example
from quasistatic.equilibrium.contrast import contrast
from quasistatic.equilibrium.covariance import covariance
from quasistatic.equilibrium.estimators import ESTIMATORS, estimate
from quasistatic.equilibrium.phases import Phase, Setup, check_push, gradient, table
from quasistatic.equilibrium.reweighting import ess_of_nudge, reweighted, reweighting
from quasistatic.equilibrium.rule import AT_ANY, EquilibriumPropagation
from quasistatic.errors import InputError
from quasistatic.kernels.layered import LayeredGibbs, settle, sweep
from quasistatic.thermo.controls import Controls

MAX_UNITS = 14
"""Discrete units up to which states are enumerated."""
REFERENCES = {"one-sided": "reweighting", "centred": "reweighting to both nudges", "loss": "covariance"}
"""What stands in for exact phases of every target."""
MIN_ESS = 20.0
"""Free walkers of each example and group that must carry a reweighted reference."""
LONGER = "contrast, other walkers, 4 x the sweeps"
"""What stands in where they are fewer."""


@dataclass(frozen=True)
class Agreement:
    """One estimator on one layer.

    Args:
        estimator: its name.
        layer: name of the parameter array.
        cosine: of the angle between mean estimate and reference.
        relative: norm of their difference over that of the reference.
        expected: the same from the standard errors alone, those of an estimated reference included; 0 without noise.
        reference: what it was compared with.

    Where the reference is exactly 0 there is no cosine (NaN), and no difference unless both are 0.
    """

    estimator: str
    layer: str
    cosine: float
    relative: float
    expected: float
    reference: str

    def as_json(self) -> dict[str, Any]:
        """Mapping of all fields."""
        return dict(vars(self))


def check_gradients(
    key: Key,
    network: Layered,
    cost: AbstractCost,
    inputs: Float[Array, "examples n_in"],
    targets: Float[Array, "examples n_out"],
    *,
    nudge: float,
    temperature: float,
    n_sweeps: int = 100,
    n_replicas: int = 200,
    n_groups: int = 8,
) -> list[Agreement]:
    """Agreement of every estimator that applies, layer by layer.

    Args:
        key: random key.
        network: layered network.
        cost: cost of its output.
        inputs: a few examples.
        targets: their targets.
        nudge: `b`.
        temperature: `T`; 0 compares the contrasts with the implicit gradient.
        n_sweeps: sweeps of every phase.
        n_replicas: walkers per example and group.
        n_groups: independent repetitions, for standard errors.

    Raises:
        InputError: no examples.
    """
    if not len(inputs):
        raise InputError("a gradient check needs at least one example, got none")
    if temperature == 0:
        return _at_zero(network, cost, inputs, targets, nudge, n_sweeps)
    return _above(key, network, cost, inputs, targets, nudge, temperature, n_sweeps, n_replicas, n_groups)


def implicit_gradient(
    network: Layered,
    cost: AbstractCost,
    inputs: Float[Array, "examples n_in"],
    targets: Float[Array, "examples n_out"],
    *,
    n_sweeps: int = 1000,
) -> Layered:
    """Gradient of the mean cost of the free fixed points at temperature zero, through the fixed-point equation.

    With `s* = f(s*, theta)` one sweep, `ds*/dtheta = (1 - df/ds)^-1 df/dtheta`; clipped units have no slope. A read-out
    adds the slope of the cost at fixed states.

    Args:
        network: layered network of box or real units.
        cost: cost of the output.
        inputs: inputs.
        targets: targets.
        n_sweeps: budget of the relaxation.
    """
    trained, fixed = eqx.partition(network, eqx.is_inexact_array)
    drive = jax.vmap(network.drive)(inputs)
    rest, _ = settle(None, network, network.zeros(len(inputs)), drive, n_sweeps=n_sweeps, tolerance=1e-10)
    states = network.join(rest)

    def moved(parameters: Any, x: Array, given: Array) -> Array:
        whole: Any = eqx.combine(parameters, fixed)
        return whole.join(sweep(None, whole, whole.split(x), whole.drive(given)))

    def one(x: Array, given: Array, target: Array) -> Any:
        slope = jax.grad(lambda s: cost(network.output(s), target))(x)
        jacobian = jax.jacobian(lambda s: moved(trained, s, given))(x)
        adjoint = jnp.linalg.solve((jnp.eye(x.size, dtype=x.dtype) - jacobian).T, slope)
        through = jax.vjp(lambda parameters: moved(parameters, x, given), trained)[1](adjoint)[0]

        def direct(parameters: Any) -> Array:
            whole: Any = eqx.combine(parameters, fixed)
            return cost(whole.output(x), target)

        return jax.tree.map(jnp.add, through, jax.grad(direct)(trained))  # a read-out is outside the state

    return jax.tree.map(lambda leaf: jnp.mean(leaf, 0), jax.vmap(one)(states, inputs, targets))


def _at_zero(
    network: Layered, cost: AbstractCost, inputs: Array, targets: Array, nudge: float, n_sweeps: int
) -> list[Agreement]:
    exact = _flat(implicit_gradient(network, cost, inputs, targets))
    found = []
    for variant in AT_ANY if _withstands(network, cost, nudge) else ("one-sided",):
        rule = EquilibriumPropagation(cost, nudge, 0.0, variant, n_sweeps, n_sweeps, 1e-9)
        slope, _, _ = rule.gradient(jax.random.key(0), network, inputs, targets, network.zeros(len(inputs)))
        for layer, g in _flat(slope).items():
            found.append(_agreement(variant, layer, g, exact[layer], 0.0, "implicit gradient of the cost"))
    return found


def _above(
    key: Key,
    network: Layered,
    cost: AbstractCost,
    inputs: Array,
    targets: Array,
    nudge: float,
    temperature: float,
    n_sweeps: int,
    n_replicas: int,
    n_groups: int,
) -> list[Agreement]:
    setup, examples = Setup(network, cost, LayeredGibbs(), temperature), Example(inputs, targets)
    start = jnp.broadcast_to(network.join(network.zeros()), (len(inputs), n_replicas, sum(network.sizes)))
    controls = Controls.of(n_sweeps=n_sweeps)
    left_out = {"random-sign"}
    if not cost.is_quadratic or network.readout is not None:
        left_out.add("rao-blackwell")
    if not _withstands(network, cost, nudge):
        left_out.add("centred")
    names = [name for name in ESTIMATORS if name not in left_out]

    def group(key: Key) -> tuple[dict[str, Any], dict[str, Any], Array]:
        free = setup.relaxed(named(key, "free"), setup.open(start, examples), 0.0, controls)
        found = {n: estimate(n, named(key, n), setup, free, examples, nudge, controls).gradient for n in names}
        phase, t = setup.phase(free, 0.0), setup.temperature
        ess = n_replicas * jnp.stack([jnp.min(ess_of_nudge(phase, b, t)) for b in (nudge, -nudge)])
        return found, _from_free(setup, phase, examples, nudge), ess

    slopes, of_free, ess = jax.jit(lambda keys: jax.lax.map(group, keys))(jax.random.split(key, n_groups))
    exact = _enumerated(setup, examples, nudge)
    stand_ins = dict(REFERENCES)
    if exact is None:
        weak = {"one-sided": ess[:, 0].min() < MIN_ESS, "centred": ess.min() < MIN_ESS and "centred" in names}
        names_weak = [target for target, is_weak in weak.items() if is_weak]
        keys = jax.random.split(named(key, "longer"), n_groups)
        others = _longer(keys, setup, examples, start, names_weak, nudge, Controls.of(n_sweeps=4 * n_sweeps))
        of_free, stand_ins = of_free | others, stand_ins | dict.fromkeys(others, LONGER)
    found = []
    for name in names:
        target = "loss" if name in ("covariance", "holomorphic") else "centred" if name == "centred" else "one-sided"
        if exact is None and (name == "covariance" or (name == "reweighting" and stand_ins["one-sided"] != LONGER)):
            continue  # they are the references
        references = _flat(of_free[target])
        for layer, g in _flat(slopes[name]).items():
            if exact is None:
                whole, reference = references[layer].mean(0), stand_ins[target]
                spread = g - references[layer]  # the free walkers are the same, or others of the same number
            else:
                whole, spread, reference = exact[target][layer], g, "enumeration"
            error = np.sqrt(np.sum(spread.var(0, ddof=1)) / n_groups)
            found.append(_agreement(name, layer, g.mean(0), whole, float(error), reference))
    return found


def _longer(
    keys: Array, setup: Setup, examples: Example, start: Array, names: list[str], nudge: float, controls: Controls
) -> dict[str, Any]:
    """Gradients of one- and two-sided targets by contrasts of walkers of their own."""
    if not names:
        return {}

    def group(key: Key) -> dict[str, Any]:
        free = setup.relaxed(named(key, "free"), setup.open(start, examples), 0.0, controls)
        kinds = {"one-sided": "contrast", "centred": "centred"}
        return {
            name: estimate(kinds[name], named(key, name), setup, free, examples, nudge, controls).gradient
            for name in names
        }

    return jax.jit(lambda keys: jax.lax.map(group, keys))(keys)


def _withstands(network: Layered, cost: AbstractCost, nudge: float) -> bool:
    """Whether outputs stay in their well at the nudge `-b`."""
    try:
        check_push(network, cost, nudge)
    except InputError:
        return False
    return True


def _from_free(setup: Setup, free: Phase, examples: Example, nudge: float) -> dict[str, Any]:
    """Gradients of the three targets from the free phase alone."""
    t = setup.temperature
    terms = {
        "one-sided": jax.vmap(lambda p: reweighting(p, nudge, t))(free).scale(1 / nudge),
        "centred": jax.vmap(lambda p: contrast(reweighted(p, -nudge, t), reweighted(p, nudge, t)))(free).scale(
            0.5 / nudge
        ),
        "loss": jax.vmap(lambda p: covariance(p, t))(free),
    }
    return {name: gradient(setup.network, setup.cost, each, examples) for name, each in terms.items()}


def _enumerated(setup: Setup, examples: Example, nudge: float) -> dict[str, dict[str, np.ndarray]] | None:
    """Exact gradients of the three targets, or None when the states cannot be enumerated."""
    network: Any = setup.network
    if any(u.levels is None for u in network.units) or sum(network.sizes) > MAX_UNITS:
        return None
    levels = [u.levels for u in network.units for _ in range(u.size)]
    states = jnp.asarray(list(itertools.product(*levels)))
    exact_phase = jax.vmap(lambda example, b: table(setup, states, example, b), (0, None))
    free, up, down = (exact_phase(examples, b) for b in (0.0, nudge, -nudge))
    terms = {
        "one-sided": jax.vmap(contrast)(free, up).scale(1 / nudge),
        "centred": jax.vmap(contrast)(down, up).scale(0.5 / nudge),
        "loss": jax.vmap(lambda p: covariance(p, setup.temperature))(free),
    }
    return {name: _flat(gradient(network, setup.cost, t, examples)) for name, t in terms.items()}


def _flat(tree: Any) -> dict[str, np.ndarray]:
    """Arrays by name, such as `interactions/0/weight`."""
    leaves = jax.tree_util.tree_flatten_with_path(eqx.filter(tree, eqx.is_inexact_array))[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def _agreement(name: str, layer: str, g: np.ndarray, exact: np.ndarray, error: float, reference: str) -> Agreement:
    norms = float(np.linalg.norm(g)), float(np.linalg.norm(exact))
    if norms[1] == 0:  # a layer without a gradient: equal, or not comparable
        same = 0.0 if norms[0] == 0 else float("nan")
        return Agreement(name, layer, float("nan"), same, same, reference)
    cosine = float(np.sum(g * exact) / max(norms[0] * norms[1], 1e-300))
    return Agreement(name, layer, cosine, float(np.linalg.norm(g - exact)) / norms[1], error / norms[1], reference)
