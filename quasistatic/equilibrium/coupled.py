"""Coupled phases: free and nudged walkers driven by the same random numbers.

Where the dynamics contract, the two walkers stay as close as their laws are, and the variance of `(g_b - g_0) / b`
stays finite as `b -> 0`; independent phases have a variance of order `1 / b^2`. For Langevin moves in a well of
stiffness k and a nudge that adds b,

    Var [(s_b - s_0) / b] = T / (k (k + b) (2 k + b))    instead of    T (1 / k + 1 / (k + b)) / b^2 .

Across basins there is no gain. Heat-bath draws are increasing in their uniform variate and in their field, so common
keys couple them, too. The means are those of uncoupled phases.

Reference:
    Glynn and Iglehart 1988 (common random numbers); the variance is exact for a quadratic energy.
"""

from quasistatic._types import Key, ScalarLike
from quasistatic.equilibrium.phases import Phase, Setup
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble


def coupled(
    key: Key, setup: Setup, start: Ensemble, nudges: tuple[ScalarLike, ScalarLike], controls: Controls
) -> tuple[Phase, Phase]:
    """Two phases from one start and one key.

    Args:
        key: random key of both phases.
        setup: network, cost, kernel, temperature.
        start: walkers both phases start from.
        nudges: nudge of each phase, `(0, b)` or `(-b, b)`.
        controls: sweeps and step size.
    """
    first, second = (setup.phase(setup.relaxed(key, start, b, controls), b) for b in nudges)
    return first, second


def coupling_variance(stiffness: ScalarLike, nudge: ScalarLike, temperature: ScalarLike) -> ScalarLike:
    """`T / (k (k + b) (2 k + b))`: variance of `(s_b - s_0) / b` for coupled overdamped motion in a well.

    Args:
        stiffness: `k > 0`.
        nudge: stiffness `b` that the nudge adds.
        temperature: `T`.
    """
    k, b = stiffness, nudge
    return temperature / (k * (k + b) * (2 * k + b))
