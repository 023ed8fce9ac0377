"""Every estimator by name: phases are sampled, terms are made, and one gradient comes out with all its evidence.

| name | target | phases |
|---|---|---|
| `contrast` | `grad dA_b / b` | free, nudged, independent |
| `centred` | `grad [A(b) - A(-b)] / 2b` | nudged both ways |
| `random-sign` | the same on average over signs | free, nudged with a random sign per example |
| `coupled` | `grad dA_b / b` | free and nudged from one start with one key |
| `rao-blackwell` | `grad dA_b / b` | free, nudged; conditional means (layered networks) |
| `path-integral` | `grad dA_b / b` | Gauss-Legendre nodes |
| `ramp` | `grad dA_b / b` | free, end of a weighted ramp |
| `reweighting` | `grad dA_b / b` | free |
| `covariance` | `grad <C>_0` | free |
| `holomorphic` | `grad <C>_0` | free |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._keys import named
from quasistatic._numerics import ess_fraction
from quasistatic._random import split
from quasistatic._results import Estimate
from quasistatic._types import Key, ScalarLike
from quasistatic.energies.nudged import AbstractNetwork, Example
from quasistatic.equilibrium import objective
from quasistatic.equilibrium.contrast import contrast, random_sign
from quasistatic.equilibrium.coupled import coupled
from quasistatic.equilibrium.covariance import covariance
from quasistatic.equilibrium.holomorphic import holomorphic
from quasistatic.equilibrium.path_integral import lengths_ahead, path_integral
from quasistatic.equilibrium.phases import Phase, Setup, Terms, check_push, concrete, gradient
from quasistatic.equilibrium.ramp import ramp, uniform_schedule
from quasistatic.equilibrium.rao_blackwell import rao_blackwell
from quasistatic.equilibrium.reweighting import ess_of_nudge, reweighting
from quasistatic.errors import InputError
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble

ESTIMATORS = (
    "contrast centred random-sign coupled rao-blackwell path-integral ramp reweighting covariance holomorphic"
).split()
"""Names of the estimators."""


class Options(eqx.Module):
    """Sizes that are part of an estimator.

    Args:
        n_nodes: nodes of the path integral.
        n_steps: steps of the ramp.
        spacing: `even` (Gauss-Legendre nodes, equal steps) or `equal-length`, where nodes (trapezoid rule, one at each
            end, at least two) and steps are equally far apart in thermodynamic length.
        n_points: complex nudges on the circle.
        radius: their radius; None for the nudge itself.
    """

    n_nodes: int = eqx.field(static=True, default=4)
    n_steps: int = eqx.field(static=True, default=8)
    spacing: str = eqx.field(static=True, default="even")
    n_points: int = eqx.field(static=True, default=8)
    radius: float | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        for name in ("n_nodes", "n_steps", "n_points"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.spacing not in ("even", "equal-length"):
            raise InputError(f"spacing is 'even' or 'equal-length', got {self.spacing!r}")
        if self.spacing == "equal-length" and self.n_nodes < 2:
            raise InputError(f"nodes at equal lengths include both ends: at least 2, got {self.n_nodes}")


class Outcome(eqx.Module):
    """A gradient and the samples behind it, examples first everywhere.

    Args:
        gradient: mean over examples, shaped like the network.
        free: free phase.
        nudged: phase at `+b`, or None.
        away: phase at `-b`, or None.
        nodes: phases of the path integral.
        node_weights: their weights, which sum to one, or None.
        works: reduced works of the ramp, or None.
        ess: effective sample size of the nudged phase as a fraction, per example; 1 where it is simulated at `b`.
    """

    gradient: AbstractNetwork
    free: Phase
    nudged: Phase | None
    away: Phase | None
    nodes: tuple[Phase, ...]
    node_weights: Float[Array, " nodes"] | None
    works: Float[Array, "examples replicas"] | None
    ess: Float[Array, " examples"]


def estimate(
    name: str,
    key: Key,
    setup: Setup,
    free: Ensemble,
    examples: Example,
    nudge: ScalarLike,
    controls: Controls,
    options: Options | None = None,
) -> Outcome:
    """Gradient by one estimator, from walkers in free equilibrium.

    Args:
        name: one of `ESTIMATORS`.
        key: random key.
        setup: network, cost, kernel, temperature.
        free: walkers of `setup.open` in free equilibrium, one group per example.
        examples: inputs and targets, examples first.
        nudge: `b > 0`.
        controls: sweeps (per phase, per node, per step of a ramp) and step size.
        options: sizes.

    Raises:
        InputError: unknown name, or a nudge that pushes outputs out of their well.
    """
    if name not in ESTIMATORS:
        raise InputError(f"unknown estimator {name!r}; choose one of {', '.join(ESTIMATORS)}")
    b = concrete(nudge)
    if name in ("centred", "random-sign") and b is not None:
        check_push(setup.network, setup.cost, b)
    o, t = options or Options(), setup.temperature
    n = free.n_groups
    free_phase = setup.phase(free, 0.0)
    ones = jnp.ones(n, free_phase.cost.dtype)

    def outcome(terms: Terms, nudged: Phase | None = None, ess: Any = ones, **more: Any) -> Outcome:
        slope = gradient(setup.network, setup.cost, terms, examples)
        fields = {"away": None, "nodes": (), "node_weights": None, "works": None, **more}
        return Outcome(gradient=slope, free=free_phase, nudged=nudged, ess=ess, **fields)

    def at(b: ScalarLike, purpose: str) -> Phase:
        return setup.phase(setup.relaxed(named(key, purpose), free, b, controls), b)

    if name in ("contrast", "rao-blackwell"):
        nudged = at(nudge, "nudged")
        terms = jax.vmap(contrast)(free_phase, nudged).scale(1.0 / nudge)
        if name == "contrast":
            return outcome(terms, nudged)
        network: Any = setup.network
        slope = rao_blackwell(network, setup.cost, free_phase, nudged, examples, t)
        found = outcome(terms, nudged)
        return eqx.tree_at(lambda f: f.gradient, found, jax.tree.map(lambda g: g / nudge, slope))
    if name == "centred":
        nudged, away = at(nudge, "nudged"), at(-nudge, "away")
        return outcome(jax.vmap(contrast)(away, nudged).scale(0.5 / nudge), nudged, away=away)
    if name == "random-sign":
        signs = random_sign(named(key, "sign"), 1.0, n).astype(free_phase.cost.dtype)
        nudged, away = at(nudge, "nudged"), at(-nudge, "away")
        return outcome(_with_signs(free_phase, nudged, away, signs, nudge), nudged, away=away)
    if name == "coupled":
        start, nudged = coupled(named(key, "coupled"), setup, free, (0.0, nudge), controls)
        return outcome(jax.vmap(contrast)(start, nudged).scale(1.0 / nudge), nudged)
    if name == "path-integral":
        return _along_path(key, setup, free, free_phase, nudge, controls, o, outcome)
    if name == "ramp":
        is_even = o.spacing == "even"
        schedule = uniform_schedule(nudge, o.n_steps) if is_even else lengths_ahead(free_phase, nudge, t, o.n_steps)
        done, works = ramp(named(key, "ramp"), setup, free, schedule, controls)
        nudged = setup.phase(done, nudge, is_weighted=True)
        terms = jax.vmap(contrast)(free_phase, nudged).scale(1.0 / nudge)
        return outcome(terms, nudged, ess_fraction(-works), works=works)
    if name == "reweighting":
        terms = jax.vmap(lambda phase: reweighting(phase, nudge, t))(free_phase).scale(1.0 / nudge)
        return outcome(terms, ess=ess_of_nudge(free_phase, nudge, t))
    if name == "covariance":
        return outcome(jax.vmap(lambda phase: covariance(phase, t))(free_phase))
    radius = nudge if o.radius is None else o.radius
    ess = jnp.minimum(ess_of_nudge(free_phase, radius, t), ess_of_nudge(free_phase, -radius, t))
    return outcome(jax.vmap(lambda phase: holomorphic(phase, radius, o.n_points, t))(free_phase), ess=ess)


def _along_path(
    key: Key,
    setup: Setup,
    free: Ensemble,
    phase: Phase,
    nudge: ScalarLike,
    controls: Controls,
    o: Options,
    outcome: Any,
) -> Outcome:
    """Path integral: the nodes are visited in order, every one from the last, in a compiled loop."""
    if o.spacing == "even":
        x, w = np.polynomial.legendre.leggauss(o.n_nodes)
        nodes, weights = jnp.asarray(0.5 * (x + 1)) * nudge, jnp.asarray(0.5 * w)
    else:
        nodes = lengths_ahead(phase, nudge, setup.temperature, o.n_nodes - 1)
        gaps = jnp.diff(nodes, prepend=nodes[:1], append=nodes[-1:])
        weights = 0.5 * (gaps[1:] + gaps[:-1]) / nudge
    nodes, weights = nodes.astype(free.u.dtype), weights.astype(free.u.dtype)

    def visit(walkers: Ensemble, node: tuple[Array, Array]) -> tuple[Ensemble, Phase]:
        b, key_node = node
        moved = setup.relaxed(key_node, walkers, b, controls)
        return moved, setup.phase(moved, b)

    _, stacked = jax.lax.scan(visit, free, (nodes, split(named(key, "path"), o.n_nodes)))
    phases = tuple(jax.tree.map(lambda leaf, j=j: leaf[j], stacked) for j in range(o.n_nodes))
    terms = jax.vmap(lambda *each: path_integral(each, tuple(weights), setup.temperature))(*phases)
    return outcome(terms, nodes=phases, node_weights=weights)


def _with_signs(free: Phase, nudged: Phase, away: Phase, signs: Array, nudge: ScalarLike) -> Terms:
    """One-sided contrasts with a sign per example: both signs are run, and each example keeps its own."""

    def chosen(a: Array, b: Array) -> Array:
        return jnp.where(signs.reshape(-1, *[1] * (a.ndim - 1)) > 0, a, b)

    up, down = (jax.vmap(contrast)(free, end).scale(1.0 / b) for end, b in ((nudged, nudge), (away, -nudge)))
    return jax.tree.map(chosen, up, down)


@dataclass(frozen=True)
class Evidence:
    """What the samples of an estimate say about it.

    Args:
        delta_a: `dA` by every method the samples allow: `forward`, and `bar`, `ti`, `ramp` where there are data.
        loss: `<C>_0`.
        sandwich: bounds on `dA`; its `can_fail` is False where one set of samples stands for both phases.
        away: bounds on `A(-b) - A(0)` where there is a phase at `-b`, else None.
        ess: smallest effective sample size of the nudged phase over examples, as a fraction.
    """

    delta_a: dict[str, Estimate]
    loss: Estimate
    sandwich: objective.Sandwich
    away: objective.Sandwich | None
    ess: float


def evidence(outcome: Outcome, nudge: float, temperature: float) -> Evidence:
    """Objective, bounds and effective sample size of an estimate, on the host. Args: estimate; `b`; `T`."""
    b, t, free = nudge, temperature, np.asarray(outcome.free.cost, np.float64)
    found = {"forward": objective.forward(free, b, t)}
    best, far, weight, can_fail = found["forward"], free, _tilted(free, b / t), False
    if outcome.nodes and outcome.node_weights is not None:
        costs = [np.asarray(p.cost, np.float64) for p in outcome.nodes]
        found["ti"] = best = objective.integrated(costs, [b * float(w) for w in outcome.node_weights])
        last = np.asarray(outcome.nodes[-1].nudge, np.float64)[:, None]
        far, weight, can_fail = costs[-1], _tilted(costs[-1], (b - last) / t), True
    if outcome.nudged is not None:
        far, weight, can_fail = np.asarray(outcome.nudged.cost), np.asarray(outcome.nudged.weight), True
        if outcome.works is None:
            found["bar"] = best = objective.both_ends(free, far, b, t)
        else:
            found["ramp"] = best = objective.from_works(np.asarray(outcome.works), t)
    bounds, away = objective.sandwich(free, far, b, best, weight=weight, can_fail=can_fail), None
    if outcome.away is not None:
        costs = np.asarray(outcome.away.cost)
        away = objective.sandwich(free, costs, -b, objective.both_ends(free, costs, -b, t))
    return Evidence(found, objective.mean_cost(free), bounds, away, float(np.min(np.asarray(outcome.ess))))


def _tilted(costs: Float[np.ndarray, "examples n"], slope: Any) -> Float[np.ndarray, "examples n"]:
    """Weights `~ exp(-slope C)` of every example."""
    v = -slope * costs
    w = np.exp(v - v.max(1, keepdims=True))
    return w / w.sum(1, keepdims=True)
