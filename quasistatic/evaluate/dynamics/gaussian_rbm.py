"""Gaussian-Gaussian RBM under block Gibbs moves, one singular mode; a move is visible -> hidden -> visible.

    E = a v^2/2 + b h^2/2 - w v h,     rho = w^2 / (ab),

    c_n(rho) = s rho^(2n) + (1/a) sum_{m < 2n} rho^m ,     c_inf = 1 / (a (1 - rho))  for  rho < 1            (B1)

is the variance of `v` after `n` moves. Training `w` with hidden means gives `drho/dtau = 2 eta rho (d - c_n) / b`. A
mode whose data variance is below `1/a` is never learned: its weight decays. A mode above it grows at a rate that does
not know `n`, and is out of equilibrium only once it has condensed; beyond `d = s + 2n/a` the learned `rho` exceeds 1,
and no equilibrium is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from quasistatic.errors import InputError
from quasistatic.evaluate.dynamics.base import (
    AbstractScalarModel,
    OutOfReach,
    Real,
    geometric,
    positive,
    remembered,
    variance,
)


@dataclass(frozen=True, kw_only=True)
class GaussianRBMMode(AbstractScalarModel):
    """Singular mode of a Gaussian-Gaussian RBM; the parameter is `rho = w^2 / (ab)`, the moment `<v^2>`.

    Args:
        start: variance `s` of the visible units at the start.
        visible: `a`, stiffness of the visible units.
        hidden: `b`, stiffness of the hidden units.
    """

    start: float = 1.0
    visible: float = 1.0
    hidden: float = 1.0
    domain: ClassVar[tuple[float, float]] = (0.0, math.inf)

    def __post_init__(self) -> None:
        positive(self.visible, "the stiffness of visible units")
        positive(self.hidden, "the stiffness of hidden units")
        variance(self.start)

    @property
    def is_discrete(self) -> bool:
        return True

    def moment(self, theta: Real, t: Real) -> Real:
        n, rho = self._times(t), np.asarray(theta, float)
        if np.any(rho < 0):
            raise InputError(f"rho = w^2 / (ab) cannot be negative, got {theta}")
        with np.errstate(over="ignore"):
            return (remembered(self.start, rho ** (2 * n)) + geometric(rho, 2 * n) / self.visible)[()]

    def equilibrium(self, theta: float) -> float:
        return 1 / (self.visible * (1 - theta)) if theta < 1 else math.inf

    def at_equilibrium(self, data: float) -> float:
        if not data > 1 / self.visible:
            raise OutOfReach(
                f"a variance of {data:.6g} is not above {1 / self.visible:.6g}, that of uncoupled units: the mode is "
                "not learned and its weight decays"
            )
        return 1 - 1 / (self.visible * data)

    def reach(self, k: float) -> tuple[float, float]:
        return 1 / self.visible, math.inf

    def like(self, data: float) -> GaussianRBMMode:
        return replace(self, start=data)

    def velocity(self, theta: float, data: float, k: float) -> float:
        """`drho/dtau = 2 rho (d - c) / b` of ascent in `w` at unit rate."""
        return 2 * theta * super().velocity(theta, data, k) / self.hidden

    def growth(self, data: float) -> float:
        """Rate `(d - 1/a) / b` of a small weight at unit learning rate, whatever `k`; negative: the weight decays."""
        return (data - 1 / self.visible) / self.hidden

    def widest(self, k: int) -> float:
        """Variance `s + 2n/a` above which what is learned has no equilibrium."""
        return self.start + 2 * self._steps(k) / self.visible

    def slope(self, theta: float, k: float) -> float:
        """`dc_n/drho`, term by term."""
        m = np.arange(1, 2 * int(k))
        series = float(np.sum(m * theta ** (m - 1.0))) / self.visible
        return self.start * 2 * k * theta ** (2 * k - 1) + series

    def by_start(self, data: float, k: float) -> float:
        """`drho*/ds = -rho^(2n) / slope`."""
        rho = self.learned(data, k)
        return -(rho ** (2 * k)) / self.slope(rho, k)

    def learned_weights(
        self, covariance: Float[np.ndarray, "n n"], k: float, *, n_hidden: int
    ) -> Float[np.ndarray, "n n_hidden"]:
        """Weight matrix of training with `k` moves, up to a rotation of the hidden units.

        Its left singular vectors are the data's leading eigenvectors; those with a variance of at most `1/a` have no
        weight.

        Args:
            covariance: of centred data, shape `(n, n)`.
            k: training moves.
            n_hidden: number of hidden units.
        """
        variances, modes = np.linalg.eigh(np.asarray(covariance, float))
        weights = np.zeros((len(variances), n_hidden))
        for place in range(min(n_hidden, len(variances))):
            d = float(variances[-1 - place])
            if d > 1 / self.visible:
                w = math.sqrt(self.learned(d, k) * self.visible * self.hidden)
                weights[:, place] = w * modes[:, -1 - place]
        return weights
