"""Rules: how an ensemble and a batch become a gradient."""

import abc
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from quasistatic._types import Key
from quasistatic.energies.base import AbstractEnergy
from quasistatic.energies.potential import Potential
from quasistatic.kernels.base import AbstractKernel
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble


class AbstractRule(eqx.Module):
    """Turns a batch and an ensemble into a gradient to be *descended*.

    A complete member (moves the fields of an `IndependentUnits` model towards the data mean):

    ```python
    >>> import equinox as eqx
    >>> from quasistatic.rules import AbstractRule
    >>> class MeanMatching(AbstractRule):
    ...     def init(self, energy):
    ...         return None
    ...     def gradient(self, key, potential, kernel, batch, ensemble, controls, rule_state):
    ...         difference = ensemble.x.mean(0) - batch.mean(0)
    ...         return eqx.tree_at(lambda m: m.fields, potential.energy, difference), {}, rule_state

    ```
    """

    @abc.abstractmethod
    def init(self, energy: AbstractEnergy) -> Any:
        """State of the rule before the first step."""

    @abc.abstractmethod
    def gradient(
        self,
        key: Key,
        potential: Potential,
        kernel: AbstractKernel,
        batch: Float[Array, "batch ..."],
        ensemble: Ensemble,
        controls: Controls,
        rule_state: Any,
    ) -> tuple[AbstractEnergy, dict[str, Any], Any]:
        """Gradient at the present model.

        Args:
            key: random key of this step.
            potential: present model; `ensemble.u` and its cache belong to it.
            kernel: kernel whose cache the ensemble carries.
            batch: data, samples first.
            ensemble: the driver.
            controls: present controls.
            rule_state: state of the rule.

        Returns:
            Gradient, a pytree shaped like the model; auxiliary values; new state.
        """

    def check(self, energy: AbstractEnergy) -> None:
        """Raises `InputError` when the rule cannot train this energy. Default: accepts all."""
        del energy


def levels_of(energy: AbstractEnergy) -> tuple[float, ...] | None:
    """States of the units of an energy, None for continuous samples."""
    for part in (energy, getattr(energy, "visible", None), getattr(energy, "units", None)):
        levels = getattr(part, "levels", None)
        if levels is not None:
            return tuple(levels)
    return None


def gradient_of(loss: Any, potential: Potential) -> AbstractEnergy:
    """Gradient of a function of the potential in the trained parameters of its energy."""
    trained, fixed = eqx.partition(potential.energy, eqx.is_inexact_array)
    return jax.grad(lambda parameters: loss(Potential(eqx.combine(parameters, fixed), potential.beta)))(trained)
