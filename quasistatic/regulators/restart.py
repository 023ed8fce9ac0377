"""Restarts: walkers put back at the data (CD), at a law with known Z, or at the start of a short run.

The three differ in what they mean. From the data: contrastive divergence. From a law whose books stay open: every
update measures a free energy anew. `ShortRun` gives up any free energy and makes the law after `k` sweeps the model:
training with fresh walkers follows

    G^(k)_i(theta) = -<dE/dtheta_i>_data + <dE/dtheta_i>_rho_k(theta) ,      rho_k(theta) = M_theta^k rho_0 ,

without bias for any number of walkers, because they are independent draws of exactly `rho_k`. At its fixed point the
statistics of the data are those of the walkers after `k` sweeps from `rho_0`, whatever the equilibrium looks like.

Reference:
    Agoritsas, Catania, Decelle and Seoane, ICML 2023 (arXiv 2301.09428); Nijkamp et al., NeurIPS 2019; Hinton, Neural
    Comput. 14 (2002).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import Key
from quasistatic.energies.base import AbstractTractable
from quasistatic.energies.potential import Potential
from quasistatic.energies.starts import as_arrays
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel
from quasistatic.regulators.base import AbstractRegulator, Reading
from quasistatic.thermo.bridge import open_at_law
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble

SOURCES = ("data", "law")
"""Where restarted walkers come from."""


class Restart(AbstractRegulator):
    """Restarts all walkers every few updates.

    Starts from data close the books and clear `anchored`. A start from a `law` opens new, anchored books at that law
    and books the switch to the present model as work.

    Args:
        source: `"data"` (rows of the batch) or `"law"`.
        law: the law of `source = "law"`.
        every: updates between restarts.
    """

    source: str = eqx.field(static=True)
    law: AbstractTractable | None = None
    every: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        if self.source not in SOURCES:
            raise InputError(f"unknown restart source {self.source!r}; choose one of {SOURCES}")
        if self.source == "law" and self.law is None:
            raise InputError("a restart from a law needs that law")
        if self.every < 1:
            raise InputError(f"restarts happen every n >= 1 updates, got {self.every}")

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
            n = ensemble.n_walkers
            rows = jnp.arange(n) if n == len(batch) else jax.random.randint(key, (n,), 0, len(batch))
            return ensemble.restarted(kernel, potential, batch[rows].astype(ensemble.x.dtype))

        ensemble = jax.lax.cond(reading.step % self.every == 0, restart, lambda _: ensemble, None)
        return controls, ensemble, state


class ShortRun(AbstractRegulator):
    """Fresh walkers from a fixed law before every update, and `k` sweeps for them.

    The law is part of the regulator's state, hence of every checkpoint: a run can be replayed without its data.

    Args:
        k: sweeps of a run.
        start: `rho_0`, any law with exact samples (see `energies.starts`); it is sampled at `beta = 1` always.
    """

    k: int = eqx.field(static=True)
    start: AbstractTractable

    def __check_init__(self):
        if self.k < 1:
            raise InputError(f"a short run has k >= 1 sweeps, got {self.k}")
        if not isinstance(self.start, AbstractTractable):
            raise InputError(
                f"a short run starts from a law with exact samples, got {type(self.start).__name__}; "
                "energies.starts has noise(energy, size) and others"
            )

    def init(self) -> AbstractTractable:
        return as_arrays(self.start)

    @property
    def may_restart(self) -> bool:
        return True

    def update(
        self,
        key: Key,
        reading: Reading,
        potential: Potential,
        kernel: AbstractKernel,
        batch: Float[Array, "batch ..."],
        ensemble: Ensemble,
        controls: Controls,
        state: AbstractTractable,
    ) -> tuple[Controls, Ensemble, AbstractTractable]:
        x = state.sample_exact(key, 1.0, ensemble.n_walkers).astype(ensemble.x.dtype)
        n_sweeps = jnp.asarray(self.k, jnp.asarray(controls.n_sweeps).dtype)
        controls = eqx.tree_at(lambda c: c.n_sweeps, controls, n_sweeps)
        return controls, ensemble.restarted(kernel, potential, x.reshape(ensemble.x.shape)), state
