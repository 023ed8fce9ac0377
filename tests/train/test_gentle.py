"""Updates shortened to keep the driver's effective sample size, sweeps added, and resampling in order of potential."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic._numerics import TwoFloat
from quasistatic.errors import InputError
from quasistatic.regulators import Reading
from quasistatic.thermo import Ensemble
from quasistatic.train.step import run_chunk


def gaussian_ensemble(key, beta, n=200_000):
    """Exact walkers of a Gaussian with precision `diag(4, 1/4)`."""
    energy = qs.Gaussian(jnp.zeros(2), jnp.diag(jnp.asarray([2.0, 0.5])))
    potential = qs.Potential(energy, beta)
    x = energy.sample_exact(key, beta, n)
    return potential, Ensemble.open(qs.Langevin(), potential, x, log_z=energy.log_partition(beta), n_groups=2)


@pytest.mark.parametrize("beta", [1.0, 0.6])
@pytest.mark.parametrize("shift, fraction", [(0.05, 0.9), (1.0, 0.9), (3.0, 0.5), (0.4, 0.97)])
def test_the_scale_is_that_of_the_exact_loss(shift, fraction, beta, key):
    """A mean shift `d` leaves the fraction `exp(-beta d' K d)`: the first halving that keeps enough is known."""
    potential, ensemble = gaussian_ensemble(key, beta)
    update = eqx.tree_at(lambda e: e.mean, jax.tree.map(jnp.zeros_like, potential.energy), jnp.asarray([shift, 0.0]))
    exact = 1.0
    while np.exp(-beta * 4 * (exact * shift) ** 2) < fraction:
        exact /= 2
    margin = abs(np.exp(-beta * 4 * (exact * shift) ** 2) - fraction)
    assert margin > 0.005, "choose numbers that are not on the edge"
    assert float(qs.KeepESS(fraction).scale(potential, update, ensemble)) == exact


def test_an_update_that_is_not_finite_is_shortened_as_far_as_allowed(key):
    potential, ensemble = gaussian_ensemble(key, 1.0, 100)
    update = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), potential.energy)
    assert float(qs.KeepESS(0.9, max_trials=3).scale(potential, update, ensemble)) == 0.125


DESCENT = optax.sgd(3.0)


def kept(fraction, n_steps=15):
    """Fractions of the effective sample size that the updates of a training left."""
    x = (np.random.default_rng(0).random((200, 8)) < np.linspace(0.1, 0.9, 8)).astype(np.float32)
    model = qs.RBM.initialise(jax.random.key(1), 8, 4, weight_scale=0.3, data=x)
    trainer = qs.jarzynski(
        qs.BlockGibbs(), DESCENT, n_walkers=256, auditor_groups=0, keep_ess=qs.KeepESS(0.5), resample_below=0.3,
        batch_size=20,
    )  # fmt: skip
    trainer = eqx.tree_at(lambda t: t.keep_ess.fraction, trainer, jnp.asarray(fraction))  # one program for all
    state = trainer.init(jax.random.key(2), model)
    ratios = []
    for step in range(n_steps):
        before = state
        state = run_chunk(trainer, state, jnp.asarray(x), jnp.asarray(step + 1, jnp.int32))
        ess = float(before.ensemble.ess()[0])
        # a population that was resampled before this update began it with equal weights
        ratios.append(float(state.ensemble.ess()[0]) / (1.0 if ess < 0.3 else ess))
    assert int(state.step) == n_steps and int(state.result) == 0
    return np.array(ratios)


def test_a_training_keeps_what_it_promised():
    """Bounded at every update with the rule; with one that allows anything (the saboteur) most is lost at once."""
    gentle = kept(0.9)
    assert gentle.min() >= 0.9 - 1e-9 and gentle.min() < 0.99  # binding, and kept
    assert kept(0.0).min() < 0.5


def test_sweeps_follow_the_effective_sample_size(key):
    potential, ensemble = gaussian_ensemble(key, 1.0, 10)
    rule = qs.Sweeps(low=0.5, high=0.8, n_min=1, n_max=6, every=2)

    def after(n_sweeps, ess, step=4):
        reading = Reading(jnp.asarray(step), jnp.asarray(ess), jnp.asarray(0.0), jnp.asarray(0.0))
        controls = qs.Controls.of(n_sweeps=n_sweeps)
        controls, same, _ = rule.update(key, reading, potential, qs.Langevin(), ensemble.x, ensemble, controls, None)
        assert same is ensemble and controls.n_sweeps.dtype == jnp.int32
        return int(controls.n_sweeps)

    assert [after(1, 0.1), after(2, 0.1), after(4, 0.1)] == [2, 4, 6]
    assert [after(4, 0.9), after(1, 0.9), after(4, 0.6)] == [3, 1, 4]
    assert after(2, 0.1, step=5) == 2


def two_modes(n=400):
    """Walkers of two kinds, interleaved, told apart by their potential; weights are noise."""
    kind = jnp.arange(n) % 2
    energy = qs.as_energy(lambda x: 5.0 * x[0])
    ensemble = Ensemble.open(qs.Langevin(), qs.Potential(energy, 1.0), kind[:, None].astype(float), log_z=0.0)
    return ensemble, kind


def test_order_keeps_the_books_and_the_offspring(key):
    """Sorted or not: continuous log Z, floor or ceil of `n w` offspring, caches that belong to their walkers."""
    ensemble, _ = two_modes()
    noise = TwoFloat.zeros(ensemble.u.shape, ensemble.u.dtype).add(jax.random.normal(key, ensemble.u.shape))
    x = ensemble.x + 1e-3 * jnp.arange(400.0)[:, None]
    ensemble = eqx.tree_at(lambda e: (e.account.log_weight, e.x), ensemble, (noise, x))
    w = 400 * np.asarray(ensemble.weights())
    for is_sorted in (False, True):
        after, n = ensemble.resampled(key, below=2.0, is_sorted=is_sorted)
        assert int(n) == 1
        np.testing.assert_allclose(after.log_partition_groups(), ensemble.log_partition_groups(), atol=1e-12)
        counts = np.bincount(np.searchsorted(np.sort(x[:, 0]), np.asarray(after.x[:, 0])), minlength=400)
        counts = counts[np.argsort(np.argsort(np.asarray(x[:, 0])))]
        assert np.all(np.abs(counts - w) < 1)
        # the modes' own counts: exact to one walker only when the line is in order
        mode = np.asarray(after.x[:, 0]) > 0.9
        excess = abs(mode.sum() - w[np.asarray(x[:, 0]) > 0.9].sum())
        assert not is_sorted or excess < 1


def test_order_stops_the_drift():
    """The walkers of a mode do not change in number by more than their weights say, over many events."""
    ensemble, _ = two_modes()

    @functools.partial(jax.jit, static_argnums=1)
    def error(key, is_sorted):
        noise = TwoFloat.zeros(ensemble.u.shape, ensemble.u.dtype).add(jax.random.normal(key, ensemble.u.shape))
        noisy = eqx.tree_at(lambda e: e.account.log_weight, ensemble, noise)
        after, _ = noisy.resampled(key, below=2.0, is_sorted=is_sorted)
        return after.x.sum() - 400 * noisy.weights() @ noisy.x[:, 0]

    keys = jax.random.split(jax.random.key(3), 100)
    sizes = {is_sorted: np.std([error(key, is_sorted) for key in keys]) for is_sorted in (False, True)}
    assert sizes[True] < 1 < 2 * sizes[True] + 1 < sizes[False]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: qs.KeepESS(1.0), "strictly between"),
        (lambda: qs.KeepESS(0.9, max_trials=0), "max_trials"),
        (lambda: qs.Sweeps(n_min=3, n_max=2), "n_min <= n_max"),
        (lambda: qs.Sweeps(low=0.9, high=0.5), "low <= high"),
    ],
)
def test_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
