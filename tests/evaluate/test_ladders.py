"""Ladders in use: tempering of a model that plain Gibbs never leaves a mode of, and rungs chosen among ages."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import RBM, CallableEnergy, IndependentUnits, Potential, units
from quasistatic.errors import InputError
from quasistatic.evaluate import annealed, log_partition_exact, rungs
from quasistatic.evaluate.chains import run_chains
from quasistatic.evaluate.conductance import kernel_matrix
from quasistatic.evaluate.mixing import autocorrelation_time, occupancy, still_run
from quasistatic.evaluate.paths import log_partition_start
from quasistatic.evaluate.rungs import Age, choose_rungs, tempered
from quasistatic.kernels import BlockGibbs, Langevin, parallel_tempering
from quasistatic.thermo.replicas import crossings, round_trips


def mattis(n: int, m: int, k: float, tilt: float = 0.0) -> RBM:
    """Two modes, all ones and all zeros, symmetric without a tilt."""
    return RBM(
        jnp.full((n, m), 4.0 * k), jnp.full(n, -2.0 * k * m + tilt), jnp.full(m, -2.0 * k * n), units("binary", n),
        units("binary", m),
    )  # fmt: skip


def is_up(v):
    return (jnp.mean(v) > 0.5).astype(jnp.int32)


@pytest.mark.slow
def test_tempering_mixes_with_the_model_kept():
    """T-20b: M(16, 8, 2), 64 stacks from all ones, 8 temperatures 1 to 24, one sweep and an exchange per round."""
    kernel = parallel_tempering(BlockGibbs(), 8, 24.0)
    potential = Potential(mattis(16, 8, 2.0), jnp.asarray(1.0))
    chains = run_chains(jax.random.key(0), kernel, potential, jnp.ones((64, 8, 16)), n_records=2000, observe=is_up)
    modes = chains.observed
    found = occupancy(modes[1000:], 2)
    acceptance, error = crossings(kernel, potential, chains.ensemble).acceptance()
    first = int(np.argmax(modes.mean(1) < 0.6))
    print(f"acceptance {acceptance} +- {error}, below 0.6 after {first}, switch rate {found.switch_rate}, {found}")
    assert 60 < first < 160  # about 100 rounds: 95 to 145 for 8 to 16 rungs
    assert abs(found.fraction[1] - 0.5) < 4.5 * found.stderr[1] < 0.06
    assert abs(found.switch_rate - 0.24) < 0.02
    assert acceptance.min() > 0.27 - 4.5 * error[acceptance.argmin()]
    trips, trips_error = round_trips(chains.ensemble)
    assert trips > 10 * trips_error > 0
    # the same walkers by plain Gibbs: T-18, not one flip in 128,000 chain-sweeps
    frozen = run_chains(jax.random.key(1), BlockGibbs(), potential, jnp.ones((64, 16)), n_records=2000)
    assert frozen.changed.max() == 0 and still_run(frozen.changed.max(1)) == 2000
    assert autocorrelation_time(frozen.u).bias == "low"


def test_the_step_of_langevin_walkers_is_theirs_in_trial_runs_too():
    """A stiff well in which the default step of 0.01 explodes: 1 / (j (1 - h j / 2)) at the step that is given."""
    stiffness, h = 400.0, 1e-3
    potential = Potential(CallableEnergy(lambda x: 0.5 * stiffness * jnp.sum(x**2)), jnp.asarray(1.0))
    _, ensemble = tempered(
        jax.random.key(0), Langevin(), potential, jnp.zeros((400, 1)), n_rungs=3, hottest=4.0, n_records=40, step_size=h
    )
    x = np.asarray(ensemble.x[:, -1, 0])
    exact = 1 / (stiffness * (1 - h * stiffness / 2))
    assert abs(x.var() / exact - 1) < 4.5 * math.sqrt(2 / 400)


@pytest.mark.slow
def test_rungs_among_ages():
    """Ages of growing couplings: as many rungs as the target needs, midpoints where ages are too far apart; `log Z`."""
    ages = [Age(t, Potential(mattis(14, 5, k), jnp.asarray(0.9))) for t, k in ((1, 0.02), (10, 0.05), (100, 0.5))]
    chosen = choose_rungs(jax.random.key(2), BlockGibbs(), ages, target=0.4, n_walkers=512, n_sweeps=10)
    steps = [age.step for age in chosen.ages]
    print(steps, chosen.acceptance)
    assert steps[0] == 0 and steps[-1] == 100 and steps == sorted(steps)
    assert any(10 < step < 100 for step in steps)  # from 0.05 to 0.5 is too far
    error = 0.5 / math.sqrt(rungs.N_PILOT)  # at most, of what the stacks of the trial accept
    assert chosen.acceptance.min() >= 0.4 - 3 * error and chosen.x.shape == (512, len(steps), 14)
    kernel, potential = chosen.kernel(BlockGibbs()), ages[-1].potential
    chains = run_chains(jax.random.key(3), kernel, potential, chosen.x, n_records=300, observe=is_up)
    found = occupancy(chains.observed[100:], 2)
    assert abs(found.fraction[0] - 0.5) < 4.5 * found.stderr[0] < 0.1
    start = log_partition_exact(chosen.ages[0].potential.energy, 0.9)
    exact = log_partition_exact(potential.energy, 0.9)
    estimate = crossings(kernel, potential, chains.ensemble).log_z(start)
    assert estimate.value is not None and estimate.stderr is not None
    assert abs(estimate.value - exact) < 4.5 * estimate.stderr and estimate.stderr < 0.2
    # one side alone, `log mean exp(-w_up)`, is annealed importance sampling along the trajectory
    works = crossings(kernel, potential, chains.ensemble)
    one_sided = start + sum(math.log(np.exp(-works.up[:, k]).mean()) for k in range(works.up.shape[1]))
    assert abs(one_sided - exact) < 1.0


@pytest.mark.slow
def test_rungs_among_ages_that_swing(monkeypatch):
    """The last age prefers the mode that the one before shuns: walkers that stay in theirs do not see it, stacks do."""
    couplings, tilts = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5), (0.0, 0.0, 0.1, 0.2, 0.3, -0.3)
    ages = [
        Age(step, Potential(mattis(14, 5, k, tilt), jnp.asarray(0.9)))
        for step, (k, tilt) in enumerate(zip(couplings, tilts, strict=True), start=1)
    ]
    potential, heard = ages[-1].potential, []

    def chosen_and_accepted():
        chosen = choose_rungs(
            jax.random.key(2), BlockGibbs(), ages, target=0.4, n_sweeps=5, progress=lambda *told: heard.append(told)
        )
        kernel = chosen.kernel(BlockGibbs())
        chains = run_chains(jax.random.key(3), kernel, potential, chosen.x, n_records=300)
        return chosen, crossings(kernel, potential, chains.ensemble)

    chosen, works = chosen_and_accepted()
    accepted, error = works.acceptance()
    assert np.all(accepted > 0.2 - 3 * error) and chosen.acceptance.min() >= 0.2
    assert any(5 < age.step < 6 for age in chosen.ages) and [age.step for age in chosen.ages][-1] == 6
    exact, start = (log_partition_exact(p.energy, 0.9) for p in (potential, chosen.ages[0].potential))
    estimate = works.log_z(start)
    assert estimate.value is not None and estimate.stderr is not None
    assert abs(estimate.value - exact) < 4.5 * estimate.stderr and estimate.stderr < 0.3
    assert {what.split()[0] for fraction, what in heard if fraction == 1} == {"trying", "trial"}
    # saboteur: the ladder that those walkers find good, untried
    monkeypatch.setattr(rungs, "N_TRIALS", 1)
    _, torn = chosen_and_accepted()
    accepted, error = torn.acceptance()
    assert accepted.min() < 0.2 - 4.5 * error[accepted.argmin()]


@pytest.mark.slow
def test_bracket_of_a_bimodal_model():
    """T-06: walkers annealed forth and back hold the exact value between them, the closer the slower they go."""
    model, base = (
        mattis(6, 4, 0.25),
        IndependentUnits(jnp.asarray([0.3, -0.2, 0.1, 0.0, 0.4, -0.3]), units("binary", 6)),
    )
    exact, law = log_partition_exact(model, 0.8), kernel_matrix(model, 0.8)
    assert exact is not None
    start = jnp.asarray(law.states[np.random.default_rng(0).choice(64, 2000, p=law.law)])
    gaps = []
    for n_temperatures in (5, 40):
        settings: dict[str, Any] = {"beta": 0.8, "n_temperatures": n_temperatures, "n_chains": 2000, "n_groups": 20}
        offset = float(log_partition_start(model, base, 0.8))  # with the hidden units, which are free there
        forth = np.asarray(annealed(jax.random.key(1), model, base, **settings).log_weight()) + offset
        back = offset - np.asarray(annealed(jax.random.key(2), model, base, x_start=start, **settings).log_weight())
        errors = [x.std() / math.sqrt(len(x)) for x in (forth, back)]
        assert forth.mean() < exact + 3 * errors[0] and back.mean() > exact - 3 * errors[1]
        # not only in expectation of the logarithm: the mean weights themselves agree with it
        for sign, log_weight in ((1, forth), (-1, back)):
            w = np.exp(sign * (log_weight - exact))
            assert abs(w.mean() - 1) < 4.5 * w.std() / math.sqrt(len(w))
        gaps.append((back.mean() - forth.mean(), math.hypot(*errors)))
    assert gaps[1][0] < gaps[0][0] - 5 * gaps[0][1]


def test_refused():
    age = Age(1, Potential(mattis(4, 2, 0.1), jnp.asarray(1.0)))
    for ages, target, message in (([], 0.3, "at least one age"), ([age], 1.5, "target")):
        with pytest.raises(InputError, match=message):
            choose_rungs(jax.random.key(0), BlockGibbs(), ages, target=target)
