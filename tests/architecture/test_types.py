"""The type checker is worth something only if it reads the package: a planted error must be reported."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLANTED = '''"""One wrong line; imports must be found, or their types are unknown and nothing is checked."""

import equinox as eqx
import jax
import numpy as np

n_walkers: int = "many"
module, key, array = eqx.Module, jax.Array, np.ndarray
'''


def test_type_checker_reads_the_package(tmp_path):
    pyright = Path(sys.executable).with_name("pyright")
    if not pyright.exists():
        pytest.skip("pyright is not installed beside this interpreter")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "quasistatic").mkdir()
    (tmp_path / "quasistatic" / "planted.py").write_text(PLANTED)
    (tmp_path / "elsewhere.py").write_text(PLANTED)
    command = [pyright, "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 1
    assert [d["rule"] for d in report["generalDiagnostics"]] == ["reportAssignmentType"]
    assert done.returncode == 1
