"""The thermostat by itself: anti-windup, one-sidedness, limits that are named, signals, stability."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import quasistatic as qs
from quasistatic._results import RESULTS
from quasistatic.errors import InputError
from quasistatic.regulators import Reading, Thermostat

QUICK = Thermostat(0.05, smoothing=0.2, k_p=0.5, k_i=0.05, patience=10**8)


@functools.partial(jax.jit, static_argnums=0)
def _fed(kind, thermostat, signals):
    def update(state, signal):
        state = thermostat.advanced(state, signal)
        return state, state

    return jax.lax.scan(update, thermostat.init(), signals)[1]


def fed(thermostat, signals):
    """States of a thermostat after each of a row of signals."""
    return _fed(type(thermostat), thermostat, jnp.asarray(signals, float))


class Winding(Thermostat):
    """Saboteur: an integral without limits."""

    def integrated(self, integral, error):
        return integral + self.k_i * error


SHOCK = np.concatenate([np.zeros(10_000), np.full(10_000, 0.1)])


def test_it_does_not_wind_up():
    """T-25: 10,000 updates at the limit are forgotten as soon as flips return."""
    u = np.asarray(fed(QUICK, SHOCK).u)
    np.testing.assert_allclose(u[200:10_000], 6.0, rtol=0, atol=1e-12)
    left = np.argmax(u[10_000:] < 5.99)
    print("updates until it leaves the limit:", left, "; until T falls by half:", np.argmax(u[10_000:] < 6 - np.log(2)))
    assert left <= 10 and (u[10_010:] < 5.99).all() and u[-1] == 0.0


def test_saboteur_without_anti_windup():
    winding = Winding(0.05, smoothing=0.2, k_p=0.5, k_i=0.05, patience=10**8)
    u = np.asarray(fed(winding, SHOCK).u)
    assert (u[10_000:19_000] == 6.0).all()


def test_it_never_cools_and_is_exactly_off_when_not_needed():
    signals = np.concatenate([np.full(50, np.nan), np.random.default_rng(0).uniform(0.05, 1.0, 500)])
    states = fed(QUICK, signals)
    assert (np.asarray(states.u) == 0).all() and (np.asarray(states.integral) == 0).all()
    assert not np.asarray(states.has_begun)[:50].any()  # NaN is no reading
    two_sided = np.asarray(fed(eqx.tree_at(lambda t: t.least, QUICK, -3.0), signals).u)
    assert two_sided.min() == -3.0  # the same signals cool a two-sided one to its floor


def test_slew():
    u = np.asarray(fed(QUICK, np.tile([0.0] * 5 + [1.0] * 5, 20)).u)
    assert np.abs(np.diff(u)).max() == pytest.approx(0.1, abs=1e-12) and u[0] == pytest.approx(0.1)


def test_error_has_the_right_sign_for_every_signal():
    for signal, bad, good in (("flip_rate", 0.0, 0.2), ("ess", 0.01, 0.9), ("excess_work", 3.0, 0.001)):
        thermostat = Thermostat(0.1, signal=signal)
        assert 0.5 < float(thermostat.error(bad)) <= 1 and -1 <= float(thermostat.error(good)) < 0


def regulated(thermostat, n, **signals):
    """Controls and state after `n` readings of the driver, the first of which measured nothing."""
    potential = qs.Potential(qs.RBM.initialise(jax.random.key(0), 3, 2), jnp.asarray(0.7))
    ensemble = qs.Ensemble.open(qs.BlockGibbs(), potential, jnp.zeros((4, 3)))
    numbers = {"ess": 1.0, "work": 0.0, "flip_rate": jnp.nan, "excess_work": 0.0} | signals

    @eqx.filter_jit
    def update(step, controls, state):
        reading = Reading(step, **{name: jnp.asarray(number, float) for name, number in numbers.items()})
        return thermostat.update(
            jax.random.key(0), reading, potential, qs.BlockGibbs(), ensemble.x, ensemble, controls, state
        )[::2]

    controls, state = qs.Controls.of(beta=0.7), thermostat.init()
    for step in range(n):
        controls, state = update(jnp.asarray(step), controls, state)
    return controls, state


def test_it_acts_on_beta_and_names_its_limit():
    """T-14 for the new law: pinned at its limit for `patience` updates, it ends the run by name."""
    thermostat = Thermostat(0.05, most=0.3, beta=0.7, patience=5)
    controls, state = regulated(thermostat, 8, flip_rate=0.0)
    np.testing.assert_allclose(controls.beta, 0.7 * np.exp(-0.3), rtol=1e-12)
    assert RESULTS(int(thermostat.result(state))) is RESULTS.temperature_clamped
    controls, state = regulated(thermostat, 7, flip_rate=0.0)
    assert RESULTS(int(thermostat.result(state))) is RESULTS.ok
    controls, state = regulated(thermostat, 100, flip_rate=0.5)
    assert float(controls.beta) == 0.7 and RESULTS(int(thermostat.result(state))) is RESULTS.ok


@pytest.mark.parametrize("signal, value", [("ess", 0.02), ("excess_work", 5.0)])
def test_other_signals_of_the_driver(signal, value):
    controls, _ = regulated(Thermostat(0.2, signal=signal), 5, **{signal: value})
    assert float(controls.beta) < 1
    controls, state = regulated(Thermostat(0.2, signal="flip_rate"), 5)
    assert float(controls.beta) == 1 and not bool(state.has_begun)  # this kernel reports no flips


@pytest.mark.parametrize("slope", [0.5, 5.0, 17.0, 20.0, 60.0])
def test_stability_of_the_loop(slope):
    """`is_stable` against the eigenvalues of the linear map, and against the loop itself near its set-point."""
    a, k_p, k_i = QUICK.smoothing, QUICK.k_p, QUICK.k_i
    d = 1 - a - a * slope * k_p
    radius = np.abs(np.linalg.eigvals([[d, a * slope], [-k_i * d, 1 - k_i * a * slope]])).max()
    assert QUICK.is_stable(slope) == (radius < 1) == (slope < 18)
    wide = eqx.tree_at(lambda t: (t.slew, t.most), QUICK, (1e3, 1e3))
    one = jnp.asarray(1.0)
    state = wide.init()._replace(smoothed=0.05 * (one + 1e-6), has_begun=jnp.asarray(True), integral=one, u=one)
    for _ in range(60):  # r = r* (1 + slope (u - 1)), from next to its fixed point u = 1
        state = wide.advanced(state, 0.05 * (1 + slope * (state.u - 1)))
    assert (abs(float(state.smoothed) / 0.05 - 1) > 1e-3) == (not QUICK.is_stable(slope))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"signal": "auditor"}, "unknown signal"),
        ({"set_point": 0.0}, "must be positive"),
        ({"set_point": 1.5}, "lies in"),
        ({"k_i": 0.2}, "winds up"),
        ({"least": 0.5}, "least <= 0"),
        ({"patience": 0}, "patience"),
    ],
)
def test_refused(options, message):
    with pytest.raises(InputError, match=message):
        Thermostat(**options)
