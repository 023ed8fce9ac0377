"""Fully visible Boltzmann machine, enumerated, under sequential heat-bath sweeps.

    u(s) = -beta ( sum_i h_i s_i + sum_(i<j) J_ij s_i s_j ) .

After a sweep the conditional law of the unit that was updated last is exact, given the others. With three units this
makes its field and couplings those of the data whatever `k`: the matched moments fix the law of the other two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from quasistatic.errors import InputError
from quasistatic.evaluate.dynamics.chain import Chain, all_states
from quasistatic.evaluate.dynamics.enumerated import AbstractEnumerated, Vector


@dataclass(frozen=True, kw_only=True)
class BoltzmannMachine(AbstractEnumerated):
    """Units with all pairs coupled; parameters are the fields and then `J_01, J_02, .., J_12, ..`.

    Args:
        n_units: number of units, at most 10.
        levels: the two values of a unit.
        order: order of the updates in a sweep; None: 0, 1, 2, ...
    """

    n_units: int
    levels: tuple[float, float] = (-1.0, 1.0)
    order: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.n_units <= 10:
            raise InputError(f"between 1 and 10 units are enumerated as a chain, got {self.n_units}")
        if self.order is not None and sorted(self.order) != list(range(self.n_units)):
            raise InputError(f"a sweep updates every unit once, got the order {self.order}")

    def states(self) -> Float[np.ndarray, "n_states n"]:
        return all_states(self.n_units, self.levels)

    def features(self, theta: Vector | None = None) -> Float[np.ndarray, "n_states n_parameters"]:
        s = self.states()
        i, j = np.triu_indices(self.n_units, 1)
        return self.beta * np.concatenate([s, s[:, i] * s[:, j]], axis=1)

    def reduced(self, theta: Vector) -> Float[np.ndarray, " n_states"]:
        return -self.features() @ np.asarray(theta, float)

    def chain(self, theta: Vector) -> Chain:
        return sweep(self.reduced(theta), self.n_units, self.order)


def sweep(reduced: Float[np.ndarray, " n_states"], n_units: int, order: tuple[int, ...] | None = None) -> Chain:
    """Sequential heat-bath sweep of any energy of two-level units.

    Args:
        reduced: potential of all states, in the order of `all_states`.
        n_units: number of units.
        order: order of the updates; None: 0, 1, 2, ...
    """
    u = np.asarray(reduced, float).reshape((2,) * n_units)
    p = np.eye(u.size).reshape((2,) * n_units + (u.size,))
    for unit in range(n_units) if order is None else order:
        weight = np.exp(-(u - u.min(axis=unit, keepdims=True)))
        chance = weight / weight.sum(axis=unit, keepdims=True)
        p = p.sum(axis=unit, keepdims=True) * chance[..., None]
    return Chain(p.reshape(u.size, u.size))
