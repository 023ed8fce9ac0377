"""The command `sample`: stored walkers moved on, or the trained short runs made again, as arrays or pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._keys import named
from quasistatic._types import Key
from quasistatic.cli.build import fits_memory, make_kernel, placeholder
from quasistatic.cli.live import Steps
from quasistatic.cli.load import LoadedRun, load
from quasistatic.cli.replicas import METHODS, describe, draw_on_ladder
from quasistatic.cli.short_runs import start_of, with_schedule
from quasistatic.energies import AbstractEnergy, Potential, clamped
from quasistatic.energies.starts import as_arrays
from quasistatic.errors import InputError
from quasistatic.kernels import KernelState
from quasistatic.run import Archive
from quasistatic.thermo.controls import Controls
from quasistatic.train.checkpoint import fill

FORMATS = (".npz", ".npy", ".png")
PIXELS = 800  # a picture is enlarged to about this width
MAX_SHOWN = 400
N_STEPS = 1000  # from stored walkers
BLOCK, PIECE = 256, 100  # walkers and sweeps between two looks at the progress


def sample_run(
    folder: Path,
    *,
    n: int,
    steps: int | None,
    out: Path | None,
    seed: int,
    is_json: bool,
    which: str,
    method: str = "walkers",
    n_rungs: int = 10,
    target: float = 0.3,
    clamp: Sequence[str] = (),
) -> None:
    """Draws samples and writes them.

    Args:
        folder: run folder.
        n: number of samples.
        steps: sweeps of the run's kernel; None for the length of the trained runs, or 1000 from stored walkers.
        out: file; None for `samples.npz` in the run folder.
        seed: seed of choice and moves.
        is_json: print JSON.
        which: parameters.
        method: `"walkers"`, `"ptt"` or `"tempering"` (see `replicas`).
        n_rungs: temperatures of `tempering`.
        target: acceptance between the rungs of `ptt`.
        clamp: coordinates to hold, see `clamps_of`.

    Raises:
        InputError: a bad option, or a run without what is asked for.
    """
    run = load(folder)
    _check_method(method, n_rungs, target)
    path = run.path / "samples.npz" if out is None else out
    is_short = run.settings.training.method == "short-run"
    if steps is None:
        steps = run.settings.kernel.n_sweeps if is_short else N_STEPS
    _check(run, n, steps, seed, path)
    held = clamps_of(clamp, run.n_units)
    energy = run.model_of(which)
    key, about = jax.random.key(seed), {}
    source = f"the start of its runs ({run.settings.short_run.start})" if is_short else "the stored walkers"
    x: Any
    u: Any
    if method == "walkers":
        with Steps(f"{run.path.name}: sampling") as progress:
            x, u = draw(key, run, energy, n=n, steps=steps, which=which, held=held, progress=progress)
    elif len(held[0]):
        raise InputError(f"--clamp goes with --method walkers, not {method}: its replicas cannot hold coordinates")
    else:
        source = "the stored walkers"
        start, beta = chosen_walkers(named(key, "choose"), run, n, which)
        x, u, about = draw_on_ladder(
            key, run, make_kernel(run.settings, energy), energy, start, method=method, n=n, steps=steps,
            beta=beta, which=which, n_rungs=n_rungs, target=target,
        )  # fmt: skip
    _write(path, np.asarray(x), np.asarray(u), run.image_shape)
    summary = {
        "run": str(run.path),
        "path": str(path),
        "n": n,
        "steps": steps,
        "which": which,
        "seed": seed,
        "from": source,
        "n_clamped": len(held[0]),
        "shape": list(x.shape),
        "mean": float(np.mean(x)),
        "mean_potential": float(np.mean(u)),
        **about,
    }
    if is_json:
        print(json.dumps(summary, indent=1))
    elif about:
        print(f"{n:,} samples, {steps:,} rounds of replica exchange ({which} parameters): {path}")
        print("\n".join(describe(about)))
    else:
        clamped_too = f", {len(held[0]):,} values held" if len(held[0]) else ""
        print(f"{n:,} samples, {steps:,} sweeps from {source} ({which} parameters{clamped_too}): {path}")


def draw(
    key: Key,
    run: LoadedRun,
    energy: AbstractEnergy,
    *,
    n: int,
    steps: int,
    which: str = "last",
    held: tuple[np.ndarray, np.ndarray] | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
    """Samples and their reduced potentials.

    Of a run of the method `short-run` they are made as its walkers were: from the stored law of the start, by the same
    kernel and schedule. Of any other run stored walkers are chosen by their weights (each once while there are enough
    of equal weight), then moved independently.

    Args:
        key: random key.
        run: run whose walkers, or whose runs, to continue.
        energy: the model.
        n: number of samples.
        steps: sweeps.
        which: checkpoint the walkers come from.
        held: positions and values of clamped coordinates.
        progress: told the fraction that is done.
    """
    archive = run.checkpoint("best" if which == "best" else "last")
    config = run.settings
    key_choose, key_move = named(key, "choose"), named(key, "move")
    if config.training.method == "short-run":
        start = as_arrays(start_of(config, energy, placeholder(config, run.n_units)))
        x = fill(start, archive, "regulator_states/0").sample_exact(key_choose, 1.0, n)
    else:
        x = _chosen(key_choose, run, archive, n)
    whole, free, model = None, None, energy
    if held is not None and len(held[0]):
        whole = np.array(x)
        whole[:, held[0]] = held[1]
        model, free = clamped(energy, run.n_units, *held)
        x = x[:, free]
    kernel = with_schedule(config, make_kernel(config, model))
    controls = Controls.of(beta=_beta(archive), n_sweeps=steps, step_size=config.kernel.step_size)
    moved, u = _in_blocks(key_move, kernel, Potential(model, controls.beta), x, controls, steps, progress)
    if whole is None or free is None:
        return moved, u
    whole[:, free] = moved
    return whole, np.asarray(_potentials(Potential(energy, controls.beta), jnp.asarray(whole)))


def chosen_walkers(key: Key, run: LoadedRun, n: int, which: str) -> tuple[Float[Array, "n ..."], float]:
    """Stored walkers, by their weights where they have any, and the beta they were at."""
    archive = run.checkpoint("best" if which == "best" else "last")
    return _chosen(key, run, archive, n), _beta(archive)


def _beta(archive: Archive) -> float:
    """Beta that the stored walkers were at."""
    return float(np.asarray(archive["controls/beta"])) if "controls/beta" in archive else 1.0


def _chosen(key: Key, run: LoadedRun, archive: Archive, n: int) -> Array:
    """Stored walkers, by their weights where they have any."""
    walkers = jnp.asarray(archive["ensemble/x"])
    if run.settings.training.method == "jarzynski":
        log_weight = jnp.asarray(archive["ensemble/account/log_weight/hi"])
        return walkers[jax.random.categorical(key, log_weight, shape=(n,))]
    if n <= len(walkers):
        return walkers[jax.random.permutation(key, len(walkers))[:n]]
    return walkers[jax.random.randint(key, (n,), 0, len(walkers))]


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


def _check_method(method: str, n_rungs: int, target: float) -> None:
    if method not in METHODS:
        raise InputError(f"--method must be one of {', '.join(METHODS)}, got {method!r}")
    if not 2 <= n_rungs <= 1000:
        raise InputError(f"--rungs must be between 2 and 1000, got {n_rungs}")
    if not 0 < target < 1:
        raise InputError(f"--acceptance must lie between 0 and 1, got {target}")


def _check(run: LoadedRun, n: int, steps: int, seed: int, path: Path) -> None:
    if not 1 <= n <= 10**8:
        raise InputError(f"--n must be between 1 and 100000000, got {n}")
    if not 0 <= steps <= 2**31 - 1:
        raise InputError(f"--steps must be between 0 and {2**31 - 1}, got {steps}")
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed must be between 0 and {2**32 - 1}, got {seed}")
    if path.suffix not in FORMATS:
        raise InputError(f"samples are written as {', '.join(FORMATS)}, got {path.name!r}; change --out")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"cannot write {path}: {path if path.is_dir() else path.parent} is no place for a file")
    if path.suffix == ".png" and run.image_shape is None and run.n_units != 2:
        raise InputError("a .png needs images or points in the plane, and this run has neither; use .npz")
    fits_memory(8 * n * (4 * run.n_units + 2 * run.settings.model.n_hidden), f"--n = {n}")


def _write(path: Path, x: np.ndarray, u: np.ndarray, image_shape: tuple[int, int] | None) -> None:
    try:
        if path.suffix == ".npy":
            np.save(path, x)
        elif path.suffix == ".npz":
            np.savez(path, x=x, potential=u)
        elif image_shape is not None:
            _picture(path, x[:MAX_SHOWN].reshape(-1, *image_shape))
        else:
            _scatter(path, x)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def _picture(path: Path, images: np.ndarray) -> None:
    """Images side by side, dark on light, enlarged without smoothing."""
    from matplotlib.image import imsave

    n, height, width = images.shape
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    low, high = float(images.min()), float(images.max())
    scaled = (images - low) / (high - low if high > low else 1.0)
    canvas = np.zeros((rows * (height + 1) + 1, columns * (width + 1) + 1))
    for i, image in enumerate(scaled):
        top, left = (i // columns) * (height + 1) + 1, (i % columns) * (width + 1) + 1
        canvas[top : top + height, left : left + width] = image
    factor = max(1, round(PIXELS / canvas.shape[1]))
    imsave(path, np.kron(1 - canvas, np.ones((factor, factor))), cmap="gray", vmin=0, vmax=1)


def _scatter(path: Path, x: np.ndarray) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(x[:, 0], x[:, 1], s=4, alpha=0.5, linewidths=0)
    axes.set_aspect("equal")
    axes.set(xlabel="x1", ylabel="x2", title=f"{len(x):,} samples")
    figure.savefig(path, dpi=160)
