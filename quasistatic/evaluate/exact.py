"""Exact partition functions, likelihoods and moments, by enumeration where there is no closed form.

An RBM is summed over the states of one layer, the other layer being summed out analytically,

    Z = sum_h exp(beta (c.h - e(h))) prod_i sum_{v_i} exp(beta (f_i(h) v_i - e(v_i))) ,    f(h) = b + W h ,

so 64 x 24 units cost 2^24 terms. A pairwise model is summed over all its states. Beyond 2^26 states the answer is None.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._types import Scalar, ScalarLike
from quasistatic.energies.base import AbstractEnergy, AbstractTractable
from quasistatic.energies.gaussian import GaussianMixture
from quasistatic.energies.pairwise import Pairwise
from quasistatic.energies.rbm import RBM
from quasistatic.energies.units import AbstractUnits, Binary, Spin
from quasistatic.errors import InputError
from quasistatic.evaluate.enumeration import BitForm, log_sum_products, log_sum_states, states_from

MAX_STATES = 2**26
"""States that are enumerated at most."""
MAX_STATES_MOMENTS = 2**16
_PER_CHUNK = 2**22  # numbers in the largest intermediate array of the plain way


class Moments(NamedTuple):
    """Exact averages of a model at one beta.

    Args:
        mean: `<x_i>`, shape `(n_visible,)`.
        second: `<x_i x_j>`, shape `(n_visible, n_visible)`.
        hidden_mean: `<h_j>` of an RBM, shape `(n_hidden,)`, else None.
        cross: `<x_i h_j>` of an RBM, shape `(n_visible, n_hidden)`, else None.
    """

    mean: Float[Array, " n_visible"]
    second: Float[Array, "n_visible n_visible"]
    hidden_mean: Float[Array, " n_hidden"] | None = None
    cross: Float[Array, "n_visible n_hidden"] | None = None


def is_enumerable(energy: AbstractEnergy) -> bool:
    """Whether `log_partition_exact` is feasible: closed form, or at most 2^26 states to enumerate."""
    if isinstance(energy, AbstractTractable):
        return True
    n = _n_enumerated(energy)
    return n is not None and 2**n <= MAX_STATES


def log_partition_exact(energy: AbstractEnergy, beta: float = 1.0) -> float | None:
    """`log Z(beta)` in nats, exact up to rounding, or None when it is infeasible.

    Args:
        energy: an RBM (any two-level or analytic units), a pairwise model, or a tractable energy.
        beta: inverse temperature.

    Returns:
        The value (for float32 parameters good to about 1e-5), or None: more than 2^26 states of the smaller layer,
        no closed form at this beta, or an energy that cannot be enumerated.

    Raises:
        InputError: `beta` is not positive.
    """
    beta = _checked_beta(beta)
    if isinstance(energy, AbstractTractable):
        if isinstance(energy, GaussianMixture) and beta != 1.0:
            return None
        return float(energy.log_partition(beta))
    if not is_enumerable(energy):
        return None
    with jax.default_matmul_precision("highest"):
        if isinstance(energy, RBM):
            return _log_partition_rbm(energy, beta)
        assert isinstance(energy, Pairwise)
        model = (energy, jnp.asarray(beta, energy.fields.dtype))
        return _plain(_pairwise_log_weight, model, energy.units, energy.units.size)


def exact_likelihood(
    energy: AbstractEnergy,
    data: Float[Array | np.ndarray, "n ..."],
    beta: float = 1.0,
    log_z: float | None = None,
) -> float | None:
    """Mean exact log-likelihood of data, `-mean u(x) - log Z`, in nats per sample.

    Args:
        energy: the model.
        data: samples, first axis over samples.
        beta: inverse temperature.
        log_z: the exact `log Z(beta)` when it is known already.

    Returns:
        The mean, or None when the partition function is infeasible.
    """
    log_z = log_partition_exact(energy, beta) if log_z is None else log_z
    return None if log_z is None else -mean_reduced(energy, data, beta)[0] - log_z


def mean_reduced(
    energy: AbstractEnergy,
    data: Float[Array | np.ndarray, "n ..."],
    beta: float = 1.0,
    *,
    n_per_chunk: int = 4096,
) -> tuple[float, float]:
    """Mean reduced potential of a data set and the standard error of that mean over its samples, in nats.

    The mean is accumulated in float64. The error says how far another data set of the same size would be off; it is 0
    for a single sample.
    """
    if len(data) == 0:
        raise InputError("the data set is empty; give at least one sample")
    dtype = jnp.result_type(*(leaf for leaf in jax.tree.leaves(energy) if eqx.is_inexact_array(leaf)), jnp.float32)
    values = []
    with jax.default_matmul_precision("highest"):
        for start in range(0, len(data), n_per_chunk):
            chunk = jnp.asarray(data[start : start + n_per_chunk], dtype)
            values.append(np.asarray(_reduced(energy, chunk, jnp.asarray(beta, dtype)), np.float64))
    u = np.concatenate(values)
    return float(u.mean()), float(u.std(ddof=1) / np.sqrt(len(u))) if len(u) > 1 else 0.0


def exact_moments(energy: AbstractEnergy, beta: float = 1.0) -> Moments:
    """Exact first and second moments of a small RBM or pairwise model (at most 2^16 enumerated states).

    Raises:
        InputError: the model is too large or cannot be enumerated.
    """
    beta = _checked_beta(beta)
    n = _n_enumerated(energy)
    if n is None or 2**n > MAX_STATES_MOMENTS:
        raise InputError(
            f"exact moments need an RBM or pairwise model with at most {MAX_STATES_MOMENTS} states to enumerate, got "
            f"{type(energy).__name__}" + ("" if n is None else f" with 2^{n}") + "; estimate them from samples"
        )
    if isinstance(energy, RBM):
        return _moments_rbm(energy, beta, n)
    assert isinstance(energy, Pairwise)
    x = _states(energy.units, energy.fields.dtype)
    p = jax.nn.softmax(jax.vmap(lambda state: _pairwise_log_weight((energy, beta), state))(x))
    return Moments(p @ x, (p[:, None] * x).T @ x)


def _checked_beta(beta: float) -> float:
    if not (np.isfinite(beta) and beta > 0):
        raise InputError(f"beta must be a positive number, got {beta}")
    return float(beta)


def _has_two_levels(units: AbstractUnits) -> bool:
    return units.levels is not None and len(units.levels) == 2


def _enumerates_hidden(energy: RBM) -> bool:
    """Whether the states of the hidden layer are summed (the smaller layer that has two levels)."""
    if not _has_two_levels(energy.visible):
        return True
    return _has_two_levels(energy.hidden) and energy.hidden.size <= energy.visible.size


def _n_enumerated(energy: AbstractEnergy) -> int | None:
    """Number of two-level units whose states are enumerated, None when there is no such way."""
    if isinstance(energy, RBM):
        units = energy.hidden if _enumerates_hidden(energy) else energy.visible
    elif isinstance(energy, Pairwise):
        units = energy.units
    else:
        return None
    return units.size if _has_two_levels(units) else None


def _log_partition_rbm(energy: RBM, beta: float) -> float:
    if isinstance(energy.visible, Binary | Spin) and isinstance(energy.hidden, Binary | Spin):
        if (log_z := log_sum_products(_bit_form(energy, beta), energy.weights.dtype)) is not None:
            return log_z
    model = (energy, jnp.asarray(beta, energy.weights.dtype))
    if _enumerates_hidden(energy):
        return _plain(_hidden_log_weight, model, energy.hidden, energy.visible.size)
    return _plain(_visible_log_weight, model, energy.visible, energy.hidden.size)


def _bit_form(energy: RBM, beta: float) -> BitForm:
    """The partition sum over the bits of the smaller layer: units `x = low + span * bit` in both layers."""
    weights, b, c = (np.asarray(a, np.float64) for a in (energy.weights, energy.visible_bias, energy.hidden_bias))
    summed, other = energy.hidden, energy.visible
    if not _enumerates_hidden(energy):
        weights, b, c, summed, other = weights.T, c, b, other, summed
    # from here on: b are fields of the layer that is summed out, c of the layer whose states are enumerated
    (low, high), (low_out, high_out) = _levels(summed), _levels(other)
    span, span_out = high - low, high_out - low_out
    at_low = b + low * weights.sum(1)  # inputs of the other layer with every bit at 0
    return BitForm(
        beta * (low * c.sum() + low_out * at_low.sum()),
        beta * span * (c + low_out * weights.sum(0)),
        beta * span * span_out * weights.T,
        beta * span_out * at_low,
    )


def _plain(log_weight: Any, model: Any, units: AbstractUnits, n_other: int) -> float:
    """Sum over the states of `units`, in chunks that keep arrays of `n_other` numbers per state small."""
    n_per_chunk = 2 ** max(0, int(np.log2(_PER_CHUNK / max(n_other, units.size))))
    return log_sum_states(log_weight, model, units.size, levels=_levels(units), n_per_chunk=n_per_chunk)


def _hidden_log_weight(model: tuple[RBM, ScalarLike], h: Float[Array, " n_hidden"]) -> Scalar:
    energy, beta = model
    own = beta * (energy.hidden_bias @ h - jnp.sum(energy.hidden.energies(h)))
    return own + jnp.sum(energy.visible.cgf(energy.visible_natural(energy.visible_inputs(h), beta)))


def _visible_log_weight(model: tuple[RBM, ScalarLike], v: Float[Array, " n_visible"]) -> Scalar:
    energy, beta = model
    return -energy.reduced(v, beta)


def _pairwise_log_weight(model: tuple[Pairwise, ScalarLike], x: Float[Array, " n"]) -> Scalar:
    energy, beta = model
    return -energy.reduced(x, beta)


@eqx.filter_jit
def _reduced(energy, x, beta):
    return jax.vmap(lambda sample: energy.reduced(sample, beta))(x)


def _levels(units: AbstractUnits) -> tuple[float, float]:
    assert units.levels is not None and len(units.levels) == 2
    return units.levels[0], units.levels[1]


def _states(units: AbstractUnits, dtype: Any) -> Float[Array, "n_states n"]:
    return states_from(jnp.arange(2**units.size), units.size, _levels(units), dtype)


def _moments_rbm(energy: RBM, beta: float, n: int) -> Moments:
    """Averages over the enumerated layer of the conditional moments of the other one."""
    if _enumerates_hidden(energy):
        h = _states(energy.hidden, energy.weights.dtype)
        p = jax.nn.softmax(jax.vmap(lambda state: _hidden_log_weight((energy, beta), state))(h))

        def conditional(state):
            natural = energy.visible_natural(energy.visible_inputs(state), beta)
            return energy.visible.mean(natural), energy.visible.variance(natural)

        mean, variance = jax.vmap(conditional)(h)
        weighted = p[:, None] * mean
        second = weighted.T @ mean + jnp.diag(p @ variance)
        return Moments(jnp.sum(weighted, 0), second, p @ h, weighted.T @ h)
    v = _states(energy.visible, energy.weights.dtype)
    p = jax.nn.softmax(-_reduced(energy, v, beta))
    hidden = jax.vmap(lambda x: energy.hidden.mean(energy.hidden_natural(energy.hidden_inputs(x), beta)))(v)
    weighted = p[:, None] * v
    return Moments(p @ v, weighted.T @ v, p @ hidden, weighted.T @ hidden)
