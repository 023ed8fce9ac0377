"""One PCD-k update of a large RBM: quasistatic with and without its ledger, and rbms (PyTorch) where it is installed.

The same work in one process: 784x500 units, 500 persistent chains, batch 500, k = 10 sweeps, centred gradient,
plain SGD, float32.
Correctness comes first: all candidates must agree on the gradient for given walkers, and their chains on the mean
activity after sampling. Compilation is timed apart. Rounds are interleaved; medians, spreads and ratios are printed.

    python -m benchmarks.rbm_update [--rounds 15] [--json]
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import quasistatic as qs
from benchmarks._rounds import arguments, first_calls, interleaved, report
from quasistatic._random import fold
from quasistatic.train.step import run_chunk

N_VISIBLE, N_HIDDEN, N_CHAINS, BATCH, K, RATE, N_UPDATES = 784, 500, 500, 500, 10, 0.05, 16


def main() -> None:
    options = arguments(__doc__, 15)
    rng = np.random.default_rng(0)
    data = (rng.random((BATCH, N_VISIBLE)) < rng.beta(0.5, 1.5, N_VISIBLE)).astype(np.float32)
    key = jax.random.key(0)
    rbm = qs.RBM.initialise(key, N_VISIBLE, N_HIDDEN, weight_scale=0.05, data=data)

    candidates = {"quasistatic": ledgered(key, rbm, data), "quasistatic without ledger": plain(key, rbm, data)}
    peer = rbms_update(rbm, data)
    if peer is not None:
        candidates["rbms"] = peer
    check_gradients(rbm, data)
    activity = first_calls(candidates)
    print({name: round(value, 5) for name, value in activity.items()})
    spread = max(activity.values()) - min(activity.values())
    assert spread < 5e-3, f"the candidates sample different laws: {activity}"

    report(interleaved(candidates, options.rounds, N_UPDATES), "quasistatic", as_json=options.json)


def ledgered(key, rbm, data):
    """The package's own training step (ledger, accounts, weights), without an auditor."""
    trainer = qs.pcd(
        qs.BlockGibbs(), optax.sgd(RATE), k=K, centred=True, n_walkers=N_CHAINS, batch_size=0, auditor_groups=0
    )
    start = trainer.init(key, rbm)
    x = jnp.asarray(data)
    state = {"now": start}

    def run() -> float:
        now = state["now"]
        stop = now.step + N_UPDATES
        state["now"] = jax.block_until_ready(run_chunk(trainer, now, x, stop))
        return float(state["now"].ensemble.x.mean())

    return run


def plain(key, rbm, data):
    """The same sampling and gradient functions with every potential, work and account left out."""
    x = jnp.asarray(data)
    uniform = jnp.full((BATCH,), 1.0 / BATCH)
    mean = jnp.full((N_CHAINS,), 1.0 / N_CHAINS)

    @eqx.filter_jit
    def run_updates(model, walkers, key):
        def update(i, carry):
            model, walkers = carry
            keys = jax.random.split(jax.random.fold_in(key, i), N_CHAINS)

            def chain(key_walker, v):
                def sweep(j, carry):
                    v, inputs = carry
                    h = model.hidden.sample(fold(key_walker, 2 * j), inputs)
                    v = model.visible.sample(fold(key_walker, 2 * j + 1), model.visible_inputs(h))
                    return v, model.hidden_inputs(v)

                return jax.lax.fori_loop(0, jnp.asarray(K), sweep, (v, model.hidden_inputs(v)))

            walkers, inputs = jax.vmap(chain)(keys, walkers)
            data_phase = model.weighted_gradient(x, uniform, 1.0)
            model_phase = model.weighted_gradient(walkers, mean, 1.0, inputs)
            gradient = model.centred(jax.tree.map(jnp.subtract, data_phase, model_phase), data_phase, model_phase, 1.0)
            return jax.tree.map(lambda p, g: p - RATE * g, model, gradient), walkers

        return jax.lax.fori_loop(0, jnp.asarray(N_UPDATES), update, (model, walkers))

    state = {"model": rbm, "walkers": rbm.base().sample_exact(key, 1.0, N_CHAINS), "n": 0}

    def run() -> float:
        key_run = jax.random.fold_in(key, state["n"])
        model, walkers = jax.block_until_ready(run_updates(state["model"], state["walkers"], key_run))
        state.update(model=model, walkers=walkers, n=state["n"] + 1)
        return float(walkers.mean())

    return run


def rbms_update(rbm, data):
    """rbms through its Python API: `fit_batch_pcd` and a torch SGD step."""
    try:
        import torch
        from rbms.bernoulli_bernoulli.classes import BBRBM
        from rbms.training.pcd import fit_batch_pcd
    except ImportError:
        print("rbms is not installed: pip install 'quasistatic[bench]' to compare")
        return None
    torch.set_num_threads(2)
    params = BBRBM(*(torch.tensor(np.asarray(a)) for a in (rbm.weights, rbm.visible_bias, rbm.hidden_bias)))
    optimiser = torch.optim.SGD(params.parameters(), lr=RATE, maximize=True)
    for parameter in params.parameters():
        parameter.grad = torch.zeros_like(parameter)
    batch = (torch.tensor(data), torch.ones(BATCH, 1))
    state = {"chains": params.init_chains(N_CHAINS)}

    def run() -> float:
        with torch.no_grad():
            for _ in range(N_UPDATES):
                optimiser.zero_grad(set_to_none=False)
                state["chains"], _ = fit_batch_pcd(batch, state["chains"], params, K, 1.0, centered=True)
                optimiser.step()
        return float(state["chains"]["visible"].mean())

    return run


def check_gradients(rbm, data) -> None:
    """The product-form gradient equals autodiff of the mean potential, and rbms' formula where present."""
    x = jnp.asarray(data[:50])
    weights = jnp.full((50,), 1.0 / 50)
    ours = rbm.weighted_gradient(x, weights, 1.0)
    reference = jax.grad(lambda m: jnp.sum(weights * jax.vmap(lambda v: m.reduced(v, 1.0))(x)))(rbm)
    error = max(
        float(jnp.abs(a - b).max()) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True)
    )
    assert error < 1e-5, f"gradient differs from autodiff by {error}"


if __name__ == "__main__":
    main()
