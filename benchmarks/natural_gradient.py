"""A natural-gradient update of a large RBM beside a plain PCD-10 update.

784x500 units, 500 walkers and 500 samples, centred, float32: the metric is the covariance of 1,000 rows of 392,000
parameters, handled by products alone. Correctness comes first: the step must solve its own linear system, checked
with products that share nothing with the Gram matrix. Rounds are interleaved; medians, spreads and ratios are printed.

    python -m benchmarks.natural_gradient [--rounds 15] [--json]

The data are binary MNIST where QUASISTATIC_DATA has it (later updates, of a trained model, are the badly conditioned
ones), else random pixels.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import quasistatic as qs
from benchmarks._rounds import arguments, first_calls, interleaved, report
from quasistatic.datasets import mnist
from quasistatic.errors import InputError
from quasistatic.metric import natural_gradient, scores_of, solve
from quasistatic.train.step import run_chunk

N_VISIBLE, N_HIDDEN, N_ROWS, N_UPDATES, N_WARM = 784, 500, 500, 6, 60
DAMPING = 1.0


def main() -> None:
    options = arguments(__doc__, 15)
    data = pixels()
    key = jax.random.key(0)
    rbm = qs.RBM.initialise(key, N_VISIBLE, N_HIDDEN, data=np.asarray(data))

    warm = trainer(natural_gradient(2.0, damping=DAMPING), 2)
    state = run_chunk(warm, warm.init(key, rbm), data, jnp.asarray(N_WARM, jnp.int32))
    check_step(state, data)
    candidates = {
        "PCD-10": run_of(trainer(optax.sgd(0.05), 10), key, state.model, data),
        "PCD-2": run_of(trainer(optax.sgd(0.05), 2), key, state.model, data),
        "natural, 10 sweeps": run_of(trainer(natural_gradient(2.0, damping=DAMPING), 10), key, state.model, data),
        "natural, 2 sweeps": run_of(trainer(natural_gradient(2.0, damping=DAMPING), 2), key, state.model, data),
    }
    first_calls(candidates)
    report(interleaved(candidates, options.rounds, N_UPDATES), "PCD-10", as_json=options.json)


def pixels():
    """Binary MNIST, or random pixels of MNIST's size."""
    try:
        return jnp.asarray(mnist(None, binary=True).train, jnp.float32)
    except InputError:
        rng = np.random.default_rng(0)
        print("MNIST is not there (QUASISTATIC_DATA): random pixels instead")
        return jnp.asarray(rng.random((10 * N_ROWS, N_VISIBLE)) < rng.beta(0.5, 1.5, N_VISIBLE), jnp.float32)


def trainer(optimiser, n_sweeps):
    """The package's own training step with its ledger, without an auditor."""
    return qs.pcd(
        qs.BlockGibbs(), optimiser, k=n_sweeps, centred=True, n_walkers=N_ROWS, batch_size=N_ROWS, auditor_groups=0
    )


def run_of(chosen, key, model, data):
    state = {"now": chosen.init(key, model)}

    def run() -> None:
        now = state["now"]
        state["now"] = jax.block_until_ready(run_chunk(chosen, now, data, now.step + N_UPDATES))

    return run


def check_step(state, data) -> None:
    """`(F + damping) d = g`, by two passes over the rows."""
    uniform = jnp.full((N_ROWS,), 1.0 / N_ROWS)
    potential = qs.Potential(state.model, 1.0)
    scores = scores_of(potential, state.ensemble.x, data[:N_ROWS], uniform, uniform, is_centred=True)

    @jax.jit
    def errors(scores):
        d, g = solve.samples(scores, DAMPING), scores.gradient()
        applied = scores.apply_metric(scores.pool(), d)
        left = jax.tree.map(lambda f, r: f + DAMPING * r, applied, scores.to_gradient(d))
        return optax.tree.norm(jax.tree.map(jnp.subtract, left, g)) / optax.tree.norm(g)

    error = float(errors(scores))
    print(f"relative residual of the step {error:.1e}")
    assert error < 1e-3, f"the step does not solve its equations: residual {error}"


if __name__ == "__main__":
    main()
