"""Opening books at a law with known Z, and annealed bridges from it to any energy.

Walkers start as exact samples of a tractable law. The jump to the model (or the steps of a bridge) is booked as work,
so `log Z` of the model is known from the first step, with an error that the spread of the groups carries along.
"""

from typing import Any

import jax
import jax.numpy as jnp

from quasistatic._keys import named
from quasistatic._numerics import TwoFloat
from quasistatic._random import fold
from quasistatic._types import Key
from quasistatic.energies.base import AbstractTractable
from quasistatic.energies.potential import Potential
from quasistatic.energies.wrappers import Interpolated
from quasistatic.kernels.base import AbstractKernel
from quasistatic.thermo.account import Account
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.process import advance, switch


def open_at_law(
    key: Key,
    kernel: AbstractKernel,
    potential: Potential,
    law: AbstractTractable,
    *,
    n_walkers: int,
    n_groups: int = 1,
    n_bridge: int = 0,
    controls: Controls | None = None,
    resample_below: float = 0.5,
) -> Ensemble:
    """Anchored ensemble under `potential`, started from a law with known Z.

    Args:
        key: random key.
        kernel: kernel that will move the walkers.
        potential: model and beta to arrive at.
        law: tractable energy on the same space, used at the same beta.
        n_walkers: number of walkers.
        n_groups: independent groups.
        n_bridge: number of annealing steps `u_s = (1 - s) u_law + s u_model`, each one switch and one relaxation;
            0 jumps at once.
        controls: sweeps and step size of the bridge.
        resample_below: ESS fraction below which a group resamples on the way.

    Returns:
        Walkers with `work` booked from the law to the model.
    """
    x, u, log_z = kernel.start(named(key, "start"), law, potential.beta, n_walkers)
    offset = TwoFloat.zeros((n_groups,), u.dtype)
    if log_z is not None:
        offset = offset.add(jnp.broadcast_to(log_z, (n_groups,)))
    start = Ensemble(x, u, None, None, Account.open(u), offset, jnp.asarray(log_z is not None), n_groups)
    if n_bridge == 0:
        return switch(kernel, potential, start)[0]
    settings = Controls.of() if controls is None else controls
    opened = switch(kernel, Potential(Interpolated(law, potential.energy, jnp.zeros(())), potential.beta), start)[0]

    def anneal(i: Any, ensemble: Ensemble) -> Ensemble:
        key_step = fold(named(key, "bridge"), i)
        fraction = (i + 1) / n_bridge
        target = Potential(Interpolated(law, potential.energy, fraction), potential.beta)
        ensemble, _ = ensemble.resampled(named(key_step, "resample"), below=resample_below)
        return advance(key_step, kernel, target, ensemble, settings)[0]

    arrived = jax.lax.fori_loop(0, n_bridge, anneal, opened)
    return switch(kernel, potential, arrived)[0]
