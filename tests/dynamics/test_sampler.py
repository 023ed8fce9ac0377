"""Gibbs kernels after t sweeps from a uniform start, against the laws of enumerated machines; unbiased gradients.

Acceptance tests 14 and 16 of the method. The test statistics are chi-squared over all states, two-sided.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import quasistatic as qs
from quasistatic.energies.potential import Potential
from quasistatic.evaluate.dynamics import BernoulliRBM, BoltzmannMachine, empirical_law
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.process import relax

N = 100_000
SPINS = BoltzmannMachine(n_units=3, beta=0.7)
TEACHER = np.array([0.3, -0.6, 0.2, 0.9, -1.1, 0.5])
RBM = BernoulliRBM(n_visible=3, n_hidden=2, beta=1.3)
THETA = RBM.packed(np.array([[1.2, -0.7], [-0.4, 0.9], [0.5, 0.3]]), np.array([0.1, -0.2, 0.3]), np.array([-0.3, 0.2]))


def pairwise():
    model = qs.Pairwise.initialise(3)
    model = qs.Pairwise(jnp.asarray(TEACHER[:3]), jnp.asarray(TEACHER[3:]), model.edges, model.units)
    return SPINS, TEACHER, model, qs.Gibbs(), (-1.0, 1.0)


def rbm():
    w, a, b = (jnp.asarray(x) for x in RBM.parts(THETA))
    model = qs.RBM.initialise(jax.random.key(0), 3, 2)
    return RBM, THETA, qs.RBM(w, a, b, model.visible, model.hidden), qs.BlockGibbs(), (0.0, 1.0)


@pytest.fixture(scope="module", params=[pairwise, rbm], ids=["pairwise", "rbm"])
def sampled(request):
    """Machine, parameters, model, and walkers after some sweeps from a uniform start."""
    machine, theta, model, kernel, levels = request.param()
    potential = Potential(model, machine.beta)
    start = jax.random.choice(jax.random.key(1), jnp.asarray(levels), (N, 3))

    @jax.jit
    def run(key, n_sweeps):
        controls = Controls.of(beta=machine.beta)
        controls = type(controls)(controls.beta, n_sweeps, controls.step_size, controls.lr_scale, controls.nudge)
        return relax(key, kernel, potential, Ensemble.open(kernel, potential, start), controls)[0].x

    def walkers(t):
        return np.asarray(run(jax.random.fold_in(jax.random.key(2), t), jnp.asarray(t, jnp.int32)))

    return machine, theta, model, levels, walkers


def chi_squared(x, law, levels):
    return N * float(np.sum((empirical_law(x, levels) - law) ** 2 / law))


LOW, HIGH = stats.chi2.ppf([3e-6, 1 - 3e-6], 7)


@pytest.mark.parametrize("t", [1, 2, 5])
def test_walkers_after_t_sweeps(sampled, t):
    machine, theta, _, levels, walkers = sampled
    x = walkers(t)
    assert LOW < chi_squared(x, machine.law(theta, t), levels) < HIGH
    if t == 1:  # what another number of sweeps, equilibrium, or another temperature would have given
        hot = type(machine)(**{**vars_of(machine), "beta": 1.0})
        for wrong in (machine.law(theta, 2), machine.equilibrium(theta), hot.law(theta, 1)):
            assert chi_squared(x, wrong, levels) > 2 * HIGH
        if machine is SPINS:
            backwards = BoltzmannMachine(n_units=3, beta=0.7, order=(2, 1, 0))
            assert chi_squared(x, backwards.law(theta, 1), levels) > 2 * HIGH


def vars_of(machine):
    return {name: getattr(machine, name) for name in machine.__dataclass_fields__}


def test_gradients_of_few_walkers_are_unbiased(sampled):
    """10,000 estimates with ten walkers each have the mean of the theory; centring by the walkers' means has not."""
    machine, theta, model, levels, walkers = sampled
    data = np.random.default_rng(3).integers(0, 2, (40, 3)) * (levels[1] - levels[0]) + levels[0]
    x = jnp.asarray(walkers(2).reshape(-1, 10, 3))

    def average(rows):
        return model.weighted_gradient(rows, jnp.full(len(rows), 1 / len(rows)), machine.beta)

    of_data, of_walkers = average(jnp.asarray(data)), jax.vmap(average)(x)
    estimates = jax.tree.map(lambda a, b: b - a, of_data, of_walkers)
    leaves = [np.asarray(leaf).reshape(len(x), -1) for leaf in jax.tree.leaves(estimates)]
    flat = np.concatenate(leaves, axis=1)
    exact = machine.field(theta, empirical_law(data, levels), 2)
    stderr = flat.std(0, ddof=1) / np.sqrt(len(flat))
    assert np.all(np.abs(flat.mean(0) - exact) < 4 * stderr)
    if machine is SPINS:
        return
    plain = jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape) - b, of_data, of_walkers)
    centred = jax.vmap(lambda g, m: model.centred(g, of_data, m, machine.beta).weights)(plain, of_walkers)
    law = machine.law(theta, 2)
    from_law = model.weighted_gradient(jnp.asarray(machine.states()), jnp.asarray(law), machine.beta)
    true = model.centred(jax.tree.map(jnp.subtract, of_data, from_law), of_data, from_law, machine.beta).weights
    off = np.asarray(centred.mean(0) - true) / np.asarray(centred.std(0) / np.sqrt(len(x)))
    assert np.abs(off).max() > 5
