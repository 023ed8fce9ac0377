"""`quasistatic.load`: a run folder opened in Python, with its models as energies.

Everything that `quasistatic.run.Run` reads from the files is here too; the models are rebuilt from
`config.toml` and filled from a checkpoint.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from quasistatic.cli.build import skeleton
from quasistatic.cli.config import Config, resolve
from quasistatic.energies import AbstractEnergy
from quasistatic.errors import InputError
from quasistatic.run import Archive, Run
from quasistatic.train.checkpoint import fill

WHICH = ("last", "best", "averaged")
"""Parameters that a run keeps."""


class LoadedRun(Run):
    """A run folder and its models.

    Example:
        `quasistatic.load("runs/digits-rbm-001").model.weights`
    """

    @cached_property
    def settings(self) -> Config:
        """The configuration, checked."""
        return resolve(self.config, source=str(self.path / "config.toml"))

    @cached_property
    def n_units(self) -> int:
        """Length of one sample."""
        data = self.environment.get("data")
        n = data.get("n_units") if isinstance(data, dict) else None
        if not isinstance(n, int) or n < 1:
            raise InputError(f"{self.path / 'environment.json'} does not say how long a sample is (data.n_units)")
        return n

    @property
    def model(self) -> AbstractEnergy:
        """Raw parameters of the last checkpoint."""
        return self.model_of("last")

    @property
    def averaged(self) -> AbstractEnergy | None:
        """Averaged parameters of the last checkpoint, or None when the run did not average."""
        return self.model_of("averaged") if self.settings.optimiser.ema else None

    def model_of(self, which: str = "last") -> AbstractEnergy:
        """The model of the last or the best checkpoint, or the average of the last one.

        Raises:
            InputError: there is no such checkpoint, or it belongs to another configuration.
        """
        if which not in WHICH:
            raise InputError(f"no parameters are called {which!r}; choose one of {', '.join(WHICH)}")
        if which == "averaged" and not self.settings.optimiser.ema:
            raise InputError(f"{self.path} keeps no averaged parameters (optimiser.ema = 0); choose last or best")
        archive = self.checkpoint("best" if which == "best" else "last")
        return self._filled(archive, "averaged" if which == "averaged" else "model")

    def model_at(self, step: int, which: str = "raw") -> AbstractEnergy:
        """The model of one stored age: its `"raw"` parameters, or the `"averaged"` ones where the run keeps them.

        Raises:
            InputError: that step, or such parameters, were not stored.
        """
        if which not in ("raw", "averaged"):
            raise InputError(f"an age has raw and averaged parameters, not {which!r}")
        if which == "averaged" and not self.settings.optimiser.ema:
            raise InputError(f"{self.path} keeps no averaged parameters (optimiser.ema = 0); choose raw")
        ages = dict(self.ages())
        if step not in ages:
            raise InputError(f"{self.path} keeps no age at step {step}; it keeps {', '.join(map(str, ages)) or 'none'}")
        return self._filled(ages[step], "averaged" if which == "averaged" else "model")

    def _filled(self, archive: Archive, prefix: str) -> AbstractEnergy:
        return fill(skeleton(self.settings, self.n_units), archive, prefix)


def load(path: str | Path) -> LoadedRun:
    """Opens a run folder.

    Args:
        path: folder that `quasistatic train` wrote.

    Raises:
        InputError: it is not a run folder; later, on first use of a part, when that part is missing or
            damaged.
    """
    return LoadedRun(path)
