"""Switch and relax: the two ways an ensemble's potential can change.

* `switch`: the model changes, walkers stay: `du = work`.
* `relax`: walkers move under a fixed model: `du = heat + shadow_work`.
* `advance`: both, in the order the kernel wants (the fused Langevin move books work and shadow work as one number).
* `advance_some`: all walkers switch, some also move.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from quasistatic._random import split
from quasistatic._types import Key, Scalar
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel, Info, KernelState
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
    state = _met(kernel, after, ensemble)
    work = state.u - ensemble.u
    zeros = jnp.zeros_like(work)
    return ensemble.with_state(state, ensemble.account.book(work=work, heat=zeros, shadow_work=zeros)), work


def relax(
    key: Key, kernel: AbstractKernel, potential: Potential, ensemble: Ensemble, controls: Controls
) -> tuple[Ensemble, Info]:
    """Moves walkers under a fixed model and books heat and shadow work.

    Returns:
        The ensemble, and the kernel's info averaged over walkers.
    """
    state, heat, info = _moved(key, kernel, potential, ensemble.state, ensemble.context, controls)
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
            potential, whose work is booked when they are next touched (it telescopes): `switch` all of them before
            any sum over the whole ensemble.

    Returns:
        The ensemble; the part of the log-weight loss due to the parameter change per walker (in the fused move it
        includes the shadow work), nats; the kernel's info averaged over walkers.
    """
    if index is not None:
        some, work, info = advance(key, kernel, after, ensemble.taken(index), controls)
        return ensemble.put(index, some), work, info
    is_fused = kernel.moves_with_switch
    met = ensemble.state if is_fused else _met(kernel, after, ensemble)
    state, heat, info = _moved(key, kernel, after, met, ensemble.context, controls)
    work, shadow = met.u - ensemble.u, (state.u - met.u) - heat
    if is_fused:
        work, shadow = shadow, jnp.zeros_like(shadow)
    account = ensemble.account.book(work=work, heat=heat, shadow_work=shadow)
    return ensemble.with_state(state, account), work, jax.tree.map(jnp.mean, info)


def advance_some(
    key: Key,
    kernel: AbstractKernel,
    after: Potential,
    ensemble: Ensemble,
    controls: Controls,
    *,
    n_moved: int,
) -> tuple[Ensemble, Float[Array, " n"], Info]:
    """One update in which a random subset of the walkers is moved and the others only switch to `after`.

    The subset is drawn without looking at the walkers, so for each of them the kernel of this update is a mixture of
    the move and of standing still, and every identity of the weights holds as it does for `advance`. All walkers end
    under `after`: sums over the whole ensemble need no refresh.

    Args:
        key: random key of this step.
        kernel: Markov kernel.
        after: potential of the new model.
        ensemble: walkers.
        controls: sweeps and step size.
        n_moved: number of walkers that move, from 1 to all.

    Returns:
        As `advance`; the kernel's info is averaged over the walkers that moved.

    Raises:
        InputError: `n_moved` is not between 1 and the number of walkers.

    Reference:
        Carbone et al. 2023 (arXiv 2305.19414), whose image experiments move a part of their walkers per update.
    """
    if not 1 <= n_moved <= ensemble.n_walkers:
        raise InputError(f"n_moved must lie between 1 and the {ensemble.n_walkers} walkers, got {n_moved}")
    key_choice, key_move = split(key, 2)
    chosen = jax.random.permutation(key_choice, ensemble.n_walkers)[:n_moved]
    switched, work = switch(kernel, after, ensemble)
    if kernel.moves_with_switch:
        some, fused, info = advance(key_move, kernel, after, ensemble.taken(chosen), controls)
        work = work.at[chosen].set(fused)
    else:
        some, info = relax(key_move, kernel, after, switched.taken(chosen), controls)
    return switched.put(chosen, some), work, info


def as_samples(kernel: AbstractKernel, ensemble: Ensemble) -> Ensemble:
    """The walkers as samples of the model, with the same account: of stacks of replicas the ones at the model.

    A view for whatever compares walkers with data or reweights them; books are kept on the whole stacks.
    """
    if kernel.n_replicas == 1:
        return ensemble
    return ensemble.with_state(jax.vmap(kernel.at_model)(ensemble.state), ensemble.account)


def _met(kernel: AbstractKernel, after: Potential, ensemble: Ensemble) -> KernelState:
    """Walkers where they are, under a new potential."""
    return _over_walkers(
        lambda state, context: kernel.meet(after, state, context), after, ensemble.state, ensemble.context
    )


def _moved(
    key: Key, kernel: AbstractKernel, after: Potential, state: KernelState, context: Any, controls: Controls
) -> tuple[KernelState, Float[Array, " n"], dict[str, Float[Array, " n"]]]:
    """Every walker moved with its own key."""

    def one(key_walker: Key, state: KernelState, context: Any) -> tuple[KernelState, Scalar, Info]:
        return kernel.step(key_walker, after, state, controls, context)

    return _over_walkers(one, after, split(key, state.u.size), state, context)


def _over_walkers(function: Callable[..., Any], potential: Potential, *walkers: Any) -> Any:
    """`function` of every walker: all at once, or in the blocks that an energy asks for on CPU."""
    block = getattr(potential.energy, "block_size", 0)
    n = jax.tree.leaves(walkers)[0].shape[0]
    if not block or n <= block or jax.default_backend() != "cpu":
        return jax.vmap(function)(*walkers)
    return jax.lax.map(lambda walker: function(*walker), walkers, batch_size=block)
