"""Bernoulli-Bernoulli RBM, enumerated, under block Gibbs steps (hidden given visible, visible given hidden).

    E(v, h) = -a.v - b.h - v'W h,     K(v'|v) = sum_h p(v'|h) p(h|v) .

Matched at `t = k` are `<v>`, the hidden means and their products with `v`, hence also the mean of the joint energy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.special import expit

from quasistatic.errors import InputError
from quasistatic.evaluate.dynamics.chain import Chain, all_states
from quasistatic.evaluate.dynamics.enumerated import AbstractEnumerated, Law, Vector

BITS = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class BernoulliRBM(AbstractEnumerated):
    """RBM of {0, 1} units; parameters are `W` row by row, then `a`, then `b` (`packed`, `parts`).

    Args:
        n_visible: number of visible units, at most 10.
        n_hidden: number of hidden units, at most 12.
    """

    n_visible: int
    n_hidden: int

    def __post_init__(self) -> None:
        if not (1 <= self.n_visible <= 10 and 1 <= self.n_hidden <= 12):
            raise InputError(
                f"at most 10 visible and 12 hidden units are enumerated, got {self.n_visible} and {self.n_hidden}"
            )

    # built once: training on the enumerated space is a loop over small matrices
    @cached_property
    def _visible(self) -> np.ndarray:
        return all_states(self.n_visible, BITS)

    @cached_property
    def _hidden(self) -> np.ndarray:
        return all_states(self.n_hidden, BITS)

    @staticmethod
    def packed(weights: np.ndarray, visible_bias: np.ndarray, hidden_bias: np.ndarray) -> Vector:
        """Parameters as one vector. Args: `W`, shape `(n_visible, n_hidden)`; `a`; `b`."""
        return np.concatenate([np.ravel(weights), np.ravel(visible_bias), np.ravel(hidden_bias)]).astype(float)

    def parts(self, theta: Vector) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`W`, `a` and `b` of a vector of parameters. Raises: InputError for another length."""
        n, m = self.n_visible, self.n_hidden
        if len(theta) != n * m + n + m:
            raise InputError(f"{n} visible and {m} hidden units have {n * m + n + m} parameters, got {len(theta)}")
        theta = np.asarray(theta, float)
        return theta[: n * m].reshape(n, m), theta[n * m : n * m + n], theta[n * m + n :]

    def states(self) -> Float[np.ndarray, "n_states n"]:
        return self._visible

    def hidden_means(self, theta: Vector) -> Float[np.ndarray, "n_states n_hidden"]:
        """`sigma_a(v)` of all visible states."""
        weights, _, bias = self.parts(theta)
        return expit(self.beta * (bias + self.states() @ weights))

    def reduced(self, theta: Vector) -> Float[np.ndarray, " n_states"]:
        weights, a, b = self.parts(theta)
        inputs = self.beta * (b + self.states() @ weights)
        return -self.beta * (self.states() @ a) - np.logaddexp(0.0, inputs).sum(1)

    def features(self, theta: Vector) -> Float[np.ndarray, "n_states n_parameters"]:
        v, means = self.states(), self.hidden_means(theta)
        return self.beta * np.concatenate([(v[:, :, None] * means[:, None, :]).reshape(len(v), -1), v, means], axis=1)

    def chain(self, theta: Vector) -> Chain:
        weights, a, b = self.parts(theta)
        v, h = self._visible, self._hidden
        hidden = _conditional(self.beta * (h @ (b + v @ weights).T))
        visible = _conditional(self.beta * (v @ (a + h @ weights.T).T))
        return Chain(visible @ hidden)

    def energy(self, theta: Vector, law: Law) -> float:
        """Mean joint energy `<E(v, h)>` under a law of `v` and the model's `p(h|v)`: matched at `t = k` as well."""
        return -float(np.asarray(theta, float) @ self.moments(theta, law)) / self.beta


def _conditional(log_weights: np.ndarray) -> np.ndarray:
    """Columns normalised."""
    p = np.exp(log_weights - log_weights.max(0))
    return p / p.sum(0)
