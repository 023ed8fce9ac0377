"""Switch and relax: the two ways an ensemble's potential can change.

* `switch`: the model changes, walkers stay: `du = work`.
* `relax`: walkers move under a fixed model: `du = heat + shadow_work`.
* `advance`: both, in the order the kernel wants (the fused Langevin move books work and shadow work as one number).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from quasistatic._types import Key
from quasistatic.energies.potential import Potential
from quasistatic.kernels.base import AbstractKernel, Info
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble


def switch(kernel: AbstractKernel, after: Potential, ensemble: Ensemble) -> tuple[Ensemble, Float[Array, " n"]]:
    """Changes the model at fixed walkers and books the work.

    Args:
        kernel: kernel whose cache the walkers carry.
        after: the new potential.
        ensemble: walkers.

    Returns:
        The ensemble under `after`, and the work per walker in nats.
    """
    state = jax.vmap(lambda x, context: kernel.init(after, x, context))(ensemble.x, ensemble.context)
    work = state.u - ensemble.u
    zeros = jnp.zeros_like(work)
    return ensemble.with_state(state, ensemble.account.book(work=work, heat=zeros, shadow_work=zeros)), work


def _step(key, kernel, after, ensemble, controls):
    keys = jax.random.split(key, ensemble.n_walkers)

    def one(key_walker, state, context):
        return kernel.step(key_walker, after, state, controls, context)

    return jax.vmap(one)(keys, ensemble.state, ensemble.context)


def relax(
    key: Key, kernel: AbstractKernel, potential: Potential, ensemble: Ensemble, controls: Controls
) -> tuple[Ensemble, Info]:
    """Moves walkers under a fixed model and books heat and shadow work.

    Returns:
        The ensemble, and the kernel's info averaged over walkers.
    """
    state, heat, info = _step(key, kernel, potential, ensemble, controls)
    shadow = (state.u - ensemble.u) - heat
    account = ensemble.account.book(work=jnp.zeros_like(heat), heat=heat, shadow_work=shadow)
    return ensemble.with_state(state, account), jax.tree.map(jnp.mean, info)


def advance(
    key: Key,
    kernel: AbstractKernel,
    after: Potential,
    ensemble: Ensemble,
    controls: Controls,
    *,
    index: Int[Array, " m"] | None = None,
) -> tuple[Ensemble, Float[Array, " n"], Info]:
    """One update of the ensemble: switch to `after`, then relax (or both in the fused move).

    Args:
        key: random key of this step.
        kernel: Markov kernel.
        after: potential of the new model.
        ensemble: walkers.
        controls: sweeps and step size.
        index: walkers to touch, chosen independently of their states; None touches all. The others keep a stale
            potential,
            whose work is booked when they are next touched (it telescopes): `switch` all of them before any sum over
            the whole ensemble.

    Returns:
        The ensemble; the part of the log-weight loss due to the parameter change per walker (in the fused move it
        includes the shadow work), nats; the kernel's info averaged over walkers.
    """
    if index is not None:
        some, work, info = advance(key, kernel, after, ensemble.taken(index), controls)
        return ensemble.put(index, some), work, info
    if not kernel.moves_with_switch:
        ensemble, work = switch(kernel, after, ensemble)
        ensemble, info = relax(key, kernel, after, ensemble, controls)
        return ensemble, work, info
    state, heat, info = _step(key, kernel, after, ensemble, controls)
    work = (state.u - ensemble.u) - heat
    account = ensemble.account.book(work=work, heat=heat, shadow_work=jnp.zeros_like(work))
    return ensemble.with_state(state, account), work, jax.tree.map(jnp.mean, info)
