"""A driver annealed anew: right weights whatever happened before, and a training that goes on."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import quasistatic as qs
from quasistatic.evaluate.exact import log_partition_exact
from quasistatic.train import renew, run_chunk

DATA = jnp.asarray(np.random.default_rng(0).random((60, 5)) < np.array([0.2, 0.4, 0.5, 0.7, 0.9]), float)
N_GROUPS = 16


def test_spoiled_weights_are_forgotten():
    """Walkers all alike, with an offset in their books: renewed ones know the exact `log Z` and the exact means."""
    model = qs.RBM.initialise(jax.random.key(0), 5, 3, weight_scale=0.1, data=DATA)
    trainer = qs.jarzynski(
        qs.BlockGibbs(), optax.sgd(0.05), n_walkers=64 * N_GROUPS, n_groups=N_GROUPS, auditor_groups=0
    )
    state = run_chunk(trainer, trainer.init(jax.random.key(1), model), DATA, jnp.asarray(40, jnp.int32))
    offset = eqx.tree_at(lambda s: s.ensemble.log_z.hi, state, state.ensemble.log_z.hi + 3.0)
    exact = log_partition_exact(state.model, 1.0)
    assert exact is not None
    fresh = renew(jax.random.key(2), trainer, offset, n_temperatures=30)

    def distance(ensemble) -> float:
        groups = np.asarray(ensemble.log_partition_groups())
        return abs(groups.mean() - exact) / (groups.std(ddof=1) / np.sqrt(N_GROUPS))

    assert distance(fresh.ensemble) < 4.5
    assert distance(offset.ensemble) > 10  # the state it started from fails the same check
    assert int(fresh.step) == 40 and float(fresh.feedback.bias.value) == 0.0
    for a, b in zip(jax.tree.leaves(fresh.model), jax.tree.leaves(state.model), strict=True):
        np.testing.assert_array_equal(a, b)
    # training goes on from there with closed books
    later = run_chunk(trainer, fresh, DATA, jnp.asarray(60, jnp.int32))
    account = later.ensemble.account
    gained = account.work.value + account.heat.value + account.shadow_work.value
    np.testing.assert_allclose(later.ensemble.u - account.u_start, gained, atol=1e-10)
    later_exact = log_partition_exact(later.model, 1.0)
    groups = np.asarray(later.ensemble.log_partition_groups())
    assert later_exact is not None
    assert abs(groups.mean() - later_exact) < 5 * groups.std(ddof=1) / np.sqrt(N_GROUPS) + 0.02
