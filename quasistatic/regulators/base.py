"""Regulators: what acts on controls and walkers before each update."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from quasistatic._types import BoolScalar, IntScalarLike, Key, Scalar
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
        flip_rate: mean flip rate of the last step (NaN where the kernel has none).
    """

    step: IntScalarLike
    ess: Scalar
    work: Scalar
    flip_rate: Scalar


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
