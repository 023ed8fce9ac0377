"""Pairwise Boltzmann machine (Ising model when the units are spins).

`E(x) = -sum_i b_i x_i - sum_(i<j) J_ij x_i x_j` over a list of edges: a complete graph, a lattice, anything.
One parameter per edge, so that the Fisher metric of the couplings is regular.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from quasistatic._types import Key, Scalar, ScalarLike
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.gaussian import IndependentUnits
from quasistatic.energies.units import AbstractUnits, units
from quasistatic.errors import InputError


class Pairwise(AbstractEnergy):
    """Pairwise model over an edge list.

    Args:
        fields: `b`, shape `(n,)`.
        couplings: `J`, shape `(n_edges,)`.
        edges: unit indices `(i, j)`, `i < j`, shape `(n_edges, 2)`; not trained.
        units: unit type of all units (binary or spin).
    """

    fields: Float[Array, " n"]
    couplings: Float[Array, " n_edges"]
    edges: Int[Array, "n_edges 2"]
    units: AbstractUnits

    @classmethod
    def initialise(
        cls,
        n: int,
        *,
        units_name: str = "spin",
        edges: Any = None,
        data: Any = None,
        key: Key | None = None,
        scale: float = 0.0,
    ) -> "Pairwise":
        """Model without couplings (or with Gaussian ones of a given scale), fields at the data means.

        Args:
            n: number of units.
            units_name: `"spin"` or `"binary"`.
            edges: integer pairs, shape `(n_edges, 2)`; default all pairs.
            data: samples `(n_samples, n)` whose smoothed means the fields reproduce at `beta = 1`.
            key: random key, needed when `scale` is not zero.
            scale: standard deviation of the initial couplings.
        """
        kind = units(units_name, n)
        pairs = complete_graph(n) if edges is None else _checked_edges(edges, n)
        fields = jnp.zeros(n)
        if data is not None:
            levels = np.asarray(kind.levels)
            mean = (np.asarray(data, np.float64).sum(0) + levels.sum()) / (len(data) + len(levels))
            fields = kind.field_of_mean(jnp.asarray(mean, fields.dtype))
        couplings = jnp.zeros(len(pairs))
        if scale:
            if key is None:
                raise InputError("random initial couplings need a key")
            couplings = scale * jax.random.normal(key, (len(pairs),))
        return cls(fields, couplings, jnp.asarray(pairs), kind)

    def coupling_matrix(self) -> Float[Array, "n n"]:
        """Symmetric `J` with zero diagonal."""
        n = self.units.size
        upper = jnp.zeros((n, n), self.couplings.dtype).at[self.edges[:, 0], self.edges[:, 1]].add(self.couplings)
        return upper + upper.T

    def local_fields(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """`b_i + sum_j J_ij x_j`, in energy units."""
        return self.fields + self.coupling_matrix() @ x

    def energy_from_fields(self, x: Float[Array, " n"], local: Float[Array, " n"]) -> Scalar:
        """Energy when the local fields are already known: `-1/2 x.(local + b)`."""
        return -0.5 * jnp.sum(x * (local + self.fields))

    def __call__(self, x: Float[Array, " n"]) -> Scalar:
        return self.energy_from_fields(x, self.local_fields(x))

    def validate(self, x: np.ndarray, *, name: str = "data") -> None:
        self.units.validate(x, name=name)

    def base(self) -> IndependentUnits:
        """The same units without couplings: exact samples and `log Z` for opening the books."""
        return IndependentUnits(self.fields, self.units)

    def weighted_gradient(
        self, x: Float[Array, "m n"], weights: Float[Array, " m"], beta: ScalarLike, cache: Any = None
    ) -> "Pairwise":
        del cache
        weighted = (-beta * weights)[:, None] * x
        second = weighted.T @ x
        # edges are integers and never trained: like autodiff, the gradient leaves them out (None)
        couplings = second[self.edges[:, 0], self.edges[:, 1]]
        parts = (jnp.sum(weighted, 0), couplings, None)
        return eqx.tree_at(lambda m: (m.fields, m.couplings, m.edges), self, parts)

    def interaction_mask(self) -> "Pairwise":
        return eqx.tree_at(lambda m: m.couplings, jax.tree.map(lambda _: False, self), True)


def complete_graph(n: int) -> np.ndarray:
    """All pairs `i < j`, shape `(n (n - 1) / 2, 2)`."""
    return np.stack(np.triu_indices(n, 1), axis=1).astype(np.int32)


def square_lattice(rows: int, columns: int, *, periodic: bool = True) -> np.ndarray:
    """Nearest-neighbour edges of a square lattice, units numbered row by row."""
    site = np.arange(rows * columns).reshape(rows, columns)
    pairs = set()
    for axis in (0, 1):
        for a, b in zip(site.ravel(), np.roll(site, -1, axis).ravel(), strict=True):
            if periodic or abs(int(a) - int(b)) == (columns, 1)[axis]:
                if a != b:
                    pairs.add((min(int(a), int(b)), max(int(a), int(b))))
    return np.array(sorted(pairs), np.int32)


def _checked_edges(edges: Any, n: int) -> np.ndarray:
    pairs = np.asarray(edges, np.int32)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise InputError(f"edges must have shape (n_edges, 2), got {pairs.shape}")
    if len(pairs) and (pairs.min() < 0 or pairs.max() >= n):
        raise InputError(f"edges name units outside 0..{n - 1}")
    ordered = np.sort(pairs, axis=1)
    if (ordered[:, 0] == ordered[:, 1]).any() or len(np.unique(ordered, axis=0)) != len(ordered):
        raise InputError("edges must join different units, each pair once")
    return ordered
