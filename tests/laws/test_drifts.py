"""Weights stay exact for any drift: clipped, preconditioned, boxed, and for Hamiltonian moves.

The same prescribed Gaussian paths as in `test_gaussian_protocols`, and the box of the published example by quadrature.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import CallableEnergy, Gaussian, Potential, UniformBox
from quasistatic.errors import InputError
from quasistatic.kernels import HMC, Langevin
from quasistatic.kernels.langevin import clipped, log_forward, log_stay
from quasistatic.thermo import Controls, Ensemble, advance
from tests.laws.battery import log_mean_with_error, quick_jit
from tests.laws.gaussian import PROTOCOLS, Protocol, population, simulate
from tests.laws.test_gaussian_protocols import assert_right

KERNELS = {
    "clipped": Langevin(clip=1.5),
    "clipped fused": Langevin(is_fused=True, clip=1.5),
    "preconditioned": Langevin(preconditioner=0.4),
    "hmc": HMC(n_leapfrog=5),
    "unadjusted hmc": HMC(n_leapfrog=5, is_adjusted=False),
    "clipped hmc": HMC(n_leapfrog=5, is_adjusted=False, clip=4.0),
}


def slower(name: str, kernel) -> Protocol:
    """Path of a protocol; the step of a Hamiltonian move is a time, not a variance."""
    p = PROTOCOLS[name]
    return Protocol(name, p.curvature, p.mean, 0.3 if isinstance(kernel, HMC) else p.step_size)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=[name.replace(" ", "-") for name in KERNELS])
@pytest.mark.parametrize("name", [pytest.param("A", marks=pytest.mark.slow), "C"])
def test_prescribed_paths(name, kernel):
    log_weight, x = simulate(jax.random.key(7), kernel, slower(name, kernel), n_walkers=200_000)
    found = assert_right(log_weight, x, PROTOCOLS[name])
    if isinstance(kernel, HMC) and kernel.clip is None:
        assert found.ess[0] > population(PROTOCOLS[name])["unfused"].ess  # five gradients mix better than one


def test_unadjusted_hmc_books_the_energy_error(key):
    """`shadow work = dH`, which the leapfrog map keeps to second order in its step."""
    potential = Potential(Gaussian(jnp.zeros(3), jnp.diag(jnp.asarray([0.5, 1.0, 2.0]))), 1.3)
    x = potential.energy.sample_exact(key, 1.3, 4000)

    @quick_jit
    def spread(kernel, controls):
        ensemble = Ensemble.open(kernel, potential, x, log_z=0.0)
        moved = advance(key, kernel, potential, ensemble, controls)[0]
        return jnp.std(moved.account.shadow_work.value)

    # the same momenta for the same time, in 40 steps and in 4
    fine, coarse = (
        float(spread(HMC(n_leapfrog=n, is_adjusted=False), Controls.of(step_size=0.8 / n))) for n in (40, 4)
    )
    assert 80 < coarse / fine < 125  # second order: 100 times for 10 times the step


def test_saboteur_drift_moves_clipped_but_is_booked_unclipped():
    class Forgetful(Langevin):
        def heat(self, x, y, b, b_new, s):
            gradient = 4.0 * x  # what the books should have been told is `clipped(4 x)`
            return log_forward(y, x, 4.0 * y, s) - log_forward(x, y, gradient, s)

    fixed = Protocol("fixed", np.full(11, 4.0), np.zeros(11))
    right = simulate(jax.random.key(3), Langevin(clip=0.5), fixed, n_walkers=50_000)
    assert_right(*right, fixed)
    with pytest.raises(AssertionError):
        assert_right(*simulate(jax.random.key(3), Forgetful(clip=0.5), fixed, n_walkers=50_000), fixed)


# The published check of the box: five switches of a rippled well on [-1, 1], h = 0.05.
BOX, STEP, N_SWITCHES = (-1.0, 1.0), 0.05, 5


def ripples(k, x):
    return (1 + 0.4 * k) * 1.5 * x**2 + 0.3 * jnp.sin(3 * x + k)


def test_box_by_quadrature():
    """Forward propagation of the weighted law on a grid, with the kernel's own densities, probabilities and heat."""
    kernel = Langevin(is_fused=True, box=BOX)
    x = jnp.linspace(*BOX, 1601)
    w = jnp.full(x.shape, x[1] - x[0]).at[jnp.array([0, -1])].mul(0.5)
    gradient = jax.vmap(jax.grad(ripples, 1), (None, 0))

    @jax.jit
    def propagated(f, k):
        before, after, b, b_new = ripples(k, x), ripples(k + 1, x), gradient(k, x), gradient(k + 1, x)
        move = jax.vmap(lambda a, g: jax.vmap(lambda y: jnp.exp(log_forward(a, y, g, STEP)))(x))(x, b)
        move = move / jnp.sqrt(4 * jnp.pi * STEP)
        heat = jax.vmap(lambda a, g: jax.vmap(lambda y, n: moved_heat(kernel, a, y, g, n))(x, b_new))(x, b)
        gain = jnp.exp(before[:, None] - after[None, :] + heat)
        stay = jnp.exp(log_stay(x, b, STEP, BOX))
        stay_gain = jnp.exp(before - after + jax.vmap(lambda a, g, n: kernel.heat(a, a, g, n, STEP))(x, b, b_new))
        return ((f * w)[:, None] * move * gain).sum(0) + f * stay * stay_gain

    f = jnp.exp(-ripples(0, x))
    f = f / jnp.sum(w * f)
    for k in range(N_SWITCHES):
        f = propagated(f, k)
    z = [jnp.sum(w * jnp.exp(-ripples(k, x))) for k in (0, N_SWITCHES)]
    truth = jnp.log(z[1] / z[0])
    found = jnp.log(jnp.sum(w * f))
    print(f"log ratio {float(found):.8f}, truth {float(truth):.8f}")
    assert abs(float(truth) + 0.303516) < 1e-5
    assert abs(float(found - truth)) < 2e-6
    law = jnp.exp(-ripples(N_SWITCHES, x)) / z[1]
    assert float(jnp.abs(f / jnp.sum(w * f) - law).max()) < 1e-4


def moved_heat(kernel, x, y, b, b_new):
    """Heat of a move that went somewhere: on the grid `y == x` occurs by accident and counts as its limit."""
    return kernel.heat(x, jnp.where(y == x, y + 1e-12, y), b, b_new, STEP)


@pytest.mark.parametrize("is_booked_as_gaussian", [False, True], ids=["right", "saboteur"])
def test_box_by_monte_carlo(is_booked_as_gaussian):
    """The published mistake (Gaussian densities for coordinates that stayed) lands on its published wrong answer."""

    class Published(Langevin):
        def heat(self, x, y, b, b_new, s):
            return log_forward(y, x, b_new, s) - log_forward(x, y, b, s)

    kernel = (Published if is_booked_as_gaussian else Langevin)(is_fused=True, box=BOX)
    n = 400_000

    @jax.jit
    def run(key):
        grid = jnp.linspace(*BOX, 20_001)
        cdf = jnp.cumsum(jnp.exp(-ripples(0, grid)))
        x = jnp.interp(jax.random.uniform(key, (n, 1)), cdf / cdf[-1], grid)

        def potential(k):
            return Potential(CallableEnergy(lambda a: jnp.sum(ripples(k, a))), 1.0)

        ensemble = Ensemble.open(kernel, potential(0), x, log_z=0.0)
        for k in range(N_SWITCHES):
            key_step = jax.random.fold_in(key, k)
            ensemble = advance(key_step, kernel, potential(k + 1), ensemble, Controls.of(step_size=STEP))[0]
        return ensemble.log_weight(), ensemble.x

    log_weight, x = run(jax.random.key(16))
    value, error = log_mean_with_error(log_weight)
    print(f"{value:.5f} +- {error:.5f}")
    assert np.abs(x).max() <= 1 and np.mean(np.abs(x) == 1) == 0
    expected, wrong = -0.303516, -0.2912
    if is_booked_as_gaussian:
        assert abs(value - wrong) < 3.5 * error + 1e-4 and abs(value - expected) > 5 * error
    else:
        assert abs(value - expected) < 3.5 * error


def test_clip_limits_every_component():
    np.testing.assert_allclose(clipped(jnp.asarray([-3.0, 0.2, 9.0]), 0.5), [-0.5, 0.2, 0.5])
    np.testing.assert_allclose(clipped(jnp.asarray([-3.0, 0.2]), None), [-3.0, 0.2])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Langevin(clip=0.0), "clip"),
        (lambda: Langevin(box=(1.0, 1.0)), "low < high"),
        (lambda: Langevin(preconditioner=-1.0), "preconditioner"),
        (lambda: HMC(n_leapfrog=0), "n_leapfrog"),
        (lambda: HMC(is_adjusted=False).check(UniformBox(jnp.zeros(1), jnp.ones(1))), "box"),
        (lambda: Langevin().check(UniformBox(jnp.zeros(1), jnp.ones(1))), "box"),
    ],
)
def test_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
