"""What a checkpoint shows: weights, walkers, filters, couplings, as arrays ready to be drawn.

Every function takes the arrays of a checkpoint by name and returns `None` when they hold nothing of the kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._numerics import ess_fraction, log_mean_exp

Arrays = Mapping
Population = Literal["ensemble", "auditor"]


@dataclass(frozen=True)
class Weights:
    """Weights of a population at one step.

    Args:
        log_ratio: log(weight / mean weight of the walker's group); `-inf` is a walker without weight.
        ess: Effective sample size as a fraction, mean over the groups.
    """

    log_ratio: Float[np.ndarray, " n_walkers"]
    ess: float

    @property
    def are_equal(self) -> bool:
        """Whether all walkers weigh the same, as they do after a resampling."""
        return bool(np.all(np.abs(self.log_ratio) < 1e-5))

    @property
    def n_without(self) -> int:
        """Number of walkers without weight."""
        return int(np.isneginf(self.log_ratio).sum())


def weights(arrays: Arrays, population: Population) -> Weights | None:
    """Relative weights of the walkers of a population."""
    name = f"{population}/account/log_weight"
    if f"{name}/hi" not in arrays:
        return None
    log_weight = arrays[f"{name}/hi"].astype(float)
    if f"{name}/lo" in arrays:
        log_weight = log_weight + arrays[f"{name}/lo"]
    offsets = arrays.get(f"{population}/log_z/hi", np.zeros(1))
    if log_weight.ndim != 1 or not log_weight.size or log_weight.size % max(offsets.size, 1):
        return None
    if np.isnan(log_weight).any() or np.isposinf(log_weight).any():
        return None
    by_group = log_weight.reshape(max(offsets.size, 1), -1)
    # The largest is taken off first, what is left is safe in single precision.
    top = by_group.max(axis=1, keepdims=True)
    by_group = (by_group - np.where(np.isfinite(top), top, 0.0)).astype(np.float32)
    mean, ess = (np.asarray(numbers) for numbers in _mean_and_ess(jnp.asarray(by_group)))
    log_ratio = by_group - np.where(np.isfinite(mean), mean, 0.0)[:, None]
    return Weights(log_ratio.ravel().astype(float), float(ess.mean()))


def walkers(arrays: Arrays, population: Population) -> Float[np.ndarray, "n_walkers *event"] | None:
    """Positions of the walkers of a population; of stacks of replicas, those of the replicas at the model."""
    x = arrays.get(f"{population}/x")
    x = x[:, -1] if x is not None and f"{population}/cache/flow/label" in arrays else x
    return x.astype(float) if x is not None and x.ndim >= 2 and x.size else None


def walker_tiles(
    arrays: Arrays, population: Population, image_shape: tuple[int, int] | None, *, n_max: int = 96
) -> Float[np.ndarray, "n height width"] | None:
    """Walkers as images, evenly spaced over the population so that every group is seen."""
    x = walkers(arrays, population)
    if x is None or image_shape is None:
        return None
    n_pixels = image_shape[0] * image_shape[1]
    if int(np.prod(x.shape[1:])) < n_pixels:
        return None
    chosen = np.unique(np.linspace(0, len(x) - 1, min(n_max, len(x))).astype(int))
    return x[chosen].reshape(len(chosen), -1)[:, :n_pixels].reshape(-1, *image_shape)  # what follows are labels


def filter_tiles(
    arrays: Arrays, image_shape: tuple[int, int] | None, *, n_max: int = 96
) -> Float[np.ndarray, "n height width"] | None:
    """Weights of the hidden units of an RBM as images, the largest norm first."""
    matrix = weight_matrix(arrays)
    if matrix is None or image_shape is None or len(matrix) < image_shape[0] * image_shape[1]:
        return None
    largest = np.argsort(-np.linalg.norm(matrix, axis=0), kind="stable")[:n_max]
    return matrix.T[largest][:, : image_shape[0] * image_shape[1]].reshape(-1, *image_shape)


def filters_through_ages(
    ages: Sequence[tuple[int, Arrays]],
    image_shape: tuple[int, int] | None,
    *,
    n_filters: int = 8,
    n_ages: int = 6,
) -> tuple[list[int], Float[np.ndarray, "n height width"]] | None:
    """The filters that end largest, at ages that double or so, from a sixty-fourth of the run to its end.

    Args:
        ages: (step, arrays), oldest first.
        image_shape: Height and width of an event.
        n_filters: Filters of an age, at most.
        n_ages: Ages, at most; the last one is always among them.

    Returns:
        Steps, and the tiles of the first age, then of the second, and so on; `None` without two ages.
    """
    if len(ages) < 2 or image_shape is None:
        return None
    steps = np.array([step for step, _ in ages])
    wanted = np.geomspace(max(steps[-1] / 64, 1), max(steps[-1], 1), n_ages)
    chosen = np.unique([np.argmin(np.abs(steps - step)) for step in wanted])
    matrices = [weight_matrix(ages[i][1]) for i in chosen]
    found = [m for m in matrices if m is not None and len(m) >= image_shape[0] * image_shape[1]]
    if len(found) < len(chosen) or len({m.shape for m in found}) > 1:
        return None
    largest = np.argsort(-np.linalg.norm(found[-1], axis=0), kind="stable")[:n_filters]
    tiles = np.concatenate([m.T[largest] for m in found])
    return [ages[i][0] for i in chosen], tiles[:, : image_shape[0] * image_shape[1]].reshape(-1, *image_shape)


def weight_matrix(arrays: Arrays) -> Float[np.ndarray, "n_visible n_hidden"] | None:
    """Weights of an RBM."""
    matrix = arrays.get("model/weights")
    return matrix.astype(float) if matrix is not None and matrix.ndim == 2 and matrix.size else None


def couplings_matrix(arrays: Arrays) -> Float[np.ndarray, "n n"] | None:
    """Couplings of a pairwise model, symmetric; `nan` where no edge is, as on the diagonal.

    Without a list of edges the couplings are those of all pairs in the order of `numpy.triu_indices(n, 1)`.
    """
    values = arrays.get("model/couplings")
    fields = arrays.get("model/fields")
    if values is None or fields is None or values.ndim != 1 or fields.ndim != 1 or not values.size:
        return None
    n = len(fields)
    edges = arrays.get("model/edges", np.stack(np.triu_indices(n, 1), axis=1))
    if edges.shape != (len(values), 2) or edges.min() < 0 or edges.max() >= n:
        return None
    matrix = np.full((n, n), np.nan)
    matrix[edges[:, 0], edges[:, 1]] = values
    matrix[edges[:, 1], edges[:, 0]] = values
    return matrix


def planar(arrays: Arrays, population: Population) -> Float[np.ndarray, "n_walkers 2"] | None:
    """Positions of walkers that live in the plane."""
    x = walkers(arrays, population)
    return x if x is not None and x.shape[1:] == (2,) else None


def image_grid(
    tiles: Float[np.ndarray, "n height width"], *, n_columns: int | None = None
) -> Float[np.ndarray, "rows columns"]:
    """Tiles side by side in rows, one empty (`nan`) pixel between them, two for large tiles."""
    n, height, width = tiles.shape
    columns = int(min(n, 16 if n >= 48 else 8)) if n_columns is None else n_columns
    rows = -(-n // columns)
    gap = 1 if max(height, width) < 20 else 2
    grid = np.full((rows, height + gap, columns, width + gap), np.nan)
    for i, tile in enumerate(tiles):
        grid[i // columns, :height, i % columns, :width] = tile
    return grid.reshape(rows * (height + gap), columns * (width + gap))[:-gap, :-gap]


def symmetric_limit(values: Float[np.ndarray, "..."]) -> float:
    """Half-width of a colour scale around zero: almost all entries fit, a few outliers do not set it."""
    limit = float(np.nanpercentile(np.abs(values), 99.5))
    return limit if limit > 0 else 1.0


def grey_limits(tiles: Float[np.ndarray, "n height width"]) -> tuple[float, float]:
    """Values of white and black: (-1, 1) for spins and scaled images, else (0, 1)."""
    return (-1.0 if tiles.min() < 0 else 0.0), 1.0


def planar_means(arrays: Arrays) -> Float[np.ndarray, "n_components 2"] | None:
    """Centres of a mixture in the plane."""
    means = arrays.get("model/means")
    return means.astype(float) if means is not None and means.ndim == 2 and means.shape[1] == 2 else None


def histogram(
    weights: Weights, beside: list[Weights], *, n_bins: int = 40
) -> tuple[Float[np.ndarray, " n_edges"], Float[np.ndarray, " n_bins"]]:
    """Edges and share of the walkers of `weights`, in bins that suit everything in `beside`."""
    finite = [w.log_ratio[np.isfinite(w.log_ratio)] for w in beside]
    every = np.concatenate(finite)
    edges = np.linspace(every.min(), every.max() + 1e-9, n_bins + 1)
    inside = weights.log_ratio[np.isfinite(weights.log_ratio)]
    counts, _ = np.histogram(inside, edges)
    return edges, counts / len(weights.log_ratio)


@jax.jit  # compiled as one, not operation by operation: a second of a report that takes two
def _mean_and_ess(
    log_weight: Float[Array, "n_groups m"],
) -> tuple[Float[Array, " n_groups"], Float[Array, " n_groups"]]:
    return log_mean_exp(log_weight, axis=1), ess_fraction(log_weight)
