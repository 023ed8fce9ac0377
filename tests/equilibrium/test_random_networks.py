"""Every estimator against exact gradients on fresh random small networks, and its saboteurs.

Units {0, 1}, spins and box units; weights, inputs, nudge and temperature drawn at random. Exact gradients are NumPy's:
enumeration for discrete units, a product quadrature for the box. The standard error of every component is that of
independent groups of walkers; the largest of all components is held against a bound for that many.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import t as student

from quasistatic.energies import Binary, Box, Example, Layered, Spin, SquaredError
from quasistatic.energies.interactions import Dense
from quasistatic.equilibrium import ESTIMATORS, Options, Setup, estimate, evidence
from quasistatic.kernels import LayeredGibbs
from quasistatic.thermo import Controls

N_GROUPS, M = 24, 400
KINDS = {"binary": (Binary, (0.0, 1.0)), "spin": (Spin, (-1.0, 1.0)), "box": (Box, None)}


class Small:
    """Random network 3-2-2 with one example, and its exact laws."""

    def __init__(self, kind, seed):
        rng = np.random.default_rng(seed)
        units, levels = KINDS[kind]
        self.w0, self.w1 = rng.normal(size=(3, 2)), rng.normal(size=(2, 2))
        self.b1, self.b2 = 0.5 * rng.normal(size=2), 0.5 * rng.normal(size=2)
        self.x, self.y = rng.uniform(size=3), rng.uniform(size=2)
        self.temperature, self.nudge = rng.uniform(0.4, 1.5), rng.uniform(0.3, 1.5)
        if levels is None:
            node, weight = np.polynomial.legendre.leggauss(16)
            points, weights = 0.5 * (node + 1), 0.5 * weight
        else:
            points, weights = np.array(levels), np.ones(2)
        self.states = np.array(list(itertools.product(points, repeat=4)))
        self.volume = np.prod(np.array(list(itertools.product(weights, repeat=4))), 1)
        h, o = self.states[:, :2], self.states[:, 2:]
        own = 0.5 * (self.states**2).sum(1) if levels is None else 0.0
        first = self.x @ self.w0 + self.b1
        self.energy = own - h @ first - np.einsum("ni,ij,nj->n", h, self.w1, o) - o @ self.b2
        self.cost = 0.5 * ((o - self.y) ** 2).sum(1)
        outer = h[:, :, None] * o[:, None, :]
        self.statistic = -np.concatenate([outer.reshape(len(h), 4), h, o], 1)
        biases = (jnp.asarray(self.b1), jnp.asarray(self.b2))
        self.network = Layered((Dense(jnp.asarray(self.w0)), Dense(jnp.asarray(self.w1))), biases, (units(2), units(2)))

    def law(self, nudge):
        v = -(self.energy + nudge * self.cost) / self.temperature
        p = self.volume * np.exp(v - v.max())
        return p / p.sum()

    def slope_of_delta(self, low, high):
        """Gradient of A(high) - A(low): difference of exact means (its proof is in test_enumeration)."""
        return (self.law(high) - self.law(low)) @ self.statistic

    def slope_of_loss(self):
        p = self.law(0.0)
        return -(p * (self.cost - p @ self.cost)) @ self.statistic / self.temperature

    def delta(self):
        return -self.temperature * np.log(self.law(0.0) @ np.exp(-self.nudge * self.cost / self.temperature))

    def target(self, name):
        b = self.nudge
        if name in ("covariance", "holomorphic"):
            return self.slope_of_loss()
        if name in ("centred", "random-sign"):  # the latter on average over signs, drawn anew in every group
            return self.slope_of_delta(-b, b) / (2 * b)
        return self.slope_of_delta(0.0, b) / b


@eqx.filter_jit
def run_all(key, network, temperature, nudge, example, kind):
    """Gradients of every estimator per group, and what the first group of samples says about itself."""
    del kind
    setup = Setup(network, SquaredError(), LayeredGibbs(), temperature)
    controls, options = Controls.of(n_sweeps=12), Options(n_nodes=3, n_steps=4, n_points=8, radius=0.2)
    start = jnp.full((1, M, 4), network.units[0].levels[0] if network.units[0].levels else 0.5)
    examples = jax.tree.map(lambda leaf: leaf[None], example)

    def group(key):
        key_free, key_rest = jax.random.split(key)
        free = setup.relaxed(key_free, setup.open(start, examples), 0.0, Controls.of(n_sweeps=40))
        found = {}
        for name in ESTIMATORS:
            found[name] = estimate(name, key_rest, setup, free, examples, nudge, controls, options)
        for name in ("path-integral", "ramp"):
            spaced = Options(n_nodes=9, n_steps=4, spacing="equal-length")
            found[f"{name}, equal lengths"] = estimate(name, key_rest, setup, free, examples, nudge, controls, spaced)
        return found

    return jax.lax.map(group, jax.random.split(key, N_GROUPS))


def rows(slope):
    """Components w1, b1, b2 of every group."""
    parts = (slope.interactions[1].weight, slope.biases[0], slope.biases[1])
    return np.concatenate([np.asarray(part).reshape(N_GROUPS, -1) for part in parts], 1)


def largest_z(found, exact):
    error = found.std(0, ddof=1) / np.sqrt(N_GROUPS)
    return np.abs((found.mean(0) - exact) / np.maximum(error, 1e-9)).max()  # a constant must be right to rounding


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["binary", "spin", "box"])
def test_estimators_agree_with_exact_gradients(kind):
    small = Small(kind, 20261121)
    example = Example(jnp.asarray(small.x), jnp.asarray(small.y))
    t, b = jnp.asarray(small.temperature), jnp.asarray(small.nudge)
    found = run_all(jax.random.key(3), small.network, t, b, example, kind)
    # two-sided 4-sigma level, shared by all components of all estimators, for 23 degrees of freedom
    bound = student.isf(6.3e-5 / 2 / 8, N_GROUPS - 1)
    for name, outcome in found.items():
        if (
            name == "path-integral, equal lengths"
        ):  # the trapezoid's own error, some 1e-3, is beyond the noise of all groups
            exact, spread = small.target(name), rows(outcome.gradient).std(0, ddof=1) / np.sqrt(N_GROUPS)
            assert np.all(np.abs(rows(outcome.gradient).mean(0) - exact) < bound * spread + 0.01 * np.abs(exact).max())
            continue
        assert largest_z(rows(outcome.gradient), small.target(name)) < bound, name
        first = np.asarray(outcome.gradient.interactions[0].weight)
        np.testing.assert_allclose(
            first, small.x[:, None] * np.asarray(outcome.gradient.biases[0])[:, None], atol=1e-12
        )

    # objective by every method, all groups as one set of samples
    for name, outcome in found.items():
        whole = _one_set(outcome)
        said = evidence(whole, small.nudge, small.temperature)
        for method, value in said.delta_a.items():
            assert value.value is not None and value.stderr is not None, method
            quadrature = (2e-4 if name == "path-integral" else 5e-3) if method == "ti" else 0.0
            assert abs(value.value - small.delta()) < 4.5 * value.stderr + quadrature, (name, method)
        assert said.sandwich.is_consistent and (said.away is None or said.away.is_consistent), name
        assert said.sandwich.can_fail == (name not in ("reweighting", "covariance", "holomorphic")), name
    # saboteur: phases that went the other way are found out
    right = _one_set(found["centred"])
    said = evidence(
        eqx.tree_at(lambda o: (o.nudged, o.away), right, (right.away, right.nudged)), small.nudge, small.temperature
    )
    assert said.away is not None and said.sandwich.violations and said.away.violations

    # saboteurs: wrong sign, missing 1/T, end of a ramp without its weights
    assert largest_z(-rows(found["contrast"].gradient), small.target("contrast")) > bound
    assert largest_z(small.temperature * rows(found["covariance"].gradient), small.target("covariance")) > bound
    spread = rows(found["contrast"].gradient).std(0).sum()
    assert rows(found["coupled"].gradient).std(0).sum() < spread  # common random numbers help
    assert rows(found["rao-blackwell"].gradient).std(0).sum() < spread  # so do conditional means
    assert rows(found["reweighting"].gradient).std(0).sum() < spread  # at dA of a few T


def _one_set(outcome):
    """All groups of walkers as one set of samples."""
    parts = (outcome.free, outcome.nudged, outcome.away, outcome.nodes, outcome.works)
    weights = None if outcome.node_weights is None else outcome.node_weights[0]
    return eqx.tree_at(
        lambda o: (o.free, o.nudged, o.away, o.nodes, o.works, o.node_weights),
        outcome,
        (*jax.tree.map(_one_example, parts), weights),
        is_leaf=lambda leaf: leaf is None,
    )


def _one_example(leaf):
    """Groups of one example each, put together as many walkers of that example."""
    if leaf.ndim == 2:  # the nudge of each group's example
        return leaf[0]
    joined = leaf.reshape(1, leaf.shape[0] * leaf.shape[2], *leaf.shape[3:])
    is_weight = leaf.ndim == 3 and bool(jnp.all(jnp.abs(jnp.sum(leaf, -1) - 1) < 1e-9))
    return joined / leaf.shape[0] if is_weight else joined
