"""Sampling rates on network A (T9), and network B: ramps with books, both ends, lengths (T10, T11).

States are drawn from NumPy's exact laws, so that nothing here depends on mixing. Every bound is a computed standard
error; the saboteurs (unweighted ramp, examples mixed in a covariance) must exceed it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import Example, SquaredError
from quasistatic.equilibrium import (
    Phase,
    Setup,
    both_ends,
    contrast,
    covariance,
    equal_lengths,
    forward,
    from_works,
    gradient,
    ramp,
    reweighting,
    sandwich,
    thermodynamic_length,
)
from quasistatic.kernels import SiteGibbs
from quasistatic.thermo import Controls
from tests.equilibrium.nets import net_a, net_b

A, B = net_a(), net_b()
T_B, NUDGE_B = 0.7, 1.5


def drawn(rng, net, nudge, temperature, n):
    """Indices of `n` exact samples."""
    return np.searchsorted(np.cumsum(net.law(nudge, temperature)), rng.random(n)).clip(0, len(net.cost) - 1)


def sampled(net, index, nudge):
    """Phase of drawn states."""
    n = len(index)
    weight = jnp.full(n, 1.0 / n)
    return Phase(jnp.asarray(net.states[index]), jnp.asarray(net.cost[index]), weight, jnp.asarray(float(nudge)))


def slope(net, terms, *indices):
    return np.asarray(terms.on_energy) @ net.statistic[np.concatenate(indices)]


def test_errors_fall_as_the_exact_variances_say():
    """T9: r.m.s. errors of the contrast at nudges 1 and 0.01 and of the free covariance, at T = 1."""
    rng, n, n_repeats, t = np.random.default_rng(20261121), 2000, 60, 1.0
    p0 = A.law(0.0, t)

    def trace(p, f):
        return p @ ((f - p @ f) ** 2).sum(1)

    v0 = trace(p0, A.statistic)
    assert abs(v0 - 63.267940043) < 1e-8
    deviation = (A.cost - p0 @ A.cost)[:, None] * (A.statistic - p0 @ A.statistic) / t
    errors = {"1": [], "0.01": [], "covariance": []}
    expected = {"covariance": np.sqrt(trace(p0, deviation) / n)}
    assert abs(trace(p0, deviation) - 340.8411) < 1e-3
    for b, v_reference in ((1.0, 52.387194575), (0.01, 63.094740250)):
        v = trace(A.law(b, t), A.statistic)
        assert abs(v - v_reference) < 1e-8
        expected[f"{b:g}"] = np.sqrt((v0 + v) / n) / b
    for _ in range(n_repeats):
        free = drawn(rng, A, 0.0, t, n)
        for b in (1.0, 0.01):
            up = drawn(rng, A, b, t, n)
            exact = (A.law(b, t) - p0) @ A.statistic / b
            found = slope(A, contrast(sampled(A, free, 0.0), sampled(A, up, b)).scale(1 / b), free, up)
            errors[f"{b:g}"].append(np.sum((found - exact) ** 2))
        loss = -(p0 * (A.cost - p0 @ A.cost)) @ A.statistic / t
        found = slope(A, covariance(sampled(A, free, 0.0), t), free)
        errors["covariance"].append(np.sum((found - loss) ** 2))
    for name, squares in errors.items():
        mean, error = np.mean(squares), np.std(squares, ddof=1) / np.sqrt(n_repeats)
        assert abs(mean - expected[name] ** 2) < 4.5 * error, name
    assert expected["0.01"] > 5 * 4.99  # at this n the small nudge drowns, the covariance of the same target does not
    assert expected["covariance"] < 0.1 * 5.02


def test_forward_estimate_is_high_by_half_its_variance():
    """T9: bias and spread of -T log <exp(-C/T)>_0 from 100 samples."""
    rng, n, n_repeats = np.random.default_rng(3), 100, 4000
    w = np.exp(-A.cost)
    p0 = A.law(0.0, 1.0)
    exact = -np.log(p0 @ w)
    values = -np.log(w[drawn(rng, A, 0.0, 1.0, n * n_repeats)].reshape(n_repeats, n).mean(1))
    bias = (p0 @ w**2 / (p0 @ w) ** 2 - 1) / (2 * n)
    assert abs(bias - 0.00363) < 5e-5
    # the next order of the expansion in 1/n is below a tenth of the first here
    assert abs(values.mean() - exact - bias) < 4.5 * values.std() / np.sqrt(n_repeats) + 0.1 * bias
    one = forward(A.cost[drawn(rng, A, 0.0, 1.0, n)][None], 1.0, 1.0)
    assert one.stderr is not None and abs(one.stderr - values.std()) < 0.25 * values.std()


def test_mixed_examples_are_not_a_covariance():
    """Saboteur: pooling the walkers of two examples adds the covariance of their means."""
    rng, t, n = np.random.default_rng(5), 1.0, 4000
    other = net_a()
    other.cost = 0.5 * ((other.states[:, other.outputs] + other.target) ** 2).sum(1)
    laws = [A.law(0.0, t), A.law(0.0, t) * np.exp(2.5 * A.states[:, 0])]
    laws[1] /= laws[1].sum()
    costs, exact, found, variances = (A.cost, other.cost), [], [], []
    pooled_index, pooled_cost = [], []
    for p, cost in zip(laws, costs, strict=True):
        exact.append(-(p * (cost - p @ cost)) @ A.statistic / t)
        rows = (cost - p @ cost)[:, None] * (A.statistic - p @ A.statistic) / t
        variances.append(p @ ((rows + exact[-1]) ** 2).sum(1))
        index = np.searchsorted(np.cumsum(p), rng.random(n)).clip(0, len(p) - 1)
        phase = Phase(jnp.asarray(A.states[index]), jnp.asarray(cost[index]), jnp.full(n, 1 / n), jnp.asarray(0.0))
        found.append(np.asarray(covariance(phase, t).on_energy) @ A.statistic[index])
        pooled_index.append(index)
        pooled_cost.append(cost[index])
    truth, right = np.mean(exact, 0), np.mean(found, 0)
    index, cost = np.concatenate(pooled_index), np.concatenate(pooled_cost)
    phase = Phase(jnp.asarray(A.states[index]), jnp.asarray(cost), jnp.full(2 * n, 0.5 / n), jnp.asarray(0.0))
    mixed = np.asarray(covariance(phase, t).on_energy) @ A.statistic[index]
    spread = np.sqrt(np.sum(variances) / n) / 2  # r.m.s. error of the mean of two
    assert np.linalg.norm(right - truth) < 2 * spread  # of a sum of 78 squares: far beyond 4 sigma
    assert np.linalg.norm(mixed - truth) > 4 * spread


def transfer_matrix(nudge):
    """One systematic Gibbs sweep of network B, rows = from."""
    total = np.eye(64)
    u = (B.energy + nudge * B.cost) / T_B
    for unit in range(6):
        step = np.zeros((64, 64))
        for s in range(64):
            flipped = s ^ (1 << (5 - unit))  # itertools.product: the first unit is the slowest
            step[s, flipped] = 1 / (1 + np.exp(u[flipped] - u[s]))
            step[s, s] = 1 - step[s, flipped]
        total = total @ step
    return total


WORK = {1: (1.593013162352, 6.6795, 1.0041), 2: (1.425012367043, 5.6835, 0.8592), 4: (1.238664240863, 4.5073, 0.5619)}


@pytest.mark.parametrize("n_steps", WORK)
def test_ramps_are_exact_for_every_length_by_transfer_matrix(n_steps):
    """T10, the oracle: weights make end law and objective exact, and without them the contrast is far off."""
    p0, p1 = B.law(0.0, T_B), B.law(NUDGE_B, T_B)
    nudges = np.linspace(0, NUDGE_B, n_steps + 1)
    weighted, plain, first, second = p0.copy(), p0.copy(), np.zeros(64), np.zeros(64)
    for low, high in zip(nudges[:-1], nudges[1:], strict=True):
        work, matrix = (high - low) * B.cost, transfer_matrix(high)
        second = (second + 2 * work * first + work**2 * plain) @ matrix
        first, plain = (first + work * plain) @ matrix, plain @ matrix
        weighted = (weighted * np.exp(-work / T_B)) @ matrix
    mean, variance, error = WORK[n_steps]
    assert abs(-T_B * np.log(weighted.sum()) - B.delta_a(NUDGE_B, T_B)) < 1e-13
    assert np.abs(weighted / weighted.sum() - p1).max() < 1e-13
    assert abs(first.sum() - mean) < 1e-11 and abs(second.sum() - first.sum() ** 2 - variance) < 1e-4
    exact = (p1 - p0) @ B.statistic
    assert abs(np.linalg.norm(exact) - 1.163401894671838) < 1e-12
    assert abs(np.linalg.norm((plain - p0) @ B.statistic - exact) / 1.163401894671838 - error) < 1e-4


def test_our_ramp_has_the_works_of_the_oracle():
    """T10, the package: `ramp` over SiteGibbs, two steps of one sweep, from exact samples."""
    n_groups, m, n_steps = 64, 250, 2
    rng = np.random.default_rng(7)
    index = drawn(rng, B, 0.0, T_B, n_groups * m)
    setup = Setup(B.network, SquaredError(), SiteGibbs((-1.0, 1.0)), T_B)
    examples = Example(None, jnp.broadcast_to(B.example.target, (n_groups, 2)))

    @jax.jit
    def run(x):
        free = setup.open(x, examples)
        done, works = ramp(jax.random.key(8), setup, free, jnp.linspace(0.0, NUDGE_B, n_steps + 1), Controls.of())
        start = setup.phase(free, 0.0)
        both = [setup.phase(done, NUDGE_B, is_weighted=is_weighted) for is_weighted in (True, False)]
        return works, [jax.vmap(contrast)(start, end) for end in both]

    works, terms = run(jnp.asarray(B.states[index].reshape(n_groups, m, 6)))
    w = np.asarray(works).ravel() * T_B
    mean, variance, plain_error = WORK[n_steps]
    assert abs(w.mean() - mean) < 4.5 * np.sqrt(variance / w.size)
    kurtosis = np.mean((w - w.mean()) ** 4)
    assert abs(w.var(ddof=1) - variance) < 4.5 * np.sqrt((kurtosis - variance**2) / w.size)
    delta = from_works(w[None] / T_B, T_B)
    assert delta.value is not None and delta.stderr is not None
    assert abs(delta.value - B.delta_a(NUDGE_B, T_B)) < 4.5 * delta.stderr

    exact = (B.law(NUDGE_B, T_B) - B.law(0.0, T_B)) @ B.statistic
    for of_end, is_right in zip(terms, (True, False), strict=True):
        # per group, the states of start and end with their coefficients
        states, c = np.asarray(of_end.x), np.asarray(of_end.on_energy)
        pairs = np.stack(np.triu_indices(6, 1), 1)
        statistic = -np.concatenate([states[..., pairs[:, 0]] * states[..., pairs[:, 1]], states], -1)
        each = np.einsum("gi,gik->gk", c, statistic)
        error = each.std(0, ddof=1) / np.sqrt(n_groups)
        z = np.abs(each.mean(0) - exact) / error
        assert (z.max() < 4.5) == is_right
        if not is_right:
            relative = np.linalg.norm(each.mean(0) - exact) / np.linalg.norm(exact)
            assert abs(relative - plain_error) < 0.05
    package = gradient(B.network, SquaredError(), terms[0], examples)
    model = package.function
    np.testing.assert_allclose(np.concatenate([model.couplings, model.fields]), _mean_slope(terms[0]), atol=1e-12)


def _mean_slope(terms):
    pairs, states = np.stack(np.triu_indices(6, 1), 1), np.asarray(terms.x)
    statistic = -np.concatenate([states[..., pairs[:, 0]] * states[..., pairs[:, 1]], states], -1)
    return np.einsum("gi,gik->k", np.asarray(terms.on_energy), statistic) / len(states)


def test_both_ends_bounds_and_lengths():
    """T11: BAR and the sandwich from samples; thermodynamic length, and steps of equal length dissipate least."""
    rng, n = np.random.default_rng(11), 20000
    exact, p0 = B.delta_a(NUDGE_B, T_B), B.law(0.0, T_B)
    assert abs(exact - 0.233727865292416) < 1e-13
    fermi = p0 @ (1 / (1 + np.exp((NUDGE_B * B.cost - exact) / T_B)))
    assert abs(fermi - 0.417741198074034) < 1e-12
    free, up = (B.cost[drawn(rng, B, b, T_B, n)][None] for b in (0.0, NUDGE_B))
    found = both_ends(free, up, NUDGE_B, T_B)
    assert found.value is not None and found.stderr is not None
    assert abs(found.value - exact) < 4.5 * found.stderr
    expected = T_B * np.sqrt(0.788 / (2 * n))
    assert abs(found.stderr - expected) < 0.1 * expected
    assert sandwich(free, up, NUDGE_B, found).is_consistent
    assert "b <C>_b <= b <C>_0" in sandwich(up, free, NUDGE_B, found).violations  # saboteur: phases swapped

    grid = np.linspace(0, NUDGE_B, 2001)
    laws = [B.law(b, T_B) for b in grid]
    variances = np.array([p @ B.cost**2 - (p @ B.cost) ** 2 for p in laws])
    assert abs(thermodynamic_length(grid, variances, T_B) - 1.108517) < 1e-5

    def dissipated(nudges):
        return sum((b - a) * (B.law(a, T_B) @ B.cost) for a, b in zip(nudges[:-1], nudges[1:], strict=True)) - exact

    assert abs(dissipated(np.linspace(0, NUDGE_B, 65)) - 0.01262) < 1e-5
    assert abs(dissipated(equal_lengths(grid, variances, 64)) - 0.00684) < 1e-5


def test_reweighting_beats_the_contrast_at_small_nudges():
    """Section 2.5 at nudge 0.01: variances of one free sample, reweighted, and of two independent phases."""
    t, b = 1.0, 0.01
    p0, p1 = A.law(0.0, t), A.law(b, t)
    exact = (p1 - p0) @ A.statistic / b
    ratio = (p1 / p0)[:, None]
    rows = (ratio * (A.statistic - p1 @ A.statistic) - (A.statistic - p0 @ A.statistic)) / b
    n_snr_1 = (p0 @ rows**2).sum() / (exact @ exact)
    assert abs(n_snr_1 - 13.5) < 0.1
    rng, n, squares = np.random.default_rng(13), 400, []
    for _ in range(80):
        index = drawn(rng, A, 0.0, t, n)
        found = slope(A, reweighting(sampled(A, index, 0.0), b, t).scale(1 / b), index)
        squares.append(np.sum((found - exact) ** 2))
    error = np.std(squares, ddof=1) / np.sqrt(len(squares))
    assert abs(np.mean(squares) - (p0 @ rows**2).sum() / n) < 4.5 * error
