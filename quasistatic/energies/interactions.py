"""Bilinear interactions between two layers: `Phi(s, t) = t . up(s) = s . down(t)`."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic.energies.networks import Conv


class AbstractInteraction(eqx.Module):
    """Linear map `up` from a layer to the next one, and its transpose `down`."""

    @abc.abstractmethod
    def up(self, s: Float[Array, " n"]) -> Float[Array, " m"]:
        """Field that the lower layer `s` makes on the upper one."""

    @abc.abstractmethod
    def down(self, t: Float[Array, " m"]) -> Float[Array, " n"]:
        """Field that the upper layer `t` makes on the lower one."""


class Dense(AbstractInteraction):
    """All units with all units. Args: weight, shape `(n, m)`."""

    weight: Float[Array, "n m"]

    def up(self, s: Float[Array, " n"]) -> Float[Array, " m"]:
        return s @ self.weight

    def down(self, t: Float[Array, " m"]) -> Float[Array, " n"]:
        return self.weight @ t


class Pooled(AbstractInteraction):
    """Convolution that keeps the size, then the average of 2 x 2 blocks.

    Args:
        weight: shape `(kernel, kernel, channels in, channels out)`, odd kernel.
        shape: height and width of the lower layer, even.
    """

    weight: Float[Array, "k k n_in n_out"]
    shape: tuple[int, int] = eqx.field(static=True)

    def up(self, s: Float[Array, " n"]) -> Float[Array, " m"]:
        height, width = self.shape
        zero = jnp.zeros(self.weight.shape[-1], self.weight.dtype)
        convolved = Conv(self.weight, zero, 1, self.weight.shape[0] // 2)(s.reshape(height, width, -1))
        return convolved.reshape(height // 2, 2, width // 2, 2, -1).mean((1, 3)).reshape(-1)

    def down(self, t: Float[Array, " m"]) -> Float[Array, " n"]:
        n = self.shape[0] * self.shape[1] * self.weight.shape[2]
        return jax.linear_transpose(self.up, jax.ShapeDtypeStruct((n,), t.dtype))(t)[0]
