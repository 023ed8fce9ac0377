"""Models against NumPy, their construction, and what they refuse."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import (
    RBM,
    CallableEnergy,
    Pairwise,
    Potential,
    as_energy,
    complete_graph,
    square_lattice,
    units,
)
from quasistatic.errors import InputError
from tests.laws import enumeration
from tests.laws.battery import CASES, DISCRETE, label, rbm_at

DATA = (np.random.default_rng(2).random((40, 5)) < [0.05, 0.3, 0.5, 0.9, 1.0]).astype(float)


@pytest.mark.parametrize("s", [0.0, 0.35, 1.0])
@pytest.mark.parametrize("case", CASES, ids=label)
def test_potential_of_the_package_is_that_of_numpy(case, s, key):
    """Every row of the battery: `u(x)` with parameters and beta anywhere on the path."""
    x = jnp.asarray(case.states) if case.units else case.start(key, 50)
    found = jax.jit(jax.vmap(case.path(s)))(x)
    np.testing.assert_allclose(found, case.reduced(s, np.asarray(x)), atol=1e-12)


@pytest.mark.parametrize("visible, hidden", [("binary", "spin"), ("spin", "spin")])
def test_joint_energy_and_its_inputs(visible, hidden):
    rbm = rbm_at(0.8, visible, hidden)
    v, h = enumeration.states(visible, 4), enumeration.states(hidden, 3)
    joint = jax.vmap(lambda a: jax.vmap(lambda b: rbm.energy(a, b))(jnp.asarray(h)))(jnp.asarray(v))
    expected = enumeration.rbm_joint(rbm.weights, rbm.visible_bias, rbm.hidden_bias, v, h)
    np.testing.assert_allclose(joint, expected, atol=1e-13)
    # the inputs are minus the slopes of the joint energy
    by_energy = jax.grad(rbm.energy, argnums=(0, 1))(jnp.asarray(v[5]), jnp.asarray(h[2]))
    np.testing.assert_allclose(-by_energy[0], rbm.visible_inputs(jnp.asarray(h[2])), atol=1e-13)
    np.testing.assert_allclose(-by_energy[1], rbm.hidden_inputs(jnp.asarray(v[5])), atol=1e-13)


@pytest.mark.parametrize("name", ["binary", "spin"])
def test_initial_biases_reproduce_the_smoothed_means(name):
    """One pseudo-count of each level keeps a constant pixel finite."""
    data = DATA if name == "binary" else 2 * DATA - 1
    rbm = RBM.initialise(jax.random.key(0), 5, 3, visible=name, weight_scale=0.0, data=data)
    pairwise = Pairwise.initialise(5, units_name=name, data=data)
    low, high = enumeration.LEVELS[name]
    smoothed = (data.sum(0) + low + high) / (len(data) + 2)
    assert np.abs(smoothed).max() < 1
    for base in (rbm.base(), pairwise.base()):
        law, _ = enumeration.law(np.asarray(jax.vmap(base)(jnp.asarray(enumeration.states(name, 5)))))
        np.testing.assert_allclose(law @ enumeration.states(name, 5), smoothed, atol=1e-12)


def test_the_base_is_the_model_without_interactions():
    x = jnp.asarray(enumeration.states("spin", 5))
    pairwise = DISCRETE[4].path(0.8).energy
    free = eqx.tree_at(lambda m: m.couplings, pairwise, jnp.zeros_like(pairwise.couplings))
    np.testing.assert_allclose(jax.vmap(pairwise.base())(x), jax.vmap(free)(x), atol=1e-14)
    rbm = rbm_at(0.8, "spin", "binary")
    free = eqx.tree_at(lambda m: m.weights, rbm, jnp.zeros_like(rbm.weights))
    hidden = rbm.hidden.cgf(0.7 * rbm.hidden_bias).sum()
    x = jnp.asarray(enumeration.states("spin", 4))
    found = jax.vmap(Potential(free, 0.7))(x) + hidden
    np.testing.assert_allclose(found, jax.vmap(Potential(rbm.base(), 0.7))(x), atol=1e-14)
    u = np.asarray(jax.vmap(Potential(free, 0.7))(x))
    assert abs(enumeration.law(u)[1] - float(rbm.base().log_partition(0.7) + hidden)) < 1e-12


def test_random_weights_have_the_scale_that_was_asked_for():
    rbm = RBM.initialise(jax.random.key(4), 200, 100, weight_scale=0.3)
    assert abs(float(rbm.weights.std()) / 0.3 - 1) < 5 / np.sqrt(2 * 200 * 100)
    assert not np.any(rbm.visible_bias) and not np.any(rbm.hidden_bias)
    coupled = Pairwise.initialise(100, key=jax.random.key(4), scale=0.2)
    assert abs(float(coupled.couplings.std()) / 0.2 - 1) < 5 / np.sqrt(2 * 4950)


def test_pairwise_matrix_and_local_fields():
    model = DISCRETE[4].path(0.8).energy
    matrix = np.asarray(model.coupling_matrix())
    np.testing.assert_array_equal(matrix, matrix.T)
    assert not np.any(np.diag(matrix))
    x = jnp.asarray(enumeration.states("spin", 5)[11])
    # for spins, turning unit i over costs 2 x_i times its local field
    for i in range(5):
        cost = float(model(x.at[i].multiply(-1.0)) - model(x))
        assert cost == pytest.approx(2 * float(x[i] * model.local_fields(x)[i]), abs=1e-13)


def test_graphs():
    assert complete_graph(5).tolist() == [[i, j] for i in range(5) for j in range(i + 1, 5)]
    for rows, columns, periodic, n_edges in ((3, 4, True, 24), (3, 4, False, 17), (2, 2, True, 4), (1, 5, True, 5)):
        edges = square_lattice(rows, columns, periodic=periodic)
        assert len(edges) == n_edges == len({tuple(e) for e in edges.tolist()})
        assert (edges[:, 0] < edges[:, 1]).all() and edges.max() < rows * columns
    degree = np.bincount(square_lattice(4, 5).ravel())
    assert (degree == 4).all()


def test_any_callable_becomes_an_energy():
    rbm = rbm_at(0.5)
    assert as_energy(rbm) is rbm
    energy = as_energy(lambda x: jnp.sum(x**4), levels=(-1.0, 1.0))
    assert float(energy.reduced(jnp.array([1.0, 2.0]), 0.7)) == pytest.approx(0.7 * 17)
    # an integer-valued or NumPy answer is a scalar too
    assert float(CallableEnergy(lambda x: np.float64(2.0))(jnp.ones(3))) == 2.0


REFUSED = {
    "not callable": (lambda: as_energy(3.0), "callable on one sample, got float"),
    "vector energy": (lambda: as_energy(lambda x: x)(jnp.ones(3)), r"scalar, but .* shape \(3,\)"),
    "levels": (
        lambda: as_energy(jnp.sum, levels=(0.0, 1.0)).validate(np.array([[0.0, 2.0]]), name="train"),
        "train holds values outside",
    ),
    "NaN": (lambda: as_energy(jnp.sum).validate(np.array([[0.0], [np.nan]])), "first in row 1"),
    "shapes of an RBM": (
        lambda: RBM(jnp.zeros((3, 2)), jnp.zeros(3), jnp.zeros(2), units("spin", 3), units("spin", 4)),
        "3 visible and 4 hidden",
    ),
    "data of an RBM": (lambda: rbm_at(0.5).validate(np.zeros((2, 5)), name="test"), r"test has shape \(2, 5\)"),
    "states of an RBM": (lambda: rbm_at(0.5).validate(-np.ones((2, 4))), "Binary units take values"),
    "no hidden units": (lambda: RBM.initialise(jax.random.key(0), 4, 0), "at least one unit"),
    "unknown units": (lambda: Pairwise.initialise(4, units_name="potts"), "choose one of"),
    "no key": (lambda: Pairwise.initialise(4, scale=0.1), "need a key"),
    "shape of edges": (lambda: Pairwise.initialise(4, edges=[0, 1, 2]), r"shape \(n_edges, 2\)"),
    "edges beyond": (lambda: Pairwise.initialise(4, edges=[[0, 4]]), "outside 0..3"),
    "negative edges": (lambda: Pairwise.initialise(4, edges=[[-1, 2]]), "outside 0..3"),
    "loop": (lambda: Pairwise.initialise(4, edges=[[1, 1]]), "different units"),
    "edge twice": (lambda: Pairwise.initialise(4, edges=[[0, 1], [1, 0]]), "each pair once"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name):
    call, words = REFUSED[name]
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
