"""Habits of the house: length of files, docstrings, and constructs that have no place here."""

import ast
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 400
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".yml",
    ".yaml",
    ".cfg",
    ".cff",
    ".sh",
    ".html",
    ".css",
    ".js",
    ".json",
    ".ipynb",
    "",
}
PICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "joblib", "marshal"}
# A home, a scratch folder or a drive of one particular machine, written out.
MACHINE_PATH = re.compile(r"(?<![\w.~/<}-])/(?:home|root|work|Users|mnt|scratch|tmp)/\w|\b[A-Z]:\\+\w")


def repository_files() -> list[Path]:
    """What git tracks or would track, so that neither the environment nor runs are read."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout: cannot tell the repository's files from others")
    paths = [ROOT / line for line in listing.stdout.splitlines()]
    return [path for path in paths if path.is_file() and path.suffix in TEXT]


def python_files() -> list[Path]:
    """Every Python file of the repository: package, tests, benchmarks, examples."""
    return [path for path in repository_files() if path.suffix == ".py"]


def package_files() -> list[Path]:
    """Every Python file of the package."""
    return sorted((ROOT / "quasistatic").rglob("*.py"))


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an attribute chain, the empty string of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return ""


def is_text(node: ast.expr | None, text: str) -> bool:
    """Whether a node is the literal `text`, in any case of letters."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.lower() == text


def long_file(source: str) -> list[str]:
    n_lines = len(source.splitlines())
    return [f"{n_lines} lines, at most {MAX_LINES}"] if n_lines > MAX_LINES else []


def x64_switch(source: str) -> list[str]:
    """Any way of setting JAX's global precision: config.update, assignment, environment variable."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and any(is_text(arg, "jax_enable_x64") for arg in node.args):
            found.append(f"line {node.lineno}: sets jax_enable_x64; precision is the user's choice")
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr == "jax_enable_x64":
            found.append(f"line {node.lineno}: assigns jax_enable_x64; precision is the user's choice")
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            if is_text(node.slice, "jax_enable_x64") and dotted(node.value).endswith("environ"):
                found.append(f"line {node.lineno}: sets JAX_ENABLE_X64; precision is the user's choice")
    return found


def pickled(source: str) -> list[str]:
    """Imports of picklers, and array files opened without refusing pickles."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        found += [f"line {node.lineno}: imports {n}" for n in names if n.split(".")[0] in PICKLERS]
        if isinstance(node, ast.Call):
            allow = [k.value for k in node.keywords if k.arg == "allow_pickle"]
            refused = bool(allow) and isinstance(allow[0], ast.Constant) and allow[0].value is False
            if allow and not refused:
                found.append(f"line {node.lineno}: allow_pickle is not the literal False")
            elif not allow and dotted(node.func) in {"np.load", "numpy.load", "jnp.load", "jax.numpy.load"}:
                found.append(f"line {node.lineno}: load without allow_pickle=False")
    return found


def star_import(source: str) -> list[str]:
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    return [f"line {n.lineno}: from {n.module} import *" for n in nodes if any(a.name == "*" for a in n.names)]


def missing_docstring(source: str) -> list[str]:
    """Modules, and public functions and classes at their top level, that say nothing about themselves."""
    tree = ast.parse(source)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    found = [] if ast.get_docstring(tree) or not tree.body else ["the module has no docstring"]
    return found + [f"line {n.lineno}: {n.name} has no docstring" for n in public if not ast.get_docstring(n)]


def machine_path(source: str) -> list[str]:
    lines = enumerate(source.splitlines(), start=1)
    return [f"line {i}: {m.group(0)}... exists on one machine only" for i, s in lines if (m := MACHINE_PATH.search(s))]


Rule = Callable[[str], list[str]]
# What is checked, where, and a planted source on which the check must speak up exactly once.
RULES: dict[str, tuple[Rule, Callable[[], list[Path]], str]] = {
    "length": (long_file, python_files, "x = 1\n" * (MAX_LINES + 1)),
    "x64": (x64_switch, package_files, "import jax\ndef f():\n    jax.config.update('jax_enable_x64', True)"),
    "pickle": (pickled, python_files, "def f():\n    import pickle"),
    "stars": (star_import, python_files, "from numpy import *"),
    "docstrings": (
        missing_docstring,
        package_files,
        '"""A module."""\ndef public(): ...\ndef _private(): ...',
    ),
    "machine paths": (machine_path, repository_files, "where = '" + "/ho" + "me/someone/data'"),
}
MORE_PLANTED = [
    (x64_switch, "import os\nos.environ['JAX_ENABLE_X64'] = '1'"),
    (x64_switch, "import jax\njax.config.jax_enable_x64 = True"),
    (x64_switch, "import os\nos.environ.setdefault('JAX_ENABLE_X64', '1')"),
    (pickled, "import numpy as np\nnp.load('a.npz')"),
    (pickled, "import numpy as np\nnp.load('a.npz', allow_pickle=True)"),
    (pickled, "from joblib import dump"),
    (missing_docstring, '"""A module."""\nclass Public:\n    x = 1'),
    (missing_docstring, "x = 1"),
]
INNOCENT = [
    (x64_switch, "import jax\nis_double = jax.config.jax_enable_x64\ninfo = {'jax_enable_x64': is_double}"),
    (pickled, "import numpy as np\nnp.load('a.npz', allow_pickle=False)"),
    (machine_path, "[the bench](https://example.org/work/bench) and ../home/x and #!/usr/bin/env bash"),
    (missing_docstring, '"""A module."""\ndef f():\n    """Do."""\n    def inner(): ...'),
    (missing_docstring, ""),
]


@pytest.mark.parametrize("name", RULES)
def test_repository_keeps_the_rule(name):
    rule, files, _ = RULES[name]
    paths = files()
    assert paths, "the rule was applied to no file at all"
    found = [f"{path.relative_to(ROOT)}: {line}" for path in paths for line in rule(path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("rule, source", [(r, planted) for r, _, planted in RULES.values()] + MORE_PLANTED)
def test_rule_finds_what_was_planted(rule, source):
    assert len(rule(source)) == 1


@pytest.mark.parametrize("rule, source", INNOCENT)
def test_rule_leaves_the_innocent_alone(rule, source):
    assert rule(source) == []
