"""Why block Gibbs freezes: effective fields of an RBM, and its exact kernel where the states can be listed.

A unit with log odds `x` takes the unlikely value with probability `sigma(-|x|)`. Large fields on *all* units of both
layers around one configuration freeze it: if `v` is a fixed point of the zero-temperature map with smallest log odds
`A` in the hidden layer and `D` in the visible one, a chain leaves it within `N` sweeps with probability at most

    N delta ,    delta = m exp(-A) + n exp(-D) .

For few visible units the kernel of one sweep is a matrix. It is reversible and positive, its gap `1 - lambda_2` is the
rate of the slowest relaxation, and the conductance `Phi` (the smallest flow out of a set of at most half of the mass)
brackets it, `Phi^2 / 2 <= gap <= 2 Phi`. Of a large model only the flow out of single sets can be measured; every set
bounds `Phi` from above.

Reference:
    Jerrum and Sinclair, SIAM J. Comput. 18, 1149 (1989) (conductance); arXiv 2603.02525 (freezing of RBM training).
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float

from quasistatic._results import Estimate
from quasistatic.energies.rbm import RBM
from quasistatic.errors import InputError
from quasistatic.evaluate.mixing import poisson_upper

MAX_VISIBLE = 12
MAX_STATES = 16
"""States up to which the conductance is found by looking at all sets."""


class KernelMatrix(NamedTuple):
    """One block-Gibbs sweep as a matrix over the visible states.

    Args:
        states: visible states, shape `(n_states, n_visible)`.
        matrix: `P(v'|v)`, rows sum to one.
        law: stationary probabilities.
    """

    states: Float[np.ndarray, "n_states n_visible"]
    matrix: Float[np.ndarray, "n_states n_states"]
    law: Float[np.ndarray, " n_states"]

    def spectrum(self) -> Float[np.ndarray, " n_states"]:
        """Eigenvalues, largest first; real because the kernel is reversible."""
        root = np.sqrt(self.law)
        symmetric = root[:, None] * self.matrix / root
        return np.linalg.eigvalsh(0.5 * (symmetric + symmetric.T))[::-1]

    def gap(self) -> float:
        """Spectral gap `1 - lambda_2`; its inverse is the slowest relaxation time, in sweeps."""
        return float(1 - self.spectrum()[1])

    def conductance(self) -> float:
        """`min flow(S, rest) / law(S)` over all sets of at most half of the mass.

        Raises:
            InputError: more than 16 states.
        """
        n = len(self.law)
        if n > MAX_STATES:
            raise InputError(f"all sets of {n} states are too many to look at; at most {MAX_STATES} states")
        flow = self.law[:, None] * self.matrix
        sets = ((np.arange(1, 2**n - 1)[:, None] >> np.arange(n)) & 1).astype(np.float64)
        mass = sets @ self.law
        is_small = mass <= 0.5 * (1 + 1e-12)
        out = np.einsum("si,ij,sj->s", sets[is_small], flow, 1 - sets[is_small], optimize=True)
        return float((out / mass[is_small]).min())

    def flip_rate(self) -> float:
        """Mean fraction of visible units that a sweep changes, in equilibrium."""
        distance = (self.states[:, None] != self.states[None]).mean(-1)
        return float(self.law @ (self.matrix * distance).sum(1))


def kernel_matrix(rbm: RBM, beta: float = 1.0) -> KernelMatrix:
    """The block-Gibbs sweep `P(v'|v) = sum_h p(h|v) p(v'|h)` of a small RBM, exactly.

    Args:
        rbm: two-level units in both layers, at most 12 each.
        beta: inverse temperature.

    Raises:
        InputError: other units, or too many.
    """
    if max(rbm.visible.size, rbm.hidden.size) > MAX_VISIBLE:
        sizes = f"{rbm.visible.size} x {rbm.hidden.size}"
        raise InputError(f"the kernel of {sizes} units is too large a matrix; at most {MAX_VISIBLE} each")
    v, h = (_states(units.size, _levels(units)) for units in (rbm.visible, rbm.hidden))
    weights, b, c = (np.asarray(a, np.float64) for a in (rbm.weights, rbm.visible_bias, rbm.hidden_bias))
    log_joint = beta * ((v @ b)[:, None] + (h @ c)[None] + v @ weights @ h.T)
    log_v = np.logaddexp.reduce(log_joint, axis=1)
    up = np.exp(log_joint - log_v[:, None])
    down = np.exp(log_joint - np.logaddexp.reduce(log_joint, axis=0))
    return KernelMatrix(v, up @ down.T, np.exp(log_v - np.logaddexp.reduce(log_v)))


def set_conductance(is_inside: Bool[Array | np.ndarray, "n_records n_chains"]) -> Estimate:
    """`flow(S, rest) / min(law(S), law(rest))` of one set `S`, from stationary reversible chains.

    An upper bound on the conductance, whatever the set. Where no chain was seen to cross, the 95 % upper limit of the
    count takes its place and there is no standard error.

    Args:
        is_inside: whether a chain is in the set, one record per sweep.

    Returns:
        The ratio with its error from the spread over chains (bias `high`, as a conductance); withheld when the set or
        its complement was never visited.
    """
    inside = np.asarray(is_inside, np.float64)
    if inside.ndim != 2 or len(inside) < 2:
        raise InputError(f"records and chains are needed, at least 2 records; got shape {inside.shape}")
    method = "flow out of a set"
    inside = inside if inside.mean() <= 0.5 else 1 - inside
    crossings, mass = np.abs(np.diff(inside, axis=0)), inside.mean(0)
    if not mass.any():
        return Estimate.withheld("the chains stayed on one side of the set", method)
    if not crossings.any():
        limit = 0.5 * poisson_upper(0) / crossings.size / mass.mean()
        return Estimate(min(limit, 1.0), None, None, "high", method, "no chain crossed: the 95 % upper limit")
    per_chain = 0.5 * crossings.mean(0)
    ratio = float(per_chain.mean() / mass.mean())
    if len(mass) == 1:
        return Estimate(ratio, None, None, "high", method, "one chain has no spread")
    spread = np.std(per_chain - ratio * mass, ddof=1) / mass.mean()
    return Estimate(ratio, float(spread) / math.sqrt(len(mass)), None, "high", method)


def conductance_bound(traces: Float[Array | np.ndarray, "n_records n_chains n_observables"]) -> Estimate:
    """Upper bound on the conductance of one sweep: the least flow across the median of any of some observables.

    Observable and median are chosen by the first half of the records and the flow is that of the second half, so that
    choosing does not bias it. The bound is close where an observable tells modes apart.

    Args:
        traces: observables of stationary chains, one record per sweep.

    Returns:
        As `set_conductance`.
    """
    x = np.asarray(traces, np.float64)
    if x.ndim != 3 or len(x) < 4 or not np.isfinite(x).all():
        raise InputError(f"finite records, chains and observables are needed, at least 4 records; got shape {x.shape}")
    first, second = np.array_split(x, 2)
    inside = first > np.median(first, axis=(0, 1))
    found = [set_conductance(inside[..., i]).value for i in range(x.shape[2])]
    best = min(range(len(found)), key=lambda i: math.inf if (value := found[i]) is None else value)
    return set_conductance(second[..., best] > np.median(first[..., best]))


class Fields(NamedTuple):
    """Strength of the effective fields at some configurations, as log odds (nats, beta included).

    Args:
        hidden: mean `|log odds|` of the hidden units.
        visible: mean `|log odds|` of the visible units, given the likeliest hidden states.
        hidden_high: their 95 % quantile.
        visible_high: likewise.
        spectral: `beta` times the largest singular value of the weights.
        flip_probability: chance that two draws of a visible unit under the same field differ, mean.
    """

    hidden: float
    visible: float
    hidden_high: float
    visible_high: float
    spectral: float
    flip_probability: float


def effective_fields(rbm: RBM, v: Float[Array | np.ndarray, "n n_visible"], beta: float = 1.0) -> Fields:
    """Effective fields of an RBM at visible configurations (walkers, or data)."""
    hidden, visible = _log_odds(rbm, np.asarray(v, np.float64), beta)
    quiet = 0.5 / np.cosh(np.minimum(np.abs(visible), 1400.0) / 2) ** 2
    weights = np.asarray(rbm.weights, np.float64)
    return Fields(
        float(np.abs(hidden).mean()),
        float(np.abs(visible).mean()),
        float(np.quantile(np.abs(hidden), 0.95)),
        float(np.quantile(np.abs(visible), 0.95)),
        float(beta * np.linalg.norm(weights, 2)),
        float(quiet.mean()),
    )


class Margins(NamedTuple):
    """Fixed point of the zero-temperature map and how firmly it holds.

    Args:
        hidden: `A`, smallest log odds in favour of the hidden states; negative where `v` is no fixed point.
        visible: `D`, likewise of the visible states.
        leave: `delta`, upper bound on the probability to leave within one sweep (1 at most).
    """

    hidden: float
    visible: float
    leave: float


def freezing_margins(rbm: RBM, v: Float[Array | np.ndarray, " n_visible"], beta: float = 1.0) -> Margins:
    """Margins of one visible configuration, and the freezing bound `delta = m exp(-A) + n exp(-D)`."""
    v = np.asarray(v, np.float64)
    hidden, visible = (odds[0] for odds in _log_odds(rbm, v[None], beta))
    low, high = _levels(rbm.visible)
    favours = visible * np.where(v > 0.5 * (low + high), 1.0, -1.0)
    a, d = float(np.abs(hidden).min()), float(favours.min())
    if d <= 0 or a <= 0:
        return Margins(a, d, 1.0)
    return Margins(a, d, min(1.0, len(hidden) * float(np.exp(-a)) + len(v) * float(np.exp(-d))))


def _log_odds(rbm: RBM, v: np.ndarray, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Log odds of all hidden units given `v`, and of all visible units given the likeliest hidden states."""
    weights, b, c = (np.asarray(a, np.float64) for a in (rbm.weights, rbm.visible_bias, rbm.hidden_bias))
    (v_low, v_high), (low, high) = _levels(rbm.visible), _levels(rbm.hidden)
    inputs = c + v @ weights
    h = np.where(inputs > 0, high, low)
    return beta * (high - low) * inputs, beta * (v_high - v_low) * (b + h @ weights.T)


def _levels(units: object) -> tuple[float, float]:
    levels = getattr(units, "levels", None)
    if levels is None or len(levels) != 2:
        raise InputError(f"units of two states are needed here, got {type(units).__name__}")
    return levels[0], levels[1]


def _states(n: int, levels: tuple[float, float]) -> np.ndarray:
    is_high = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    return np.where(is_high == 1, levels[1], levels[0])
