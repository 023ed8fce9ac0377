"""Families of scores that every identity of the metric is checked on, and their rows written out in NumPy."""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import quasistatic as qs
from quasistatic.energies.pairwise import square_lattice
from quasistatic.metric import AutodiffScores, scores_of
from tests.laws.battery import quick_jit

BETA, N, M, DAMPING = 0.7, 11, 8, 0.03


class Family(NamedTuple):
    """Scores, and what NumPy makes of them: rows `(N + M, P)`, coordinates `A` with `theta = A theta_c`."""

    scores: Any
    rows: np.ndarray
    coordinates: np.ndarray
    unravel: Any

    @property
    def weights(self) -> np.ndarray:
        return np.asarray(self.scores.weights)

    @property
    def data_weights(self) -> np.ndarray:
        return np.asarray(self.scores.data_weights)

    def q(self, metric: str) -> np.ndarray:
        """Law over the rows, by the definition."""
        if metric == "model":
            return np.concatenate([self.weights, 0 * self.data_weights])
        return 0.5 * np.concatenate([self.weights, self.data_weights])

    def metric(self, metric: str) -> np.ndarray:
        """Covariance of the rows, entry by entry from its definition."""
        q = self.q(metric)
        mean = q @ self.rows
        return sum(w * np.outer(s - mean, s - mean) for w, s in zip(q, self.rows, strict=True))

    @property
    def gradient(self) -> np.ndarray:
        return self.data_weights @ self.rows[N:] - self.weights @ self.rows[:N]

    @property
    def own(self) -> np.ndarray:
        """`(A A')^-1`."""
        return np.linalg.inv(self.coordinates @ self.coordinates.T)


def flat(tree: Any) -> np.ndarray:
    return np.asarray(ravel_pytree(tree)[0])


def _rbm(rng, visible, hidden):
    n_visible, n_hidden = 5, 3
    weights = rng.normal(scale=0.8, size=(n_visible, n_hidden))
    weights[2] = 0.0  # an isolated unit
    parts = (weights, rng.normal(size=n_visible), rng.normal(size=n_hidden) - 0.5)
    return qs.RBM(*map(jnp.asarray, parts), qs.energies.units(visible, n_visible), qs.energies.units(hidden, n_hidden))


def _centring(rbm, scores) -> np.ndarray:
    """`A` of `b = b_c - W lam`, `c = c_c - W'mu`, column by column."""
    mu, lam = np.asarray(scores.offsets[0]), np.asarray(scores.offsets[1])
    n, k = rbm.weights.shape
    size = n * k + n + k
    a = np.eye(size)
    for i in range(n):
        for j in range(k):
            a[n * k + i, i * k + j] = -lam[j]
            a[n * k + n + j, i * k + j] = -mu[i]
    return a


@functools.cache
def family(name: str) -> Family:
    """One family by name, with skewed weights, one of them zero, and beta = 0.7."""
    rng = np.random.default_rng(len(name))
    weights = rng.random(N) ** 2
    weights[4] = 0.0
    data_weights = rng.random(M)
    weights, data_weights = weights / weights.sum(), data_weights / data_weights.sum()
    options: dict[str, Any] = {}
    if name.startswith("rbm"):
        energy = _rbm(rng, *("binary", "spin") if "mixed" in name else ("binary", "binary"))
        samples = (rng.random((N + M, 5)) < 0.3).astype(float)
        options["is_centred"] = "centred" in name
    elif name.startswith("pairwise"):
        edges = square_lattice(2, 3) if "lattice" in name else None
        kind = "binary" if "binary" in name else "spin"
        energy = qs.Pairwise.initialise(6, units_name=kind, edges=edges, key=jax.random.key(1), scale=0.5)
        low = 0.0 if kind == "binary" else -1.0
        samples = np.where(rng.random((N + M, 6)) < 0.35, 1.0, low)
    else:
        energy = qs.mlp(jax.random.key(2), 3, (4,), scale=1.3)
        moved = jax.tree.map(lambda p: p + 0.3 * jnp.sin(jnp.arange(p.size)).reshape(p.shape), energy.network.network)
        energy = eqx.tree_at(lambda e: e.network.network, energy, moved)
        samples = rng.normal(size=(N + M, 3)) + 0.5
    x, data = jnp.asarray(samples[:N]), jnp.asarray(samples[N:])
    potential = qs.Potential(energy, jnp.asarray(BETA))
    scores = scores_of(potential, x, data, jnp.asarray(weights), jnp.asarray(data_weights), **options)
    if "blocks" in name:
        assert isinstance(scores, AutodiffScores)
        scores = AutodiffScores(energy, potential.beta, scores.x, scores.weights, scores.data_weights, block=4)
    trained, fixed = eqx.partition(energy, eqx.is_inexact_array)
    one = quick_jit(jax.grad(lambda p, sample: eqx.combine(p, fixed).reduced(sample, BETA)))
    rows = np.stack([flat(one(trained, sample)) for sample in jnp.concatenate([x, data])])
    coordinates = _centring(energy, scores) if "centred" in name else np.eye(rows.shape[1])
    return Family(scores, rows, coordinates, ravel_pytree(trained)[1])


# every family is a program to compile; those of make test have a zero weight, two unit types or blocks
_MORE = ("rbm-centred", "pairwise-binary", "mlp")
NAMES = (
    "rbm",
    "rbm-mixed-centred",
    "pairwise",
    "pairwise-lattice",
    "mlp-blocks",
    *(pytest.param(name, marks=pytest.mark.slow) for name in _MORE),
)
