"""Wrappers that combine energies: the bridge between a base with known Z and any target."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from quasistatic._types import Sample, Scalar, ScalarLike
from quasistatic.energies.base import AbstractEnergy


class Interpolated(AbstractEnergy):
    """Straight bridge of potentials, `u_s(x) = (1 - s) u_base(x) + s u_target(x)`.

    Where the base is infinite (outside a box) the bridge is infinite for every `s`: the support never changes.

    Args:
        base: energy at `s = 0`.
        target: energy at `s = 1`.
        fraction: `s`, a traced scalar in [0, 1].
    """

    base: AbstractEnergy
    target: AbstractEnergy
    fraction: ScalarLike

    @property
    def block_size(self) -> int:
        """Walkers the target wants evaluated at a time (see `Neural`), 0 for all."""
        return getattr(self.target, "block_size", 0)

    def reduced(self, x: Sample, beta: ScalarLike, context: Any = None) -> Scalar:
        base = self.base.reduced(x, beta, context)
        inside = jnp.isfinite(base)
        bridge = (1 - self.fraction) * jnp.where(inside, base, 0.0) + self.fraction * self.target.reduced(
            x, beta, context
        )
        return jnp.where(inside, bridge, jnp.inf)

    def __call__(self, x: Sample) -> Scalar:
        return self.reduced(x, 1.0)

    def validate(self, x: np.ndarray, *, name: str = "data") -> None:
        self.target.validate(x, name=name)
