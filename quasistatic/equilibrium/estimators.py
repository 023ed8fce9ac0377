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
from quasistatic._random import fold, split
from quasistatic._results import Estimate
from quasistatic._types import Key, ScalarLike
from quasistatic.energies.nudged import AbstractNetwork, Example
from quasistatic.equilibrium import objective
from quasistatic.equilibrium.contrast import contrast, random_sign
from quasistatic.equilibrium.coupled import coupled
from quasistatic.equilibrium.covariance import covariance
from quasistatic.equilibrium.holomorphic import holomorphic
from quasistatic.equilibrium.path_integral import path_integral
from quasistatic.equilibrium.phases import Phase, Setup, Terms, check_push, concrete, gradient
from quasistatic.equilibrium.ramp import ramp
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
        n_nodes: Gauss-Legendre nodes of the path integral.
        n_steps: steps of the ramp.
        n_points: complex nudges on the circle.
        radius: their radius; None for the nudge itself.
    """

    n_nodes: int = eqx.field(static=True, default=4)
    n_steps: int = eqx.field(static=True, default=8)
    n_points: int = eqx.field(static=True, default=8)
    radius: float | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        for name in ("n_nodes", "n_steps", "n_points"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")


class Outcome(eqx.Module):
    """A gradient and the samples behind it, examples first everywhere.

    Args:
        gradient: mean over examples, shaped like the network.
        free: free phase.
        nudged: phase at `+b`, or None.
        nodes: phases of the path integral, and their weights.
        works: reduced works of the ramp, or None.
        ess: effective sample size of the nudged phase as a fraction, per example.
    """

    gradient: AbstractNetwork
    free: Phase
    nudged: Phase | None
    nodes: tuple[Phase, ...]
    node_weights: tuple[float, ...] = eqx.field(static=True)
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
        fields = {"nodes": (), "node_weights": (), "works": None, **more}
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
        nudged = at(nudge, "nudged")
        return outcome(jax.vmap(contrast)(at(-nudge, "away"), nudged).scale(0.5 / nudge), nudged)
    if name == "random-sign":
        signs = random_sign(named(key, "sign"), 1.0, n).astype(free_phase.cost.dtype)
        return outcome(_with_signs(key, setup, free, free_phase, signs, nudge, controls))
    if name == "coupled":
        start, nudged = coupled(named(key, "coupled"), setup, free, (0.0, nudge), controls)
        return outcome(jax.vmap(contrast)(start, nudged).scale(1.0 / nudge), nudged)
    if name == "path-integral":
        return _along_path(key, setup, free, nudge, controls, o, outcome)
    if name == "ramp":
        schedule = jnp.linspace(0.0, nudge, o.n_steps + 1)
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
    return outcome(jax.vmap(lambda phase: holomorphic(phase, radius, o.n_points, t))(free_phase))


def _along_path(
    key: Key, setup: Setup, free: Ensemble, nudge: ScalarLike, controls: Controls, o: Options, outcome: Any
) -> Outcome:
    """Path integral: the nodes are visited in order, every one from the last, in a compiled loop."""
    x, w = np.polynomial.legendre.leggauss(o.n_nodes)
    nodes, weights = jnp.asarray(0.5 * (x + 1)) * nudge, tuple(float(v) for v in 0.5 * w)
    nodes = nodes.astype(free.u.dtype)

    def visit(walkers: Ensemble, node: tuple[Array, Array]) -> tuple[Ensemble, Phase]:
        b, key_node = node
        moved = setup.relaxed(key_node, walkers, b, controls)
        return moved, setup.phase(moved, b)

    _, stacked = jax.lax.scan(visit, free, (nodes, split(named(key, "path"), o.n_nodes)))
    phases = tuple(jax.tree.map(lambda leaf, j=j: leaf[j], stacked) for j in range(o.n_nodes))
    terms = jax.vmap(lambda *each: path_integral(each, weights, setup.temperature))(*phases)
    return outcome(terms, nodes=phases, node_weights=weights)


def _with_signs(
    key: Key, setup: Setup, free: Ensemble, free_phase: Phase, signs: Array, nudge: ScalarLike, controls: Controls
) -> Terms:
    """One-sided contrasts with a sign per example: both signs are run, and each example keeps its own."""
    up, down = (
        _one_sided(fold(named(key, "nudged"), i), setup, free, free_phase, s * nudge, controls)
        for i, s in enumerate((1.0, -1.0))
    )

    def chosen(a: Array, b: Array) -> Array:
        return jnp.where(signs.reshape(-1, *[1] * (a.ndim - 1)) > 0, a, b)

    return jax.tree.map(chosen, up, down)


def _one_sided(
    key: Key, setup: Setup, free: Ensemble, free_phase: Phase, nudge: ScalarLike, controls: Controls
) -> Terms:
    end = setup.phase(setup.relaxed(key, free, nudge, controls), nudge)
    return jax.vmap(contrast)(free_phase, end).scale(1.0 / nudge)


@dataclass(frozen=True)
class Evidence:
    """What the samples of an estimate say about it.

    Args:
        delta_a: `dA` by every method the samples allow: `forward`, and `bar`, `ti`, `ramp` where there are data.
        loss: `<C>_0`.
        sandwich: bounds on `dA`, or None without a nudged phase.
        ess: smallest effective sample size of the nudged phase over examples, as a fraction.
    """

    delta_a: dict[str, Estimate]
    loss: Estimate
    sandwich: objective.Sandwich | None
    ess: float


def evidence(outcome: Outcome, nudge: float, temperature: float) -> Evidence:
    """Objective, bounds and effective sample size of an estimate, on the host. Args: estimate; `b`; `T`."""
    free = np.asarray(outcome.free.cost)
    found = {"forward": objective.forward(free, nudge, temperature)}
    best = found["forward"]
    if outcome.nodes:
        scaled = [nudge * w for w in outcome.node_weights]
        found["ti"] = best = objective.integrated([np.asarray(p.cost) for p in outcome.nodes], scaled)
    if outcome.works is not None:
        found["ramp"] = best = objective.from_works(np.asarray(outcome.works), temperature)
    bounds = None
    if outcome.nudged is not None:
        nudged, weight = np.asarray(outcome.nudged.cost), np.asarray(outcome.nudged.weight)
        if outcome.works is None:
            found["bar"] = best = objective.both_ends(free, nudged, nudge, temperature)
        bounds = objective.sandwich(free, nudged, nudge, best, weight=weight)
    return Evidence(found, objective.mean_cost(free), bounds, float(np.min(np.asarray(outcome.ess))))
