"""One Langevin step of a ConvNet energy, with its exact weights, against torchebm's Langevin sampler in PyTorch.

The same network (76,993 parameters, 28 x 28 images, SiLU), the same 256 walkers, step size and number of steps, two
threads, float32. Ours books heat, shadow work and log weights of every walker; the peer only moves.
Correctness comes first: energies and gradients of both networks agree on the same images, and so do the mean and the
spread of the energies after the moves. Rounds are interleaved; medians, spreads and the ratio are printed.

    python -m benchmarks.convnet_langevin [--rounds 9] [--json]
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import quasistatic as qs
from benchmarks._rounds import arguments, first_calls, interleaved, report
from quasistatic.energies.neural import ARCHITECTURES

N_WALKERS, STEP_SIZE, N_STEPS, SHAPE = 256, 1e-3, 20, (28, 28, 1)


def main() -> None:
    options = arguments(__doc__, 9)
    key = jax.random.key(0)
    energy = qs.convnet(key, SHAPE, scale=1.0)
    layer = energy.network.network.layers[-1]
    weight = 0.5 * jax.random.normal(key, layer.weight.shape)
    energy = eqx.tree_at(lambda e: e.network.network.layers[-1].weight, energy, weight)
    x = jax.random.normal(jax.random.key(1), (N_WALKERS, 784))

    candidates = {"quasistatic": langevin(energy, x)}
    peer = torchebm_langevin(energy, x)
    if peer is not None:
        candidates["torchebm"] = peer
    after = {name: np.asarray(moved) for name, moved in first_calls(candidates).items()}
    for name, moved in after.items():
        u = np.asarray(jax.vmap(energy)(jnp.asarray(moved)))
        print(f"{name:14s} energies after {N_STEPS} steps: mean {u.mean():.2f}, s.d. {u.std():.2f}")
    if peer is not None:
        ours, theirs = (np.asarray(jax.vmap(energy)(jnp.asarray(after[name]))) for name in candidates)
        error = np.hypot(ours.std(), theirs.std()) / np.sqrt(N_WALKERS)
        assert abs(ours.mean() - theirs.mean()) < 5 * error, "the samplers move differently"

    report(interleaved(candidates, options.rounds, N_STEPS), "quasistatic", as_json=options.json)


def langevin(energy, x):
    """Fused Langevin moves with books."""
    kernel = qs.Langevin(is_fused=True)
    potential = qs.Potential(energy, 1.0)
    start = qs.Ensemble.open(kernel, potential, x)
    controls = qs.Controls.of(step_size=STEP_SIZE)

    @eqx.filter_jit
    def run(energy, ensemble, key):
        def move(i, ensemble):
            return qs.advance(jax.random.fold_in(key, i), kernel, qs.Potential(energy, 1.0), ensemble, controls)[0]

        return jax.lax.fori_loop(0, jnp.asarray(N_STEPS), move, ensemble)

    return lambda: jax.block_until_ready(run(energy, start, jax.random.key(2))).x


def torchebm_langevin(energy, x):
    """torchebm's sampler on the same network written in PyTorch."""
    try:
        import torch
        from torchebm.core import BaseModel
        from torchebm.samplers import LangevinDynamics
    except ImportError:
        print("torchebm is not installed: pip install torchebm==0.8.9 to compare")
        return None
    torch.set_num_threads(2)
    network = energy.network.network  # inputs are standardised by a unit Gaussian: as they are

    class Energy(BaseModel):
        def __init__(self):
            super().__init__()
            parts = []
            for conv, (n_in, n_out, kernel, stride, padding) in zip(
                network.convolutions, ARCHITECTURES["mnist"], strict=True
            ):
                layer = torch.nn.Conv2d(n_in, n_out, kernel, stride, padding)
                layer.weight.data = torch.tensor(np.asarray(conv.weight).transpose(3, 2, 0, 1).copy())
                layer.bias.data = torch.tensor(np.asarray(conv.bias))
                parts += [layer, torch.nn.SiLU()]
            parts.append(torch.nn.Flatten())
            for i, dense in enumerate(network.layers):
                weight = np.asarray(dense.weight)
                if i == 0:  # our images are (height, width, channels), PyTorch's are (channels, height, width)
                    weight = weight.reshape(2, 2, 64, -1).transpose(2, 0, 1, 3).reshape(weight.shape)
                layer = torch.nn.Linear(*weight.shape)
                layer.weight.data = torch.tensor(weight.T.copy())
                layer.bias.data = torch.tensor(np.asarray(dense.bias))
                parts += [layer, torch.nn.SiLU()]
            self.network = torch.nn.Sequential(*parts[:-1])

        def forward(self, x):
            return 0.5 * (x**2).flatten(1).sum(1) + self.network(x.reshape(-1, 1, 28, 28)).squeeze(1)

    model = Energy()
    images = torch.tensor(np.asarray(x), requires_grad=True)
    u = model(images)
    (gradient,) = torch.autograd.grad(u.sum(), images)
    ours = jax.vmap(jax.value_and_grad(energy))(x)
    np.testing.assert_allclose(u.detach().numpy(), ours[0], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(gradient.numpy(), ours[1], rtol=1e-3, atol=1e-4)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    sampler = LangevinDynamics(model, step_size=STEP_SIZE, noise_scale=1.0)
    start = images.detach()
    return lambda: sampler.sample(x=start.clone(), n_steps=N_STEPS).detach().numpy()


if __name__ == "__main__":
    main()
