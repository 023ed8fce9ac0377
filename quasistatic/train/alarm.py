"""An alarm for trainings that run away.

Where a sampler can no longer follow its energy (a drift too steep for its step), walkers do not reach what they are
driven to, the gradient cannot shrink, and the energy grows steeper still. Nothing is infinite for a long time. What
shows is a gradient that leaves the range it has had by orders of magnitude.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FACTOR = 100.0
"""Gradient over the median of the earlier records that raises the alarm; gradients of sound runs stay within ten."""
N_LEAST = 5


def diverging(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Warning about a gradient that runs away.

    Args:
        rows: recorded rows, oldest first.

    Returns:
        What is seen and what to do, None while the last gradient norm is at most `FACTOR` times the median of the
        earlier records (at least `N_LEAST` of them).
    """
    norms = np.array([row["gradient_norm"] for row in rows if row.get("gradient_norm") is not None], float)
    if len(norms) <= N_LEAST:
        return None
    last, median = norms[-1], float(np.median(norms[:-1]))
    if not median > 0 or last <= FACTOR * median:
        return None
    return (
        f"training runs away: the gradient norm is {last:.2g}, {last / median:,.0f} times its median so far. Lower "
        "optimiser.rate (for adam also optimiser.momentum), or give the kernel smaller steps; results from here on are "
        "not to be used"
    )
