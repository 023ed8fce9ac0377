"""Only some walkers are moved per update: books, `log Z` and learning stay exact, whichever walkers chance picks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic.errors import InputError
from quasistatic.thermo import Controls, Ensemble, advance, switch
from quasistatic.thermo.process import advance_some
from quasistatic.train import run_chunk
from tests.laws.battery import log_mean_with_error
from tests.laws.gaussian import PROTOCOLS
from tests.laws.test_learning_laws import Spring

BETA, N, PROTOCOL = 0.7, 20_000, PROTOCOLS["A"]
KERNELS = {"fused": qs.Langevin(is_fused=True), "unfused": qs.Langevin(), "mala": qs.MALA()}
CURVATURE = jnp.asarray(PROTOCOL.curvature / BETA)  # the protocol is one of reduced potentials


class Prescribed(qs.AbstractRule):
    """Takes the curvature along protocol A, whatever the walkers do."""

    def init(self, energy):
        return jnp.zeros((), jnp.int32)

    def gradient(self, key, potential, kernel, batch, ensemble, controls, rule_state):
        following = jnp.minimum(rule_state + 1, len(CURVATURE) - 1)
        return Spring(CURVATURE[rule_state] - CURVATURE[following]), {}, following


def assert_right(log_weight, x):
    """`log Z` ratio and weighted variance of protocol A."""
    log_mean, error = log_mean_with_error(log_weight)
    w = np.exp(np.asarray(log_weight) - log_mean)
    squares = np.asarray(x)[:, 0] ** 2
    variance = np.mean(w * squares)
    spread = np.std(w * (squares - 0.25)) / np.sqrt(len(w))
    print(f"log ratio {log_mean:.4f} +- {error:.4f}, variance {variance:.4f} +- {spread:.4f}")
    assert abs(log_mean - PROTOCOL.log_ratio) < 4.5 * error < 0.05
    assert abs(variance - 0.25) < 4.5 * spread


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["unfused", "fused", "mala"])
def test_a_prescribed_path_with_lazy_walkers(kernel):
    """A third of the walkers per update; driver and auditor both know `log Z`, and every book closes."""
    n_moved = N // 3
    trainer = qs.Trainer(
        KERNELS[kernel], Prescribed(), optax.sgd(1.0), controls=Controls.of(beta=BETA, step_size=0.1), n_walkers=N,
        n_moved=n_moved,
    )  # fmt: skip
    state = trainer.init(jax.random.key(8), Spring(CURVATURE[0]))
    start = np.asarray(state.ensemble.x)
    state = run_chunk(trainer, state, jnp.zeros((4, 1)), jnp.asarray(1, jnp.int32))
    n_found = int(np.sum(np.any(start != np.asarray(state.ensemble.x), axis=1)))
    assert n_found == n_moved or kernel == "mala" and 0.8 * n_moved < n_found < n_moved
    state = run_chunk(trainer, state, jnp.zeros((4, 1)), jnp.asarray(10, jnp.int32))
    assert abs(BETA * float(state.model.kappa) - 4) < 1e-12
    assert_right(state.ensemble.log_weight(), state.ensemble.x)
    for population in (state.ensemble, state.auditor):
        assert float(jnp.abs(population.account.first_law_residual(population.u)).max()) < 1e-10
        u = jax.vmap(qs.Potential(state.model, BETA))(population.x)
        np.testing.assert_allclose(population.u, u, rtol=1e-12)
        truth = float(Spring(CURVATURE[-1]).log_partition(BETA))
        groups = np.exp(np.asarray(population.log_partition_groups()) - truth)
        error = log_mean_with_error(population.log_weight())[1]
        assert abs(groups.mean() - 1) < 4.5 * error


def by_hand(choose, kernel):
    """The same path with walkers that `choose(key, ensemble)` picks."""

    @eqx.filter_jit
    def run(key):
        start = qs.Potential(Spring(CURVATURE[0]), BETA)
        ensemble = Ensemble.open(kernel, start, start.energy.sample_exact(key, BETA, N), log_z=0.0)

        def update(k, ensemble):
            after, key_step = qs.Potential(Spring(CURVATURE[k]), BETA), jax.random.fold_in(key, k)
            index = choose(key_step, ensemble)
            ensemble, _, _ = advance(key_step, kernel, after, ensemble, Controls.of(step_size=0.1), index=index)
            return switch(kernel, after, ensemble)[0]

        ensemble = jax.lax.fori_loop(1, len(CURVATURE), update, ensemble)
        return ensemble.log_weight(), ensemble.x

    return run(jax.random.key(80))


def at_random(key, ensemble):
    return jax.random.permutation(key, ensemble.n_walkers)[: N // 3]


def far_out(key, ensemble):
    return jnp.argsort(-jnp.abs(ensemble.x[:, 0]))[: N // 3]


@pytest.mark.parametrize("kernel", ["fused", pytest.param("mala", marks=pytest.mark.slow)])
def test_saboteur_walkers_chosen_by_their_state(kernel):
    """Those that are far out are moved, the others wait: the mixture of move and rest is no longer the kernel's."""
    assert_right(*by_hand(at_random, KERNELS[kernel]))
    with pytest.raises(AssertionError):
        assert_right(*by_hand(far_out, KERNELS[kernel]))


def test_all_of_them_is_everyone(key):
    """`n_moved = n_walkers` moves every walker once; a subset leaves the others where they are, booked."""
    before, after = (qs.Potential(Spring(jnp.asarray(k)), BETA) for k in (1.0, 2.0))
    ensemble = Ensemble.open(qs.Langevin(), before, before.energy.sample_exact(key, BETA, 60), log_z=0.0)
    some = jax.jit(advance_some, static_argnames=("n_moved",))
    for n_moved in (60, 17):
        moved, booked, _ = some(key, qs.Langevin(), after, ensemble, Controls.of(), n_moved=n_moved)
        stayed = np.asarray(moved.x == ensemble.x)[:, 0]
        assert stayed.sum() == 60 - n_moved
        work = 0.5 * BETA * np.asarray(ensemble.x[:, 0]) ** 2
        np.testing.assert_allclose(moved.account.work.value, work, atol=1e-14)
        np.testing.assert_allclose(booked, work, atol=1e-14)
        assert not np.any(np.asarray(moved.account.shadow_work.value)[stayed])
    with pytest.raises(InputError, match="between 1 and the 60 walkers, got 61"):
        advance_some(key, qs.Langevin(), after, ensemble, Controls.of(), n_moved=61)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: qs.pcd(qs.BlockGibbs(), optax.sgd(0.1), n_walkers=8, n_moved=9), "n_moved = 9 exceeds the 8"),
        (lambda: qs.pcd(qs.BlockGibbs(), optax.sgd(0.1), n_moved=-1), "n_moved must be at least 0"),
        (lambda: qs.cd(qs.BlockGibbs(), optax.sgd(0.1), n_moved=9), "restarted"),
    ],
)
def test_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
