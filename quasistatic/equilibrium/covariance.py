"""Covariance of cost and statistic: the response of a mean cost, from a single phase.

    grad <C>_b = <dC/dtheta>_b - Cov_b(C, dF_b/dtheta) / T ;   at b = 0 this is the gradient of the supervised loss.

The covariance is taken within one example: mixing examples adds the covariance of their means, which is no response.
It is unbiased from two independent samples on.

Reference:
    Litman 2025, inside theorem 3.4 (arXiv 2511.22024); Massar and Mognetti 2024 for the free phase.
"""

import jax.numpy as jnp

from quasistatic._types import ScalarLike
from quasistatic.equilibrium.phases import Phase, Terms
from quasistatic.errors import InputError


def covariance(phase: Phase, temperature: ScalarLike) -> Terms:
    """Terms of `grad <C>_b` of one example.

    Args:
        phase: samples (at least two) or a table of states.
        temperature: `T`.
    """
    if phase.x.shape[0] < 2:
        raise InputError("a covariance needs at least two walkers per example, got one; raise the number of replicas")
    # n / (n - 1) for equal weights
    correction = 1.0 if phase.is_table else 1.0 / (1.0 - jnp.sum(phase.weight**2))
    deviation = phase.cost - phase.mean(phase.cost)
    on_energy = -correction * phase.weight * deviation / temperature
    return Terms(phase.x, on_energy, phase.weight + phase.nudge * on_energy)
