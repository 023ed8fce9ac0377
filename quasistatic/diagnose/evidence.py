"""Evidence: one number with its threshold, its error, and the regime that it speaks for.

`quasistatic.diagnose.SOURCES` lists the functions that look for evidence. A new quantity is one more function
`(run, probe) -> list of Evidence` in one more file and one more entry there; nothing else has to know about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from quasistatic.energies.potential import Potential
from quasistatic.kernels.base import AbstractKernel
from quasistatic.run import Run

REGIMES = ("diverging", "frozen", "out_of_equilibrium", "equilibrium")
"""In the order in which they are believed: the first one with evidence is the verdict."""


@dataclass(frozen=True)
class Evidence:
    """One number about the regime of a run.

    Args:
        name: what was measured.
        value: the number; None when it could not be measured.
        threshold: where the verdict turns, in the same units.
        stderr: standard error of the number; None where it is no estimate.
        regime: regime that it speaks for, None when it decides nothing.
        words: what it means, for people.
    """

    name: str
    value: float | None
    threshold: float | None
    stderr: float | None
    regime: str | None
    words: str

    def as_json(self) -> dict[str, Any]:
        """Mapping with name, value, threshold, stderr, regime and words; numbers that are not finite are null."""
        numbers = {name: getattr(self, name) for name in ("value", "threshold", "stderr")}
        finite = {name: x if x is not None and math.isfinite(x) else None for name, x in numbers.items()}
        return {"name": self.name, **finite, "regime": self.regime, "words": self.words}


class Probe(NamedTuple):
    """What re-simulations of a run start from.

    Args:
        potential: final model and beta.
        kernel: kernel of the training (of single configurations).
        data: some data rows, shape `(m, ...)`.
        noise: configurations without any information, same shape of a row.
        walkers: where the training's walkers ended, or None.
        n_sweeps: sweeps per update of the training, `k`.
        restart: `"data"` or `"noise"` when walkers started from there at every update, else None.
        step_size: of Langevin kernels.
        seed: of the re-simulations.
    """

    potential: Potential
    kernel: AbstractKernel
    data: np.ndarray
    noise: np.ndarray
    walkers: np.ndarray | None
    n_sweeps: int
    restart: str | None
    step_size: float = 0.01
    seed: int = 0


Source = Callable[[Run, Probe | None], list[Evidence]]
"""Looks for evidence in the files of a run and, where there is a probe, in simulations of its model."""
