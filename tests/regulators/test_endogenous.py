"""The published law of temperature: its numbers, its invariant, what it cannot do, and the figure it made."""

import csv
import os
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import quasistatic as qs
from quasistatic._results import RESULTS
from quasistatic.errors import InputError
from quasistatic.regulators import EndogenousTemperature, Reading
from quasistatic.regulators.endogenous import invariant, macro, micro
from quasistatic.thermo import Ensemble

KAPPA = 0.99
GOLDEN = {  # updates of the map r = 0.2 + 0.1 y from y = q = 0: (q, y)
    1: (0.002, -0.00198),
    2: (0.00397802, -0.0039382398),
    100: (0.12171370555529, -0.12049656849974),
    400: (0.17979432068973, -0.17799637748283),
}


def golden_map(n, y=0.0, q=0.0, update=micro):
    """`(q, y)` after each of `n` epochs whose flip rate follows the temperature."""
    course = []
    for _ in range(n):
        y, q = update(y, q, 0.2 + 0.1 * y)
        course.append((q, y))
    return np.array(course)


def test_golden_map():
    """T-08: the numbers of the map to 1e-12, its limit, and the running mean of the gap."""
    course = golden_map(3000)
    for n, expected in GOLDEN.items():
        np.testing.assert_allclose(course[n - 1], expected, rtol=0, atol=6e-15 if n > 2 else 1e-12)
    np.testing.assert_allclose(course[-1], (0.2 / 1.099, -KAPPA * 0.2 / 1.099), rtol=0, atol=1e-12)
    gaps, mean = np.random.default_rng(0).normal(-13, 50, 400), 0.0
    for n, gap in enumerate(gaps):
        mean = macro(mean, gap, n)
        assert abs(mean - gaps[: n + 1].mean()) < 1e-11


def test_saboteur_reference_not_yet_updated():
    """The law uses the updated reference; the old one gives other numbers from the first epoch on."""

    def old_reference(y, q, r):
        return y - 0.01 * (r - q), micro(y, q, r)[1]

    assert np.abs(golden_map(1, update=old_reference)[0] - GOLDEN[1]).max() > 1e-5


def test_first_integral():
    """T-09: `y + kap q` stays whatever the flip rates, for any gains."""
    rng = np.random.default_rng(1)
    for gain, smoothing in ((0.01, 0.01), (0.3, 0.07)):
        y, q = rng.normal(), rng.random()
        start = invariant(y, q, gain=gain, smoothing=smoothing)
        for r in rng.random(5000) ** 3:
            y, q = micro(y, q, r, gain=gain, smoothing=smoothing)
        assert abs(invariant(y, q, gain=gain, smoothing=smoothing) - start) < 1e-12
        # the gain is gone if the wrong constant is taken
        assert abs((y + gain / smoothing * q) - (start + gain * q)) < 1e-12


def test_range():
    """T-10: no sequence of flip rates heats above the start or cools below `exp(-0.99)`."""
    rng = np.random.default_rng(2)
    sequences = [np.ones(3000), np.zeros(3000), np.repeat([1.0, 0.0], 1500), rng.integers(0, 2, 3000).astype(float)]
    found = []
    for rates in sequences:
        y = q = 0.0
        for r in rates:
            y, q = micro(y, q, r)
            found.append(np.exp(y))
    assert max(found) <= 1.0 and min(found) >= np.exp(-KAPPA)
    assert min(found) < 0.3717  # the bound is reached


def test_frozen_walkers_are_a_fixed_point():
    """T-11: without flips T is exactly 1 for ever."""
    y = q = 0.0
    for _ in range(10_000):
        y, q = micro(y, q, 0.0)
    assert (np.exp(y), q) == (1.0, 0.0)


def test_transverse_rate():
    """T-12: on a leaf of the invariant the map contracts by `1 - eps - eta (1 - eps) rho'` per epoch."""
    limit = golden_map(20_000)[-1, 0]
    distance = golden_map(400)[:, 0] - limit
    np.testing.assert_allclose(distance[1:] / distance[:-1], 0.98901, rtol=0, atol=1e-9)
    # across leaves nothing contracts
    apart = golden_map(400, y=0.1)[-1] - golden_map(400)[-1]
    np.testing.assert_allclose(apart[1] + KAPPA * apart[0], 0.1, rtol=0, atol=1e-12)


def recorded():
    """Columns of the published run, digitised."""
    path = Path(os.environ.get("QUASISTATIC_DATA", "/nowhere")) / "temperature" / "seed1_curves.csv"
    if not path.is_file():
        pytest.skip("the recorded curves are not here")
    with open(path, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def test_the_published_figure():
    """T-13: the 400 recorded flip rates give the recorded reference and micro temperature."""
    table = recorded()
    y = q = 0.0
    course = []
    for r in table["flip"]:
        y, q = micro(y, q, r)
        course.append((q, np.exp(y)))
    worst = np.abs(np.array(course) - np.stack([table["c"], table["Tmicro"]], 1)).max(0)
    print("largest differences of q and T_micro:", worst)
    assert worst.max() < 5e-4
    # the macro part: a running mean of the recorded gaps, to the resolution of the figure
    gaps = table["F_data"] - table["F_model"]
    assert np.abs(0.001 * np.cumsum(gaps) / np.arange(1, 401) - table["Tmacro"]).max() < 5e-4


def driven(regulator, flip_rates, gaps):
    """Temperatures of the updates, final state and result of a regulator fed with readings, one per update."""
    potential = qs.Potential(qs.RBM.initialise(jax.random.key(0), 3, 2), jnp.asarray(1.0))
    x = jnp.zeros((4, 3))
    ensemble = Ensemble.open(qs.BlockGibbs(), potential, x)

    @eqx.filter_jit
    def update(reading, controls, state):
        return regulator.update(jax.random.key(0), reading, potential, qs.BlockGibbs(), x, ensemble, controls, state)[
            ::2
        ]

    controls, state, temperatures = qs.Controls.of(), regulator.init(), []
    rates = [np.nan, *flip_rates]  # nothing was measured before the first update
    for step, (rate, gap) in enumerate(zip(rates, [np.nan, *gaps], strict=True)):
        numbers = (jnp.asarray(number, float) for number in (1.0, 0.0, rate, 0.0, gap))
        controls, state = update(Reading(jnp.asarray(step), *numbers), controls, state)
        temperatures.append(1 / float(controls.beta))
    return np.array(temperatures), state, RESULTS(int(regulator.result(state)))


def test_cadence():
    """T is constant within an epoch and follows from the epoch's means, micro and macro."""
    rng = np.random.default_rng(3)
    rates, gaps = rng.random(12), rng.normal(-40, 5, 12)
    found, state, result = driven(EndogenousTemperature(4), rates, gaps)
    y = q = e = 0.0
    expected = [1.0] * 4
    for epoch in range(3):
        part = slice(4 * epoch, 4 * epoch + 4)
        y, q = micro(y, q, rates[part].mean())
        e = macro(e, gaps[part].mean(), epoch)
        expected += [np.exp(y) + 0.001 * e] * 4
    np.testing.assert_allclose(found, expected[:13], rtol=0, atol=1e-12)
    assert result is RESULTS.ok and int(state.n_epochs) == 3
    np.testing.assert_allclose(state.gap, gaps[8:].mean(), atol=1e-12)


def test_an_extensive_gap_drives_it_into_the_clamp():
    """T-14: a gap of -1,200 nats asks for T < 0. The run ends by name; per unit, the same gap does little."""
    rates, gaps = np.zeros(2), np.full(2, -1200.0)
    found, state, result = driven(EndogenousTemperature(2), rates, gaps)
    np.testing.assert_allclose(found[-1], 1e-6, rtol=1e-9)
    assert float(state.temperature) < 0 and result is RESULTS.temperature_clamped
    found, _, result = driven(EndogenousTemperature(2, n_units=784), rates, gaps)
    assert 0.5 < found[-1] < 1 and result is RESULTS.ok


def test_a_cold_start_begins_where_it_says():
    """`T_0 = exp(y_0)`: the invariant then allows no more than that."""
    found, _, _ = driven(EndogenousTemperature(1, start=0.7), np.zeros(3), np.zeros(3))
    np.testing.assert_allclose(found[1:], 0.7, rtol=1e-12)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"every": 0}, "at least 1"),
        ({"every": 3, "smoothing": 0.0}, "smoothing in"),
        ({"every": 3, "start": 2e3}, "start"),
    ],
)
def test_refused(options, message):
    with pytest.raises(InputError, match=message):
        EndogenousTemperature(**options)
