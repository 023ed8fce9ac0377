"""Quality of samples, judged against held-out data.

None of these numbers is a likelihood: a sampler can do well on all of them although its model has no equilibrium.
Errors of moments come with the value that two finite samples of *one* law would show (the floor), so that "small"
has a meaning.

Adversarial accuracy puts n data and n samples into one set and asks for the nearest neighbour of each: if samples
cannot be told from data, half of the neighbours are of the own kind. Copies of the data push both fractions to 0,
a lost mode or a visible difference pushes them to 1. Ties go to the other kind, so on a space so small that samples
repeat each other both fractions are low whatever the law.

Reference:
    A. Yale et al., Neurocomputing 416, 244 (2020) (adversarial accuracy);
    A. Decelle, C. Furtlehner and B. Seoane, NeurIPS 2021 (arXiv:2105.13889) (the error below, spectrum, energy).
"""

from typing import Any

import numpy as np
from jaxtyping import Array, Float

from quasistatic.energies.base import AbstractEnergy
from quasistatic.errors import InputError
from quasistatic.evaluate.exact import mean_reduced

Samples = Float[Array | np.ndarray, "n_samples n"]
Heldout = Float[Array | np.ndarray, "n_heldout n_units"]


def quality(
    samples: Samples,
    heldout: Heldout,
    *,
    energy: AbstractEnergy | None = None,
    beta: float = 1.0,
    n_spectrum: int = 10,
    n_neighbours: int = 2000,
) -> dict[str, Any]:
    """All measures of this file as a mapping that can be written as JSON.

    Args:
        samples: generated samples.
        heldout: data the model was not trained on, same units.
        energy: the model; adds the energy gap.
        beta: inverse temperature of the gap.
        n_spectrum: leading eigenvalues to list.
        n_neighbours: samples of each kind (evenly spaced rows) in the nearest-neighbour test, whose cost is quadratic.

    Returns:
        `mean_error`, `mean_floor`, `second_error`, `second_floor` (mean squares), `aats_data`, `aats_samples`,
        `aats_error`, `spectrum_error`, `spectrum_data`, `spectrum_samples`, and with an energy `energy_gap` and
        `energy_gap_stderr` (nats).

    Raises:
        InputError: shapes that do not fit, or fewer than two rows.
    """
    x, y = _checked(samples, heldout)
    n = min(len(x), len(y), n_neighbours)
    of_data, of_samples, error = adversarial_accuracy(_spaced(x, n), _spaced(y, n))
    spectrum_x, spectrum_y = spectrum(x), spectrum(y)
    result: dict[str, Any] = {
        **moment_errors(x, y),
        "aats_data": of_data,
        "aats_samples": of_samples,
        "aats_error": error,
        "spectrum_error": float(np.mean((spectrum_x - spectrum_y) ** 2)),
        "spectrum_data": spectrum_y[:n_spectrum].tolist(),
        "spectrum_samples": spectrum_x[:n_spectrum].tolist(),
    }
    if energy is not None:
        u_samples, stderr_samples = mean_reduced(energy, x, beta)
        u_data, stderr_data = mean_reduced(energy, y, beta)
        result["energy_gap"] = u_samples - u_data
        result["energy_gap_stderr"] = float(np.hypot(stderr_samples, stderr_data))
    return result


def moment_errors(samples: Samples, heldout: Heldout) -> dict[str, float]:
    """Mean squared errors of the means and of the covariances `i < j`, each with its floor.

    Returns:
        `mean_error`, `second_error`, and `mean_floor`, `second_floor`: what they are on average for two samples of
        the data's own law with these numbers of rows.
    """
    x, y = _checked(samples, heldout)
    rate = 1 / len(x) + 1 / len(y)
    centred_x, centred_y = x - x.mean(0), y - y.mean(0)
    covariance_x, covariance_y = centred_x.T @ centred_x / len(x), centred_y.T @ centred_y / len(y)
    squares = centred_y**2
    spread = squares.T @ squares / len(y) - covariance_y**2  # variance of the products (y_i - m_i)(y_j - m_j)
    upper = np.triu_indices(x.shape[1], 1)
    has_pairs = len(upper[0]) > 0
    difference = (covariance_x - covariance_y)[upper] ** 2
    return {
        "mean_error": float(np.mean((x.mean(0) - y.mean(0)) ** 2)),
        "mean_floor": float(rate * np.mean(np.diag(covariance_y))),
        "second_error": float(difference.mean()) if has_pairs else 0.0,
        "second_floor": float(rate * spread[upper].mean()) if has_pairs else 0.0,
    }


def adversarial_accuracy(samples: Samples, heldout: Heldout) -> tuple[float, float, float]:
    """Fractions of data and of samples whose nearest neighbour is of their own kind, and their error.

    Both are 1/2 for samples that cannot be told from data; the error is their Euclidean distance from that. Neighbours
    are by Euclidean distance, never the point itself; a tie counts for the other kind.

    Raises:
        InputError: unequal numbers of rows (the fractions would be biased), or fewer than two.
    """
    x, y = _checked(samples, heldout)
    if len(x) != len(y):
        raise InputError(
            f"adversarial accuracy compares equal numbers, got {len(x)} samples and {len(y)} data; cut one"
        )
    own_x, own_y, between = _squared_distances(x, x), _squared_distances(y, y), _squared_distances(x, y)
    np.fill_diagonal(own_x, np.inf)
    np.fill_diagonal(own_y, np.inf)
    of_samples = float(np.mean(own_x.min(1) < between.min(1)))
    of_data = float(np.mean(own_y.min(1) < between.min(0)))
    return of_data, of_samples, float(np.hypot(of_data - 0.5, of_samples - 0.5))


def spectrum(x: Samples) -> Float[np.ndarray, " n"]:
    """Eigenvalues of the covariance matrix of samples, largest first (squared singular values over rows)."""
    x = np.asarray(x, np.float64)
    centred = x - x.mean(0)
    return np.maximum(np.linalg.eigvalsh(centred.T @ centred / len(x))[::-1], 0.0)


def _checked(samples: Any, heldout: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(samples, np.float64), np.asarray(heldout, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise InputError(f"samples and held-out data must have shapes (n, units), got {x.shape} and {y.shape}")
    if min(len(x), len(y)) < 2:
        raise InputError(f"at least two samples and two data are needed, got {len(x)} and {len(y)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("samples or held-out data hold NaN or infinite values; remove them")
    return x, y


def _spaced(x: np.ndarray, n: int) -> np.ndarray:
    """`n` evenly spaced rows."""
    return x[np.linspace(0, len(x) - 1, n).round().astype(int)]


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """All squared Euclidean distances; exact for integer-valued samples, so that ties are ties."""
    return np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1)[None, :] - 2 * x @ y.T, 0.0)
