"""Discrete kernels leave their law alone: transition matrices exactly, the kernels' own sweeps by chi-square.

All at beta = 1.2 (and 0.7 where the path starts), on models small enough to be enumerated by NumPy.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import RBM, Potential
from quasistatic.kernels import AuxiliaryGibbs, BlockGibbs, Gibbs
from tests.laws import conditionals, enumeration
from tests.laws.battery import DISCRETE, N, beta_of, label, opened, rbm_at, refreshed, resampled, step

BLOCK = [case for case in DISCRETE if isinstance(case.kernel, BlockGibbs | AuxiliaryGibbs)]
SITES = [case for case in DISCRETE if case not in BLOCK]
THRESHOLD = 5.0


def hidden_states(case):
    return enumeration.states(case.name.split("-")[-1], 3)


def block_matrix(case, s):
    """Block Gibbs from the package's conditionals."""
    potential = case.path(s)
    return conditionals.block_gibbs(potential.energy, potential.beta, case.states, hidden_states(case))


def exact_block_matrix(case, s):
    """The same from nothing but joint energies."""
    rbm = case.path(s).energy
    joint = enumeration.rbm_joint(rbm.weights, rbm.visible_bias, rbm.hidden_bias, case.states, hidden_states(case))
    weight = np.exp(-(0.7 + 0.5 * s) * joint)
    return (weight / weight.sum(1, keepdims=True)) @ (weight / weight.sum(0, keepdims=True)).T


def exact_sweep(case, s):
    """Transition matrix of one sweep of the kernel, by NumPy."""
    if case in BLOCK:
        return exact_block_matrix(case, s)
    reduced = case.reduced(s, case.states)
    blocks = [[i] for i in range(case.n)]
    if getattr(case.kernel, "colours", None) is not None:
        blocks = [list(np.flatnonzero(case.kernel.colours == c)) for c in range(case.kernel.n_colours)]
    return enumeration.product([enumeration.heat_bath(reduced, case.units, case.n, block) for block in blocks])


@pytest.mark.parametrize("s", [0.0, 1.0])
@pytest.mark.parametrize("case", BLOCK, ids=label)
def test_detailed_balance_of_block_gibbs(case, s):
    """`pi(v) K(v, v') = pi(v') K(v', v)`, from the package's conditionals and potential."""
    matrix, law = block_matrix(case, s), case.law(s)
    np.testing.assert_allclose(matrix, exact_block_matrix(case, s), atol=1e-12)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)
    flow = law[:, None] * matrix
    np.testing.assert_allclose(flow, flow.T, atol=1e-12)


@pytest.mark.parametrize("s", [0.0, 1.0])
@pytest.mark.parametrize("case", SITES, ids=label)
def test_detailed_balance_of_single_sites(case, s):
    """Each heat bath is reversible; a sweep of them is not, but keeps the law."""
    law, reduced = case.law(s), case.reduced(s, case.states)
    matrices = conditionals.single_sites(case.path(s), case.units, case.n)
    for i, matrix in enumerate(matrices):
        np.testing.assert_allclose(matrix, enumeration.heat_bath(reduced, case.units, case.n, [i]), atol=1e-12)
        flow = law[:, None] * matrix
        np.testing.assert_allclose(flow, flow.T, atol=1e-12)
    sweep = enumeration.product(matrices)
    np.testing.assert_allclose(law @ sweep, law, atol=1e-12)
    if getattr(case.kernel, "colours", None) is None:
        flow = law[:, None] * sweep
        assert np.abs(flow - flow.T).max() > 1e-6
        np.testing.assert_allclose(sweep, exact_sweep(case, s), atol=1e-12)


@pytest.mark.parametrize("case", [case for case in SITES if "coloured" in case.name], ids=label)
def test_units_of_one_colour_are_updated_as_if_one_by_one(case):
    matrices = conditionals.single_sites(case.path(1.0), case.units, case.n)
    colours = np.asarray(case.kernel.colours)
    order = [i for c in range(case.kernel.n_colours) for i in np.flatnonzero(colours == c)]
    np.testing.assert_allclose(enumeration.product([matrices[i] for i in order]), exact_sweep(case, 1.0), atol=1e-12)
    assert case.kernel.n_colours == 2


def counts_of(case, x):
    return np.bincount(enumeration.index_of(x, case.units), minlength=len(case.states))


def deviation_after(case, n_sweeps, s, seed=31):
    """Chi-square of walkers from the exact law after some sweeps at `s`."""
    key_start, key_run = jax.random.split(jax.random.key(seed))
    walkers = step(key_run, case, opened(case, key_start, s=s), s, n_sweeps)
    return enumeration.chi_square(counts_of(case, walkers.x), N * case.law(s))


@pytest.mark.parametrize("s", [0.0, 1.0])
@pytest.mark.parametrize("n_sweeps", [pytest.param(1, marks=pytest.mark.slow), 4])  # one sweep: see below
@pytest.mark.parametrize("case", DISCRETE, ids=label)
def test_an_exact_start_stays_exact(case, n_sweeps, s):
    assert abs(deviation_after(case, n_sweeps, s)) < THRESHOLD


@pytest.mark.parametrize("case", DISCRETE, ids=label)
def test_one_sweep_from_every_state(case):
    """The whole transition matrix of the kernel, cell by cell: order of updates, parities and all."""
    n_each = N // len(case.states)
    x = np.repeat(case.states, n_each, axis=0)
    start = eqx.tree_at(lambda e: e.x, opened(case, jax.random.key(0)), jnp.asarray(x))
    start, _ = refreshed(case, start, 1.0)  # evaluates everything anew, so only the positions matter
    after = enumeration.index_of(step(jax.random.key(12), case, start, 1.0).x, case.units)
    n_states = len(case.states)
    counts = np.bincount(np.repeat(np.arange(n_states), n_each) * n_states + after, minlength=n_states**2)
    exact = exact_sweep(case, 1.0)
    assert enumeration.chi_square(counts, n_each * exact.ravel(), n_states) < THRESHOLD
    # Power: the matrix at the other end of the path, which differs in beta and parameters, is rejected.
    assert enumeration.chi_square(counts, n_each * exact_sweep(case, 0.5).ravel(), n_states) > 4 * THRESHOLD


@pytest.mark.parametrize("case", DISCRETE, ids=label)
def test_reported_flips_are_the_flips_that_happened(case):
    """Heat is `du` and nothing is stuck: from the exact law the walkers do move."""
    before = opened(case, jax.random.key(6), s=1.0)
    after = step(jax.random.key(7), case, before, 1.0)
    change = case.reduced(1.0, np.asarray(after.x)) - case.reduced(1.0, np.asarray(before.x))
    np.testing.assert_allclose(after.account.heat.value, change, atol=1e-12)
    assert np.mean(np.any(np.asarray(after.x != before.x), axis=1)) > 0.05


def with_path(case, change):
    """The row with another potential inside its kernel; its law stays what it was."""
    return dataclasses.replace(case, path=lambda s: change(case.path(s)))


def negated_fields(potential):
    energy = potential.energy
    part = (lambda e: e.visible_bias) if isinstance(energy, RBM) else (lambda e: e.fields)
    return Potential(eqx.tree_at(part, energy, -part(energy)), potential.beta)


SABOTEURS = {
    "beta twice": lambda case: with_path(case, lambda p: Potential(p.energy, p.beta**2)),
    "beta forgotten": lambda case: with_path(case, lambda p: Potential(p.energy, jnp.ones(()))),
    "sign of the fields": lambda case: with_path(case, negated_fields),
}


@pytest.mark.parametrize("saboteur", SABOTEURS)
@pytest.mark.parametrize("case", [DISCRETE[0], DISCRETE[1], DISCRETE[4], DISCRETE[7]], ids=label)
def test_saboteur(case, saboteur):
    """Each mistake fails the very test above."""
    assert deviation_after(SABOTEURS[saboteur](case), 4, 0.0) > 2 * THRESHOLD


def test_saboteur_simultaneous_update_of_interacting_spins():
    """All spins of a complete graph at once: what `check` refuses is indeed wrong."""
    case = next(case for case in DISCRETE if case.name == "gibbs pairwise spin")
    together = dataclasses.replace(case, kernel=Gibbs(jnp.zeros(case.n, int), 1))
    assert deviation_after(together, 4, 1.0) > 4 * THRESHOLD


class VisibleTwice(RBM):
    """Saboteur: beta enters the visible conditional twice, the potential and the hidden conditional once."""

    def visible_natural(self, inputs, beta):
        return super().visible_natural(inputs, beta * beta)


def test_saboteur_beta_twice_in_one_conditional():
    case = DISCRETE[1]

    def path(s):
        m = rbm_at(s, "spin", "spin")
        return Potential(VisibleTwice(m.weights, m.visible_bias, m.hidden_bias, m.visible, m.hidden), beta_of(s))

    assert deviation_after(dataclasses.replace(case, path=path), 4, 0.0) > 2 * THRESHOLD


def test_weighted_walkers_resampled_follow_the_law():
    """Driven off the law, weighted and resampled, then relaxed: the law again."""
    case = DISCRETE[0]
    walkers = step(jax.random.key(2), case, opened(case, jax.random.key(1)), 0.5)
    walkers = resampled(jax.random.key(3), walkers)
    walkers = step(jax.random.key(4), case, walkers, 0.5, 12)
    assert enumeration.chi_square(counts_of(case, walkers.x), N * case.law(0.5)) < THRESHOLD
