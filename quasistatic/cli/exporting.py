"""The command `export`: a run as a file of another program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quasistatic.cli.load import load
from quasistatic.cli.sampling import stored_beta
from quasistatic.cli.stacks import at_model
from quasistatic.energies import RBM
from quasistatic.errors import InputError
from quasistatic.interchange import write_rbms


def export_run(folder: Path, file: Path, *, which: str = "last") -> None:
    """Writes the ages and the last model of an RBM run, with its walkers, as a file of `rbms`.

    Args:
        folder: run folder.
        file: new HDF5 file.
        which: `last` (raw) or `averaged` parameters.

    Raises:
        InputError: no run of an RBM, or the file exists.
    """
    if which not in ("last", "averaged"):
        raise InputError(f"--which is last or averaged, got {which!r}")
    run = load(folder)
    config = run.settings
    model = run.model_of(which)
    if not isinstance(model, RBM):
        raise InputError(f"{folder} holds a {type(model).__name__}; files of rbms hold RBMs")
    archive = run.checkpoint("last")
    kind = "raw" if which == "last" else "averaged"
    models: dict[int, Any] = {step: run.model_at(step, kind) for step, _ in run.ages()}
    # a regulator may have changed the temperature from age to age
    betas = {step: float(age.meta.get("beta", config.model.beta)) for step, age in run.ages()}
    last = int(archive["step"])
    models[last], betas[last] = model, stored_beta(run, "last")
    walkers = at_model(config, archive["ensemble/x"])
    write_rbms(
        file, dict(sorted(models.items())), beta=betas,
        chains=walkers if walkers.ndim == 2 and walkers.shape[1] == model.visible.size else None,
        batch_size=config.data.batch_size, n_sweeps=config.kernel.n_sweeps, rate=config.optimiser.rate,
        l1=config.training.l1, l2=config.training.l2, seed=config.run.seed,
    )  # fmt: skip
    print(f"{file}: {len(models)} updates, {model.visible.size} x {model.hidden.size} units, for rbms")
