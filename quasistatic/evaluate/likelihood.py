"""Log-likelihood of a data set, with its bracket, and the cheaper scores that need no partition function.

`log p(x) = -u(x) - log Z`: a lower bound of log Z is an upper bound of the log-likelihood and the other way round.
The pseudo-log-likelihood `sum_i log p(x_i | x_without_i)` and the reconstruction error need no Z and bound nothing;
they are for comparison with other programs.

Reference:
    J. Besag, The Statistician 24, 179 (1975) (pseudo-likelihood).
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from quasistatic._results import Estimate
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.pairwise import Pairwise
from quasistatic.energies.rbm import RBM
from quasistatic.energies.units import AbstractUnits
from quasistatic.errors import InputError
from quasistatic.evaluate.annealing import Bracket
from quasistatic.evaluate.exact import mean_reduced

Data = Float[Array | np.ndarray, "n_samples n"]


@dataclass(frozen=True)
class Likelihood:
    """Mean log-likelihood of a data set, nats per sample.

    Args:
        value: the estimate; its error is that of `log Z` (the data set is taken as it is).
        lower: from the upper bound of `log Z`, None without one.
        upper: from the lower bound of `log Z`, None without one.
        data_stderr: how far the mean of another data set of this size would be off, one standard error, nats.
        note: what is wrong with the bracket, empty when nothing is.
    """

    value: Estimate
    lower: Estimate | None
    upper: Estimate | None
    data_stderr: float
    note: str = ""


def log_likelihood(
    energy: AbstractEnergy,
    data: Float[Array | np.ndarray, "n_samples ..."],
    log_z: float | Estimate | Bracket,
    *,
    beta: float = 1.0,
) -> Likelihood:
    """Mean log-likelihood of a data set, given what is known of `log Z(beta)`.

    Args:
        energy: the model.
        data: samples, first axis over samples (those of the test set are read here only).
        log_z: the exact value, an estimate, or a forward and reverse bracket. With a bracket the value uses the forward
            run, `lower` the reverse one.
        beta: inverse temperature.
    """
    mean_u, stderr = mean_reduced(energy, data, beta)

    def likelihood(known: Estimate) -> Estimate:
        return -mean_u - known

    if isinstance(log_z, Bracket):
        forward, reverse = likelihood(log_z.forward), likelihood(log_z.reverse)
        return Likelihood(forward, reverse, forward, stderr, log_z.note)
    if isinstance(log_z, Estimate):
        value = likelihood(log_z)
        is_upper, is_lower = value.bias == "high", value.bias == "low"
        return Likelihood(value, value if is_lower else None, value if is_upper else None, stderr)
    exact = likelihood(Estimate(log_z, 0.0, None, "none", "exact"))
    return Likelihood(exact, exact, exact, stderr)


def pseudo_likelihood(energy: AbstractEnergy, data: Data, beta: float = 1.0, *, n_per_chunk: int = 256) -> float:
    """Mean exact pseudo-log-likelihood `sum_i log p(x_i | x_without_i)` over all sites, nats per sample.

    For an RBM each site flip is a rank-one change of the hidden inputs, so a sample costs `n_visible * n_hidden`
    evaluations of the hidden units' cumulant function and a single matrix product.

    Args:
        energy: RBM or pairwise model with two-level units.
        data: samples of it.
        beta: inverse temperature.
        n_per_chunk: samples worked on at a time.

    Raises:
        InputError: another energy, units without two levels, or data that are not of these units.
    """
    if isinstance(energy, RBM):
        units, scores = energy.visible, _pseudo_rbm
    elif isinstance(energy, Pairwise):
        units, scores = energy.units, _pseudo_pairwise
    else:
        raise InputError(f"the pseudo-likelihood needs an RBM or a pairwise model, got {type(energy).__name__}")
    if units.levels is None or len(units.levels) != 2:
        raise InputError(f"the pseudo-likelihood needs units with two levels, got {type(units).__name__}")
    return _mean_over(scores, energy, data, units, beta, n_per_chunk)


def reconstruction_error(energy: AbstractEnergy, data: Data, beta: float = 1.0, *, n_per_chunk: int = 4096) -> float:
    """Mean squared difference per unit between data and their mean-field reconstruction `<v | <h | v>>`.

    Deterministic, and no measure of likelihood: a model that copies its input has none.

    Raises:
        InputError: the model is no RBM, or the data are not of its units.
    """
    if not isinstance(energy, RBM):
        raise InputError(f"reconstruction goes through hidden units, which a {type(energy).__name__} has not")
    return _mean_over(_reconstruction, energy, data, energy.visible, beta, n_per_chunk)


def _mean_over(scores: Any, energy: Any, data: Any, units: AbstractUnits, beta: float, n_per_chunk: int) -> float:
    """Mean of per-sample scores, padded to whole chunks so that they compile once, accumulated in float64."""
    x = np.asarray(data)
    if len(x) == 0:
        raise InputError("the data set is empty; give at least one sample")
    units.validate(x)
    weights = energy.weights if isinstance(energy, RBM) else energy.fields
    dtype, size = weights.dtype, min(n_per_chunk, len(x))
    values = []
    with jax.default_matmul_precision("highest"):
        for start in range(0, len(x), size):
            chunk = x[start : start + size]
            padded = np.concatenate([chunk, np.repeat(chunk[:1], size - len(chunk), axis=0)])
            score = scores(energy, jnp.asarray(padded, dtype), jnp.asarray(beta, dtype))
            values.append(np.asarray(score, np.float64)[: len(chunk)])
    return float(np.concatenate(values).mean())


@eqx.filter_jit
def _pseudo_rbm(energy: RBM, x: Array, beta: Array) -> Array:
    assert energy.visible.levels is not None
    inputs = energy.hidden_inputs(x)
    other = sum(energy.visible.levels) - x  # the other level of every unit

    def hidden_part(inputs):
        return jnp.sum(jax.vmap(lambda i: energy.hidden.cgf(energy.hidden_natural(i, beta)))(inputs), axis=-1)

    own = beta * (jax.vmap(energy.visible.energies)(other) - jax.vmap(energy.visible.energies)(x))
    own = own - beta * (other - x) * energy.visible_bias
    here = hidden_part(inputs)

    def site(total, i):
        flipped = inputs + (other - x)[:, i, None] * energy.weights[i]
        rise = own[:, i] - (hidden_part(flipped) - here)  # u(flipped) - u(x)
        return total - jax.nn.softplus(-rise), None

    return lax.scan(site, jnp.zeros_like(here), jnp.arange(x.shape[1]))[0]


@eqx.filter_jit
def _pseudo_pairwise(energy: Pairwise, x: Array, beta: Array) -> Array:
    assert energy.units.levels is not None
    local = energy.fields + x @ energy.coupling_matrix()
    rise = -beta * (sum(energy.units.levels) - 2 * x) * local
    return -jnp.sum(jax.nn.softplus(-rise), axis=1)


@eqx.filter_jit
def _reconstruction(energy: RBM, x: Array, beta: Array) -> Array:
    def mean_of(v):
        h = energy.hidden.mean(energy.hidden_natural(energy.hidden_inputs(v), beta))
        return energy.visible.mean(energy.visible_natural(energy.visible_inputs(h), beta))

    return jnp.mean((jax.vmap(mean_of)(x) - x) ** 2, axis=1)
