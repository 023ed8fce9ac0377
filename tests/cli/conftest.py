"""The command line in this process, in an empty folder; and one tiny finished run to read."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

TINY = (
    "run.n_steps=50 model.n_hidden=4 training.n_walkers=32 auditor.n_walkers=4 record.every=10 record.n_ages=4 "
    "record.checkpoint_every=25"
).split()
"""Settings of a run of a second."""


def settings(*values: str) -> list[str]:
    """`--set` options."""
    return [word for value in values for word in ("--set", value)]


@dataclass(frozen=True)
class Done:
    """What a command did: exit code and what it printed."""

    code: int
    out: str
    err: str


Cli = Callable[..., Done]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty home folder."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def cli(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Function (*argv) -> Done, run in an empty folder."""
    from quasistatic.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUASISTATIC_DATA", raising=False)
    monkeypatch.setenv("HOME", str(home))  # whatever the user has cached
    monkeypatch.setenv("COLUMNS", "100")

    def run(*argv: object) -> Done:
        capfd.readouterr()
        code = main([str(word) for word in argv])
        printed = capfd.readouterr()
        return Done(code, printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny run; not to be changed."""
    from quasistatic.cli.main import main

    folder = tmp_path_factory.mktemp("finished") / "digits-rbm-001"
    assert main(["train", "digits-rbm", *settings(*TINY), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run_copy(finished: Path, tmp_path: Path) -> Path:
    """The tiny run, copied to `run` in the test's own folder."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def tree_hash(root: Path) -> str:
    """Names and contents of everything below a folder."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        content = path.read_bytes() if path.is_file() else b"folder"
        digest.update(f"{path.relative_to(root)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
