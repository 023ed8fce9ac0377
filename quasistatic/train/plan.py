"""When a run stops, records and saves: a function of absolute steps, so that a resumed run stops at the same ones."""

import itertools
from dataclasses import dataclass

import numpy as np

from quasistatic.errors import InputError

SPACINGS = ("log", "exp", "linear")


@dataclass(frozen=True)
class Plan:
    """When a run stops, records and saves. All in absolute steps.

    Args:
        n_steps: updates of the whole run.
        record_every: steps between rows of metrics.
        n_ages: steps whose model is kept (and recorded).
        checkpoint_every: steps between checkpoints.
        max_minutes: wall-clock limit after which the run stops, resumable.
        n_exact: ages whose exact log Z is computed at the end when the model can be enumerated.
        spacing: of the ages: `log`, from 1 to the end; `exp`, the grid of the package `rbms`, `T T^(-j / n)` truncated;
            `linear`.
        every: chunks end at multiples of this only (and at the end), where a ladder is looked at; ages move up to them.
    """

    n_steps: int
    record_every: int = 100
    n_ages: int = 25
    checkpoint_every: int = 500
    max_minutes: float | None = None
    n_exact: int = 8
    spacing: str = "log"
    every: int = 1

    def __post_init__(self) -> None:
        for name in ("n_steps", "record_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.record_every % self.every or self.checkpoint_every % self.every:
            given = f"{self.record_every} and {self.checkpoint_every}"
            raise InputError(
                f"record_every and checkpoint_every must be multiples of the {self.every} updates between two looks at "
                f"the ladder, got {given}"
            )
        if self.n_ages < 0 or self.n_exact < 0:
            raise InputError(f"n_ages and n_exact must be at least 0, got {self.n_ages} and {self.n_exact}")

        if self.spacing not in SPACINGS:
            raise InputError(f"ages are spaced {', '.join(SPACINGS)}, got {self.spacing!r}")

    @property
    def ages(self) -> list[int]:
        """Steps up to `n_steps` whose model is kept; a single one is the last."""
        n, last = self.n_ages, self.n_steps
        if n < 2:
            spaced = [last] * n
        elif self.spacing == "exp":  # divided step by step, as there: a whole power comes out just below
            spaced = list(itertools.accumulate(range(n - 1), lambda t, _: t / last ** (1 / n), initial=float(last)))
            spaced = [last, *map(int, spaced[1:])]
        else:
            spaced = np.linspace(last / n, last, n) if self.spacing == "linear" else np.geomspace(1, last, n)
        return sorted({min(-(-round(s) // self.every) * self.every, self.n_steps) for s in spaced})

    def is_checkpoint(self, step: int) -> bool:
        return step % self.checkpoint_every == 0 or step == self.n_steps

    @property
    def rows(self) -> set[int]:
        """Steps that are recorded."""
        every = {s for n in (self.record_every, self.checkpoint_every) for s in range(n, self.n_steps + 1, n)}
        return every | set(self.ages) | {self.n_steps}

    def stops(self, after: int) -> list[int]:
        """Steps at which a chunk ends, later than `after`."""
        looks = set(range(self.every, self.n_steps + 1, self.every)) if self.every > 1 else set()
        return sorted(s for s in self.rows | looks if s > after)
