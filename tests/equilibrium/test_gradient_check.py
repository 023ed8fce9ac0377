"""What the gradient check compares with: read-outs, low temperatures, dead layers; kernels that do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import Box, CrossEntropy, Declared, SquaredError, hopfield
from quasistatic.equilibrium import Setup
from quasistatic.equilibrium.check import LONGER, _agreement, check_gradients, implicit_gradient
from quasistatic.errors import InputError
from quasistatic.kernels import Langevin, SiteGibbs, settle


def test_implicit_gradient_of_a_read_out_is_that_of_the_relaxed_cost():
    """Finite differences of the cost of the relaxed state, for weights inside the state and for the read-out."""
    network = hopfield(jax.random.key(3), (2, 3, 2), output="softmax", gain=1.5)
    x, y = jnp.asarray([[0.7, -0.2], [0.1, 0.9]]), jnp.asarray([[1.0, 0.0], [0.0, 1.0]])
    slope = implicit_gradient(network, CrossEntropy(), x, y)

    def relaxed_cost(network):
        drive = jax.vmap(network.drive)(x)
        rest, _ = settle(None, network, network.zeros(2), drive, n_sweeps=2000, tolerance=1e-14)
        return float(jnp.mean(jax.vmap(CrossEntropy())(jax.vmap(network.output_of)(rest[-1]), y)))

    leaves, treedef = jax.tree.flatten(network)
    checked = 0
    for i, (leaf, g) in enumerate(zip(leaves, jax.tree.leaves(slope), strict=True)):
        for index in np.ndindex(leaf.shape):
            h = 1e-5
            costs = [
                relaxed_cost(jax.tree.unflatten(treedef, [*leaves[:i], leaf.at[index].add(s * h), *leaves[i + 1 :]]))
                for s in (1, -1)
            ]
            assert abs((costs[0] - costs[1]) / (2 * h) - g[index]) < 1e-6
            checked += abs(float(g[index])) > 1e-3
    assert checked > 5 and float(jnp.abs(slope.readout.weight).max()) > 0.01


@pytest.mark.slow
def test_reference_at_low_temperature_is_not_a_collapsed_reweighting():
    """One real output at `ax`: `dA_b / b` has the gradient `-(y - ax) x / (1 + b)`, which a few heavy walkers miss."""
    network = hopfield(jax.random.key(1), (1, 1))
    x, y, b, t = jnp.ones((1, 1)), jnp.full((1, 1), 2.0), 0.5, 1e-3
    a = float(network.interactions[0].weight[0, 0] + network.biases[0][0])
    rows = check_gradients(
        jax.random.key(0), network, SquaredError(), x, y, nudge=b, temperature=t, n_sweeps=3, n_replicas=100
    )
    one_sided = [r for r in rows if r.estimator in ("contrast", "coupled", "ramp") and "weight" in r.layer]
    assert one_sided and all(r.reference == LONGER for r in one_sided)
    for r in one_sided:
        assert r.relative < max(4.5 * r.expected, 1e-3), r
    # the saboteur: reweighting is judged now, and condemned
    (bad,) = [r for r in rows if r.estimator == "reweighting" and "weight" in r.layer]
    assert bad.relative > 0.2 and abs(a - 2.0) > 0.3
    warm = check_gradients(
        jax.random.key(0), network, SquaredError(), x, y, nudge=b, temperature=5.0, n_sweeps=3, n_replicas=100
    )
    assert {r.reference for r in warm if r.estimator == "contrast"} == {"reweighting"}


def test_layers_without_a_gradient_have_no_cosine():
    dead, alive = np.zeros(3), np.ones(3)
    assert _agreement("e", "l", dead, dead, 0.0, "r").relative == 0
    assert np.isnan(_agreement("e", "l", alive, dead, 0.0, "r").relative)
    assert _agreement("e", "l", alive, alive, 0.0, "r").cosine == pytest.approx(1)


def test_kernels_that_would_leave_the_states_are_refused():
    network = hopfield(jax.random.key(0), (2, 3, 2))
    assert isinstance(network.units[0], Box)
    with pytest.raises(InputError, match="leave a box"):
        Setup(network, SquaredError(), Langevin(), 0.5)
    with pytest.raises(InputError, match="continuous units"):
        Setup(network, SquaredError(), SiteGibbs(), 0.5)
    spins = Declared(lambda s: -s[0] * s[1], output=[1], levels=(-1.0, 1.0))
    with pytest.raises(InputError, match="states"):
        Setup(spins, SquaredError(), SiteGibbs(), 0.5)
    Setup(spins, SquaredError(), SiteGibbs((-1.0, 1.0)), 0.5)
