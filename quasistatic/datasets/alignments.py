"""Aligned sequences from FASTA files, letters as integer codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from quasistatic.datasets.base import Dataset, sha256, split_fraction
from quasistatic.errors import InputError


def fasta(path: str | Path, *, alphabet: str | None = None, heldout_fraction: float = 0.2) -> Dataset:
    """Alignment as integer codes, one row for each sequence.

    Lower case letters count as upper case, and `.` as the gap `-`.

    Args:
        path: FASTA file: lines that start with `>` name a sequence, the lines up to the next one hold it.
        alphabet: Letters in the order of their codes; by default the letters of the file, sorted, gap first.
        heldout_fraction: Share of the sequences that is held out by a fixed permutation; 0 for none.

    Returns:
        Data of kind "categorical"; `provenance["alphabet"]` names the letter of each code.

    Raises:
        InputError: If the file is missing or no FASTA file, sequences differ in length (they must be
            aligned), or a letter is not in the alphabet.
    """
    path = Path(path).expanduser()
    try:
        content = path.read_bytes()
        lines = content.decode("ascii").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a FASTA file: it is no ASCII text") from None
    names, sequences = _sequences(path, lines)
    length = len(sequences[0])
    for name, sequence in zip(names, sequences, strict=True):
        if len(sequence) != length:
            raise InputError(
                f"{path}: sequence {name!r} has {len(sequence)} letters, the first one {length}; align them"
            )
    if not length:
        raise InputError(f"{path}: sequence {names[0]!r} is empty")
    letters = np.frombuffer("".join(sequences).encode(), np.uint8).reshape(len(sequences), length)
    alphabet = "".join(sorted(set("".join(sequences)))) if alphabet is None else alphabet.upper()
    if len(set(alphabet)) != len(alphabet):
        raise InputError(f"alphabet {alphabet!r} names a letter twice")
    code = np.full(256, -1)
    code[np.frombuffer(alphabet.encode(), np.uint8)] = np.arange(len(alphabet))
    codes = code[letters]
    if np.any(codes < 0):
        row, column = (int(i) for i in np.argwhere(codes < 0)[0])
        raise InputError(
            f"{path}: sequence {names[row]!r} has {chr(letters[row, column])!r} at position {column + 1}, "
            f"which is not in the alphabet {alphabet!r}"
        )
    train, heldout = split_fraction(len(codes), heldout_fraction, name=str(path))
    return Dataset(
        name=path.stem,
        train=codes[train].astype(np.float32),
        heldout=codes[heldout].astype(np.float32) if len(heldout) else None,
        test=None,
        event_shape=None,
        kind="categorical",
        provenance={
            "source": path.name,
            "rule": f"codes of letters; fixed permutation, heldout_fraction = {heldout_fraction:g}",
            "alphabet": alphabet,
            "sha256": {path.name: sha256(content)},
        },
    )


def _sequences(path: Path, lines: list[str]) -> tuple[list[str], list[str]]:
    """Names and sequences, upper case."""
    names: list[str] = []
    parts: list[list[str]] = []
    for number, line in enumerate(lines, start=1):
        line = line.strip()
        if line.startswith(">"):
            names.append(line[1:].strip())
            parts.append([])
        elif line and not parts:
            raise InputError(f"{path} is not a FASTA file: line {number} comes before any line that starts with '>'")
        elif line:
            parts[-1].append(line.upper().replace(".", "-"))
    if not parts:
        raise InputError(f"{path} is not a FASTA file: no line starts with '>'")
    return names, ["".join(part) for part in parts]
