"""Changes of description leave the law: encodings, names of units, scale of temperature, order of walkers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import RBM, Gaussian, Potential, flip_encoding
from quasistatic.kernels import MALA, AuxiliaryGibbs, BlockGibbs, Langevin
from quasistatic.thermo import Controls
from tests.laws import conditionals, enumeration
from tests.laws.battery import (
    CASES,
    DISCRETE,
    advanced,
    driven,
    label,
    one_per_kernel,
    opened,
    opened_at,
    quick_jit,
    rbm_at,
    resampled,
    step,
)

BETA = 0.7
BINARY, SPIN = enumeration.states("binary", 4), enumeration.states("spin", 4)
evaluated = quick_jit(lambda potential, x: jax.vmap(potential)(x))


def law_of(energy, x, beta=BETA):
    """Law and log Z over given states, by the package's potential."""
    return enumeration.law(np.asarray(evaluated(Potential(energy, jnp.asarray(beta)), jnp.asarray(x))))


def test_flipped_encoding_has_the_same_law_and_the_same_kernel():
    """`x = (1 + s)/2` in both layers: probabilities and transition matrices stay, log Z moves by a known constant."""
    rbm = rbm_at(0.8)
    flipped = flip_encoding(rbm)
    (law, log_z), (law_spin, log_z_spin) = law_of(rbm, BINARY), law_of(flipped, SPIN)
    np.testing.assert_allclose(law_spin, law, atol=1e-14)
    np.testing.assert_array_equal(2 * BINARY - 1, SPIN)
    # E(v, h) - E(s, t) at v = (1 + s)/2: half of all biases, a quarter of all weights
    constant = -(rbm.visible_bias.sum() + rbm.hidden_bias.sum()) / 2 - rbm.weights.sum() / 4
    np.testing.assert_allclose(log_z, log_z_spin - BETA * constant, atol=1e-12)
    h = enumeration.states("binary", 3)
    matrix = conditionals.block_gibbs(rbm, BETA, BINARY, h)
    np.testing.assert_allclose(conditionals.block_gibbs(flipped, BETA, SPIN, 2 * h - 1), matrix, atol=1e-14)


def test_saboteur_flip_without_the_biases():
    """Weights over 4 alone is a common slip of converters."""
    rbm = rbm_at(0.8)
    wrong = eqx.tree_at(lambda m: m.visible_bias, flip_encoding(rbm), rbm.visible_bias / 2)
    assert np.abs(law_of(wrong, SPIN)[0] / law_of(rbm, BINARY)[0] - 1).max() > 0.05


@pytest.mark.parametrize("visible, hidden", [("binary", "binary"), ("spin", "binary"), ("binary", "spin")])
def test_names_of_hidden_units_do_not_matter(visible, hidden):
    rbm, order = rbm_at(0.8, visible, hidden), np.array([2, 0, 1])
    renamed = RBM(rbm.weights[:, order], rbm.visible_bias, rbm.hidden_bias[order], rbm.visible, rbm.hidden)
    x = enumeration.states(visible, 4)
    (law, log_z), (law_renamed, log_z_renamed) = law_of(rbm, x), law_of(renamed, x)
    np.testing.assert_allclose(law_renamed, law, atol=1e-15)
    np.testing.assert_allclose(log_z_renamed, log_z, atol=1e-14)


def test_names_of_visible_units_do_not_matter():
    rbm, order = rbm_at(0.8), np.array([3, 1, 0, 2])
    renamed = RBM(rbm.weights[order], rbm.visible_bias[order], rbm.hidden_bias, rbm.visible, rbm.hidden)
    back = evaluated(Potential(renamed, BETA), jnp.asarray(BINARY[:, order]))
    np.testing.assert_allclose(back, evaluated(Potential(rbm, BETA), jnp.asarray(BINARY)), atol=1e-14)


def scaled(energy, factor):
    """All parameters times a factor."""
    return jax.tree.map(lambda leaf: leaf * factor if eqx.is_inexact_array(leaf) else leaf, energy)


@pytest.mark.parametrize("factor", [pytest.param(0.4, marks=pytest.mark.slow), 3.0])
@pytest.mark.parametrize("case", [c for c in DISCRETE if "callable" not in c.name], ids=label)
def test_only_the_ratio_of_parameters_and_temperature_matters(case, factor):
    """`(theta, T) -> (s theta, s T)`: potential and every conditional stay."""
    potential = case.path(0.6)
    energy, beta = scaled(potential.energy, factor), potential.beta / factor
    u = [np.asarray(evaluated(p, jnp.asarray(case.states))) for p in (potential, Potential(energy, beta))]
    np.testing.assert_allclose(u[1], u[0], atol=1e-13)
    np.testing.assert_allclose(u[0], case.reduced(0.6, case.states), atol=1e-13)
    if isinstance(case.kernel, BlockGibbs | AuxiliaryGibbs):
        h = enumeration.states(case.name.split("-")[-1], 3)
        matrices = [
            conditionals.block_gibbs(e, b, case.states, h)
            for e, b in ((potential.energy, potential.beta), (energy, beta))
        ]
    else:
        matrices = [
            enumeration.product(conditionals.single_sites(p, case.units, case.n))
            for p in (potential, Potential(energy, beta))
        ]
    np.testing.assert_allclose(matrices[1], matrices[0], atol=1e-13)


@pytest.mark.parametrize(
    "kernel",
    [pytest.param(Langevin(), marks=pytest.mark.slow), Langevin(is_fused=True), MALA()],
    ids=["unfused", "fused", "mala"],
)
def test_only_the_ratio_matters_for_continuous_walkers(kernel, key):
    """The same walkers and books from an energy three times as large at a third of beta."""
    ends, x = [], jax.random.normal(key, (64, 2))
    for factor in (1.0, 3.0):

        def potential(shift, factor=factor):
            root = jnp.sqrt(factor) * jnp.array([[1.1, 0.0], [-0.6, 0.9]])
            return Potential(Gaussian(jnp.array([0.3 + shift, -0.8]), root), jnp.asarray(BETA / factor))

        ensemble = opened_at(kernel, potential(0.0), x)
        for i in range(4):
            ensemble = advanced(
                jax.random.fold_in(key, i), kernel, potential(0.2 * i), ensemble, Controls.of(step_size=0.3)
            )
        ends.append(ensemble)
    np.testing.assert_allclose(ends[1].x, ends[0].x, atol=1e-12)
    np.testing.assert_allclose(ends[1].log_weight(), ends[0].log_weight(), atol=1e-12)
    np.testing.assert_allclose(ends[1].account.heat.value, ends[0].account.heat.value, atol=1e-12)


@pytest.mark.parametrize("case", one_per_kernel(), ids=label)
def test_order_of_walkers_does_not_matter(case, key):
    """Permuting walkers inside their groups, or whole groups, permutes the books; estimates stay."""
    ensemble = driven(key, case, opened(case, key, 400, 4), (0.5, 1.0))
    order = np.concatenate([100 * g + np.random.default_rng(0).permutation(100) for g in (2, 0, 3, 1)])
    per_walker = jax.tree.map(
        lambda a: a[order] if a.shape[:1] == (400,) else a,
        (ensemble.x, ensemble.u, ensemble.cache, ensemble.account),
    )
    moved = eqx.tree_at(
        lambda e: (e.x, e.u, e.cache, e.account), ensemble, per_walker, is_leaf=lambda leaf: leaf is None
    )
    np.testing.assert_allclose(moved.weights(), ensemble.weights()[order], atol=1e-14)
    np.testing.assert_allclose(
        moved.log_partition_groups(), ensemble.log_partition_groups()[jnp.array([2, 0, 3, 1])], atol=1e-12
    )
    np.testing.assert_allclose(moved.ess(), ensemble.ess()[jnp.array([2, 0, 3, 1])], atol=1e-12)
    np.testing.assert_array_equal(
        moved.account.first_law_residual(moved.u), ensemble.account.first_law_residual(ensemble.u)[order]
    )


def test_groups_do_not_see_each_other(key):
    """What happens in one group, resampling included, does not depend on the others."""
    case = CASES[0]
    ensemble = step(key, case, opened(case, key, 400, 4), 1.0)
    other = eqx.tree_at(
        lambda e: e.account.log_weight.hi, ensemble, ensemble.account.log_weight.hi.at[:100].multiply(3.0)
    )
    one, two = (resampled(jax.random.key(3), e) for e in (ensemble, other))
    np.testing.assert_array_equal(one.x[100:], two.x[100:])
    np.testing.assert_array_equal(one.log_partition_groups()[1:], two.log_partition_groups()[1:])
    assert float(one.log_partition_groups()[0]) != float(two.log_partition_groups()[0])
