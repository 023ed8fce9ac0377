"""Spin models in continuous time: closed forms against enumeration of all states, and what cannot be learned."""

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from quasistatic.errors import InputError
from quasistatic.evaluate.dynamics import (
    AbstractScalarModel,
    CurieWeiss,
    CurieWeissLimit,
    IndependentSpin,
    IsingRing,
    LangevinMode,
    OutOfReach,
    all_states,
)


def glauber(states, fields):
    """Rates `s_i -> -s_i` of heat bath at unit rate; `fields` are reduced, of every spin in every state."""
    n = states.shape[1]
    rates = np.zeros((len(states), len(states)))
    chance = 1 / (1 + np.exp(2 * states * fields))  # to be updated against its present value
    for i in range(n):
        flipped = np.arange(len(states)) ^ (1 << (n - 1 - i))
        rates[flipped, np.arange(len(states))] = chance[:, i]
    return rates - np.diag(rates.sum(0))


def boltzmann(energies):
    p = np.exp(-(energies - energies.min()))
    return p / p.sum()


# independent spins


def test_spins_learn_a_mean_they_can_reach():
    spin, k = IndependentSpin(start=-0.3), 0.8
    low, high = spin.reach(k)
    kept = math.exp(-k)
    assert low == pytest.approx(-0.3 * kept - (1 - kept)) and high == pytest.approx(-0.3 * kept + 1 - kept)
    for mean in (0.3, -0.5):
        theta = spin.learned(mean, k)
        assert abs(math.tanh(theta) - (mean + 0.3 * kept) / (1 - kept)) < 1e-12
        path = solve_ivp(lambda t, m, theta=theta: math.tanh(theta) - m, (0, k), [-0.3], rtol=1e-11, atol=1e-12)
        assert abs(path.y[0, -1] - mean) < 1e-9
        assert abs(spin.like(mean).learned(mean, k) - math.atanh(mean)) < 1e-10  # start from the data: no bias
    for mean in (high, 0.9, low - 1e-6):
        with pytest.raises(OutOfReach) as failure:
            spin.learned(mean, k)
        assert failure.value.limits == (low, high)
    assert abs(IndependentSpin().least_time(0.6) + math.log(1 - 0.6)) < 1e-9
    assert abs(spin.least_time(0.6) - math.log(1.3 / 0.4)) < 1e-9


def test_training_of_what_cannot_be_learned_runs_away():
    spin = IndependentSpin()
    path = spin.learning(0.7, 0.8, 0.0, np.array([10.0, 100.0, 300.0]))
    assert 2 < path[0] and path[1] > path[0] + 5 and path[2] - path[1] > 20  # constant speed in the end


def test_sequential_sweeps_forget():
    for k in (1, 2, 7):
        assert abs(IndependentSpin(start=0.9, in_sweeps=True).learned(-0.4, k) - math.atanh(-0.4)) < 1e-12
    assert IndependentSpin(start=0.9, in_sweeps=True).moment(0.2, 0) == 0.9


# Curie-Weiss


@pytest.mark.parametrize(("n", "coupling", "start"), [(4, 0.8, 0.0), (5, -1.3, 0.0), (6, 1.4, 0.6)])
def test_few_spins_against_all_their_states(n, coupling, start):
    states = all_states(n, (-1.0, 1.0))
    total = states.sum(1)
    rates = glauber(states, coupling / n * (total[:, None] - states))
    model = CurieWeiss(n_spins=n, start=start)
    p0 = boltzmann(-start * total**2 / (2 * n))
    for t in (0.0, 0.3, 1.7):
        p = expm(rates * t) @ p0
        assert abs(model.moment(coupling, t) - p @ total**2 / n) < 1e-12
    assert abs(model.equilibrium(coupling) - boltzmann(-coupling * total**2 / (2 * n)) @ total**2 / n) < 1e-12
    p = model.equilibrium_law(coupling)
    flow = model.generator(coupling) * p
    assert np.abs(flow - flow.T).max() < 1e-14  # detailed balance
    # single updates of random spins: the matrix of all states as well
    p = np.linalg.matrix_power(np.eye(len(states)) + rates / n, 7) @ p0
    attempts = CurieWeiss(n_spins=n, start=start, in_attempts=True)
    assert abs(attempts.moment(coupling, 7) - p @ total**2 / n) < 1e-12


@pytest.mark.parametrize("in_attempts", [False, True])
def test_finite_curie_weiss_learns(in_attempts):
    model = CurieWeiss(n_spins=11, in_attempts=in_attempts)
    data, k = model.equilibrium(0.55), 9 if in_attempts else 0.9
    learned = model.learned(data, k)
    assert learned > 0.56 and abs(model.moment(learned, k) - data) < 1e-12
    assert abs(model.like(data).learned(data, k) - 0.55) < 1e-9  # CD-k has no bias
    assert abs(model.learned(data, math.inf) - 0.55) < 1e-10
    couplings = np.linspace(-3, 8, 23)
    assert np.all(np.diff(model.moment(couplings, k)) > 0)
    low, high = model.reach(k)
    assert low < model.moment(-3.0, k) and high > model.moment(8.0, k)
    assert abs(model.moment(300.0, k) - high) < 1e-9 and abs(model.moment(-300.0, k) - low) < 1e-9
    least = model.least_time(data)
    with pytest.raises(OutOfReach):
        model.learned(data, least - 1 if in_attempts else 0.99 * least)
    assert model.learned(data, least if in_attempts else 1.01 * least) > learned


def test_many_spins_tend_to_the_limit():
    teacher, k = 0.5, 1.3
    limit = CurieWeissLimit().learned(1 / (1 - teacher), k)
    gaps = [CurieWeiss(n_spins=n).learned(CurieWeiss(n_spins=n).equilibrium(teacher), k) - limit for n in (40, 80, 160)]
    assert abs(gaps[0]) < 0.02 and abs(gaps[0] / gaps[1] - 2) < 0.3 and abs(gaps[1] / gaps[2] - 2) < 0.15


def test_paramagnetic_data_make_a_ferromagnet():
    for teacher in (0.3, 0.5, 0.8):
        data, k = 1 / (1 - teacher), CurieWeissLimit.ferromagnetic_time(teacher)
        assert abs(CurieWeissLimit().learned(data, k) - 1) < 1e-12
        short, long = CurieWeissLimit().learned(data, 0.9 * k), CurieWeissLimit().learned(data, 1.1 * k)
        assert short > 1 > long > teacher
        assert CurieWeissLimit().equilibrium(short) == math.inf
        assert abs(CurieWeissLimit().like(data).learned(data, k) - teacher) < 1e-12
    model = CurieWeissLimit(start=0.2)
    for name in ("by_time", "by_start", "slope"):
        args = (0.6, 1.1) if name == "slope" else (2.2, 1.1)
        assert abs(getattr(model, name)(*args) - getattr(AbstractScalarModel, name)(model, *args)) < 1e-6


# ring


def ring_by_ode(theta, t, start, n):
    """Correlations from the equations of motion, cut off far away."""
    gamma, size = math.tanh(2 * theta), 120

    def flow(_, c):
        before = np.concatenate([[1.0], c[:-1]])
        after = np.concatenate([c[1:], [0.0]])
        return -2 * c + gamma * (before + after)

    c0 = math.tanh(start) ** np.arange(1.0, size + 1)
    return solve_ivp(flow, (0, t), c0, "DOP853", rtol=1e-11, atol=1e-13).y[:n, -1]


@pytest.mark.parametrize(
    ("theta", "t", "start"), [(0.7, 0.6, 0.0), (-0.5, 1.4, 0.0), (1.5, 3.0, 0.3), (0.2, 2.0, -0.8)]
)
def test_ring_against_equations_of_motion(theta, t, start):
    found = IsingRing(start=start).correlations(theta, t, 4)
    assert np.abs(found - ring_by_ode(theta, t, start, 4)).max() < 1e-9


def test_ring_against_all_states():
    """Eight spins, for a time in which nothing gets around them."""
    n, theta, t = 8, 0.6, 0.2
    states = all_states(n, (-1.0, 1.0))
    rates = glauber(states, theta * (np.roll(states, 1, 1) + np.roll(states, -1, 1)))
    p = expm(rates * t) @ np.full(len(states), 1 / len(states))
    exact = [p @ (states[:, 0] * states[:, d]) for d in (1, 2)]
    assert np.abs(IsingRing().correlations(theta, t, 2) - exact).max() < 1e-7


def test_ring_has_a_ceiling():
    ring = IsingRing()
    least = ring.least_time(0.5)
    assert abs(ring.reach(least)[1] - 0.5) < 1e-12
    with pytest.raises(OutOfReach, match="cannot be learned") as failure:
        ring.learned(0.5, 0.99 * least)
    assert failure.value.limits is not None and failure.value.limits[1] < 0.5
    near = ring.learned(0.5, 1.01 * least)
    assert near > 1.2 and abs(ring.moment(near, 1.01 * least) - 0.5) < 1e-12
    assert ring.learned(-0.5, 2.0) == pytest.approx(-ring.learned(0.5, 2.0))
    for k in (0.2, 3.0):
        assert abs(ring.like(0.4).learned(0.4, k) - math.atanh(0.4)) < 1e-9
    assert abs(IsingRing(start=0.3).reach(2.0)[1] - float(IsingRing(start=0.3).moment(18.0, 2.0))) < 1e-12
    assert ring.by_time(0.5, 2.0) < 0 < -ring.by_start(0.5, 2.0)
    assert abs(ring.by_time(0.5, 12.0)) < 1e-3 * abs(ring.by_time(0.5, 2.0))


SABOTEURS = {
    "start dropped": lambda c, t: c - math.exp(-2 * t),
    "one spin moves and not both": lambda c, t: 1 + (c - 1) * math.exp(t),
    "already in equilibrium": lambda c, t: math.tanh(0.7),
}


@pytest.mark.parametrize("name", SABOTEURS)
def test_saboteur_wrong_correlations(name):
    t = 0.6
    wrong = SABOTEURS[name](float(IsingRing().moment(0.7, t)), t)
    assert abs(wrong - ring_by_ode(0.7, t, 0.0, 1)[0]) > 1e-2


BAD = {
    "mean": lambda: IndependentSpin(start=1.2),
    "no spins": lambda: CurieWeiss(n_spins=0),
    "ferromagnetic start": lambda: CurieWeissLimit(start=1.0),
    "infinite start": lambda: IsingRing(start=math.inf),
    "part of an attempt": lambda: CurieWeiss(in_attempts=True).learned(1.5, 2.5),
    "teacher": lambda: CurieWeissLimit.ferromagnetic_time(1.2),
    "impossible correlation": lambda: IsingRing().at_equilibrium(1.0),
    "impossible moment": lambda: CurieWeiss(n_spins=4).at_equilibrium(4.5),
    "never": lambda: IndependentSpin().least_time(1.0),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    with pytest.raises(InputError):
        BAD[name]()


def test_the_mode_of_curie_weiss_is_a_langevin_mode():
    data, k = 2.4, 0.7
    assert CurieWeissLimit().learned(data, k) == 1 - LangevinMode(start=1.0).learned(data, k)
