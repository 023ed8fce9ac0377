"""Families whose walkers are a whole grid with exact weights: learning in the limit of infinitely many walkers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import quasistatic as qs
from quasistatic.metric import scores_of

GRID = np.linspace(-4.0, 4.0, 161)
BETA = 0.8


class Quartic(qs.AbstractEnergy):
    """`E = t1 x + t2 x^2 / 2 + x^4 / 4`."""

    theta: Any

    def __call__(self, x):
        return self.theta[0] * x[0] + self.theta[1] * x[0] ** 2 / 2 + x[0] ** 4 / 4


class Bent(qs.AbstractEnergy):
    """The same family in parameters `psi` with `t1 = psi1 exp(psi2 / 2)`, `t2 = 2 psi2 + psi1^2 / 2`."""

    psi: Any

    @property
    def theta(self):
        return jnp.stack([self.psi[0] * jnp.exp(self.psi[1] / 2), 2 * self.psi[1] + self.psi[0] ** 2 / 2])

    def __call__(self, x):
        return Quartic(self.theta)(x)


def weights_of(energy, beta=BETA):
    """Law of the model on the grid."""
    u = jax.vmap(lambda x: energy.reduced(x, beta))(jnp.asarray(GRID)[:, None])
    return jax.nn.softmax(-u)


def exact_scores(energy, target, beta=BETA):
    """Scores with all grid points as walkers and as data, at the weights of model and target."""
    x = jnp.asarray(GRID)[:, None]
    return scores_of(qs.Potential(energy, beta), x, x, weights_of(energy, beta), weights_of(target, beta))


def relative_entropy(energy, target, beta=BETA):
    """`KL(target || model)` on the grid, nats."""
    p, q = weights_of(target, beta), weights_of(energy, beta)
    return jnp.sum(p * jnp.log(p / q))
