"""The known spin model of the recipe `ising`: a periodic 4x4 lattice with skewed random couplings and fields.

Sixteen spins have 65,536 states, so the data are drawn from the exact law and the learned couplings can be
judged by the statistical error of their data, `cov = F^-1 / n` with the Fisher matrix `F` of all states.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from quasistatic.datasets import Dataset
from quasistatic.energies.pairwise import Pairwise, complete_graph, square_lattice

SIDE = 4
SEED = 20231101  # of the truth and of its samples, whatever the seed of the run


@dataclass(frozen=True)
class Recovery:
    """How well a learned model agrees with the truth.

    Args:
        rms: root mean square error of the couplings over all pairs.
        rms_expected: the same for a maximum-likelihood fit to as many samples (Fisher information).
        chi2: `n (theta - truth)' F (theta - truth)` over all fields and couplings.
        dof: number of fields and couplings: the mean of `chi2`, whose standard deviation is `sqrt(2 dof)`.
    """

    rms: float
    rms_expected: float
    chi2: float
    dof: int

    @property
    def z(self) -> float:
        """Standard score of `chi2`."""
        return (self.chi2 - self.dof) / np.sqrt(2 * self.dof)


def truth() -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n_edges"], Int[np.ndarray, "n_edges 2"]]:
    """Fields, couplings and edges of the model that made the data; both are skewed, so that signs matter."""
    rng = np.random.default_rng(SEED)
    edges = square_lattice(SIDE, SIDE)
    couplings = 0.3 * (rng.exponential(size=len(edges)) - 0.6)
    fields = 0.25 * (rng.exponential(size=SIDE * SIDE) - 0.7)
    return fields, couplings, edges


def states() -> Float[np.ndarray, "n_states n"]:
    """All configurations of the lattice."""
    n = SIDE * SIDE
    return 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) - 1.0


def ising(n_samples: int) -> Dataset:
    """Exact samples of the known model: `n_samples` for training and a fifth as many held out."""
    x = states()
    fields, couplings, edges = truth()
    log_p = x @ fields + (x[:, edges[:, 0]] * x[:, edges[:, 1]]) @ couplings
    p = np.exp(log_p - log_p.max())
    cumulated = np.cumsum(p / p.sum())
    n_heldout = max(n_samples // 5, 1)
    uniform = np.random.default_rng([SEED, 1]).random(n_samples + n_heldout)
    drawn = x[np.minimum(np.searchsorted(cumulated, uniform), len(x) - 1)].astype(np.float32)
    return Dataset(
        name="ising",
        train=drawn[:n_samples],
        heldout=drawn[n_samples:],
        test=None,
        event_shape=(SIDE, SIDE),
        kind="spin",
        provenance={
            "source": f"exact samples of a known periodic {SIDE}x{SIDE} lattice of spins",
            "rule": f"couplings and draws of seed {SEED}",
            "fields": fields.tolist(),
            "edges": edges.tolist(),
            "couplings": couplings.tolist(),
        },
    )


def recovery(model: Pairwise, n_samples: int) -> Recovery:
    """Errors of a learned model against the truth, in units of what `n_samples` samples allow.

    Args:
        model: pairwise spin model over the same sites.
        n_samples: training samples.
    """
    fields, couplings, edges = truth()
    pairs = complete_graph(SIDE * SIDE)
    difference = np.concatenate([np.asarray(model.fields, float), _dense(model.couplings, model.edges)[_upper(pairs)]])
    difference -= np.concatenate([fields, _dense(couplings, edges)[_upper(pairs)]])
    x = states()
    features = np.concatenate([x, x[:, pairs[:, 0]] * x[:, pairs[:, 1]]], axis=1)
    log_p = x @ fields + (x[:, edges[:, 0]] * x[:, edges[:, 1]]) @ couplings
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    centred = features - p @ features
    fisher = (centred * p[:, None]).T @ centred
    variance = np.diagonal(np.linalg.inv(fisher))[len(fields) :] / n_samples
    return Recovery(
        rms=float(np.sqrt(np.mean(difference[len(fields) :] ** 2))),
        rms_expected=float(np.sqrt(np.mean(variance))),
        chi2=float(n_samples * difference @ fisher @ difference),
        dof=len(difference),
    )


def _dense(couplings, edges) -> Float[np.ndarray, "n n"]:
    matrix = np.zeros((SIDE * SIDE, SIDE * SIDE))
    edges = np.asarray(edges)
    matrix[edges[:, 0], edges[:, 1]] = np.asarray(couplings, float)
    return matrix


def _upper(pairs) -> tuple[np.ndarray, np.ndarray]:
    return pairs[:, 0], pairs[:, 1]
