"""First law, per walker and to rounding: `u - u_start = work + heat + shadow work`, along any path, for any kernel.

The residual of the account alone is not enough (shadow work is defined as what is missing), so the books are also held
against potentials evaluated from scratch, and against a second bookkeeping from the recorded positions.
"""

import functools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import quasistatic.kernels
from quasistatic._numerics import TwoFloat
from quasistatic.thermo import Controls, advance, relax, switch
from tests.laws.battery import (
    CASES,
    METHODS,
    QUICK,
    N,
    controls,
    driven,
    label,
    one_per_kernel,
    opened,
    refreshed,
    resampled,
    restarted,
    step,
)

TOLERANCE = 1e-10
PATH = (0.5, 0.9, 0.1, 0.7, 0.3, 1.0)  # forth and back, fast; beta moves with it


def residual(ensemble):
    """Largest violation of the account."""
    return float(jnp.max(jnp.abs(ensemble.account.first_law_residual(ensemble.u))))


def staleness(case, ensemble, s):
    """Largest difference between what walkers carry and the same evaluated from scratch."""
    fresh, work = refreshed(case, ensemble, s)
    pairs = zip(jax.tree.leaves(fresh.cache), jax.tree.leaves(ensemble.cache), strict=True)
    exact = np.abs(case.reduced(s, np.asarray(ensemble.x)) - np.asarray(ensemble.u)).max()
    return max([float(jnp.abs(work).max()), exact, *(float(jnp.abs(a - b).max()) for a, b in pairs)])


@pytest.mark.parametrize("case", CASES, ids=label)
def test_first_law_through_switches_resampling_and_restart(case, key):
    key_start, key_run, key_again = jax.random.split(key, 3)
    ensemble = opened(case, key_start)
    # resampling sees the ensemble only: the rows take the methods in turn, one row takes them all
    methods = METHODS if case is CASES[0] else (METHODS[CASES.index(case) % 4],)
    for i, s in enumerate(PATH):
        k = jax.random.fold_in(key_run, i)
        ensemble = step(k, case, ensemble, s, 3)
        for j, method in enumerate(methods):
            ensemble = resampled(jax.random.fold_in(k, j), ensemble, method=method)
            assert residual(ensemble) <= TOLERANCE and staleness(case, ensemble, s) <= TOLERANCE
        ensemble, _ = refreshed(case, ensemble, 0.8 * s)
    assert residual(ensemble) <= TOLERANCE and staleness(case, ensemble, 0.8) <= TOLERANCE
    assert bool(ensemble.anchored)
    # Something has happened: a ledger of zeros would satisfy every line above.
    assert min(float(jnp.std(part.value)) for part in (ensemble.account.work, ensemble.account.heat)) > 1e-2

    again = restarted(case, ensemble, case.start(key_again, N), 0.8)
    assert not bool(again.anchored)
    sums = eqx.tree_at(lambda a: a.u_start, again.account, None)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(sums))
    again = driven(key_again, case, again, PATH)
    assert residual(again) <= TOLERANCE and staleness(case, again, PATH[-1]) <= TOLERANCE


@pytest.mark.parametrize("case", one_per_kernel(), ids=label)
def test_first_law_of_lazily_moved_sub_batches(case, key):
    """Only some walkers follow a switch; the work of the others is booked when they are next touched."""
    ensemble = opened(case, key)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def some(key, ensemble, s):
        index = jax.random.permutation(key, N)[: N // 3]
        potential = case.path(s)
        return advance(key, case.kernel, potential, ensemble, controls(case, 2), index=index)[0], index

    for i, s in enumerate(PATH):
        before = ensemble
        ensemble, index = some(jax.random.fold_in(key, i), ensemble, s)
        untouched = np.setdiff1d(np.arange(N), np.asarray(index))
        for a, b in zip(jax.tree.leaves(ensemble), jax.tree.leaves(before), strict=True):
            if a.shape[:1] == (N,):
                np.testing.assert_array_equal(a[untouched], b[untouched])
        assert residual(ensemble) <= TOLERANCE  # a stale potential telescopes
    assert staleness(case, ensemble, PATH[-1]) > 1e-2
    ensemble, _ = refreshed(case, ensemble, PATH[-1])
    assert residual(ensemble) <= TOLERANCE and staleness(case, ensemble, PATH[-1]) <= TOLERANCE


@pytest.mark.parametrize("broken", ["u", "u_start", "heat"])
def test_saboteur_something_left_behind_by_resampling(broken, key):
    """Each part of the books that stays behind when walkers are resampled breaks the law by far more than rounding."""
    case = CASES[0]
    ensemble = step(key, case, opened(case, key), 1.0)
    after = resampled(key, ensemble)
    assert residual(after) <= TOLERANCE
    part = {"u": lambda e: e.u, "u_start": lambda e: e.account.u_start, "heat": lambda e: e.account.heat}[broken]
    assert residual(eqx.tree_at(part, after, part(ensemble))) > 1e-2


def test_saboteur_cache_left_behind_by_resampling(key):
    case = CASES[0]
    ensemble = step(key, case, opened(case, key), 1.0)
    after = eqx.tree_at(lambda e: e.cache, resampled(key, ensemble), ensemble.cache)
    assert residual(after) <= TOLERANCE  # the account cannot know
    assert staleness(case, after, 1.0) > 1e-2


@pytest.mark.parametrize("case", CASES, ids=label)
def test_books_agree_with_a_second_bookkeeping_from_positions(case, key):
    """Work is the change of the potential where the walkers stand; in detailed balance the rest is heat, exactly."""
    ensemble = opened(case, key)
    work, s_before, start = 0.0, 0.0, case.reduced(0.0, np.asarray(ensemble.x))
    for i, s in enumerate(PATH):
        x = np.asarray(ensemble.x)
        work = work + case.reduced(s, x) - case.reduced(s_before, x)
        ensemble = step(jax.random.fold_in(key, i), case, ensemble, s, 2)
        s_before = s
    book, change = ensemble.account, case.reduced(PATH[-1], np.asarray(ensemble.x)) - start
    np.testing.assert_allclose(book.log_weight.value, -book.work.value - book.shadow_work.value, atol=TOLERANCE)
    off_balance = book.shadow_work.value
    if case.kernel.moves_with_switch:
        assert not np.any(off_balance)  # the fused move books it together with the work
        off_balance = book.work.value - work
        np.testing.assert_allclose(book.work.value + book.heat.value, change, atol=TOLERANCE)
    else:
        np.testing.assert_allclose(book.work.value, work, atol=TOLERANCE)
        np.testing.assert_allclose(book.heat.value + off_balance, change - work, atol=TOLERANCE)
    assert not np.any(off_balance) if case.is_balanced else np.std(off_balance) > 1e-2


LAWS_ELSEWHERE = {
    "Exchange": "laws/test_exchange.py",
    "LayeredGibbs": "equilibrium/test_layered.py",
    "Ramped": "kernels/test_ramped.py",
}
"""Kernels of stacks, of nudged networks and of other kernels have walkers that no row of the family is: their tests."""


def test_the_family_is_complete():
    """A kernel without a row is a kernel without a law."""
    kinds = [kind for kind in vars(quasistatic.kernels).values() if isinstance(kind, type)]
    kernels = {kind for kind in kinds if issubclass(kind, quasistatic.kernels.AbstractKernel)}
    of_their_own = {kind for kind in kernels if kind.__name__ in LAWS_ELSEWHERE}
    assert kernels - {quasistatic.kernels.AbstractKernel} - of_their_own == {type(case.kernel) for case in CASES}
    for name, file in LAWS_ELSEWHERE.items():
        assert name in (Path(__file__).parents[1] / file).read_text(encoding="utf-8")
    assert len(one_per_kernel()) == 14


@pytest.mark.float32
def test_first_law_in_float32_over_a_long_run(key):
    """20,000 updates in single precision: compensated books stay near the rounding of one `u`, plain sums do not."""
    case, n_steps = CASES[0], 20_000
    ensemble = opened(case, key, 32, 2)
    assert ensemble.u.dtype == jnp.float32

    @functools.partial(jax.jit, static_argnums=0)
    def run(n_steps, ensemble):
        def one(carry, i):
            ensemble, work, heat = carry
            after = case.path(0.5 + 0.5 * jnp.sin(2.3 * i))
            ensemble, gained = switch(case.kernel, after, ensemble)
            u = ensemble.u
            ensemble, _ = relax(jax.random.fold_in(key, i), case.kernel, after, ensemble, Controls.of())
            return (ensemble, work + gained, heat + (ensemble.u - u)), None

        zeros = jnp.zeros_like(ensemble.u)
        return jax.lax.scan(one, (ensemble, zeros, zeros), jnp.arange(n_steps))[0]

    final, work, heat = run(n_steps, ensemble)
    assert isinstance(final.account.work, TwoFloat)
    # Every booked difference, about one nat, is rounded once: a random walk of two steps per update.
    allowed = 4 * 0.5 * float(jnp.finfo(jnp.float32).eps) * np.sqrt(2 * n_steps)
    plain = np.abs(np.asarray(final.u - final.account.u_start - work - heat)).max()
    total = float(jnp.min(final.account.work.value))
    print(f"sum {total:.0f}, residual {residual(final):.2e}, plain sums {plain:.2e}, allowed {allowed:.2e}")
    assert total > 1000  # far beyond what one float32 can hold to this accuracy
    assert residual(final) <= allowed < plain / 20
