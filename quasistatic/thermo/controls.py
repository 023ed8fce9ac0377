"""Controls: what a regulator may turn while a model trains."""

import equinox as eqx
import jax.numpy as jnp

from quasistatic._types import IntScalarLike, ScalarLike


class Controls(eqx.Module):
    """Settings of one training step, all traced arrays so that changing them never recompiles.

    Args:
        beta: inverse temperature of the model.
        n_sweeps: kernel sweeps per parameter update.
        step_size: Langevin step `h` (unused by Gibbs kernels).
        lr_scale: factor on the optimiser's update.
        nudge: strength of a nudging term (0 = free).
    """

    beta: ScalarLike
    n_sweeps: IntScalarLike
    step_size: ScalarLike
    lr_scale: ScalarLike
    nudge: ScalarLike

    @classmethod
    def of(
        cls,
        *,
        beta: float = 1.0,
        n_sweeps: int = 1,
        step_size: float = 0.01,
        lr_scale: float = 1.0,
        nudge: float = 0.0,
    ) -> "Controls":
        """Controls from plain numbers, as arrays of the default dtype."""
        return cls(
            jnp.asarray(beta, float),
            jnp.asarray(n_sweeps, jnp.int32),
            jnp.asarray(step_size, float),
            jnp.asarray(lr_scale, float),
            jnp.asarray(nudge, float),
        )
