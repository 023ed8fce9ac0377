"""Equilibrium propagation as a learning rule of layered networks, at temperature zero and above.

A batch is relaxed freely, then with a nudge, and the estimator makes a descent direction of `dA_b / b`. The relaxation
is that of `kernels.layered` at either temperature; at zero the phases are fixed points, `dA` is a difference of minima,
and only contrasts make sense.

| variant | phases | temperature |
|---|---|---|
| `one-sided` | 0, b | any |
| `centred` | -b, b | any |
| `random-sign` | 0, +-b, one sign per batch | any |
| `coupled` | 0, b with one key | > 0 |
| `covariance`, `reweighting` | 0 | > 0 |
| `path-integral` | Gauss-Legendre nodes | > 0 |

Reference:
    Scellier and Bengio 2017; Laborieux et al. 2021; Scellier et al. 2023; Litman 2025 (arXiv 2511.22024).
"""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._keys import named
from quasistatic._random import fold
from quasistatic._types import Key, Scalar, ScalarLike
from quasistatic.energies.costs import AbstractCost, SquaredError
from quasistatic.energies.hopfield import Layered, Layers
from quasistatic.energies.nudged import Example
from quasistatic.energies.wells import Box
from quasistatic.equilibrium.contrast import contrast
from quasistatic.equilibrium.covariance import covariance
from quasistatic.equilibrium.path_integral import path_integral
from quasistatic.equilibrium.phases import Phase, Terms, check_push, concrete, gradient
from quasistatic.equilibrium.reweighting import reweighting
from quasistatic.errors import InputError
from quasistatic.kernels.layered import Nudge, Settled, settle

AT_ANY = ("one-sided", "centred", "random-sign")
VARIANTS = (*AT_ANY, "coupled", "coupled-centred", "covariance", "reweighting", "path-integral")
"""Names of the variants; those of `AT_ANY` need no temperature."""


class Statistics(NamedTuple):
    """What a step tells about its phases; means over the batch.

    Args:
        cost: `C` of the free phase.
        error: fraction of wrong answers (largest output of the replica mean).
        delta_a: `A(b) - A(0)`: difference of minima at T = 0, forward estimate above; where the sign of a batch made
            the nudge `-b`, `A(0) - A(-b)`.
        saturation: fraction of box units at 0 or 1 in the free phase.
        distance: r.m.s. distance per unit between the last nudged and the free phase; 0 with one phase.
        n_sweeps: sweeps of the free phase.
        residual: largest change of a unit in its last sweep (temperature zero with a tolerance), else infinite.
    """

    cost: Scalar
    error: Scalar
    delta_a: Scalar
    saturation: Scalar
    distance: Scalar
    n_sweeps: Scalar
    residual: Scalar


class EquilibriumPropagation(eqx.Module):
    """Learning rule from free and nudged phases.

    Args:
        cost: cost of the output.
        nudge: `b > 0`.
        temperature: `T >= 0`.
        variant: one of `VARIANTS`; `coupled-centred` nudges both ways with common random numbers.
        n_free: sweeps of the free phase.
        n_nudged: sweeps of each nudged phase.
        tolerance: largest change in a sweep that ends a phase at temperature zero; 0 spends all sweeps.
        n_replicas: walkers per example; 1 at temperature zero.
        n_nodes: nodes of the path integral.
        momentum: of the sweeps at temperature zero, see `kernels.layered.settle`; for continuous units.

    Raises:
        InputError: values that do not fit together.
    """

    cost: AbstractCost = eqx.field(default_factory=SquaredError)
    nudge: ScalarLike = 0.2
    temperature: float = eqx.field(static=True, default=0.0)
    variant: str = eqx.field(static=True, default="centred")
    n_free: int = eqx.field(static=True, default=15)
    n_nudged: int = eqx.field(static=True, default=15)
    tolerance: float = eqx.field(static=True, default=0.0)
    n_replicas: int = eqx.field(static=True, default=1)
    n_nodes: int = eqx.field(static=True, default=4)
    momentum: float = eqx.field(static=True, default=0.0)

    def __check_init__(self):
        if self.variant not in VARIANTS:
            raise InputError(f"unknown variant {self.variant!r}; choose one of {', '.join(VARIANTS)}")
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"temperature must be 0 or more and finite, got {self.temperature}")
        if not self.tolerance >= 0:
            raise InputError(f"tolerance must be 0 or more, got {self.tolerance}")
        b = concrete(self.nudge)
        if b is not None and not 0 < b < math.inf:
            raise InputError(f"nudge must be positive and finite, got {b}; the variant chooses the sign")
        for name in ("n_free", "n_nudged", "n_replicas", "n_nodes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.temperature == 0 and self.variant not in AT_ANY:
            raise InputError(f"{self.variant!r} needs a temperature above 0; at 0 use one of {', '.join(AT_ANY)}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must be from 0 to below 1, got {self.momentum}")
        if self.momentum and self.temperature > 0:
            raise InputError(f"momentum is for temperature 0, got temperature {self.temperature}; set momentum to 0")
        if self.temperature == 0 and self.n_replicas > 1:
            raise InputError("replicas are equal at temperature 0; set n_replicas = 1, or a temperature")
        if self.variant in ("covariance", "reweighting", "path-integral") and self.n_replicas < 2:
            raise InputError(f"{self.variant!r} needs n_replicas of at least 2, got {self.n_replicas}")

    def check(self, network: Layered) -> None:
        """Raises InputError for a network that the rule cannot nudge (see `check_push`) or speed up. Args: network."""
        if self.temperature == 0 and any(units.levels is not None for units in network.units):
            raise InputError(
                "discrete units jump at temperature zero, where nothing can be learned from them; set a temperature, "
                "or choose box units"
            )
        if self.variant in ("centred", "random-sign", "coupled-centred"):
            check_push(network, self.cost, float(self.nudge))

    def gradient(
        self,
        key: Key,
        network: Layered,
        inputs: Float[Array, "batch n_in"],
        targets: Float[Array, "batch n_out"],
        layers: Layers,
    ) -> tuple[Layered, Layers, Statistics]:
        """Gradient of the mean of `dA_b / b` (or its limit) over a batch.

        Args:
            key: random key of this step.
            network: present parameters.
            inputs: inputs of the batch.
            targets: targets.
            layers: where the walkers start, shape `(batch * n_replicas, n_k)` each, replicas of an example together.

        Returns:
            Gradient to be descended; free states, in which the next relaxation may start; statistics.
        """
        drive = jnp.repeat(jax.vmap(network.drive)(inputs), self.n_replicas, axis=0)
        target = jnp.repeat(targets, self.n_replicas, axis=0)
        batch, b = len(inputs), jnp.asarray(self.nudge, drive.dtype)

        def relaxed(purpose: str, start: Layers, strength: ScalarLike | None) -> tuple[Layers, Settled]:
            pull = None if strength is None else Nudge(self.cost, target, strength)
            return self._settled(named(key, purpose), network, start, drive, pull)

        def phase(states: Layers, strength: ScalarLike) -> Phase:
            costs = jax.vmap(lambda s, y: self.cost(network.output_of(s), y))(states[-1], target)
            x = network.join(states).reshape(batch, self.n_replicas, -1)
            costs = costs.reshape(batch, -1)
            weight = jnp.full_like(costs, 1.0 / self.n_replicas)
            return Phase(x, costs, weight, jnp.full(batch, strength, costs.dtype))

        free, settled = relaxed("free", layers, None)
        free_phase, last, signed = phase(free, 0.0), free, b
        t = self.temperature
        if self.variant in ("one-sided", "random-sign"):
            if self.variant == "random-sign":
                signed = jnp.where(jax.random.bernoulli(named(key, "sign")), b, -b)
            last, _ = relaxed("nudged", free, signed)
            terms = jax.vmap(contrast)(free_phase, phase(last, signed)).scale(1.0 / signed)
        elif self.variant in ("centred", "coupled-centred"):
            purposes = ("away", "nudged") if self.variant == "centred" else ("coupled", "coupled")
            away, _ = relaxed(purposes[0], free, -b)
            last, _ = relaxed(purposes[1], free, b)
            terms = jax.vmap(contrast)(phase(away, -b), phase(last, b)).scale(0.5 / b)
        elif self.variant == "coupled":
            same, _ = relaxed("coupled", free, 0.0)
            last, _ = relaxed("coupled", free, b)
            terms = jax.vmap(contrast)(phase(same, 0.0), phase(last, b)).scale(1.0 / b)
        elif self.variant == "path-integral":
            terms = self._path(key, relaxed, phase, free, b)
        elif self.variant == "covariance":
            terms = jax.vmap(lambda p: covariance(p, t))(free_phase)
        else:
            terms = jax.vmap(lambda p: reweighting(p, b, t))(free_phase).scale(1.0 / b)
        slope: Any = gradient(network, self.cost, terms, Example(inputs, targets))
        said = self._statistics(network, drive, target, targets, free, last, signed, free_phase, settled)
        return slope, free, said

    def _settled(
        self, key: Key, network: Layered, start: Layers, drive: Array, pull: Nudge | None
    ) -> tuple[Layers, Settled]:
        n_sweeps = self.n_free if pull is None else self.n_nudged
        if self.temperature == 0:
            how = {"n_sweeps": n_sweeps, "tolerance": self.tolerance, "momentum": self.momentum}
            return settle(None, network, start, drive, pull, **how)
        return settle(key, network, start, drive, pull, 1.0 / self.temperature, n_sweeps=n_sweeps)

    def _path(self, key: Key, relaxed: Any, phase: Any, start: Layers, b: Array) -> Terms:
        x, w = np.polynomial.legendre.leggauss(self.n_nodes)
        phases = []
        for j, node in enumerate(0.5 * (x + 1)):
            start, _ = relaxed(f"node-{j}", start, node * b)
            phases.append(phase(start, node * b))
        weights = [float(v) for v in 0.5 * w]
        return jax.vmap(lambda *each: path_integral(each, weights, self.temperature))(*phases)

    def _statistics(
        self,
        network: Layered,
        drive: Array,
        target: Array,
        targets: Array,
        free: Layers,
        last: Layers,
        signed: Array,
        free_phase: Phase,
        settled: Settled,
    ) -> Statistics:
        outputs = jax.vmap(network.output_of)(free[-1]).reshape(len(targets), self.n_replicas, -1).mean(1)
        wrong = jnp.argmax(outputs, -1) != jnp.argmax(targets, -1)
        box = [s for s, units in zip(free, network.units, strict=True) if isinstance(units, Box)]
        at_wall = sum(jnp.sum((s <= 0) | (s >= 1)) for s in box) / max(sum(s.size for s in box), 1)
        squares = sum(jnp.sum((a - c) ** 2) for a, c in zip(last, free, strict=True)) / sum(s.size for s in free)
        t = self.temperature
        if t > 0:
            log_mean = jax.nn.logsumexp(-signed * free_phase.cost / t, axis=1) - np.log(self.n_replicas)
            delta = -t * jnp.mean(log_mean)
        else:
            energies = [jax.vmap(network.energy_of_layers)(states, drive) for states in (free, last)]
            costs = jax.vmap(lambda s, y: self.cost(network.output_of(s), y))(last[-1], target)
            delta = jnp.mean(energies[1] + signed * costs - energies[0])
        delta = jnp.sign(signed) * delta
        dtype = drive.dtype
        return Statistics(
            jnp.mean(free_phase.cost),
            jnp.mean(wrong, dtype=dtype),
            delta.astype(dtype),
            jnp.asarray(at_wall, dtype),
            jnp.sqrt(squares),
            settled.n_sweeps.astype(dtype),
            settled.residual.astype(dtype),
        )


def outputs(
    key: Key,
    rule: EquilibriumPropagation,
    network: Layered,
    inputs: Float[Array, "batch n_in"],
    *,
    n_sweeps: int = 0,
) -> Float[Array, "batch n_replicas n_out"]:
    """Outputs of freely relaxed states, from the state nearest zero, one per replica.

    Args:
        key: random key, unused at temperature zero.
        rule: temperature, replicas and sweeps.
        network: parameters.
        inputs: inputs.
        n_sweeps: sweeps, 0 for those of the rule's free phase.
    """
    drive = jnp.repeat(jax.vmap(network.drive)(inputs), rule.n_replicas, axis=0)
    n = n_sweeps or rule.n_free
    start = network.zeros(len(drive))
    if rule.temperature == 0:
        states, _ = settle(None, network, start, drive, n_sweeps=n, tolerance=rule.tolerance, momentum=rule.momentum)
        return jax.vmap(network.output_of)(states[-1])[:, None]
    states, _ = settle(fold(key, 0), network, start, drive, None, 1.0 / rule.temperature, n_sweeps=n)
    return jax.vmap(network.output_of)(states[-1]).reshape(len(inputs), rule.n_replicas, -1)
