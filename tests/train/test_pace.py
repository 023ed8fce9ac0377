"""Sweeps that follow the autocorrelation time of the driver: on traces of known time, and in a training."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic.errors import InputError
from quasistatic.evaluate import mixing
from quasistatic.regulators import Reading
from quasistatic.regulators.pace import autocorrelation_time
from quasistatic.thermo import Ensemble
from quasistatic.train import run_chunk

N_WALKERS, WINDOW = 300, 60


def ar1(phi: float, n: int, m: int) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal((n, m))
    x = noise.copy()
    for t in range(1, n):
        x[t] = phi * x[t - 1] + np.sqrt(1 - phi**2) * noise[t]
    return x


@pytest.mark.parametrize("phi", [0.0, 0.6, 0.8])
def test_the_traced_time_is_that_of_the_host(phi):
    trace = ar1(phi, 200, N_WALKERS)
    exact = (1 + phi) / (1 - phi)
    found = float(autocorrelation_time(jnp.asarray(trace - trace.mean(1, keepdims=True))))
    assert abs(found / float(mixing.autocorrelation_time(trace).value or 0) - 1) < 0.02
    assert abs(found / exact - 1) < 0.1
    assert float(autocorrelation_time(jnp.zeros((16, 4)))) > 16  # nothing moves


@pytest.mark.parametrize(
    "phi, n_sweeps, expected",
    # tau is 9 updates of n sweeps each at phi = 0.8, so n < 9 n / 5 always asks for more; 1 update at phi = 0
    [(0.8, 4, 8), (0.8, 200, 256), (0.0, 8, 4), (0.0, 1, 1), (0.45, 4, 4)],
)
def test_sweeps_follow_the_time(phi, n_sweeps, expected):
    """Constant within a window, changed at its end by the published rule; offsets of the model are ignored."""
    rule = qs.KeepPace(N_WALKERS, window=WINDOW, ratio=5.0)
    potential = qs.Potential(qs.as_energy(lambda x: x[0]), 1.0)
    trace = ar1(phi, WINDOW, N_WALKERS) + np.linspace(0, 1000, WINDOW)[:, None]
    ensemble = Ensemble.open(qs.Langevin(), potential, jnp.zeros((N_WALKERS, 1)))
    reading = Reading(jnp.asarray(3), jnp.asarray(1.0), jnp.asarray(0.0), jnp.asarray(0.0))
    controls, state = qs.Controls.of(n_sweeps=n_sweeps), rule.init()
    key = jax.random.key(0)

    @eqx.filter_jit
    def after(u, controls, state):
        moved = eqx.tree_at(lambda e: e.u, ensemble, u)
        controls, _, state = rule.update(key, reading, potential, qs.Langevin(), ensemble.x, moved, controls, state)
        return controls, state

    for t, u in enumerate(trace):
        assert int(controls.n_sweeps) == n_sweeps, t
        controls, state = after(jnp.asarray(u), controls, state)
    assert int(controls.n_sweeps) == expected and int(state.n_recorded) == 0
    exact = n_sweeps * (1 + phi) / (1 - phi)
    assert abs(float(state.tau) / exact - 1) < 0.25


@pytest.mark.slow
def test_in_a_training():
    """Couplings that slow the chains down get more sweeps; the run repeats itself bit for bit in other pieces."""
    x = np.repeat(np.eye(2), 4, axis=1)[np.random.default_rng(0).integers(0, 2, 200)]
    model = qs.RBM.initialise(jax.random.key(1), 8, 4, weight_scale=0.3, data=x)
    rule = qs.KeepPace(64, window=20, n_max=16)
    trainer = qs.pcd(qs.BlockGibbs(), optax.sgd(0.3), n_walkers=64, auditor_groups=0, regulators=(rule,))

    def trained(*stops):
        state = trainer.init(jax.random.key(2), model)
        for stop in stops:
            state = run_chunk(trainer, state, jnp.asarray(x), jnp.asarray(stop, jnp.int32))
        return state

    whole, pieces = trained(300), trained(110, 300)
    assert int(whole.controls.n_sweeps) > 1 and float(whole.regulator_states[0].tau) > 1
    np.testing.assert_array_equal(whole.ensemble.x, pieces.ensemble.x)
    assert int(whole.controls.n_sweeps) == int(pieces.controls.n_sweeps)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: qs.KeepPace(0), "n_walkers >= 1"),
        (lambda: qs.KeepPace(10, window=4), "window >= 8"),
        (lambda: qs.KeepPace(10, n_min=5, n_max=2), "n_min <= n_max"),
        (lambda: qs.KeepPace(10, ratio=0.0), "above 0"),
    ],
)
def test_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
