"""Accounts, ensembles, ledgers and bridges: bookkeeping in the small."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from quasistatic.energies import Gaussian, IndependentUnits, Potential, units
from quasistatic.errors import InputError
from quasistatic.kernels import MALA, Langevin
from quasistatic.thermo import Controls, Ensemble, Ledger, open_at_law
from quasistatic.thermo.account import Account
from quasistatic.thermo.ledger import conditional_ess
from tests.laws.battery import CASES, log_mean_with_error, opened, quick_jit, resampled, step

CASE = CASES[0]


def test_account_signs():
    """Work done on a walker and shadow work cost weight, heat does not; the three add up to the change of u."""
    u = jnp.array([1.0, -2.0])
    account = Account.open(u).book(
        work=jnp.array([0.5, 0.0]), heat=jnp.array([0.0, 2.0]), shadow_work=jnp.array([0.1, -0.3])
    )
    np.testing.assert_allclose(account.log_weight.value, [-0.6, 0.3], atol=1e-15)
    np.testing.assert_allclose(account.first_law_residual(u + jnp.array([0.6, 1.7])), 0, atol=1e-15)
    swapped = account.permuted(jnp.array([1, 1]))
    np.testing.assert_allclose(swapped.heat.value, [2.0, 2.0])
    np.testing.assert_allclose(swapped.u_start, [-2.0, -2.0])


def test_weights_of_all_groups_together(key):
    """Groups weigh by their own Z: the normalised weights are those of one population of all walkers."""
    ensemble = step(key, CASE, opened(CASE, key, 120, 4), 0.7)
    plain = np.asarray(ensemble.log_weight())
    np.testing.assert_allclose(ensemble.weights(), np.exp(plain - logsumexp(plain)), atol=1e-14)
    # after resampling some groups only, their log mean weight counts in full
    after = resampled(jax.random.key(1), ensemble, float(np.median(ensemble.ess())))
    log_z = np.repeat(np.asarray(after.log_z.value), 30)
    total = np.asarray(after.log_weight()) + log_z
    assert len(np.unique(log_z)) > 1
    np.testing.assert_allclose(after.weights(), np.exp(total - logsumexp(total)), atol=1e-14)
    np.testing.assert_array_equal(ensemble.group, np.repeat(np.arange(4), 30))
    np.testing.assert_array_equal(ensemble.by_group(ensemble.u)[2], ensemble.u[60:90])


def test_walkers_are_taken_and_put_back(key):
    ensemble, index = opened(CASE, key, 120, 4), jnp.array([4, 29, 0])
    same = quick_jit(lambda ensemble, index: ensemble.put(index, ensemble.taken(index)))(ensemble, index)
    for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(ensemble), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(ensemble.taken(index).x, ensemble.x[index])
    none = ensemble.taken(jnp.zeros(0, int))
    assert none.n_walkers == 0
    np.testing.assert_array_equal(ensemble.put(jnp.zeros(0, int), none).x, ensemble.x)


@pytest.mark.parametrize("n_groups", [0, -2, 7])
def test_groups_must_be_equal(n_groups):
    potential = CASE.path(0.0)
    with pytest.raises(InputError, match=f"30 walkers cannot be split into {n_groups} equal groups"):
        Ensemble.open(CASE.kernel, potential, jnp.zeros((30, 4)), n_groups=n_groups)


def test_only_an_exact_start_is_anchored():
    potential, x = CASE.path(0.0), jnp.zeros((6, 4))
    assert not bool(Ensemble.open(CASE.kernel, potential, x).anchored)
    assert bool(Ensemble.open(CASE.kernel, potential, x, log_z=1.5).anchored)


def test_ledger_adds_up_what_the_walkers_received(key):
    """Totals are means over walkers of every update, whatever is resampled in between."""
    ensemble = opened(CASE, key, 120, 4)
    ledger, expected = Ledger.open(ensemble), np.zeros(3)
    for i, s in enumerate((0.6, 0.2, 1.0, 0.5)):
        before = ensemble
        ensemble = step(jax.random.fold_in(key, i), CASE, before, s)
        ledger = ledger.close(before, ensemble, {"flip_rate": jnp.asarray(0.1 * i)})
        parts = [(e.account.work.value, e.account.heat.value, e.account.shadow_work.value) for e in (before, ensemble)]
        expected += [float(jnp.mean(b - a)) for a, b in zip(*parts, strict=True)]
        ensemble = resampled(jax.random.key(i), ensemble)
    totals = [float(t.value) for t in (ledger.work, ledger.heat, ledger.shadow_work)]
    np.testing.assert_allclose(totals, expected, atol=1e-12)
    assert totals[2] == 0 and abs(totals[0]) > 0.1
    assert float(ledger.rate("flip_rate")) == pytest.approx(0.15)
    assert int(ledger.n_updates) == 4 and 0 < float(ledger.lowest_cess) < 30


def test_conditional_ess(key):
    """Against its definition, with uneven weights, one of them zero."""
    ensemble = step(key, CASE, opened(CASE, key, 120, 4), 0.7)
    ensemble = eqx.tree_at(
        lambda e: e.account.log_weight.hi, ensemble, ensemble.account.log_weight.hi.at[3].set(-jnp.inf)
    )
    dissipated = jax.random.normal(key, (120,))
    w = np.exp(np.asarray(ensemble.by_group(ensemble.log_weight())))
    w /= w.sum(1, keepdims=True)
    e = np.exp(-np.asarray(ensemble.by_group(dissipated)))
    expected = 30 * (w * e).sum(1) ** 2 / (w * e**2).sum(1)
    np.testing.assert_allclose(conditional_ess(ensemble, dissipated), expected, rtol=1e-12)
    np.testing.assert_allclose(conditional_ess(ensemble, jnp.full(120, 3.7)), 30, rtol=1e-12)


GAUSSIAN = Gaussian(jnp.array([0.4]), jnp.array([[0.7]]))
BRIDGES = {
    "jump": (Langevin(), "langevin skewed", GAUSSIAN, 0),
    "langevin": (Langevin(), "langevin skewed", GAUSSIAN, 12),
    "fused": (Langevin(is_fused=True), "langevin skewed", GAUSSIAN, 12),
    "mala": (MALA(), "langevin skewed", GAUSSIAN, 12),
    "site-gibbs": (
        None,
        "site-gibbs callable spin",
        IndependentUnits(jnp.array([0.3, -0.2, 0.0, 0.1]), units("spin", 4)),
        8,
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in ("langevin", "mala") else name for name in BRIDGES]
)
def test_books_opened_at_a_law_close_at_any_energy(name):
    """A user's function at beta = 0.7 + ...: annealed from a law with known Z, judged by quadrature or enumeration."""
    kernel, row, law, n_bridge = BRIDGES[name]
    case = next(case for case in CASES if case.name == row)
    potential, n_groups = case.path(1.0), 100

    @quick_jit
    def arrive(key):
        return open_at_law(
            key, kernel or case.kernel, potential, law, n_walkers=20_000, n_groups=n_groups, n_bridge=n_bridge,
            controls=Controls.of(step_size=0.1),
        )  # fmt: skip

    ensemble = arrive(jax.random.key(11))
    assert bool(ensemble.anchored)
    log_ratio = np.asarray(ensemble.log_partition_groups()) - case.log_z(1.0)
    log_mean, error = log_mean_with_error(log_ratio)
    print(f"{name}: {log_mean:+.4f} +- {error:.4f}")
    assert abs(log_mean) < 4.5 * error < 0.1
    np.testing.assert_allclose(ensemble.u, case.reduced(1.0, np.asarray(ensemble.x)), atol=1e-11)
    assert float(jnp.abs(ensemble.account.first_law_residual(ensemble.u)).max()) < 1e-10


def test_bridge_is_better_than_a_jump():
    """More steps, less dissipation: that is what it is for."""
    ess = []
    target = Potential(Gaussian(jnp.array([2.0, 0.0]), 3.0 * jnp.eye(2)), jnp.asarray(0.7))
    law = Gaussian(jnp.zeros(2), jnp.eye(2))
    for n_bridge in (0, 4, 40):
        ensemble = quick_jit(open_at_law)(
            jax.random.key(2), MALA(), target, law, n_walkers=1500, n_bridge=n_bridge, resample_below=0.0,
            controls=Controls.of(step_size=0.1, n_sweeps=2),
        )  # fmt: skip
        ess.append(float(ensemble.ess()[0]))
    print(ess)
    assert ess[1] > 1.5 * ess[0] and ess[2] > 3 * ess[1]
