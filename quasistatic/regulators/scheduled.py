"""Controls that follow a prescribed schedule."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import IntScalarLike, Key, ScalarLike
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel
from quasistatic.regulators.base import AbstractRegulator, Reading
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble


class Scheduled(AbstractRegulator):
    """Sets one control to `schedule(step)`.

    Args:
        control: field of `Controls`: `beta`, `n_sweeps`, `step_size`, `lr_scale` or `nudge`.
        schedule: traceable function of the absolute step, such as an Optax schedule. A changing beta is booked as work.
    """

    control: str = eqx.field(static=True)
    schedule: Callable[[IntScalarLike], ScalarLike] = eqx.field(static=True)

    def __check_init__(self):
        if self.control not in Controls.__dataclass_fields__:
            raise InputError(f"unknown control {self.control!r}; choose one of {sorted(Controls.__dataclass_fields__)}")

    def init(self) -> None:
        return None

    @property
    def sets_rate(self) -> bool:
        return self.control == "lr_scale"

    def update(
        self,
        key: Key,
        reading: Reading,
        potential: Potential,
        kernel: AbstractKernel,
        batch: Float[Array, "batch ..."],
        ensemble: Ensemble,
        controls: Controls,
        state: None,
    ) -> tuple[Controls, Ensemble, None]:
        old = getattr(controls, self.control)
        new = jnp.asarray(self.schedule(reading.step), old.dtype)
        return eqx.tree_at(lambda c: getattr(c, self.control), controls, new), ensemble, state
