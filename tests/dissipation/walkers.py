"""Walkers of the package in a trap whose centre follows a path, with the work of every switch."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from quasistatic.energies import Gaussian, Potential
from quasistatic.kernels import AbstractKernel, KernelState
from quasistatic.thermo import Controls, Ensemble, relax, switch


class ExactMoves(AbstractKernel):
    """Exact Ornstein-Uhlenbeck moves in a Gaussian of one dimension, `du/dt = -M grad u`; `heat = du`."""

    def init(self, potential: Potential, x: Any, context: Any = None) -> KernelState:
        return KernelState(x, potential(x), None)

    def step(self, key: Any, after: Potential, state: KernelState, controls: Any, context: Any = None):
        energy: Any = after.energy
        k = after.beta * energy.precision_factor[0, 0] ** 2
        a = jnp.exp(-k * controls.step_size)
        noise = jax.random.normal(key, state.x.shape) * jnp.sqrt((1 - a**2) / k)
        new = self.init(after, energy.mean + a * (state.x - energy.mean) + noise)
        return new, new.u - state.u, {}


def well(centre: Any, stiffness: float, beta: float) -> Potential:
    """`u = beta stiffness (x - centre)^2 / 2`."""
    return Potential(Gaussian(jnp.reshape(centre, (1,)), jnp.sqrt(stiffness) * jnp.eye(1)), beta)


@eqx.filter_jit
def followed(
    key: Any, kernel: AbstractKernel, x: Any, centres: Any, *, stiffness: float, beta: float, step_size: float
) -> tuple[Ensemble, Any]:
    """Walkers `x` (one dimension, booked as unanchored) along `centres`, a relaxation after each switch but the last.

    Returns:
        The ensemble, and the work of each switch and walker, shape `(switches, n)`, nats.
    """
    controls = Controls.of(step_size=step_size)
    ensemble = Ensemble.open(kernel, well(centres[0], stiffness, beta), x[:, None])

    def stride(ensemble, k):
        potential = well(centres[k], stiffness, beta)
        ensemble, work = switch(kernel, potential, ensemble)
        return relax(jax.random.fold_in(key, k), kernel, potential, ensemble, controls)[0], work

    n = centres.shape[0]
    ensemble, work = jax.lax.scan(stride, ensemble, jnp.arange(1, n - 1))
    ensemble, last = switch(kernel, well(centres[n - 1], stiffness, beta), ensemble)
    return ensemble, jnp.concatenate([work, last[None]])


def path(start: float, jumps: np.ndarray) -> Any:
    """Centres of a protocol of jumps, the start included."""
    return jnp.asarray(start + np.r_[0.0, np.cumsum(jumps)])
