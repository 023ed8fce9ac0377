"""Sweeps per update that keep pace with the chains' own memory.

Every `window` updates the integrated autocorrelation time `tau` of the driver's potential is estimated from its trace
over these updates, and the number of sweeps `k` follows it,

    k < tau / ratio      ->  k = min(2 k, n_max) ,
    k > 4 tau / ratio    ->  k = max(k / 2, n_min) .

The factor 4 between the two keeps a noisy estimate from making `k` swing. More sweeps change no law: work and weights
stay exact.

The mean over walkers is taken out of every record, since the model moves meanwhile. Chains that sit in modes of
different potential then keep what distinguishes them, and count as slow, which they are. Resampling between two records
gives walkers other places in the trace and makes `tau` look shorter.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from quasistatic._types import Key, Scalar
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel
from quasistatic.regulators.base import AbstractRegulator, Reading
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.process import as_samples


class Pace(NamedTuple):
    """Trace since the last estimate, and that estimate.

    Args:
        trace: potentials less their mean over walkers, shape `(window, n_walkers)`, nats.
        n_recorded: rows of the trace that are filled.
        tau: last estimate of the autocorrelation time in sweeps, NaN before the first.
    """

    trace: Float[Array, "window n_walkers"]
    n_recorded: Any
    tau: Scalar


class KeepPace(AbstractRegulator):
    """Sets the sweeps per update by the driver's autocorrelation time.

    Args:
        n_walkers: walkers of the driver.
        window: updates between two estimates, which are made of as many records.
        ratio: autocorrelation times that an update may be short of: `k` is held near `tau / ratio`.
        n_min: fewest sweeps.
        n_max: most sweeps.
    """

    n_walkers: int = eqx.field(static=True)
    window: int = eqx.field(static=True, default=100)
    ratio: float = 5.0
    n_min: int = eqx.field(static=True, default=1)
    n_max: int = eqx.field(static=True, default=256)

    def __check_init__(self):
        if self.n_walkers < 1 or self.window < 8 or not 1 <= self.n_min <= self.n_max:
            raise InputError(
                "n_walkers >= 1, window >= 8 and 1 <= n_min <= n_max are needed, got "
                f"{self.n_walkers}, {self.window}, {self.n_min} and {self.n_max}"
            )
        if isinstance(self.ratio, (int, float)) and not self.ratio > 0:
            raise InputError(f"ratio is a number above 0, got {self.ratio}")

    def init(self) -> Pace:
        return Pace(jnp.zeros((self.window, self.n_walkers)), jnp.zeros((), jnp.int32), jnp.full((), jnp.nan))

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
        if ensemble.n_walkers != self.n_walkers:
            raise InputError(f"KeepPace was made for {self.n_walkers} walkers, the driver has {ensemble.n_walkers}")
        u = as_samples(kernel, ensemble).u
        row = (u - jnp.mean(u)).astype(state.trace.dtype)
        trace = state.trace.at[state.n_recorded].set(row)
        n_recorded = state.n_recorded + 1
        n = jnp.asarray(controls.n_sweeps)
        is_due = n_recorded == self.window
        tau = jnp.where(is_due, n * autocorrelation_time(trace), state.tau)
        wanted = jnp.where(n < tau / self.ratio, 2 * n, jnp.where(n > 4 * tau / self.ratio, n // 2, n))
        n = jnp.where(is_due, jnp.clip(wanted, self.n_min, self.n_max), n).astype(n.dtype)
        controls = eqx.tree_at(lambda c: c.n_sweeps, controls, n)
        n_recorded = jnp.where(is_due, 0, n_recorded).astype(jnp.int32)
        return controls, ensemble, Pace(trace, n_recorded, tau.astype(state.tau.dtype))


def autocorrelation_time(trace: Float[Array, "n_records n_walkers"], *, window: float = 5.0) -> Scalar:
    """`1 + 2 sum rho` in records, up to the first lag of `window` times its own value; traced (see `evaluate.mixing`).

    A trace without fluctuations counts as fully correlated: as long as it is.
    """
    n = trace.shape[0]
    spectrum = jnp.abs(jnp.fft.rfft(trace, 2 * n, axis=0)) ** 2
    covariance = jnp.mean(jnp.fft.irfft(spectrum, axis=0)[:n], axis=1) / (n - jnp.arange(n))
    has_any = covariance[0] > 0
    rho = jnp.where(has_any, covariance / jnp.where(has_any, covariance[0], 1.0), 1.0)
    sums = 2 * jnp.cumsum(rho) - 1
    is_closed = jnp.arange(n) >= window * jnp.maximum(sums, 1.0)
    # a sum that never closes has only noise in its later half
    end = jnp.where(jnp.any(is_closed), jnp.argmax(is_closed), n // 2)
    return jnp.maximum(sums[end], 0.0)
