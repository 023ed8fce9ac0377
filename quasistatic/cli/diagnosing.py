"""The command `diagnose`: checks of the files, and the regime by chains of the final model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from quasistatic._keys import named
from quasistatic.cli.build import make_kernel
from quasistatic.cli.data import load_data
from quasistatic.cli.load import LoadedRun, load
from quasistatic.cli.replay import is_short, start_law
from quasistatic.cli.sampling import chosen_walkers
from quasistatic.cli.short_runs import with_schedule
from quasistatic.diagnose import Diagnosis, Evidence, Probe, diagnose
from quasistatic.energies import Potential, starts
from quasistatic.errors import InputError

N_ROWS = 512
RESTARTS = {"cd": "data", "short-run": "noise"}


def diagnose_run(folder: Path, *, is_json: bool, has_chains: bool = True, seed: int = 0) -> None:
    """Prints verdicts on a run.

    Args:
        folder: run folder.
        is_json: print JSON.
        has_chains: run chains of the final model to tell its regime.
        seed: of these chains.
    """
    run = load(folder)
    probe, why_not = None, "chains were not asked for"
    if has_chains:
        try:
            probe = probe_of(run, seed=seed)
        except InputError as error:  # the files can still be judged; a damaged one is named below
            why_not = str(error)
    found = diagnose(run, probe)
    if is_json:
        print(json.dumps(found.as_json(), indent=1))
    else:
        _print(found, why_not)


def probe_of(run: LoadedRun, *, seed: int = 0) -> Probe:
    """What chains of the final model start from.

    Args:
        run: a run folder with a checkpoint and data that can be read.
        seed: of noise, choice and chains.

    Raises:
        InputError: there is no checkpoint, or model or data cannot be had.
    """
    archive = run.checkpoint("last")
    energy = run.model_of("last")
    data = np.asarray(load_data(run.settings).train[:N_ROWS], np.float64)
    walkers, beta = chosen_walkers(jax.random.key(seed), run, N_ROWS, "last")
    key_noise = named(jax.random.key(seed), "noise")
    law = start_law(run) if is_short(run) else starts.noise(energy, data.shape[1])
    noise = np.asarray(law.sample_exact(key_noise, 1.0, N_ROWS), np.float64).reshape(N_ROWS, *data.shape[1:])
    n_sweeps = int(np.asarray(archive["controls/n_sweeps"])) if "controls/n_sweeps" in archive else 1
    return Probe(
        Potential(energy, jax.numpy.asarray(beta)),
        with_schedule(run.settings, make_kernel(run.settings, energy)),
        data,
        noise,
        np.asarray(walkers, np.float64),
        n_sweeps,
        RESTARTS.get(run.settings.training.method),
        run.settings.kernel.step_size,
        seed,
    )


def _print(found: Diagnosis, why_not: str) -> None:
    at = "" if found.step is None else f", step {found.step:,}"
    print(f"{found.run}: {found.result or 'running or interrupted'}{at}: {found.message}")
    width = max(len(check.name) for check in found.checks)
    for check in found.checks:
        verdict = {True: "ok", False: "LOOK", None: "-"}[check.ok]
        print(f"  {verdict:<5}{check.name:<{width}}  {_number(check.value):>8}  {check.note}")
    if found.regime is None:
        print(f"  regime: not determined; {found.reason}: {why_not}")
    else:
        print(f"  regime: {found.regime.replace('_', ' ')}")
    for item in found.evidence:
        print(f"    {_line(item)}")
    for advice in found.advice:
        Console(highlight=False, soft_wrap=True).print(f"  advice: {advice}", markup=False)


def _line(item: Evidence) -> str:
    mark = "*" if item.regime else " "
    error = "" if item.stderr is None else f" ± {item.stderr:.2g}"
    limit = "" if item.threshold is None else f" (threshold {item.threshold:.3g})"
    return f"{mark} {item.name} {_number(item.value) or '-'}{error}{limit}: {item.words}"


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.3g}"
