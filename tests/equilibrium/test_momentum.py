"""Sweeps with momentum at temperature zero: the same rest, sooner."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.cli.nudged import build
from quasistatic.cli.nudged_config import load
from quasistatic.energies import Binary, Box, Layered, Real, SquaredError
from quasistatic.energies.interactions import Dense
from quasistatic.equilibrium import EquilibriumPropagation
from quasistatic.errors import InputError
from quasistatic.kernels import Nudge, settle
from tests.equilibrium.test_layered import box_d


def slow_network(coupling=0.98, sizes=(6, 5, 4)):
    """Real units, `E = s's/2 - s'Js/2 - f's` with largest eigenvalue of `J` given; its `J`, `f` and minimum."""
    rng = np.random.default_rng(3)
    first, second = (rng.normal(size=pair) for pair in ((sizes[0], sizes[1]), (sizes[1], sizes[2])))
    j = np.zeros((sum(sizes),) * 2)
    a, b = sizes[0], sizes[0] + sizes[1]
    j[:a, a:b], j[a:b, b:] = first, second
    j = j + j.T
    scale = coupling / np.linalg.eigvalsh(j)[-1]
    f = rng.normal(size=sum(sizes))
    weights = tuple(Dense(jnp.asarray(w)) for w in (np.zeros((0, a)), scale * first, scale * second))
    biases = tuple(jnp.asarray(part) for part in np.split(f, [a, b]))
    return Layered(weights, biases, tuple(Real(n) for n in sizes)), np.linalg.solve(np.eye(len(j)) - scale * j, f)


def distances(network, rest, momentum, times):
    """Distance to the minimum after so many sweeps from zero."""
    drive = network.drive(None)[None]
    found = [settle(None, network, network.zeros(1), drive, n_sweeps=t, momentum=momentum)[0] for t in times]
    return [float(np.linalg.norm(network.join(layers)[0] - rest)) for layers in found]


def test_plain_sweeps_shrink_by_the_squared_coupling_and_momentum_by_more():
    """Sweeps of two colours shrink the slowest direction by `0.98^2`; momentum passes `1 - sqrt(1 - 0.98^2)`."""
    network, rest = slow_network()
    plain = distances(network, rest, 0.0, (200, 201))
    assert abs(plain[1] / plain[0] - 0.98**2) < 1e-8
    fast = distances(network, rest, 0.7, (40, 80))
    assert fast[1] / fast[0] < (1 - np.sqrt(1 - 0.98**2)) ** 20, "40 sweeps, at half of the promised digits each"
    assert fast[1] < 1e-3 * distances(network, rest, 0.0, (80,))[0]


@pytest.mark.parametrize("momentum", [0.3, 0.7, 0.95])
def test_rest_is_the_same(momentum):
    """Box model D free and nudged, and real units near their instability: closed forms, counted to the tolerance."""
    network = box_d()
    start, drive = (jnp.full((1, 1), 0.5), jnp.full((1, 1), 0.5)), network.drive(None)[None]
    how = {"n_sweeps": 2000, "tolerance": 1e-14, "momentum": momentum}
    free, ended = settle(None, network, start, drive, **how)
    nudged, _ = settle(None, network, free, drive, Nudge(SquaredError(), jnp.ones((1, 1)), 1.0), **how)
    assert float(ended.residual) <= 1e-14
    np.testing.assert_allclose(network.join(free)[0], [0.611111111111, 0.388888888889], atol=1e-11)
    np.testing.assert_allclose(network.join(nudged)[0], [0.970588235294, 0.838235294118], atol=1e-11)
    slow, rest = slow_network()
    layers, ended = settle(None, slow, slow.zeros(1), slow.drive(None)[None], **how | {"tolerance": 1e-12})
    assert int(ended.n_sweeps) < 2000
    np.testing.assert_allclose(slow.join(layers)[0], rest, atol=1e-9)


def test_samples_of_a_batch_restart_alone():
    """What a sample does is the same in any batch."""
    network, _ = slow_network()
    drives = network.drive(None) + jnp.asarray(np.random.default_rng(0).normal(size=(5, 6)))
    start = tuple(jnp.broadcast_to(s, (5, s.shape[1])) for s in network.zeros(1))
    together, _ = settle(None, network, start, drives, n_sweeps=25, momentum=0.9)
    for i in range(5):
        alone, _ = settle(None, network, network.zeros(1), drives[i : i + 1], n_sweeps=25, momentum=0.9)
        np.testing.assert_allclose(network.join(alone)[0], network.join(together)[i], atol=1e-12)


def test_rule_with_momentum_has_the_gradient_of_model_d():
    network, one = box_d(), jnp.ones((1, 1))
    rule = EquilibriumPropagation(
        nudge=1.0, variant="one-sided", n_free=200, n_nudged=200, tolerance=1e-13, momentum=0.6
    )
    slope, _, said = rule.gradient(jax.random.key(0), network, jnp.zeros((1, 0)), one, network.zeros(1))
    found = [slope.interactions[1].weight[0, 0], slope.biases[0][0], slope.biases[1][0]]
    np.testing.assert_allclose(found, (-0.575926993891, -0.359477124183, -0.449346405229), atol=1e-10)
    assert abs(float(said.delta_a) - 0.049428104575) < 1e-10


def test_momentum_is_refused_where_it_would_be_wrong():
    with pytest.raises(InputError, match="momentum is for temperature 0, got temperature 0.1"):
        EquilibriumPropagation(temperature=0.1, variant="one-sided", momentum=0.5)
    with pytest.raises(InputError, match="from 0 to below 1, got 1"):
        EquilibriumPropagation(momentum=1.0)
    weights = (Dense(jnp.zeros((2, 3))), Dense(jnp.zeros((3, 1))))
    network = Layered(weights, (jnp.zeros(3), jnp.zeros(1)), (Binary(3), Box(1)))
    with pytest.raises(InputError, match="discrete"):
        EquilibriumPropagation(momentum=0.5).check(network)
    with pytest.raises(InputError, match="spoil draws"):
        settle(jax.random.key(0), box_d(), (jnp.zeros((1, 1)),) * 2, jnp.zeros((1, 1)), n_sweeps=2, momentum=0.5)


def test_configuration_sets_the_momentum():
    _, trainer, _ = build(load("digits-ep", None, ["equilibrium.momentum=0.6"]))
    assert trainer.rule.momentum == 0.6
