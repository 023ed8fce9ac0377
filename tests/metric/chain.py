"""A two-parameter Ising chain with its heat-bath sweep enumerated: friction and excess work without any sampling."""

import functools

import numpy as np

from tests.laws.enumeration import heat_bath, law, product, states

BETA, N_SPINS = 0.8, 4
X = states("spin", N_SPINS)
PHI = np.stack([X @ [1.0, 0.5, -0.7, 1.2], X[:, :-1] * X[:, 1:] @ [1.0, 1.0, 0.6]], axis=1)


def reduced(theta) -> np.ndarray:
    """Potentials of all states, nats."""
    return -BETA * PHI @ np.asarray(theta)


def rows() -> np.ndarray:
    """`du/dtheta` of all states."""
    return -BETA * PHI


def sweep(theta) -> np.ndarray:
    """Transition matrix of one systematic sweep."""
    return _sweep(tuple(np.round(np.asarray(theta, float), 12)))


@functools.cache  # protocols of several lengths share nodes, and sweep more than once at each
def _sweep(theta: tuple[float, ...]) -> np.ndarray:
    u = reduced(theta)
    return product([heat_bath(u, "spin", N_SPINS, [i]) for i in range(N_SPINS)])


def friction(theta) -> np.ndarray:
    """`C_0 / 2 + sum_l C_l`, summed to all lags by a linear solve."""
    p, _ = law(reduced(theta))
    s = rows() - p @ rows()
    m = sweep(theta) - np.outer(np.ones(len(p)), p)  # without the stationary part the series converges
    later = np.linalg.solve(np.eye(len(p)) - m, m @ s)
    z = (s * p[:, None]).T @ (s / 2 + later)
    return 0.5 * (z + z.T)


def fisher(theta) -> np.ndarray:
    p, _ = law(reduced(theta))
    s = rows() - p @ rows()
    return (s * p[:, None]).T @ s


def excess_work(path, n_sweeps=1) -> float:
    """Excess work of a protocol that switches and then sweeps, from equilibrium at its start."""
    p, log_z = law(reduced(path[0]))
    work = 0.0
    for old, new in zip(path[:-1], path[1:], strict=True):
        work += p @ (reduced(new) - reduced(old))
        for _ in range(n_sweeps):
            p = p @ sweep(new)
    return work - (log_z - law(reduced(path[-1]))[1])
