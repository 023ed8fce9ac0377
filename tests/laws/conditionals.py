"""Transition matrices of Gibbs moves, built from the package's own conditionals."""

import jax
import jax.numpy as jnp
import numpy as np

from quasistatic.energies import RBM, Pairwise, Potential
from tests.laws import enumeration
from tests.laws.battery import quick_jit


def block_gibbs(rbm: RBM, beta: float, v: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Matrix of one block-Gibbs sweep over the visible states `v`, given all hidden states `h`."""
    return np.asarray(_block_gibbs(rbm, jnp.asarray(beta), jnp.asarray(v), jnp.asarray(h)))


@quick_jit
def _block_gibbs(rbm, beta, v, h):
    def conditional(layer, natural, states):
        return jnp.exp(natural @ states.T - jax.vmap(layer.cgf)(natural).sum(1, keepdims=True))

    up = jax.vmap(lambda x: rbm.hidden_natural(rbm.hidden_inputs(x), beta))(v)
    down = jax.vmap(lambda x: rbm.visible_natural(rbm.visible_inputs(x), beta))(h)
    return conditional(rbm.hidden, up, h) @ conditional(rbm.visible, down, v)


@quick_jit
def _probability_high(model, beta, x):
    """Probability that each unit takes its upper state, given all others, for every state."""
    low, high = model.units.levels
    natural = jax.vmap(lambda a: beta * model.units.natural(model.local_fields(a)))(x)
    return (jax.vmap(model.units.mean)(natural) - low) / (high - low)


@quick_jit
def _probability_high_by_flips(potential, levels, x):
    low, high = levels
    u = jax.vmap(potential)

    def site(i):
        return jax.nn.sigmoid(u(x.at[:, i].set(low)) - u(x.at[:, i].set(high)))

    return jnp.stack([site(i) for i in range(x.shape[1])], 1)


def single_sites(potential: Potential, units: str, n: int) -> list[np.ndarray]:
    """Matrix of the heat bath of each unit: from local fields where the model has them, else from potentials."""
    x = enumeration.states(units, n)
    if isinstance(potential.energy, Pairwise):
        high = np.asarray(_probability_high(potential.energy, potential.beta, jnp.asarray(x)))
    else:
        high = np.asarray(_probability_high_by_flips(potential, enumeration.LEVELS[units], jnp.asarray(x)))
    matrices = []
    for i in range(n):
        matrix = np.zeros((len(x), len(x)))
        for level, probability in zip(enumeration.LEVELS[units], (1 - high[:, i], high[:, i]), strict=True):
            target = x.copy()
            target[:, i] = level
            matrix[np.arange(len(x)), enumeration.index_of(target, units)] += probability
        matrices.append(matrix)
    return matrices
