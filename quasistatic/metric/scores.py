"""Scores: the rows `s_i = du(x_i)/dtheta` of walkers and data, used without being written down.

Metric and gradient of maximum likelihood are made of the same rows. With weights `w` of the walkers and `m` of the data

    g = sum_j m_j s_j - sum_i w_i s_i            gradient of the negative log-likelihood
    F = Cov_q(s),   B = sqrt(q) (s - q.s),       F = B'B          (Fisher: q = w)

for any law `q` over the rows. All solvers need are four products: `push(d) = S d`, `pull(a) = S'a`, the Gram matrix
`B B'` and variances of columns. Potentials are reduced, so everything is in nats and free of beta.

*Coordinates*: damping acts on the length of a step, hence depends on how parameters are written. Where scores have
coordinates `theta = A theta_c` of their own (`RBMScores`, centred), the Gram matrix is that of `S A`, and `to_step`
returns `A A' g`, the step of steepest descent there. Steps and gradients are in the original parameters everywhere.

Reference:
    S. Amari, Neural Comput. 10, 251 (1998) (natural gradient); Desjardins et al., ICLR 2013 (arXiv 1301.3545) (the
    covariance of energy gradients as the metric of a Boltzmann machine).
"""

import abc
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import ScalarLike
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.potential import Potential

Metric = Literal["pooled", "model"]
METRICS = ("pooled", "model")
"""Which rows the metric is the covariance of: walkers and data, half each, or walkers only (Fisher)."""


class AbstractScores(eqx.Module):
    """Rows of walkers, then of data.

    Args:
        energy: present model.
        beta: inverse temperature.
        x: walkers, then data, shape `(n + m, ...)`.
        weights: weights of the walkers, shape `(n,)`, summing to 1.
        data_weights: weights of the data, shape `(m,)`, summing to 1.
        extra: gradient that the rule adds to the contrast (penalties), or None.
        is_weighted: whether `weights` are the walkers' account weights; there is then no lag to correct.

    A complete member has `push`, `pull`, `gram`, `variances` and the two phases; `RBMScores` and `AutodiffScores` are
    the shortest and the most general one.
    """

    energy: eqx.AbstractVar[Any]
    beta: eqx.AbstractVar[ScalarLike]
    x: eqx.AbstractVar[Float[Array, "rows ..."]]
    weights: eqx.AbstractVar[Float[Array, " n"]]
    data_weights: eqx.AbstractVar[Float[Array, " m"]]
    extra: eqx.AbstractVar[Any]
    is_weighted: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def push(self, step: Any) -> Float[Array, " rows"]:
        """`S d`: first-order change of every row's potential under a step, nats."""

    @abc.abstractmethod
    def pull(self, a: Float[Array, " rows"]) -> Any:
        """`S'a`: a gradient, shaped like the trained parameters."""

    @abc.abstractmethod
    def gram(self, q: Float[Array, " rows"]) -> Float[Array, "rows rows"]:
        """`B A A' B'` with `B = sqrt(q) (s - q.s)`, in the scores' coordinates."""

    @abc.abstractmethod
    def variances(self, q: Float[Array, " rows"]) -> Any:
        """Variance of every column under `q`, in the scores' coordinates, shaped like the trained parameters."""

    @abc.abstractmethod
    def data_phase(self) -> Any:
        """`sum_j m_j s_j` over the data."""

    @abc.abstractmethod
    def model_phase(self) -> Any:
        """`sum_i w_i s_i` over the walkers."""

    def into(self, gradient: Any) -> Any:
        """`A'g`: a gradient in the scores' coordinates."""
        return gradient

    def out(self, step: Any) -> Any:
        """`A d_c`: a step in the original parameters."""
        return step

    def to_step(self, gradient: Any) -> Any:
        """`A A'g`: the direction of steepest ascent in the scores' coordinates."""
        return self.out(self.into(gradient))

    def to_gradient(self, step: Any) -> Any:
        """`(A A')^-1 d`: the inverse of `to_step`."""
        return step

    @property
    def n_walkers(self) -> int:
        return self.weights.shape[0]

    @property
    def signed(self) -> Float[Array, " rows"]:
        """Coefficients of the contrast: `-w` of the walkers, `m` of the data."""
        return jnp.concatenate([-self.weights, self.data_weights])

    def contrast(self) -> Any:
        """Gradient `g` of the negative log-likelihood, penalties left out."""
        return self.pull(self.signed)

    def gradient(self) -> Any:
        """The contrast with penalties."""
        contrast = self.contrast()
        return contrast if self.extra is None else jax.tree.map(jnp.add, contrast, self.extra)

    def pool(self, metric: Metric = "pooled") -> Float[Array, " rows"]:
        """Law `q` over the rows: half walkers and half data (`"pooled"`), or walkers only (`"model"`)."""
        if metric == "model":
            return jnp.concatenate([self.weights, jnp.zeros_like(self.data_weights)])
        return 0.5 * jnp.concatenate([self.weights, self.data_weights])

    def centred_push(self, q: Float[Array, " rows"], step: Any) -> Float[Array, " rows"]:
        """`B d`."""
        rows = self.push(step)
        return jnp.sqrt(q) * (rows - q @ rows)

    def centred_pull(self, q: Float[Array, " rows"], a: Float[Array, " rows"]) -> Any:
        """`B'a`."""
        root = jnp.sqrt(q)
        return self.pull(root * a - q * (root @ a))

    def apply_metric(self, q: Float[Array, " rows"], step: Any) -> Any:
        """`F d = B'B d`, in two passes over the rows."""
        return self.centred_pull(q, self.centred_push(q, step))

    def change(self, step: Any) -> Float[Array, " rows"]:
        """Exact change of every row's potential under a step, nats: work of the walkers, data alike."""
        trained, fixed = eqx.partition(self.energy, eqx.is_inexact_array)
        moved = eqx.combine(jax.tree.map(lambda p, d: p + d.astype(p.dtype), trained, step), fixed)
        return _potentials(moved, self.beta, self.x) - _potentials(self.energy, self.beta, self.x)


class AutodiffScores(AbstractScores):
    """Scores of any energy: one forward pass per `push`, one reverse pass per `pull`.

    Args:
        cache: what a kernel stored for the walkers, if the energy can reuse it.
        block: rows whose gradients exist at the same time in `gram` and `variances`, 0 for all. Blocks trade memory
            (`block` times the parameters) for repeated reverse passes.

    The other arguments are those of `AbstractScores`.
    """

    energy: AbstractEnergy
    beta: ScalarLike
    x: Float[Array, "rows ..."]
    weights: Float[Array, " n"]
    data_weights: Float[Array, " m"]
    cache: Any = None
    extra: Any = None
    is_weighted: bool = eqx.field(static=True, default=False)
    block: int = eqx.field(static=True, default=0)

    def push(self, step: Any) -> Float[Array, " rows"]:
        trained, fixed = self._parts
        step = jax.tree.map(lambda p, d: d.astype(p.dtype), trained, step)
        return jax.jvp(lambda p: _potentials(eqx.combine(p, fixed), self.beta, self.x), (trained,), (step,))[1]

    def pull(self, a: Float[Array, " rows"]) -> Any:
        trained, fixed = self._parts
        u, reverse = jax.vjp(lambda p: _potentials(eqx.combine(p, fixed), self.beta, self.x), trained)
        return reverse(a.astype(u.dtype))[0]

    def gram(self, q: Float[Array, " rows"]) -> Float[Array, "rows rows"]:
        mean = self.pull(q)
        n, root = q.shape[0], jnp.sqrt(q)
        if not self.block or n <= self.block:
            rows = self._rows(self.x, mean)
            return root[:, None] * _products(rows, rows) * root
        blocks = self._blocked(self.x)

        def against_all(a: Array) -> Array:
            rows = self._rows(a, mean)
            return jax.lax.map(lambda b: _products(rows, self._rows(b, mean)), blocks)

        tiles = jax.lax.map(against_all, blocks)  # (i, j, row of i, row of j)
        whole = tiles.transpose(0, 2, 1, 3).reshape(2 * (tiles.shape[0] * tiles.shape[2],))
        return root[:, None] * whole[:n, :n] * root

    def variances(self, q: Float[Array, " rows"]) -> Any:
        mean = self.pull(q)

        def squares(x: Array, weight: Array) -> Any:
            rows = self._rows(x, mean)
            return jax.tree.map(lambda leaf: jnp.tensordot(weight, leaf**2, 1), rows)

        if not self.block or q.shape[0] <= self.block:
            return squares(self.x, q)
        parts = jax.lax.map(lambda part: squares(*part), (self._blocked(self.x), self._blocked(q, pad_with_zero=True)))
        return jax.tree.map(lambda leaf: jnp.sum(leaf, 0), parts)

    def data_phase(self) -> Any:
        return self.energy.weighted_gradient(self.x[self.n_walkers :], self.data_weights, self.beta)

    def model_phase(self) -> Any:
        return self.energy.weighted_gradient(self.x[: self.n_walkers], self.weights, self.beta, self.cache)

    @property
    def _parts(self) -> tuple[Any, Any]:
        return eqx.partition(self.energy, eqx.is_inexact_array)

    def _rows(self, x: Array, mean: Any) -> Any:
        """Gradients of the samples `x` less a mean, rows first."""
        trained, fixed = self._parts
        one = jax.grad(lambda p, sample: eqx.combine(p, fixed).reduced(sample, self.beta))
        return jax.tree.map(jnp.subtract, jax.vmap(one, (None, 0))(trained, x), mean)

    def _blocked(self, rows: Array, *, pad_with_zero: bool = False) -> Array:
        """Rows in blocks; the last one is filled up with zeros or with copies of the first row."""
        missing = -rows.shape[0] % self.block
        filling = jnp.broadcast_to(rows[:1], (missing, *rows.shape[1:]))
        rows = jnp.concatenate([rows, jnp.zeros_like(filling) if pad_with_zero else filling])
        return rows.reshape(-1, self.block, *rows.shape[1:])


def _potentials(energy: Any, beta: Any, x: Array) -> Float[Array, " rows"]:
    return jax.vmap(Potential(energy, beta))(x)


def _products(a: Any, b: Any) -> Float[Array, "i j"]:
    """Inner products of rows, summed over the leaves of a pytree."""

    def one(left: Array, right: Array) -> Array:
        flat = left.reshape(left.shape[0], -1), right.reshape(right.shape[0], -1)
        return jnp.matmul(flat[0], flat[1].T, precision=jax.lax.Precision.HIGHEST)

    return sum(jax.tree.leaves(jax.tree.map(one, a, b)), start=jnp.zeros(()))
