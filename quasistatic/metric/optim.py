"""Natural-gradient and minimal-dissipation steps as Optax transformations with an extra argument, `scores`.

    d theta = -rate (F + damping)^-1 g                                        natural gradient
    d theta = -[ K_rem F + c Z + damping ]^-1 g                               minimal dissipation

with the metric `F` and gradient `g` of the scores, `K_rem` updates left and the friction `Z` of the sampler, both
in nats. Walkers with account weights have no lag, and their `Z` is dropped.

The transformations *make* the step from the scores: put them first in a chain. A rule hands its scores over
(`MaximumLikelihood` does); with another rule the update is refused.

Reference:
    S. Amari, Neural Comput. 10, 251 (1998); J. Martens, JMLR 21 (2020), section 6 (damping by the reduction ratio);
    Hnybida and Verret (arXiv 2510.03137) for the harmonic case, whose discrete optimum `minimal_dissipation` is.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Int

from quasistatic._types import IntScalarLike, Scalar, ScalarLike
from quasistatic.errors import InputError
from quasistatic.metric import kfac, solve
from quasistatic.metric.scores import METRICS, AbstractScores

Solver = Literal["samples", "dense", "cg", "minres", "diagonal", "kfac", "woodbury", "robust"]
"""How the step is solved for; see `quasistatic.metric.solve`."""

LOWER, RAISE = 2 / 3, 3 / 2
"""Factors on the damping after an update that did better or worse than predicted."""


class MetricState(NamedTuple):
    """State of a metric step: updates done, damping, reduction ratio and relative entropy (nats) of the last update,
    the memory of the solver (last direction, averaged variances, or None), the work that the noise of the last
    update did on the walkers that caused it (nats; NaN for solvers other than `samples`), and the length of its
    gradient in the scores' coordinates."""

    count: Int[Array, ""]
    damping: Scalar
    ratio: Scalar
    kl: Scalar
    memory: Any
    feedback: Scalar
    norm: Scalar


def natural_gradient(
    learning_rate: float | optax.Schedule,
    *,
    damping: float = 1.0,
    solver: str = "samples",
    metric: str = "pooled",
    max_kl: float | None = None,
    is_adaptive: bool = False,
    memory: float = 0.9,
    max_iterations: int = 20,
) -> optax.GradientTransformationExtraArgs:
    """Natural gradient, complete with rate and sign: `updates` are what `apply_updates` adds.

    Args:
        learning_rate: rate, or a schedule of the update's number. With damping it may exceed 1.
        damping: added to the metric, in nats per squared parameter, in the coordinates of the scores.
        solver: `"samples"` (one row per walker and sample; pooled metric), `"dense"` (small models), `"cg"`
            and `"minres"` (matrix-free, begun at the last direction), `"diagonal"` (averaged over updates), `"kfac"`
            (networks), `"woodbury"`, `"robust"`.
        metric: rows of the metric, `"pooled"` or `"model"` (Fisher, walkers only).
        max_kl: largest relative entropy of one update in nats, to second order; longer steps are shortened. (For a
            bound by the effective sample size give the trainer a `KeepESS`.)
        is_adaptive: Levenberg-Marquardt: damping falls by 2/3 after updates whose likelihood changed by more than 3/4
            of what the metric predicts, and rises by 3/2 after less than 1/4. Needs a rate of at most 1.
        memory: `"cg"`, `"minres"`: factor on the last direction; `"diagonal"`: decay of the average.
        max_iterations: of `"cg"` and `"minres"`.

    Raises:
        InputError: an option is out of range, or options do not fit together.
    """
    _check(damping=damping, solver=solver, metric=metric, max_kl=max_kl, memory=memory, max_iterations=max_iterations)
    is_number = isinstance(learning_rate, (int, float))
    if is_number and not learning_rate > 0:
        raise InputError(f"the rate must be positive, got {learning_rate}")
    if is_adaptive and (not is_number or learning_rate > 1):
        raise InputError(
            "adaptive damping judges a step by the metric's own minimum: give a constant rate of at most 1"
        )
    rate_of: Any = (lambda count: learning_rate) if is_number else learning_rate

    def direction(scores: AbstractScores, state: MetricState, friction: Any) -> tuple[Any, Any, Any, Any]:
        del friction
        return _direction(solver, metric, memory, max_iterations, scores, state)

    return _transformation(damping, solver, lambda count, scores, extra: rate_of(count), direction, max_kl, is_adaptive)


def minimal_dissipation(
    n_updates: int,
    *,
    relaxation: float | None = 0.0,
    has_jumps: bool = False,
    offset: float = 1.0,
    inflation: float = 1.0,
    damping: float = 1e-3,
    solver: str = "samples",
    metric: str = "pooled",
    max_kl: float | None = None,
    memory: float = 0.9,
    max_iterations: int = 20,
) -> optax.GradientTransformationExtraArgs:
    """Steps that reach the data after `n_updates` at least excess work: exact for Gaussians of fixed covariance.

    With friction `Z = (1/2 + relaxation) F` the law is a natural gradient of rising rate; a measured `Z` is given with
    each update as the extra argument `friction` (a `P x P` matrix in nats per squared parameter and update, solver
    `"dense"`).

    Args:
        n_updates: updates in all; the rate rises until the last.
        relaxation: sum of the autocorrelations at 1, 2, ... updates of what drives the steps (`a / (1 - a)` when the
            mean of the walkers relaxes by a factor `a` per update), for walkers without weights. None measures it: the
            trainer hands over what `thermo.response` has found so far, as the extra argument `relaxation`.
        has_jumps: discontinuous law (`c = 2`) that starts from equilibrium with a jump and ends with one; otherwise
            the continuous law (`c = 1`).
        offset: added to the updates left, at least 1, where walkers are weighted and `Z` is dropped.
        inflation: how many times the metric of the law the metric of the rows is, along the way. A metric of far fewer
            rows than parameters is mostly that of their own noise, and a natural step goes 1 / `inflation` of the way:
            with 1 such a protocol ends where it began. Give `max_kl` with it, which keeps the last steps in bounds.
        damping: as for `natural_gradient`.
        solver: likewise.
        metric: likewise.
        max_kl: likewise.
        memory: likewise.
        max_iterations: likewise.

    Reference:
        Schmiedl and Seifert, Phys. Rev. Lett. 98, 108301 (2007) (moving trap); Sivak and Crooks, Phys. Rev. Lett. 108,
        190602 (2012) (friction); Hnybida and Verret (arXiv 2510.03137).
    """
    _check(damping=damping, solver=solver, metric=metric, max_kl=max_kl, memory=memory, max_iterations=max_iterations)
    if n_updates < 2:
        raise InputError(f"a protocol has at least 2 updates, got {n_updates}")
    if (relaxation is not None and not relaxation >= 0) or not offset >= 1:
        raise InputError(f"relaxation >= 0 (or None) and offset >= 1 are needed, got {relaxation} and {offset}")
    if not (np.isfinite(inflation) and inflation > 0):
        raise InputError(f"inflation is a ratio of two metrics, positive, got {inflation}")

    def left(count: IntScalarLike) -> Any:
        return jnp.maximum(n_updates - count, 1)  # a run that goes on past its protocol keeps the last rate

    def rate(count: IntScalarLike, scores: AbstractScores, extra: Mapping[str, Any]) -> Any:
        if extra.get("friction") is not None:
            return 1.0  # the direction has it all
        lag = relaxation if relaxation is not None else extra.get("relaxation")
        if lag is None and not scores.is_weighted:
            raise InputError("no relaxation was measured; give relaxation, or a trainer with memory > 0")
        lag = None if scores.is_weighted else lag
        return inflation * dissipation_rate(left(count), n_updates, lag, has_jumps=has_jumps, offset=offset)

    def direction(scores: AbstractScores, state: MetricState, friction: Any) -> tuple[Any, Any, Any, Any]:
        if friction is None:
            return _direction(solver, metric, memory, max_iterations, scores, state)
        if scores.is_weighted:
            raise InputError("weighted walkers have no lag: drop the friction, or use uniform weights")
        if solver != "dense":
            raise InputError(f"a friction matrix needs solver = 'dense', got {solver!r}")
        if inflation != 1:
            raise InputError("a friction matrix is added to the metric itself: leave inflation at 1")
        return (
            _with_friction(scores, state, friction, left(state.count), n_updates, has_jumps, metric),
            state.memory,
            jnp.nan,
            None,
        )

    return _transformation(damping, solver, rate, direction, max_kl, False)


def dissipation_rate(
    left: IntScalarLike, n_updates: int, relaxation: ScalarLike | None, *, has_jumps: bool, offset: float = 1.0
) -> Any:
    """Rate of a natural-gradient step under the minimal-dissipation law with `Z = (1/2 + relaxation) F`.

    Args:
        left: updates left, this one included.
        n_updates: updates in all.
        relaxation: summed autocorrelations, or None for weighted walkers (no friction).
        has_jumps: first and last update are jumps.
        offset: where there is no friction.
    """
    if relaxation is None:
        return 1.0 / (left - 1 + offset)
    if not has_jumps:
        return 1.0 / (left + 0.5 + relaxation)
    is_end = (left == 1) | (left == n_updates)
    return jnp.where(is_end, 1.0 + relaxation, 1.0) / (left + 2 * relaxation)


def _with_friction(scores, state, friction, left, n_updates, has_jumps, metric) -> Any:
    """`[K_rem F + c Z + damping]^-1 g`, with the factor `F^-1 (Z + F/2)` of the jumps."""
    gradient, unravel = ravel_pytree(scores.gradient())
    f = solve.metric_matrix(scores, metric)
    f = f + state.damping * jnp.eye(len(f), dtype=f.dtype)
    if not has_jumps:
        return unravel(jnp.linalg.solve(left * f + friction, gradient))
    inner = jnp.linalg.solve((left - 1) * f + 2 * friction, gradient)
    is_end = (left == 1) | (left == n_updates)
    jump = jnp.linalg.solve(f, (friction + 0.5 * f) @ inner)
    return unravel(jnp.where(is_end, jump, inner))


def _direction(solver, metric, memory, max_iterations, scores, state) -> tuple[Any, Any, Any, Any]:
    """`(F + damping)^-1 g`, the solver's new memory, what the direction makes of the walkers' noise, and `|A'g|`."""
    if solver == "samples":
        found = solve.samples_and_noise(scores, state.damping)
        return found.step, None, found.noise, found.norm
    return *_other_direction(solver, metric, memory, max_iterations, scores, state), jnp.nan, None


def _other_direction(solver, metric, memory, max_iterations, scores, state) -> tuple[Any, Any]:
    """Direction and new memory of the solvers that do not tell what they make of the noise."""
    if solver == "dense":
        return solve.dense(scores, state.damping, metric=metric), None
    if solver == "woodbury":
        return solve.woodbury(scores, state.damping, metric=metric), None
    if solver == "kfac":
        return kfac.step(scores, state.damping, metric=metric), None
    if solver == "robust":
        return solve.robust(scores, state.damping, metric=metric), None
    if solver in ("cg", "minres"):
        start = jax.tree.map(lambda d: memory * d, state.memory)
        iterated = solve.conjugate_gradients if solver == "cg" else solve.minimal_residual
        found = iterated(scores, state.damping, start, metric=metric, max_iterations=max_iterations)
        return found, found
    now = scores.variances(scores.pool(metric))
    # a plain mean at first, which forgets the zeros that the average starts from
    decay = jnp.minimum(memory, state.count / (state.count + 1.0))
    averaged = jax.tree.map(lambda old, new: (decay * old + (1 - decay) * new).astype(new.dtype), state.memory, now)
    return solve.diagonal(scores, state.damping, averaged), averaged


def _transformation(damping, solver, rate_of, direction_of, max_kl, is_adaptive) -> Any:
    def init(params: Any) -> MetricState:
        leaves = jax.tree.leaves(params)
        dtype = jnp.result_type(*leaves) if leaves else float
        zero = jnp.zeros((), dtype)
        kept = jax.tree.map(jnp.zeros_like, params) if solver in ("cg", "minres", "diagonal") else None
        return MetricState(jnp.zeros((), jnp.int32), jnp.asarray(damping, dtype), zero, zero, kept, zero, zero)

    def update(updates: Any, state: MetricState, params: Any = None, **extra_args: Any) -> tuple[Any, MetricState]:
        del params
        scores, friction = extra_args.get("scores"), extra_args.get("friction")
        if scores is None:
            raise InputError(
                "a metric step needs the scores of walkers and data, which this rule does not hand over; use "
                "MaximumLikelihood with positive = 'exact', or pass scores = scores_of(...)"
            )
        found, memory, noise, norm = direction_of(scores, state, friction)
        norm = optax.tree.norm(scores.into(scores.gradient())) if norm is None else norm
        rate = rate_of(state.count, scores, extra_args)
        feedback = rate * noise
        step = jax.tree.map(lambda d: -rate * d, found)
        kl, ratio, new_damping = state.kl, state.ratio, state.damping
        if max_kl is not None or is_adaptive:
            kl = 0.5 * solve.curvature(scores, step)
        if max_kl is not None:
            scale = jnp.where(kl > max_kl, jnp.sqrt(max_kl / jnp.where(kl > max_kl, kl, 1.0)), 1.0)
            step, kl, feedback = jax.tree.map(lambda d: scale * d, step), scale**2 * kl, scale * feedback
        if is_adaptive:
            ratio = reduction_ratio(scores, step, kl)
            factor = jnp.where(ratio > 0.75, LOWER, jnp.where(ratio < 0.25, RAISE, 1.0))
            new_damping = state.damping * factor
        step = jax.tree.map(lambda d, g: d.astype(g.dtype), step, updates)
        kept = MetricState(
            state.count + 1,
            new_damping.astype(state.damping.dtype),
            jnp.asarray(ratio, state.ratio.dtype),
            jnp.asarray(kl, state.kl.dtype),
            memory,
            jnp.asarray(feedback, state.feedback.dtype),
            jnp.asarray(norm, state.norm.dtype),
        )
        return step, kept

    functions: Any = (init, update)
    return optax.GradientTransformationExtraArgs(*functions)


def makes_steps_of_scores(opt_state: Any) -> bool:
    """Whether an optimiser with this state, or a part of its chain, is one of this module."""
    return bool(_of_metric(opt_state))


def feedback_of(opt_state: Any) -> Scalar:
    """Work of the last update's noise on the walkers that caused it, nats, from the state of such an optimiser."""
    return sum((state.feedback for state in _of_metric(opt_state)), jnp.zeros(()))


def norm_of(opt_state: Any) -> Scalar:
    """Length of the last gradient in the scores' coordinates, from the state of such an optimiser."""
    return _of_metric(opt_state)[0].norm


def _of_metric(opt_state: Any) -> list[MetricState]:
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, MetricState))
    return [leaf for leaf in leaves if isinstance(leaf, MetricState)]


def reduction_ratio(scores: AbstractScores, step: Any, kl: ScalarLike) -> Scalar:
    """Change of the negative log-likelihood over a step, divided by its prediction `g.d + d'F d / 2`.

    The change is `sum_j m_j du_j + log sum_i w_i exp(-du_i)` with the exact changes `du` of all potentials: 1 for small
    steps, for walkers that represent the model.

    Args:
        scores: rows before the step.
        step: the step.
        kl: `d'F d / 2` with the walkers' metric, nats.
    """
    du, n = scores.change(step), scores.n_walkers
    actual = scores.data_weights @ du[n:] + jax.nn.logsumexp(-du[:n], b=scores.weights)
    predicted = scores.signed @ scores.push(step) + kl
    if scores.extra is not None:  # what the penalties gain, to first order
        gain = sum(jax.tree.leaves(jax.tree.map(lambda p, d: jnp.sum(p * d), scores.extra, step)))
        actual, predicted = actual + gain, predicted + gain
    return actual / predicted


def _check(*, damping: Any, solver: Any, metric: Any, max_kl: Any, memory: Any, max_iterations: Any) -> None:
    if not (np.isfinite(damping) and damping > 0):
        raise InputError(f"damping must be positive, got {damping}; the rows always have a null direction")
    if solver not in get_args(Solver):
        raise InputError(f"unknown solver {solver!r}; choose one of {get_args(Solver)}")
    if metric not in METRICS:
        raise InputError(f"unknown metric {metric!r}; choose one of {METRICS}")
    if solver == "samples" and metric != "pooled":
        raise InputError("solver = 'samples' has the pooled metric; for walkers alone use 'woodbury', 'dense' or 'cg'")
    if max_kl is not None and not max_kl > 0:
        raise InputError(f"max_kl is a relative entropy in nats, positive, got {max_kl}")
    if not 0 <= memory < 1 or max_iterations < 1:
        raise InputError(f"memory in [0, 1) and max_iterations >= 1 are needed, got {memory} and {max_iterations}")
