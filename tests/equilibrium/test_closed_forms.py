"""Networks C to J: layered {0, 1} units, a box, Gaussians, predictive coding, drag, Langevin moves, one spin."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import (
    CrossEntropy,
    Declared,
    Example,
    Layered,
    LinearCost,
    PredictiveCoding,
    Spin,
    SquaredError,
)
from quasistatic.energies.interactions import Dense
from quasistatic.energies.networks import Linear
from quasistatic.equilibrium import (
    Phase,
    Setup,
    contrast,
    coupled,
    coupling_variance,
    forward,
    gauss_legendre,
    gradient,
    integrated,
    ramp,
    reweighted,
    table,
)
from quasistatic.kernels import MALA, AbstractKernel, KernelState, Langevin, LayeredGibbs
from quasistatic.thermo import Controls
from tests.equilibrium.nets import net_c


def one(tree):
    """One example as a batch of one."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], tree)


NET_C = {
    ("squared", 1.0, 1.0): (
        0.472277279098,
        0.530174253220,
        0.414832294624,
        -0.054724058999,
        0.007721059538,
        0.157598964368,
    ),
    ("squared", 0.25, 0.5): (
        0.241379894576,
        0.519700173607,
        0.444296357928,
        -0.021352380510,
        0.022466789802,
        0.111198080661,
    ),
    ("entropy", 1.0, 1.0): (
        0.721431517925,
        0.779374033644,
        0.667482813567,
        -0.055494914512,
        0.007354184238,
        0.150198360831,
    ),
    ("entropy", 0.25, 0.5): (
        0.347679178819,
        0.730847500566,
        0.665148900959,
        -0.031358526289,
        0.016187059347,
        0.092485691700,
    ),
}


@pytest.mark.parametrize("case", NET_C)
def test_layered_binary_network(case):
    """Net C through the package's own tables; gradients of input weights are outer products with the input."""
    name, t, b = case
    network, example, states = net_c()
    setup = Setup(network, SquaredError() if name == "squared" else CrossEntropy(), LayeredGibbs(), t)
    free, nudged = (table(setup, states, example, nudge) for nudge in (0.0, b))
    slope = gradient(network, setup.cost, one(contrast(free, nudged)), one(example))
    delta = -t * np.log(np.sum(np.asarray(free.weight) * np.exp(-b * np.asarray(free.cost) / t)))
    w2, c1 = np.asarray(slope.interactions[1].weight), np.asarray(slope.biases[0])
    found = [delta, free.mean(free.cost), nudged.mean(nudged.cost), w2[0, 0], c1[0], np.linalg.norm(w2)]
    np.testing.assert_allclose(found, NET_C[case], atol=2e-12)
    np.testing.assert_allclose(slope.interactions[0].weight, np.outer(example.inputs, c1), atol=1e-14)


def test_inputs_of_a_declared_energy_are_its_second_argument():
    """A default is part of the function, as in closures; None stands for an argument."""
    s, scale = jnp.asarray([2.0]), 3.0
    plain = Declared(lambda s, scale=scale: scale * s[0], [0])
    driven = Declared(lambda s, x=None: s[0] * x[0], [0])
    assert not plain.has_inputs and float(plain.energy(s, jnp.asarray([5.0]))) == 6.0
    assert driven.has_inputs and float(driven.energy(s, jnp.asarray([5.0]))) == 10.0


SPIN = {
    1.0: (0.572961796566, -0.479616956880),
    0.2: (0.740977648080, -1.426144737336),
    0.02: (0.799999092022, -1.999909204263),
}


@pytest.mark.parametrize("t", SPIN)
def test_one_spin_and_its_ramp_loss(t):
    """Net J: at low temperature the objective is a clipped hinge, while the supervised gradient vanishes."""
    # C = (1 - y s) / 2 is a quarter of the squared error: nudge 1/2 of ours is nudge 1 there
    network = Layered((Dense(jnp.zeros((0, 1))),), (jnp.asarray([-0.4]),), (Spin(1),))
    setup = Setup(network, SquaredError(), LayeredGibbs(), t)
    example = Example(None, jnp.asarray([1.0]))
    free, nudged = (table(setup, jnp.asarray([[-1.0], [1.0]]), example, b) for b in (0.0, 0.5))
    slope = gradient(network, setup.cost, one(contrast(free, nudged)), one(example))
    delta = -t * np.log(np.sum(np.asarray(free.weight) * np.exp(-0.5 * np.asarray(free.cost) / t)))
    np.testing.assert_allclose([delta, float(slope.biases[0][0])], SPIN[t], atol=1e-11)


def test_scalar_gaussian_by_quadrature():
    """Net E, with the objective by thermodynamic integration over exact means."""
    k, m, y, t, b = 2.0, 0.3, 1.0, 0.5, 0.8
    z, w = np.polynomial.hermite_e.hermegauss(80)

    class Well(eqx.Module):
        k: jnp.ndarray
        m: jnp.ndarray

        def __call__(self, s):
            return 0.5 * self.k * (s[0] - self.m) ** 2

    network, cost = Declared(Well(jnp.asarray(k), jnp.asarray(m)), [0]), SquaredError()
    s = jnp.asarray(m + np.sqrt(t / k) * z)[:, None]
    free = Phase(s, 0.5 * (s[:, 0] - y) ** 2, jnp.asarray(w / w.sum()), jnp.asarray(0.0), True)
    slope = gradient(network, cost, one(contrast(free, reweighted(free, b, t))), one(Example(None, jnp.asarray([y]))))
    nodes, weights = gauss_legendre(b, 12)
    costs = [reweighted(free, node, t) for node in nodes]
    delta = sum(weight * float(p.mean(p.cost)) for weight, p in zip(weights, costs, strict=True))
    found = [delta, float(slope.function.m), float(slope.function.k), float(free.mean(free.cost))]
    np.testing.assert_allclose(found, [0.224118059155303, -0.4, -0.015714285714286, 0.37], atol=1e-9)


GAUSSIAN_F = {
    (0.2, 1.0): (0.629714853550, 0.046042148472, 0.190629162608),
    (1.0, 1.0): (1.199120771317, 0.041031917735, 0.220332840663),
    (0.2, -0.3): (-0.501023586485, -0.026300079787, -0.042191090221),
}


@pytest.mark.parametrize("case", GAUSSIAN_F)
def test_five_coupled_gaussians(case):
    """Net F, both signs of the nudge: sigma points carry the exact second moments of each phase."""
    t, b = case
    i = np.arange(1, 6)
    couplings = 0.15 * np.sin(1.7 * (i[:, None] + i))
    np.fill_diagonal(couplings, 0.0)
    bias, outputs, target = 0.5 * np.cos(0.9 * i), [3, 4], np.array([1.0, -0.5])
    projector = np.diag([0.0, 0.0, 0.0, 1.0, 1.0])
    pull = np.concatenate([np.zeros(3), target])

    class Quadratic(eqx.Module):
        w: jnp.ndarray
        b: jnp.ndarray

        def __call__(self, s):
            return 0.5 * s @ s - 0.5 * s @ self.w @ s - self.b @ s

    def phase(nudge):
        stiffness = np.eye(5) - couplings + nudge * projector
        mean = np.linalg.solve(stiffness, bias + nudge * pull)
        root = np.linalg.cholesky(t * np.linalg.inv(stiffness)) * np.sqrt(5.0)
        x = np.concatenate([mean + root.T, mean - root.T])
        costs = 0.5 * ((x[:, outputs] - target) ** 2).sum(1)
        return Phase(jnp.asarray(x), jnp.asarray(costs), jnp.full(10, 0.1), jnp.asarray(nudge), True)

    network = Declared(Quadratic(jnp.asarray(couplings), jnp.asarray(bias)), outputs)
    terms = one(contrast(phase(0.0), phase(b)))
    slope = np.asarray(gradient(network, SquaredError(), terms, one(Example(None, jnp.asarray(target)))).function.w)
    nodes, weights = gauss_legendre(b, 16)
    delta = integrated([np.asarray(phase(node).cost)[None] for node in nodes], list(weights)).value
    assert delta is not None
    found = [delta, slope[0, 1] + slope[1, 0], slope[3, 4] + slope[4, 3]]
    np.testing.assert_allclose(found, GAUSSIAN_F[case], atol=1e-10)


PCN = {
    (0.3, 1.0): (0.338763727565, 0.139172873991, -0.260932449841, 0.658960750330, 0.182091828526),
    (0.3, 0.1): (0.059944031600, 0.024178188504, -0.057985376867, None, None),
    (0.01, 1.0): (0.247438437035, 0.184726717726, -0.237631804899, None, None),
}


def pcn():
    zero = jnp.zeros(1)
    return PredictiveCoding((Linear(jnp.asarray([[1.2]]), zero), Linear(jnp.asarray([[-0.8]]), zero)))


@pytest.mark.parametrize("case", PCN)
def test_predictive_coding_by_quadrature(case):
    """Net G: the free phase contributes nothing, and the objective comes from it alone."""
    t, b = case
    network, example = pcn(), Example(jnp.asarray([0.7]), jnp.asarray([0.5]))
    z, w = np.polynomial.hermite_e.hermegauss(120)
    h = 1.2 * 0.7 + np.sqrt(t) * z[:, None]
    o = -0.8 * np.tanh(h) + np.sqrt(t) * z
    x = jnp.asarray(np.stack([np.broadcast_to(h, o.shape), o], -1).reshape(-1, 2))
    weight = np.outer(w, w).ravel() / w.sum() ** 2
    free = Phase(x, 0.5 * (x[:, 1] - 0.5) ** 2, jnp.asarray(weight), jnp.asarray(0.0), True)
    nudged = reweighted(free, b, t)
    slope = gradient(network, SquaredError(), one(contrast(free, nudged)), one(example))
    single = gradient(
        network,
        SquaredError(),
        one(contrast(free.__class__(x, free.cost, 0 * free.weight, free.nudge), nudged)),
        one(example),
    )
    delta = -t * np.log(weight @ np.exp(-b * np.asarray(free.cost) / t))
    found = [delta, *(float(p.weight[0, 0]) for p in slope.predictions), free.mean(free.cost), nudged.mean(nudged.cost)]
    for value, expected in zip(found, PCN[case], strict=True):
        assert expected is None or abs(value - expected) < 1e-9
    for a, c in zip(slope.predictions, single.predictions, strict=True):
        np.testing.assert_allclose(a.weight, c.weight, atol=1e-12)


@pytest.mark.slow
def test_predictive_coding_ancestral_samples():
    """Net G: exact free samples without a chain; <g>_0 = 0, and the objective within its error."""
    t, b, n = 0.3, 1.0, 40000
    network, inputs = pcn(), jnp.asarray([0.7])
    x = jax.vmap(lambda k: network.sample_free(k, inputs, t))(jax.random.split(jax.random.key(2), n))
    rows = np.stack([-(x[:, 0] - 0.84) * 0.7, -(x[:, 1] + 0.8 * jnp.tanh(x[:, 0])) * jnp.tanh(x[:, 0])], 1)
    error = rows.std(0, ddof=1) / np.sqrt(n)
    assert np.all(np.abs(rows.mean(0)) < 4.5 * error)
    found = forward(np.asarray(0.5 * (x[:, 1] - 0.5) ** 2)[None], b, t)
    assert found.value is not None and found.stderr is not None
    assert abs(found.value - PCN[t, b][0]) < 4.5 * found.stderr
    forward_pass = network.sample_free(jax.random.key(0), inputs, 0.0)
    np.testing.assert_allclose(0.5 * (forward_pass[1] - 0.5) ** 2, 0.549830527239, atol=1e-11)


class Exact(AbstractKernel):
    """Exact draws of the dragged well k = 1.5, m = 0.4, force c b."""

    def init(self, potential, x, context=None):
        return KernelState(x, potential(x, context), None)

    def step(self, key, after, state, controls, context=None):
        mean = 0.4 - after.energy.nudge * 0.7 / 1.5
        x = mean + jax.random.normal(key, state.x.shape) / jnp.sqrt(1.5 * after.beta)
        new = self.init(after, x, context)
        return new, new.u - state.u, {}


@pytest.mark.slow
def test_linear_drag_has_gaussian_work():
    """Net H: mean and variance of the work of one and of four well-relaxed steps."""
    k, m, c, t, b, n = 1.5, 0.4, 0.7, 0.3, 1.2, 40000
    network = Declared(lambda s: 0.5 * k * (s[0] - m) ** 2, [0])
    setup = Setup(network, LinearCost(), Exact(), t)
    examples = Example(None, jnp.asarray([[c]]))
    x = m + np.sqrt(t / k) * np.random.default_rng(1).normal(size=(1, n, 1))

    @jax.jit
    def works(schedule):
        return ramp(jax.random.key(3), setup, setup.open(jnp.asarray(x), examples), schedule, Controls.of())[1]

    schedules = {1: jnp.asarray([0.0, b, b, b, b]), 4: jnp.linspace(0.0, b, 5)}
    for n_steps, mean in ((1, 0.336), (4, 0.1596)):
        w = np.asarray(works(schedules[n_steps]))[0] * t
        variance = b**2 * c**2 * t / (k * n_steps)
        assert abs(b * c * m - (c * b) ** 2 / (2 * k) * (1 - 1 / n_steps) - mean) < 1e-12
        assert abs(w.mean() - mean) < 4.5 * np.sqrt(variance / n)
        assert abs(w.var(ddof=1) - variance) < 4.5 * variance * np.sqrt(2 / n)
        assert abs(mean - variance / (2 * t) - 0.1008) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [Langevin(), MALA()])
def test_langevin_moves_and_coupled_phases(kernel):
    """Net I and G6: stationary variances, and that of `(s_b - s_0) / b` under common random numbers."""
    k, b, t, h, n = 2.0, 0.8, 0.5, 0.1, 20000
    network = Declared(lambda s: 0.5 * k * s[0] ** 2, [0])
    setup = Setup(network, SquaredError(), kernel, t)
    examples = Example(None, jnp.zeros((1, 1)))
    start = jnp.asarray(np.random.default_rng(4).normal(size=(1, n, 1)) * np.sqrt(t / k))

    @jax.jit
    def run(x):
        controls = Controls.of(n_sweeps=60, step_size=t * h)  # the kernel moves along F / T
        free, nudged = coupled(jax.random.key(5), setup, setup.open(x, examples), (0.0, b), controls)
        return free.x[0, :, 0], nudged.x[0, :, 0]

    s_0, s_b = (np.asarray(s) for s in run(start))
    kappa = k + b
    exact, biased = t / kappa, t / (kappa * (1 - h * kappa / 2))
    np.testing.assert_allclose([exact, biased], [0.178571428571, 0.207641196013], rtol=1e-9)
    error = np.sqrt(2 / n)
    is_adjusted = isinstance(kernel, MALA)
    assert abs(s_b.var() / (exact if is_adjusted else biased) - 1) < 4.5 * error
    assert abs(s_b.var() / (biased if is_adjusted else exact) - 1) > 8 * error  # the other one
    if is_adjusted:
        return
    a_0, a_b = 1 - h * k, 1 - h * kappa
    variance = 2 * t * h * (1 / (1 - a_0**2) + 1 / (1 - a_b**2) - 2 / (1 - a_0 * a_b)) / b**2
    found = ((s_b - s_0) / b).var()
    assert abs(found / variance - 1) < 4.5 * error
    limit = coupling_variance(k, b, t)
    tiny = 1e-7
    a_0, a_b = 1 - tiny * k, 1 - tiny * kappa
    np.testing.assert_allclose(
        2 * t * tiny * (1 / (1 - a_0**2) + 1 / (1 - a_b**2) - 2 / (1 - a_0 * a_b)) / b**2, limit, rtol=1e-5
    )
    assert limit < 0.0187 and found < 0.05 * t * (1 / k + 1 / kappa) / b**2
