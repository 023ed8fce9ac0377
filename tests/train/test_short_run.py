"""Short runs: fresh walkers from a fixed law, judged by transition matrices of every state."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import expit

import quasistatic as qs
from quasistatic.energies import units
from quasistatic.train.step import run_chunk, step
from tests.laws import battery, enumeration

quick_jit: Any = battery.quick_jit
RATE = 1e-6  # parameters as good as fixed: a difference of models is a gradient


def rbm(weights, a, b):
    n, m = np.shape(weights)
    return qs.RBM(*(jnp.asarray(x, float) for x in (weights, a, b)), units("binary", n), units("binary", m))


# digest 2G: the listed values are its law after 1 and 10 sweeps from uniform states
ORACLE = ([[1.2, -0.7], [-0.4, 0.9], [0.5, 0.3]], [0.1, -0.2, 0.3], [-0.3, 0.2])
LISTED_V = {
    1: (0.5831526445, 0.5268150508, 0.6804637519),
    10: (0.5951943910, 0.5230329975, 0.6853956015),
}
LISTED_VH = [[0.4289408407, 0.3132307131], [0.3001293920, 0.3732237244], [0.4455080107, 0.4265991461]]


def transition(model, beta):
    """`K(v -> v') = sum_h p(h|v) p(v'|h)` over all states, in NumPy."""
    w, a, b = (np.asarray(x, np.float64) for x in (model.weights, model.visible_bias, model.hidden_bias))
    v, h = enumeration.states("binary", len(a)), enumeration.states("binary", len(b))

    def product(p, states):
        return np.prod(np.where(states[None] == 1, p[:, None], 1 - p[:, None]), axis=2)

    return product(expit(beta * (b + v @ w)), h) @ product(expit(beta * (a + h @ w.T)), v)


def law_after(model, beta, start, k):
    return start @ np.linalg.matrix_power(transition(model, beta), k)


def uniform_law(n):
    return np.full(2**n, 0.5**n)


def moments(model, beta, p):
    """`<v>`, `<sigma>` and `<v sigma>` under a law of the visible states."""
    v = enumeration.states("binary", len(model.visible_bias))
    s = expit(beta * (np.asarray(model.hidden_bias) + v @ np.asarray(model.weights)))
    return p @ v, p @ s, np.einsum("n,ni,nj->ij", p, v, s)


def gradient_k(model, beta, p_data, p_k):
    """Descended gradient, minus eq. (1) of the digest: data phase minus phase of the walkers, of `u`."""
    return [-beta * (d - m) for d, m in zip(moments(model, beta, p_data), moments(model, beta, p_k), strict=True)]


BETA, K = 0.7, 2
MODEL = rbm(5.0 * np.array(ORACLE[0]), ORACLE[1], ORACLE[2])
DATA = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0]], float)


def start_probabilities(data):
    f = (data.sum(0) + 1) / (len(data) + 2)
    return np.prod(np.where(enumeration.states("binary", 3) == 1, f, 1 - f), axis=1)


def options(**more) -> dict[str, Any]:
    return dict(k=K, auditor_groups=0, controls=qs.Controls.of(beta=BETA), feedback="off", **more)


def estimates(trainer, n_seeds, n_before=2):
    """Gradients of the third update of independent runs, one row per run: `(a, b, W)`."""

    def one(key):
        dynamic, static = eqx.partition(trainer.init(key, MODEL), eqx.is_array)

        def body(_, carry):
            now = eqx.combine(carry[0], static)
            return eqx.filter(step(trainer, now, jnp.asarray(DATA)), eqx.is_array), now.model

        after, before = jax.lax.fori_loop(0, n_before + 1, body, (dynamic, MODEL))
        changes = jax.tree.map(lambda x, y: (x - y) / RATE, before, after.model)
        return changes.visible_bias, changes.hidden_bias, changes.weights

    return jax.jit(jax.vmap(one), compiler_options=battery.QUICK)(jax.random.split(jax.random.key(5), n_seeds))


def sigmas(found, expected):
    """Differences from the expected gradient in standard errors."""
    z = []
    for x, e in zip(found, expected, strict=True):
        x = np.asarray(x, np.float64)
        z.append(((x.mean(0) - e) / (x.std(0, ddof=1) / np.sqrt(len(x)))).ravel())
    return np.concatenate(z)


@pytest.mark.slow
@pytest.mark.parametrize("n_walkers", [10, 1])
def test_gradient_is_that_of_the_k_step_law_for_any_number_of_walkers(n_walkers):
    """Digest test 16; and walkers that are kept do not follow it."""
    start = qs.starts.mean_field(DATA, MODEL)
    p_data = np.mean(np.all(DATA[:, None] == enumeration.states("binary", 3), axis=2), axis=0)
    p_k = law_after(MODEL, BETA, start_probabilities(DATA), K)
    expected = gradient_k(MODEL, BETA, p_data, p_k)
    fresh = qs.short_run(qs.BlockGibbs(), optax.sgd(RATE), start, n_walkers=n_walkers, **options())
    assert np.abs(sigmas(estimates(fresh, 6_000), expected)).max() < 4
    kept = qs.pcd(qs.BlockGibbs(), optax.sgd(RATE), law=start, n_walkers=n_walkers, **options())
    assert np.abs(sigmas(estimates(kept, 6_000), expected)).max() > 6


def test_walkers_have_the_listed_moments_after_k_sweeps_and_no_free_energy():
    """Digest test 14 for 2G, at several times; and what the books of restarted walkers say."""
    model, n = rbm(*ORACLE), 100_000
    ensembles = {}
    for k in LISTED_V:
        trainer = qs.short_run(
            qs.BlockGibbs(), optax.sgd(RATE), qs.starts.noise(model, 3), k=k, n_walkers=n, auditor_groups=0
        )
        run = quick_jit(lambda key, trainer: step(trainer, trainer.init(key, model), jnp.ones((1, 3))))
        ensembles[k] = (after := run(jax.random.key(k), trainer)).ensemble
        assert int(after.controls.n_sweeps) == k
        v = np.asarray(after.ensemble.x)
        z = (v.mean(0) - LISTED_V[k]) / np.sqrt(v.var(0) / n)
        assert np.abs(z).max() < 4
    v = np.asarray(ensembles[1].x)
    products = v[:, :, None] * np.asarray(expit(np.array(ORACLE[2]) + v @ np.array(ORACLE[0])))[:, None, :]
    assert np.abs((products.mean(0) - LISTED_VH) / (products.std(0) / np.sqrt(n))).max() < 4
    late = np.asarray(ensembles[10].x).mean(0)
    assert np.abs((v.mean(0) - late) / np.sqrt(2 * v.var(0) / n)).max() > 5  # one sweep is not ten
    for ensemble in ensembles.values():
        books = ensemble.account
        assert not bool(ensemble.anchored)
        residual = (ensemble.u - books.u_start) - (books.work.value + books.heat.value + books.shadow_work.value)
        assert np.abs(residual).max() < 1e-10 and np.abs(books.work.value).max() < 1e-10


def test_start_does_not_follow_beta_or_parameters_and_is_saved():
    """The law of the start is state: sampled at its own temperature, the same after a change of the model."""
    start = qs.starts.gaussian(np.array([0.5, -1.0]), [0.3, 2.0])
    model = qs.Gaussian(jnp.zeros(2), jnp.eye(2))
    trainer = qs.short_run(
        qs.Langevin(), optax.sgd(0.1), start, k=1, n_walkers=40_000, auditor_groups=0,
        controls=qs.Controls.of(beta=0.25, step_size=1e-12),
    )  # fmt: skip
    update = quick_jit(step)
    state = quick_jit(lambda key, model: trainer.init(key, model))(jax.random.key(0), model)
    for _ in range(2):
        state = update(trainer, state, jnp.ones((4, 2)))
    x = np.asarray(state.ensemble.x)
    assert np.abs((x.mean(0) - [0.5, -1.0]) / (x.std(0) / 200)).max() < 4
    assert np.abs((x.var(0) / [0.09, 4.0] - 1) / np.sqrt(2 / 40_000)).max() < 4
    (saved,) = state.regulator_states
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(saved))
    assert np.allclose(saved.scale, [0.3, 2.0])


COUNTS = {4: 45, 0: 41}
TWO_MODES = np.repeat(
    enumeration.states("binary", 4), [COUNTS.get(int(n), 1) for n in enumeration.states("binary", 4).sum(1)], axis=0
)
"""Rows of digest 2G: 45 times 1111, 41 times 0000, each other state once."""


@pytest.mark.slow
def test_training_makes_the_k_step_law_and_not_the_equilibrium():
    """Digest test 15: divergence from the data by sampling time, from exact kernels of models trained with walkers."""
    mean = TWO_MODES.mean(0)
    first = rbm(0.01 * np.array([[1.0, -1.0], [1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]), np.log(mean / (1 - mean)), [0, 0])
    rates = {name: optax.linear_schedule(rate, 0.0, 2000, 6000) for name, rate in (("short", 1.5), ("kept", 0.5))}
    options: dict[str, Any] = dict(k=5, n_walkers=1000, auditor_groups=0, feedback="off")
    start = qs.starts.noise(first, 4)
    p_data = np.mean(np.all(TWO_MODES[:, None] == enumeration.states("binary", 4), axis=2), axis=0)
    times, found, gaps = (1, 2, 3, 4, 5, 6, 8, 10, 30, 10_000), {}, {}
    for name, trainer in {
        "short": qs.short_run(qs.BlockGibbs(), optax.sgd(rates["short"]), start, **options),
        "kept": qs.pcd(qs.BlockGibbs(), optax.sgd(rates["kept"]), **options),
    }.items():
        state = trainer.init(jax.random.key(3), first)
        model = run_chunk(trainer, state, jnp.asarray(TWO_MODES), jnp.asarray(8000, jnp.int32)).model
        laws = [law_after(model, 1.0, uniform_law(4), t) for t in times]
        found[name] = np.array([p_data @ np.log(p_data / p) for p in laws])
        pairs = zip(moments(model, 1.0, laws[4]), moments(model, 1.0, p_data), strict=True)
        gaps[name] = max(np.abs(x - y).max() for x, y in pairs)
    print(found, gaps)
    assert times[int(np.argmin(found["short"]))] == 5
    assert found["short"][-1] > 100 * 0.000643  # in equilibrium, against the listed divergence of maximum likelihood
    assert times[int(np.argmin(found["kept"]))] >= 30 and found["kept"][4] > 10 * found["short"][4]
    # three standard errors of one batch of walkers, which those of the other training exceed after 5 sweeps
    assert gaps["short"] < 3 * 0.5 / np.sqrt(1000) < gaps["kept"]


@pytest.mark.slow
def test_langevin_training_converges_to_the_learned_stiffness_of_the_discrete_chain():
    """Digest 2A, ULA table: d = 2, s = 1, 10 steps of 0.1 learn j* = 0.3376551, not 1/d and not 0.3218989."""
    x = np.sqrt(2.0) * np.array([[1.0], [-1.0]])

    rate = optax.cosine_decay_schedule(0.3, 400, 0.03)
    trainer = qs.short_run(
        qs.Langevin(), optax.sgd(rate), qs.starts.gaussian(np.zeros(1), 1.0), k=10, step_size=0.1, n_walkers=2000,
        auditor_groups=0, ema=0.98,
    )  # fmt: skip

    def learned(seed, trainer=trainer):
        state = trainer.init(jax.random.key(seed), qs.Gaussian(jnp.zeros(1), jnp.asarray([[0.7]])))
        state = run_chunk(trainer, state, jnp.asarray(x), jnp.asarray(400, jnp.int32))
        averaged: Any = state.averaged
        return float(averaged.precision_factor[0, 0]) ** 2

    found = np.array([learned(seed) for seed in range(8)])
    stderr = found.std(ddof=1) / np.sqrt(len(found))
    assert stderr < 2.5e-3
    assert abs(found.mean() - 0.337655127137) < 4 * stderr
    assert abs(found.mean() - 0.321898879101) > 4 * stderr  # continuous time
    wide = eqx.tree_at(lambda t: t.regulators[0].start.scale, trainer, jnp.sqrt(jnp.array([2.0])))
    # a start with the variance of the data: all that is left is what the discrete chain does, q = (1 - h j)^2
    assert abs(learned(0, wide) - solved(2.0, 10, 2.0, 0.1)) < 6 * found.std(ddof=1)
    assert abs(found.mean() - 0.5) > 20 * stderr


def solved(d, n, s, h):
    """`j` with `s q^n + 2h (1 - q^n) / (1 - q) = d`, `q = (1 - h j)^2`, by bisection (digest A6)."""
    low, high = -2.0, 1.0 / h
    for _ in range(200):
        j = (low + high) / 2
        q = (1 - h * j) ** 2
        variance = s * q**n + (2 * h * (1 - q**n) / (1 - q) if q != 1 else 2 * h * n)
        low, high = (j, high) if variance > d else (low, j)
    return low


@pytest.mark.parametrize(
    "make",
    [
        lambda: qs.ShortRun(0, qs.starts.box(-1, 1, 2)),
        lambda: qs.starts.box(1.0, 1.0, 2),
        lambda: qs.starts.gaussian(np.zeros(2), -1.0),
        lambda: qs.starts.mean_field(np.zeros(3), MODEL),
    ],
)
def test_wrong_starts_are_refused(make):
    with pytest.raises(qs.InputError):
        make()
