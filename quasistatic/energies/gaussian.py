"""Gaussian and Gaussian-mixture energies, and independent units: laws with exact Z and exact samples.

They are the places where books can be opened (known `log Z`, exact start) and the judges of the Langevin kernels.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from quasistatic._random import split
from quasistatic._types import Key, Scalar, ScalarLike
from quasistatic.energies.base import AbstractTractable
from quasistatic.energies.units import AbstractUnits
from quasistatic.errors import InputError


def _precision_factor(covariance: Float[Array, "*k d d"]) -> Float[Array, "*k d d"]:
    """Lower-triangular `L` with `L L^T` = inverse covariance."""
    return jnp.linalg.cholesky(jnp.linalg.inv(covariance))


class Gaussian(AbstractTractable):
    """Quadratic energy `E(x) = 1/2 |L^T (x - m)|^2` with precision `K = L L^T`.

    `log Z(beta) = (d/2) log(2 pi / beta) - sum_i log |L_ii|`.

    Args:
        mean: `m`, shape `(d,)`.
        precision_factor: lower-triangular `L`, shape `(d, d)`; entries above the diagonal are ignored.
    """

    mean: Float[Array, " d"]
    precision_factor: Float[Array, "d d"]

    @classmethod
    def from_covariance(cls, mean: Float[Array, " d"], covariance: Float[Array, "d d"]) -> "Gaussian":
        """Gaussian with this mean and covariance. Raises: InputError unless symmetric positive definite."""
        host = np.asarray(covariance)
        if host.ndim != 2 or not np.allclose(host, host.T) or np.linalg.eigvalsh(host).min() <= 0:
            raise InputError("the covariance must be a symmetric positive definite (d, d) matrix")
        return cls(jnp.asarray(mean), _precision_factor(jnp.asarray(covariance)))

    def __call__(self, x: Float[Array, " d"]) -> Scalar:
        return 0.5 * jnp.sum((jnp.tril(self.precision_factor).T @ (x - self.mean)) ** 2)

    def log_partition(self, beta: ScalarLike) -> Scalar:
        log_diagonal = jnp.log(jnp.abs(jnp.diagonal(self.precision_factor)))
        return 0.5 * self.mean.size * jnp.log(2 * jnp.pi / beta) - jnp.sum(log_diagonal)

    def sample_exact(self, key: Key, beta: ScalarLike, n: int) -> Float[Array, "n d"]:
        noise = jax.random.normal(key, (n, self.mean.size), self.mean.dtype) / jnp.sqrt(beta)
        return self.mean + solve_triangular(jnp.tril(self.precision_factor), noise.T, lower=True, trans=1).T

    def interaction_mask(self) -> "Gaussian":
        return jax.tree.map(lambda _: False, self)


class GaussianMixture(AbstractTractable):
    """`E(x) = -log sum_k exp(a_k - 1/2 |L_k^T (x - m_k)|^2)`, with free (unnormalised) log masses `a_k`.

    `log Z(1) = log sum_k exp(a_k + (d/2) log 2 pi - sum_i log |L_k,ii|)`; other beta have no closed form.

    Args:
        log_masses: `a_k`, shape `(k,)`. The energy of the paper's two-mode example has `a_k = -z_k`.
        means: `m_k`, shape `(k, d)`.
        precision_factors: lower-triangular `L_k`, shape `(k, d, d)`.
    """

    log_masses: Float[Array, " k"]
    means: Float[Array, "k d"]
    precision_factors: Float[Array, "k d d"]

    @classmethod
    def from_covariances(
        cls, probabilities: Float[Array, " k"], means: Float[Array, "k d"], covariances: Float[Array, "k d d"]
    ) -> "GaussianMixture":
        """Normalised mixture (`log Z(1) = 0`) with these component probabilities, means and covariances."""
        factors = _precision_factor(jnp.asarray(covariances))
        energy = cls(jnp.zeros(len(means)), jnp.asarray(means), factors)
        return cls(jnp.log(jnp.asarray(probabilities)) - energy._log_volumes(), jnp.asarray(means), factors)

    def _log_volumes(self) -> Float[Array, " k"]:
        log_diagonal = jnp.log(jnp.abs(jnp.diagonal(self.precision_factors, axis1=-2, axis2=-1)))
        return 0.5 * self.means.shape[-1] * jnp.log(2 * jnp.pi) - jnp.sum(log_diagonal, axis=-1)

    def __call__(self, x: Float[Array, " d"]) -> Scalar:
        whitened = jnp.einsum("kji,kj->ki", jnp.tril(self.precision_factors), x - self.means)
        return -jax.nn.logsumexp(self.log_masses - 0.5 * jnp.sum(whitened**2, axis=-1))

    def log_partition(self, beta: ScalarLike) -> Scalar:
        log_z = jax.nn.logsumexp(self.log_masses + self._log_volumes())
        return eqx.error_if(
            log_z,
            beta != 1,
            "a Gaussian mixture has a closed-form log Z at beta = 1 only; bridge to other beta",
        )

    @property
    def has_any_beta(self) -> bool:
        return False

    def sample_exact(self, key: Key, beta: ScalarLike, n: int) -> Float[Array, "n d"]:
        key_component, key_noise = jax.random.split(key)
        component = jax.random.categorical(key_component, self.log_masses + self._log_volumes(), shape=(n,))
        noise = jax.random.normal(key_noise, (n, self.means.shape[1]), self.means.dtype)
        factors = jnp.tril(self.precision_factors)[component]
        offset = jax.vmap(lambda factor, e: solve_triangular(factor, e, lower=True, trans=1))(factors, noise)
        x = self.means[component] + offset
        return eqx.error_if(
            x, beta != 1, "a Gaussian mixture is sampled exactly at beta = 1 only; bridge to other beta"
        )

    def interaction_mask(self) -> "GaussianMixture":
        return jax.tree.map(lambda _: False, self)


class IndependentUnits(AbstractTractable):
    """Units without interactions, `E(x) = -b . x + sum_i e(x_i)`: the base from which RBM and pairwise books start.

    Args:
        fields: `b`, shape `(n,)`.
        units: the unit type.
    """

    fields: Float[Array, " n"]
    units: AbstractUnits

    def __call__(self, x: Float[Array, " n"]) -> Scalar:
        return jnp.sum(self.units.energies(x)) - self.fields @ x

    def validate(self, x: np.ndarray, *, name: str = "data") -> None:
        self.units.validate(x, name=name)

    def _natural(self, beta: ScalarLike):
        return jax.tree.map(lambda leaf: beta * leaf, self.units.natural(self.fields))

    def log_partition(self, beta: ScalarLike) -> Scalar:
        return jnp.sum(self.units.cgf(self._natural(beta)))

    def sample_exact(self, key: Key, beta: ScalarLike, n: int) -> Float[Array, "n size"]:
        natural = self._natural(beta)
        return jax.vmap(lambda key_sample: self.units.sample(key_sample, natural))(split(key, n))


class UniformBox(AbstractTractable):
    """Uniform law on a box: zero energy inside, infinite outside.

    Used as the base of a bridge it confines the *target* to the box too, so its kernel must reject moves that leave
    the box (MALA does; unadjusted Langevin cannot and is refused).

    Args:
        low: lower corner, shape `(d,)`.
        high: upper corner, shape `(d,)`.
    """

    low: Float[Array, " d"]
    high: Float[Array, " d"]

    def __call__(self, x: Float[Array, " d"]) -> Scalar:
        return jnp.where(jnp.all((x >= self.low) & (x <= self.high)), 0.0, jnp.inf)

    def log_partition(self, beta: ScalarLike) -> Scalar:
        return jnp.sum(jnp.log(self.high - self.low)) + 0.0 * beta

    def sample_exact(self, key: Key, beta: ScalarLike, n: int) -> Float[Array, "n d"]:
        return jax.random.uniform(key, (n, self.low.size), self.low.dtype, self.low, self.high)
