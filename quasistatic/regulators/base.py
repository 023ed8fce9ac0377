"""Regulators: what acts on controls and walkers before each update."""

import abc
import math
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from quasistatic._types import BoolScalar, IntScalarLike, Key, Scalar, ScalarLike
from quasistatic.energies.potential import Potential
from quasistatic.kernels.base import AbstractKernel
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble


class Reading(eqx.Module):
    """What a regulator may see: values of the *driver* only, never of the auditor.

    Args:
        step: absolute step about to be taken.
        ess: smallest effective sample size of the driver's groups, fraction.
        work: mean work of the last switch, nats.
        flip_rate: flip rate of the last step, per unit (NaN before the first, and where the kernel has none).
        excess_work: excess work of the last switch to second order, half the variance of its work, nats.
        gap: mean potential of the last batch minus that of the walkers, both under the model that the last update
            made and at its beta, nats (NaN before the first step, and unless a regulator `needs_gap`).
        ahead: work per walker of the coming switch that has been done already, at the end of the last chunk, nats.
    """

    step: IntScalarLike
    ess: Scalar
    work: Scalar
    flip_rate: Scalar
    excess_work: ScalarLike = math.nan
    gap: ScalarLike = math.nan
    ahead: ScalarLike | Float[Array, " n"] = 0.0


class AbstractRegulator(eqx.Module):
    """Acts between two updates: may change controls and the driver, never the model.

    A complete member (more sweeps while the last switch was violent):

    ```python
    >>> import equinox as eqx, jax.numpy as jnp
    >>> from quasistatic.regulators import AbstractRegulator
    >>> class MoreSweeps(AbstractRegulator):
    ...     def init(self):
    ...         return None
    ...     def update(self, key, reading, potential, kernel, batch, ensemble, controls, state):
    ...         n_sweeps = jnp.where(reading.work > 1.0, 10, 1)
    ...         return eqx.tree_at(lambda c: c.n_sweeps, controls, n_sweeps), ensemble, state

    ```
    """

    @abc.abstractmethod
    def init(self) -> Any:
        """State before the first step."""

    @abc.abstractmethod
    def update(
        self,
        key: Key,
        reading: Reading,
        potential: Potential,
        kernel: AbstractKernel,
        batch: Float[Array, "batch ..."],
        ensemble: Ensemble,
        controls: Controls,
        state: Any,
    ) -> tuple[Controls, Ensemble, Any]:
        """New controls, driver and state.

        Args:
            key: random key of this step and regulator.
            reading: driver values.
            potential: model of the coming step.
            kernel: Markov kernel.
            batch: data of the coming step.
            ensemble: the driver, still under the model of the last switch.
            controls: present controls.
            state: own state.
        """

    @property
    def may_restart(self) -> bool | BoolScalar:
        """Whether walkers may be put elsewhere (they then lose their anchor)."""
        return False

    @property
    def needs_gap(self) -> bool:
        """Whether it reads `Reading.gap`, which costs one more evaluation of the batch per update."""
        return False

    @property
    def sets_rate(self) -> bool:
        """Whether it sets `controls.lr_scale`, which one master alone can do."""
        return False

    def result(self, state: Any) -> IntScalarLike:
        """Named failure (a member of `RESULTS`) that the regulator has run into, 0 while all is well."""
        del state
        return 0
