"""Layered networks: fields, books of the heat bath, box model D at all temperatures, convolutions, rest at zero."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import (
    Binary,
    Box,
    CrossEntropy,
    Example,
    IndependentUnits,
    Layered,
    Nudged,
    Potential,
    Real,
    SquaredError,
    convolutional_hopfield,
    hopfield,
)
from quasistatic.energies.interactions import Dense
from quasistatic.equilibrium import EquilibriumPropagation, Setup, gradient
from quasistatic.errors import InputError
from quasistatic.kernels import LayeredGibbs, Nudge, settle
from quasistatic.kernels.layered import sweep
from quasistatic.thermo import Controls, Ensemble
from quasistatic.thermo.process import relax, switch
from tests.equilibrium.nets import net_c


def box_d():
    """Model D: two box units, E = s1^2/2 + s2^2/2 - 0.8 s1 s2 - 0.3 s1 + 0.1 s2, target 1 for the second."""
    weights = (Dense(jnp.zeros((0, 1))), Dense(jnp.asarray([[0.8]])))
    return Layered(weights, (jnp.asarray([0.3]), jnp.asarray([-0.1])), (Box(1), Box(1)))


def statistics(x):
    """-s1 s2, -s1, -s2: slopes of E in w, b1, b2."""
    return np.stack([-x[..., 0] * x[..., 1], -x[..., 0], -x[..., 1]], -1)


# objective gradients (w, b1, b2) at nudge 1 by quadrature
SLOPES = {
    1.0: (-0.021482205734, -0.002538247494, -0.039482833735),
    0.1: (-0.196432851955, -0.101328079918, -0.245202606738),
    0.01: (-0.463173011270, -0.281199116178, -0.415741399657),
    0.001: (-0.556158947118, -0.344832040222, -0.443488371644),
}


def test_box_model_at_every_temperature_and_its_limit():
    """T13 and model D: truncated-normal sweeps have the moments of quadrature; at zero temperature, of the minimum."""
    network, n, n_kept = box_d(), 1500, 40
    target = jnp.asarray([1.0])

    @jax.jit
    def moments(key, temperature, nudge):
        def one(key):
            pull = Nudge(SquaredError(), target, nudge)

            def move(layers, key_sweep):
                layers = sweep(key_sweep, network, layers, network.drive(None), pull, 1.0 / temperature)
                return layers, jnp.concatenate(layers)

            start = (jnp.full(1, 0.5), jnp.full(1, 0.5))
            _, path = jax.lax.scan(move, start, jax.random.split(key, 40 + n_kept))
            kept = path[40:]
            return jnp.stack([-jnp.mean(kept[:, 0] * kept[:, 1]), -jnp.mean(kept[:, 0]), -jnp.mean(kept[:, 1])])

        return jax.vmap(one)(jax.random.split(key, n))

    for i, (t, expected) in enumerate(SLOPES.items()):
        rows = [np.asarray(moments(jax.random.key(10 * i + j), t, b)) for j, b in enumerate((0.0, 1.0))]
        found = rows[1].mean(0) - rows[0].mean(0)
        error = np.sqrt(sum(r.var(0, ddof=1) for r in rows) / n)
        assert np.all(np.abs(found - expected) < 4.5 * error), t
        if t == 0.1:
            exact = ((-0.271365580, -0.574402011, -0.425597989), (-0.467798432, -0.675730091, -0.670800595))
            for row, mean in zip(rows, exact, strict=True):
                assert np.all(np.abs(row.mean(0) - mean) < 4.5 * row.std(0, ddof=1) / np.sqrt(n))
    start, drive = (jnp.full((1, 1), 0.5), jnp.full((1, 1), 0.5)), network.drive(None)[None]
    free, ended = settle(None, network, start, drive, n_sweeps=500, tolerance=1e-14)
    pull = Nudge(SquaredError(), target[None], 1.0)
    nudged, _ = settle(None, network, free, drive, pull, n_sweeps=500, tolerance=1e-14)
    assert int(ended.n_sweeps) < 200 and float(ended.residual) <= 1e-14
    s_0, s_1 = (np.asarray(network.join(s)[0]) for s in (free, nudged))
    np.testing.assert_allclose(s_0, [0.611111111111, 0.388888888889], atol=1e-11)
    np.testing.assert_allclose(s_1, [0.970588235294, 0.838235294118], atol=1e-11)
    zero = statistics(s_1) - statistics(s_0)
    np.testing.assert_allclose(zero, (-0.575926993891, -0.359477124183, -0.449346405229), atol=1e-11)
    # the limit is reached at a rate T
    steps = [np.linalg.norm(np.asarray(SLOPES[t]) - zero) for t in (0.01, 0.001)]
    assert 4 < steps[0] / steps[1] < 11


def test_rule_at_zero_temperature_has_the_gradient_of_model_d():
    """`EquilibriumPropagation` end to end: objective and gradient of the difference of minima."""
    network, one = box_d(), jnp.ones((1, 1))
    rule = EquilibriumPropagation(nudge=1.0, variant="one-sided", n_free=200, n_nudged=200, tolerance=1e-13)
    slope, _, said = rule.gradient(jax.random.key(0), network, jnp.zeros((1, 0)), one, network.zeros(1))
    found = [slope.interactions[1].weight[0, 0], slope.biases[0][0], slope.biases[1][0]]
    np.testing.assert_allclose(found, (-0.575926993891, -0.359477124183, -0.449346405229), atol=1e-10)
    assert abs(float(said.delta_a) - 0.049428104575) < 1e-10


def test_objective_of_a_negative_nudge_is_that_of_the_sign():
    """A random sign reports `A(b) - A(0)` or `A(0) - A(-b)`, minima by their closed form (linear response of D's)."""
    network, one, b = box_d(), jnp.ones((1, 1)), 0.1
    rule = EquilibriumPropagation(nudge=b, variant="random-sign", n_free=200, n_nudged=200, tolerance=1e-13)

    def minimum(nudge):
        """Both units inside the box: E = s'Hs/2 - f's + constant of the cost."""
        h, f = np.array([[1.0, -0.8], [-0.8, 1.0 + nudge]]), np.array([0.3, -0.1 + nudge])
        s = np.linalg.solve(h, f)
        assert np.all((s > 0) & (s < 1))
        return -0.5 * f @ s + 0.5 * nudge

    expected = {+1: minimum(b) - minimum(0), -1: minimum(0) - minimum(-b)}
    found = {}
    for seed in range(6):
        _, free, said = rule.gradient(jax.random.key(seed), network, jnp.zeros((1, 0)), one, network.zeros(1))
        value = float(said.delta_a)
        sign = min(expected, key=lambda s: abs(expected[s] - value))
        assert abs(value - expected[sign]) < 1e-9, (value, expected)
        found[sign] = value
    assert set(found) == {1, -1}


@pytest.mark.slow
def test_energy_falls_in_every_half_sweep_and_rests_where_the_slope_vanishes(key):
    """At T = 0 a sweep is exact block descent; the fixed point satisfies the projected gradient's condition."""
    network = hopfield(key, (6, 5, 4, 3), gain=2.0)
    x, y = jax.random.uniform(key, (6,)), jnp.asarray([1.0, 0.0, 0.0])
    drive, pull = network.drive(x), Nudge(SquaredError(), y, 0.5)
    potential = Potential(Nudged(network, SquaredError(), 0.5), 1.0)
    layers, last = network.zeros(), np.inf
    for _ in range(60):
        layers = sweep(None, network, layers, drive, pull)
        energy = float(potential(network.join(layers), Example(x, y)))
        assert energy <= last + 1e-12
        last = energy
    state = network.join(layers)
    slope = jax.grad(
        lambda s: 0.5 * jnp.sum((s[9:] - y) ** 2) * 0.5 + network.energy_of_layers(network.split(s), drive)
    )(state)
    hidden, s = slope[:9], state[:9]
    inside = (s > 0) & (s < 1)
    assert float(jnp.abs(jnp.where(inside, hidden, 0.0)).max()) < 1e-6
    assert bool(jnp.all(jnp.where(s == 0, hidden >= -1e-9, True))) and bool(
        jnp.all(jnp.where(s == 1, hidden <= 1e-9, True))
    )
    assert float(jnp.abs(slope[9:]).max()) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["binary", "box"])
def test_first_law_of_switch_and_relax(kind, key):
    """Heat of a sweep is du, work of a nudge is b C / T; the ledger closes per walker, for any cost."""
    network = hopfield(key, (3, 4, 2), units=kind, output="box" if kind == "box" else "binary")
    cost, t, n = CrossEntropy() if kind == "binary" else SquaredError(), 0.7, 6
    setup = Setup(network, cost, LayeredGibbs(), t)
    examples = Example(jax.random.uniform(key, (n, 3)), jnp.eye(2)[jnp.arange(n) % 2])
    walkers = setup.open(jnp.zeros((n, 1, 6)), examples)
    controls = Controls.of(n_sweeps=3)

    @jax.jit
    def run(walkers):
        walkers, _ = relax(key, setup.kernel, setup.potential(0.0), walkers, controls)
        before = setup.costs(walkers)[:, 0]
        walkers, work = switch(setup.kernel, setup.potential(0.8), walkers)
        walkers, _ = relax(key, setup.kernel, setup.potential(0.8), walkers, controls)
        return walkers, work, before

    done, work, before = run(walkers)
    np.testing.assert_allclose(work, 0.8 * before / t, atol=1e-12)
    np.testing.assert_allclose(done.account.shadow_work.value, 0.0, atol=1e-12)
    assert float(jnp.abs(done.account.first_law_residual(done.u)).max()) < 1e-12
    u = jax.vmap(setup.potential(0.8))(done.x, done.context)
    np.testing.assert_allclose(u, done.u, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("cost", [SquaredError(), CrossEntropy()])
def test_stationarity_on_the_enumerated_space(cost):
    """Net C: exact samples of the nudged law stay exact samples; cross-entropy goes through its accept test."""
    network, example, states = net_c()
    t, b, n = 0.6, 1.3, 40000
    potential = Potential(Nudged(network, cost, b), 1.0 / t)
    u = np.asarray(jax.vmap(lambda s: potential(s, example))(states))
    law = np.exp(-(u - u.min()))
    law /= law.sum()
    index = np.random.default_rng(5).choice(64, n, p=law)
    context = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (n, *leaf.shape)), example)
    walkers = Ensemble.open(LayeredGibbs(), potential, states[index], context=context)
    moved, _ = jax.jit(lambda w: relax(jax.random.key(6), LayeredGibbs(), potential, w, Controls.of(n_sweeps=2)))(
        walkers
    )
    found = np.asarray(moved.x) @ (2 ** np.arange(5, -1, -1))
    counts = np.bincount(found.astype(int), minlength=64)
    chi2 = np.sum((counts - n * law) ** 2 / (n * law))
    assert abs(chi2 - 63) < 4.5 * np.sqrt(2 * 63)
    free = np.exp(-np.asarray([potential.beta * network.energy(s, example.inputs) for s in states]))
    assert np.sum((counts - n * free / free.sum()) ** 2 / (n * free / free.sum())) > 1000  # it is the nudged law


@pytest.mark.slow
def test_convolutions_are_transposed_and_differentiated_alike(key):
    """`down` is the transpose of `up`, fields are slopes of the energy, the package's gradient is autodiff's."""
    network = convolutional_hopfield(key, (8, 8, 1), [3, 2], 4)
    inputs = jax.random.uniform(key, (64,))
    layers = tuple(jax.random.uniform(jax.random.fold_in(key, k), (u.size,)) for k, u in enumerate(network.units))
    drive = network.drive(inputs)
    assert [u.size for u in network.units] == [48, 8, 4]
    for k, units in enumerate(network.units):
        own = jax.grad(lambda s, units=units: jnp.sum(units.energies(s)))(layers[k])
        slope = jax.grad(lambda s, k=k: network.energy_of_layers((*layers[:k], s, *layers[k + 1 :]), drive))(layers[k])
        np.testing.assert_allclose(network.field(k, layers, drive), own - slope, atol=1e-12)
    x = network.join(layers)[None, None]
    from quasistatic.energies.nudged import weighted_gradient
    from quasistatic.equilibrium import Terms

    c, example = jnp.asarray([[0.7]]), Example(inputs[None], jnp.zeros((1, 4)))
    ours = gradient(network, SquaredError(), Terms(x, c, 0 * c), example)
    plain = weighted_gradient(network, None, x[0], example, c[0])
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(eqx.filter(plain, eqx.is_inexact_array)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_wrong_networks_are_refused(key):
    with pytest.raises(InputError, match="sizes are inputs"):
        hopfield(key, (4,))
    with pytest.raises(InputError, match="unknown units"):
        hopfield(key, (4, 3, 2), units="relu")
    with pytest.raises(InputError, match="cannot be halved"):
        convolutional_hopfield(key, (7, 8, 1), [2], 3)
    with pytest.raises(InputError, match="temperature above 0"):
        EquilibriumPropagation(variant="covariance", n_replicas=4)
    with pytest.raises(InputError, match="temperature above 0"):
        Setup(hopfield(key, (2, 2, 1)), SquaredError(), LayeredGibbs(), 0.0)
    with pytest.raises(InputError, match="moves layered networks"):
        LayeredGibbs().check(IndependentUnits(jnp.zeros(3), Binary(3)))
    assert isinstance(hopfield(key, (2, 3, 2)).units[-1], Real)
