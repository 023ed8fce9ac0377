"""An alarm for trainings that run away.

Where a sampler can no longer follow its energy (a drift too steep for its step), walkers do not reach what they are
driven to, the gradient cannot shrink, and the energy grows steeper still. Nothing is infinite for a long time. What
shows is a gradient that leaves the range it has had by orders of magnitude.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FACTOR = 100.0
"""Gradient over the median of the earlier records that raises the alarm: a choice. Learning itself made it 15 at most
in the runs that were looked at; those that ran away passed 100 and went on growing."""
N_LEAST = 5


def growth(norms: Sequence[float]) -> float | None:
    """Last gradient norm over the median of the earlier ones; None with fewer than `N_LEAST` of these, or all zero.

    Args:
        norms: gradient norms of the records, oldest first; what is not finite is left out.
    """
    known = np.asarray(norms, float)
    known = known[np.isfinite(known)]
    if len(known) <= N_LEAST or not np.median(known[:-1]) > 0:
        return None
    return float(known[-1] / np.median(known[:-1]))


def diverging(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Warning about a gradient that runs away.

    Args:
        rows: recorded rows, oldest first.

    Returns:
        What is seen and what to do; None while `growth` is at most `FACTOR`.
    """
    norms = [row["gradient_norm"] for row in rows if row.get("gradient_norm") is not None]
    times = growth(norms)
    if times is None or times <= FACTOR:
        return None
    return (
        f"training runs away: the gradient norm is {norms[-1]:.2g}, {times:,.0f} times its median so far. Lower "
        "optimiser.rate (for adam also optimiser.momentum), or give the kernel smaller steps; results from here on are "
        "not to be used"
    )
