"""The nudged phase by reweighting free samples: no second phase.

    w_i = exp(-b C_i / T) / sum ,   grad dA ~ sum_i (w_i - 1 / n) g_i ,   dA = -T log <exp(-b C / T)>_0 .

For `C >= 0` and `b > 0` the unnormalised weights lie in (0, 1], so that

    ESS / n >= <w>_0 = exp(-dA / T) :

as long as `dA` is a few T the nudged phase need not be simulated. Its limit `b -> 0`, divided by `b`, is the covariance
rule. The bias is of order `1 / n`.

Reference:
    Zwanzig, J. Chem. Phys. 22, 1420 (1954); Litman 2025 (arXiv 2511.22024) for the objective.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._numerics import ess_fraction
from quasistatic._types import Scalar, ScalarLike
from quasistatic.equilibrium.phases import Phase, Terms


def reweighted(phase: Phase, nudge: ScalarLike, temperature: ScalarLike) -> Phase:
    """The same states with weights that stand for another nudge. Args: phase; new `b`; `T`."""
    log_weight = jnp.log(phase.weight) - (nudge - phase.nudge) * phase.cost / temperature
    nudge = jnp.broadcast_to(jnp.asarray(nudge, phase.cost.dtype), phase.nudge.shape)
    return Phase(phase.x, phase.cost, jax.nn.softmax(log_weight, axis=-1), nudge, phase.is_table)


def reweighting(free: Phase, nudge: ScalarLike, temperature: ScalarLike) -> Terms:
    """Terms of `grad [A(b) - A(b_free)]` of one example. Args: samples; `b`; `T`."""
    weight = reweighted(free, nudge, temperature).weight
    return Terms(free.x, weight - free.weight, nudge * weight - free.nudge * free.weight)


def ess_of_nudge(free: Phase, nudge: ScalarLike, temperature: ScalarLike) -> Float[Array, "..."]:
    """`ESS / n` of free samples that stand for nudge `b`. Args: samples of equal weight; `b`; `T`."""
    return ess_fraction(-(nudge - free.nudge[..., None]) * free.cost / temperature, axis=-1)


def guaranteed_ess(delta_a: ScalarLike, temperature: ScalarLike) -> Scalar:
    """Lower bound `exp(-dA / T)` on `ESS / n`, for costs that are nowhere negative. Args: `dA`; `T`."""
    return jnp.exp(-jnp.asarray(delta_a) / temperature)
