"""The command `evaluate`: log Z and the test log-likelihood of a trained model, with a bracket, after training.

Annealing runs forward from a base at the training data's means and backward from long chains of the model; the exact
sum stands beside them where it is feasible. The seed is fixed: a repetition prints the same digits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from quasistatic._results import Estimate
from quasistatic.cli.build import make_kernel
from quasistatic.cli.config import Config
from quasistatic.cli.custom import base_law
from quasistatic.cli.data import load_data
from quasistatic.cli.folders import check_same_data, with_data
from quasistatic.cli.live import with_error
from quasistatic.cli.load import load
from quasistatic.cli.training import on_device
from quasistatic.energies import AbstractEnergy, AbstractTractable, Pairwise
from quasistatic.energies.rbm import is_rbm
from quasistatic.errors import InputError, RunFailure
from quasistatic.evaluate.annealing import Bracket, log_partition_bracket
from quasistatic.evaluate.exact import is_enumerable, log_partition_exact
from quasistatic.evaluate.likelihood import Likelihood, log_likelihood, pseudo_likelihood, reconstruction_error

SEED = 20240229  # of every evaluation
N_EQUILIBRATE = 2000


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` prints.

    Args:
        log_z: forward annealing, or the closed form where there is one.
        likelihood: test log-likelihood and its bracket.
        exact: exact `log_z` and `ll_test`, or None when infeasible.
        bracket: both annealing runs, None for a closed form.
        extras: scores that need no log Z, and what was evaluated.
    """

    log_z: Estimate
    likelihood: Likelihood
    exact: dict[str, Estimate] | None
    bracket: Bracket | None
    extras: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Mapping with log_z, ll_test, ll_lower, ll_upper, exact, then everything else."""
        lower, upper = self.likelihood.lower, self.likelihood.upper
        return {
            "log_z": self.log_z.as_json(),
            "ll_test": self.likelihood.value.as_json(),
            "ll_lower": lower.as_json() if lower is not None else None,
            "ll_upper": upper.as_json() if upper is not None else None,
            "exact": {name: e.as_json() for name, e in self.exact.items()} if self.exact is not None else None,
            "gap": self.bracket.gap if self.bracket is not None else None,
            "gap_stderr": self.bracket.gap_stderr if self.bracket is not None else None,
            "note": self.bracket.note if self.bracket is not None else "",
            "data_stderr": self.likelihood.data_stderr,
            **self.extras,
        }


def evaluate_run(
    folder: Path,
    *,
    is_json: bool,
    which: str | None,
    data: str | None,
    device: str | None,
    n_temperatures: int,
    n_chains: int,
) -> None:
    """Evaluates a run and prints the result.

    Args:
        folder: run folder.
        is_json: print JSON.
        which: parameters: last, best or averaged; None for the averaged ones where the run keeps them, else the last.
        data: where the data are, when they have moved.
        device: name of a JAX device.
        n_temperatures: laws on the annealing path.
        n_chains: walkers of each annealing run.

    Raises:
        InputError: a bad option, or a run that cannot be read.
        RunFailure: the bracket is inverted; the result is printed before.
    """
    run = load(folder)
    config = run.settings
    which = which or ("averaged" if config.optimiser.ema else "last")
    if data is not None:
        config = with_data(config, data)
    if not 2 <= n_temperatures <= 10**8:
        raise InputError(f"--temperatures must be between 2 and 100000000, got {n_temperatures}")
    if not 32 <= n_chains <= 10**6 or n_chains % 16:
        raise InputError(f"--chains must be a multiple of 16 from 32 to 1000000, got {n_chains}")
    with on_device(device):
        energy = run.model_of(which)
        beta = _beta(run, which)
        found = _evaluate(config, energy, beta, folder, n_temperatures=n_temperatures, n_chains=n_chains)
    found.extras.update(run=str(folder), parameters=which, beta=beta)
    print(json.dumps(found.as_json(), indent=1)) if is_json else _show(found)
    if found.bracket is not None and found.bracket.is_inverted:
        raise RunFailure(found.bracket.note, result="inverted_bracket")


def _evaluate(
    config: Config, energy: AbstractEnergy, beta: float, folder: Path, *, n_temperatures: int, n_chains: int
) -> Evaluation:
    dataset = load_data(config, with_test=True)
    check_same_data(folder, dataset)
    parts = (("test", dataset.test), ("held-out", dataset.heldout), ("training", dataset.train))
    name, judged = next((name, part) for name, part in parts if part is not None and len(part))
    energy.validate(judged, name=f"{name} data")
    extras: dict[str, Any] = {"data": name, "n_samples": len(judged), **_scores(energy, judged, beta)}
    exact = None
    if is_enumerable(energy) and (log_z := log_partition_exact(energy, beta)) is not None:
        of_test = log_likelihood(energy, judged, log_z, beta=beta).value
        exact = {"log_z": Estimate(log_z, 0.0, None, "none", "exact"), "ll_test": of_test}
    if exact is not None and isinstance(energy, AbstractTractable):
        likelihood = log_likelihood(energy, judged, exact["log_z"].value or 0.0, beta=beta)
        return Evaluation(exact["log_z"], likelihood, exact, None, extras)
    bracket = log_partition_bracket(
        jax.random.key(SEED),
        energy,
        dataset.train,
        base=_base(config, energy, dataset.train),
        beta=beta,
        n_temperatures=n_temperatures,
        n_chains=n_chains,
        n_equilibrate=N_EQUILIBRATE,
        kernel=make_kernel(config, energy),
        n_sweeps=1 if config.model.kind in ("rbm", "pairwise") else config.kernel.n_sweeps,
        step_size=config.kernel.step_size,
    )
    likelihood = log_likelihood(energy, judged, bracket, beta=beta)
    if likelihood.lower is not None:  # an upper end of log Z is a lower end of the likelihood
        lower = replace(likelihood.lower, method=likelihood.lower.method.replace("(upper if", "(lower if"))
        likelihood = replace(likelihood, lower=lower)
    return Evaluation(bracket.forward, likelihood, exact, bracket, extras)


def _base(config: Config, energy: AbstractEnergy, x: np.ndarray) -> AbstractTractable | None:
    """Base of a user's energy, as in training; None lets the evaluation choose one at the data's means."""
    if config.model.kind != "custom":
        return None
    box = getattr(energy, "box", None)
    if box is not None:
        return box
    units_name = config.model.units if config.kernel.kind == "gibbs" else None
    return base_law(config.model.base, config.model.base_scale, x, units_name=units_name)


def _beta(run: Any, which: str) -> float:
    archive = run.checkpoint("best" if which == "best" else "last")
    return float(archive["controls/beta"]) if "controls/beta" in archive else 1.0


def _scores(energy: Any, x: np.ndarray, beta: float) -> dict[str, float | None]:
    is_discrete = is_rbm(energy) or isinstance(energy, Pairwise)
    return {
        "pseudo_ll": pseudo_likelihood(energy, x, beta) if is_discrete else None,
        "reconstruction_error": reconstruction_error(energy, x, beta) if is_rbm(energy) else None,
    }


def _show(found: Evaluation) -> None:
    likelihood, exact = found.likelihood, found.exact
    print(f"{found.extras['run']}, {found.extras['parameters']} parameters, {found.extras['data']} data")
    how = "forward annealing" if found.bracket is not None else "closed form"
    summed = exact if exact is not None and found.bracket is not None else {}
    rows: list[tuple[str, Estimate | None, str]] = [
        ("log Z", found.log_z, how),
        ("exact", summed.get("log_z"), "enumeration"),
        ("log-likelihood", likelihood.value, how),
        ("lower end", likelihood.lower if found.bracket else None, "reverse annealing, if it started in equilibrium"),
        ("upper end", likelihood.upper if found.bracket else None, how),
        ("exact", summed.get("ll_test"), "enumeration"),
    ]
    for label, estimate, note in rows:
        if estimate is None:
            continue
        if estimate.value is None:
            print(f"  {label:>17}  withheld: {estimate.reason}")
            continue
        value = f"{estimate.value:.4f}" if not estimate.stderr else with_error(estimate.value, estimate.stderr)
        print(f"  {label:>17}  {value:<18}  {note}")
    if found.bracket is not None and found.bracket.gap is not None:
        print(f"  {'gap':>17}  {with_error(found.bracket.gap, found.bracket.gap_stderr)}")
    print(f"  {'spread of data':>17}  ± {likelihood.data_stderr:.3f} for another set of {found.extras['n_samples']:,}")
    if found.extras["pseudo_ll"] is not None:
        print(f"  {'pseudo-likelihood':>17}  {found.extras['pseudo_ll']:.4f}")
    if found.bracket is not None and found.bracket.note and not found.bracket.is_inverted:
        print(f"  note: {found.bracket.note}")
