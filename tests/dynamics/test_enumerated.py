"""Enumerated machines: fixed points, what they do and do not match, gauges, oracles; and agreement with the package."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import quasistatic as qs
from quasistatic.errors import InputError
from quasistatic.evaluate import exact_moments, log_partition_exact
from quasistatic.evaluate.dynamics import (
    BernoulliRBM,
    BoltzmannMachine,
    Chain,
    OutOfReach,
    all_states,
    divergence,
    empirical_law,
    sweep,
)
from quasistatic.reproduce import short_run_tables as tables

BETA = 0.7
TEACHER = np.array([0.3, -0.6, 0.2, 0.9, -1.1, 0.5])
MACHINE = BoltzmannMachine(n_units=3, beta=BETA)


def skewed_law(n, seed=4):
    return np.random.default_rng(seed).dirichlet(np.full(n, 1.5))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_all_moments_are_met_at_t_equal_k_and_nowhere_else(k):
    machine = BoltzmannMachine(n_units=3, beta=BETA, order=(1, 2, 0), start=skewed_law(8))
    data = machine.equilibrium(TEACHER)
    learned = machine.learned(data, k, TEACHER)
    apart = [np.abs(machine.field(learned, data, t)).max() for t in (k - 1 or 40, k, k + 1, 0)]
    assert apart[1] < 1e-11 and min(apart[0], *apart[2:]) > 1e-6
    # the unit updated last: its field and couplings are not touched by the short run
    assert np.abs(learned - TEACHER)[[0, 3, 4]].max() < 1e-10 < np.abs(learned - TEACHER)[[1, 2, 5]].min()


def test_no_memory():
    """Independent units under sweeps, starts from the data, and long runs: three ways to learn what is true."""
    independent = np.array([0.3, -0.6, 0.9, 0.0, 0.0, 0.0])
    for k in (1, 3):
        assert np.abs(MACHINE.learned(MACHINE.equilibrium(independent), k, TEACHER) - independent).max() < 1e-9
    data = MACHINE.equilibrium(TEACHER)
    assert np.abs(MACHINE.learned(data, 60, 0.9 * TEACHER) - TEACHER).max() < 1e-8
    assert np.abs(MACHINE.learned(data, 0, 0.9 * TEACHER) - TEACHER).max() < 1e-9
    for k in (1, 2, 5):
        assert np.abs(MACHINE.field(TEACHER, data, k, start=data)).max() < 1e-14  # CD-k
    path = MACHINE.ascended(np.zeros(6), data, 1, rate=0.9, n_updates=500, rule="persistent")
    assert np.abs(path - TEACHER).max() < 1e-6  # PCD-1
    short = MACHINE.ascended(np.zeros(6), data, 1, rate=0.9, n_updates=500)
    assert np.abs(short - MACHINE.learned(data, 1, TEACHER)).max() < 1e-6 < np.abs(short - TEACHER).max() / 1e3


def test_training_is_no_gradient_flow_at_finite_k():
    data = MACHINE.equilibrium(TEACHER)
    theta = MACHINE.learned(data, 1, TEACHER)
    short = MACHINE.jacobian(theta, data, 1)
    assert np.abs(short - short.T).max() > 1e-3 and np.linalg.eigvals(short).real.min() > 0
    features, p = MACHINE.features(), data
    fisher = (features.T * p) @ features - np.outer(p @ features, p @ features)
    assert np.abs(MACHINE.jacobian(TEACHER, data, 80) - fisher).max() < 1e-8


def test_data_that_no_parameters_reproduce():
    order = np.zeros(8)
    order[[0, 7]] = 0.5  # three spins that always agree: infinite couplings
    for k in (1, 0):
        with pytest.raises(OutOfReach, match="infinite|stay"):
            MACHINE.learned(order, k, np.array([0.0, 0.0, 0.0, 0.5, 0.5, 0.5]))
    with pytest.raises(OutOfReach, match="not determined"):  # 11 parameters, 7 probabilities
        ORACLE.learned(ORACLE.equilibrium(THETA), 2, THETA)


# gauges: the encoding of the units is a convention


def as_bits(fields, couplings):
    """The same machine for x = (s + 1) / 2: s_i s_j = 4 x x' - 2 x - 2 x' + 1."""
    n = len(fields)
    matrix = np.zeros((n, n))
    matrix[np.triu_indices(n, 1)] = couplings
    return np.concatenate([2 * fields - 2 * (matrix + matrix.T).sum(1), 4 * couplings])


def test_spins_and_bits_are_one_machine():
    bits = BoltzmannMachine(n_units=3, beta=BETA, levels=(0.0, 1.0))
    theta = as_bits(TEACHER[:3], TEACHER[3:])
    difference = bits.reduced(theta) - MACHINE.reduced(TEACHER)
    assert np.ptp(difference) < 1e-12 < abs(difference[0])
    assert np.abs(bits.chain(theta).matrix - MACHINE.chain(TEACHER).matrix).max() < 1e-12
    data = skewed_law(8)
    learned = bits.learned(data, 1, theta), MACHINE.learned(data, 1, TEACHER)
    assert np.abs(learned[0] - as_bits(learned[1][:3], learned[1][3:])).max() < 1e-8  # and learns the same


def test_rbm_of_spins_and_of_bits():
    w, a, b = (np.array(x) for x in (tables.WEIGHTS, tables.VISIBLE_BIAS, tables.HIDDEN_BIAS))
    spin = qs.RBM.initialise(jax.random.key(0), 3, 2, visible="spin")
    bits = qs.RBM.initialise(jax.random.key(0), 3, 2)
    spin = qs.RBM(jnp.asarray(w), jnp.asarray(a), jnp.asarray(b), spin.visible, spin.hidden)
    shifted = (4 * w, 2 * a - 2 * w.sum(1), 2 * b - 2 * w.sum(0))
    bits = qs.RBM(*map(jnp.asarray, shifted), visible=bits.visible, hidden=bits.hidden)
    found = []
    for x in all_states(5, (0.0, 1.0)):
        s = 2 * x - 1
        found.append(float(bits.energy(jnp.asarray(x[:3]), jnp.asarray(x[3:]))))
        found[-1] -= float(spin.energy(jnp.asarray(s[:3]), jnp.asarray(s[3:])))
    assert np.ptp(found) < 1e-12 < abs(found[0])


# agreement with the package's own models


def package_rbm(theta, machine):
    w, a, b = machine.parts(theta)
    model = qs.RBM.initialise(jax.random.key(0), machine.n_visible, machine.n_hidden)
    return qs.RBM(jnp.asarray(w), jnp.asarray(a), jnp.asarray(b), model.visible, model.hidden)


ORACLE = BernoulliRBM(n_visible=3, n_hidden=2)
THETA = ORACLE.packed(*(np.array(x) for x in (tables.WEIGHTS, tables.VISIBLE_BIAS, tables.HIDDEN_BIAS)))


@pytest.mark.parametrize("beta", [1.0, BETA])
def test_rbm_and_pairwise_models_of_the_package_are_the_enumerated_ones(beta):
    machine = BernoulliRBM(n_visible=3, n_hidden=2, beta=beta)
    model = package_rbm(THETA, machine)
    u = jax.vmap(lambda v: model.reduced(v, beta))(jnp.asarray(machine.states()))
    assert np.abs(np.asarray(u) - machine.reduced(THETA)).max() < 1e-12
    log_z = log_partition_exact(model, beta)
    assert log_z is not None and abs(log_z - machine.log_partition(THETA)) < 1e-11
    p = machine.equilibrium(THETA)
    assert np.abs(machine.chain(THETA).matrix @ p - p).max() < 1e-14
    flow = machine.chain(THETA).matrix * p
    assert np.abs(flow - flow.T).max() < 1e-14
    if beta == 1:
        assert np.abs(np.asarray(exact_moments(model).mean) - p @ machine.states()).max() < 1e-10
    pair = qs.Pairwise.initialise(3)
    pair = qs.Pairwise(jnp.asarray(TEACHER[:3]), jnp.asarray(TEACHER[3:]), pair.edges, pair.units)
    spins = BoltzmannMachine(n_units=3, beta=beta)
    u = jax.vmap(lambda s: pair.reduced(s, beta))(jnp.asarray(spins.states()))
    assert np.abs(np.asarray(u) - spins.reduced(TEACHER)).max() < 1e-12
    p = spins.equilibrium(TEACHER)
    assert np.abs(spins.chain(TEACHER).matrix @ p - p).max() < 1e-14
    assert np.abs(sweep(spins.reduced(TEACHER), 3).matrix - spins.chain(TEACHER).matrix).max() == 0
    # features are -du/dtheta
    for m, theta in ((machine, THETA), (spins, TEACHER)):
        for i in range(len(theta)):
            h = 1e-5 * np.eye(len(theta))[i]
            slope = (m.reduced(theta - h) - m.reduced(theta + h)) / 2e-5
            assert np.abs(slope - m.features(theta)[:, i]).max() < 1e-9


def test_gradient_of_the_package_and_its_centred_form():
    """Reference values of one batch: plain gradient of the package; centring with the offsets of the data."""
    data = np.array([[1.0, 0, 1], [1, 1, 1], [0, 1, 0]])
    walkers = np.array([[0.0, 0, 0], [0, 1, 1]])
    model = package_rbm(THETA, ORACLE)
    parts = [model.weighted_gradient(jnp.asarray(x), jnp.full(len(x), 1 / len(x)), 1.0) for x in (data, walkers)]
    w, a, b = (np.asarray(y - x) for x, y in zip(*map(jax.tree.leaves, parts), strict=True))
    expected = [[0.5110808224, 0.3727845916], [0.1292072675, 0.0717240150], [0.2859978211, -0.0283073527]]
    assert np.abs(w - expected).max() < 1e-10 and np.abs(a - [2 / 3, 1 / 6, 1 / 6]).max() < 1e-12
    assert np.abs(b - [0.1838231554, -0.0531376495]).max() < 1e-10
    mu, lam = data.mean(0), -np.asarray(parts[0].hidden_bias)
    centred = w - np.outer(mu, b) - np.outer(a, lam)
    expected = [[-0.0259245468, -0.0070378377], [-0.0969556525, 0.0033372324], [0.0598349011, -0.0966941353]]
    assert np.abs(centred - expected).max() < 1e-9
    bias = np.concatenate([a - centred @ lam, b - mu @ centred])
    expected = [0.6871672330, 0.2248638654, 0.1896962134, 0.2258533542, 0.0137921776]
    assert np.abs(bias - expected).max() < 1e-9
    assert abs(math.sqrt((centred**2).sum() + (bias**2).sum()) - 0.7956194438) < 1e-9


def test_annealing_is_exact_when_its_walkers_are_laws():
    w, a, b = ORACLE.parts(THETA)
    at = [ORACLE.packed(t * w, a, t * b) for t in np.linspace(0, 1, 5)]
    log_z0 = ORACLE.log_partition(at[0])
    mean = square = ORACLE.equilibrium(at[0])
    for old, new in zip(at, at[1:], strict=False):
        step = ORACLE.chain(old).matrix
        weight = np.exp(ORACLE.reduced(old) - ORACLE.reduced(new))
        mean, square = (step @ mean) * weight, (step @ square) * weight**2
    assert abs(log_z0 - 3.583185135044) < 1e-12
    assert abs(log_z0 + math.log(mean.sum()) - tables.LOG_Z) < 1e-12
    assert abs(square.sum() / mean.sum() ** 2 - 1 - 0.025514858130) < 1e-12


def test_energy_of_a_short_run_crosses_that_of_the_data_at_k():
    machine, k = BernoulliRBM(n_visible=4, n_hidden=1, beta=BETA), 2
    truth = machine.packed(np.array([[2.0], [-1.5], [1.1], [2.4]]), np.array([-0.7, 0.4, 0.2, -1.0]), np.array([-0.6]))
    data = machine.equilibrium(truth)
    theta = machine.learned(data, k, truth)
    gaps = [machine.energy(theta, machine.law(theta, t)) - machine.energy(theta, data) for t in range(6)]
    assert abs(gaps[k]) < 1e-10 and gaps[k - 1] > 1e-4 and gaps[k + 1] < -1e-4
    assert np.abs(theta - truth).max() > 1e-2
    long = machine.learned(data, 60, truth)
    assert np.abs(long - truth).max() < 1e-6


# chains


def test_relaxation_time():
    chain = Chain(np.array([[0.9, 0.3], [0.1, 0.7]]))  # eigenvalues 1 and 0.6
    assert abs(chain.second_eigenvalue() - 0.6) < 1e-14 and abs(chain.relaxation_time() + 1 / math.log(0.6)) < 1e-13
    laws = chain.laws(np.array([1.0, 0.0]), range(4))
    assert np.abs(laws[:, 0] - (0.75 + 0.25 * 0.6 ** np.arange(4))).max() < 1e-14
    assert Chain(np.eye(2)).relaxation_time() == math.inf


def test_frequencies_of_samples():
    states = all_states(3, (-1.0, 1.0))
    counts = np.array([3, 0, 2, 1, 4, 0, 5, 1])
    law = empirical_law(np.repeat(states, counts, axis=0), (-1.0, 1.0))
    assert np.array_equal(law, counts / counts.sum())
    assert divergence(law, law) == 0 and divergence(np.full(8, 1 / 8), law) == math.inf
    assert abs(divergence(law, np.full(8, 1 / 8)) - (math.log(8) + law[law > 0] @ np.log(law[law > 0]))) < 1e-13


BAD = {
    "columns": lambda: Chain(np.array([[0.5, 0.5], [0.4, 0.5]])),
    "part of a step": lambda: MACHINE.law(TEACHER, 1.5),
    "many units": lambda: BoltzmannMachine(n_units=11),
    "a sweep that leaves one out": lambda: BoltzmannMachine(n_units=3, order=(0, 1, 1)),
    "a law of other states": lambda: MACHINE.learned(np.full(4, 0.25), 1, TEACHER),
    "unknown rule": lambda: MACHINE.ascended(TEACHER, np.full(8, 1 / 8), 1, rate=0.1, n_updates=1, rule="warm"),
    "number of parameters": lambda: ORACLE.reduced(np.zeros(3)),
    "values of samples": lambda: empirical_law(np.full((2, 3), 0.5), (0.0, 1.0)),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    with pytest.raises(InputError):
        BAD[name]()
