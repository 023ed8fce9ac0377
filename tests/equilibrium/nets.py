"""Networks A, B and C of the acceptance table, and their laws by enumeration in NumPy: no JAX below the models."""

import itertools

import jax.numpy as jnp
import numpy as np

from quasistatic.energies import Binary, Declared, Example, Layered, Pairwise, Spin
from quasistatic.energies.interactions import Dense


class Enumerated:
    """All states of a spin network `E = PHI theta` with a cost: exact means, free energies and gradients.

    Args:
        n: number of spins.
        scale: factor on the couplings.
        outputs: positions of the output, from zero.
        target: target of the output.
    """

    def __init__(self, n, scale, outputs, target):
        i = np.arange(1, n + 1)
        pairs = np.stack(np.triu_indices(n, 1), 1)
        couplings = scale * np.sin(1.3 * i[pairs[:, 0]] + 2.7 * i[pairs[:, 1]])
        fields = 0.3 * np.cos(1.1 * i)
        self.theta = np.concatenate([couplings, fields])
        self.states = np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
        products = self.states[:, pairs[:, 0]] * self.states[:, pairs[:, 1]]
        self.statistic = -np.concatenate([products, self.states], 1)
        self.outputs, self.target = outputs, np.asarray(target)
        self.cost = 0.5 * ((self.states[:, outputs] - self.target) ** 2).sum(1)
        self.energy = self.statistic @ self.theta
        model = Pairwise(jnp.asarray(fields), jnp.asarray(couplings), jnp.asarray(pairs.astype(np.int32)), Spin(n))
        self.network = Declared(model, outputs, levels=(-1.0, 1.0))
        self.example = Example(None, jnp.asarray(self.target))

    def free_energy(self, nudge, temperature, theta=None):
        energy = self.energy if theta is None else self.statistic @ theta
        v = -(energy + nudge * self.cost) / temperature
        top = v.real.max()
        return -temperature * (top + np.log(np.exp(v - top).sum()))

    def law(self, nudge, temperature):
        v = -(self.energy + nudge * self.cost) / temperature
        w = np.exp(v - v.max())
        return w / w.sum()

    def delta_a(self, nudge, temperature, theta=None):
        return self.free_energy(nudge, temperature, theta) - self.free_energy(0.0, temperature, theta)

    def slope(self, function, step=1e-150):
        """Gradient in theta by complex steps: exact to rounding, and knows nothing of contrasts."""
        out = np.empty(self.theta.size)
        for k in range(out.size):
            theta = self.theta.astype(complex)
            theta[k] += 1j * step
            out[k] = function(theta).imag / step
        return out

    def mean_cost(self, nudge, temperature, theta=None):
        energy = self.energy if theta is None else self.statistic @ theta
        v = -(energy + nudge * self.cost) / temperature
        w = np.exp(v - v.real.max())
        return (w @ self.cost) / w.sum()


def net_a():
    """12 spins, outputs 10, 11, 12."""
    return Enumerated(12, 0.5, [9, 10, 11], (1.0, -1.0, 1.0))


def net_b():
    """6 spins, outputs 5, 6; used at T = 0.7 and nudge 1.5."""
    return Enumerated(6, 0.6, [4, 5], (1.0, -1.0))


def net_c():
    """Layered {0, 1} network 3-4-2 with its example, and all its 64 states."""
    i, j, k = np.arange(1, 4), np.arange(1, 5), np.arange(1, 3)
    first = 0.7 * np.sin(i[:, None] + 2.0 * j)
    second = 0.9 * np.cos(1.5 * j[:, None] - 0.7 * k)
    biases = (jnp.asarray([-0.1, 0.0, 0.1, 0.2]), jnp.asarray([-0.1, 0.2]))
    network = Layered((Dense(jnp.asarray(first)), Dense(jnp.asarray(second))), biases, (Binary(4), Binary(2)))
    example = Example(jnp.asarray([1.0, 0.0, 1.0]), jnp.asarray([1.0, 0.0]))
    return network, example, jnp.asarray(list(itertools.product((0.0, 1.0), repeat=6)))
