"""Replica exchange on spaces small enough to be enumerated: 8 x 8 x 8 states of three rungs, judged by NumPy."""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from quasistatic.energies import RBM, IndependentUnits, Potential, units
from quasistatic.errors import InputError
from quasistatic.kernels import (
    AbstractKernel,
    BlockGibbs,
    Exchange,
    KernelState,
    Langevin,
    Tempered,
    Trajectory,
    independent_rbm,
    parallel_tempering,
    trajectory_tempering,
)
from quasistatic.kernels.exchange import BOTTOM, TOP, partners
from quasistatic.regulators import Restart
from quasistatic.thermo import Controls, Ensemble, as_samples, open_at_law
from quasistatic.train import pcd
from tests.laws import enumeration
from tests.laws.battery import advanced, log_mean_with_error, opened_at, quick_jit, resampled

N = 20_000
V = enumeration.states("binary", 3)
STACKS = np.stack(np.meshgrid(*[np.arange(8)] * 3, indexing="ij"), -1).reshape(-1, 3)
SIGMAS = 4.5


def rbm_at(s: float) -> RBM:
    """RBM 3x2 of the training path; the last visible unit is isolated."""
    i, j = np.arange(3)[:, None], np.arange(2)[None, :]
    weights = (0.4 + 2.2 * s) * np.sin(1.0 + i + 2.0 * j) * (i < 2)
    parameters = (weights, (0.6 - s) * np.cos(i[:, 0]), -0.3 * (j[0] + 1) * (1 + s))
    return RBM(*(jnp.asarray(a) for a in parameters), units("binary", 3), units("binary", 2))


def reduced(s: float, beta: float) -> np.ndarray:
    """Potentials of the 8 states, by NumPy."""
    m = rbm_at(s)
    return enumeration.rbm_marginal(m.weights, m.visible_bias, m.hidden_bias, beta, V, "binary")


class Setup(NamedTuple):
    """A ladder and what NumPy knows about it: potentials of every rung when the model is at `(s, beta)`."""

    ladder: Any
    rungs: Any


SETUPS = {
    "trajectory": Setup(
        Trajectory.of([rbm_at(0.0), rbm_at(0.4)], betas=[0.8, 1.1]),
        lambda s, beta: [reduced(0.0, 0.8), reduced(0.4, 1.1), reduced(s, beta)],
    ),
    "tempered": Setup(
        Tempered(jnp.asarray([0.25, 0.6, 1.0])),
        lambda s, beta: [reduced(s, r * beta) for r in (0.25, 0.6, 1.0)],
    ),
}
TEMPERED = pytest.param("tempered", marks=pytest.mark.slow)  # every kernel is a program to compile
EITHER = pytest.mark.parametrize("name", ["trajectory", TEMPERED])


def law_of(name: str, s: float, beta: float) -> tuple[np.ndarray, float]:
    """Probabilities of the 512 stacks and `log Z` of the product."""
    rungs = SETUPS[name].rungs(s, beta)
    return enumeration.law(sum(u[STACKS[:, k]] for k, u in enumerate(rungs)))


def kernel_of(name: str, kind: type[Exchange] = Exchange) -> Exchange:
    return kind(BlockGibbs(), SETUPS[name].ladder)


def drawn(name: str, s: float, beta: float, n: int = N, seed: int = 0) -> np.ndarray:
    """Exact stacks, shape `(n, 3, 3)`."""
    law, _ = law_of(name, s, beta)
    return V[STACKS[np.random.default_rng(seed).choice(512, n, p=law)]]


def index_of(x: Any) -> np.ndarray:
    return enumeration.index_of(np.asarray(x), "binary") @ np.array([64, 8, 1])


def at(s: float, beta: float = 0.7) -> Potential:
    return Potential(rbm_at(s), jnp.asarray(beta))


class WrongSign(Exchange):
    """Saboteur: exchanges what should stay."""

    @staticmethod
    def log_ratio(u, crossed, partner):
        return -Exchange.log_ratio(u, crossed, partner)


class StaleCaches(Exchange):
    """Saboteur: replicas change places, what was computed for them does not."""

    def swap(self, key, rungs, x, replicas, context=None):
        x, new, total, n = super().swap(key, rungs, x, replicas, context)
        return x, new._replace(u=replicas.u, inner=replicas.inner), total, n


@quick_jit
def swapped(key, kernel, potential, x, parity):
    """Acceptance of the pair of this parity, and the states after it was tried."""

    def one(k, x):
        state = kernel.init(potential, x)
        flow = state.cache.flow._replace(n_rounds=parity)
        new, _, acceptance, n = kernel.swap(k, kernel.ladder.rungs(potential), x, state.cache._replace(flow=flow))
        return new, acceptance / n

    return jax.vmap(one)(jax.random.split(key, len(x)), x)


@EITHER
@pytest.mark.parametrize("parity", [0, 1])
def test_detailed_balance_of_an_exchange(name, parity, key):
    """Every stack: the acceptance is the formula, the result is one of two states, and probability flows balance."""
    kernel, rungs = kernel_of(name), SETUPS[name].rungs(0.8, 0.7)
    after, acceptance = swapped(key, kernel, at(0.8), jnp.asarray(V[STACKS]), jnp.asarray(parity))
    k = parity
    a, b = STACKS[:, k], STACKS[:, k + 1]
    log_ratio = rungs[k][a] + rungs[k + 1][b] - rungs[k][b] - rungs[k + 1][a]
    np.testing.assert_allclose(acceptance, np.exp(np.minimum(log_ratio, 0)), rtol=1e-12)
    other = STACKS.copy()
    other[:, [k, k + 1]] = other[:, [k + 1, k]]
    there = other @ np.array([64, 8, 1])
    assert np.all((index_of(after) == np.arange(512)) | (index_of(after) == there))
    flow = law_of(name, 0.8, 0.7)[0] * np.asarray(acceptance)
    np.testing.assert_allclose(flow, flow[there], rtol=1e-11)


@EITHER
def test_books_close_and_caches_belong_to_their_replicas(name, key):
    """First law to rounding through switches, rounds and resampling; nothing cached is stale."""
    kernel = kernel_of(name)
    ensemble = opened_at(kernel, at(0.1), jnp.asarray(drawn(name, 0.1, 0.7)), 0.0, 1)
    for i, (s, beta) in enumerate([(0.5, 0.7), (0.9, 1.2), (1.0, 0.9)]):
        ensemble = advanced(jax.random.fold_in(key, i), kernel, at(s, beta), ensemble, Controls.of(n_sweeps=3))
        ensemble = resampled(jax.random.fold_in(key, 10 + i), ensemble)
    assert np.abs(ensemble.account.first_law_residual(ensemble.u)).max() < 1e-10
    assert np.abs(ensemble.account.shadow_work.value).max() == 0
    fresh = opened_at(kernel, at(1.0, 0.9), ensemble.x)
    np.testing.assert_allclose(ensemble.u, fresh.u, rtol=1e-12)
    np.testing.assert_allclose(ensemble.cache.u, fresh.cache.u, rtol=1e-12)
    np.testing.assert_allclose(ensemble.cache.inner, fresh.cache.inner, atol=1e-12)
    assert np.array_equal(np.sort(ensemble.cache.flow.label, axis=1), np.tile(np.arange(3), (N, 1)))
    assert np.all(np.asarray(ensemble.cache.flow.n_rounds) == 9)
    top = as_samples(kernel, ensemble)
    np.testing.assert_array_equal(top.x, ensemble.x[:, -1])
    np.testing.assert_allclose(top.u, reduced(1.0, 0.9)[enumeration.index_of(top.x, "binary")], rtol=1e-10)
    if name == "trajectory":  # the saboteur samples well, since its caches remember where it was; its books do not
        stale = advanced(key, kernel_of(name, StaleCaches), at(1.0, 0.9), fresh, Controls.of(n_sweeps=3))
        assert np.abs(stale.u - opened_at(kernel, at(1.0, 0.9), stale.x).u).max() > 0.1


@EITHER
@pytest.mark.parametrize("kind", [Exchange, WrongSign])
def test_stationarity(name, kind):
    """Exact stacks stay exact; the saboteur is found out."""
    kernel, start = kernel_of(name, kind), jnp.asarray(drawn(name, 0.8, 0.7))
    ensemble = advanced(jax.random.key(3), kernel, at(0.8), opened_at(kernel, at(0.8), start), Controls.of(n_sweeps=3))
    counts = np.bincount(index_of(ensemble.x), minlength=512)
    found = enumeration.chi_square(counts, N * law_of(name, 0.8, 0.7)[0])
    print(f"{name}, {kind.__name__}: {found:.1f} standard deviations")
    assert (abs(found) < 5) == (kind is Exchange)


@EITHER
def test_jarzynski_with_a_moving_model(name):
    """Driven fast: the mean weight is the ratio of partition functions; on a trajectory that of the model alone."""
    kernel, start = kernel_of(name), jnp.asarray(drawn(name, 0.1, 0.7, seed=1))
    ensemble = opened_at(kernel, at(0.1), start)
    for i, (s, beta) in enumerate([(0.4, 0.8), (0.8, 1.0), (1.0, 1.3)]):
        ensemble = advanced(jax.random.fold_in(jax.random.key(5), i), kernel, at(s, beta), ensemble, Controls.of())
    exact = law_of(name, 1.0, 1.3)[1] - law_of(name, 0.1, 0.7)[1]
    if name == "trajectory":
        of_model = enumeration.law(reduced(1.0, 1.3))[1] - enumeration.law(reduced(0.1, 0.7))[1]
        assert abs(exact - of_model) < 1e-12
    log_weight = np.asarray(ensemble.log_weight())
    log_mean, error = log_mean_with_error(log_weight)
    print(f"{name}: {log_mean:.4f} +- {error:.4f}, exact {exact:.4f}")
    assert abs(log_mean - exact) < SIGMAS * error < 0.1
    wrong, wrong_error = log_mean_with_error(-log_weight)
    assert abs(wrong - exact) > 2 * SIGMAS * wrong_error
    # the weighted replica at the model has the model's law
    w = np.exp(log_weight - log_mean)
    state = enumeration.index_of(np.asarray(as_samples(kernel, ensemble).x), "binary")
    law = enumeration.law(reduced(1.0, 1.3))[0]
    spread = np.array([np.std(w * ((state == i) - law[i])) for i in range(8)]) / np.sqrt(N)
    assert np.abs((np.bincount(state, w, 8) / N - law) / spread).max() < SIGMAS


class Still(AbstractKernel):
    """Moves nothing: what travels, travels by exchange."""

    def init(self, potential, x, context=None):
        return KernelState(x, potential(x, context), None)

    def step(self, key, after, state, controls, context=None):
        return state, jnp.zeros_like(state.u), {}


def test_labels_follow_the_replicas(key):
    """Replicas that stand still are where their labels are; trips are those of the recorded labels."""
    kernel = Exchange(Still(), Tempered(jnp.asarray([0.3, 0.5, 0.7, 0.85, 1.0])))
    potential = Potential(IndependentUnits(jnp.asarray([0.2]), units("spin", 1)), jnp.asarray(0.4))
    x = jax.random.normal(key, (50, 5, 1))  # any number will do: the field's energy is linear in it
    ensemble = opened_at(kernel, potential, x)
    labels = []
    for i in range(60):
        ensemble = advanced(jax.random.fold_in(key, i), kernel, potential, ensemble, Controls.of())
        labels.append(np.asarray(ensemble.cache.flow.label))
    flow = ensemble.cache.flow
    np.testing.assert_array_equal(ensemble.x, np.take_along_axis(np.asarray(x), labels[-1][:, :, None], axis=1))
    trips = np.zeros(50, int)
    for w in range(50):
        last = np.zeros(5, int)
        for label in (found[w] for found in labels):
            trips[w] += last[label[0]] == TOP
            last[label[0]], last[label[-1]] = BOTTOM, TOP
    np.testing.assert_array_equal(flow.n_trips, trips)
    assert trips.sum() > 20


def test_pairs_in_turns():
    assert partners(5, 0).tolist() == [1, 0, 3, 2, 4] and partners(5, 1).tolist() == [0, 2, 1, 4, 3]
    assert partners(4, 1).tolist() == [0, 2, 1, 3] and partners(2, 1).tolist() == [0, 1]


def test_books_open_at_a_law(key):
    """The first ladder of a training: an RBM without couplings and the model, anchored at the model's own log Z."""
    model, beta = rbm_at(0.7), 0.8
    kernel = Exchange(BlockGibbs(), Trajectory.from_base(model, beta))
    base, log_z = independent_rbm(model, beta)
    exact_base = enumeration.law(
        enumeration.rbm_marginal(base.weights, base.visible_bias, base.hidden_bias, beta, V, "binary")
    )[1]
    assert abs(float(log_z) - exact_base) < 1e-12
    ensemble = quick_jit(open_at_law)(
        key, kernel, Potential(model, jnp.asarray(beta)), model.base(), n_walkers=N, n_groups=20
    )
    exact = enumeration.law(reduced(0.7, beta))[1]
    log_mean, error = log_mean_with_error(ensemble.log_weight())
    found = float(np.mean(np.asarray(ensemble.log_z.value))) + log_mean
    assert bool(ensemble.anchored) and abs(found - exact) < SIGMAS * error < 0.05
    # the work is that of the model's replica alone: the frozen rung is the law it was opened at
    top = np.asarray(ensemble.x[:, -1])
    jump = reduced(0.7, beta)[enumeration.index_of(top, "binary")] + beta * top @ np.asarray(model.visible_bias)
    np.testing.assert_allclose(ensemble.account.work.value, jump, atol=1e-10)
    # with every rung on the move, no number is the model's
    assert parallel_tempering(BlockGibbs(), 3, 4.0).start(key, model.base(), beta, 2)[2] is None


def test_the_gradient_sees_the_model_alone(key):
    """One update of a trainer is that of plain walkers that stand where the replicas at the model stand."""
    model = rbm_at(0.5)
    kernel = Exchange(BlockGibbs(), Trajectory.from_base(model))
    trainer = pcd(kernel, optax.sgd(0.1), n_walkers=30, auditor_groups=0)
    state = trainer.init(key, model)
    seen = as_samples(kernel, state.ensemble)
    batch = jnp.asarray(V[[1, 5, 6]])
    potential = Potential(model, jnp.asarray(1.0))
    by_stack, _, _ = trainer.rule.gradient(key, potential, kernel, batch, seen, state.controls, None)
    plain = Ensemble.open(BlockGibbs(), potential, state.ensemble.x[:, -1])
    by_plain, _, _ = trainer.rule.gradient(key, potential, BlockGibbs(), batch, plain, state.controls, None)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-12), by_stack, by_plain)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: parallel_tempering(BlockGibbs(), 1, 5.0), "at least 2 rungs"),
        (lambda: parallel_tempering(BlockGibbs(), 4, 0.5), "hottest temperature above 1"),
        (lambda: trajectory_tempering(BlockGibbs(), []), "at least one frozen rung"),
        (lambda: parallel_tempering(Langevin(is_fused=True), 3, 5.0), "fused"),
        (lambda: parallel_tempering(BlockGibbs(), 3, 5.0, n_between=0), "n_between"),
        (lambda: trajectory_tempering(BlockGibbs(), [rbm_at(0.0), RBM.initialise(jax.random.key(0), 4, 2)]), "copies"),
        (
            lambda: trajectory_tempering(BlockGibbs(), [rbm_at(0.0)]).check(RBM.initialise(jax.random.key(0), 4, 2)),
            "not copies",
        ),
        (
            lambda: pcd(parallel_tempering(BlockGibbs(), 3, 5.0), optax.sgd(0.1), regulators=(Restart("data"),)),
            "cannot be restarted",
        ),
    ],
)
def test_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_stack_is_a_pytree_of_arrays(key):
    """A kernel with frozen rungs goes through a compiled function without becoming static."""
    kernel = kernel_of("trajectory")
    arrays = jax.tree.leaves(eqx.filter(kernel, eqx.is_array))
    assert len(arrays) == 4 and all(leaf.shape[0] == 2 for leaf in arrays)
