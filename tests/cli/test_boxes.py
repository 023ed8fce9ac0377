"""A kernel that keeps walkers in a box: they must start inside, in the command line and in Python."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic.cli.build import make_model, make_trainer
from quasistatic.cli.config import load_config
from quasistatic.cli.data import load_data
from quasistatic.energies import UniformBox
from quasistatic.errors import InputError
from quasistatic.train import run_chunk

NETWORK = "model.kind=mlp model.n_components=none model.widths=[8] auditor.n_groups=0 kernel.kind=ula".split()
BOX = ["kernel.low=-9", "kernel.high=9"]


def config(*more: str):
    return load_config("mixture", [*NETWORK, *more])


def begun(settings):
    """Data, trainer and state before the first update."""
    x = load_data(settings).train
    model, law = make_model(settings, jax.random.key(1), x)
    trainer = make_trainer(settings, model, law, x)
    return jnp.asarray(x, float), trainer, trainer.init(jax.random.key(0), model)


@pytest.mark.parametrize("method", ["pcd", "jarzynski"])
def test_walkers_from_outside_are_refused(method: str):
    """From a Gaussian some would start where no move leads back."""
    with pytest.raises(InputError, match="could never move; set model.base = 'uniform'"):
        config(*BOX, f"training.method={method}", "model.base=gaussian")
    with pytest.raises(InputError, match="inside the box of kernel.low and kernel.high"):
        config(f"training.method={method}", "model.base=uniform")  # no box to be uniform on


@pytest.mark.slow
def test_a_network_in_a_box():
    """The base law is the box: `log Z` starts at its volume, walkers stay inside and the law is not trained."""
    settings = config(*BOX, "training.method=jarzynski", "model.base=uniform", "optimiser.kind=adam",
                      "optimiser.weight_decay=3.0", "optimiser.rate=0.01", "optimiser.momentum=none")  # fmt: skip
    data, trainer, state = begun(settings)
    assert float(state.ensemble.log_z.value[0]) == pytest.approx(data.shape[1] * np.log(18.0), rel=1e-6)
    moved = run_chunk(trainer, state, data, jnp.asarray(20, jnp.int32))
    x, base = np.asarray(moved.ensemble.x), moved.model.base()
    assert int(moved.result) == 0 and np.all(np.abs(x) <= 9.0) and np.std(x - np.asarray(state.ensemble.x)) > 0.1
    assert isinstance(base, UniformBox) and np.all(base.low == -9.0) and np.all(base.high == 9.0)


def test_data_outside_the_box_are_refused():
    settings = config("kernel.low=-0.1", "kernel.high=0.1", "training.method=jarzynski", "model.base=uniform")
    with pytest.raises(InputError, match="do not fit into the box from -0.1 to 0.1; widen it"):
        make_model(settings, jax.random.key(1), load_data(settings).train)


def test_short_runs_start_where_they_say():
    """Their walkers start from a law of their own: what the base law fills does not matter."""
    settings = config(*BOX, "training.method=short-run", "model.base=gaussian", "model.base_scale=30",
                      "kernel.fused=false", "short_run.start=box", "training.resample_below=none")  # fmt: skip
    data, trainer, state = begun(settings)
    assert np.abs(state.ensemble.x).max() > 9.0
    moved = run_chunk(trainer, state, data, jnp.asarray(2, jnp.int32))
    assert int(moved.result) == 0 and np.abs(moved.ensemble.x).max() < 2.0


@pytest.mark.parametrize(("scale", "is_refused"), [(3.0, True), (0.01, False)])
def test_the_library_refuses_them_too(scale: float, is_refused: bool):
    model = qs.mlp(jax.random.key(1), 2, (4,), scale=scale)
    kernel = qs.Langevin(box=(-1.0, 1.0))
    trainer = qs.pcd(kernel, optax.sgd(0.1), n_walkers=64, batch_size=16, auditor_groups=0, step_size=0.01)
    if is_refused:
        with pytest.raises(InputError, match=r"out of the kernel's box from -1 to 1, and could never move"):
            trainer.init(jax.random.key(0), model)
    else:
        trainer.init(jax.random.key(0), model)
