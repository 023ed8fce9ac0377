"""How much the driver flatters itself: the bias that feedback puts into its own `log Z`, estimated while training.

An update `dtheta` is made from the driver's gradient and its work is measured on the same walkers. With `g` the
model phase `sum_i w_i du(X_i)/dtheta` and `e` its noise, the driver's `log Z` changes by `-g . dtheta`; the noise of
`g` is in both factors, and to leading order in one over the number of walkers each update adds

    bias = -E[e . D(e)] ,        D(e): change of this update that the noise up to now has caused.

For plain gradient descent and walkers without memory that is `-eta tr Cov(g)`. The estimate replaces `e` by the
difference of two halves of the walkers, `sqrt(W_A W_B) (g_A - g_B)` with `W` their shares of the weight: it has the
covariance of `e` and comes from the same pass over the walkers. `D` is the derivative of the optimiser in the direction
of that difference, carried through the optimiser's own state, so momentum remembers as it should. It comes in two
orders:

    update  noise -> gradient -> update. A few operations on arrays of the size of the parameters.
    path    also noise -> parameters -> later gradients -> later updates, through the curvature of the loss. Exact to
            leading order; one further pass over walkers and batch.

The two differ by about what the parameters move, in units of their curvature, while the walkers forget (rate times
curvature times memory), which is small where training is slow. Both are exact in the optimiser where it is linear in
the gradient (gradient descent, with momentum or a schedule) and of leading order where it is not (Adam, clipping).
Factors on the update (learning-rate control, `KeepESS`) are taken as given. Unadjusted fused moves measure work at both
of their ends, and see `1 / (1 + (h k)^2)` of the noise at curvature `k`: the estimate leaves that factor out.

Plain walkers (no account weights) flatter themselves by the same formula: minus the bias is then the part of their
excess work that comes from feedback, however slow the training. Natural-gradient steps know what they make of the noise
from the system that they solve (`metric.optim.MetricState`), with the metric taken as given.

Halves must be independent: they are for an even number of driver groups. In one group resampling puts copies of a
walker into both halves, and the estimate is too small until the copies have parted.

Reference:
    Carbone, Hua, Coste and Vanden-Eijnden, NeurIPS 2023 (arXiv 2305.19414), whose estimate of `log Z` this concerns;
    the bias is that of any estimate of `log Z` from walkers that steer their own protocol.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from quasistatic._numerics import TwoFloat
from quasistatic._types import IntScalarLike, Scalar, ScalarLike

ORDERS = ("off", "update", "path")
"""How far the noise of the gradient is followed."""

BLOCK = 64
"""Updates per block; the standard error comes from the differences of successive blocks."""


class Feedback(eqx.Module):
    """Estimated bias of the driver's `log Z` since its books were opened.

    Args:
        bias: sum over updates, nats.
        block: part of it from the open block.
        previous: that of the last complete block.
        squares: sum of squared differences of successive blocks, nats squared.
        n_blocks: complete blocks.
        optimiser: how the optimiser's state would have changed had the noise been one unit larger.
        parameters: likewise the parameters (order `path`), else None.
        closed: bias in books that were closed before, nats: no part of the present `log Z`, but of the work done.
    """

    bias: TwoFloat
    block: Scalar
    previous: Scalar
    squares: Scalar
    n_blocks: Int[Array, ""]
    optimiser: Any
    parameters: Any
    closed: Scalar

    @classmethod
    def open(cls, trained: Any, opt_state: Any, *, order: str, dtype: Any) -> "Feedback":
        """Nothing so far. Args: trained parameters; optimiser state; one of `ORDERS`; dtype of potentials."""
        zero = jnp.zeros((), dtype)
        memory = jax.tree.map(jnp.zeros_like, eqx.filter(opt_state, eqx.is_inexact_array))
        parameters = jax.tree.map(jnp.zeros_like, trained) if order == "path" else None
        return cls(TwoFloat.zeros((), dtype), zero, zero, zero, jnp.zeros((), jnp.int32), memory, parameters, zero)

    def reopened(self) -> "Feedback":
        """The estimate for books that begin anew: the driver's `log Z` was measured afresh, and not by work."""
        zero, none = jnp.zeros_like(self.block), jnp.zeros_like(self.n_blocks)
        return eqx.tree_at(
            lambda f: (f.bias, f.block, f.previous, f.squares, f.n_blocks, f.closed),
            self,
            (TwoFloat.zeros((), zero.dtype), zero, zero, zero, none, self.total),
        )

    @property
    def total(self) -> Scalar:
        """Bias of all books since the start, nats."""
        return self.closed + self.bias.value

    def stderr(self) -> Scalar:
        """Standard error of `bias`, nats; NaN before four blocks are complete.

        The error of the sum of blocks, from half the squared differences of successive ones: a bias that drifts slowly
        is no error.
        """
        n = jnp.asarray(self.n_blocks, self.squares.dtype)
        error = jnp.sqrt(0.5 * self.squares * n / jnp.maximum(n - 1, 1))
        return jnp.where(self.n_blocks >= 4, error, jnp.nan)

    def book(
        self,
        noise: Any,
        response: Any,
        update: Callable[[Any, Any, Any], tuple[Any, Any]],
        at: tuple[Any, Any, Any],
        *,
        scale: ScalarLike,
        step: IntScalarLike,
    ) -> "Feedback":
        """Books one update.

        Args:
            noise: `e`, shaped like the trained parameters.
            response: change of the descended gradient by `e`, and (order `path`) by `parameters`.
            update: the optimiser, `(gradient, state, parameters) -> (updates, state)`.
            at: its present arguments.
            scale: factor on the optimiser's update.
            step: absolute step of the update, which closes a block when it is the last of `BLOCK`.
        """
        gradient, opt_state, trained = at
        moving, still = eqx.partition(opt_state, eqx.is_inexact_array)

        def optimise(gradient: Any, moving: Any, trained: Any) -> tuple[Any, Any]:
            updates, state = update(gradient, eqx.combine(moving, still), trained)
            return updates, eqx.filter(state, eqx.is_inexact_array)

        shift = jax.tree.map(jnp.zeros_like, trained) if self.parameters is None else self.parameters
        tangents = (_like(response, gradient), self.optimiser, shift)
        caused, memory = jax.jvp(optimise, (gradient, moving, trained), tangents)[1]
        caused = jax.tree.map(lambda c, r: _where_reached(scale * c, r).astype(c.dtype), caused, response)
        booked = self.add(-jnp.asarray(optax.tree.vdot(noise, caused), self.block.dtype), step=step)
        parameters = None if self.parameters is None else jax.tree.map(jnp.add, self.parameters, caused)
        return eqx.tree_at(
            lambda f: (f.optimiser, f.parameters),
            booked,
            (_like(memory, self.optimiser), parameters),
            is_leaf=lambda leaf: leaf is None,
        )

    def add(self, change: Scalar, *, step: IntScalarLike) -> "Feedback":
        """Books a bias that is known. Args: change, nats; absolute step of the update."""
        change = jnp.asarray(change, self.block.dtype)
        block = self.block + change
        is_last = step % BLOCK == BLOCK - 1
        has_previous = self.n_blocks > 0
        squares = self.squares + jnp.where(is_last & has_previous, (block - self.previous) ** 2, 0.0)
        return Feedback(
            bias=self.bias.add(change),
            block=jnp.where(is_last, 0.0, block),
            previous=jnp.where(is_last, block, self.previous),
            squares=squares,
            n_blocks=self.n_blocks + is_last,
            optimiser=self.optimiser,
            parameters=self.parameters,
            closed=self.closed,
        )


def _where_reached(caused: Array, response: Array) -> Array:
    """Zero where no noise arrives and the optimiser has no derivative.

    A parameter without any gradient so far (the bias of a pixel that is always off) sits at the kink of Adam's square
    root, whose derivative times no noise would be NaN.
    """
    return jnp.where((response == 0) & jnp.isnan(caused), 0.0, caused)


def _like(tree: Any, model: Any) -> Any:
    """The tree in the dtypes of another."""
    return jax.tree.map(lambda leaf, other: leaf.astype(other.dtype), tree, model)
