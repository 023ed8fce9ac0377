"""Training with k steps on an enumerated state space, without noise: the judge of every sampler and every trainer.

With `rho_t = M_theta^t rho_0` and features `f = -du/dtheta` of all states, the training field is

    G(theta) = <f_theta>_data - <f_theta>_(rho_k(theta)) ,        G(theta*) = 0 .

Its Jacobian is not symmetric at finite `k`: training is no ascent of any function. Four rules differ in the start of
the walkers: from a law that knows neither data nor parameters (`"short-run"`), from the data (CD-k), from where they
were (PCD-k), and from equilibrium (exact maximum likelihood).
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import root

from quasistatic.errors import InputError
from quasistatic.evaluate.dynamics.base import OutOfReach
from quasistatic.evaluate.dynamics.chain import Chain, Law, divergence

RULES = ("short-run", "data", "persistent", "equilibrium")
"""Where walkers start at every update."""
Vector = Float[np.ndarray, " n_parameters"]


@dataclass(frozen=True, kw_only=True)
class AbstractEnumerated(abc.ABC):
    """A model of few units whose law after any number of steps is known.

    Args:
        beta: inverse temperature.
        start: law of the walkers at the start, shape `(n_states,)`; None: uniform.
    """

    beta: float = 1.0
    start: Law | None = None

    @abc.abstractmethod
    def states(self) -> Float[np.ndarray, "n_states n"]:
        """All states, the first unit slowest."""

    @abc.abstractmethod
    def reduced(self, theta: Vector) -> Float[np.ndarray, " n_states"]:
        """Reduced potential `u` of all states."""

    @abc.abstractmethod
    def features(self, theta: Vector) -> Float[np.ndarray, "n_states n_parameters"]:
        """`-du/dtheta` of all states."""

    @abc.abstractmethod
    def chain(self, theta: Vector) -> Chain:
        """One step of the sampler."""

    def log_partition(self, theta: Vector) -> float:
        """`log Z`, nats."""
        return float(np.logaddexp.reduce(-self.reduced(theta)))

    def equilibrium(self, theta: Vector) -> Law:
        """Boltzmann law over all states."""
        return np.exp(-self.reduced(theta) - self.log_partition(theta))

    def law(self, theta: Vector, t: float) -> Law:
        """`rho_t`, the law of walkers after `t` steps."""
        return self.chain(theta).law(self._start(), t)

    def moments(self, theta: Vector, law: Law) -> Vector:
        """`<f_theta>` under a law."""
        return law @ self.features(theta)

    def field(self, theta: Vector, data: Law, k: float, *, start: Law | None = None) -> Vector:
        """Training field `G(theta)`.

        Args:
            theta: parameters.
            data: law of the data.
            k: steps, 0 for equilibrium.
            start: law of the walkers at the start; None for the model's.
        """
        if k == 0:
            return self.moments(theta, data - self.equilibrium(theta))
        return self.moments(theta, data - self.chain(theta).law(self._start() if start is None else start, k))

    def learned(self, data: Law, k: int, guess: Vector) -> Vector:
        """Root of the training field by Newton's method.

        Args:
            data: law of the data over all states.
            k: training steps, 0 for equilibrium (maximum likelihood).
            guess: where to begin; an RBM has other roots, one of them without weights.

        Raises:
            OutOfReach: no root was found from there.
        """
        found = root(self.field, np.asarray(guess, float), args=(self._law(data), k), method="hybr", tol=1e-14)
        left = float(np.max(np.abs(found.fun)))
        if not left < 1e-9:
            raise OutOfReach(
                f"no parameters were found that reproduce the data after {k} steps: moments stay {left:.2g} apart; "
                "train with more steps, or begin elsewhere"
            )
        widths = np.linalg.svd(self.jacobian(found.x, data, k), compute_uv=False)
        if widths[-1] < 1e-7 * widths[0]:
            raise OutOfReach(
                f"the parameters are not determined by the data after {k} steps: the moments are reached in the limit "
                "of infinite parameters only, or there are more parameters than states"
            )
        return found.x

    def ascended(
        self, theta: Vector, data: Law, k: int, *, rate: float, n_updates: int, rule: str = "short-run"
    ) -> Vector:
        """Parameters after noise-free training, `theta <- theta + rate G(theta)`.

        Args:
            theta: initial parameters.
            data: law of the data.
            k: steps per update.
            rate: learning rate.
            n_updates: number of updates.
            rule: one of `RULES`.
        """
        if rule not in RULES:
            raise InputError(f"unknown rule {rule!r}; choose one of {RULES}")
        theta, data, walkers = np.array(theta, float), self._law(data), self._start()
        for _ in range(n_updates):
            if rule == "equilibrium":
                after = self.equilibrium(theta)
            else:
                after = self.chain(theta).law(data if rule == "data" else walkers, k)
            walkers = after if rule == "persistent" else walkers
            theta = theta + rate * self.moments(theta, data - after)
        return theta

    def divergences(self, theta: Vector, data: Law, times: Sequence[int]) -> Float[np.ndarray, " n_times"]:
        """Relative entropy of the data to the walkers after each number of steps, nats: quality against time."""
        laws = self.chain(theta).laws(self._start(), times)
        return np.array([divergence(data, law) for law in laws])

    def jacobian(self, theta: Vector, data: Law, k: float) -> Float[np.ndarray, "n_parameters n_parameters"]:
        """`-dG/dtheta` by central differences; a fixed point attracts if all eigenvalues have positive real parts."""
        columns = []
        for i in range(len(theta)):
            h = np.zeros(len(theta))
            h[i] = 1e-5
            columns.append((self.field(theta - h, data, k) - self.field(theta + h, data, k)) / 2e-5)
        return np.stack(columns, axis=1)

    def _start(self) -> Law:
        n = len(self.states())
        return np.full(n, 1 / n) if self.start is None else self._law(self.start)

    def _law(self, law: Law) -> Law:
        p, n = np.asarray(law, float), len(self.states())
        if p.shape != (n,) or np.any(p < 0) or abs(p.sum() - 1) > 1e-9:
            raise InputError(f"a law gives each of the {n} states a probability, and they sum to 1; got {p.shape}")
        return p
