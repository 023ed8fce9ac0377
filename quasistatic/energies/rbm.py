"""Restricted Boltzmann machine, for any pair of unit types.

`E(v, h) = -b.v - c.h - v'W h + sum_i e(v_i) + sum_j e(h_j)`, and with the hidden units summed out

    u(v) = beta (-b.v + sum_i e(v_i)) - sum_j cgf(beta (c + v'W))_j ,

which is *not* beta times its value at beta = 1. The hidden inputs `c + v'W` are computed once per configuration and
shared by the potential, the next half-sweep and the gradient (kernels keep them as their cache).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._random import split
from quasistatic._types import Key, Scalar, ScalarLike
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.gaussian import IndependentUnits
from quasistatic.energies.units import AbstractUnits, units
from quasistatic.errors import InputError


class RBM(AbstractEnergy):
    """Restricted Boltzmann machine as a marginal energy over its visible units.

    Args:
        weights: `W`, shape `(n_visible, n_hidden)`.
        visible_bias: `b`, shape `(n_visible,)`.
        hidden_bias: `c`, shape `(n_hidden,)`.
        visible: visible units.
        hidden: hidden units.
    """

    weights: Float[Array, "n_visible n_hidden"]
    visible_bias: Float[Array, " n_visible"]
    hidden_bias: Float[Array, " n_hidden"]
    visible: AbstractUnits
    hidden: AbstractUnits

    def __check_init__(self):
        expected = (self.visible.size, self.hidden.size)
        given = (jnp.shape(self.weights), jnp.shape(self.visible_bias), jnp.shape(self.hidden_bias))
        is_array = hasattr(self.weights, "shape")  # pytrees of None or bool are built by filters
        if is_array and len(given[0]) == 2 and given != (expected, expected[:1], expected[1:]):
            raise InputError(
                f"an RBM with {expected[0]} visible and {expected[1]} hidden units got arrays of shapes {given}"
            )

    @classmethod
    def initialise(
        cls,
        key: Key,
        n_visible: int,
        n_hidden: int,
        *,
        visible: str = "binary",
        hidden: str | None = None,
        weight_scale: float = 0.01,
        data: Any = None,
    ) -> "RBM":
        """RBM with small Gaussian weights and visible biases at the data frequencies.

        Args:
            key: random key.
            n_visible: number of visible units.
            n_hidden: number of hidden units.
            visible: unit type, `"binary"` or `"spin"`.
            hidden: unit type of the hidden layer (default: as visible).
            weight_scale: standard deviation of the weights.
            data: training samples `(n, n_visible)`; when given, `b` reproduces their (smoothed) means at `beta = 1`.
        """
        visible_units, hidden_units = units(visible, n_visible), units(hidden or visible, n_hidden)
        weights = weight_scale * jax.random.normal(key, (n_visible, n_hidden))
        bias = jnp.zeros(n_visible)
        if data is not None:
            levels = visible_units.levels or (0.0, 0.0)
            bias = visible_units.field_of_mean(jnp.asarray(_smoothed_mean(data, levels), weights.dtype))
        return cls(weights, bias, jnp.zeros(n_hidden), visible_units, hidden_units)

    def energy(self, v: Float[Array, " n_visible"], h: Float[Array, " n_hidden"]) -> Scalar:
        """Joint energy `E(v, h)`."""
        intrinsic = jnp.sum(self.visible.energies(v)) + jnp.sum(self.hidden.energies(h))
        return intrinsic - self.visible_bias @ v - self.hidden_bias @ h - v @ self.weights @ h

    def hidden_inputs(self, v: Float[Array, "*n n_visible"]) -> Float[Array, "*n n_hidden"]:
        """`c + v'W`, in energy units."""
        return self.hidden_bias + v @ self.weights

    def visible_inputs(self, h: Float[Array, "*n n_hidden"]) -> Float[Array, "*n n_visible"]:
        """`b + W h`, in energy units."""
        return self.visible_bias + h @ self.weights.T

    def hidden_natural(self, inputs: Float[Array, " n_hidden"], beta: ScalarLike) -> Any:
        """Natural parameters of the hidden units at `beta`, given their inputs."""
        return jax.tree.map(lambda leaf: beta * leaf, self.hidden.natural(inputs))

    def visible_natural(self, inputs: Float[Array, " n_visible"], beta: ScalarLike) -> Any:
        """Natural parameters of the visible units at `beta`, given their inputs."""
        return jax.tree.map(lambda leaf: beta * leaf, self.visible.natural(inputs))

    def reduced_from_inputs(
        self, v: Float[Array, " n_visible"], inputs: Float[Array, " n_hidden"], beta: ScalarLike
    ) -> Scalar:
        """Reduced potential `u(v)` when the hidden inputs are already known."""
        visible_part = beta * (jnp.sum(self.visible.energies(v)) - self.visible_bias @ v)
        return visible_part - jnp.sum(self.hidden.cgf(self.hidden_natural(inputs, beta)))

    def reduced(self, x: Float[Array, " n_visible"], beta: ScalarLike, context: Any = None) -> Scalar:
        del context
        return self.reduced_from_inputs(x, self.hidden_inputs(x), beta)

    def __call__(self, x: Float[Array, " n_visible"]) -> Scalar:
        return self.reduced(x, 1.0)

    def validate(self, x: np.ndarray, *, name: str = "data") -> None:
        self.visible.validate(x, name=name)

    def base(self) -> IndependentUnits:
        """The same visible units without hidden ones: exact samples and `log Z` for opening the books."""
        return IndependentUnits(self.visible_bias, self.visible)

    def weighted_gradient(
        self,
        x: Float[Array, "n n_visible"],
        weights: Float[Array, " n"],
        beta: ScalarLike,
        cache: Float[Array, "n n_hidden"] | None = None,
    ) -> "RBM":
        inputs = self.hidden_inputs(x) if cache is None else cache
        hidden_mean = jax.vmap(lambda i: self.hidden.mean(self.hidden_natural(i, beta)))(inputs)
        return self._from_statistics(x, hidden_mean, weights, beta)

    def sampled_gradient(
        self, key: Key, x: Float[Array, "n n_visible"], weights: Float[Array, " n"], beta: ScalarLike
    ) -> "RBM":
        """As `weighted_gradient` with hidden states sampled instead of averaged: unbiased, noisier."""
        keys = split(key, len(x))
        natural = jax.vmap(lambda i: self.hidden_natural(i, beta))(self.hidden_inputs(x))
        return self._from_statistics(x, jax.vmap(self.hidden.sample)(keys, natural), weights, beta)

    def _from_statistics(self, x, hidden, weights, beta) -> "RBM":
        weighted = (-beta * weights)[:, None] * x
        return RBM(weighted.T @ hidden, jnp.sum(weighted, 0), (-beta * weights) @ hidden, self.visible, self.hidden)

    def centred(self, gradient: "RBM", data: "RBM", model: "RBM", beta: ScalarLike) -> "RBM":
        """Centred (enhanced) gradient: the same expectation written around the mean activities, then mapped back.

        With offsets `mu`, `lam` (mean of data and model averages) it is a linear image of the plain gradient,

            dW = gW - mu gc' - gb lam',   db = gb - dW lam,   dc = gc - dW' mu,

        a better-conditioned ascent direction that vanishes where the plain gradient does.

        Args:
            gradient: plain gradient, data minus model phase.
            data: gradient of the data phase (its bias entries are `-beta` times mean activities).
            model: gradient of the model phase.
            beta: inverse temperature.

        Reference:
            Melchior, Fischer and Wiskott, JMLR 17 (2016), section 3; Cho, Raiko and Ilin, ICML 2011.
        """
        mu = -0.5 * (data.visible_bias + model.visible_bias) / beta
        lam = -0.5 * (data.hidden_bias + model.hidden_bias) / beta
        weights = (
            gradient.weights
            - mu[:, None] * gradient.hidden_bias[None, :]
            - gradient.visible_bias[:, None] * lam[None, :]
        )
        visible_bias = gradient.visible_bias - weights @ lam
        hidden_bias = gradient.hidden_bias - mu @ weights
        return RBM(weights, visible_bias, hidden_bias, self.visible, self.hidden)


def _smoothed_mean(data: Any, levels: tuple[float, ...]) -> np.ndarray:
    """Means pulled off the edges of the range by one pseudo-count of each level."""
    x = np.asarray(data, dtype=np.float64)
    pseudo = np.sum(levels) if levels[0] != levels[-1] else 0.0
    count = len(levels) if levels[0] != levels[-1] else 0
    return (x.sum(0) + pseudo) / (len(x) + count)


def is_rbm(energy: AbstractEnergy) -> bool:
    """Whether an energy is an RBM (kernels and evaluation choose their fast paths by it)."""
    return isinstance(energy, RBM)


def flip_encoding(rbm: RBM) -> RBM:
    """The same law with {0,1} units rewritten as {-1,1} units (`x = (1 + s)/2` in both layers).

    Equal up to a constant of the energy, so `log Z` shifts and every probability stays: a gauge check.
    """
    return eqx.tree_at(
        lambda m: (m.weights, m.visible_bias, m.hidden_bias, m.visible, m.hidden),
        rbm,
        (
            rbm.weights / 4,
            rbm.visible_bias / 2 + rbm.weights.sum(1) / 4,
            rbm.hidden_bias / 2 + rbm.weights.sum(0) / 4,
            units("spin", rbm.visible.size),
            units("spin", rbm.hidden.size),
        ),
    )
