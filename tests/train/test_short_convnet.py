"""A ConvNet of short runs meets the data at `t = k`: the gap of the mean energy crosses zero there and goes on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic.datasets.labelled import labelled_digits
from quasistatic.energies import Potential, convnet, starts
from quasistatic.evaluate.sampling_time import Gap, followed
from quasistatic.thermo import Controls
from quasistatic.train import run_chunk

K, STEP, SIDE = 12, 0.03, 4


@pytest.mark.slow
def test_energy_of_a_convnet_crosses_that_of_the_data_at_k():
    """First all layers, then the last alone to its fixed point, where `<E>` of walkers and data must agree at `k`."""
    grey = 2 * labelled_digits().dataset.train.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, SIDE**2) - 1
    x = jnp.asarray(grey + 0.3 * np.random.default_rng(0).normal(size=grey.shape), float)
    start = starts.box(-1.0, 1.0, SIDE**2)
    model = convnet(
        jax.random.key(1), (SIDE, SIDE, 1), [(1, 8, 3, 1, 1), (8, 8, 3, 1, 1)], widths=(), scale=30.0,
        activation="leaky_relu",
    )  # fmt: skip

    def of_last(tree):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "last" if "layers" in jax.tree_util.keystr(path) else "rest", tree
        )

    def falling(rate, n):
        return optax.adam(optax.schedules.linear_schedule(rate, 0.0, n // 2, n // 2), b1=0.0, b2=0.99)

    plan = ((500, falling(1e-2, 500)), (1000, {"last": falling(1e-2, 1000), "rest": optax.set_to_zero()}))
    made = qs.short_run(
        qs.Langevin(), plan[0][1], start, k=K, first_step=4.0, n_walkers=512, auditor_groups=0, feedback="off",
        step_size=STEP, batch_size=0,
    )  # fmt: skip
    crossings = []
    for n, optimiser in plan:
        if isinstance(optimiser, dict):
            optimiser = optax.multi_transform(optimiser, of_last)
        made = dataclasses.replace(made, optimiser=optimiser)
        state = run_chunk(made, made.init(jax.random.key(n), model), x, jnp.asarray(n))
        assert int(state.result) == 0
        model = state.model
        crossings.append(gap_of(made, model, x, start).crossing())
    print("crossings after training all layers and the last one:", crossings)
    assert crossings[1] is not None and abs(crossings[1] - K) < 1
    assert crossings[0] is None or abs(crossings[0] - K) > abs(
        crossings[1] - K
    )  # away from the fixed point it need not


def gap_of(made, model, x, start) -> Gap:
    """`Delta(t)` of 8,000 new walkers under the protocol of the training."""
    potential, times = Potential(model, jnp.asarray(1.0)), [*range(1, 4 * K), 80]
    u_data = np.asarray(jax.lax.map(potential, x, batch_size=256), np.float64)
    walk = followed(
        jax.random.key(6), made.kernel, potential, start.sample_exact(jax.random.key(5), 1.0, 8000), times,
        Controls.of(step_size=STEP),
    )  # fmt: skip
    u = np.array([np.asarray(e.u, np.float64) for e in walk])
    return Gap(np.asarray(times), u.mean(1) - u_data.mean(), u.std(1) / np.sqrt(u.shape[1]))
