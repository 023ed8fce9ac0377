"""The reduced potential: the only place where beta meets the energy."""

from typing import Any

import equinox as eqx

from quasistatic._types import Sample, Scalar, ScalarLike
from quasistatic.energies.base import AbstractEnergy


class Potential(eqx.Module):
    """`u(x) = beta E(x)` of one sample, in nats (marginal energies sum their hidden units at that beta).

    Args:
        energy: the model.
        beta: inverse temperature, a traced scalar.
    """

    energy: AbstractEnergy
    beta: ScalarLike

    def __call__(self, x: Sample, context: Any = None) -> Scalar:
        return self.energy.reduced(x, self.beta, context)
