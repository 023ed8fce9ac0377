"""Schedules within a run of sweeps: what moves by how much, and exact books although nothing is stationary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import CallableEnergy, Potential
from quasistatic.errors import InputError
from quasistatic.kernels import BlockGibbs, Langevin, Ramped, ramped
from quasistatic.thermo import Controls, Ensemble, relax
from tests.laws import battery

CASES = [
    battery._gaussian("ramped-langevin", Ramped(Langevin(), 6, first_step=2.0, first_temperature=4.0)),
    battery._rbm("binary", "spin", Ramped(BlockGibbs(), 6, first_temperature=8.0)),
]


@pytest.mark.parametrize("case", CASES, ids=["langevin", "gibbs"])
def test_weights_are_exact_through_a_schedule_of_temperatures(case):
    """Two switches with three hot sweeps each: without the shadow work of the hot sweeps the second one is wrong."""
    ensemble = battery.opened(case, jax.random.key(1))
    for i, s in enumerate((0.4, 1.0)):
        ensemble = battery.step(jax.random.key(2 + i), case, ensemble, s, 3)
    books = ensemble.account
    residual = (ensemble.u - books.u_start) - (books.work.value + books.heat.value + books.shadow_work.value)
    assert np.abs(residual).max() < 1e-9
    np.testing.assert_allclose(ensemble.u, case.reduced(1.0, np.asarray(ensemble.x)), atol=1e-9)
    exact = case.log_z(1.0) - case.log_z(0.0)
    found, stderr = battery.log_mean_with_error(books.log_weight.value)
    assert abs(found - exact) < 4.5 * stderr
    broken, stderr = battery.log_mean_with_error(-books.work.value)
    assert abs(broken - exact) > 6 * stderr


def test_step_sizes_fall_in_equal_ratios_and_then_stay():
    """Free diffusion: variances after 1, 3 and 5 sweeps of ratios 4, 2, 1, 1, 1."""
    kernel, h, n = Ramped(Langevin(), 3, first_step=4.0), 0.05, 20_000
    potential = Potential(CallableEnergy(lambda x: 0.0 * jnp.sum(x)), jnp.asarray(1.0))
    ensemble, total = Ensemble.open(kernel, potential, jnp.zeros((n, 1))), 0.0
    for i, (n_sweeps, ratios) in enumerate([(1, 4.0), (2, 3.0), (2, 2.0)]):
        controls = Controls.of(n_sweeps=n_sweeps, step_size=h)
        ensemble, _ = relax(jax.random.key(i), kernel, potential, ensemble, controls)
        total += 2 * h * ratios
        assert np.var(ensemble.x) / total == pytest.approx(1.0, abs=4 * np.sqrt(2 / n))


def test_nothing_to_ramp_is_the_kernel_itself_and_fused_moves_are_refused():
    kernel = Langevin()
    assert ramped(kernel, 5) is kernel
    with pytest.raises(InputError, match="fused"):
        Ramped(Langevin(is_fused=True), 5)
    with pytest.raises(InputError, match="first_step"):
        ramped(kernel, 5, first_step=0.0)
