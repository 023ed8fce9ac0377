"""How far samples are from data: many definitions, with everything that depends on the data alone computed once.

None of them is a likelihood, and each is blind to something; together they tell *when along a run of the sampler* a
model is good. `Reference(data).scores(samples)` evaluates all of them for as many sets of samples as there are times.

| score | definition | 0 for equal laws? |
|---|---|---|
| `mean_error` | mean square of the difference of means | up to its floor |
| `second_error` | mean over `i < j` of `(C_ij - C'_ij)^2`, covariances | up to its floor |
| `third_error` | mean over `i < j < k` of `(C_ijk - C'_ijk)^2`, centred third moments | up to its floor |
| `spectrum_error` | mean square difference of the sorted eigenvalues of the covariances | nearly |
| `aats_error` | distance of the two nearest-neighbour fractions from 1/2 | on average nearly |
| `entropy_error` | `(S / S' - 1)^2`, `S` bytes per sample after compression | nearly |
| `power_error` | mean square difference of the log power spectra of images | nearly |
| `mmd2` | squared maximum mean discrepancy, unbiased, with `mmd2_stderr` | on average |

Reference:
    Decelle, Furtlehner and Seoane, NeurIPS 2021 (arXiv 2105.13889), whose set it is (moments, spectrum, nearest
    neighbours, compressed size); Gretton et al., JMLR 13 (2012), lemma 6 and corollary 16 (discrepancy and its error).
"""

import zlib
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from quasistatic.errors import InputError
from quasistatic.evaluate.samples import moment_errors, spectrum

BANDWIDTHS = (0.25, 0.5, 1.0)
"""Widths of the Gaussian kernels of the discrepancy, in units of the median distance of data."""

ROWS = 512  # of a block of distances


class Discrepancy(NamedTuple):
    """Maximum mean discrepancy of two sets of equal size.

    Attributes:
        squared: unbiased estimate of its square; may be negative.
        stderr: standard error of that, from the spread of rows (U-statistic), also where the laws are equal.
        biased: the root of the plug-in estimate, which is positive even for equal laws.
    """

    squared: float
    stderr: float
    biased: float


class Reference:
    """Data that samples are scored against.

    Args:
        data: samples of the true law, shape `(n_data, d)`; not those the model was trained on.
        n: rows of each kind in scores whose cost is quadratic (neighbours, third moments, discrepancy).
        image_shape: height and width of a sample, for `power_error`.
        bandwidths: of the discrepancy, in units of the median distance of data.

    Raises:
        InputError: data that are no finite matrix of at least four rows, or all equal.
    """

    def __init__(
        self,
        data: Any,
        *,
        n: int = 1000,
        image_shape: tuple[int, int] | None = None,
        bandwidths: tuple[float, ...] = BANDWIDTHS,
    ):
        self.data = checked(data, "data")
        if len(self.data) < 4:
            raise InputError(f"at least four data are needed, got {len(self.data)}")
        self.image_shape = image_shape
        self.n = min(n, len(self.data))
        self.some = self.data[np.linspace(0, len(self.data) - 1, self.n).round().astype(int)]
        self.spectrum = spectrum(self.data)
        own = squared_distances(self.some, self.some)
        np.fill_diagonal(own, np.inf)
        self._nearest = own.min(1)
        self.widths = _scale(own[np.triu_indices(self.n, 1)]) * np.asarray(bandwidths)
        self._range = (float(self.data.min()), float(self.data.max()))
        self._size = compressed_size(self.some, self._range)
        self._third = _third_gram(self.some, self.some)
        self._power = None if image_shape is None else log_power(self.data, image_shape)

    def scores(self, samples: Any) -> dict[str, float]:
        """All scores of one set of samples; quadratic ones use as many rows of both as there are of the fewer."""
        x = checked(samples, "samples")
        if x.shape[1] != self.data.shape[1]:
            raise InputError(f"samples have {x.shape[1]} values, the data {self.data.shape[1]}")
        if len(x) < 4:
            raise InputError(f"at least four samples are needed, got {len(x)}")
        n = min(self.n, len(x))
        some, y = x[:n], self.some[:n]
        found = dict(moment_errors(x, self.data))
        found |= {
            "third_error": third_error(some, y, gram_y=self._third if n == self.n else None),
            "spectrum_error": float(np.mean((spectrum(x) - self.spectrum) ** 2)),
            **self._neighbours(some, y),
            "entropy_error": (compressed_size(some, self._range) / self._compressed(n) - 1) ** 2,
        }
        mmd = discrepancy(some, y, self.widths)
        found |= {"mmd2": mmd.squared, "mmd2_stderr": mmd.stderr, "mmd": mmd.biased}
        if self.image_shape is not None and self._power is not None:
            found["power_error"] = float(np.mean((log_power(x, self.image_shape) - self._power) ** 2))
        return found

    def _compressed(self, n: int) -> float:
        return self._size if n == self.n else compressed_size(self.some[:n], self._range)

    def _neighbours(self, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
        """Fractions whose nearest neighbour is of the own kind; a tie counts for the other kind (see `samples`)."""
        own, between = squared_distances(x, x), squared_distances(x, y)
        np.fill_diagonal(own, np.inf)
        nearest = self._nearest
        if len(y) < self.n:
            own_y = squared_distances(y, y)
            np.fill_diagonal(own_y, np.inf)
            nearest = own_y.min(1)
        of_samples = float(np.mean(own.min(1) < between.min(1)))
        of_data = float(np.mean(nearest < between.min(0)))
        error = float(np.hypot(of_data - 0.5, of_samples - 0.5))
        return {"aats_data": of_data, "aats_samples": of_samples, "aats_error": error}


def _scale(squared: Float[np.ndarray, " n_pairs"]) -> float:
    """Median distance; the root of the mean square where more than half of the pairs are equal."""
    scale = float(np.sqrt(np.median(squared) or np.mean(squared)))
    if not scale > 0:
        raise InputError("all data are equal; there is no law to compare samples with")
    return scale


def discrepancy(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"], widths: Float[np.ndarray, " n_widths"]
) -> Discrepancy:
    """Maximum mean discrepancy with the mean of Gaussian kernels `exp(-|x - y|^2 / (2 s^2))`.

    With `h(z_i, z_j) = k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i)` the unbiased square is the mean of `h`
    over `i != j`, with the variance `(4 (n - 2) zeta_1 + 2 zeta_2) / (n (n - 1))`, where `zeta_1` is the variance of
    the means of rows and `zeta_2` that of entries.

    Args:
        x: samples.
        y: as many data.
        widths: `s`.
    """
    n = len(x)
    if n != len(y) or n < 4:
        raise InputError(f"the discrepancy compares equal numbers of at least 4, got {n} and {len(y)}")

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        d2 = squared_distances(a, b)
        return np.asarray(sum(np.exp(-d2 / np.float32(2 * s**2)).astype(np.float64) for s in widths)) / len(widths)

    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    biased = float(np.sqrt(max(xx.mean() + yy.mean() - 2 * xy.mean(), 0.0)))
    h = xx + yy - xy - xy.T
    np.fill_diagonal(h, 0.0)
    rows = h.sum(1) / (n - 1)
    squared = float(rows.mean())
    entries = h[~np.eye(n, dtype=bool)]
    zeta_2 = float(entries.var(ddof=1))
    zeta_1 = max(float(rows.var(ddof=1)) - zeta_2 / (n - 1), 0.0)  # the spread of rows has noise of its entries
    variance = (4 * (n - 2) * zeta_1 + 2 * zeta_2) / (n * (n - 1))
    return Discrepancy(squared, float(np.sqrt(variance)), biased)


def third_error(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], *, gram_y: float | None = None) -> float:
    """`6 / (d (d - 1) (d - 2)) sum_(i < j < k) (C_ijk - C'_ijk)^2` of centred third moments, over *all* triples.

    The sum over triples of a product of two third moments is the mean over pairs of rows of the elementary symmetric
    polynomial `e_3 = (p_1^3 - 3 p_1 p_2 + 2 p_3) / 6` of the products of their entries, with power sums
    `p_m = sum_i (x_i y_i)^m`: three Gram matrices instead of `d^3` numbers.

    Args:
        x: samples.
        y: data.
        gram_y: that mean over pairs of data, where it is known.
    """
    d = x.shape[1]
    if d < 3:
        return 0.0
    own_y = _third_gram(y, y) if gram_y is None else gram_y
    total = _third_gram(x, x) + own_y - 2 * _third_gram(x, y)
    return float(max(total, 0.0) * 6 / (d * (d - 1) * (d - 2)))


def _third_gram(x: np.ndarray, y: np.ndarray) -> float:
    """`sum_(i < j < k) C_ijk C'_ijk` of two sets of rows."""
    a, b = (np.asarray(z - z.mean(0), np.float64) for z in (x, y))
    total = 0.0
    for rows in np.array_split(a, max(1, -(-len(a) // ROWS))):
        p1, p2, p3 = rows @ b.T, rows**2 @ (b**2).T, rows**3 @ (b**3).T
        total += float(np.sum(p1**3 - 3 * p1 * p2 + 2 * p3)) / 6
    return total / (len(a) * len(b))


def nearest_neighbours(
    x: Float[np.ndarray, "n d"], data: Float[np.ndarray, "m d"]
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Row of the nearest datum of each sample, and its Euclidean distance: copies of training data have distance 0."""
    x, data = checked(x, "samples"), checked(data, "data")
    found = np.concatenate([squared_distances(rows, data).argmin(1) for rows in np.split(x, range(256, len(x), 256))])
    return found, np.sqrt(((x.astype(np.float64) - data[found]) ** 2).sum(1))


def compressed_size(x: Float[np.ndarray, "n d"], span: tuple[float, float]) -> float:
    """Bytes per sample after compression: an upper bound on the entropy that notices repetition.

    Two-level samples are packed into bits, others cut into 256 levels.

    Args:
        x: samples.
        span: least and largest value of the scale.
    """
    low, high = span
    width = high - low if high > low else 1.0
    if np.isin(x, (low, high)).all():
        packed = np.packbits(x > low + width / 2, axis=1)
    else:
        packed = np.clip(np.round((x - low) / width * 255), 0, 255).astype(np.uint8)
    return len(zlib.compress(packed.tobytes(), 6)) / len(x)


def log_power(x: Float[np.ndarray, "n d"], shape: tuple[int, int]) -> Float[np.ndarray, "h w"]:
    """Log of the mean power spectrum of images, `log <|FFT x|^2>`."""
    power = np.abs(np.fft.fft2(x.reshape(-1, *shape))) ** 2
    return np.log(power.mean(0) + 1e-12)


def squared_distances(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """All squared Euclidean distances, in float32; exact for integer values, so that ties are ties.

    A common offset, rounded so that integers stay integers, is taken off before numbers are squared.
    """
    a, b = np.asarray(x), np.asarray(y)
    offset = np.round(b.mean(0, dtype=np.float64)) if len(b) else 0.0
    a, b = ((part - offset).astype(np.float32) for part in (a, b))
    product = a @ b.T
    product *= -2
    product += np.einsum("ij,ij->i", a, a)[:, None]
    product += np.einsum("ij,ij->i", b, b)[None, :]
    return np.maximum(product, 0, out=product)


def checked(x: Any, name: str) -> np.ndarray:
    """Finite samples as a float32 matrix. Raises: InputError for anything else."""
    x = np.asarray(x, np.float32)
    if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
        raise InputError(f"{name} must be finite and of shape (n, values), got shape {x.shape}")
    return x
