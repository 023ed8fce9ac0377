"""Quality of samples against sampling time: definitions by brute force, closed forms, exact models, and defects."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from quasistatic.energies import RBM, Gaussian, Potential, starts, units
from quasistatic.errors import InputError
from quasistatic.evaluate import (
    Gap,
    Reference,
    discrepancy,
    mixing_time,
    nearest_neighbours,
    quality_curve,
    stays,
    third_error,
    times_around,
    visible_autocorrelation,
)
from quasistatic.evaluate.discrepancies import compressed_size, squared_distances
from quasistatic.kernels import BlockGibbs, Langevin
from quasistatic.reproduce.non_convergent_images import of_few
from quasistatic.thermo import Controls
from tests.laws import enumeration


def test_third_moments_of_all_triples_by_brute_force():
    rng = np.random.default_rng(0)
    x, y = rng.gamma(1.0, size=(30, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(21, 6)) ** 2

    def cumulant(z, i, j, k):
        z = z - z.mean(0)
        return np.mean(z[:, i] * z[:, j] * z[:, k])

    triples = itertools.combinations(range(6), 3)
    expected = np.mean([(cumulant(x, *t) - cumulant(y, *t)) ** 2 for t in triples])
    assert third_error(x, y) == pytest.approx(expected, rel=1e-10)
    assert third_error(x, x[::-1]) < 1e-12 * expected
    assert third_error(x[:, :2], y[:, :2]) == 0.0


def exact_mmd2(a, b, m, widths):
    """Two isotropic Gaussians in the plane, of deviations `a` and `b`, a distance `m` apart."""
    total = [
        s**2 / (s**2 + 2 * a**2)
        + s**2 / (s**2 + 2 * b**2)
        - 2 * s**2 / (s**2 + a**2 + b**2) * np.exp(-(m**2) / (2 * (s**2 + a**2 + b**2)))
        for s in widths
    ]
    return np.mean(total)


@pytest.mark.parametrize("a, b, m", [(1.0, 1.0, 0.0), (0.8, 1.1, 0.4)])
def test_discrepancy_of_two_gaussians_and_its_error(a, b, m):
    """Mean over 150 pairs of sets: the closed form within 4 s.e.; the reported error is the spread that they show."""
    rng, widths = np.random.default_rng(1), np.array([0.5, 1.7])
    pairs = [(a * rng.normal(size=(120, 2)), b * rng.normal(size=(120, 2)) + [m, 0.0]) for _ in range(150)]
    found = np.array([discrepancy(x, y, widths) for x, y in pairs])
    stderr = found[:, 0].std(ddof=1) / np.sqrt(len(found))
    exact = exact_mmd2(a, b, m, widths)
    assert abs(found[:, 0].mean() - exact) < 4 * stderr
    ratio = np.mean(found[:, 1] ** 2) / found[:, 0].var(ddof=1)
    assert abs(ratio - 1) < 4 * 1.5 / np.sqrt(150)  # s.e. of a variance, with some excess kurtosis
    if m == 0:
        assert exact == 0 and (found[:, 2] ** 2).mean() > 20 * stderr  # the plug-in estimate is not 0 for equal laws


def bits(n, seed, *, modes=(0, 1)):
    rng = np.random.default_rng(seed)
    law = np.array([[0.9, 0.8, 0.3, 0.1, 0.6, 0.2, 0.7, 0.9, 0.1], [0.1, 0.3, 0.7, 0.8, 0.5, 0.4, 0.2, 0.3, 0.8]])
    return (rng.random((n, 9)) < law[rng.choice(modes, n)]).astype(float)


def test_samples_of_the_law_score_well_and_shuffled_ones_do_not():
    """Columns shuffled apart from each other keep every mean: only scores of more than one unit can tell."""
    reference = Reference(bits(2000, 0), n=500, image_shape=(3, 3))
    fair, rng = bits(2000, 1), np.random.default_rng(2)
    shuffled = np.stack([rng.permutation(column) for column in fair.T], axis=1)
    good, bad = reference.scores(fair), reference.scores(shuffled)
    assert good["mean_error"] == pytest.approx(bad["mean_error"]) and good["mean_error"] < 4 * good["mean_floor"]
    assert good["second_error"] < 3 * good["second_floor"] < bad["second_error"] / 3
    assert abs(good["mmd2"]) < 4 * good["mmd2_stderr"] < bad["mmd2"]
    for name in ("spectrum_error", "power_error"):
        assert bad[name] > 4 * good[name], name
    # equal masses of two modes have no third moments
    uneven = bits(2000, 3, modes=(0, 0, 0, 1))
    assert third_error(uneven, bits(2000, 0)) > 4 * third_error(fair, bits(2000, 0))
    assert reference.scores(bits(2000, 3, modes=(0,)))["entropy_error"] > 4 * good["entropy_error"]


def test_nearest_neighbour_fractions_of_the_worked_example_and_of_copies():
    """Digest test 12, with fewer samples than data too."""
    rows = [[float(c) for c in word] for word in ("00000000", "00000001", "11111111", "11111000")]
    generated = [[float(c) for c in word] for word in ("00000110", "11111110", "01010101", "11000000")]
    found = Reference(np.array(rows)).scores(np.array(generated))
    assert (found["aats_data"], found["aats_samples"], found["aats_error"]) == (0.5, 0.0, 0.5)
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 700, 3))
    copies = Reference(x, n=700).scores(x)
    assert (copies["aats_data"], copies["aats_samples"]) == (0.0, 0.0)
    twins = Reference(x, n=700).scores(y[:400])
    assert twins["aats_error"] < 4 * np.sqrt(2) * 1.5 / np.sqrt(4 * 400)
    index, distance = nearest_neighbours(x[::-1], x)
    assert np.array_equal(index, np.arange(700)[::-1]) and distance.max() == 0
    index, distance = nearest_neighbours(y, x)
    assert np.allclose(distance, np.sqrt(((y[:, None] - x[None]) ** 2).sum(2)).min(1), atol=1e-5)


def test_data_most_of_which_are_equal():
    """More than half of the pairs at distance 0: the kernel still has a width; and none without any distance."""
    rows = np.zeros((40, 3))
    rows[:6] = 1.0
    found = Reference(rows).scores(rows[::-1])
    assert np.isfinite(found["mmd2"]) and np.isfinite(found["mmd"])
    with pytest.raises(InputError, match="equal"):
        Reference(np.ones((8, 3)))


def test_compressed_size_is_an_entropy():
    rng = np.random.default_rng(4)
    random = (rng.random((4000, 64)) < 0.5).astype(float)
    skewed = (rng.random((4000, 64)) < 0.05).astype(float)
    h = -(0.05 * np.log2(0.05) + 0.95 * np.log2(0.95)) * 8
    assert compressed_size(random, (0, 1)) == pytest.approx(8.0, rel=0.01)
    assert h < compressed_size(skewed, (0, 1)) < 1.5 * h
    assert compressed_size(np.zeros((4000, 64)), (0, 1)) < 0.02


def test_times_and_crossings():
    assert times_around(10, 80, per_octave=1) == [1, 2, 5, 10, 20, 40, 80]
    times, values = np.array([1, 2, 4]), np.array([-3.0, -1.0, 1.0])
    assert Gap(times, values, np.full(3, 0.4)).crossing() == 3.0
    assert Gap(times, values, np.full(3, 0.6)).crossing() is None, "1.0 is within two standard errors of no gap"
    assert Gap(np.array([1, 2, 4, 8]), np.array([-3.0, -1.0, 1.0, 3.0]), np.ones(4)).crossing() == 3.0
    assert Gap(np.array([1, 2, 4, 8]), np.array([0.1, -0.1, 3.0, 4.0]), np.ones(4)).crossing() is None
    assert Gap(np.array([1, 2]), np.array([1.0, 0.5]), np.ones(2)).crossing() is None
    with pytest.raises(InputError, match="increase"):
        quality_curve(jax.random.key(0), GAUSSIAN, Langevin(), START, np.eye(4)[:, :2], [3, 2])


def learned(d, n, s, h):
    """`j* > 0` of the discrete Langevin chain (digest A6), by bisection."""
    low, high = 1e-6, 1 / h
    for _ in range(100):
        j = (low + high) / 2
        q = (1 - h * j) ** 2
        low, high = (j, high) if s * q**n + 2 * h * (1 - q**n) / (1 - q) > d else (low, j)
    return low


ROTATION = np.array([[0.8, -0.6], [0.6, 0.8]])
START = starts.gaussian(np.zeros(2), 1.0)


def gaussian(stiffness):
    return Gaussian.from_covariance(jnp.zeros(2), jnp.asarray(ROTATION / stiffness @ ROTATION.T))


GAUSSIAN = gaussian(np.array([learned(2.0, 10, 1.0, 0.1), learned(0.5, 10, 1.0, 0.1)]))


def test_a_model_of_short_runs_is_best_at_their_length_and_an_equilibrium_model_is_not():
    """Digest 2A: variances 2 and 1/2 learned by 10 Langevin steps of 0.1 from unit variance; energy gap 0 at t = 10."""
    assert learned(2, 10, 1, 0.1) == pytest.approx(0.337655127137, abs=1e-9)
    rng = np.random.default_rng(5)
    data = rng.normal(size=(20_000, 2)) * np.sqrt([2.0, 0.5]) @ ROTATION.T
    reference, times = Reference(data, n=1000), [0, 3, 6, 10, 16, 40, 200]
    options: dict[str, Any] = dict(step_size=0.1, n_chains=20_000)
    short = quality_curve(jax.random.key(1), GAUSSIAN, Langevin(), START, reference, times, **options)
    settled = gaussian(np.array([learned(d, 4000, 1.0, 0.1) for d in (2.0, 0.5)]))
    long = quality_curve(jax.random.key(1), settled, Langevin(), START, reference, times, **options)
    assert short.best("second_error") == short.best("spectrum_error") == 10
    at = times.index(10)
    assert abs(short.gap.value[at]) < 4 * short.gap.stderr[at]
    far = np.abs(short.gap.value / short.gap.stderr)[[0, -2, -1]]
    assert far.min() > 5
    assert short.scores["second_error"][-1] > 50 * short.scores["second_error"][at]
    assert abs(long.gap.value[at]) > 5 * long.gap.stderr[at]
    assert abs(long.gap.value[-1]) < 4 * long.gap.stderr[-1] and long.best("spectrum_error") >= 40


STATES = enumeration.states("binary", 4)
TRUTH = np.where(STATES.sum(1) == 4, 0.45, np.where(STATES.sum(1) == 0, 0.41, 0.01))


def kernel_of(w, a, b):
    h = enumeration.states("binary", len(b))

    def product(p, states):
        return np.prod(np.where(states[None] == 1, p[:, None], 1 - p[:, None]), axis=2)

    return product(expit(b + STATES @ w), h) @ product(expit(a + h @ w.T), STATES)


@pytest.fixture(scope="module")
def machines():
    """The machines of digest 2G, learned by exact sums without noise: by runs of 5 sweeps and by maximum likelihood."""

    def train(k):
        w = 0.01 * np.array([[1.0, -1.0], [1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
        mean = TRUTH @ STATES
        a, b = np.log(mean / (1 - mean)), np.zeros(2)
        for _ in range(20_000):
            if k is None:
                u = -STATES @ a - np.logaddexp(0, b + STATES @ w).sum(1)
                p = np.exp(-u) / np.exp(-u).sum()
            else:
                p, step = np.full(16, 1 / 16), kernel_of(w, a, b)
                for _ in range(k):
                    p = p @ step
            difference, s = TRUTH - p, expit(b + STATES @ w)
            w, a, b = (
                w + 0.5 * np.einsum("n,ni,nj->ij", difference, STATES, s),
                a + 0.5 * difference @ STATES,
                b + 0.5 * difference @ s,
            )
        return RBM(*(jnp.asarray(z) for z in (w, a, b)), units("binary", 4), units("binary", 2))

    return {"rdm": train(5), "ml": train(None)}


@pytest.mark.slow
def test_walkers_of_short_runs_move_on_and_those_in_equilibrium_stay(machines):
    """Digest tests 18 and 19: the gap vanishes at k = 5; the detector fires for k = 5, not for maximum likelihood."""
    rng = np.random.default_rng(6)
    data = STATES[rng.choice(16, 20_000, p=TRUTH)]
    start, n = starts.noise(machines["rdm"], 4), 2000
    one = Controls.of()
    curve = quality_curve(
        jax.random.key(2), machines["rdm"], BlockGibbs(), start, Reference(data, n=500), [1, 2, 3, 5, 8, 20, 100],
        n_chains=10_000,
    )  # fmt: skip
    assert curve.best("second_error") == 5
    assert abs(curve.gap.value[3]) < 4 * curve.gap.stderr[3] and abs(curve.gap.crossing() - 5) <= 1
    found = {}
    for name, model in machines.items():
        potential, x = Potential(model, jnp.asarray(1.0)), start.sample_exact(jax.random.key(3), 1.0, n)
        arrived = quality_curve(
            jax.random.key(4), model, BlockGibbs(), start, data, [5 if name == "rdm" else 400], n_chains=n
        )
        found[name] = stays(jax.random.key(5), BlockGibbs(), potential, jnp.asarray(arrived.samples), 80, one)
        second = np.sort(np.abs(np.linalg.eigvals(kernel_of(*(np.asarray(z) for z in (
            model.weights, model.visible_bias, model.hidden_bias
        ))))))[-2]  # fmt: skip
        tau = -1 / np.log(second)
        assert tau == pytest.approx({"rdm": 122, "ml": 28.1}[name], rel=0.01)
        # overlaps of x_t and x_(t/2) fall as exp(-t / (2 tau)); times are powers of two
        forgotten = mixing_time(jax.random.key(6), BlockGibbs(), potential, x[:500], 1024, one)
        assert forgotten is not None and 0.5 * tau < forgotten < 8 * tau
    assert found["rdm"].has_moved and "k = 5" in (found["rdm"].warning(5) or "")
    assert not found["rdm"].is_settled or found["rdm"].relaxation is not None
    assert not found["ml"].has_moved and found["ml"].warning(400) is None and found["ml"].is_settled


def test_detector_is_silent_for_exact_samples_and_sees_a_cold_start():
    """Walkers drawn from the stationary law of the chain itself stay; those of another variance do not."""
    stationary = 1 / (0.7 * (1 - 0.05 * 0.7 / 2))  # of x' = (1 - h j) x + sqrt(2h) xi
    potential = Potential(Gaussian(jnp.zeros(1), jnp.sqrt(jnp.asarray([[0.7]]))), jnp.asarray(1.0))
    controls, z = Controls.of(step_size=0.05), jax.random.normal(jax.random.key(7), (3000, 1))
    good = stays(jax.random.key(8), Langevin(), potential, jnp.sqrt(stationary) * z, 64, controls)
    assert not good.has_moved and good.is_settled and good.relaxation is None
    bad = stays(jax.random.key(8), Langevin(), potential, 0.3 * z, 64, controls)
    assert bad.has_moved and bad.drift > 0
    # variances relax as (1 - h j)^(2 t): half of the way after log 2 / (-2 log(1 - h j)) = 9.7 sweeps
    assert bad.relaxation == pytest.approx(9.7, abs=3)
    # walkers of a law twice as wide stand for the stationary one by their weights, and by these alone
    wide = jnp.sqrt(2 * stationary) * z
    weights = np.exp(-0.25 / stationary * np.asarray(wide[:, 0]) ** 2)
    assert stays(jax.random.key(8), Langevin(), potential, wide, 64, controls).has_moved
    weighted = stays(jax.random.key(8), Langevin(), potential, wide, 64, controls, weights=weights)
    assert not weighted.has_moved and 0 < weighted.stderr < 0.1
    with pytest.raises(InputError, match="at least 2 walkers"):
        stays(jax.random.key(8), Langevin(), potential, z[:1], 64, controls)


def test_autocorrelation_of_a_chain_with_known_memory():
    rng, phi = np.random.default_rng(9), 0.9
    x = np.zeros((3000, 300, 2))
    x[0] = rng.normal(size=(300, 2)) / np.sqrt(1 - phi**2)
    for t in range(1, len(x)):
        x[t] = phi * x[t - 1] + rng.normal(size=(300, 2))
    found = visible_autocorrelation(x + 3.0)
    assert found.values[0] == 1 and found.values[5] == pytest.approx(phi**5, abs=0.01)
    assert found.integrated == pytest.approx(0.5 + phi / (1 - phi), rel=0.03)
    assert found.exponential == pytest.approx(-1 / np.log(phi), rel=0.03)
    with pytest.raises(InputError, match="never move"):
        visible_autocorrelation(np.ones((5, 3, 2)))


def test_distances_do_not_suffer_from_an_offset():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(40, 7)), rng.normal(size=(30, 7))
    exact = ((x[:, None] - y[None]) ** 2).sum(-1)
    np.testing.assert_allclose(squared_distances(x + 5e4, y + 5e4), exact, rtol=1e-4, atol=1e-4)
    whole = rng.integers(0, 2, (40, 7)).astype(float)
    np.testing.assert_array_equal(
        squared_distances(whole, whole[:9]), ((whole[:, None] - whole[None, :9]) ** 2).sum(-1)
    )


def test_snapshots_of_the_same_walkers_are_no_more_samples():
    """Walkers of the data's law, looked at eight times: together they look wrong, one by one they do not."""
    rng = np.random.default_rng(9)
    snapshots = np.repeat(rng.normal(size=(1, 64, 4)), 8, axis=0) + 1e-3 * rng.normal(size=(8, 64, 4))
    data, widths = rng.normal(size=(2000, 4)), np.array([1.0, 2.0])
    together = discrepancy(snapshots.reshape(512, 4), data[:512], widths)
    assert together.squared > 3 * together.stderr  # the same bound that the honest comparison must keep
    found = of_few(snapshots, data, widths)
    assert abs(found.squared) < 3 * found.stderr
    shifted = of_few(snapshots + 1.0, data, widths)
    assert shifted.squared > 5 * shifted.stderr
