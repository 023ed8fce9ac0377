"""Resampling of the driver when its weights degenerate."""

from typing import get_args

import equinox as eqx
from jaxtyping import Array, Float

from quasistatic._types import Key
from quasistatic.energies.potential import Potential
from quasistatic.errors import InputError
from quasistatic.kernels.base import AbstractKernel
from quasistatic.regulators.base import AbstractRegulator, Reading
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.resampling import ResampleMethod


class Resample(AbstractRegulator):
    """Resamples every group whose ESS fraction fell below a threshold.

    Args:
        below: threshold in [0, 1]; 0.5 balances noise against genetic drift, values near 1 lose modes.
        method: `"systematic"`, `"stratified"`, `"residual"` or `"multinomial"`.
        is_sorted: line walkers up by potential before the points fall: every event then moves the occupation of a
            mode by one walker at most where modes differ in potential, instead of by a random walk of events.
    """

    below: float = 0.5
    method: ResampleMethod = eqx.field(static=True, default="systematic")
    is_sorted: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        if isinstance(self.below, (int, float)) and not 0 <= self.below <= 1:
            raise InputError(f"the resampling threshold is an ESS fraction in [0, 1], got {self.below}")
        if self.method not in get_args(ResampleMethod):
            raise InputError(f"unknown resampling method {self.method!r}; choose one of {get_args(ResampleMethod)}")

    def init(self) -> None:
        return None

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
        ensemble, _ = ensemble.resampled(key, below=self.below, method=self.method, is_sorted=self.is_sorted)
        return controls, ensemble, state
