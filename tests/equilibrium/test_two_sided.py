"""Two-sided nudges with common random numbers, against quadrature of model D."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.equilibrium import EquilibriumPropagation
from quasistatic.errors import InputError
from tests.equilibrium.nets import net_c
from tests.equilibrium.test_layered import box_d, statistics


def means(nudge, temperature, n=2001):
    """Means of the statistics of D under a nudge towards 1, by the trapezoid rule."""
    s = np.linspace(0, 1, n)
    a, b = np.meshgrid(s, s, indexing="ij")
    energy = a**2 / 2 + b**2 / 2 - 0.8 * a * b - 0.3 * a + 0.1 * b + nudge * (b - 1) ** 2 / 2
    w = np.exp(-(energy - energy.min()) / temperature)
    edge = np.where((s == 0) | (s == 1), 0.5, 1.0)
    w *= edge[:, None] * edge[None]
    return (w[..., None] * statistics(np.stack([a, b], -1))).sum((0, 1)) / w.sum()


def found(variant, seeds, nudge, temperature):
    """Gradients of the rule, one row per seed."""
    network, one, r = box_d(), jnp.ones((1, 1)), 2000
    rule = EquilibriumPropagation(
        nudge=nudge, temperature=temperature, variant=variant, n_free=40, n_nudged=40, n_replicas=r
    )

    def slopes(key):
        slope, _, _ = rule.gradient(key, network, jnp.zeros((1, 0)), one, network.zeros(r))
        return jnp.stack([slope.interactions[1].weight[0, 0], slope.biases[0][0], slope.biases[1][0]])

    return np.asarray(jax.jit(jax.vmap(slopes))(jax.random.split(jax.random.key(5), seeds)))


@pytest.mark.slow
def test_coupled_centred_contrast_has_the_two_sided_gradient_and_less_noise():
    b, t = 0.4, 0.07
    exact = (means(b, t) - means(-b, t)) / (2 * b)
    one_sided = (means(b, t) - means(0.0, t)) / b
    rows = found("coupled-centred", 24, b, t)
    error = rows.std(0, ddof=1) / np.sqrt(len(rows))
    assert np.all(np.abs(rows.mean(0) - exact) < 4.5 * error)
    assert np.any(np.abs(rows.mean(0) - one_sided) > 6 * error), "the one-sided gradient is another one"
    independent = found("centred", 24, b, t)
    assert np.all(rows.std(0) < 0.7 * independent.std(0))


def test_refusals():
    with pytest.raises(InputError, match="needs a temperature above 0"):
        EquilibriumPropagation(variant="coupled-centred")
    with pytest.raises(InputError, match="nudge"):
        EquilibriumPropagation(nudge=1.5, temperature=0.1, variant="coupled-centred").check(box_d())
    EquilibriumPropagation(nudge=1.5, temperature=0.1, variant="coupled-centred").check(net_c()[0])
