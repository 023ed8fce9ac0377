"""Small models for the tests of this folder, ugly on purpose, and what NumPy says about them."""

import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from quasistatic.energies import RBM, Pairwise, complete_graph, square_lattice, units
from tests.laws import enumeration

BETA = 0.7


def rbm(n_visible=5, n_hidden=3, visible="binary", hidden="binary", scale=1.0, dtype=None) -> RBM:
    """Skewed RBM whose last visible unit is isolated."""
    i, j = np.arange(n_visible)[:, None], np.arange(n_hidden)[None, :]
    weights = scale * np.sin(1.0 + 1.3 * i + 2.0 * j + 0.4 * i * j) * (i < n_visible - 1)
    b, c = 0.6 * np.cos(2.0 * i[:, 0]) - 0.3, 0.2 - 0.7 * np.sin(j[0] + 0.5)
    parameters = (jnp.asarray(a, dtype) for a in (weights, b, c))
    return RBM(*parameters, units(visible, n_visible), units(hidden, n_hidden))


def pairwise(kind="spin", graph="complete", n=6, scale=0.5) -> Pairwise:
    """Frustrated pairwise model: all pairs, or a 2 x (n // 2) lattice (an odd unit stays isolated)."""
    edges = complete_graph(n) if graph == "complete" else square_lattice(2, n // 2, periodic=False)
    couplings = scale * np.sin(1.0 + 1.7 * np.arange(len(edges)))
    fields = 0.5 * np.cos(2.0 * np.arange(n)) - 0.2
    return Pairwise(jnp.asarray(fields), jnp.asarray(couplings), jnp.asarray(edges), units(kind, n))


def kind_of(layer) -> str:
    """Unit type by name."""
    return "binary" if layer.levels[0] == 0 else "spin"


def reduced(model, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """All visible states of a model and their reduced potentials, by NumPy."""
    if isinstance(model, RBM):
        v = enumeration.states(kind_of(model.visible), model.visible.size)
        h = enumeration.states(kind_of(model.hidden), model.hidden.size)
        joint = enumeration.rbm_joint(model.weights, model.visible_bias, model.hidden_bias, v, h)
        return v, -logsumexp(-beta * joint, axis=1)
    x = enumeration.states(kind_of(model.units), model.units.size)
    return x, beta * enumeration.pairwise(model.fields, model.couplings, model.edges, x)
