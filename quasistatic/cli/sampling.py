"""The command `sample`: stored walkers moved on, or the trained short runs made again, as arrays or pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._keys import named
from quasistatic._types import Key
from quasistatic.cli.build import make_kernel
from quasistatic.cli.data import fits_memory
from quasistatic.cli.live import Steps
from quasistatic.cli.load import LoadedRun, load
from quasistatic.cli.replay import clamps_of, is_short, moved_on, replayed
from quasistatic.cli.replicas import METHODS, describe, draw_on_ladder
from quasistatic.cli.stacks import at_model
from quasistatic.errors import InputError

FORMATS = (".npz", ".npy", ".png")
PIXELS = 800  # a picture is enlarged to about this width
MAX_SHOWN = 400
N_STEPS = 1000  # from stored walkers


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
    label: int | None = None,
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
        clamp: coordinates to hold, see `replay.clamps_of`.
        label: class to hold, of runs with `data.labels`.

    Raises:
        InputError: a bad option, or a run without what is asked for.
    """
    run = load(folder)
    _check_method(method, n_rungs, target)
    path = run.path / "samples.npz" if out is None else out
    steps = (run.settings.kernel.n_sweeps if is_short(run) else N_STEPS) if steps is None else steps
    _check(run, n, steps, seed, path)
    energy = run.model_of(which)
    held, key = clamps_of([*clamp, *_label(run, label)], run.n_units), jax.random.key(seed)
    source = f"the start of its runs ({run.settings.short_run.start})" if is_short(run) else "the stored walkers"
    about: dict[str, Any] = {}
    n_starts = n
    x: Any
    u: Any
    if method != "walkers":
        if len(held[0]):
            raise InputError(f"--clamp goes with --method walkers, not {method}: its replicas cannot hold coordinates")
        source = "the stored walkers"
        x, beta = chosen_walkers(named(key, "choose"), run, n, which)
        with Steps(run.path.name) as progress:
            x, u, about = draw_on_ladder(
                key, run, make_kernel(run.settings, energy), energy, x, method=method, n=n, steps=steps, beta=beta,
                which=which, n_rungs=n_rungs, target=target, progress=progress,
            )  # fmt: skip
    else:
        with Steps(f"{run.path.name}: sampling") as progress:
            options: Any = dict(steps=steps, held=held, progress=progress)
            if is_short(run):
                x, u = replayed(key, run, energy, n=n, which=which, beta=stored_beta(run, which), **options)
            else:
                x, beta = chosen_walkers(named(key, "choose"), run, n, which)
                n_starts = len(run.checkpoint("best" if which == "best" else "last")["ensemble/x"])
                x, u = moved_on(named(key, "move"), run, energy, x, beta=beta, **options)
    _write(path, np.asarray(x), np.asarray(u), run.colour_shape or run.image_shape)
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
        # as of independent chains, at most as many as there were walkers to start from
        "mean_potential_stderr": float(np.std(u, ddof=1) / math.sqrt(min(n, n_starts))) if n > 1 else None,
        **about,
    }
    if is_json:
        print(json.dumps(summary, indent=1))
    elif about:
        print(f"{n:,} samples, {about['rounds']:,} rounds of replica exchange ({which} parameters): {path}")
        print("\n".join(describe(about)))
    else:
        clamped_too = f", {len(held[0]):,} values held" if len(held[0]) else ""
        print(f"{n:,} samples, {steps:,} sweeps from {source} ({which} parameters{clamped_too}): {path}")


def _label(run: LoadedRun, label: int | None) -> list[str]:
    """The clamps that hold a class."""
    if label is None:
        return []
    n, size = run.n_units, run.n_labels
    if not size:
        raise InputError(f"{run.path} was trained without labels; set data.labels = true when training")
    if not 0 <= label < size:
        raise InputError(f"--label must lie between 0 and {size - 1}, got {label}")
    return [f"{n - size}:{n}=" + ",".join("1" if c == label else "0" for c in range(size))]


def stored_beta(run: LoadedRun, which: str) -> float:
    """Beta that the stored walkers were at."""
    archive = run.checkpoint("best" if which == "best" else "last")
    return float(np.asarray(archive["controls/beta"])) if "controls/beta" in archive else 1.0


def chosen_walkers(key: Key, run: LoadedRun, n: int, which: str) -> tuple[Float[Array, "n ..."], float]:
    """Stored walkers by their weights (each once while there are enough of equal weight), and the beta they were at.

    Args:
        key: random key.
        run: run whose walkers to take.
        n: how many.
        which: checkpoint they come from.
    """
    archive = run.checkpoint("best" if which == "best" else "last")
    walkers = jnp.asarray(at_model(run.settings, archive["ensemble/x"]))
    if run.settings.training.method == "jarzynski":
        log_weight = jnp.asarray(archive["ensemble/account/log_weight/hi"])
        log_z = jnp.asarray(archive["ensemble/log_z/hi"])  # of the groups, which weigh by it
        log_weight += jnp.repeat(log_z - jnp.max(log_z), len(walkers) // len(log_z))
        chosen = jax.random.categorical(key, log_weight, shape=(n,))
    elif n <= len(walkers):
        chosen = jax.random.permutation(key, len(walkers))[:n]
    else:
        chosen = jax.random.randint(key, (n,), 0, len(walkers))
    return walkers[chosen], stored_beta(run, which)


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
    if path.suffix == ".png" and run.image_shape is None and run.colour_shape is None and run.n_units != 2:
        raise InputError("a .png needs images or points in the plane, and this run has neither; use .npz")
    fits_memory(8 * n * (4 * run.n_units + 2 * run.settings.model.n_hidden), f"--n = {n}")


def _write(path: Path, x: np.ndarray, u: np.ndarray, image_shape: tuple[int, ...] | None) -> None:
    try:
        if path.suffix == ".npy":
            np.save(path, x)
        elif path.suffix == ".npz":
            np.savez(path, x=x, potential=u)
        elif image_shape is not None:
            shown = x[:MAX_SHOWN].reshape(min(len(x), MAX_SHOWN), -1)[:, : math.prod(image_shape)]
            _picture(path, shown.reshape(-1, *image_shape))
        else:
            _scatter(path, x)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def _picture(path: Path, images: np.ndarray) -> None:
    """Images side by side, grey ones dark on light, enlarged without smoothing."""
    from matplotlib.image import imsave

    n, height, width, *channels = images.shape
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    low, high = float(images.min()), float(images.max())
    scaled = (images - low) / (high - low if high > low else 1.0)
    canvas = np.zeros((rows * (height + 1) + 1, columns * (width + 1) + 1, *channels))
    for i, image in enumerate(scaled):
        top, left = (i // columns) * (height + 1) + 1, (i % columns) * (width + 1) + 1
        canvas[top : top + height, left : left + width] = image
    factor = max(1, round(PIXELS / canvas.shape[1]))
    canvas = canvas if channels else 1 - canvas
    imsave(path, canvas.repeat(factor, 0).repeat(factor, 1), cmap="gray", vmin=0, vmax=1)


def _scatter(path: Path, x: np.ndarray) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(x[:, 0], x[:, 1], s=4, alpha=0.5, linewidths=0)
    axes.set_aspect("equal")
    axes.set(xlabel="x1", ylabel="x2", title=f"{len(x):,} samples")
    figure.savefig(path, dpi=160)
