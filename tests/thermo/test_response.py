"""Linear response against closed forms: a two-state spin whose flips are fast or slow, and an explicit double sum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.errors import InputError
from quasistatic.thermo.response import Response
from quasistatic.train.dissipated import is_slow_driving

BETA, N = 0.7, 40_000


def booked(works, memory):
    """Response after rows of works, one row per update."""

    def body(response, work):
        return response.add(work), None

    opened = Response.open(works.shape[1], memory=memory, dtype=jnp.result_type(works))
    return jax.jit(lambda w: jax.lax.scan(body, opened, w)[0])(works)


def test_sums_are_those_of_the_definition(key):
    """Halves of three updates: update `k` is correlated with its own half and the one before it."""
    works = np.asarray(jax.random.normal(key, (11, 7))) @ np.diag(np.arange(1.0, 8.0))
    response = booked(jnp.asarray(works), 3)
    covariance = np.cov(works)
    delayed = sum(covariance[k, j] for k in range(11) for j in range(3 * max(k // 3 - 1, 0), k))
    assert abs(float(response.jumps) - 0.5 * np.trace(covariance)) < 1e-10 * np.trace(covariance)
    assert abs(float(response.delayed) - delayed) < 1e-10 * np.trace(covariance)
    everything = booked(jnp.asarray(works), 100)
    assert abs(float(everything.excess_work) - 0.5 * works.sum(0).var(ddof=1)) < 1e-10 * np.trace(covariance)


def test_a_switch_ahead_of_its_update_changes_nothing(key):
    """What is booked at the end of a chunk is not booked again, and does not move the memory."""
    works = jax.random.normal(key, (8, 5))
    for cut in range(1, 8):
        opened = Response.open(5, memory=3, dtype=works.dtype)
        for k in range(8):
            if k == cut:
                opened = opened.add(works[k], n_updates=0).add(jnp.zeros(5))
            else:
                opened = opened.add(works[k])
        assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), opened, one_by_one(works)))


def one_by_one(works):
    response = Response.open(works.shape[1], memory=3, dtype=works.dtype)
    for work in works:
        response = response.add(work)
    return response


def spins(decay, n_updates, last=1.2):
    """Works of `N` spins, `E = -theta x`, `theta` from 0.2 to `last`; and their exact excess work.

    A sweep draws a spin anew with probability `1 - decay`, so that the magnetisation relaxes by `decay`.
    """
    rng = np.random.default_rng(5)
    theta = np.linspace(0.2, last, n_updates + 1)
    x = np.where(rng.random(N) < 0.5 * (1 + np.tanh(BETA * theta[0])), 1.0, -1.0)
    magnetisation, mean_work, works = np.tanh(BETA * theta[0]), 0.0, []
    for old, new in zip(theta, theta[1:], strict=False):
        works.append(-BETA * (new - old) * x)
        mean_work -= BETA * (new - old) * magnetisation
        target = np.tanh(BETA * new)
        magnetisation = target + decay * (magnetisation - target)
        fresh = np.where(rng.random(N) < 0.5 * (1 + target), 1.0, -1.0)
        x = np.where(rng.random(N) < decay, x, fresh)
    free_energy = -np.log(np.cosh(BETA * theta[-1]) / np.cosh(BETA * theta[0]))
    return jnp.asarray(np.array(works)), float(mean_work - free_energy)


@pytest.mark.parametrize("decay", [0.0, 0.6, 0.9])
def test_slow_driving_is_predicted(decay):
    """200 updates, at most ten of them in a relaxation time: prediction and exact excess work agree."""
    works, exact = spins(decay, 200)
    response = booked(works, 100)
    ratio = float(response.excess_work) / exact
    stderr = np.sqrt(2 / N) * ratio * 3  # of a variance, of each of the lags that matter
    assert is_slow_driving(ratio, stderr) is True
    expected = decay / (1 - decay)
    assert abs(float(response.relaxation) - expected) < 0.05 * expected + 0.06
    # saboteur: jumps alone, as if walkers relaxed completely in between
    if decay:
        assert is_slow_driving(float(response.jumps) / exact) is False


def test_barriers_show():
    """Spins that flip once in 500 updates: a memory of 20 sees almost none of what they dissipate."""
    works, exact = spins(0.998, 200)
    ratio = float(booked(works, 10).excess_work) / exact
    assert is_slow_driving(ratio, 0.05) is False and ratio < 0.3


def test_violent_updates_show():
    """Two updates of ten units: the variance of the work has nothing to do with its excess."""
    works, exact = spins(0.0, 2, last=20.2)
    assert is_slow_driving(float(booked(works, 10).excess_work) / exact, 0.05) is False


def test_verdicts():
    assert is_slow_driving(1.0) and is_slow_driving(1.39, 0.001) and not is_slow_driving(1.5)
    assert is_slow_driving(0.69, 0.02) is None
    with pytest.raises(InputError, match="at least 1 update"):
        Response.open(3, memory=0)
