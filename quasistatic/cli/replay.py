"""Samples of short runs, made as the walkers of the training were; and samples with some values held.

A run of the method `short-run` is replayed from the law of its start (kept in the checkpoint), by the same kernel and
schedule, for as many sweeps as it was trained with unless told otherwise. Clamped values make the conditional model of
the other coordinates (see `energies.clamping`), which the same kernel samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._keys import named
from quasistatic._types import Key
from quasistatic.cli.build import make_kernel, placeholder
from quasistatic.cli.load import LoadedRun
from quasistatic.cli.short_runs import start_of, with_schedule
from quasistatic.energies import AbstractEnergy, AbstractTractable, Potential, clamped
from quasistatic.energies.starts import as_arrays
from quasistatic.errors import InputError
from quasistatic.kernels import KernelState
from quasistatic.thermo.controls import Controls
from quasistatic.train.checkpoint import fill

BLOCK, PIECE = 256, 100  # walkers and sweeps between two looks at the progress


def is_short(run: LoadedRun) -> bool:
    """Whether a run was trained by short runs."""
    return run.settings.training.method == "short-run"


def start_law(run: LoadedRun, which: str = "last") -> AbstractTractable:
    """Law from which the short runs of a run start, from its checkpoint: no data are needed."""
    skeleton = as_arrays(start_of(run.settings, run.model_of(which), placeholder(run.settings, run.n_units)))
    return fill(skeleton, run.checkpoint("best" if which == "best" else "last"), "regulator_states/0")


def moved_on(
    key: Key,
    run: LoadedRun,
    energy: AbstractEnergy,
    x: Float[Array, "n d"],
    *,
    steps: int,
    beta: float,
    held: tuple[np.ndarray, np.ndarray] | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
    """Walkers moved by the kernel and schedule of a run, in blocks, and their reduced potentials.

    Args:
        key: random key.
        run: whose settings to follow.
        energy: the model.
        x: where the walkers start.
        steps: sweeps.
        beta: inverse temperature.
        held: positions and values of clamped coordinates, whatever they are in `x`.
        progress: told the fraction that is done.
    """
    whole, free, model = None, None, energy
    if held is not None and len(held[0]):
        whole = np.array(x)
        whole[:, held[0]] = held[1]
        model, free = clamped(energy, run.n_units, *held)
        x = x[:, free]
    kernel = with_schedule(run.settings, make_kernel(run.settings, model))
    controls = Controls.of(beta=beta, n_sweeps=steps, step_size=run.settings.kernel.step_size)
    moved, u = _in_blocks(key, kernel, Potential(model, controls.beta), x, controls, steps, progress)
    if whole is None or free is None:
        return moved, u
    whole[:, free] = moved
    return whole, np.asarray(_potentials(Potential(energy, controls.beta), jnp.asarray(whole)))


def replayed(
    key: Key,
    run: LoadedRun,
    energy: AbstractEnergy,
    *,
    n: int,
    steps: int,
    beta: float,
    which: str = "last",
    held: tuple[np.ndarray, np.ndarray] | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
    """Samples of short runs and their reduced potentials. Args: as `moved_on`; `n` samples; checkpoint of the start."""
    x = start_law(run, which).sample_exact(named(key, "start"), 1.0, n)
    return moved_on(
        named(key, "move"), run, energy, x, steps=steps, beta=beta, held=held, progress=progress
    )  # fmt: skip


def clamps_of(texts: Sequence[str], n_units: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and values of clamped coordinates.

    Args:
        texts: each `FIRST:STOP=VALUES` or `INDEX=VALUE`, such as `784:794=0,0,1,0,0,0,0,0,0,0`; one value holds for all
            positions.
        n_units: length of a sample.

    Raises:
        InputError: a text that is none of this, or positions out of range.
    """
    at, values = [], []
    for text in texts:
        place, equals, numbers = text.partition("=")
        first, colon, stop = place.partition(":")
        try:
            low = int(first)
            high = int(stop) if colon else low + 1
            given = [float(number) for number in numbers.split(",")]
        except ValueError:
            raise InputError(
                f"--clamp takes FIRST:STOP=VALUES, got {text!r}; for example --clamp 784:786=0,1"
            ) from None
        if not equals or not 0 <= low < high <= n_units or len(given) not in (1, high - low):
            raise InputError(
                f"--clamp {text}: positions must lie in 0:{n_units}, with one value or one for each of them"
            )
        at += range(low, high)
        values += given * (high - low) if len(given) == 1 else given
    if len(set(at)) != len(at):
        raise InputError("--clamp names a coordinate twice; give each once")
    return np.asarray(at, np.int64), np.asarray(values, np.float64)


def _in_blocks(
    key: Key, kernel: Any, potential: Potential, x: Array, controls: Controls, steps: int, progress: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Walkers moved block by block, piece by piece; the numbers do not depend on the pace of the display."""
    keys = jax.random.split(key, len(x))
    size = min(len(x), BLOCK)
    pieces = [min(PIECE, steps - done) for done in range(0, steps, PIECE)]
    total, done, found = -(-len(x) // size) * max(len(pieces), 1), 0, []
    for first in range(0, len(x), size):
        rows = jnp.minimum(jnp.arange(first, first + size), len(x) - 1)  # the last block is filled up: one program
        state = _opened(kernel, potential, x[rows])
        for i, n_sweeps in enumerate(pieces):
            given = eqx.tree_at(lambda c: c.n_sweeps, controls, jnp.asarray(n_sweeps, jnp.int32))
            state = jax.block_until_ready(_moved(keys[rows], i, kernel, potential, state, given))
            progress((done := done + 1) / total)
        n_own = min(size, len(x) - first)
        found.append((np.asarray(state.x[:n_own]), np.asarray(state.u[:n_own])))
    moved, u = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return moved, u


@eqx.filter_jit
def _opened(kernel: Any, potential: Potential, x: Array) -> KernelState:
    return jax.vmap(lambda start: kernel.init(potential, start))(x)


@eqx.filter_jit
def _moved(keys: Array, piece: Any, kernel: Any, potential: Potential, state: KernelState, controls: Controls) -> Any:
    def one(key_walker: Key, walker: KernelState) -> KernelState:
        return kernel.step(jax.random.fold_in(key_walker, piece), potential, walker, controls)[0]

    return jax.vmap(one)(keys, state)


@eqx.filter_jit
def _potentials(potential: Potential, x: Array) -> Array:
    return jax.lax.map(potential, x, batch_size=BLOCK)
