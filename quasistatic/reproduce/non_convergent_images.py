"""Digits from a ConvNet in 60 Langevin steps: short runs against PCD of the same network and budget.

The network, the start (uniform noise) and the number of steps are those of the recipe `mnist-short-run`; the noise of
a step is 0.01 and the drift the gradient itself, after Nijkamp et al. PCD has the same updates, walkers and steps,
and starts in the box that the kernel keeps all walkers in. Samples are judged by the maximum mean discrepancy to test
images, beside that of two random halves of the test set, and PCD both by what its energy generates from the same noise
and by its own walkers. These are few and slow: followed at the final parameters, they are judged snapshot by snapshot
(of little bias and large error) and put together (an upper bound, since what has hardly moved counts as a copy).

Reference:
    Nijkamp, Hill, Zhu and Wu, NeurIPS 2019 (arXiv 1904.09770); Agoritsas et al., ICML 2023 (arXiv 2301.09428).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from quasistatic._keys import named
from quasistatic.cli.data import load_data
from quasistatic.cli.load import LoadedRun, load
from quasistatic.cli.quality import quality_run
from quasistatic.cli.replay import moved_on, replayed
from quasistatic.cli.training import train_run
from quasistatic.energies import starts
from quasistatic.errors import InputError, RunFailure
from quasistatic.evaluate.discrepancies import Discrepancy, discrepancy, squared_distances
from quasistatic.reproduce.rows import Row

SEED = 11
FACTOR = 3.0
QUICK = "data.digits=[0,1] data.pool=4 model.architecture=mnist run.n_steps=3 short_run.k=4 kernel.n_sweeps=4 "


def check(folder: Path, is_quick: bool) -> tuple[list[Row], dict[str, Any]]:
    """Rows and figures. Args: folder of the runs; a few updates of small images only."""
    n = 64 if is_quick else 5000
    runs = {method: trained(folder / f"convnet-{method}", method, is_quick) for method in ("short-run", "pcd")}
    short, kept = runs["short-run"], runs["pcd"]
    k, dataset = short.settings.kernel.n_sweeps, load_data(short.settings, with_test=True)
    # in the file the first half was written by others than the second: in that order the halves differ in law
    test = np.random.default_rng(SEED).permutation(np.asarray(dataset.test))
    key, begun = jax.random.key(SEED), time.perf_counter()
    images, _ = generated(key, short, n=min(n, 1000), steps=k)
    seconds = time.perf_counter() - begun
    if n > len(images):
        images = np.concatenate([images, generated(named(key, "more"), short, n=n - len(images), steps=k)[0]])
    n_kept = min(n, 1000)
    walkers = own_walkers(key, kept, n_snapshots=2 if is_quick else 16, apart=1 if is_quick else 20)
    noise, _ = generated(key, kept, n=n_kept, steps=k)
    half = min(len(test) // 2, n)
    widths = np.sqrt(np.median(squared_distances(test[:500], test[500:1000]))) * np.array([0.25, 0.5, 1.0])
    together = walkers.reshape(-1, walkers.shape[-1])
    found = {
        "two random halves of the test images": discrepancy(test[:half], test[half : 2 * half], widths),
        "short runs": discrepancy(images[:half], test[:half], widths),
        "PCD from the same noise": discrepancy(noise, test[: len(noise)], widths),
        "PCD's own walkers, snapshot by snapshot": of_few(walkers, test, widths),
        "PCD's own walkers together, an upper bound": discrepancy(together, test[: len(together)], widths),
    }
    floor, free = found["two random halves of the test images"].biased, 1e9
    ratio = found["short runs"].biased / floor
    least = found["PCD from the same noise"].squared
    margin = found["short runs"].squared / least if least > 0 else np.inf
    rows = [
        Row(f"ConvNet, squared discrepancy to test images: {name}", 0.0, mmd.squared, mmd.stderr, free)
        for name, mmd in found.items()
    ]
    rows += [
        _at_most(f"short runs over halves (roots, n = {half})", FACTOR, ratio, is_quick),
        _at_most("short runs over PCD from the same noise (squares)", 1.0, margin, is_quick),
        _at_most("seconds for 1,000 images", 30.0, seconds, is_quick),
        _at_most("minutes of training", 60.0, float(short.metrics["time_elapsed"][-1]) / 60, is_quick),
    ]
    if not is_quick:
        quality_run(short.path, is_json=False, which="averaged", data=None, n_chains=500, longest=4 * k, n_ages=3)
    sets = {"short runs": images, "PCD, same noise": noise, "PCD's walkers": together}
    figure = drawn(key, short, test, sets)
    return rows, {"non-convergent-images": figure}


def _at_most(quantity: str, bound: float, value: float, is_quick: bool) -> Row:
    """Row that holds when a number lies between 0 and a bound; in the quick size it is only shown."""
    half = 0.5 * bound
    return Row(f"{quantity}, at most {bound:g}", half, max(value, 0.0), None, 1e9 if is_quick else half)


def trained(out: Path, method: str, is_quick: bool) -> LoadedRun:
    """The run of one method, trained or gone on with where it is not finished."""
    settings = QUICK + "record.every=3 record.checkpoint_every=3 record.n_ages=1 record.n_probes=0 " if is_quick else ""
    if method == "pcd":
        # another method takes none of the keys of short runs
        settings = settings.replace("short_run.k=4 ", "")
        keys = "k start low high scale first_step first_temperature".split()
        settings += " ".join(f"short_run.{name}=none" for name in keys) + " training.method=pcd model.base=uniform"
        # walkers that stay move by the steps of 0.01 noise, about the geometric mean of those of a short run
        settings += " kernel.step_size=5e-5" + (" kernel.n_sweeps=4" if is_quick else " kernel.n_sweeps=60")
    try:
        code = train_run("mnist-short-run", settings.split(), out=out, is_resumed=out.exists())
    except RunFailure as failure:
        if method != "pcd":
            raise
        print(f"PCD stopped: {failure}; its last good state is judged", file=sys.stderr)
        return load(out)
    if code:
        raise InputError(f"the training in {out} was interrupted; run the same command again to go on with it")
    return load(out)


def generated(key: Any, run: LoadedRun, *, n: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples of the averaged model after so many steps from uniform noise, whatever the method of the run."""
    beta, model = run.settings.model.beta, run.averaged or run.model
    if run.settings.training.method == "short-run":
        return replayed(key, run, model, n=n, steps=steps, beta=beta)
    x = starts.box(-1.0, 1.0, run.n_units).sample_exact(named(key, "start"), 1.0, n)
    return moved_on(named(key, "move"), run, model, x, steps=steps, beta=beta)


def of_few(snapshots: np.ndarray, test: np.ndarray, widths: np.ndarray) -> Discrepancy:
    """Discrepancy of few walkers that were looked at several times: every snapshot against blocks of test images.

    Put together, snapshots of the same walkers would count as copies, which a discrepancy punishes. The standard error
    is that of a single comparison, for snapshots share the noise of their walkers: an upper bound.

    Args:
        snapshots: walkers by snapshot, shape `(n_snapshots, n, d)`.
        test: test images.
        widths: of the kernels.
    """
    n = snapshots.shape[1]
    blocks = [test[i : i + n] for i in range(0, len(test) - n + 1, n)][:20]
    found = [discrepancy(x, block, widths) for x in snapshots for block in blocks]
    squared, error, biased = (float(np.mean([getattr(d, name) for d in found])) for name in Discrepancy._fields)
    return Discrepancy(squared, error, biased)


def own_walkers(key: Any, run: LoadedRun, *, n_snapshots: int, apart: int) -> np.ndarray:
    """The walkers of a run and what they are after more sweeps at the final parameters, by snapshot.

    Args:
        key: random key.
        run: a run with persistent walkers.
        n_snapshots: how often to look.
        apart: updates whose sweeps lie between two looks.
    """
    x = jnp.asarray(run.checkpoint("last")["ensemble/x"])
    found, steps, beta = [np.asarray(x)], apart * run.settings.kernel.n_sweeps, run.settings.model.beta
    for i in range(n_snapshots - 1):
        key_own = jax.random.fold_in(key, i)
        moved, _ = moved_on(key_own, run, run.model, jnp.asarray(found[-1]), steps=steps, beta=beta)
        found.append(moved)
    return np.stack(found)


def drawn(key: Any, short: LoadedRun, test: np.ndarray, sets: dict[str, np.ndarray]) -> Any:
    """Images: test, after different times of the short runs, and the other sets."""
    from quasistatic.plots import grid_of, styled

    k = short.settings.kernel.n_sweeps
    shown = {"test images": test}
    shown |= {f"short runs, t = {t}": generated(key, short, n=48, steps=t)[0] for t in (k // 4, k // 2, 3 * k, 10 * k)}
    shown |= {f"{name}, t = k" if name == "short runs" else name: x for name, x in sets.items()}
    figure, axes = grid_of(2, 4)
    height, width = short.image_shape or (1, short.n_units)
    with styled():
        for ax, (name, x) in zip(axes, shown.items(), strict=True):
            tiles = np.full((48, height + 1, width + 1), 1.0)
            tiles[:, :-1, :-1] = x[:48].reshape(-1, height, width)
            ax.imshow(
                tiles.reshape(6, 8, height + 1, width + 1).transpose(0, 2, 1, 3).reshape(6 * (height + 1), -1),
                cmap="gray_r", vmin=-1, vmax=1,
            )  # fmt: skip
            ax.set_title(name, loc="left")
            ax.set_axis_off()
    return figure
