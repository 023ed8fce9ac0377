"""Scores in product form: RBMs and pairwise models, whose rows are outer products.

A row of an RBM is `s = -beta (v h', v, h)` with `h` the hidden means given `v`. With `V`, `H` the matrices of all rows

    S d = -beta [ rowsum((V dW) o H) + V db + H dc ],    S'a = -beta (V'diag(a) H, V'a, H'a),
    S S' = beta^2 [ (V V') o (H H') + V V' + H H' ],

so that `n` rows of `P` parameters cost products of `n x n_visible` and `n x n_hidden` matrices and no memory of order
`n P`. Centred coordinates replace `V`, `H` by `V - mu`, `H - lam`: the parameters of
`E = -(v - mu)'W (h - lam) - b_c.v - c_c.h`, `b = b_c - W lam`, `c = c_c - W'mu`, which are conditioned better.

Reference:
    Melchior, Fischer and Wiskott, JMLR 17 (2016), section 3 (centring); Desjardins et al. (arXiv 1301.3545).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import ScalarLike
from quasistatic.energies.pairwise import Pairwise
from quasistatic.energies.rbm import RBM
from quasistatic.errors import InputError
from quasistatic.metric.scores import AbstractScores, AutodiffScores

HIGHEST = jax.lax.Precision.HIGHEST
N_BLOCKS = 4
"""Blocks of rows of a symmetric product."""
LARGEST = 2**27
"""Numbers in the per-row gradients that `AutodiffScores` writes down at once."""


class RBMScores(AbstractScores):
    """Scores of an RBM.

    Args:
        hidden: hidden means given the rows of `x`, shape `(rows, n_hidden)`.
        inputs: hidden inputs `c + v'W` of the rows.
        offsets: `(mu, lam)` of centred coordinates, or None for the original ones.

    The other arguments are those of `AbstractScores`.
    """

    energy: RBM
    beta: ScalarLike
    x: Float[Array, "rows n_visible"]
    hidden: Float[Array, "rows n_hidden"]
    inputs: Float[Array, "rows n_hidden"]
    weights: Float[Array, " n"]
    data_weights: Float[Array, " m"]
    offsets: tuple[Float[Array, " n_visible"], Float[Array, " n_hidden"]] | None = None
    extra: Any = None
    is_weighted: bool = eqx.field(static=True, default=False)

    @classmethod
    def of(
        cls,
        energy: RBM,
        beta: ScalarLike,
        walkers: Float[Array, "n n_visible"],
        data: Float[Array, "m n_visible"],
        weights: Float[Array, " n"],
        data_weights: Float[Array, " m"],
        *,
        inputs: Float[Array, "n n_hidden"] | None = None,
        is_centred: bool = False,
        is_weighted: bool = False,
    ) -> "RBMScores":
        """Scores of walkers and data.

        Args:
            energy: the RBM.
            beta: inverse temperature.
            walkers: visible states of the walkers.
            data: visible states of the data.
            weights: weights of the walkers.
            data_weights: weights of the data.
            inputs: hidden inputs of the walkers if already known (the cache of `BlockGibbs`).
            is_centred: whether steps are measured in centred coordinates; the offsets are the mean activities of
                walkers and data, half each.
            is_weighted: whether the weights are those of the account.
        """
        inputs = energy.hidden_inputs(walkers) if inputs is None else inputs
        inputs = jnp.concatenate([inputs, energy.hidden_inputs(data)])
        x = jnp.concatenate([walkers, data.astype(walkers.dtype)])
        hidden = jax.vmap(lambda i: energy.hidden.mean(energy.hidden_natural(i, beta)))(inputs)
        q = 0.5 * jnp.concatenate([weights, data_weights])
        return cls(
            energy=energy,
            beta=beta,
            x=x,
            hidden=hidden,
            inputs=inputs,
            weights=weights,
            data_weights=data_weights,
            offsets=(q @ x, q @ hidden) if is_centred else None,
            is_weighted=is_weighted,
        )

    def push(self, step: RBM) -> Float[Array, " rows"]:
        through = jnp.sum((self.x @ step.weights) * self.hidden, axis=1)
        return -self.beta * (through + self.x @ step.visible_bias + self.hidden @ step.hidden_bias)

    def pull(self, a: Float[Array, " rows"]) -> RBM:
        return self._phase(slice(None), a)

    def gram(self, q: Float[Array, " rows"]) -> Float[Array, "rows rows"]:
        mu, lam = (q @ self.x, q @ self.hidden) if self.offsets is None else self.offsets
        v, h = self.x - mu, self.hidden - lam
        visible, hidden = inner_products(v), inner_products(h)
        if self.offsets is None:
            # (v.v')(h.h') from centred activities, up to terms of one index, which the centring removes
            p, r = v @ mu, h @ lam
            pairs = (visible + mu @ mu + p[:, None] + p) * (hidden + lam @ lam + r[:, None] + r)
        else:
            pairs = visible * hidden
        return self.beta**2 * centred_gram(pairs + visible + hidden, q)

    def variances(self, q: Float[Array, " rows"]) -> RBM:
        mu, lam = (jnp.zeros(()), jnp.zeros(())) if self.offsets is None else self.offsets
        v, h = self.x - mu, self.hidden - lam
        pairs = (v**2).T @ (q[:, None] * h**2) - (v.T @ (q[:, None] * h)) ** 2
        fields = [q @ (part - q @ part) ** 2 for part in (v, h)]
        return self._like(*(self.beta**2 * jnp.maximum(part, 0) for part in (pairs, *fields)))

    def data_phase(self) -> RBM:
        return self._phase(slice(self.n_walkers, None), self.data_weights)

    def model_phase(self) -> RBM:
        return self._phase(slice(self.n_walkers), self.weights)

    def into(self, gradient: RBM) -> RBM:
        if self.offsets is None:
            return gradient
        mu, lam = self.offsets
        weights = gradient.weights - mu[:, None] * gradient.hidden_bias - gradient.visible_bias[:, None] * lam
        return self._like(weights, gradient.visible_bias, gradient.hidden_bias)

    def out(self, step: RBM) -> RBM:
        if self.offsets is None:
            return step
        mu, lam = self.offsets
        fields = step.visible_bias - step.weights @ lam, step.hidden_bias - mu @ step.weights
        return self._like(step.weights, *fields)

    def to_gradient(self, step: RBM) -> RBM:
        if self.offsets is None:
            return step
        mu, lam = self.offsets
        b, c = step.visible_bias + step.weights @ lam, step.hidden_bias + mu @ step.weights
        return self._like(step.weights + b[:, None] * lam + mu[:, None] * c, b, c)

    def change(self, step: RBM) -> Float[Array, " rows"]:
        moved = jax.tree.map(lambda p, d: p + d.astype(p.dtype), self.energy, step)
        before = jax.vmap(lambda v, i: self.energy.reduced_from_inputs(v, i, self.beta))(self.x, self.inputs)
        return jax.vmap(lambda v: moved.reduced(v, self.beta))(self.x) - before

    def _phase(self, rows: slice, a: Array) -> RBM:
        v, h, scaled = self.x[rows], self.hidden[rows], -self.beta * a
        weighted = scaled[:, None] * v
        return self._like(weighted.T @ h, jnp.sum(weighted, 0), scaled @ h)

    def _like(self, weights: Array, visible_bias: Array, hidden_bias: Array) -> RBM:
        return RBM(weights, visible_bias, hidden_bias, self.energy.visible, self.energy.hidden)


class PairwiseScores(AbstractScores):
    """Scores of a pairwise model, rows `-beta (x, x_i x_j)`.

    On the complete graph the Gram matrix is `x.y + ((x.y)^2 - x^2.y^2) / 2`; on sparser graphs the products of the
    edges are written out, as many numbers as the graph has edges per row. Arguments are those of `AbstractScores`.
    """

    energy: Pairwise
    beta: ScalarLike
    x: Float[Array, "rows n_units"]
    weights: Float[Array, " n"]
    data_weights: Float[Array, " m"]
    extra: Any = None
    is_weighted: bool = eqx.field(static=True, default=False)

    @property
    def is_complete(self) -> bool:
        """Whether every pair of units has an edge."""
        n = self.energy.units.size
        return self.energy.edges.shape[0] == n * (n - 1) // 2

    def push(self, step: Pairwise) -> Float[Array, " rows"]:
        edges, n = self.energy.edges, self.energy.units.size
        upper = jnp.zeros((n, n), step.couplings.dtype).at[edges[:, 0], edges[:, 1]].add(step.couplings)
        return -self.beta * (self.x @ step.fields + jnp.sum((self.x @ upper) * self.x, axis=1))

    def pull(self, a: Float[Array, " rows"]) -> Any:
        return self.energy.weighted_gradient(self.x, a, self.beta)

    def gram(self, q: Float[Array, " rows"]) -> Float[Array, "rows rows"]:
        x = self.x
        inner = inner_products(x)
        if self.is_complete:
            squares = inner_products(x**2)
            return self.beta**2 * centred_gram(inner + 0.5 * (inner**2 - squares), q)
        pairs = self._pairs()
        pairs = pairs - q @ pairs
        return self.beta**2 * centred_gram(inner + inner_products(pairs), q)

    def variances(self, q: Float[Array, " rows"]) -> Any:
        edges = self.energy.edges
        x = self.x
        first = (q[:, None] * x).T @ x
        second = (q[:, None] * x**2).T @ x**2
        pairs = (second - first**2)[edges[:, 0], edges[:, 1]]
        fields = q @ (x - q @ x) ** 2
        scaled = [self.beta**2 * jnp.maximum(part, 0) for part in (fields, pairs)]
        return eqx.tree_at(lambda m: (m.fields, m.couplings, m.edges), self.energy, (*scaled, None))

    def data_phase(self) -> Any:
        return self.energy.weighted_gradient(self.x[self.n_walkers :], self.data_weights, self.beta)

    def model_phase(self) -> Any:
        return self.energy.weighted_gradient(self.x[: self.n_walkers], self.weights, self.beta)

    def _pairs(self) -> Float[Array, "rows n_edges"]:
        edges = self.energy.edges
        return self.x[:, edges[:, 0]] * self.x[:, edges[:, 1]]


def centred_gram(products: Float[Array, "rows rows"], q: Float[Array, " rows"]) -> Float[Array, "rows rows"]:
    """`B B'` from inner products `S S'` of uncentred rows: both sides less their mean under `q`, times `sqrt(q)`.

    Args:
        products: inner products of all pairs of rows; terms of one index alone do not matter.
        q: law over the rows, summing to 1.
    """
    mean = products @ q
    root = jnp.sqrt(q)
    return root[:, None] * (products - mean[:, None] - mean + q @ mean) * root


def inner_products(rows: Float[Array, "rows n"]) -> Float[Array, "rows rows"]:
    """`V V'`, of which the lower blocks are copied: three fifths of the arithmetic, and of the time."""
    n = rows.shape[0]
    edges = [n * i // N_BLOCKS for i in range(N_BLOCKS + 1)] if n >= 64 * N_BLOCKS else [0, n]
    bands: list[Array] = []  # band i holds the columns from its own first row on
    whole = []
    for i, (start, stop) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        bands.append(jnp.matmul(rows[start:stop], rows[start:].T, precision=HIGHEST))
        left = [bands[j][:, start - edges[j] : stop - edges[j]].T for j in range(i)]
        whole.append(jnp.concatenate([*left, bands[i]], axis=1))
    return jnp.concatenate(whole)


def scores_of(
    potential: Any,
    walkers: Float[Array, "n ..."],
    data: Float[Array, "m ..."],
    weights: Float[Array, " n"],
    data_weights: Float[Array, " m"],
    *,
    cache: Any = None,
    is_centred: bool = False,
    is_weighted: bool = False,
) -> AbstractScores:
    """Scores of walkers and data in the cheapest form their energy allows.

    Args:
        potential: present model and beta.
        walkers: positions of the walkers.
        data: samples of the data.
        weights: weights of the walkers, summing to 1.
        data_weights: weights of the data, summing to 1.
        cache: what the walkers' kernel stored and the energy can reuse (see `AbstractKernel.shared`).
        is_centred: centred coordinates (RBM only).
        is_weighted: whether `weights` are those of the account.

    Raises:
        InputError: centred coordinates of an energy that has none.
    """
    energy, beta = potential.energy, potential.beta
    rows = (walkers, data, weights, data_weights)
    if isinstance(energy, RBM):
        return RBMScores.of(energy, beta, *rows, inputs=cache, is_centred=is_centred, is_weighted=is_weighted)
    if is_centred:
        raise InputError(f"{type(energy).__name__} has no centred coordinates; set centred = false")
    x = jnp.concatenate([walkers, data.astype(walkers.dtype)])
    if isinstance(energy, Pairwise):
        return PairwiseScores(energy, beta, x, weights, data_weights, is_weighted=is_weighted)
    n_parameters = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(energy, eqx.is_inexact_array)))
    block = 0 if n_parameters * x.shape[0] <= LARGEST else max(LARGEST // n_parameters, 1)
    return AutodiffScores(energy, beta, x, weights, data_weights, cache, is_weighted=is_weighted, block=block)
