"""The runs of `reproduce temperature`: interrupted ones go on bit for bit, and the control is the run it rewrites."""

import jax
import numpy as np
import pytest

from quasistatic.reproduce import tempered_mnist
from quasistatic.reproduce.tempered_mnist import Images, Size, run

pytestmark = pytest.mark.slow

SMALL = Size(
    n_hidden=6, n_epochs=4, n_rows=512, n_seeds=1, n_temperatures=101, n_chains=16, n_equilibrate=20, save_every=2,
    n_stacks=8, n_watched=20,
)  # fmt: skip


def images() -> Images:
    """Two kinds of pictures of 784 pixels, upper and lower half, with some noise."""
    random = np.random.default_rng(4)
    upper = (np.arange(784) < 392) == (random.random((612, 1)) < 0.7)
    x = np.where(random.random((612, 784)) < 0.1, ~upper, upper).astype(np.float32)
    return Images(x[:512], x[512:])


@pytest.mark.parametrize("condition", ["published", "replicas"])
def test_an_interrupted_run_goes_on_bit_for_bit(condition: str, tmp_path, monkeypatch):
    data, key, path = images(), jax.random.key(2), tmp_path / "run.npz"
    whole = run(key, condition, data, SMALL, None)
    with monkeypatch.context() as patch:
        patch.setattr(tempered_mnist, "judge", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(key, condition, data, SMALL._replace(n_epochs=2), path)
    again = run(key, condition, data, SMALL, path)
    np.testing.assert_array_equal(again.rows[:, :-1], whole.rows[:, :-1])  # the last column is time
    assert again.judged == whole.judged
    assert (whole.judged["n_rungs"] == 1) == (condition != "replicas")
    assert whole.judged["conductance"] is not None and 0 < whole.judged["conductance"] <= 1.1


def test_the_gauge_control_is_the_cold_run_rewritten():
    """Weights over T, likelihood and flips to rounding; a control whose start is not rescaled is another run."""
    data, key = images(), jax.random.key(5)
    size = SMALL._replace(n_epochs=2)
    cold, gauge, plain = (run(key, name, data, size, None) for name in ("fixed-0.9225", "gauge", "fixed-1"))
    for name, tolerance in (("norm_over_t", 1e-4), ("flip_rate", 2e-3)):
        np.testing.assert_allclose(gauge.column(name)[-1], cold.column(name)[-1], rtol=tolerance)
    assert gauge.judged["ll_test"] == pytest.approx(cold.judged["ll_test"], rel=0.02)
    assert abs(plain.column("norm_over_t")[-1] / cold.column("norm_over_t")[-1] - 1) > 0.05


def _interrupt(*_):
    raise KeyboardInterrupt
