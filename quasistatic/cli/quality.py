"""The command `quality`: what a run's models generate after so many sweeps from noise, at every stored age.

Writes `quality.json` and the figure `quality.png` (and `.svg`) into the run folder. Ages that were measured with the
same settings are kept, so an interrupted command goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from quasistatic._keys import named
from quasistatic.cli.build import make_kernel
from quasistatic.cli.data import load_data
from quasistatic.cli.folders import check_same_data, with_data
from quasistatic.cli.live import Steps
from quasistatic.cli.load import LoadedRun, load
from quasistatic.cli.replay import is_short, start_law
from quasistatic.cli.short_runs import with_schedule
from quasistatic.energies import AbstractTractable, Potential, starts, units
from quasistatic.errors import InputError
from quasistatic.evaluate.discrepancies import Reference
from quasistatic.evaluate.relaxation import mixing_time
from quasistatic.evaluate.sampling_time import quality_curve, times_around
from quasistatic.thermo.controls import Controls
from quasistatic.train.checkpoint import write_text

FILE = "quality.json"
SEED = 20240731
SHOWN = ("second_error", "third_error", "spectrum_error", "energy_error", "aats_error", "entropy_error", "mmd")


def quality_run(
    folder: Path, *, is_json: bool, which: str, data: str | None, n_chains: int, longest: int | None, n_ages: int
) -> None:
    """Measures and prints quality against sampling time.

    Args:
        folder: run folder.
        is_json: print the whole result as JSON.
        which: `"last"` for raw parameters of every age, `"averaged"` for averaged ones.
        data: where the data are, when they have moved.
        n_chains: chains from the start.
        longest: longest sampling time; None for 100 times `k`, from 100 to 1000 sweeps, but at least `4 k`.
        n_ages: ages to measure, the last one among them; 0 for all that are stored.

    Raises:
        InputError: a bad option, or a run without stored ages.
    """
    run = load(folder)
    config = run.settings
    if which not in ("last", "averaged"):
        raise InputError(f"--which must be last or averaged here, got {which!r}")
    if which == "averaged" and not config.optimiser.ema:
        raise InputError(f"{folder} keeps no averaged parameters (optimiser.ema = 0); choose last")
    if not 16 <= n_chains <= 10**6:
        raise InputError(f"--chains must be between 16 and 1000000, got {n_chains}")
    # with a pace, what the run ended with
    k = config.kernel.n_sweeps if config.kernel.pace is None else int(run.checkpoint("last")["controls/n_sweeps"])
    longest = max(min(max(100 * k, 100), 1000), 4 * k) if longest is None else longest
    if not k <= longest <= 10**8 or n_ages < 0:
        raise InputError(f"--longest must be at least k = {k} and --ages at least 0, got {longest} and {n_ages}")
    ages = [step for step, _ in run.ages()]
    if not ages:
        raise InputError(f"{folder} keeps no ages (record.n_ages = 0); there is no history to look at")
    if n_ages:
        ages = [ages[i] for i in np.unique(np.linspace(len(ages) - 1, 0, n_ages).round().astype(int))]
    if data is not None:
        config = with_data(config, data)
    dataset = load_data(config, with_test=True)
    check_same_data(folder, dataset)
    parts = (("test", dataset.test), ("held-out", dataset.heldout), ("training", dataset.train))
    name, judged = next((name, part) for name, part in parts if part is not None and len(part))
    law, start = _start(run, np.asarray(dataset.train))
    found: dict[str, Any] = {
        "k": k, "method": config.training.method, "start": start, "data": name, "n_chains": n_chains, "which": which,
        "times": times_around(k, longest),
    }  # fmt: skip
    done = _stored(run.path / FILE, found)
    reference = Reference(judged, n=min(n_chains, 1000), image_shape=None if run.n_labels else run.image_shape)
    with Steps(f"{run.path.name}: quality") as progress:
        for i, age in enumerate(ages):
            if age not in done:
                done[age] = _measured(
                    run, age, law, reference, found, progress=lambda f, i=i: progress((i + f) / len(ages))
                )
                _write(run.path / FILE, found, done)
    found = _write(run.path / FILE, found, done)
    if is_json:
        print(json.dumps(found, indent=1))
    else:
        _show(found)
    _draw(found, run.path)


def _start(run: LoadedRun, x: np.ndarray) -> tuple[AbstractTractable, str]:
    """Where chains start: as in training when that was by short runs, else at noise (means and variances of data)."""
    config = run.settings
    if is_short(run):
        return start_law(run), config.short_run.start
    if config.kernel.kind in ("block_gibbs", "gibbs"):
        states: Any = units(config.model.units, run.n_units)
        return starts.noise(states, run.n_units), "noise"
    return starts.mean_field(x, run.model), "mean-field"


def _measured(
    run: LoadedRun, age: int, law: AbstractTractable, reference: Reference, found: Mapping[str, Any], *, progress: Any
) -> dict[str, Any]:
    """Everything about one age."""
    config, which = run.settings, found["which"]
    model = run.model_at(age, "averaged" if which == "averaged" else "raw")
    kernel = with_schedule(config, make_kernel(config, model))
    beta = float(dict(run.ages())[age].meta.get("beta", config.model.beta))  # a regulator may have changed it
    key = jax.random.fold_in(jax.random.key(SEED), age)
    curve = quality_curve(
        named(key, "curve"), model, kernel, law, reference, found["times"], beta=beta,
        step_size=config.kernel.step_size, n_chains=found["n_chains"], progress=progress,
    )  # fmt: skip
    x = law.sample_exact(named(key, "mixing"), 1.0, min(found["n_chains"], 200))
    forgotten = mixing_time(
        named(key, "mixing"), make_kernel(config, model), Potential(model, jnp.asarray(beta, float)), x,
        max(found["times"][-1], 2), Controls.of(step_size=config.kernel.step_size),
    )  # fmt: skip
    scores = {name: values.tolist() for name, values in curve.scores.items()}
    best = {name: curve.best(name) for name in SHOWN if np.isfinite(curve.scores[name]).any()}
    return {"scores": scores, "gap": curve.gap.as_json(), "best": best, "mixing_time": forgotten}


def _stored(path: Path, settings: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Ages that were measured with the same settings."""
    if not path.is_file():
        return {}
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        if any(old.get(name) != value for name, value in settings.items()):
            return {}
        return {int(age): values for age, values in old["ages"].items()}
    except (ValueError, KeyError, AttributeError):
        return {}


def _write(path: Path, settings: Mapping[str, Any], done: Mapping[int, Any]) -> dict[str, Any]:
    found = {**settings, "ages": {str(age): done[age] for age in sorted(done)}}
    write_text(path, json.dumps(_finite(found)) + "\n")
    return found


def _finite(value: Any) -> Any:
    """The same tree with null in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _show(found: Mapping[str, Any]) -> None:
    """Table of the last age."""
    age, last = list(found["ages"].items())[-1]
    times, k = found["times"], found["k"]
    at = times.index(k)
    print(
        f"{found['method']}, k = {k}, {found['n_chains']:,} chains from {found['start']}, against {found['data']} data"
    )
    print(f"step {int(age):,}{'best t':>18}{'at best t':>12}{f'at t = {k}':>14}{f'at t = {times[-1]}':>14}")
    for name in SHOWN:
        values = last["scores"].get(name)
        if values is None or name not in last["best"]:
            continue
        best = last["best"][name]
        numbers = (values[times.index(best)], values[at], values[-1])
        print(f"  {name:<18}{best:>6}{numbers[0]:>13.4g}{numbers[1]:>13.4g}{numbers[2]:>14.4g}")
    crossing, forgotten = last["gap"]["crossing"], last["mixing_time"]
    print(f"  mean potential crosses that of the data at t = {'never' if crossing is None else f'{crossing:.3g}'}")
    longer = (
        f"longer than {2 ** (max(times[-1], 2).bit_length() - 2):,} sweeps"
        if forgotten is None
        else f"about {forgotten:,} sweeps"
    )
    print(f"  mixing time: {longer}")


def _draw(found: Mapping[str, Any], folder: Path) -> None:
    from quasistatic.plots import write_figures
    from quasistatic.plots.quality import quality_figure

    write_figures({"quality": quality_figure(found)}, folder)
