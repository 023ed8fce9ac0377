"""A run killed with SIGKILL at random moments and resumed each time equals an uninterrupted one, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

N_KILLS = 20
SETTINGS = (
    "run.n_steps=3000 data.batch_size=100 model.n_hidden=12 training.method='jarzynski' record.every=10 "
    "record.n_ages=12 record.checkpoint_every=50 auditor.n_walkers=16 optimiser.ema=0.99"
).split()


def command(folder, *more):
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return [sys.executable, "-m", "quasistatic", "train", "digits-rbm", *settings, "--out", str(folder), *more]


def environment():
    # float32, as users run it
    return {**os.environ, "JAX_ENABLE_X64": "0", "PYTHONPATH": str(Path(__file__).parents[2])}


def timeless(folder):
    """Everything a run leaves except clocks, machine and the report: metrics without `time_*`, arrays, numbers."""
    lines = (folder / "metrics.csv").read_text().splitlines()
    keep = [i for i, name in enumerate(lines[0].split(",")) if not name.startswith("time_")]
    contents = {"metrics": [[line.split(",")[i] for i in keep] for line in lines]}
    for path in sorted([*folder.glob("ages/*.npz"), *folder.glob("checkpoints/*.npz")]):
        with np.load(path, allow_pickle=False) as file:
            contents[str(path.relative_to(folder))] = {name: file[name].tobytes() for name in file.files}
    result = json.loads((folder / "result.json").read_text())
    contents["result"] = {name: value for name, value in result.items() if not name.startswith("time_")}
    return contents


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    started = time.monotonic()
    subprocess.run(command(whole), check=True, capture_output=True, env=environment(), timeout=600)
    duration = time.monotonic() - started

    rng = random.Random(4)
    n_kills, steps_at_kill = 0, []
    for attempt in range(200):
        more = ["--resume"] if killed.exists() else []
        process = subprocess.Popen(
            command(killed, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        )
        try:
            # moments from the imports to the last checkpoints: some fall before the first step, some into a write
            wait = rng.uniform(0.1, 0.7) * duration if n_kills < N_KILLS else 600
            _, errors = process.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            n_kills += 1
            metrics = killed / "metrics.csv"
            steps_at_kill.append(metrics.read_text().count("\n") if metrics.exists() else 0)
            continue
        assert process.returncode == 0, errors.decode()[-2000:]
        if n_kills >= N_KILLS:
            break
        # finished early: start another killed run from scratch, so that all kills hit a running one
        assert timeless(killed) == timeless(whole)
        killed = tmp_path / f"killed-{attempt}"
    assert n_kills == N_KILLS
    assert max(steps_at_kill) > 0, "no kill came after the first record"
    print(f"{n_kills} kills, rows of metrics at each: {steps_at_kill}")
    assert timeless(killed) == timeless(whole)
    # the comparison can fail: another seed is another run
    other = tmp_path / "other"
    subprocess.run(command(other, "--seed", "1"), check=True, capture_output=True, env=environment(), timeout=600)
    assert timeless(other) != timeless(whole)
