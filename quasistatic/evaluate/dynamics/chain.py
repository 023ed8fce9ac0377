"""A Markov chain on few states, as a matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from quasistatic.errors import InputError

Law = Float[np.ndarray, " n_states"]


@dataclass(frozen=True)
class Chain:
    """Transition matrix with columns that sum to one: `p_(t+1) = M p_t`.

    Args:
        matrix: probability of a move from column to row, shape `(n_states, n_states)`.
    """

    matrix: Float[np.ndarray, "n_states n_states"]

    def __post_init__(self) -> None:
        if self.matrix.min() < 0 or not np.abs(self.matrix.sum(0) - 1).max() < 1e-9:
            raise InputError("the columns of a transition matrix are probabilities that sum to 1")

    def law(self, start: Law, t: float) -> Law:
        """Law after `t` steps from the law `start`."""
        if t < 0 or t != int(t):
            raise InputError(f"steps are counted in whole numbers from 0, got {t}")
        return np.linalg.matrix_power(self.matrix, int(t)) @ start

    def laws(self, start: Law, times: Sequence[int]) -> Float[np.ndarray, "n_times n_states"]:
        """Laws after each number of steps."""
        return np.stack([self.law(start, t) for t in times])

    def second_eigenvalue(self) -> float:
        """Second largest modulus of the eigenvalues: what the slowest mode keeps per step."""
        return float(np.sort(np.abs(np.linalg.eigvals(self.matrix)))[-2])

    def relaxation_time(self) -> float:
        """`-1 / ln |lambda_2|`, steps in which the slowest mode falls by a factor e."""
        second = self.second_eigenvalue()
        return math.inf if second >= 1 else -1 / math.log(second) if second > 0 else 0.0


def divergence(data: Law, law: Law) -> float:
    """Relative entropy `sum p ln(p/q)` of the data's law to another, nats; infinite where `q` lacks a state of `p`."""
    seen = data > 0
    with np.errstate(divide="ignore"):
        return float(np.sum(data[seen] * (np.log(data[seen]) - np.log(law[seen]))))


def all_states(n: int, levels: tuple[float, float]) -> Float[np.ndarray, "n_states n"]:
    """All states of `n` two-level units in the order of binary numbers, the first unit slowest."""
    if not 1 <= n <= 12:
        raise InputError(f"between 1 and 12 units can be enumerated here, got {n}")
    grid = np.meshgrid(*[np.asarray(levels, float)] * n, indexing="ij")
    return np.stack([axis.ravel() for axis in grid], axis=1)


def empirical_law(samples: Float[np.ndarray, "m n"], levels: tuple[float, float]) -> Law:
    """Frequencies of all states among samples, in the order of `all_states`. Raises: InputError for other values."""
    x = np.asarray(samples, float)
    is_high = x == levels[1]
    if x.ndim != 2 or not np.all(is_high | (x == levels[0])):
        raise InputError(f"samples of shape (m, n) with the values {levels} are needed")
    place = is_high @ (2 ** np.arange(x.shape[1])[::-1])
    return np.bincount(place, minlength=2 ** x.shape[1]) / len(x)
