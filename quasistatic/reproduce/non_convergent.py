"""Training with short runs: closed forms, a Boltzmann machine through the command line, RBMs and a ConvNet on MNIST.

1. Tables and figures of the solvable models (`short_run_theory`).
2. A fully visible Boltzmann machine of three spins learns the exact law of a teacher by runs of `k` sweeps from noise,
   through the same command that users call; what it learns is not the teacher, but known to ten digits.
3. RBMs of 784 x 500 units learn MNIST by runs of `k` = 1, 10, 100 sweeps and by PCD of the same `k`: quality is best at
   the sampling time `k` where `k` is shorter than the relaxation, and nowhere else in particular where it is not.
4. Ten small RBMs whose regime enumeration knows, and what `diagnose` calls them (`regimes`).
5. A ConvNet generates digits in 60 Langevin steps (`non_convergent_images`).

Trainings are run folders in `runs/non-convergent` of the working folder; an interrupted reproduction goes on with them.

Reference:
    Agoritsas, Catania, Decelle and Seoane, ICML 2023 (arXiv 2301.09428); Decelle, Furtlehner and Seoane, NeurIPS 2021
    (arXiv 2105.13889).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from quasistatic._types import Key
from quasistatic.cli.load import load
from quasistatic.cli.quality import quality_run
from quasistatic.cli.training import train_run
from quasistatic.errors import InputError
from quasistatic.reproduce import non_convergent_images, regimes, short_run_theory
from quasistatic.reproduce.rows import SIGMAS, Row

FOLDER = Path("runs") / "non-convergent"

COUPLINGS = {  # h_0, h_1, h_2, J_01, J_02, J_12 learned by k sequential sweeps from noise: exact enumeration
    1: (0.2417567341, -0.1151325624, 0.0, 0.7986720601, -0.5, 0.3),
    2: (0.2078082595, -0.1020906175, 0.0, 0.8004032149, -0.5, 0.3),
}
TEACHER = (0.2, -0.1, 0.0, 0.8, -0.5, 0.3)
UNJUDGED = 1e9
"""Tolerance of numbers that are printed beside others."""


class Size(NamedTuple):
    """How large the reproduction is.

    Attributes:
        ks: sweeps of the RBMs' runs.
        source: data of the RBMs.
        n_hidden: their hidden units.
        n_steps: their updates.
        rate: their learning rate.
        n_walkers: walkers and batch.
        longest: longest sampling time.
        n_chains: chains of the quality curves.
        n_seeds: trainings of the Boltzmann machine.
        spin_steps: its updates.
        spin_ks: sweeps of its runs.
    """

    ks: tuple[int, ...]
    source: str
    n_hidden: int
    n_steps: int
    rate: float
    n_walkers: int
    longest: int
    n_chains: int
    n_seeds: int
    spin_steps: int
    spin_ks: tuple[int, ...]


FULL = Size((1, 10, 100), "mnist", 500, 6000, 0.1, 200, 1000, 1000, 4, 3000, (1, 2))
QUICK = Size((10,), "digits", 50, 400, 0.3, 100, 200, 200, 2, 300, (1,))


def check(key: Key, is_quick: bool = False) -> tuple[list[Row], dict[str, Any]]:
    """All rows, and the figures.

    Args:
        key: not used: runs have the seeds of their recipes.
        is_quick: small models and few updates, in a temporary folder, to see that everything works.
    """
    del key
    size = QUICK if is_quick else FULL
    rows = short_run_theory.rows(is_quick)
    figures: dict[str, Any] = {} if is_quick else short_run_theory.drawings()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))  # what trainings say is no result
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if is_quick else FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        rows += spins(folder, size)
        curves = {name: machine(folder, name, size) for name in names(size)}
        rows += [row for name, found in curves.items() for row in machine_rows(name, found, is_judged=not is_quick)]
        rows += regimes.check(folder, n_steps=400, names=regimes.QUICK) if is_quick else regimes.check(folder)
        figures |= {"non-convergent-rbm": drawn(curves)}
        more, images = non_convergent_images.check(folder, is_quick)
    return rows + more, figures | images


def teacher_rows(n: int) -> np.ndarray:
    """`n` configurations of three spins in the proportions of the teacher, to the nearest count."""
    x = np.array(list(itertools.product([-1.0, 1.0], repeat=3)))
    pairs = x[:, [0, 0, 1]] * x[:, [1, 2, 2]]
    weight = np.exp(np.concatenate([x, pairs], axis=1) @ np.array(TEACHER))
    return np.repeat(x, np.round(n * weight / weight.sum()).astype(int), axis=0)


def spins(folder: Path, size: Size) -> list[Row]:
    """Couplings of the Boltzmann machine, means over seeds, beside the enumerated ones."""
    rows, data = [], folder / "teacher.npz"
    x = teacher_rows(20_000)
    np.savez(data, train=x, heldout=x[:: len(x) // 100])
    for k in size.spin_ks:
        learned = []
        for seed in range(size.n_seeds):
            out = folder / f"spins-rdm{k}-seed{seed}"
            settings = (
                f"data.source=file model.kind=pairwise model.units=spin kernel.kind=gibbs training.method=short-run "
                f"short_run.k={k} record.n_probes=0 run.n_steps={size.spin_steps} run.seed={seed} "
                f"training.n_walkers=4000 training.resample_below=0.5 optimiser.rate=0.2 optimiser.decay_from=0.2 "
                f"auditor.n_groups=0 record.every={size.spin_steps} record.n_ages=1 "
                f"record.checkpoint_every={size.spin_steps}"
            )
            trained("ising", settings, out, data=data)
            model: Any = load(out).model
            learned.append(np.concatenate([np.asarray(model.fields), np.asarray(model.couplings)]))
        spread = np.sqrt(np.mean(np.var(learned, axis=0, ddof=1)))  # pooled: a few seeds say little one by one
        stderr = float(spread / np.sqrt(size.n_seeds))
        for name, expected, found in zip(
            ("h_0", "h_1", "h_2", "J_01", "J_02", "J_12"), COUPLINGS[k], np.mean(learned, axis=0), strict=True
        ):
            quantity = f"Boltzmann machine, {name} learned by runs of k = {k}"
            rows.append(Row(quantity, expected, float(found), stderr, SIGMAS * stderr + 2e-4))
    return rows


def names(size: Size) -> list[str]:
    """Runs of the RBMs."""
    return [f"{method}{k}" for method in ("rdm", "pcd") for k in size.ks]


def machine(folder: Path, name: str, size: Size) -> dict[str, Any]:
    """Quality against sampling time of one RBM, trained first where that is not done yet."""
    method, k = name[:3], int(name[3:])
    out = folder / f"{size.source}-{name}"
    settings = (
        f"data.source={size.source} data.batch_size={size.n_walkers} model.n_hidden={size.n_hidden} "
        f"run.n_steps={size.n_steps} training.n_walkers={size.n_walkers} training.centred=true "
        f"optimiser.kind=sgd optimiser.rate={size.rate} optimiser.decay_from=0.5 optimiser.schedule=linear "
        f"optimiser.ema=0 auditor.n_groups=0 record.every={size.n_steps // 10} record.n_ages=8 "
        f"record.checkpoint_every={size.n_steps // 10} "
    )
    if method == "rdm":
        settings += f"training.method=short-run short_run.k={k}"
    else:
        settings += f"training.method=pcd kernel.n_sweeps={k}"
    trained("digits-rbm", settings, out)
    quality_run(
        out, is_json=False, which="last", data=None, n_chains=size.n_chains, longest=max(size.longest, 2 * k), n_ages=4
    )
    return json.loads((out / "quality.json").read_text(encoding="utf-8"))


def machine_rows(name: str, found: dict[str, Any], *, is_judged: bool) -> list[Row]:
    """Where quality is best and what is left of it later; judged for k = 10 by runs and k = 100 by PCD."""
    k, times, last = found["k"], found["times"], list(found["ages"].values())[-1]
    error = np.asarray(last["scores"]["second_error"], float)
    at, best = times.index(k), int(times[int(np.argmin(error))])
    decay = float(error[-1] / error[at])
    label = f"{'runs' if name.startswith('rdm') else 'PCD'} of k = {k}"
    is_rdm10, is_pcd100 = (is_judged and name == wanted for wanted in ("rdm10", "pcd100"))
    time, ratio = (
        f"{label}: sampling time with the least error of second moments",
        f"{label}: that error at {times[-1]}",
    )
    rows = [
        Row(time, 10.5 if is_rdm10 else float(k), float(best), None, 3.5 if is_rdm10 else UNJUDGED),
        Row(f"{ratio} over that at k", 1.0, decay, None, UNJUDGED),
    ]
    if is_rdm10:
        rows.append(Row(f"{ratio} over that at k, at least 3 (cut there)", 3.0, min(decay, 3.0), None, 0.0))
    if is_pcd100:
        rows.append(Row(f"{ratio} over that at k, at most 3 (cut at 1)", 1.0, max(decay, 1.0), None, 2.0))
    crossing = last["gap"]["crossing"]
    if name.startswith("rdm") and crossing is not None:
        rows.append(
            Row(f"{label}: time at which the mean potential meets that of the data", float(k), crossing, None, UNJUDGED)
        )
    return rows


def drawn(curves: dict[str, dict[str, Any]]) -> Any:
    """Errors of the last age against sampling time, one line per run."""
    from quasistatic.plots import grid_of, styled

    figure, axes = grid_of(2, 2)
    ks = sorted({found["k"] for found in curves.values()})
    scores = {"second_error": "second moments", "aats_error": "nearest neighbours", "mmd": "kernel discrepancy"}
    with styled():
        for name, found in curves.items():
            last, times = list(found["ages"].values())[-1], np.asarray(found["times"])
            ink = ["#1F6FB4", "#4E8F3A", "#C8501E"][ks.index(found["k"]) % 3]
            style: dict[str, Any] = dict(color=ink, ls="-" if name.startswith("rdm") else (0, (4, 2)), lw=1.2)
            for ax, score in zip(axes, scores, strict=False):
                values = np.asarray(last["scores"][score], float)
                ax.loglog(times, values, label=f"{'runs' if name[0] == 'r' else 'PCD'}, k = {found['k']}", **style)
                ax.plot(found["k"], values[times.tolist().index(found["k"])], "o", color=ink, ms=4)
            axes[3].plot(times, last["gap"]["value"], **style)
            axes[3].set_xscale("log")
        axes[3].axhline(0, color="#444444", lw=0.8)
        for ax, title in zip(axes, [*(f"error of {t}" for t in scores.values()), "energy gap [nats]"], strict=True):
            ax.set_title(title, loc="left")
            ax.set_xlabel("sampling time [sweeps]; points: training's k")
        axes[0].legend(loc="best")
    return figure


def trained(recipe: str, settings: str, out: Path, *, data: Path | None = None) -> None:
    """A finished run in a folder: trained, or gone on with, where it is not finished."""
    is_new = not out.exists()
    given = None if data is None else str(data)
    code = train_run(recipe, settings.split(), out=out, is_resumed=not is_new, data=given)
    if code:
        raise InputError(f"the training in {out} was interrupted; run the same command again to go on with it")
