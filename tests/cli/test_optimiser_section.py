"""What the optimiser section of a configuration makes, against the update rules written out."""

import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.cli.build import make_optimiser
from quasistatic.cli.config import OptimiserSection

P = jnp.asarray([1.0, -2.0, 0.5])
GRADIENTS = [jnp.asarray([0.3, -0.1, 2.0]), jnp.asarray([-0.2, 0.4, 1.0])]


def updates(**settings):
    """Both updates at constant parameters."""
    optimiser = make_optimiser(OptimiserSection(**settings), 100)
    state, found = optimiser.init(P), []
    for gradient in GRADIENTS:
        update, state = optimiser.update(gradient, state, P)
        found.append(np.asarray(update))
    return found


def adam(rate, b1, weight_decay, b2=0.999, eps=1e-8):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""
    m, v, found = np.zeros(3), np.zeros(3), []
    for t, gradient in enumerate(np.asarray(GRADIENTS), 1):
        m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
        step = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        found.append(-rate * (step + weight_decay * np.asarray(P)))
    return found


@pytest.mark.parametrize(("momentum", "b1"), [(None, 0.9), (0.9, 0.9), (0.0, 0.0), (0.3, 0.3)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.7])
def test_adam_remembers_as_told(momentum, b1, weight_decay):
    found = updates(kind="adam", rate=0.05, momentum=momentum, weight_decay=weight_decay)
    np.testing.assert_allclose(found, adam(0.05, b1, weight_decay), rtol=1e-5)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_what_has_no_gradient_does_not_decay(kind):
    """A confining law is part of a model and not trained: weight decay must leave it alone."""
    optimiser = make_optimiser(OptimiserSection(kind=kind, rate=0.05, weight_decay=0.7), 100)
    parameters = {"trained": P, "law": P}
    gradients = {"trained": GRADIENTS[0], "law": jnp.zeros(3)}
    update, _ = optimiser.update(gradients, optimiser.init(parameters), parameters)
    assert not np.any(update["law"]) and np.all(np.asarray(update["trained"]) != 0)


@pytest.mark.parametrize("momentum", [None, 0.0, 0.4])
@pytest.mark.parametrize("weight_decay", [0.0, 0.7])
def test_descent_remembers_and_decays(momentum, weight_decay):
    decayed = [np.asarray(g) + weight_decay * np.asarray(P) for g in GRADIENTS]
    expected = [-0.05 * decayed[0], -0.05 * (decayed[1] + (momentum or 0.0) * decayed[0])]
    found = updates(kind="sgd", rate=0.05, momentum=momentum, weight_decay=weight_decay)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
