"""Metric estimators against exact values.

Digest of minimal-dissipation learning, acceptance tests:

| test of the digest | here |
|---|---|
| 13 friction of trap, stiffness, quartic family (within 3 standard errors) | `test_langevin_friction` |
| 13, exact: closed form of one dimension against the digest's numbers | `test_closed_form_of_the_quartic_family` |
| 14 linear response and constant speed of the quartic family | `test_quartic_protocols_cost_what_the_friction_says` |
| 3.3 friction of a Gibbs sampler | `test_gibbs_friction`, `test_slow_protocols_cost_what_the_friction_says` |
| 3.3 perfect sampler: work is relative entropy | `test_without_memory_the_cost_is_relative_entropy` |
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_banded

import quasistatic as qs
from quasistatic.errors import InputError
from quasistatic.metric import friction
from tests.laws.enumeration import law
from tests.metric import chain
from tests.metric.exact import Quartic

THETA = (0.3, -0.4)


class Trap(qs.AbstractEnergy):
    """`lam (x - m)^2 / 2` with parameters `(m, lam)`."""

    theta: jax.Array

    def __call__(self, x):
        return self.theta[1] * (x[0] - self.theta[0]) ** 2 / 2


@jax.jit
def langevin_frames(key, energy, beta, x, step_size, n_inner):
    """Rows of walkers along a stationary run, one frame every `n_inner` steps."""
    kernel, potential = qs.Langevin(), qs.Potential(energy, beta)
    controls = qs.Controls(beta, n_inner, step_size, 1.0, 0.0)
    rows = jax.vmap(jax.grad(lambda energy, x: energy.reduced(x, beta)), (None, 0))

    def frame(ensemble, key):
        ensemble, _ = qs.relax(key, kernel, potential, ensemble, controls)
        return ensemble, rows(energy, ensemble.x).theta

    ensemble = qs.Ensemble.open(kernel, potential, x)
    ensemble, _ = qs.relax(key, kernel, potential, ensemble, qs.Controls(beta, 40 * n_inner, step_size, 1.0, 0.0))
    return jax.lax.scan(frame, ensemble, jax.random.split(key, 800))[1]


def frames_of(energy, beta, *, seed, step_size, n_inner, n=3000):
    grid = np.linspace(-6, 6, 1201)
    u = beta * np.asarray(jax.vmap(lambda x: energy(x[None]))(jnp.asarray(grid)))
    x = np.random.default_rng(seed).choice(grid, (n, 1), p=law(u)[0])
    return langevin_frames(
        jax.random.key(seed), energy, jnp.asarray(beta), jnp.asarray(x), jnp.asarray(step_size), jnp.asarray(n_inner)
    )


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


# Rows are in nats and the mobility of the package's Langevin is beta: friction b zeta with the digest's zeta at mu = b.
@pytest.mark.parametrize(
    "energy, beta, step_size, n_inner, window, expected",
    [
        (Trap(jnp.asarray([0.4, 0.7])), 1.7, 0.05, 1, 160, {(0, 0): 1.0, (0, 1): 0.0}),
        slow(Trap(jnp.asarray([0.4, 0.7])), 1.7, 0.01, 4, 160, {(1, 1): 1 / (4 * 1.7 * 0.7**3)}),
        (Quartic(jnp.asarray([0.3, -1.0])), 1.0, 0.01, 4, 300, {(0, 0): 1.17981, (0, 1): -0.12069, (1, 1): 0.07269}),
        slow(Quartic(jnp.asarray([0.0, 1.0])), 1.0, 0.01, 4, 120, {(0, 0): 0.22476, (1, 1): 0.01359}),
    ],
    ids=["trap", "stiffness", "double well", "single well"],
)
def test_langevin_friction(energy, beta, step_size, n_inner, window, expected):
    """Test 13. For the mean of a trap the sum is exact at any step; elsewhere steps of 0.01 are below the errors."""
    frames = frames_of(energy, beta, seed=4, step_size=step_size, n_inner=n_inner)
    z = friction.green_kubo(frames, window)
    unit = step_size * n_inner
    for (i, j), exact in expected.items():
        value, stderr = unit * float(z.value[i, j]), unit * float(z.stderr[i, j])
        assert abs(value - exact) < 3 * stderr, f"friction {i}{j}: {value} +- {stderr}, exact {exact}"
        assert stderr < 0.06 * unit * float(jnp.sqrt(z.value[i, i] * z.value[j, j]))
    # the saboteur: without the later times it is far off
    (i, j), exact = next(iter(expected.items()))
    short = friction.green_kubo(frames, 2)
    assert abs(unit * float(short.value[i, j]) - exact) > 10 * unit * float(short.stderr[i, j])


def gibbs_frames(n=4000, n_frames=120):
    """Rows of a two-parameter chain under the package's Gibbs kernel, from equilibrium."""
    edges = np.array([[0, 1], [1, 2], [2, 3]])
    fields, couplings = THETA[0] * np.array([1.0, 0.5, -0.7, 1.2]), THETA[1] * np.array([1.0, 1.0, 0.6])
    model = qs.Pairwise(jnp.asarray(fields), jnp.asarray(couplings), jnp.asarray(edges), qs.Spin(4))
    p, _ = law(chain.reduced(THETA))
    x = chain.X[np.random.default_rng(2).choice(len(p), n, p=p)]
    kernel, potential = qs.Gibbs(), qs.Potential(model, chain.BETA)
    controls = qs.Controls.of(beta=chain.BETA)

    @jax.jit
    def run(ensemble):
        def frame(ensemble, key):
            ensemble, _ = qs.relax(key, kernel, potential, ensemble, controls)
            return ensemble, ensemble.x

        return jax.lax.scan(frame, ensemble, jax.random.split(jax.random.key(3), n_frames))[1]

    x = np.asarray(run(qs.Ensemble.open(kernel, potential, jnp.asarray(x))))
    phi = [x @ [1.0, 0.5, -0.7, 1.2], x[..., :-1] * x[..., 1:] @ [1.0, 1.0, 0.6]]
    return jnp.asarray(-chain.BETA * np.stack(phi, axis=-1))


def test_gibbs_friction():
    """Green-Kubo and batch means of a Gibbs sampler against its enumerated transition matrix."""
    frames, exact = gibbs_frames(), chain.friction(THETA)
    z = friction.green_kubo(frames, 20)
    assert np.all(np.abs(z.value - exact) < 4.5 * z.stderr) and np.all(z.stderr < 0.03 * exact[0, 0])
    half = 0.5 * chain.fisher(THETA)
    assert np.any(np.abs(z.value - half) > 10 * z.stderr)  # this sampler does remember
    f = friction.fisher(frames[0])
    assert np.all(np.abs(f.value - chain.fisher(THETA)) < 4.5 * f.stderr)
    batches = friction.batch_means(frames)
    # low by the boundary term of a finite average, -sum_l l C_l / T: here less than one part in fifty
    assert np.all(np.abs(batches.value - exact) < 4.5 * batches.stderr + exact[0, 0] / 50)
    assert np.linalg.eigvalsh(np.asarray(batches.value)).min() > 0


def test_slow_protocols_cost_what_the_friction_says():
    """Enumerated: the excess work of K updates times K tends to `K sum dtheta' Z dtheta`; with F/2 it does not."""
    ends = np.array([[0.3, -0.4], [-0.5, 0.6]])
    errors = []
    for n in (40, 80, 160):
        path = ends[0] + np.linspace(0, 1, n + 1)[:, None] * (ends[1] - ends[0])
        metric = np.stack([chain.friction(theta) for theta in path])
        predicted = float(friction.length(jnp.asarray(path), jnp.asarray(metric)).excess_work)
        measured = chain.excess_work(path)
        errors.append(measured / predicted - 1)
    assert abs(errors[-1]) < 0.01
    np.testing.assert_allclose(np.array(errors[:-1]) / np.array(errors[1:]), 2, rtol=0.15)  # first order in the speed
    fisher = np.stack([0.5 * chain.fisher(theta) for theta in path])
    assert measured > 1.05 * float(friction.length(jnp.asarray(path), jnp.asarray(fisher)).excess_work)


def test_without_memory_the_cost_is_relative_entropy():
    """Digest 3.3: a sampler that equilibrates between updates pays `sum KL(p_k | p_(k+1))`, in the slow limit F/2."""
    path = np.linspace([0.3, -0.4], [-0.5, 0.6], 31)
    laws = [law(chain.reduced(theta))[0] for theta in path]
    relative = sum(float(p @ np.log(p / q)) for p, q in zip(laws[:-1], laws[1:], strict=True))
    measured = chain.excess_work(path, n_sweeps=60)
    np.testing.assert_allclose(measured, relative, rtol=1e-9)
    half = np.stack([0.5 * chain.fisher(theta) for theta in path])
    predicted = friction.length(jnp.asarray(path), jnp.asarray(half)).excess_work
    np.testing.assert_allclose(predicted, relative, rtol=0.01)


def test_constant_speed_costs_least():
    """Nodes at equal thermodynamic distance: the predicted cost becomes `length^2 / K`, and the real one falls."""
    path = np.linspace([2.5, 0.2], [-0.4, 1.4], 201)
    metric = jnp.asarray(np.stack([chain.friction(theta) for theta in path]))
    whole = friction.length(jnp.asarray(path), metric)
    even = np.asarray(friction.constant_speed(jnp.asarray(path), whole.arc, 200))
    again = friction.length(jnp.asarray(even), jnp.asarray(np.stack([chain.friction(theta) for theta in even])))
    np.testing.assert_allclose(again.excess_work, whole.least_work, rtol=1e-3)
    np.testing.assert_allclose(again.length, whole.length, rtol=1e-3)
    assert float(whole.least_work) < 0.95 * float(whole.excess_work)
    assert chain.excess_work(even) < 0.97 * chain.excess_work(path)


GRID = np.linspace(-4, 4, 401)
DX = GRID[1] - GRID[0]
FORCES = np.stack([-GRID, -(GRID**2) / 2])


def quartic(theta):
    return theta[0] * GRID + theta[1] * GRID**2 / 2 + GRID**4 / 4


def closed_form(theta):
    """`zeta_ij = int dCDF/dtheta_i dCDF/dtheta_j / p`, and the covariance, at beta = mu = 1."""
    p, _ = law(quartic(theta))
    centred = FORCES - (FORCES @ p)[:, None]
    cumulated = np.cumsum(centred * p, axis=1)[:, :-1]
    between = np.sqrt(p[1:] * p[:-1]) / DX
    inside = between > 1e-14
    return (cumulated[:, inside] / between[inside]) @ cumulated[:, inside].T * DX, (centred * p) @ centred.T


def test_closed_form_of_the_quartic_family():
    """The numbers of the digest's test 13, which the sampled frictions above are held against."""
    for theta, zeta, c in (
        ((0.3, -1.0), (1.17981, -0.12069, 0.07269), (0.98949, -0.13712, 0.25032)),
        ((0.0, -1.0), (1.28460, 0.0, 0.06271), (1.04180, 0.0, 0.23911)),
        ((0.0, 1.0), (0.22476, 0.0, 0.01359), (0.46792, 0.0, 0.07828)),
        ((0.0, -2.0), (4.28992, 0.0, 0.11378), (1.66549, 0.0, 0.38928)),
    ):
        found = closed_form(theta)
        for matrix, expected in zip(found, (zeta, c), strict=True):
            np.testing.assert_allclose([matrix[0, 0], matrix[0, 1], matrix[1, 1]], expected, atol=2e-3 * zeta[0])


def fokker_planck_work(path, dt):
    """Excess work of a protocol for a population on a grid: implicit steps of the diffusion."""
    p, log_z = law(quartic(path[0]))
    work = 0.0
    for old, new in zip(path[:-1], path[1:], strict=True):
        work += p @ (quartic(new) - quartic(old))
        slope = np.diff(quartic(new))
        up, down = np.minimum(np.exp(-slope / 2) / DX**2, 1e9), np.minimum(np.exp(slope / 2) / DX**2, 1e9)
        bands = np.zeros((3, len(GRID)))
        bands[1, :-1] += dt * up
        bands[1, 1:] += dt * down
        bands[1] += 1
        bands[0, 1:], bands[2, :-1] = -dt * down, -dt * up
        p = solve_banded((1, 1), bands, p)
    return work - (log_z - law(quartic(path[-1]))[1])


@pytest.mark.parametrize(
    "tau, straight, constant_speed", [slow(40, 0.09754, 0.09528), (10, 0.3632, 0.3504)], ids=["slow", "fast"]
)
def test_quartic_protocols_cost_what_the_friction_says(tau, straight, constant_speed):
    """Test 14: theta1 from -1 to 1 at theta2 = -1 in a time tau."""
    nodes = np.linspace([-1.0, -1.0], [1.0, -1.0], 201)
    metric = jnp.asarray(np.stack([closed_form(theta)[0] for theta in nodes]))
    found = friction.length(jnp.asarray(nodes), metric)
    np.testing.assert_allclose(200 * found.excess_work, 3.9537, rtol=2e-3)  # cost times duration of the straight line
    np.testing.assert_allclose(found.length**2, 3.8963, rtol=2e-3)
    even = np.asarray(friction.constant_speed(jnp.asarray(nodes), found.arc, 200))
    for curve, expected in ((nodes, straight), (even, constant_speed)):
        n = 100 * tau
        at = np.linspace(0, 200, n + 1)
        path = np.stack([np.interp(at, np.arange(201), column) for column in curve.T], axis=1)
        np.testing.assert_allclose(fokker_planck_work(path, tau / n), expected, rtol=5e-3)


def test_excess_work_of_one_update():
    """With weights the measured cost has the mean of the exact one; without them it misses the lag."""
    rng = np.random.default_rng(7)
    n, lagging = 200_000, np.array([0.5, -0.2])  # walkers still in the law of these parameters
    now, new = np.array([0.3, -0.4]), np.array([0.2, -0.1])
    p = law(chain.reduced(lagging))[0]
    states = rng.choice(len(p), n, p=p)
    log_w = -(chain.reduced(now) - chain.reduced(lagging))[states]
    w = np.exp(log_w - log_w.max())
    change = (chain.reduced(new) - chain.reduced(now))[states]
    exact = p @ (chain.reduced(new) - chain.reduced(now)) + law(chain.reduced(new))[1] - law(chain.reduced(now))[1]
    found = friction.excess_work(jnp.asarray(change), jnp.asarray(w / w.sum()))
    assert abs(float(found.value) - exact) < 4.5 * float(found.stderr) and float(found.stderr) < 0.02 * abs(exact)
    plain = friction.excess_work(jnp.asarray(change), jnp.full(n, 1 / n))
    assert abs(float(plain.value) - exact) > 20 * float(plain.stderr)
    lag = friction.lag(jnp.asarray(chain.rows()[states]), jnp.asarray(w / w.sum()))
    exact_lag = (p - law(chain.reduced(now))[0]) @ chain.rows()
    np.testing.assert_allclose(lag, exact_lag, atol=4.5 * 2 / np.sqrt(n))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: friction.green_kubo(jnp.zeros((3, 2, 1)), 3), "record more"),
        (lambda: friction.length(jnp.zeros((1, 2)), jnp.zeros((1, 2, 2))), "two nodes"),
    ],
)
def test_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
