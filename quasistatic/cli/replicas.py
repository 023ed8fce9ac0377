"""`sample --method ptt | tempering`: replica exchange along the run's own stored ages, or in temperature."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from quasistatic._keys import named
from quasistatic._random import split
from quasistatic._types import Key
from quasistatic.cli.load import LoadedRun
from quasistatic.energies import RBM, AbstractEnergy, Potential
from quasistatic.errors import InputError
from quasistatic.evaluate.chains import run_chains
from quasistatic.evaluate.mixing import autocorrelation_time, split_r_hat
from quasistatic.evaluate.rungs import Age, choose_rungs, tempered
from quasistatic.kernels import AbstractKernel, Tempered, independent_rbm
from quasistatic.thermo.replicas import TORN, crossings, round_trips

METHODS = ("walkers", "ptt", "tempering")
N_RECORDS = 1000
PILOT = 256
MOST_PIECES = 10


def stored_ages(run: LoadedRun, which: str, before: int) -> list[Age]:
    """The run's stored models from before a step, with the beta of their training.

    Args:
        run: a run folder.
        which: `"averaged"` takes the averaged parameters of every age, anything else the raw ones.
        before: step of the model that is to be sampled.
    """
    kind = "averaged" if which == "averaged" else "raw"
    return [
        Age(float(step), Potential(run.model_at(step, kind), jnp.asarray(float(archive.meta.get("beta", 1.0)))))
        for step, archive in run.ages()
        if step < before
    ]


def draw_on_ladder(
    key: Key,
    run: LoadedRun,
    kernel: AbstractKernel,
    energy: AbstractEnergy,
    start: Any,
    *,
    method: str,
    n: int,
    steps: int,
    beta: float,
    which: str,
    n_rungs: int,
    target: float,
    progress: Callable[[float, str], None],
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Samples from the last rung of a ladder, one per stack of replicas.

    Half of the rounds are burn-in, the autocorrelation time is that of the rest.

    Args:
        key: random key.
        run: the run folder.
        kernel: kernel of single replicas.
        energy: the model to sample.
        start: positions, one per sample, for the replicas of `tempering`.
        method: `"ptt"` or `"tempering"`.
        n: number of samples.
        steps: rounds, each a sweep of every rung and an exchange; some more are made where they do not divide into
            the records.
        beta: inverse temperature of the model.
        which: parameters.
        n_rungs: temperatures of `tempering`.
        target: acceptance between the rungs of `ptt`.
        progress: told what is being done and the fraction of it.

    Returns:
        Samples, their reduced potentials, and what to say about the ladder.

    Raises:
        InputError: too few rounds, or a run without ages.
    """
    if steps < 20:
        raise InputError(f"replica exchange needs --steps of at least 20 rounds, got {steps}")
    potential = Potential(energy, jnp.asarray(beta))
    half = math.ceil(steps / 2)
    thin = math.ceil(half / N_RECORDS)
    n_records = math.ceil(half / thin)
    about: dict[str, Any] = {"method": method, "rounds": 2 * n_records * thin}
    first: Any
    if method == "ptt":
        if not isinstance(energy, RBM):
            raise InputError(f"--method ptt is for RBMs, this run trained a {type(energy).__name__}; use tempering")
        last = run.checkpoint("best" if which == "best" else "last").step
        ages = [*stored_ages(run, which, last), Age(float(last), potential)]
        chosen = choose_rungs(
            named(key, "rungs"), kernel, ages, target=target, n_walkers=max(n, PILOT), progress=progress
        )
        exchange, first = chosen.kernel(kernel), chosen.x[:n]
        about["rungs"] = [age.step for age in chosen.ages]
    else:
        exchange, first = tempered(
            named(key, "rungs"), kernel, potential, start, n_rungs=n_rungs, n_records=n_records, n_sweeps=thin,
            step_size=run.settings.kernel.step_size,
        )  # fmt: skip
        assert isinstance(exchange.ladder, Tempered)
        about["rungs"] = [float(1 / ratio) for ratio in np.asarray(exchange.ladder.ratios)]
    # in pieces of one size, so that it is heard of
    n_pieces = max(i for i in range(1, MOST_PIECES + 1) if n_records % i == 0)
    u = np.zeros((0, n))
    for purpose, said in (("burn", "burn-in"), ("move", "sampling")):
        traces = []
        for i, key_piece in enumerate(split(named(key, purpose), n_pieces)):
            chains = run_chains(
                key_piece, exchange, potential, first, n_records=n_records // n_pieces, n_sweeps=thin,
                step_size=run.settings.kernel.step_size,
            )  # fmt: skip
            first = chains.ensemble
            traces.append(chains.u)
            progress((i + 1) / n_pieces, said)
        u = np.concatenate(traces)
    measured = crossings(exchange, potential, first)
    acceptance, error = measured.acceptance()
    trips, trips_error = round_trips(first)
    time = autocorrelation_time(u)
    about |= {
        "n_rungs": exchange.n_replicas,
        "acceptance": acceptance.tolist(),
        "acceptance_stderr": [finite(e) for e in error],
        "round_trips": {"value": trips, "stderr": finite(trips_error)},
        "autocorrelation_time": time.scale(thin).as_json(),
        "r_hat": finite(split_r_hat(u)) if n_records >= 4 else None,
        "n_sweeps_total": about["rounds"] * exchange.n_replicas,
    }
    if method == "ptt":
        base: Any = chosen.ages[0].potential
        about["log_z"] = measured.log_z(float(independent_rbm(base.energy, float(base.beta))[1])).as_json()
    return np.asarray(first.x[:, -1]), np.asarray(first.cache.u[:, -1]), about


def finite(value: float) -> float | None:
    """A number for JSON, None where it is not finite."""
    return float(value) if np.isfinite(value) else None


def describe(about: dict[str, Any]) -> list[str]:
    """What to say about a ladder, in lines."""
    accepted = about["acceptance"]
    time = about["autocorrelation_time"]
    words = {"ptt": "ages of the run", "tempering": "temperatures"}[about["method"]]
    lines = [
        f"{about['n_rungs']} rungs ({words}), exchanges accepted {min(accepted):.2f} to {max(accepted):.2f}",
        f"round trips {about['round_trips']['value']:.2g} per stack and round; autocorrelation time "
        f"{time['value']:.3g} rounds" + (" at least" if time["bias"] == "low" else ""),
    ]
    if "log_z" in about and about["log_z"]["value"] is not None:
        error = about["log_z"]["stderr"]
        lines.append(f"log Z along the ladder {about['log_z']['value']:.3f}" + (f" ± {error:.3f}" if error else ""))
    if min(accepted) < TORN:
        lines.append("the ladder is torn between two rungs: keep more ages (record.n_ages) or use more --rungs")
    return lines
