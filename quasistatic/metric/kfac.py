"""K-FAC for neural energies: one Kronecker product per layer, centred.

A layer `s = a W` with the signal `g = du/ds` has rows `a g'`, hence, if `a` and `g` were independent,

    Cov(rows) ~ A (x) B - vec(G) vec(G)',     A = E[a a'],  B = E[g g'],  G = E[a g'] ,

where the last term centres the covariance: an energy's mean gradient does not vanish as that of a log-likelihood
does. With damped factors `A + p sqrt(l)`, `B + sqrt(l) / p`, `p^2 = (tr A / dim A) / (tr B / dim B)`, a gradient `V` is
solved for by

    Y = A^-1 V B^-1,   Z = A^-1 G B^-1,   d = Y + Z <G, Y> / (1 - <G, Z>)

(Sherman-Morrison); the correction needs `<G, Z> < 1` and is left out where the factors do not give that. Biases are
an input that is always 1. A convolution sums its positions: `A` of all of them, `B` their mean.

Reference:
    Martens and Grosse, ICML 2015 (arXiv 1503.05671); Grosse and Martens, ICML 2016 (arXiv 1602.01407) (convolutions).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Float

from quasistatic._types import ScalarLike
from quasistatic.energies.networks import Network
from quasistatic.energies.neural import Neural, Seeing
from quasistatic.errors import InputError
from quasistatic.metric.scores import AbstractScores, Metric


class Factors(eqx.Module):
    """Kronecker factors of one layer.

    Args:
        inputs: `A`, with a last row and column for the bias.
        signals: `B`.
        mean: `G`, the mean row.
    """

    inputs: Float[Array, "n_in n_in"]
    signals: Float[Array, "n_out n_out"]
    mean: Float[Array, "n_in n_out"]


def factors(scores: AbstractScores, metric: Metric = "pooled") -> list[Factors]:
    """Factors of every layer, convolutions first.

    Args:
        scores: rows of walkers and data, of a `Neural` energy with a `Network`.
        metric: rows that the metric is made of.

    Raises:
        InputError: another energy.
    """
    energy = scores.energy
    seeing = energy.network if isinstance(energy, Neural) else None
    if not (isinstance(seeing, Seeing) and isinstance(seeing.network, Network)):
        raise InputError(f"K-FAC is for networks (mlp, convnet), got {type(energy).__name__}; use solver = 'samples'")
    network, q, beta = seeing.network, scores.pool(metric), scores.beta
    seen = jax.vmap(seeing.inputs)(scores.x)
    shapes = jax.eval_shape(lambda x: _outputs(network, x), seen[0])
    zeros = [jnp.zeros(shape.shape, scores.x.dtype) for shape in shapes]

    def one(x: Array) -> tuple[list[Array], list[Array]]:
        signals, inputs = jax.grad(lambda shifts: network.traced(x, shifts), has_aux=True)(zeros)
        inputs = [jnp.concatenate([a, jnp.ones((len(a), 1), a.dtype)], axis=1) for a in inputs]
        return inputs, [beta * g.reshape(-1, g.shape[-1]) for g in signals]

    all_inputs, all_signals = jax.vmap(one)(seen)
    return [
        Factors(
            jnp.einsum("n,nti,ntj->ij", q, a, a),
            jnp.einsum("n,nti,ntj->ij", q, g, g) / a.shape[1],
            jnp.einsum("n,nti,ntj->ij", q, a, g),
        )
        for a, g in zip(all_inputs, all_signals, strict=True)
    ]


def step(scores: AbstractScores, damping: ScalarLike, *, metric: Metric = "pooled") -> Any:
    """Step of every layer with its own factors.

    Args:
        scores: as for `factors`.
        damping: `l`, nats per squared parameter.
        metric: rows that the metric is made of.
    """
    found = factors(scores, metric)
    gradient = scores.gradient()
    network: Network = gradient.network.network
    layers, new = (*network.convolutions, *network.layers), []
    for layer, own in zip(layers, found, strict=True):
        flat = layer.weight.reshape(-1, layer.weight.shape[-1])
        d = solve_factors(own, jnp.concatenate([flat, layer.bias[None]]), damping)
        new += [d[:-1].reshape(layer.weight.shape), d[-1]]
    n_convolutions, n_layers = len(network.convolutions), len(network.layers)

    def arrays(tree: Any) -> list[Any]:
        both = [tree.network.network.convolutions[i] for i in range(n_convolutions)]
        both += [tree.network.network.layers[i] for i in range(n_layers)]
        return [part for layer in both for part in (layer.weight, layer.bias)]

    return eqx.tree_at(arrays, gradient, new)


def solve_factors(
    own: Factors, gradient: Float[Array, "n_in n_out"], damping: ScalarLike
) -> Float[Array, "n_in n_out"]:
    """`[A (x) B - vec(G) vec(G)']^-1 vec(V)` with damped factors.

    Args:
        own: factors of the layer.
        gradient: `V`, the bias in its last row.
        damping: `l`; positive.
    """
    balance = jnp.sqrt((jnp.trace(own.inputs) / len(own.inputs)) / (jnp.trace(own.signals) / len(own.signals)))
    # a layer that receives no signal (or no input) leaves the damping to the factors in equal parts
    balance = jnp.where(jnp.isfinite(balance) & (balance > 0), balance, 1.0)
    root = jnp.sqrt(damping)
    a = cho_factor(own.inputs + balance * root * jnp.eye(len(own.inputs), dtype=own.inputs.dtype), lower=True)
    b = cho_factor(own.signals + root / balance * jnp.eye(len(own.signals), dtype=own.signals.dtype), lower=True)

    def inverse(v: Array) -> Array:
        return cho_solve(b, cho_solve(a, v).T).T

    y, z = inverse(gradient), inverse(own.mean)
    left = 1.0 - jnp.sum(own.mean * z)
    return y + jnp.where(left > 0, jnp.sum(own.mean * y) / jnp.where(left > 0, left, 1.0), 0.0) * z


def _outputs(network: Network, x: Array) -> list[Array]:
    """Arrays shaped like the outputs of the layers."""
    shapes = []
    if network.shape is not None:
        size = network.shape[:2]
        for convolution in network.convolutions:
            size = tuple(convolution.out_size(n) for n in size)
            shapes.append((*size, convolution.weight.shape[-1]))
    shapes += [(layer.weight.shape[-1],) for layer in network.layers]
    return [jnp.zeros(shape, x.dtype) for shape in shapes]
