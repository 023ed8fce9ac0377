"""What a run shows while it goes, on stderr: two live lines on a terminal, else a plain one at times."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

N_PLAIN = 10  # lines of a run whose stderr is not a terminal
REFRESH = 8  # per second
PATIENCE = 5.0  # seconds between two plain lines


class LiveLine:
    """Shows step, rate, time left and the numbers of the last recorded row.

    Args:
        name: name of the run.
        console: where to draw (default: stderr).
    """

    def __init__(self, name: str, console: Console | None = None):
        self._name = name
        self._console = console or Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._row: Mapping[str, Any] = {}
        self._n_steps = self._step = 0
        self._first: int | None = None
        self._begun = self._at = 0.0
        self._next_plain = 0.0
        self._warned: set[str] = set()

    def start(self, step: int, n_steps: int) -> None:
        """Begins at a step (not 0 when a run is resumed)."""
        self._first = None
        self._step = step
        self._n_steps = n_steps
        self._next_plain = step + (n_steps - step) / N_PLAIN
        if self._console.is_terminal:
            self._live = Live(self, console=self._console, refresh_per_second=REFRESH, transient=True)
            self._live.start()
        else:
            since = f" from step {step:,}" if step else ""
            self._console.print(f"{self._name}: training{since} to step {n_steps:,}", soft_wrap=True)

    def update(self, row: Mapping[str, Any]) -> None:
        """Takes a recorded row."""
        self._row, self._step, self._at = row, int(row["step"]), time.monotonic()
        # the numbers of a warning change from age to age, the fact does not
        if (warning := row.get("warning")) is not None and (fact := warning.partition(":")[0]) not in self._warned:
            self._warned.add(fact)
            self._console.print(f"{self._name}: {warning}", style="yellow", soft_wrap=True)
        if self._first is None:  # what came before was compilation
            self._first, self._begun = self._step, self._at
        if self._live is None and (self._step >= self._next_plain or self._step >= self._n_steps):
            self._next_plain = max(self._next_plain + self._n_steps / N_PLAIN, self._step + 1)
            self._console.print(f"{self._pace()}  {numbers(self._row)}", soft_wrap=True)

    def close(self) -> None:
        """Takes the line off the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._n_steps and self._step >= self._n_steps:
            self._console.print(f"{self._name}: all steps done; exact sums and report", style="dim", soft_wrap=True)

    def __rich__(self) -> RenderableType:
        head = Table.grid(padding=(0, 1), expand=True)
        head.add_column(no_wrap=True)
        head.add_column(ratio=1)
        head.add_column(no_wrap=True)
        bar = ProgressBar(total=max(self._n_steps, 1), completed=self._step)
        head.add_row(Text(self._name, style="bold"), bar, Text(self._pace(), style="cyan"))
        if not self._row:
            return Group(head, Text("compiling the training step", style="dim"))
        return Group(head, Text(numbers(self._row), no_wrap=True, overflow="ellipsis"))

    def _pace(self) -> str:
        where = f"{self._step:,}/{self._n_steps:,}"
        done = 0 if self._first is None else self._step - self._first
        elapsed = self._at - self._begun
        if not done or elapsed <= 0:
            return where
        rate = done / elapsed
        return f"{where}  {_short(rate)} steps/s  {clock((self._n_steps - self._step) / rate)} left"


class Steps:
    """Progress of a single job on stderr: a bar on a terminal, else a line when it takes long.

    Args:
        name: what is being done.
    """

    def __init__(self, name: str):
        self._name = name
        self._console = Console(stderr=True, highlight=False)
        self._begun = self._spoken = self._heard = time.monotonic()
        self._part = ""
        self._live: Live | None = None

    def __enter__(self) -> Steps:
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=REFRESH, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, fraction: float, part: str = "") -> None:
        """Takes the fraction that is done, of a part of the job where it has several."""
        now = time.monotonic()
        if part != self._part:
            self._part, self._begun = part, self._heard
        self._heard = now
        name = f"{self._name}, {part}" if part else self._name
        left = clock((now - self._begun) * (1 - fraction) / max(fraction, 1e-9))
        if self._live is not None:
            line = Table.grid(padding=(0, 1), expand=True)
            line.add_column(no_wrap=True)
            line.add_column(ratio=1)
            line.add_column(no_wrap=True)
            bar = ProgressBar(total=1.0, completed=fraction)
            line.add_row(Text(name, style="bold"), bar, Text(f"{left} left", style="cyan"))
            self._live.update(line)
        elif now - self._spoken > PATIENCE and fraction < 1:
            self._spoken = now
            self._console.print(f"{name}: {fraction:.0%}, {left} left", soft_wrap=True)


def numbers(row: Mapping[str, Any]) -> str:
    """The numbers of a row in one line of at most 80 characters; what is not available is left out."""
    if "epoch" in row:
        wrong = "" if row.get("error") is None else f"  error {row['error']:.2%}"
        heldout = "" if row.get("error_heldout") is None else f"  held-out error {row['error_heldout']:.2%}"
        return f"epoch {row['epoch']}  cost {row['cost']:.4f}{wrong}{heldout}"
    parts = []
    error = row.get("ll_stderr")
    for name, label in (("ll_train", "train"), ("ll_heldout", "held-out")):
        value = row.get(name)
        if value is not None:
            parts.append(f"{label} {with_error(value, error).replace(' ', '')}")
    if row.get("ll_train") is None and row.get("ll_heldout") is None:
        parts.append("log-likelihood withheld")
        if row.get("gradient_norm") is not None:
            parts.append(f"gradient {row['gradient_norm']:.2g}")
    elif row.get("anchor_step") is not None and row["anchor_step"] != row.get("step"):
        parts.append(f"of step {row['anchor_step']:,}")
    # walkers that start anew in every update carry no weights worth a number
    if row.get("ess_auditor") is not None or (
        row.get("ess_driver") is not None and row.get("log_z_driver") is not None
    ):
        ess = row["ess_auditor"] if row.get("ess_auditor") is not None else row["ess_driver"]
        parts.append(f"ESS {ess:.2f}")
    for name, label, form in (
        ("excess_work", "excess", ".1f"),
        ("flip_rate", "flips", ".2f"),
        ("accept_rate", "accepted", ".3f"),
        ("n_rungs", "rungs", "d"),
    ):
        if row.get(name) is not None:
            parts.append(f"{label} {row[name]:{form}}")
    return "  ".join(parts)


def with_error(value: float, error: float | None) -> str:
    """`value ± error`, with the digits that the error leaves."""
    if error is None or not math.isfinite(error):
        return f"{value:.2f}"
    digits = 2 if error <= 0 else min(max(1 - math.floor(math.log10(error)), 0), 6)
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def clock(seconds: float) -> str:
    """A duration as m:ss or h:mm:ss."""
    whole = max(round(seconds), 0)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
