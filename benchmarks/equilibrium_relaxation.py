"""One free and one nudged relaxation of a 784-512-512-10 Hopfield network against PyTorch, and against its matmuls.

Batch 128, temperature zero, even and odd layers in turn, float32, 20 free and 10 nudged sweeps. Both sides
compute the product with the constant inputs once. Correctness comes first: the states after the relaxations agree. The
third candidate makes the same matrix products and nothing else; it bounds what is left to gain.

    python -m benchmarks.equilibrium_relaxation [--rounds 15] [--json]
"""

import os

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._rounds import arguments, first_calls, interleaved, report
from quasistatic.energies import SquaredError, hopfield
from quasistatic.kernels import Nudge, settle

SIZES, BATCH, N_FREE, N_NUDGED, NUDGE, N_PER_CALL = (784, 512, 512, 10), 128, 20, 10, 0.2, 5


def main() -> None:
    options = arguments(__doc__, 15)
    rng = np.random.default_rng(0)
    network = hopfield(jax.random.key(0), SIZES)
    x = jnp.asarray(rng.random((BATCH, 784)), jnp.float32)
    y = jnp.asarray(np.eye(10)[rng.integers(0, 10, BATCH)], jnp.float32)

    candidates = {"quasistatic": ours(network, x, y), "its matmuls alone": matmuls(network, x)}
    peer = torch_relaxation(network, x, y)
    if peer is not None:
        candidates["PyTorch, same updates"] = peer
    after = first_calls(candidates)
    if peer is not None:
        for mine, theirs in zip(after["quasistatic"], after["PyTorch, same updates"], strict=True):
            np.testing.assert_allclose(np.asarray(mine), np.asarray(theirs), atol=2e-5)
        print("free and nudged states agree")
    report(interleaved(candidates, options.rounds, N_PER_CALL), "quasistatic", as_json=options.json)


def ours(network, x, y):
    """`settle`, free and nudged."""

    @jax.jit
    def run(network, x, y):
        drive = jax.vmap(network.drive)(x)
        free, _ = settle(None, network, network.zeros(BATCH), drive, n_sweeps=N_FREE)
        nudged, _ = settle(None, network, free, drive, Nudge(SquaredError(), y, NUDGE), n_sweeps=N_NUDGED)
        return (*free, *nudged)

    def call():
        for _ in range(N_PER_CALL):
            found = jax.block_until_ready(run(network, x, y))
        return found

    return call


def matmuls(network, x):
    """The products of the relaxations without what happens to their results."""
    w0, w1, w2 = (interaction.weight for interaction in network.interactions)

    @jax.jit
    def run(x, w0, w1, w2):
        drive = x @ w0

        def products(_, carry):
            h1, h2, o = carry
            # results are used as they are, so that no product can be left out
            o = h2 @ w2
            h1 = h2 @ w1.T
            return h1, h1 @ w1 + o @ w2.T, o

        return jax.lax.fori_loop(0, N_FREE + N_NUDGED, products, (drive, drive, drive[:, :10]))

    def call():
        for _ in range(N_PER_CALL):
            found = jax.block_until_ready(run(x, w0, w1, w2))
        return found

    return call


def torch_relaxation(network, x, y):
    """The same updates in PyTorch, eager, in place where it helps, the product with the inputs made once."""
    try:
        import torch
    except ImportError:
        print("torch is not installed: pip install torch to compare")
        return None
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    w0, w1, w2 = (torch.tensor(np.asarray(i.weight)) for i in network.interactions)
    b0, b1, b2 = (torch.tensor(np.asarray(b)) for b in network.biases)
    inputs, target = torch.tensor(np.asarray(x)), torch.tensor(np.asarray(y))

    def sweeps(h1, h2, o, drive, n, nudge):
        for _ in range(n):
            o = (torch.addmm(b2, h2, w2) + nudge * target) / (1 + nudge) if nudge else torch.addmm(b2, h2, w2)
            h1 = torch.addmm(drive, h2, w1.T).clamp_(0, 1)
            h2 = torch.addmm(b1, h1, w1).addmm_(o, w2.T).clamp_(0, 1)
        return h1, h2, o

    def call():
        with torch.inference_mode():
            for _ in range(N_PER_CALL):
                drive = torch.addmm(b0, inputs, w0)
                start = (torch.zeros(BATCH, 512), torch.zeros(BATCH, 512), torch.zeros(BATCH, 10))
                free = sweeps(*start, drive, N_FREE, 0.0)
                nudged = sweeps(*free, drive, N_NUDGED, NUDGE)
        return [part.numpy() for part in (*free, *nudged)]

    return call


if __name__ == "__main__":
    main()
