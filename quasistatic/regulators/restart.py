"""Restarts: walkers put back at the data (CD), at noise (short runs) or at a law with known Z."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import Key
from quasistatic.energies.base import AbstractEnergy, AbstractTractable
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel
from quasistatic.regulators.base import AbstractRegulator, Reading
from quasistatic.thermo.bridge import open_at_law
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble

SOURCES = ("data", "noise", "law")
"""Where restarted walkers come from."""


class Restart(AbstractRegulator):
    """Restarts all walkers every few updates.

    Starts from data or noise close the books and clear `anchored`. A start from a `law` opens new, anchored books at
    that law and books the switch to the present model as work.

    Args:
        source: `"data"` (rows of the batch), `"noise"` (uniform states, standard normal when continuous) or `"law"`.
        law: the law of `source = "law"`.
        every: updates between restarts.
        levels: the two states of discrete noise, None for continuous samples.
    """

    source: str = eqx.field(static=True)
    law: AbstractTractable | None = None
    every: int = eqx.field(static=True, default=1)
    levels: tuple[float, ...] | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.source not in SOURCES:
            raise InputError(f"unknown restart source {self.source!r}; choose one of {SOURCES}")
        if self.source == "law" and self.law is None:
            raise InputError("a restart from a law needs that law")
        if self.every < 1:
            raise InputError(f"restarts happen every n >= 1 updates, got {self.every}")

    @classmethod
    def noise(cls, energy: AbstractEnergy, *, every: int = 1) -> "Restart":
        """Restart from noise suited to an energy: uniform over its states, standard normal without states."""
        for part in (energy, getattr(energy, "visible", None), getattr(energy, "units", None)):
            levels = getattr(part, "levels", None)
            if levels is not None:
                return cls("noise", every=every, levels=tuple(levels))
        return cls("noise", every=every)

    def init(self) -> None:
        return None

    @property
    def may_restart(self) -> bool:
        return self.source != "law"

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
        def restart(_):
            if self.law is not None and self.source == "law":
                return open_at_law(
                    key, kernel, potential, self.law, n_walkers=ensemble.n_walkers, n_groups=ensemble.n_groups
                )
            return ensemble.restarted(kernel, potential, self._positions(key, batch, ensemble))

        ensemble = jax.lax.cond(reading.step % self.every == 0, restart, lambda _: ensemble, None)
        return controls, ensemble, state

    def _positions(self, key: Key, batch: Array, ensemble: Ensemble) -> Array:
        n = ensemble.n_walkers
        if self.source == "data":
            rows = jnp.arange(n) if n == len(batch) else jax.random.randint(key, (n,), 0, len(batch))
            return batch[rows].astype(ensemble.x.dtype)
        if self.levels is None:
            return jax.random.normal(key, ensemble.x.shape, ensemble.x.dtype)
        return jax.random.choice(key, jnp.asarray(self.levels, ensemble.x.dtype), ensemble.x.shape)
