"""Keys of the identities, and where a marked test may run.

Identities hold for every key: they take the fixture `key`, fresh in each run and replayable,

    QUASISTATIC_TEST_SEED=123456 JAX_ENABLE_X64=1 python -m pytest tests/laws/test_first_law.py

Statistical tests name their key themselves. Laws are checked in float64 (`JAX_ENABLE_X64=1`), tests marked `float32` in
a second job (`JAX_ENABLE_X64=0`), tests marked `gpu` where there is one.
"""

import os
import secrets
import shutil
import tempfile
from pathlib import Path

import pytest

SEED = "QUASISTATIC_TEST_SEED"
# Folders whose tests state identities in machine epsilons of float64.
FLOAT64 = {"dissipation", "dynamics", "energies", "evaluate", "kernels", "laws", "thermo"}


CACHE = "JAX_COMPILATION_CACHE_DIR"


def pytest_configure(config: pytest.Config) -> None:
    """One folder of compiled programs for all workers of this run: most of the time of a test is compilation."""
    if CACHE in os.environ:  # given by the user, or by the controller to its workers
        return
    folder = tempfile.mkdtemp(prefix="quasistatic-compiled-")
    os.environ |= {
        CACHE: folder,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    config.add_cleanup(lambda: (os.environ.pop(CACHE, None), shutil.rmtree(folder, ignore_errors=True)))


@pytest.fixture
def key():
    """Fresh random key; its seed is printed when the test fails and can be given back through the environment."""
    import jax

    seed = int(os.environ.get(SEED) or secrets.randbits(32))
    print(f"random key of this run: repeat it with {SEED}={seed}")
    return jax.random.key(seed)


def needs_float64(item: pytest.Item) -> bool:
    """Whether a test belongs to the float64 job only."""
    here = Path(__file__).parent
    if not item.path.is_relative_to(here):  # an example in a docstring of the package
        return False
    folder = item.path.relative_to(here).parts[0]
    return folder in FLOAT64 and item.get_closest_marker("float32") is None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    double = [item for item in items if needs_float64(item)]
    marked = [item for item in items if item.get_closest_marker("gpu") or item.get_closest_marker("float32")]
    if not marked and not double:
        return
    import jax  # only here: the architecture tests need no JAX, and it takes a second to load

    has_gpu = any(device.platform == "gpu" for device in jax.devices())
    for item in marked:
        if item.get_closest_marker("gpu") and not has_gpu:
            item.add_marker(pytest.mark.skip(reason="JAX sees no GPU here"))
        if item.get_closest_marker("float32") and jax.config.jax_enable_x64:
            item.add_marker(pytest.mark.skip(reason="belongs to the float32 job: set JAX_ENABLE_X64=0"))
    for item in double:
        if not jax.config.jax_enable_x64:
            item.add_marker(pytest.mark.skip(reason="a law in float64: set JAX_ENABLE_X64=1"))
