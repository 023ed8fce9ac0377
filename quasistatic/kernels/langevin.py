"""Unadjusted Langevin algorithm, with exact books for any drift.

    x' = x - h M b(x) + sqrt(2 h M) xi,     b = grad u, clipped or not; M a diagonal preconditioner,
    heat = log K(x' -> x) - log K(x -> x')
         = sum_i ( (x'_i - x_i + h M_i b_i(x))^2 - (x_i - x'_i + h M_i b'_i(x'))^2 ) / (4 h M_i).

The chain does not leave `exp(-u)` invariant; `du - heat` (the shadow work) is exactly what corrects the weights for it,
at any step size and for any drift, as long as the drift that moves is the drift that is booked. In the **fused** move
the forward density uses the old model and the backward density `b'` the new one, so a parameter update needs no second
gradient evaluation; work and shadow work are then one number.

In a **box**, coordinates whose proposal leaves it stay where they are. Given `x` they do so independently of each
other, hence each contributes the log ratio of two Gaussian densities if it moved and of two probabilities to stay if
not.

Reference:
    Carbone, Hua, Coste and Vanden-Eijnden, NeurIPS 2023, proposition 1 and algorithm 1 (arXiv 2305.19414).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import Key, Scalar, ScalarLike
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.gaussian import UniformBox
from quasistatic.energies.potential import Potential
from quasistatic.energies.wells import Box
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel, Info, KernelState, repeat


def log_forward(
    x: Float[Array, "*d"], y: Float[Array, "*d"], drift: Float[Array, "*d"], step: Float[Array, "*d"] | ScalarLike
) -> Scalar:
    """`log K(x -> y)` of one Langevin move up to its normalisation, `-sum_i (y - x + s b(x))_i^2 / (4 s_i)`.

    Args:
        x: where the move starts.
        y: where it ends.
        drift: `b(x)`.
        step: `s = h M`, one number or one per coordinate; the same for the move and its reverse.
    """
    return -jnp.sum((y - x + step * drift) ** 2 / (4 * step))


def propose(
    key: Key, x: Float[Array, "*d"], drift: Float[Array, "*d"], step: Float[Array, "*d"] | ScalarLike
) -> Float[Array, "*d"]:
    """`x - s b + sqrt(2s) xi` (noise variance `2s`: anything else samples another temperature)."""
    noise = jax.random.normal(key, jnp.shape(x), x.dtype)
    return x - step * drift + jnp.sqrt(2 * step) * noise


def log_stay(
    x: Float[Array, "*d"],
    drift: Float[Array, "*d"],
    step: Float[Array, "*d"] | ScalarLike,
    box: tuple[float, float],
) -> Float[Array, "*d"]:
    """Log probability per coordinate that the proposal from `x` leaves the box, so that the coordinate stays."""
    mean, sigma = x - step * drift, jnp.sqrt(2 * step)
    below = jax.scipy.stats.norm.logcdf((box[0] - mean) / sigma)
    above = jax.scipy.stats.norm.logcdf((mean - box[1]) / sigma)
    return jnp.logaddexp(below, above)


def clipped(gradient: Float[Array, "*d"], clip: float | None) -> Float[Array, "*d"]:
    """Drift of a gradient: every component limited to `[-clip, clip]`, or the gradient itself."""
    return gradient if clip is None else jnp.clip(gradient, -clip, clip)


class AbstractDrift(AbstractKernel):
    """Kernel of continuous samples that moves along the gradient of the potential and keeps it as its cache."""

    def init(self, potential: Potential, x: Float[Array, "*d"], context: Any = None) -> KernelState:
        u, gradient = jax.value_and_grad(potential)(x, context)
        return KernelState(x, u, gradient)

    def check(self, energy: AbstractEnergy) -> None:
        if getattr(energy, "levels", None) is not None or hasattr(energy, "units") or hasattr(energy, "visible"):
            raise InputError(
                f"{type(self).__name__} moves continuous samples, but {type(energy).__name__} has discrete ones; use "
                "Gibbs"
            )


class Langevin(AbstractDrift):
    """Unadjusted Langevin kernel.

    Args:
        is_fused: False: switch, then relax (one extra gradient per update, slightly better weights). True: the paper's
            move, the first sweep of a step also carries the parameter change.
        clip: limit on every component of the drift; None for the gradient itself. Large gradients of young networks
            make plain moves jump; a clipped drift keeps the weights exact.
        preconditioner: diagonal `M`, one number or one per coordinate (about the variance of each coordinate).
        box: `(low, high)` of every coordinate, or None. Walkers must start inside.
    """

    is_fused: bool = eqx.field(static=True, default=False)
    clip: float | None = eqx.field(static=True, default=None)
    preconditioner: Float[Array, "*d"] | float = 1.0
    box: tuple[float, float] | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        check_drift(self.clip, self.preconditioner)
        if self.box is not None and not self.box[0] < self.box[1]:
            raise InputError(f"a box is (low, high) with low < high, got {self.box}")

    @property
    def moves_with_switch(self) -> bool:
        return self.is_fused

    def step(
        self, key: Key, after: Potential, state: KernelState, controls: Any, context: Any = None
    ) -> tuple[KernelState, Scalar, Info]:
        s = jnp.asarray(controls.step_size * jnp.asarray(self.preconditioner), state.x.dtype)

        def move(i, carry):
            old, heat = carry
            b = clipped(old.cache, self.clip)
            y = propose(jax.random.fold_in(key, i), old.x, b, s)
            if self.box is not None:
                # the compiler may compute y twice, with other rounding: an inner y must not be a bit outside
                inner = jnp.clip(y, *self.box)
                y = jnp.where((y >= self.box[0]) & (y <= self.box[1]), inner, old.x)
            new = self.init(after, y, context)
            return new, heat + self.heat(old.x, y, b, clipped(new.cache, self.clip), s)

        state, heat = repeat(controls.n_sweeps, move, (state, jnp.zeros_like(state.u)))
        return state, heat, {}

    def heat(self, x: Array, y: Array, b: Array, b_new: Array, s: Any) -> Scalar:
        """`log K(y -> x) - log K(x -> y)` of one move. Args: end points; drifts at `x` and at `y`; `s = h M`."""
        if self.box is None:
            return log_forward(y, x, b_new, s) - log_forward(x, y, b, s)
        moved = ((y - x + s * b) ** 2 - (x - y + s * b_new) ** 2) / (4 * s)
        stayed = log_stay(y, b_new, s, self.box) - log_stay(x, b, s, self.box)
        return jnp.sum(jnp.where(y == x, stayed, moved))

    def check(self, energy: AbstractEnergy) -> None:
        super().check(energy)
        is_boxed = isinstance(energy, UniformBox) or isinstance(getattr(energy, "base", None), UniformBox)
        network = getattr(energy, "network", energy)
        layers = getattr(network, "units", ())
        is_boxed |= isinstance(layers, tuple) and any(isinstance(units, Box) for units in layers)
        if is_boxed and self.box is None:
            raise InputError("unadjusted Langevin walkers leave a box; give the kernel box = (low, high), or use MALA")


def check_drift(clip: float | None, preconditioner: Any) -> None:
    """Raises InputError for a clip that is not positive or a preconditioner that is not."""
    if clip is not None and not clip > 0:
        raise InputError(f"clip limits every component of the drift and must be positive, got {clip}")
    if isinstance(preconditioner, (int, float)) and not preconditioner > 0:
        raise InputError(f"a preconditioner is a positive number or one per coordinate, got {preconditioner}")
