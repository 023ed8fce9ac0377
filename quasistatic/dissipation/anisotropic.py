"""The trap with a stiffness matrix: least work and learning-rate matrices; no scalar rate reaches it.

    E(x) = 1/2 (x - th)' Kap (x - th),   mobility matrix M,   W_ex* = b D' (tau M + 2 Kap^-1)^-1 D       [nats]

`Kap` and `M^-1` have common modes `V` with `V' M^-1 V = 1`, `V' Kap V = diag(lam)`: each is a trap of stiffness `lam`
and mobility 1. In discrete time a relaxation multiplies the lag by a matrix `A`, and with `K` relaxations

    W_ex* = (b/2) D' Kap (1 + A) [(1 + A) + K (1 - A)]^-1 D .

Reference:
    Hnybida, Verret 2025 (arXiv:2510.03137) states a learning-rate matrix; the forms here follow from `trap` by modes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh, expm

from quasistatic.dissipation.trap import SteppedTrap, Trap
from quasistatic.errors import InputError

Matrix = Float[np.ndarray, "d d"]
Vector = Float[np.ndarray, " d"]


@dataclass(frozen=True)
class AnisotropicTrap:
    """Trap with stiffness and mobility matrices.

    Args:
        stiffness: `Kap`, symmetric positive definite, shape `(d, d)`.
        mobility: `M`, symmetric positive definite, shape `(d, d)`.
        beta: inverse temperature.
    """

    stiffness: Matrix
    mobility: Matrix
    beta: float = 1.0

    def __post_init__(self) -> None:
        for name in ("stiffness", "mobility"):
            matrix = np.asarray(getattr(self, name), float)
            is_square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
            if not is_square or not np.allclose(matrix, matrix.T) or np.linalg.eigvalsh(matrix).min() <= 0:
                raise InputError(f"{name} must be a symmetric positive definite (d, d) matrix, got {matrix.tolist()}")
            object.__setattr__(self, name, matrix)
        if self.stiffness.shape != self.mobility.shape:
            raise InputError(
                f"stiffness and mobility must have one shape, got {self.stiffness.shape} and {self.mobility.shape}"
            )

    def modes(self) -> tuple[Vector, Matrix]:
        """Stiffness `lam` of each mode at mobility 1, and the modes `V` as columns."""
        values, vectors = eigh(self.stiffness, np.linalg.inv(self.mobility))
        return values, vectors

    def minimal_work(self, distance: Vector, duration: float) -> float:
        """Least work `b D' (tau M + 2 Kap^-1)^-1 D`, nats."""
        inner = duration * self.mobility + 2 * np.linalg.inv(self.stiffness)
        return float(self.beta * distance @ np.linalg.solve(inner, distance))

    def linear_work(self, distance: Vector, duration: float) -> float:
        """Work of moving the centre on a straight line at constant speed without jumps, nats."""
        values, vectors = self.modes()
        parts = vectors.T @ np.linalg.solve(self.mobility, distance)
        return float(sum(Trap(v, 1.0, self.beta).linear_work(c, duration) for v, c in zip(values, parts, strict=True)))

    def continuous_rate(self, duration: float, t: float) -> Matrix:
        """`eta(t) = (1/b) [ (tau - t) Kap + M^-1 ]^-1`, without jumps."""
        return np.linalg.inv((duration - t) * self.stiffness + np.linalg.inv(self.mobility)) / self.beta

    def discontinuous_rate(self, duration: float, t: float) -> Matrix:
        """`eta(t) = (1/b) [ (tau - t) Kap + 2 M^-1 ]^-1` between the jumps."""
        return np.linalg.inv((duration - t) * self.stiffness + 2 * np.linalg.inv(self.mobility)) / self.beta

    def start_jump(self, distance: Vector, duration: float) -> Vector:
        """`Kap^-1 M^-1 [ tau Kap + 2 M^-1 ]^-1 Kap D`, from equilibrium."""
        force = self.stiffness @ distance
        driven = self.beta * self.discontinuous_rate(duration, 0.0) @ force
        return np.linalg.solve(self.stiffness, np.linalg.solve(self.mobility, driven))

    def continuous_error(self, distance: Vector, duration: float) -> Vector:
        """`th(tau) - th* = -expm(-M Kap tau) D` of the continuous schedule from equilibrium."""
        return -expm(-duration * self.mobility @ self.stiffness) @ distance

    def lag(self, step: float, *, is_exact: bool = False) -> Matrix:
        """`A`: `1 - h M Kap` for unadjusted Langevin moves, `expm(-h M Kap)` for exact ones. Args: time step `h`."""
        drift = step * self.mobility @ self.stiffness
        return expm(-drift) if is_exact else np.eye(len(drift)) - drift

    def friction(self, lag: Matrix) -> Matrix:
        """Friction per update `b Kap (1 + A) (1 - A)^-1 / 2`, nats: excess work is `dth' Z dth` when slow."""
        one = np.eye(len(lag))
        found = 0.5 * self.beta * self.stiffness @ (one + lag) @ np.linalg.inv(one - lag)
        return 0.5 * (found + found.T)

    def stepped_work(self, jumps: Float[np.ndarray, "n d"], lag: Matrix) -> float:
        """Excess work of jumps of the centre from equilibrium, a relaxation between two, nats."""
        behind, work = np.zeros(len(lag)), 0.0
        for jump in np.asarray(jumps, float):
            work += jump @ self.stiffness @ (behind + 0.5 * jump)
            behind = lag @ (behind + jump)
        return float(self.beta * work)

    def stepped_minimal_work(self, distance: Vector, n_relaxations: int, lag: Matrix) -> float:
        """Least work with `K` relaxations between jumps, nats."""
        one = np.eye(len(lag))
        inner = (one + lag) + n_relaxations * (one - lag)
        return float(0.5 * self.beta * distance @ self.stiffness @ (one + lag) @ np.linalg.solve(inner, distance))

    def optimal_jumps(self, distance: Vector, n_relaxations: int, lag: Matrix) -> Float[np.ndarray, "n d"]:
        """The `K + 1` jumps of least work, shape `(K + 1, d)`."""
        one = np.eye(len(lag))
        ends = np.linalg.solve((one + lag) + n_relaxations * (one - lag), distance)
        jumps = np.tile((one - lag) @ ends, (n_relaxations + 1, 1))
        jumps[[0, -1]] = ends
        return jumps

    def mode_traps(self, step: float) -> list[SteppedTrap]:
        """One stepped trap of unadjusted Langevin moves per mode."""
        return [SteppedTrap.langevin(Trap(float(v), 1.0, self.beta), step) for v in self.modes()[0]]
