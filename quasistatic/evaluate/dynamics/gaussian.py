"""Gaussian model in many dimensions: every data eigenvector is a mode of its own.

    u(x) = x'Jx/2 - h'x,   J symmetric with any real eigenvalues;  walkers start from N(m_0, s 1).

The covariance after `t` is a function of `J`, so `J*` has the eigenvectors of the data's covariance and the
eigenvalues that each mode learns; `h* = (m_D - decay m_0) / response` along each of them. Both distances to the data,
of second moments and of laws, vanish at `t = k` exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.integrate import solve_ivp

from quasistatic.errors import InputError
from quasistatic.evaluate.dynamics.base import OutOfReach, Real
from quasistatic.evaluate.dynamics.langevin import LangevinMode
from quasistatic.evaluate.dynamics.unadjusted import UnadjustedMode

Matrix = Float[np.ndarray, "d d"]
Vector = Float[np.ndarray, " d"]


@dataclass(frozen=True)
class GaussianModel:
    """Gaussian model whose walkers start from an isotropic Gaussian.

    Args:
        mode: what a single mode does: `LangevinMode` or `UnadjustedMode`; its `start` is the variance `s`.
        start_mean: `m_0`, shape `(d,)`; None for the origin.
    """

    mode: LangevinMode | UnadjustedMode
    start_mean: Vector | None = None

    def covariance(self, stiffness: Matrix, t: float) -> Matrix:
        """`C_t(J)`, shape `(d, d)`. Args: `J`; time, `inf` for equilibrium."""
        j, modes = _eigen(stiffness)
        return (modes * self._moves(j, t)[0]) @ modes.T

    def mean(self, stiffness: Matrix, field: Vector, t: float) -> Vector:
        """`m_t(J, h)`, shape `(d,)`. Args: `J`; `h`; time, `inf` for equilibrium."""
        j, modes = _eigen(stiffness)
        _, decay, response = self._moves(j, t)
        return modes @ (decay * (modes.T @ self._origin(len(j))) + response * (modes.T @ field))

    def learned(self, mean: Vector, covariance: Matrix, k: float, *, from_data: bool = False) -> tuple[Matrix, Vector]:
        """`J*` and `h*` of training with `k` steps.

        Args:
            mean: `m_D`, shape `(d,)`.
            covariance: `C_D`, shape `(d, d)`, positive definite.
            k: training steps, `inf` for equilibrium.
            from_data: walkers start from the data (CD-k) and not from the model's start.

        Raises:
            OutOfReach: a mode that no stiffness reproduces.
        """
        d, modes = _eigen(covariance)
        if d[0] <= 0:
            raise InputError(f"the covariance must be positive definite; its least eigenvalue is {d[0]:.3g}")
        j = np.array([(self.mode.like(float(x)) if from_data else self.mode).learned(float(x), k) for x in d])
        start = mean if from_data else self._origin(len(d))
        _, decay, response = self._moves(j, k)
        along = (modes.T @ mean - decay * (modes.T @ start)) / response
        return (modes * j) @ modes.T, modes @ along

    def second_error(self, stiffness: Matrix, t: float, covariance: Matrix) -> float:
        """Mean squared error of the modes' variances, `sum_a (c_a - d_a)^2 / d`, zero at `t = k`."""
        difference = self.covariance(stiffness, t) - covariance
        return float(np.sum(difference**2)) / len(covariance)

    def divergence(self, stiffness: Matrix, field: Vector, t: float, mean: Vector, covariance: Matrix) -> float:
        """Relative entropy of the law at `t` to a Gaussian law of the data, nats, zero at `t = k`."""
        c, shift = self.covariance(stiffness, t), self.mean(stiffness, field, t) - mean
        ratio = np.linalg.solve(covariance, c)
        trace = np.trace(ratio) + shift @ np.linalg.solve(covariance, shift)
        return float(0.5 * (trace - len(mean) - np.linalg.slogdet(ratio)[1]))

    def learning(
        self, covariance: Matrix, k: float, stiffness: Matrix, times: Float[np.ndarray, " n"], *, rate: float = 1.0
    ) -> Float[np.ndarray, "n d d"]:
        """`J(tau)` under `dJ/dtau = rate (C_k(J) - C_D)`, from any symmetric `J`; half a plain learning rate.

        Args:
            covariance: `C_D`.
            k: training steps.
            stiffness: `J` at `tau = 0`.
            times: learning times, rising.
            rate: learning rate.
        """
        d = len(covariance)
        times = np.asarray(times, float)

        def flow(_: float, y: np.ndarray) -> np.ndarray:
            return rate * (self.covariance(y.reshape(d, d), k) - covariance).ravel()

        start = np.asarray(stiffness, float).ravel()
        found = solve_ivp(flow, (0.0, float(times[-1])), start, "DOP853", times, rtol=1e-11, atol=1e-13)
        return found.y.T.reshape(-1, d, d)

    def _moves(self, j: Vector, t: float) -> tuple[Real, Real, Real]:
        """Variance, decay and response of every mode; at `t = inf` those of equilibrium. Raises: OutOfReach."""
        if t != np.inf:
            return self.mode.moment(j, t), self.mode.decay(j, t), self.mode.response(j, t)
        variances = np.array([self.mode.equilibrium(float(x)) for x in j])
        if not np.isfinite(variances).all():
            raise OutOfReach(f"a mode of stiffness {j[~np.isfinite(variances)][0]:.6g} has no equilibrium")
        return variances, np.zeros_like(j), 1 / j

    def _origin(self, d: int) -> Vector:
        return np.zeros(d) if self.start_mean is None else np.asarray(self.start_mean, float)


def gaussian_divergence(variance: Float[np.ndarray, ...] | float, data: Float[np.ndarray, ...] | float) -> Real:
    """Relative entropy of `N(0, c)` to `N(0, d)`, `(c/d - 1 - ln(c/d)) / 2`, nats. Args: `c`; `d`; they broadcast."""
    ratio = np.asarray(variance, float) / np.asarray(data, float)
    return (0.5 * (ratio - 1 - np.log(ratio)))[()]


def _eigen(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    matrix = np.asarray(matrix, float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.allclose(matrix, matrix.T, atol=1e-9):
        what = f"shape {matrix.shape}" if matrix.shape != matrix.T.shape or matrix.ndim != 2 else "an asymmetric one"
        raise InputError(f"a symmetric (d, d) matrix is needed, got {what}")
    return np.linalg.eigh((matrix + matrix.T) / 2)
