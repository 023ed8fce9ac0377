"""Wrong inputs: one clear line on standard error, exit code 2, and nothing on the disk has changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import TINY, Cli, settings, tree_hash

TOML = '[run]\nn_steps = 50\n[data]\nsource = "digits"\n[model]\nkind = "rbm"\n'
FROM_FILE = ["train", "digits-rbm", *settings(*TINY, "data.source=file", "data.batch_size=0")]
PLANE = np.random.default_rng(1).normal(size=(60, 2))
ENERGY = ["train", "mixture", *settings("run.n_steps=20", "data.n_samples=50", "record.checkpoint_every=20")]


def nothing(_: Path) -> None:
    """No files are needed."""


def text(name: str, content: str) -> Callable[[Path], None]:
    """Puts a text file into the folder."""

    def prepare(folder: Path) -> None:
        (folder / name).write_text(content)

    return prepare


def array(name: str, x: np.ndarray) -> Callable[[Path], None]:
    """Puts an array file into the folder."""
    return lambda folder: np.save(folder / name, x)


def truncated_array(folder: Path) -> None:
    np.save(folder / "x.npy", np.zeros((40, 6)))
    (folder / "x.npy").write_bytes((folder / "x.npy").read_bytes()[:200])


def folder_with_notes(folder: Path) -> None:
    (folder / "notes").mkdir()
    (folder / "notes" / "diary.txt").write_text("not a run")


def binary(n: int = 40, d: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (n, d)).astype(float)


def spoiled(value: float) -> np.ndarray:
    x = binary()
    x[7, 3] = value
    return x


NO_RUN: dict[str, tuple[list[str], Callable[[Path], None], str]] = {
    # the arguments themselves
    "unknown command": (["tran"], nothing, "tran"),
    "no command": ([], nothing, "ommand"),
    "unknown option": (["train", "--sed", "3"], nothing, "--sed"),
    "one argument too many": (["train", "digits-rbm", "ising"], nothing, "ising"),
    "seed is a word": (["train", "--seed", "lucky"], nothing, "--seed"),
    "seed is negative": (["train", "--seed", "-1"], nothing, "run.seed"),
    "no time at all": (["train", "--max-minutes", "0"], nothing, "--max-minutes"),
    "unknown device": (["train", *settings(*TINY), "--device", "abacus"], nothing, "abacus"),
    "a device too many": (["train", *settings(*TINY), "--device", "cpu:99"], nothing, "cpu:99"),
    "more movers than walkers": (["train", *settings(*TINY, "training.n_moved=33")], nothing, "training.n_moved = 33"),
    "lazy restarts": (
        ["train", *settings(*TINY, "training.n_moved=8", "training.method=cd")],
        nothing,
        "training.n_moved = 0",
    ),
    # recipes and TOML files
    "unknown recipe": (["train", "digit-rbm"], nothing, "did you mean digits-rbm"),
    "unknown recipe to print": (["recipes", "isnig"], nothing, "ising"),
    "missing file": (["train", "my-run.toml"], nothing, "my-run.toml"),
    "folder for a file": (["train", "notes/"], folder_with_notes, "folder"),
    "not TOML": (["train", "x.toml"], text("x.toml", "[run]\nn_steps = \n"), "line 2"),
    "not text": (["train", "x.toml"], lambda f: (f / "x.toml").write_bytes(b"\xff\xfe\x00") and None, "x.toml"),
    "unknown section": (["train", "x.toml"], text("x.toml", TOML + "[modle]\nx = 1\n"), "[model]"),
    "unknown key": (["train", "x.toml"], text("x.toml", TOML + "n_hiden = 8\n"), "model.n_hidden"),
    "missing section": (["train", "x.toml"], text("x.toml", '[run]\nn_steps = 5\n[model]\nkind = "rbm"\n'), "data"),
    "section that is no table": (["train", "x.toml"], text("x.toml", "optimiser = 3\n" + TOML), "optimiser"),
    "wrong type in a file": (["train", "x.toml"], text("x.toml", TOML.replace("50", '"50"')), "run.n_steps"),
    # --set
    "setting without a value": (["train", *settings("run.seed")], nothing, "section.key=value"),
    "unknown setting": (["train", *settings("optimizer.rate=0.1")], nothing, "optimiser.rate"),
    "setting without a section": (["train", *settings("rate=0.1")], nothing, "optimiser.rate"),
    "setting of a wrong type": (["train", *settings("model.n_hidden=many")], nothing, "an integer"),
    "fraction of a step": (["train", *settings("run.n_steps=10.5")], nothing, "an integer"),
    "no steps": (["train", *settings("run.n_steps=0")], nothing, "at least 1"),
    "more steps than a counter holds": (["train", *settings("run.n_steps=3000000000")], nothing, "at most"),
    "rate that is no number": (["train", *settings("optimiser.rate=nan")], nothing, "optimiser.rate"),
    "momentum of one": (["train", *settings("optimiser.momentum=1.0")], nothing, "less than 1"),
    "unknown kind": (["train", *settings("model.units=spins")], nothing, "'spin'"),
    "path for a name": (["train", *settings("run.recipe=../elsewhere")], nothing, "run.recipe"),
    "record beyond the end": (["train", *settings("run.n_steps=10")], nothing, "record.every"),
    "auditor without an error": (["train", *settings("auditor.n_groups=4")], nothing, "16"),
    # parts that do not fit
    "gain of a law that is off": (["train", *settings("temperature.k_p=1.0")], nothing, "temperature.kind"),
    "flips of Langevin walkers": (
        ["train", "x.toml", *settings("model.kind=mlp", "temperature.kind=thermostat")],
        text("x.toml", TOML),
        "reports no flip rate",
    ),
    "ESS without weights": (
        ["train", *settings("temperature.kind=thermostat", "temperature.signal=ess")],
        nothing,
        "jarzynski",
    ),
    "a winding integral": (
        ["train", *settings("temperature.kind=thermostat", "temperature.k_i=0.5")],
        nothing,
        "winds up",
    ),
    "a natural step of another gradient": (
        ["train", *settings("optimiser.kind=natural", "temperature.beta_power=0")],
        nothing,
        "temperature.beta_power",
    ),
    "least work of another gradient": (
        ["train", *settings("optimiser.kind=least-work", "temperature.beta_power=0")],
        nothing,
        "temperature.beta_power",
    ),
    # networks with nudges
    "a nudged run in a foreign folder": (
        ["train", "digits-ep", "--out", "notes", "--resume"],
        folder_with_notes,
        "not a run folder",
    ),
    "a nudged run resumed nowhere": (["train", "digits-ep", "--resume"], nothing, "--resume needs --out"),
    "no time for a nudged run": (["train", "digits-ep", "--max-minutes", "0"], nothing, "--max-minutes"),
    "outputs pushed out of their well": (["train", "digits-ep", *settings("equilibrium.nudge=1.0")], nothing, "b < 1"),
    "convolutions of spins": (
        ["train", "digits-ep", *settings("network.hidden=[]", "network.channels=[4]", "network.units=spin")],
        nothing,
        "network.units",
    ),
    "convolutions below a read-out": (
        ["train", "digits-ep", *settings("network.hidden=[]", "network.channels=[4]", "network.output=softmax")],
        nothing,
        "network.hidden",
    ),
    "kernel of another model": (["train", *settings("kernel.kind=mala")], nothing, "block_gibbs"),
    "fused Gibbs": (["train", *settings("kernel.fused=true")], nothing, "ula"),
    "centred spins": (["train", "ising", *settings("training.centred=true")], nothing, "rbm"),
    "momentum of natural steps": (
        ["train", *settings("optimiser.kind=natural", "optimiser.momentum=0.9")],
        nothing,
        "optimiser.momentum",
    ),
    "damping for adam": (["train", *settings("optimiser.kind=adam", "optimiser.damping=0.1")], nothing, "does not go"),
    "one update of least work": (
        ["train", *settings("optimiser.kind=least-work", "run.n_steps=1")],
        nothing,
        "at least 2",
    ),
    "metric of sampled units": (
        ["train", *settings("optimiser.kind=natural", "training.positive=sampled")],
        nothing,
        "training.positive",
    ),
    "adaptive damping of a schedule": (
        ["train", *settings("optimiser.kind=natural", "optimiser.adaptive=true")],
        nothing,
        "optimiser.schedule",
    ),
    "dense metric of a large model": (
        ["train", *settings("optimiser.kind=natural", "optimiser.solver=dense", "model.n_hidden=500")],
        nothing,
        "8192",
    ),
    "K-FAC of an RBM": (["train", *settings("optimiser.kind=natural", "optimiser.solver=kfac")], nothing, "networks"),
    "rows beyond the memory": (
        ["train", "ising", *settings("optimiser.kind=natural", "data.n_samples=4000000")],
        nothing,
        "optimiser.solver",
    ),
    "spins for binary data": (["train", *settings(*TINY, "model.units=spin")], nothing, "Spin"),
    "components beyond the data": (
        ["train", "mixture", *settings("model.n_components=99", "data.n_samples=50")],
        nothing,
        "n_components",
    ),
    # impossible sizes
    "batch beyond the data": (["train", *settings("data.batch_size=5000")], nothing, "1437"),
    "layer beyond the memory": (["train", *settings("model.n_hidden=2000000000")], nothing, "GiB"),
    "walkers beyond the memory": (["train", *settings("training.n_walkers=100000000")], nothing, "n_walkers"),
    "auditor beyond the memory": (["train", *settings("auditor.n_walkers=10000000")], nothing, "auditor"),
    "samples beyond the memory": (["train", "ising", *settings("data.n_samples=100000000")], nothing, "n_samples"),
    # data
    "no path": (FROM_FILE, nothing, "data.path"),
    "path for embedded data": (["train", "--data", "x.npy"], array("x.npy", binary()), "data.source"),
    "missing data": ([*FROM_FILE, "--data", "x.npy"], nothing, "x.npy"),
    "missing MNIST": (["train", "mnist-rbm"], nothing, "QUASISTATIC_DATA"),
    "folder without IDX files": (["train", "mnist-rbm", "--data", "notes"], folder_with_notes, "notes"),
    "truncated array": ([*FROM_FILE, "--data", "x.npy"], truncated_array, "x.npy"),
    "foreign file": ([*FROM_FILE, "--data", "x.npz"], text("x.npz", "PK? no, a poem"), "x.npz"),
    "pickled objects": ([*FROM_FILE, "--data", "x.npy"], array("x.npy", np.array([{}, []], object)), "x.npy"),
    "words in a table": ([*FROM_FILE, "--data", "x.csv"], text("x.csv", "1,0\n0,one\n1,1\n"), "x.csv"),
    "ragged table": ([*FROM_FILE, "--data", "x.csv"], text("x.csv", "1,0\n0\n1,1\n"), "x.csv"),
    "empty table": ([*FROM_FILE, "--data", "x.csv"], text("x.csv", ""), "x.csv"),
    "unknown suffix": ([*FROM_FILE, "--data", "x.xls"], text("x.xls", "1,0\n"), "x.xls"),
    "no rows": ([*FROM_FILE, "--data", "x.npy"], array("x.npy", np.zeros((0, 6))), ""),
    "a single number": ([*FROM_FILE, "--data", "x.npy"], array("x.npy", np.array(3.0)), ""),
    "NaN": ([*FROM_FILE, "--data", "x.npy"], array("x.npy", spoiled(np.nan)), "nan"),
    "infinity": ([*FROM_FILE, "--data", "x.npy"], array("x.npy", spoiled(np.inf)), "inf"),
    "grey in binary data": ([*FROM_FILE, "--data", "x.npy"], array("x.npy", spoiled(0.5)), "0.5"),
    # where to write
    "existing folder": (["train", "--out", "notes"], folder_with_notes, "--resume"),
    "existing file": (["train", "--out", "x.toml"], text("x.toml", TOML), "exists"),
    "folder below a file": (["train", *settings(*TINY), "--out", "x.toml/run"], text("x.toml", TOML), "is a file"),
    "resume of nothing": (["train", "--resume"], nothing, "--out"),
    "resume of a foreign folder": (["train", "--resume", "--out", "notes"], folder_with_notes, "diary.txt"),
    "resume of a file": (["train", "--resume", "--out", "x.toml"], text("x.toml", TOML), "is a file"),
    # energies
    "energy without an attribute": ([*ENERGY, "--energy", "mine"], nothing, "module:attr"),
    "missing module": ([*ENERGY, "--energy", "no_such_module:energy"], nothing, "no_such_module"),
    "missing attribute": ([*ENERGY, "--energy", "e1:enrgy"], text("e1.py", "def energy(x): return x @ x"), "energy"),
    "module with a mistake": ([*ENERGY, "--energy", "e2:energy"], text("e2.py", "def energy(x)\n  1"), "SyntaxError"),
    "module that leaves": ([*ENERGY, "--energy", "e3:energy"], text("e3.py", "raise SystemExit(0)"), "SystemExit"),
    "energy that is a number": ([*ENERGY, "--energy", "e4:energy"], text("e4.py", "energy = 3.0"), "float"),
    "vector": ([*ENERGY, "--energy", "e5:energy"], text("e5.py", "def energy(x): return x**2"), "shape (2,)"),
    "integer": ([*ENERGY, "--energy", "e6:energy"], text("e6.py", "def energy(x): return 3"), "sample of shape"),
    "nothing returned": ([*ENERGY, "--energy", "e7:energy"], text("e7.py", "def energy(x): pass"), "sample of shape"),
    "energy that is NaN": (
        [*ENERGY, "--energy", "e8:energy"],
        text("e8.py", "import jax.numpy as jnp\ndef energy(x): return jnp.log(-x @ x)"),
        "not finite",
    ),
    "energy of another shape": (
        [*ENERGY, "--energy", "e9:energy"],
        text("e9.py", "import jax.numpy as jnp\ndef energy(x): return x @ jnp.eye(5) @ x"),
        "sample of shape",
    ),
    "factory that fails": (
        [*ENERGY, "--energy", "e10:energy"],
        text("e10.py", "def energy(key): raise KeyError('weights')"),
        "factory",
    ),
    "class for an instance": (
        [*ENERGY, "--energy", "e11:Energy"],
        text("e11.py", "class Energy:\n  def __call__(self, x): return x @ x"),
        "class",
    ),
    "box for unadjusted walkers": (
        [*ENERGY, *settings("model.base=uniform"), "--energy", "e12:energy"],
        text("e12.py", "def energy(x): return x @ x"),
        "mala",
    ),
    # commands that read
    "evaluate nothing": (["evaluate", "runs/none"], nothing, "runs/none"),
    "report on a foreign folder": (["report", "notes"], folder_with_notes, "config.toml"),
    "diagnose a file": (["diagnose", "x.toml"], text("x.toml", TOML), "x.toml"),
    "sample nothing": (["sample", "notes"], folder_with_notes, "config.toml"),
    "reproduce something unknown": (["reproduce", "cold-fusion"], nothing, "ledger-laws"),
}


@pytest.mark.parametrize("name", NO_RUN)
def test_bad_input_is_refused_in_one_line(name: str, cli: Cli, tmp_path: Path):
    argv, prepare, mentioned = NO_RUN[name]
    prepare(tmp_path)
    before = tree_hash(tmp_path)
    done = cli(*argv)
    assert done.code == 2, done
    assert done.err.count("\n") == 1 and done.err.startswith("quasistatic: "), done.err
    assert mentioned in done.err
    assert done.out == ""
    assert tree_hash(tmp_path) == before


def cut(name: str) -> Callable[[Path], None]:
    """Leaves the first third of a file of the run."""

    def spoil(run: Path) -> None:
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[: len(content) // 3])

    return spoil


def unfinished(run: Path) -> None:
    (run / "result.json").unlink()


def other_data(run: Path) -> None:
    unfinished(run)
    environment = json.loads((run / "environment.json").read_text())
    environment["data"]["sha256"] = "0" * 64
    (run / "environment.json").write_text(json.dumps(environment))


def no_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


WITH_RUN: dict[str, tuple[list[str], Callable[[Path], None], str]] = {
    "existing run": (["train", "--out", "run"], nothing, "--resume"),
    "resume with other settings": (
        ["train", "digits-rbm", *settings(*TINY, "optimiser.rate=0.01"), "--out", "run", "--resume"],
        unfinished,
        "optimiser.rate",
    ),
    "resume on other data": (["train", "--out", "run", "--resume"], other_data, "sha256"),
    "resume from a cut checkpoint": (
        ["train", "--out", "run", "--resume"],
        lambda run: (unfinished(run), cut("checkpoints/last.npz")(run)) and None,
        "last.npz",
    ),
    "resume with a cut configuration": (["train", "--out", "run", "--resume"], cut("config.toml"), "config.toml"),
    "sample with a cut checkpoint": (["sample", "run"], cut("checkpoints/last.npz"), "last.npz"),
    "sample without a checkpoint": (["sample", "run"], no_checkpoints, "last"),
    "sample into a text file": (["sample", "run", "--out", "x.txt"], nothing, ".npz"),
    "sample into nowhere": (["sample", "run", "--out", "nowhere/x.npz"], nothing, "nowhere"),
    "no samples": (["sample", "run", "--n", "0"], nothing, "--n"),
    "unknown way to sample": (["sample", "run", "--method", "magic"], nothing, "--method"),
    "a ladder of one rung": (["sample", "run", "--method", "tempering", "--rungs", "1"], nothing, "--rungs"),
    "too few rounds": (["sample", "run", "--method", "ptt", "--steps", "5"], nothing, "--steps"),
    "averages that were not kept": (["sample", "run", "--which", "averaged"], nothing, "averaged"),
    "unknown parameters": (["evaluate", "run", "--which", "worst"], nothing, "worst"),
    "evaluate with a cut checkpoint": (["evaluate", "run"], cut("checkpoints/last.npz"), "last.npz"),
    "report on a cut result": (["report", "run"], cut("result.json"), "result.json"),
    "diagnose a cut result": (["diagnose", "run"], cut("result.json"), "result.json"),
}


@pytest.mark.parametrize("name", WITH_RUN)
def test_bad_use_of_a_run_is_refused_in_one_line(name: str, cli: Cli, run_copy: Path, tmp_path: Path):
    argv, spoil, mentioned = WITH_RUN[name]
    spoil(run_copy)
    before = tree_hash(tmp_path)
    done = cli(*argv)
    assert done.code == 2, done
    assert done.err.count("\n") == 1 and done.err.startswith("quasistatic: "), done.err
    assert mentioned in done.err
    assert tree_hash(tmp_path) == before


def test_hash_notices_changes(tmp_path: Path):
    hashes = [tree_hash(tmp_path)]
    (tmp_path / "empty").mkdir()
    hashes.append(tree_hash(tmp_path))
    (tmp_path / "empty" / "file").write_text("a")
    hashes.append(tree_hash(tmp_path))
    (tmp_path / "empty" / "file").write_text("b")
    hashes.append(tree_hash(tmp_path))
    assert len(set(hashes)) == 4
