"""A run folder, read back: what a training run has written, without any of the code that wrote it.

A run is a folder of plain files (TOML, JSON, CSV, npz), so that a page, a plot or a notebook can use it
without the model, the kernel or even JAX. Everything is read when it is first asked for. A run may still be
going on or may have been killed while it wrote a line: the last line of `metrics.csv` may be cut off;
anything else that is damaged is an error.

    config.toml  environment.json  metrics.csv  result.json
    checkpoints/{last,best}.npz  ages/age-XXXXXXXX.npz
"""

from __future__ import annotations

import json
import re
import tomllib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from quasistatic.errors import InputError

_META = "__meta__"
_OTHER = "use another checkpoint"
_GIVE_RUN = "give a folder that `quasistatic train` wrote, such as runs/digits-rbm-001"
_AGE_NAME = re.compile(r"age-(\d+)\.npz")
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError)


class Archive(Mapping):  # of arrays by name; with the types named, a check at run time would read the file
    """Arrays of one checkpoint, by tree path ("model/weights"), read from the file when first asked for.

    Args:
        path: npz file with a member `__meta__`, the bytes of a JSON object.

    Raises:
        InputError: On first use, when the file is missing, cut off, or was not written by this package.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._arrays: dict[str, np.ndarray] = {}

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What the file says about itself: at least the format version and the step."""
        if _META not in self._names:
            raise InputError(f"{self.path} is not a checkpoint of quasistatic: it has no {_META}; {_OTHER}")
        try:
            meta = json.loads(self._read(_META).tobytes())
        except ValueError as error:
            raise InputError(f"{self.path} is damaged: {_META} is not JSON ({error}); {_OTHER}") from None
        if not isinstance(meta, dict):
            kind = type(meta).__name__
            raise InputError(f"{self.path} is damaged: {_META} is a JSON {kind}, not an object; {_OTHER}")
        return meta

    @property
    def step(self) -> int:
        """Training step after which the file was written."""
        step = self.meta.get("step")
        if not isinstance(step, int):
            raise InputError(f"{self.path} is damaged: its step is {step!r}, not an integer; {_OTHER}")
        return step

    def __getitem__(self, name: str) -> np.ndarray:
        if name == _META or name not in self._names:
            raise KeyError(name)
        if name not in self._arrays:
            self._arrays[name] = self._read(name)
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names if name != _META)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name != _META and name in self._names

    def __repr__(self) -> str:
        return f"Archive({str(self.path)!r})"

    @cached_property
    def _names(self) -> tuple[str, ...]:
        with self._open() as file:
            return tuple(file.files)

    def _read(self, name: str) -> np.ndarray:
        with self._open() as file:
            try:
                return file[name]
            except _UNREADABLE as error:
                why = _one_line(error)
                raise InputError(f"{self.path} is damaged: cannot read {name} ({why}); {_OTHER}") from None

    @contextmanager
    def _open(self) -> Iterator[np.lib.npyio.NpzFile]:
        try:
            stream = self.path.open("rb")
        except FileNotFoundError:
            raise InputError(f"{self.path} does not exist; the run has not written it (yet)") from None
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror}") from None
        with stream:  # NumPy leaves a file open that it cannot understand
            try:
                file = np.load(stream, allow_pickle=False)
            except _UNREADABLE as error:
                why = _one_line(error)
                raise InputError(f"{self.path} is cut off or not an npz file ({why}); {_OTHER}") from None
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise InputError(f"{self.path} is a single array, not an npz file; {_OTHER}")
            with file:
                yield file


class Run:
    """What a run folder holds.

    Args:
        path: Folder that `quasistatic train` wrote; the run may be unfinished.

    Raises:
        InputError: When the folder does not exist or has no `config.toml`; on first use of a part, when it is
            missing, damaged or foreign.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise InputError(f"no run folder at {self.path}; {_GIVE_RUN}")
        if not (self.path / "config.toml").is_file():
            raise InputError(f"{self.path} is not a run folder: it has no config.toml; {_GIVE_RUN}")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def has(self, name: str) -> bool:
        """Whether the folder holds the file `name` ("metrics.csv", "checkpoints/best.npz")."""
        return (self.path / name).is_file()

    @cached_property
    def config(self) -> dict[str, Any]:
        """Resolved configuration: every section and key the run used."""
        try:
            return tomllib.loads(self._text("config.toml"))
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{self.path / 'config.toml'} is not TOML: {_one_line(error)}") from None

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Where the run took place: versions, device, data set."""
        return self._json("environment.json")

    @cached_property
    def result(self) -> dict[str, Any] | None:
        """Outcome and final estimates, or `None` while the run is not finished."""
        return self._json("result.json") if self.has("result.json") else None

    @property
    def metrics(self) -> dict[str, Float[np.ndarray, " n_rows"]]:
        """Columns of `metrics.csv` by name, in the file's order; an empty cell is `nan` (not available)."""
        return self._table[0]

    @property
    def anchors(self) -> list[dict[str, Any]]:
        """Rows of `anchors.csv` (audits of copies of the model), in the order in which they became ready."""
        return read_anchors(self.path / "anchors.csv")

    @property
    def is_cut_off(self) -> bool:
        """Whether the last line of `metrics.csv` was still being written and was left out of `metrics`."""
        return self._table[1]

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """(height, width) when an event is a grey image, else `None`; labels may follow the pixels."""
        data = self.environment.get("data")
        shape = data.get("event_shape") if isinstance(data, dict) else None
        if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape):
            return None
        return (shape[0], shape[1]) if len(shape) == 2 else None

    @property
    def colour_shape(self) -> tuple[int, int, int] | None:
        """(height, width, 3) when an event is a colour image, else `None`."""
        data = self.environment.get("data")
        shape = data.get("event_shape") if isinstance(data, dict) else None
        if not isinstance(shape, list) or len(shape) != 3 or shape[2] != 3:
            return None
        return (int(shape[0]), int(shape[1]), 3)

    @property
    def n_labels(self) -> int:
        """Last values of a sample that say its class; 0 where there are none."""
        data = self.environment.get("data")
        found = data.get("n_labels", 0) if isinstance(data, dict) else 0
        return found if isinstance(found, int) else 0

    def checkpoint(self, name: Literal["last", "best"] = "last") -> Archive:
        """Arrays of the last state, or of the best one by the driver's held-out likelihood.

        Raises:
            InputError: When there is no such checkpoint or it cannot be read.
        """
        if name not in ("last", "best"):
            raise InputError(f"no checkpoint is called {name!r}; ask for 'last' or 'best'")
        path = self.path / "checkpoints" / f"{name}.npz"
        if not path.is_file():
            raise InputError(f"{self.path} has no checkpoint {name!r} (yet); train on, or take another run")
        archive = Archive(path)
        _ = archive.meta  # the directory of a zip file is at its end: this finds a file that was cut off
        return archive

    def ages(self) -> list[tuple[int, Archive]]:
        """Models at log-spaced steps, oldest first: (step, arrays), the arrays unread until used."""
        found = ((_AGE_NAME.fullmatch(path.name), path) for path in (self.path / "ages").glob("*.npz"))
        ages = [(int(match[1]), Archive(path)) for match, path in found if match]
        return sorted(ages, key=lambda age: age[0])

    @cached_property
    def _table(self) -> tuple[dict[str, np.ndarray], bool]:
        return _read_metrics(self._text("metrics.csv"), self.path / "metrics.csv")

    def _json(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads(self._text(name))
        except json.JSONDecodeError as error:
            raise InputError(f"{self.path / name} is cut off or not JSON: {_one_line(error)}") from None
        if not isinstance(content, dict):
            raise InputError(f"{self.path / name} holds a JSON {type(content).__name__}, expected an object")
        return content

    def _text(self, name: str) -> str:
        path = self.path / name
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InputError(f"{path} does not exist; the run has not written it (yet)") from None
        except UnicodeDecodeError:
            raise InputError(f"{path} is not text (UTF-8); it was not written by quasistatic") from None
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from None


def _read_metrics(text: str, path: Path) -> tuple[dict[str, np.ndarray], bool]:
    """Columns of the table, and whether an unfinished last line was left out.

    A line counts once its newline is written: without it even the last number may lack digits.
    """
    lines = text.split("\n")
    is_cut_off = lines.pop() != ""
    if not lines:
        if is_cut_off:
            return {}, True
        raise InputError(f"{path} is empty; expected a header line that starts with step")
    names = [name.strip() for name in lines[0].rstrip("\r").split(",")]
    if names[0] != "step":
        raise InputError(f"{path} is not a metrics table: its first column is {names[0][:40]!r}, not 'step'")
    if len(set(names)) < len(names):
        raise InputError(f"{path} names a column twice; expected every name once")
    rows = np.empty((len(lines) - 1, len(names)))
    for i, line in enumerate(lines[1:]):
        cells = line.rstrip("\r").split(",")
        if len(cells) != len(names):
            raise InputError(f"{path} line {i + 2} has {len(cells)} cells, the header has {len(names)}")
        try:
            rows[i] = [float(cell) if cell.strip() else np.nan for cell in cells]
        except ValueError as error:
            raise InputError(f"{path} line {i + 2} is not numbers: {_one_line(error)}") from None
    steps = rows[:, 0]
    if not np.all(np.isfinite(steps)):
        raise InputError(f"{path} line {int(np.argmin(np.isfinite(steps))) + 2} has no step")
    if np.any(np.diff(steps) <= 0):
        i = int(np.argmax(np.diff(steps) <= 0))
        order = f"step {steps[i + 1]:.0f} comes after step {steps[i]:.0f}"
        raise InputError(f"{path} line {i + 3}: {order}; steps must increase")
    return {name: rows[:, j].copy() for j, name in enumerate(names)}, is_cut_off


def _one_line(error: BaseException) -> str:
    """First line of an error's message, shortened."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def read_anchors(path: Path) -> list[dict[str, Any]]:
    """Rows of an `anchors.csv`, numbers converted and empty cells `None`; a missing file has no rows.

    Raises:
        InputError: a row does not have the cells that the header names.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    names = lines[0].split(",") if lines else []
    rows = []
    for line in lines[1:]:
        cells = line.split(",", len(names) - 1)
        if len(cells) != len(names):
            raise InputError(f"{path} is damaged: a row has {len(cells)} cells, expected {len(names)}; {_GIVE_RUN}")
        row: dict[str, Any] = dict(zip(names, cells, strict=True))
        for name in set(names) - {"reason"}:
            kind = int if name in ("step", "ready_at", "n_temperatures") else float
            row[name] = None if row[name] == "" else kind(row[name])
        rows.append(row)
    return rows
