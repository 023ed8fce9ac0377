"""The command `sample`: the stored walkers, moved on, as arrays or pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._keys import named
from quasistatic._types import Key
from quasistatic.cli.build import fits_memory, make_kernel
from quasistatic.cli.load import LoadedRun, load
from quasistatic.cli.replicas import METHODS, describe, draw_on_ladder
from quasistatic.energies import AbstractEnergy, Potential
from quasistatic.errors import InputError
from quasistatic.kernels import AbstractKernel
from quasistatic.thermo.controls import Controls

FORMATS = (".npz", ".npy", ".png")
PIXELS = 800  # a picture is enlarged to about this width
MAX_SHOWN = 400


def sample_run(
    folder: Path,
    *,
    n: int,
    steps: int,
    out: Path | None,
    seed: int,
    is_json: bool,
    which: str,
    method: str = "walkers",
    n_rungs: int = 10,
    target: float = 0.3,
) -> None:
    """Draws samples and writes them.

    Args:
        folder: run folder.
        n: number of samples.
        steps: sweeps of the run's kernel from its stored walkers.
        out: file; None for `samples.npz` in the run folder.
        seed: seed of choice and moves.
        is_json: print JSON.
        which: parameters.
        method: `"walkers"`, `"ptt"` or `"tempering"` (see `replicas`).
        n_rungs: temperatures of `tempering`.
        target: acceptance between the rungs of `ptt`.

    Raises:
        InputError: a bad option, or a run without what is asked for.
    """
    run = load(folder)
    _check_method(method, n_rungs, target)
    path = run.path / "samples.npz" if out is None else out
    _check(run, n, steps, seed, path)
    energy = run.model_of(which)
    kernel = make_kernel(run.settings, energy)
    key, about = jax.random.key(seed), {}
    x: Any
    u: Any
    if method == "walkers":
        x, u = draw(key, run, kernel, energy, n=n, steps=steps, which=which)
    else:
        start, beta = chosen_walkers(named(key, "choose"), run, n, which)
        x, u, about = draw_on_ladder(
            key, run, kernel, energy, start, method=method, n=n, steps=steps, beta=beta, which=which, n_rungs=n_rungs,
            target=target,
        )  # fmt: skip
    _write(path, np.asarray(x), np.asarray(u), run.image_shape)
    summary = {
        "run": str(run.path),
        "path": str(path),
        "n": n,
        "steps": steps,
        "which": which,
        "seed": seed,
        "shape": list(x.shape),
        "mean": float(jnp.mean(x)),
        "mean_potential": float(jnp.mean(u)),
        **about,
    }
    if is_json:
        print(json.dumps(summary, indent=1))
    elif about:
        print(f"{n:,} samples, {steps:,} rounds of replica exchange ({which} parameters): {path}")
        print("\n".join(describe(about)))
    else:
        print(f"{n:,} samples, {steps:,} sweeps from the stored walkers ({which} parameters): {path}")


def draw(
    key: Key,
    run: LoadedRun,
    kernel: AbstractKernel,
    energy: AbstractEnergy,
    *,
    n: int,
    steps: int,
    which: str = "last",
) -> tuple[Float[Array, "n ..."], Float[Array, " n"]]:
    """Samples and their reduced potentials.

    Walkers are chosen by their weights (each once while there are enough of equal weight), then moved independently.

    Args:
        key: random key.
        run: run whose walkers to continue.
        kernel: kernel that moves them.
        energy: the model.
        n: number of samples.
        steps: sweeps.
        which: checkpoint the walkers come from.
    """
    walkers, beta = chosen_walkers(named(key, "choose"), run, n, which)
    controls = Controls.of(beta=beta, n_sweeps=steps, step_size=run.settings.kernel.step_size)
    return _moved(named(key, "move"), kernel, Potential(energy, controls.beta), walkers, controls)


def chosen_walkers(key: Key, run: LoadedRun, n: int, which: str) -> tuple[Float[Array, "n ..."], float]:
    """Stored walkers by their weights, and the beta they were at."""
    archive = run.checkpoint("best" if which == "best" else "last")
    walkers = jnp.asarray(archive["ensemble/x"])
    if run.settings.training.method == "jarzynski":
        log_weight = jnp.asarray(archive["ensemble/account/log_weight/hi"])
        chosen = jax.random.categorical(key, log_weight, shape=(n,))
    elif n <= len(walkers):
        chosen = jax.random.permutation(key, len(walkers))[:n]
    else:
        chosen = jax.random.randint(key, (n,), 0, len(walkers))
    beta = float(np.asarray(archive["controls/beta"])) if "controls/beta" in archive else 1.0
    return walkers[chosen], beta


@eqx.filter_jit
def _moved(key: Key, kernel: Any, potential: Potential, x: Array, controls: Controls) -> tuple[Array, Array]:
    def one(key_walker: Key, start: Array) -> tuple[Array, Array]:
        state, _, _ = kernel.step(key_walker, potential, kernel.init(potential, start), controls)
        return state.x, state.u

    return jax.vmap(one)(jax.random.split(key, len(x)), x)


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
