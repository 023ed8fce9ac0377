"""Samples of a law that is known, so that what was learned can be compared with the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from quasistatic.datasets.base import Dataset, sha256
from quasistatic.errors import InputError


@dataclass(frozen=True)
class MixtureLaw:
    """Parameters of a mixture of Gaussians.

    Attributes:
        probabilities: Probability of each component.
        means: Mean of each component.
        covariances: Covariance matrix of each component.
    """

    probabilities: Float[np.ndarray, " k"]
    means: Float[np.ndarray, "k d"]
    covariances: Float[np.ndarray, "k d d"]

    def log_density(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """Logarithm of the normalised density at each sample, nats."""
        difference = x[:, None, :] - self.means
        precisions = np.linalg.inv(self.covariances)
        squares = np.einsum("nki,kij,nkj->nk", difference, precisions, difference)
        log_norm = 0.5 * np.linalg.slogdet(2 * np.pi * self.covariances)[1]
        return np.logaddexp.reduce(np.log(self.probabilities) - log_norm - squares / 2, axis=1)


MIXTURE_2D = MixtureLaw(
    probabilities=np.array([0.6, 0.3, 0.1]),
    means=np.array([[-2.0, 0.3], [1.5, 1.7], [1.1, -2.2]]),
    covariances=np.array([[[0.5, 0.2], [0.2, 0.9]], [[0.8, -0.45], [-0.45, 0.4]], [[0.15, 0.02], [0.02, 0.3]]]),
)
"""Law of `mixture_2d`: three components, skewed probabilities, anisotropic covariances."""


def mixture_2d(n: int, seed: int = 0) -> Dataset:
    """Samples of the law `MIXTURE_2D`: `n` for training, a fifth as many (at least one) held out.

    Args:
        n: Number of training samples.
        seed: Seed of the draws.

    Raises:
        InputError: If `n` is below 1 or the seed is negative.
    """
    if n < 1:
        raise InputError(f"the number of samples must be at least 1, got {n}")
    if seed < 0:
        raise InputError(f"seed must not be negative, got {seed}")
    rng = np.random.default_rng(seed)
    n_all = n + max(n // 5, 1)
    component = rng.choice(MIXTURE_2D.probabilities.size, size=n_all, p=MIXTURE_2D.probabilities)
    roots = np.linalg.cholesky(MIXTURE_2D.covariances)[component]
    noise = rng.standard_normal((n_all, 2))
    x = (MIXTURE_2D.means[component] + np.einsum("nij,nj->ni", roots, noise)).astype(np.float32)
    return Dataset(
        name="mixture",
        train=x[:n],
        heldout=x[n:],
        test=None,
        event_shape=None,
        kind="real",
        provenance={
            "source": "drawn from a known mixture of three Gaussians",
            "rule": f"seed {seed}",
            "probabilities": MIXTURE_2D.probabilities.tolist(),
            "means": MIXTURE_2D.means.tolist(),
            "covariances": MIXTURE_2D.covariances.tolist(),
            "sha256": {"samples": sha256(x.tobytes())},
        },
    )
