"""Work measured from walkers: the identity of bias and excess work, the optimum, the statistics, the estimators."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.dissipation import SteppedTrap, Trap, bounds, excess_work
from quasistatic.errors import InputError
from quasistatic.kernels import Langevin
from quasistatic.thermo import Controls, Ensemble, relax, switch
from tests.dissipation.walkers import ExactMoves, followed, path, well

SIGMAS = 4.5


def near(estimate, exact, sigmas=SIGMAS):
    print(f"{estimate.method}: {estimate.value} +- {estimate.stderr}, exact {exact}")
    return abs(estimate.value - exact) < sigmas * estimate.stderr


def test_first_law_and_identity(key):
    """Approximate minus true log-likelihood is `W - dF` to rounding: finite step, few walkers, any learning rate."""
    kernel, beta, stiffness, rate = Langevin(), 0.7, 1.7, 0.9
    key_data, key_start, key_run = jax.random.split(key, 3)
    data = 1.5 + 0.3 * jax.random.normal(key_data, (23, 1))
    start = well(-2.0, stiffness, beta)
    x = 1.0 + 2.0 * jax.random.normal(key_start, (7, 1))  # far from equilibrium: the identity does not care
    controls = Controls.of(step_size=0.13)

    def mean_u(potential, x):
        return jnp.mean(jax.vmap(potential)(x))

    @jax.jit
    def learn(ensemble, centre, approximate, k):
        now = well(centre, stiffness, beta)
        ensemble = relax(jax.random.fold_in(key_run, k), kernel, now, ensemble, controls)[0]
        # no gradient of anything: an arbitrary kick on top of the learning rule
        after = centre + rate * beta * (jnp.mean(data) - jnp.mean(ensemble.x)) + 0.4 * jnp.sin(3.0 * k)
        new = well(after, stiffness, beta)
        ensemble, work = switch(kernel, new, ensemble)
        approximate += mean_u(now, data) - mean_u(new, data) + jnp.mean(work)
        return ensemble, after, approximate

    ensemble, centre = Ensemble.open(kernel, start, x), jnp.asarray(-2.0)
    approximate = true = -mean_u(start, data) - start.energy.log_partition(beta)
    for k in range(12):
        ensemble, centre, approximate = learn(ensemble, centre, approximate, k)
    new = well(centre, stiffness, beta)
    true = -mean_u(new, data) - new.energy.log_partition(beta)
    excess = jnp.mean(ensemble.account.work.value)  # dF = 0
    assert abs(float(approximate - true - excess)) < 1e-10
    assert float(jnp.abs(ensemble.account.first_law_residual(ensemble.u)).max()) < 1e-10
    assert abs(float(excess)) > 0.1  # it has something to say


TRAP, TAU, D, BETA = Trap(0.7, 1.3), 2.0, 3.0, 0.6


@pytest.fixture(scope="module")
def optimum():
    """Optimal protocol with exact moves at beta = 0.6: stepped trap, works per update and walker, walkers."""
    trap = Trap(0.7, 1.3, BETA)
    stepped, n = SteppedTrap.exact(trap, TAU / 25), 200_000
    x = jax.random.normal(jax.random.key(1), (n,)) / jnp.sqrt(BETA * 0.7)
    centres = path(0.0, stepped.optimal_jumps(D, 25))
    step = trap.mobility / BETA * TAU / 25  # of the potential u = beta E
    ensemble, work = followed(jax.random.key(2), ExactMoves(), x, centres, stiffness=0.7, beta=BETA, step_size=step)
    return stepped, np.asarray(work), ensemble


def test_walkers_at_the_optimum(optimum):
    stepped, work, ensemble = optimum
    exact = stepped.minimal_work(D, 25)
    total = work.sum(0)
    np.testing.assert_allclose(total, ensemble.account.work.value, rtol=1e-12, atol=1e-12)
    mean = total.mean()
    stderr = np.sqrt(2 * exact / total.size)
    assert abs(mean - exact) < SIGMAS * stderr and abs(total.std() / np.sqrt(total.size) / stderr - 1) < 0.02
    # saboteurs that the same sample must reject: continuous time, linear protocol, beta forgotten
    trap = Trap(0.7, 1.3, BETA)
    for wrong in (trap.linear_work(D, TAU), Trap(0.7, 1.3).minimal_work(D, TAU)):
        assert abs(mean - wrong) > SIGMAS * stderr


def test_estimators_agree(optimum):
    """(a) Jarzynski, (b) second cumulant, (c) local, (d) closed form, and the mean work: dF is zero."""
    stepped, work, _ = optimum
    exact, total = stepped.minimal_work(D, 25), work.sum(0)
    assert near(excess_work.from_free_energy(total, 0.0), exact)
    assert near(excess_work.from_jarzynski(total), exact)
    assert near(excess_work.from_variance(total), exact)
    local = excess_work.from_updates(work)
    assert near(local, exact) and local.stderr < 0.02
    assert abs(excess_work.from_jarzynski(total).ess - np.exp(-2 * exact)) < 0.02
    # saboteur: works of different walkers mixed up between updates lose their correlations
    rng = np.random.default_rng(5)
    mixed = np.stack([rng.permutation(row) for row in work])
    assert not near(excess_work.from_variance(mixed.sum(0)), exact, 20)
    assert not near(excess_work.from_jarzynski(mixed.sum(0)), exact, 20)


def test_errors_are_calibrated():
    """The stated standard errors are those of many repetitions, for every estimator."""
    rng = np.random.default_rng(0)
    n, n_updates, repeats = 800, 4, 300
    found = {"from_jarzynski": [], "from_variance": [], "from_updates": []}
    for _ in range(repeats):
        work = 0.2 + 0.1 * rng.normal(size=(n_updates, n)) + 0.15 * rng.normal(size=n)
        for name, list_ in found.items():
            estimate = getattr(excess_work, name)(work if name == "from_updates" else work.sum(0))
            list_.append((estimate.value, estimate.stderr))
    for name, pairs in found.items():
        value, stderr = np.array(pairs).T
        ratio = value.std(ddof=1) / stderr.mean()
        print(name, ratio)
        assert abs(ratio - 1) < 5 / np.sqrt(2 * repeats) + 0.02, name


@pytest.mark.parametrize(
    "kind, mean, variance, ess",
    [
        ("optimal", 0.556818, 1.136364, 0.3210),
        pytest.param("linear", 0.632638, 1.291099, 0.2750, marks=pytest.mark.slow),
    ],
)
def test_work_statistics(kind, mean, variance, ess):
    """Mean and variance of work of unadjusted Langevin walkers that start from *their* stationary law; ESS."""
    stepped, n, n_walkers = SteppedTrap.langevin(Trap(), 2 / 50), 50, 200_000
    jumps = stepped.optimal_jumps(1.5, n) if kind == "optimal" else np.r_[np.full(n, 1.5 / n), 0.0]
    assert abs(stepped.work(jumps) - mean) < 6e-7
    stationary = 1 / (1 - 0.5 * 2 / 50)
    assert abs(stepped.work_variance(mean, stationary) - variance) < 3e-6
    assert abs(np.exp(-stepped.work_variance(mean, stationary)) - ess) < 6e-5
    x = jnp.sqrt(stationary) * jax.random.normal(jax.random.key(3), (n_walkers,))
    centres = path(0.0, jumps)
    ensemble, _ = followed(jax.random.key(4), Langevin(), x, centres, stiffness=1.0, beta=1.0, step_size=2 / 50)
    work = np.asarray(ensemble.account.work.value)
    assert abs(work.mean() - mean) < SIGMAS * np.sqrt(variance / n_walkers)
    assert abs(work.var() - variance) < SIGMAS * variance * np.sqrt(2 / n_walkers)
    # exact moves: ESS is exp(-2 W_ex) and Jarzynski holds; the discretisation makes the variance larger
    assert abs(work.var() - 2 * mean) > SIGMAS * variance * np.sqrt(2 / n_walkers)


def test_jarzynski_of_exact_moves(optimum):
    _, work, _ = optimum
    weight = np.exp(-work.sum(0))
    assert abs(weight.mean() - 1) < SIGMAS * weight.std() / np.sqrt(weight.size)


def test_start_out_of_equilibrium():
    """Walkers from the wrong mean: negative excess work, never below `-D(0)`; booked with the start it is a cost."""
    stepped, n = SteppedTrap.langevin(Trap(1.3, 0.9), 0.05), 60
    x = 2.5 + 0.8 * jax.random.normal(jax.random.key(5), (100_000,))
    centres = path(0.0, np.full(n, 2.0 / n))  # towards the walkers
    ensemble, _ = followed(
        jax.random.key(6), Langevin(), x, centres, stiffness=1.3, beta=0.8, step_size=0.05 * 0.9 / 0.8
    )
    work = excess_work.from_free_energy(np.asarray(ensemble.account.work.value), 0.0)
    start = bounds.gaussian_divergence(np.array([2.5]), np.eye(1) * 0.64, np.zeros(1), np.eye(1) / (1.3 * 0.8))
    assert work.value < -100 * work.stderr
    assert work.value > -start
    assert stepped.lag > 0


@pytest.mark.parametrize("n_walkers", [100, 400])
def test_size_scaling(n_walkers):
    """Scatter of the learned centre falls as `1/N`; so does the bias of (a), to `(exp(var W) - 1) / 2N`."""
    repeats = 40_000 // n_walkers
    stepped = SteppedTrap.langevin(Trap(), 1 / 20)
    ends = learned_ends(jax.random.key(n_walkers), repeats, n_walkers)
    predicted = scatter(stepped, 20) / n_walkers
    assert abs(ends.var() / predicted - 1) < SIGMAS * np.sqrt(2 / repeats)
    work = np.random.default_rng(n_walkers).normal(0.5, 1.0, (4_000_000 // n_walkers, n_walkers))
    # the plain mean replaced by its expectation: same bias, less noise
    found = 0.5 + np.log(np.exp(-work).mean(1)) - 0.5
    error = found.std() / np.sqrt(len(found))
    first_order = -(np.e - 1) / (2 * n_walkers)
    assert abs(found.mean() - first_order) < SIGMAS * error + 0.1 * abs(first_order)  # 1/N^2 terms
    assert found.mean() < -SIGMAS * error


@eqx.filter_jit
def learned_ends(key, repeats, n_walkers):
    """Centre after 20 updates at a constant rate of 0.1, for independent populations."""

    def population(key):
        x = jax.random.normal(key, (n_walkers,)) / jnp.sqrt(1 - 0.5 / 20)

        def update(carry, k):
            x, centre = carry
            noise = jax.random.normal(jax.random.fold_in(key, k), x.shape)
            x = x + (centre - x) / 20 + jnp.sqrt(2 / 20) * noise
            return (x, centre + 0.1 * (1.0 - jnp.mean(x))), None

        return jax.lax.scan(update, (x, jnp.zeros(())), jnp.arange(20))[0][1]

    return jax.vmap(population)(jax.random.split(key, repeats))


def scatter(stepped, n):
    """`N` times the variance of the learned centre: linear propagation of the noise of the mean."""
    a = stepped.lag
    covariance = np.diag([1 / (1 - 0.5 / 20), 0.0])
    for _ in range(n):
        move, learn = np.array([[a, 1 - a], [0, 1]]), np.array([[1, 0], [-0.1, 1]])
        covariance = move @ covariance @ move.T + np.diag([2 / 20, 0])
        covariance = learn @ covariance @ learn.T
    return covariance[1, 1]


def test_bad_input_is_refused():
    for call in (
        lambda: excess_work.from_jarzynski(np.array([1.0])),
        lambda: excess_work.from_updates(np.ones((3, 4))),
        lambda: excess_work.from_variance(np.array([1.0, np.inf])),
    ):
        with pytest.raises(InputError, match="got"):
            call()
