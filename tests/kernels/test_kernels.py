"""What kernels report besides heat, what they refuse, and how they treat walls and forbidden states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import (
    CallableEnergy,
    Gaussian,
    Interpolated,
    Pairwise,
    Potential,
    UniformBox,
    complete_graph,
    square_lattice,
    units,
)
from quasistatic.errors import InputError
from quasistatic.kernels import MALA, BlockGibbs, Gibbs, Langevin, SiteGibbs
from quasistatic.thermo import Controls, relax
from tests.laws.battery import (
    CASES,
    CONTINUOUS,
    DISCRETE,
    advanced,
    controls,
    label,
    opened,
    opened_at,
    quick_jit,
    rbm_at,
)

relaxed = quick_jit(relax)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_rates_are_those_of_the_moves(case, key):
    """`flip_rate`: units that changed in the last sweep; `accept_rate`: moves that happened."""
    before = opened(case, key, 2000, 2)
    after, info = relaxed(key, case.kernel, case.path(0.0), before, controls(case))
    assert set(info) == set(case.kernel.rates)
    if "flip_rate" in info:
        assert float(info["flip_rate"]) == pytest.approx(np.mean(np.asarray(after.x != before.x)), abs=1e-12)
        assert 0.01 < float(info["flip_rate"]) < 0.99
    if "accept_rate" in info:
        moved = np.any(np.asarray(after.x != before.x), axis=-1)
        assert float(info["accept_rate"]) == pytest.approx(np.mean(moved), abs=1e-12)
        assert 0.2 < float(info["accept_rate"]) < 1
    if not info:
        assert not case.is_balanced
        if getattr(case.kernel, "box", None) is None:  # in a box some coordinates stay
            assert np.all(after.x != before.x)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_frozen_walkers_report_no_flips(case, key):
    """At no sweeps nothing happens, and the rates say so (0, not 0/0)."""
    before = opened(case, key, 2000, 2)
    after, info = relaxed(key, case.kernel, case.path(0.0), before, controls(case, 0))
    np.testing.assert_array_equal(after.x, before.x)
    assert all(float(rate) == 0 for rate in info.values())
    assert not np.any(after.log_weight())


@pytest.mark.parametrize("case", DISCRETE, ids=label)
def test_states_stay_on_their_levels(case, key):
    ensemble, _ = relaxed(key, case.kernel, case.path(1.0), opened(case, key, 2000, 2), controls(case, 7))
    assert np.isin(ensemble.x, np.unique(case.states)).all()


@pytest.mark.parametrize("case", CASES, ids=label)
def test_walkers_have_random_numbers_of_their_own(case, key):
    """From one common position walkers separate, and another key gives another move."""
    x = jnp.broadcast_to(case.start(key, 1), (2000, case.n))
    before = opened_at(case.kernel, case.path(0.0), x, case.log_z(0.0), 2)
    one, two = (
        relaxed(jax.random.fold_in(key, i), case.kernel, case.path(0.0), before, controls(case, 3))[0].x for i in (0, 1)
    )
    assert len(np.unique(one, axis=0)) > 3
    assert not np.array_equal(one, two)


def test_sweeps_of_one_step_differ_from_each_other(key):
    """Two sweeps are not the first one repeated: at infinite temperature they would cancel or freeze."""
    case = DISCRETE[0]
    hot = Potential(case.path(0.0).energy, jnp.asarray(1e-9))
    x = jnp.zeros((4000, 4))
    ends = [relaxed(key, case.kernel, hot, opened_at(case.kernel, hot, x), controls(case, n))[0].x for n in (1, 2, 3)]
    for a, b in ((0, 1), (1, 2), (0, 2)):
        assert abs(float(jnp.mean(ends[a] != ends[b])) - 0.5) < 5 * 0.5 / np.sqrt(16_000)


@pytest.mark.parametrize("rows, columns, n_colours", [(4, 4, 2), (3, 3, None), (2, 3, None)])
def test_colouring_separates_neighbours(rows, columns, n_colours):
    edges = square_lattice(rows, columns, periodic=True)
    n = rows * columns
    energy = Pairwise(jnp.zeros(n), jnp.ones(len(edges)), jnp.asarray(edges), units("spin", n))
    kernel = Gibbs.coloured(energy)
    kernel.check(energy)
    colours = np.asarray(kernel.colours)
    assert (colours[edges[:, 0]] != colours[edges[:, 1]]).all()
    assert set(colours) == set(range(kernel.n_colours))
    assert n_colours is None or kernel.n_colours == n_colours
    everyone = Gibbs.coloured(Pairwise.initialise(5))
    assert everyone.n_colours == 5  # all interact: no two at once


def test_walls_hold(key):
    """MALA walkers of a box stay in it at any step size, and their proposals beyond are rejected, not clipped."""
    case = next(c for c in CONTINUOUS if c.name == "mala box")
    big = Controls.of(n_sweeps=20, step_size=3.0)
    ensemble = advanced(key, case.kernel, case.path(0.5), opened(case, key, 4000, 2), big)
    x = np.asarray(ensemble.x)
    assert x.min() > -1.5 and x.max() < 2.5
    assert np.isfinite(ensemble.u).all()
    assert len(np.unique(x)) == len(x)  # nobody was put on the wall


def test_mala_never_enters_undefined_regions(key):
    """Proposals of infinite or undefined potential are rejected."""
    energy = CallableEnergy(lambda x: jnp.sum(jnp.where(x > 0, x - jnp.log(x), jnp.nan)))
    potential = Potential(energy, 0.7)
    ensemble = opened_at(MALA(), potential, jax.random.uniform(key, (1000, 1)) + 0.5)
    ensemble, info = relaxed(key, MALA(), potential, ensemble, Controls.of(n_sweeps=10, step_size=1.5))
    assert np.all(np.asarray(ensemble.x) > 0) and np.isfinite(ensemble.u).all()
    assert 0.05 < float(info["accept_rate"]) < 0.9


GAUSSIAN = Gaussian(jnp.zeros(2), jnp.eye(2))
BOX = UniformBox(jnp.zeros(2), jnp.ones(2))
PAIRS = Pairwise(jnp.zeros(3), jnp.ones(3), jnp.asarray(complete_graph(3)), units("spin", 3))
REFUSED = {
    "block gibbs, pairwise": (BlockGibbs(), PAIRS, "moves RBMs, got Pairwise"),
    "gibbs, rbm": (Gibbs(), rbm_at(0.5), "moves pairwise models, got RBM"),
    "interacting colours": (Gibbs(jnp.array([0, 0, 1]), 2), PAIRS, "share a colour"),
    "number of colours": (Gibbs(jnp.array([0, 1]), 2), PAIRS, "2 colours were given for 3 units"),
    "langevin, rbm": (Langevin(), rbm_at(0.5), "discrete"),
    "langevin, pairwise": (Langevin(), PAIRS, "discrete"),
    "langevin, levels": (Langevin(), CallableEnergy(jnp.sum, levels=(0.0, 1.0)), "discrete"),
    "langevin, box": (Langevin(), BOX, "leave a box"),
    "langevin, bridge from a box": (Langevin(True), Interpolated(BOX, GAUSSIAN, 0.5), "leave a box"),
    "mala, rbm": (MALA(), rbm_at(0.5), "discrete"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name):
    kernel, energy, words = REFUSED[name]
    with pytest.raises(InputError, match=words) as caught:
        kernel.check(energy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_rows_are_accepted(case):
    case.kernel.check(case.path(0.5).energy)


def test_others_are_accepted():
    SiteGibbs().check(CallableEnergy(jnp.sum, levels=(0.0, 1.0)))
    MALA().check(BOX)
    MALA().check(Interpolated(BOX, GAUSSIAN, 0.5))
    Langevin().check(Interpolated(GAUSSIAN, CallableEnergy(jnp.sum), 0.5))
