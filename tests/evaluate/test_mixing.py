"""Diagnostics of mixing against closed forms: golden RBM and Mattis tables, AR(1), independent and stuck chains."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.energies import RBM, Potential, units
from quasistatic.errors import InputError
from quasistatic.evaluate.conductance import (
    conductance_bound,
    effective_fields,
    freezing_margins,
    kernel_matrix,
    set_conductance,
)
from quasistatic.evaluate.mixing import (
    autocorrelation,
    autocorrelation_time,
    bulk_ess,
    linear_drift,
    occupancy,
    poisson_upper,
    split_r_hat,
    still_run,
)
from quasistatic.kernels import BlockGibbs
from quasistatic.thermo import Controls, Ensemble, relax

GOLDEN = {  # temperature: gap, conductance, stationary flip rate
    0.5: (0.541679212951, 0.315158482909, 0.235747162773),
    1.0: (0.809743628737, 0.444373505069, 0.379370643457),
    2.0: (0.933050527142, 0.489195705329, 0.463899581207),
}
MATTIS = {  # temperature of the 6x4 model with K = 1/4: gap, flip rate
    0.5: (1.372014e-3, 0.03906794),
    1.0: (0.1861751, 0.3061257),
    2.0: (0.6756920, 0.4631313),
    4.0: (0.9094365, 0.4918388),
    8.0: (0.9767611, 0.4980252),
}


def golden() -> RBM:
    """The 3x2 model of the reference table."""
    weights = jnp.asarray([[1.0, -1.0], [0.5, 2.0], [-1.5, 0.25]])
    b, c = jnp.asarray([0.1, -0.2, 0.3]), jnp.asarray([-0.4, 0.6])
    return RBM(weights, b, c, units("binary", 3), units("binary", 2))


def mattis(n: int, m: int, k: float) -> RBM:
    """Two symmetric modes, all ones and all zeros."""
    return RBM(
        jnp.full((n, m), 4.0 * k), jnp.full(n, -2.0 * k * m), jnp.full(m, -2.0 * k * n), units("binary", n),
        units("binary", m),
    )  # fmt: skip


@pytest.mark.parametrize("temperature", GOLDEN)
def test_golden_kernel(temperature):
    """T-03: stationary, reversible, positive, bracketed by the conductance; and the numbers of the table."""
    kernel = kernel_matrix(golden(), 1 / temperature)
    gap, conductance, flip_rate = GOLDEN[temperature]
    np.testing.assert_allclose(kernel.law @ kernel.matrix, kernel.law, atol=1e-15)
    flow = kernel.law[:, None] * kernel.matrix
    np.testing.assert_allclose(flow, flow.T, atol=1e-16)
    assert kernel.spectrum().min() > -1e-12 and abs(kernel.spectrum()[0] - 1) < 1e-12
    assert abs(kernel.gap() - gap) < 1e-10 and abs(kernel.conductance() - conductance) < 1e-10
    assert abs(kernel.flip_rate() - flip_rate) < 1e-10
    assert kernel.conductance() ** 2 / 2 <= kernel.gap() <= 2 * kernel.conductance()


@pytest.mark.parametrize("temperature", MATTIS)
def test_mattis_table(temperature):
    kernel = kernel_matrix(mattis(6, 4, 0.25), 1 / temperature)
    gap, flip_rate = MATTIS[temperature]
    assert abs(kernel.gap() / gap - 1) < 5e-7 and abs(kernel.flip_rate() / flip_rate - 1) < 5e-7
    # only K / T counts
    scaled = kernel_matrix(mattis(6, 4, 0.5), 0.5 / temperature)
    assert abs(scaled.gap() - kernel.gap()) < 1e-12


def test_frozen_mattis():
    kernel = kernel_matrix(mattis(6, 4, 0.5), 2.0)
    assert abs(kernel.gap() / 8.900978e-9 - 1) < 1e-5 and abs(kernel.flip_rate() / 6.714267e-4 - 1) < 5e-7


def test_spins_and_bits_have_one_kernel():
    """The same law in the other encoding: same spectrum, same flips."""
    from quasistatic.energies.rbm import flip_encoding

    bits, spins = kernel_matrix(golden(), 0.7), kernel_matrix(flip_encoding(golden()), 0.7)
    np.testing.assert_allclose(bits.spectrum(), spins.spectrum(), atol=1e-12)
    assert abs(bits.flip_rate() - spins.flip_rate()) < 1e-12


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_sampled_flip_rate(temperature):
    """T-07: what the kernel reports is the table's value; at another temperature it is not."""
    n, exact = 10_000, kernel_matrix(golden(), 1 / temperature)
    random = np.random.default_rng(3)
    x = jnp.asarray(exact.states[random.choice(8, n, p=exact.law)])
    potential = Potential(golden(), jnp.asarray(1 / temperature))
    ensemble = Ensemble.open(BlockGibbs(), potential, x)
    moved, info = jax.jit(relax)(jax.random.key(1), BlockGibbs(), potential, ensemble, Controls.of())
    per_chain = np.asarray(moved.x != x).mean(1)
    assert abs(float(info["flip_rate"]) - per_chain.mean()) < 1e-12
    assert abs(per_chain.mean() * n * 3 - round(per_chain.mean() * n * 3)) < 1e-6
    error = per_chain.std(ddof=1) / math.sqrt(n)
    assert abs(per_chain.mean() - GOLDEN[temperature][2]) < 4 * error
    assert abs(per_chain.mean() - GOLDEN[1.0][2]) > 8 * error


def _stationary(exact, n_records, n_chains, seed):
    """States of exact chains of a kernel matrix, as indices, records first."""
    random = np.random.default_rng(seed)
    state = random.choice(len(exact.law), n_chains, p=exact.law)
    cumulative, records = exact.matrix.cumsum(1), []
    for _ in range(n_records):
        records.append(state)
        state = np.minimum((random.random(n_chains)[:, None] > cumulative[state]).sum(1), len(exact.law) - 1)
    return np.array(records)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_measured_flow_out_of_a_set(temperature):
    """The flow of a set of less and of more than half of the mass is that of the matrix; crossings alone are not."""
    exact = kernel_matrix(golden(), 1 / temperature)
    states = _stationary(exact, 200, 2000, 5)
    for inside in (exact.states[:, 0] > 0.5, exact.states[:, 0] < 0.5, exact.states.sum(1) == 3):
        mass = exact.law[inside].sum()
        flow = exact.law[inside] @ exact.matrix[inside][:, ~inside].sum(1) / min(mass, 1 - mass)
        found = set_conductance(inside[states])
        assert found.value is not None and found.stderr is not None and found.stderr < 0.02 * flow
        assert abs(found.value - flow) < 4 * found.stderr
        assert flow >= exact.conductance() - 1e-12
        crossings = np.abs(np.diff(inside[states].astype(float), axis=0)).mean()  # saboteur: both ways, no mass
        assert abs(crossings - flow) > 8 * found.stderr


def test_a_bound_by_the_observable_that_separates_the_modes():
    """Of three observables the magnetisation is found; the bound is its flow, above and close to the conductance."""
    model = mattis(4, 4, 0.6)
    exact = kernel_matrix(model)
    states = exact.states[_stationary(exact, 2000, 300, 8)]
    traces = np.stack([states[..., 0], states.sum(-1) + 1e-3 * states[..., 1], states[..., 2] - states[..., 3]], -1)
    found = conductance_bound(traces)
    assert found.value is not None and found.stderr is not None and found.bias == "high"
    values = exact.states.sum(1) + 1e-3 * exact.states[:, 1]
    inside = values > np.median((states.sum(-1) + 1e-3 * states[..., 1])[:1000])
    mass = exact.law[inside].sum()
    flow = exact.law[inside] @ exact.matrix[inside][:, ~inside].sum(1) / min(mass, 1 - mass)
    assert abs(found.value - flow) < 4 * found.stderr
    assert exact.conductance() < flow + 1e-12 < 1.5 * exact.conductance()


def test_flow_that_was_not_seen():
    never = np.zeros((50, 4), bool)
    assert set_conductance(never).is_withheld
    never[:, :1] = True  # mass 1/4, nobody crosses
    found = set_conductance(never)
    assert found.value == pytest.approx(0.5 * poisson_upper(0) / (49 * 4) / 0.25) and found.stderr is None
    assert found.reason is not None and "upper limit" in found.reason
    with pytest.raises(InputError, match="records"):
        set_conductance(never[:1])
    with pytest.raises(InputError, match="finite"):
        conductance_bound(np.full((8, 2, 1), np.nan))


def test_freezing_margins_of_mattis():
    """T-18's numbers: M(16, 8, 2) at ones; half-way up the temperature the bound is that of half the margins."""
    model = mattis(16, 8, 2.0)
    margins = freezing_margins(model, np.ones(16))
    assert (margins.hidden, margins.visible) == (64.0, 32.0)
    assert abs(margins.leave / (16 * math.exp(-32) + 8 * math.exp(-64)) - 1) < 1e-12
    warm = freezing_margins(model, np.ones(16), 0.5)
    assert (warm.hidden, warm.visible) == (32.0, 16.0)
    half = freezing_margins(model, np.array([1.0] * 15 + [0.0]))
    assert half.visible < 0 and half.leave == 1.0
    fields = effective_fields(model, np.ones((4, 16)))
    assert abs(fields.hidden - 64) < 1e-12 and abs(fields.visible - 32) < 1e-12
    assert abs(fields.spectral - 8 * math.sqrt(128)) < 1e-9
    # two draws of a unit of log odds 1 differ with probability 2 p (1 - p)
    one = RBM(jnp.zeros((1, 1)), jnp.ones(1), jnp.zeros(1), units("binary", 1), units("binary", 1))
    p = 1 / (1 + math.exp(-1))
    assert abs(effective_fields(one, np.ones((2, 1))).flip_probability - 2 * p * (1 - p)) < 1e-12


def ar1(phi: float, n: int, m: int, seed: int = 0) -> np.ndarray:
    """Stationary AR(1) chains of unit variance."""
    noise = np.random.default_rng(seed).standard_normal((n, m))
    x = np.empty((n, m))
    x[0] = noise[0]
    for t in range(1, n):
        x[t] = phi * x[t - 1] + math.sqrt(1 - phi**2) * noise[t]
    return x


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, -0.4])
def test_time_of_ar1(phi):
    """`(1 + phi) / (1 - phi)` within the estimate's own error, and rho = phi^t."""
    trace = 3.0 + ar1(phi, 20_000, 5)
    exact = (1 + phi) / (1 - phi)
    found = autocorrelation_time(trace)
    print(f"phi {phi}: {found.value:.4f} +- {found.stderr:.4f}, exact {exact:.4f}")
    # the window leaves out exp(-5) of the tail at most
    assert abs(found.value - exact) < 4.5 * found.stderr + 0.01 * exact and found.stderr < 0.07 * exact
    assert found.bias == "none" and found.reason is None
    assert np.abs(autocorrelation(trace)[:4] - phi ** np.arange(4)).max() < 0.05
    ess = bulk_ess(trace[:4000])
    assert abs(ess / (20_000 / exact) - 1) < 0.25
    assert split_r_hat(trace[:4000]) < 1.01


def test_spread_of_the_time_is_its_error():
    """Over many traces the estimate scatters as its standard error says (a factor 2 would fail)."""
    traces = ar1(0.8, 4000, 200)
    found = [autocorrelation_time(trace[:, None]) for trace in traces.T]
    spread = np.std([f.value for f in found], ddof=1)
    claimed = np.mean([f.stderr for f in found])
    assert abs(spread / claimed - 1) < 0.3


def test_short_traces_say_so():
    found = autocorrelation_time(ar1(0.995, 500, 4))
    assert found.bias == "low" and "at least this long" in str(found.reason)
    stuck = autocorrelation_time(np.full((50, 3), 2.0))
    assert stuck.bias == "low" and stuck.value > 20


def test_disagreement_is_seen():
    """Chains shifted, of other spread, drifting or standing still, against independent ones."""
    good = np.random.default_rng(1).standard_normal((500, 8))
    assert split_r_hat(good) < 1.01 and bulk_ess(good) > 2500
    shifted = good + np.where(np.arange(8) < 4, 0.0, 1.0)
    wider = good * np.where(np.arange(8) < 4, 1.0, 3.0)
    drifting = good + np.linspace(0, 2, 500)[:, None]
    assert min(split_r_hat(x) for x in (shifted, wider, drifting)) > 1.05
    assert bulk_ess(shifted) < 100
    still = np.tile(np.arange(8.0), (100, 1))
    assert split_r_hat(still) == math.inf and split_r_hat(np.ones((10, 3))) == 1.0
    # a mean per chain would call the shifted chains independent draws
    assert autocorrelation_time(shifted).value > 20
    # ranks: one wild value changes nothing
    wild = good.copy()
    wild[3, 2] = 1e12
    assert split_r_hat(wild) < 1.01


def test_occupancy_of_a_two_state_chain():
    """Stationary shares and switch rate `2 p q / (p + q)` of a Markov chain within their errors."""
    random = np.random.default_rng(7)
    p, q, n, m = 0.03, 0.06, 4000, 40
    modes = np.empty((n, m), int)
    modes[0] = random.random(m) < p / (p + q)
    for t in range(1, n):
        u = random.random(m)
        modes[t] = np.where(modes[t - 1] == 0, u < p, u >= q)
    found = occupancy(modes, 2)
    assert abs(found.fraction[1] - p / (p + q)) < 4.5 * found.stderr[1] < 0.1
    error = math.sqrt(found.n_switches) / found.n_steps
    assert abs(found.switch_rate - 2 * p * q / (p + q)) < 4.5 * error
    assert abs(poisson_upper(0) + math.log(0.05)) < 1e-9 and 9 < poisson_upper(4) < 9.2


def test_drift():
    """T-22's line: slope and share of variance; a stationary series has none; correlated noise widens the error."""
    t = np.arange(200) * 10.0
    line = linear_drift(8 - 5e-4 * t / 2, t)
    assert abs(line.slope + 2.5e-4) < 1e-15 and line.r_squared > 1 - 1e-12
    noise = np.random.default_rng(3).standard_normal(400)
    assert abs(linear_drift(noise).slope) < 4.5 * linear_drift(noise).stderr
    slow = [linear_drift(ar1(0.9, 400, 1, seed)[:, 0]) for seed in range(60)]
    spread = np.std([d.slope for d in slow]) / np.mean([d.stderr for d in slow])
    assert 0.7 < spread < 1.5  # without the correlation it would be above 4


def test_still_run():
    assert still_run(np.array([0.1, 0.0, 0.2, 0.0, 0.0])) == 2
    assert still_run(np.zeros(4)) == 4 and still_run(np.array([0.0, 0.1])) == 0


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: autocorrelation_time(np.zeros((1, 3))), "records and chains"),
        (lambda: split_r_hat(np.array([[0.0], [np.nan], [1.0], [1.0]])), "diverged"),
        (lambda: occupancy(np.array([[0, 2], [1, 1]]), 2), "modes must be"),
        (lambda: linear_drift(np.zeros(3)), "at least 8"),
        (lambda: kernel_matrix(mattis(13, 2, 0.1)), "too large"),
        (lambda: kernel_matrix(mattis(6, 4, 0.1)).conductance(), "too many"),
    ],
)
def test_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
