"""Solves `(F + damping) d = g` with scores: in parameter space, in sample space, or without any matrix.

`F = B'B` is the metric of the rows under `q`, `g = m.s - w.s + p` their contrast with the penalties `p`. Coordinates
are the scores' own: with `theta = A theta_c` the solution is `d = A (A'F A + damping)^-1 A'g`.

* `dense`: all parameters, exactly; for small models.
* `samples`: an equation per row, `B'(BB' + damping)^-1 e` with `B'e = g` exactly when `q` pools walkers and data. No
  part of `g` lies outside the rows' span, where a metric of the walkers alone would divide it by the damping.
* `woodbury`: the same for any gradient and metric, with that division.
* `robust`: `d = g - S'F^-1 S g + S'F^-2 S g`, natural where curvature exceeds the damping, plain gradient elsewhere.
* `conjugate_gradients`, `minimal_residual`: products with `F` only, begun at an earlier solution; stopped early, the
  one has the least error in the norm of the metric, the other the least residual.
* `diagonal`: variances only.

Reference:
    Woodbury identity; minSR: A. Chen and M. Heyl, Nat. Phys. 20, 1476 (2024), for sample-space solves where the
    gradient lies in the span; the pooled rows are the form this takes for two-phase gradients.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Float

from quasistatic._types import Scalar, ScalarLike
from quasistatic.errors import InputError
from quasistatic.metric.scores import AbstractScores, Metric

LARGEST_DENSE = 8192
"""Parameters up to which a matrix with a row and a column for each is formed."""


def dense(scores: AbstractScores, damping: ScalarLike, *, metric: Metric = "pooled", matrix: Any = None) -> Any:
    """Step `A (A'(F + M) A + damping)^-1 A'g` by a Cholesky factor with one row per parameter.

    Args:
        scores: rows of walkers and data.
        damping: added to the metric in the scores' coordinates, nats per squared parameter.
        metric: rows that `F` is made of.
        matrix: further term `M`, shape `(P, P)`, in the original parameters (friction), or None.

    Raises:
        InputError: more than `LARGEST_DENSE` parameters.
    """
    gradient, unravel = ravel_pytree(scores.gradient())
    total = metric_matrix(scores, metric)
    total = total if matrix is None else total + matrix
    return unravel(_solve(total + damping * _own_metric(scores), gradient))


def metric_matrix(scores: AbstractScores, metric: Metric = "pooled") -> Float[Array, "P P"]:
    """`F` as a matrix over the raveled parameters (original ones). Raises: InputError when that is too large."""
    q, rows = scores.pool(metric), rows_matrix(scores)
    centred = jnp.sqrt(q)[:, None] * (rows - q @ rows)
    return jnp.matmul(centred.T, centred, precision=jax.lax.Precision.HIGHEST)


def rows_matrix(scores: AbstractScores) -> Float[Array, "rows P"]:
    """All rows, written down over the raveled parameters. Raises: InputError when they are too many."""
    template, unravel = _template(scores)
    return jax.vmap(lambda e: scores.push(unravel(e)), out_axes=1)(jnp.eye(template.size, dtype=template.dtype))


def samples(scores: AbstractScores, damping: ScalarLike) -> Any:
    """Step with the pooled metric, by a system with one equation per walker and sample.

    Args:
        scores: rows of walkers and data.
        damping: added to the metric in the scores' coordinates; must be positive, as the rows always have a null
            direction.
    """
    return samples_and_noise(scores, damping).step


class Solved(NamedTuple):
    """A step and what came out beside it.

    Attributes:
        step: `(F + damping)^-1 g`.
        noise: `n'(F + damping)^-1 n` with the noise `n` of the walkers' phase (`noise_of`), nats.
        norm: `|A'g|`, length of the gradient in the scores' coordinates.
    """

    step: Any
    noise: Scalar
    norm: Scalar


def samples_and_noise(scores: AbstractScores, damping: ScalarLike) -> Solved:
    """The step of `samples`, noise and length of the gradient from the same system.

    With `n = B'c` the noise is `c.(c - damping (BB' + damping)^-1 c)`: a second right-hand side.
    """
    q = scores.pool("pooled")
    e = jnp.sign(scores.signed) * 2 * jnp.sqrt(q)
    gram = scores.gram(q)
    squared, right, extra = e @ (gram @ e), e, None
    if scores.extra is not None:
        extra = scores.to_step(scores.extra)
        pushed = scores.centred_push(q, extra)
        squared = squared + 2 * e @ pushed + _dot(scores.extra, extra)
        right = e - pushed / damping
    c = noise_of(scores) / jnp.where(q > 0, jnp.sqrt(q), 1.0)
    a, b = _solve_gram(gram, damping, right), _solve_gram(gram, damping, c)
    step = scores.to_step(scores.centred_pull(q, a))
    if extra is not None:
        step = jax.tree.map(lambda d, p: d + p / damping, step, extra)
    return Solved(step, c @ (c - damping * b), jnp.sqrt(jnp.maximum(squared, 0.0)))


def noise_of(scores: AbstractScores) -> Float[Array, " rows"]:
    """Coefficients of a sum over the walkers' rows that has the covariance of the noise of their mean.

    The difference of two halves, `sqrt(W_A W_B) (mean over A - mean over B)` with the shares `W` of the weight.
    """
    w, n = scores.weights, scores.n_walkers
    is_first = jnp.arange(n) < n // 2
    share = jnp.sum(jnp.where(is_first, w, 0.0))
    ratio = jnp.sqrt((1 - share) / jnp.where(share > 0, share, 1.0))
    part = jnp.where(is_first, ratio, -1 / jnp.where(ratio > 0, ratio, 1.0)) * w
    return jnp.concatenate([part, jnp.zeros(len(scores.data_weights), w.dtype)])


def woodbury(scores: AbstractScores, damping: ScalarLike, *, metric: Metric = "model", gradient: Any = None) -> Any:
    """Step for any gradient, `(1 / damping) [g - B'(BB' + damping)^-1 B g]`.

    What lies outside the span of the rows is divided by the damping: with few walkers most of a gradient can.

    Args:
        scores: rows of walkers and data.
        damping: added to the metric; positive.
        metric: rows that the metric is made of.
        gradient: right-hand side; default: that of the scores.
    """
    q = scores.pool(metric)
    steepest = scores.to_step(scores.gradient() if gradient is None else gradient)
    a = _solve_gram(scores.gram(q), damping, scores.centred_push(q, steepest))
    inside = scores.to_step(scores.centred_pull(q, a))
    return jax.tree.map(lambda g, s: (g - s) / damping, steepest, inside)


def robust(scores: AbstractScores, damping: ScalarLike, *, metric: Metric = "model") -> Any:
    """Step that is natural where the curvature `c` exceeds the damping `l` and the plain gradient where it does not.

    A direction of curvature `c` is multiplied by `1 - c / (c + l) + c / (c + l)^2`: set the damping, and the unit of
    parameters, so that 1 is a good rate of plain descent.

    Args:
        scores: rows of walkers and data.
        damping: `l`, positive.
        metric: rows that the metric is made of.
    """
    q = scores.pool(metric)
    steepest = scores.to_step(scores.gradient())
    gram = scores.gram(q)
    once = _solve_gram(gram, damping, scores.centred_push(q, steepest))
    correction = scores.to_step(scores.centred_pull(q, _solve_gram(gram, damping, once) - once))
    return jax.tree.map(jnp.add, steepest, correction)


def conjugate_gradients(
    scores: AbstractScores,
    damping: ScalarLike,
    start: Any,
    *,
    metric: Metric = "pooled",
    max_iterations: int = 20,
    tolerance: float = 1e-3,
) -> Any:
    """Step by preconditioned conjugate gradients: two passes over the rows per iteration, no matrix.

    Stopped early it lies between the plain and the natural gradient.

    Args:
        scores: rows of walkers and data.
        damping: added to the metric; positive.
        start: first guess, such as the last step (a step, not a gradient).
        metric: rows that the metric is made of.
        max_iterations: most iterations.
        tolerance: residual, relative to the gradient, at which to stop.
    """
    apply = _damped_metric(scores, damping, metric)
    step, _ = jax.scipy.sparse.linalg.cg(
        apply, scores.gradient(), x0=start, tol=tolerance, maxiter=max_iterations, M=scores.to_step
    )
    return step


def minimal_residual(
    scores: AbstractScores,
    damping: ScalarLike,
    start: Any,
    *,
    metric: Metric = "pooled",
    max_iterations: int = 20,
    tolerance: float = 1e-3,
) -> Any:
    """Step by preconditioned minimal residuals (MINRES); arguments and cost as for `conjugate_gradients`.

    Every iterate has the least residual, measured in the scores' coordinates, of all steps in reach: it never rises,
    and a solve that is cut off explains as much of the gradient as it can. Written as conjugate residuals, which for a
    positive definite matrix have the iterates of MINRES (Stiefel 1955; Paige and Saunders 1975).
    """
    apply, gradient = _damped_metric(scores, damping, metric), scores.gradient()
    residual = jax.tree.map(jnp.subtract, gradient, apply(start))
    z = scores.to_step(residual)
    size = _dot(gradient, scores.to_step(gradient))
    applied = apply(z)
    # step, z = A A' residual, direction p, and the products of both with the matrix
    first = (start, z, applied, z, applied, _dot(residual, z), jnp.zeros((), jnp.int32))

    def is_open(carry: Any) -> Any:
        return (carry[-1] < max_iterations) & (carry[-2] > tolerance**2 * size)

    def iterate(carry: Any) -> Any:
        step, z, az, p, ap, _, count = carry
        raised, old = scores.to_step(ap), _dot(z, az)
        length = old / _positive(_dot(ap, raised))
        step, z = _plus(step, length, p), _plus(z, -length, raised)
        az = apply(z)
        turn = _dot(z, az) / _positive(old)
        return step, z, az, _plus(z, turn, p), _plus(az, turn, ap), _dot(scores.to_gradient(z), z), count + 1

    return jax.lax.while_loop(is_open, iterate, first)[0]


def _damped_metric(scores: AbstractScores, damping: ScalarLike, metric: Metric) -> Any:
    """Product of `F + damping (A A')^-1` with a step."""
    q = scores.pool(metric)
    return lambda step: jax.tree.map(
        lambda f, d: f + damping * d, scores.apply_metric(q, step), scores.to_gradient(step)
    )


def _dot(a: Any, b: Any) -> Float[Array, ""]:
    products = [jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]
    return sum(products[1:], start=products[0])


def _plus(a: Any, scale: ScalarLike, b: Any) -> Any:
    return jax.tree.map(lambda x, y: x + scale * y, a, b)


def _positive(value: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.where(value > 0, value, 1.0)  # zero only where the residual is, and the numerator with it


def diagonal(scores: AbstractScores, damping: ScalarLike, variances: Any = None, *, metric: Metric = "pooled") -> Any:
    """Step `A (diag(A'F A) + damping)^-1 A'g`.

    Args:
        scores: rows of walkers and data.
        damping: added to every variance.
        variances: the diagonal, such as an average over updates; default: that of the scores.
        metric: rows that the default is made of.
    """
    variances = scores.variances(scores.pool(metric)) if variances is None else variances
    gradient = scores.into(scores.gradient())
    return scores.out(jax.tree.map(lambda g, v: g / (v + damping), gradient, variances))


def curvature(scores: AbstractScores, step: Any, metric: Metric = "model") -> Float[Array, ""]:
    """`d'F d`: twice the relative entropy of a small step, in nats. `"model"`: of the law of the walkers."""
    return jnp.sum(scores.centred_push(scores.pool(metric), step) ** 2)


def _template(scores: AbstractScores) -> tuple[Float[Array, " P"], Any]:
    zero = jax.eval_shape(scores.contrast)
    n_parameters = sum(leaf.size for leaf in jax.tree.leaves(zero))
    if n_parameters > LARGEST_DENSE:
        raise InputError(
            f"a dense metric of {n_parameters} parameters is too large (limit {LARGEST_DENSE}); use solver = 'samples' "
            "or 'cg'"
        )
    return ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), zero))


def _own_metric(scores: AbstractScores) -> Float[Array, "P P"]:
    """`(A A')^-1` as a matrix."""
    template, unravel = _template(scores)
    return jax.vmap(lambda e: ravel_pytree(scores.to_gradient(unravel(e)))[0])(jnp.eye(template.size))


def _solve_gram(gram: Float[Array, "n n"], damping: ScalarLike, right: Float[Array, " n"]) -> Float[Array, " n"]:
    """`(gram + damping)^-1 right` to rounding, by conjugate gradients scaled with the diagonal.

    An iteration is one product with the matrix. Some tens are enough where a Cholesky factor of 1,000 rows costs as
    much as 500 (measured on two cores), and a badly conditioned matrix costs no more than the factor.
    """
    scale = jnp.diagonal(gram) + damping
    tolerance = 20 * float(jnp.finfo(right.dtype).eps)
    solution, _ = jax.scipy.sparse.linalg.cg(
        lambda a: jnp.matmul(gram, a, precision=jax.lax.Precision.HIGHEST) + damping * a,
        right,
        tol=tolerance,
        maxiter=2 * right.shape[0],
        M=lambda a: a / scale,
    )
    return solution


def _solve(matrix: Float[Array, "P P"], right: Float[Array, " P"]) -> Float[Array, " P"]:
    """Cholesky solution with one step of refinement, which single precision needs when damping is small."""
    factor = cho_factor(matrix, lower=True)
    first = cho_solve(factor, right)
    return first + cho_solve(factor, right - jnp.matmul(matrix, first, precision=jax.lax.Precision.HIGHEST))
