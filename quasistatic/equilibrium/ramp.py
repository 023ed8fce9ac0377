"""Nudge ramps with books: Jarzynski weights make an unequilibrated nudged phase exact.

At step k the nudge rises from `b_{k-1}` to `b_k` with work `(b_k - b_{k-1}) C(s_{k-1})`, then the walkers make a few
sweeps at `b_k`. With `W` the sum and `w = exp(-W / T)`,

    dA = -T log <w> ,     <g>_b = <w g(s_K)> / <w> ,

for any number of steps and sweeps, if the walkers start in free equilibrium. Without the weights the end states lag
behind, and so does their contrast. The books are those of every other protocol: `switch` and `relax`.

Reference:
    Jarzynski 1997; Neal 2001 (annealed importance sampling); the estimator is not in Litman 2025.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._random import fold
from quasistatic._types import Key, ScalarLike
from quasistatic.equilibrium.phases import Setup
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble


def ramp(
    key: Key, setup: Setup, free: Ensemble, schedule: Float[Array, " k_and_1"], controls: Controls
) -> tuple[Ensemble, Float[Array, "examples replicas"]]:
    """Walkers driven along a schedule of nudges.

    Args:
        key: random key.
        setup: network, cost, kernel, temperature.
        free: walkers in equilibrium at `schedule[0]`; their books are opened anew.
        schedule: nudges `b_0 ... b_K`, rising or falling.
        controls: sweeps per step (and the step size of Langevin kernels).

    Returns:
        Walkers at the last nudge with their weights; reduced work `W / T` of each, shadow work included, nats.
    """
    start = setup.potential(schedule[0])
    opened = Ensemble.open(setup.kernel, start, free.x, n_groups=free.n_groups, context=free.context)

    def step(k: Array, walkers: Ensemble) -> Ensemble:
        return setup.relaxed(fold(key, k), walkers, schedule[k], controls)

    done = jax.lax.fori_loop(1, schedule.shape[0], step, opened)
    return done, -done.by_group(done.log_weight())


def uniform_schedule(nudge: ScalarLike, n_steps: int) -> Float[Array, " k_and_1"]:
    """`n_steps + 1` equally spaced nudges from 0 to `nudge`."""
    return jnp.linspace(0.0, nudge, n_steps + 1)
