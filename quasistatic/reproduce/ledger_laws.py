"""Laws of the ledger on models that can be solved.

Walkers start exactly in `exp(-u_0)`, the model is moved at finite speed to `u_K`, and whatever the speed

    mean exp(-(work + shadow work)) = Z_K / Z_0 ,      u - u_0 = work + heat + shadow work .

Six Gaussian protocols (a well that stiffens, softens, moves, or only suffers the error of the Langevin step),
a 4 x 3 RBM and a 3 x 3 Ising model; their free energies are known in closed form or by enumeration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from quasistatic._keys import named
from quasistatic._results import Estimate
from quasistatic._types import Key
from quasistatic.energies import RBM, AbstractEnergy, Gaussian, Pairwise, Potential, square_lattice, units
from quasistatic.evaluate.exact import log_partition_exact
from quasistatic.kernels import AbstractKernel, BlockGibbs, Gibbs, Langevin
from quasistatic.reproduce.rows import Row
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.estimators import log_z_from_groups
from quasistatic.thermo.process import advance

N_GROUPS = 32
N_SLOW = 200  # switches of the slow protocols; the fast ones make 10

# stiffness and centre of the well at the fraction s of the path, number of switches, Langevin step
GAUSSIAN: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], int, float]] = {
    "A stiffen": (lambda s: 1 + 3 * s, lambda s: 0 * s, 10, 0.1),
    "B move": (lambda s: 1 + 0 * s, lambda s: 2 * s, 10, 0.1),
    "C stiffen, move": (lambda s: 1 + 3 * s, lambda s: 2 * s, 10, 0.1),
    "D stand still": (lambda s: 1 + 0 * s, lambda s: 0 * s, 10, 0.5),
    "E stiffen slowly": (lambda s: 1 + 3 * s, lambda s: 0 * s, N_SLOW, 0.1),
    "F soften slowly": (lambda s: 4 - 3 * s, lambda s: 0 * s, N_SLOW, 0.1),
}


def check(key: Key, is_quick: bool = False) -> list[Row]:
    """All rows.

    Args:
        key: random key.
        is_quick: an eighth of the walkers.
    """
    n = N_GROUPS * (1_000 if is_quick else 8_000)
    rows, residuals = [], []
    for name, protocol in GAUSSIAN.items():
        found, residual = _gaussian(named(key, name), name, protocol, n)
        rows += found
        residuals.append(residual)
    for name, kernel, path in (("RBM 4x3", BlockGibbs(), _rbm), ("Ising 3x3", Gibbs.coloured(_ising(1.0)), _ising)):
        row, residual = _discrete(named(key, name), name, kernel, path, n // 4)
        rows.append(row)
        residuals.append(residual)
    return [*rows, Row("first law: residual / rounding", 0.0, max(residuals), 0.0, 100.0)]


def _gaussian(key: Key, name: str, protocol: Any, n: int) -> tuple[list[Row], float]:
    stiffness, centre, n_switches, step_size = protocol
    # all protocols have arrays of one length, so that one compiled function serves them
    s = np.minimum(np.arange(N_SLOW + 1) / n_switches, 1.0)
    factors = jnp.asarray(np.sqrt(stiffness(s))[:, None, None], float)
    models = Gaussian(jnp.asarray(centre(s)[:, None], float), factors)
    start = jax.tree.map(lambda leaf: leaf[0], models).sample_exact(named(key, "start"), 1.0, n)
    controls = Controls.of(step_size=step_size)
    exact = 0.5 * float(np.log(stiffness(0.0) / stiffness(1.0)))
    rows, residual = [], 0.0
    for label, is_fused in (("", False), (", fused", True)):
        key_order = named(key, f"order{label}")
        ensemble = travel(key_order, Langevin(is_fused), models, start, jnp.asarray(n_switches), controls)
        rows.append(Row.of(f"{name}{label}: log Z", exact, log_z_from_groups(_groups(ensemble))))
        residual = max(residual, _residual(ensemble))
        if not is_fused:
            x = np.asarray(ensemble.x, np.float64)[:, 0]
            rows.append(Row.of(f"{name}: mean", float(centre(1.0)), _weighted(ensemble, x)))
            squared = (x - centre(1.0)) ** 2
            rows.append(Row.of(f"{name}: variance", 1 / float(stiffness(1.0)), _weighted(ensemble, squared)))
    return rows, residual


def _discrete(key: Key, name: str, kernel: AbstractKernel, path: Callable[[Any], Any], n: int) -> tuple[Row, float]:
    models = [path(k / 8) for k in range(9)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    start = _draw(named(key, "start"), models[0], n)
    ensemble = travel(named(key, "path"), kernel, stacked, start, jnp.asarray(8), Controls.of())
    ends = [log_partition_exact(model) for model in (models[-1], models[0])]
    assert ends[0] is not None and ends[1] is not None
    row = Row.of(f"{name}: log Z", ends[0] - ends[1], log_z_from_groups(_groups(ensemble)))
    return row, _residual(ensemble)


@eqx.filter_jit
def travel(
    key: Key, kernel: AbstractKernel, models: AbstractEnergy, x: Array, n_switches: Array, controls: Controls
) -> Ensemble:
    """Walkers taken along a path of models, a switch and a relaxation each; `log_z` counts from the start.

    Args:
        key: random key.
        kernel: Markov kernel.
        models: the path, every array with a leading axis.
        x: exact samples of the first model.
        n_switches: how many models after the first are visited.
        controls: step size and sweeps.
    """

    def potential(k: Any) -> Potential:
        return Potential(jax.tree.map(lambda leaf: leaf[k], models), 1.0)

    def stride(k: Any, ensemble: Ensemble) -> Ensemble:
        return advance(jax.random.fold_in(key, k), kernel, potential(k + 1), ensemble, controls)[0]

    opened = Ensemble.open(kernel, potential(0), x, n_groups=N_GROUPS, log_z=0.0)
    return jax.lax.fori_loop(0, n_switches, stride, opened)


def _groups(ensemble: Ensemble) -> np.ndarray:
    return np.asarray(ensemble.log_partition_groups(), np.float64)


def _weighted(ensemble: Ensemble, values: np.ndarray) -> Estimate:
    """Weighted mean of one value per walker, with a jackknife error over groups."""
    log_weight = np.asarray(ensemble.log_weight(), np.float64)
    weight = np.exp(log_weight - log_weight.max()).reshape(N_GROUPS, -1)
    top, bottom = (weight * values.reshape(N_GROUPS, -1)).sum(1), weight.sum(1)
    left_out = (top.sum() - top) / (bottom.sum() - bottom)
    n = len(top)
    stderr = np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    return Estimate(top.sum() / bottom.sum(), stderr, None, "none", "weighted mean", dof=n - 1)


def _residual(ensemble: Ensemble) -> float:
    """Largest violation of the first law over walkers, in rounding errors of the largest energy involved."""
    account = ensemble.account
    parts = (ensemble.u, account.work.value, account.heat.value, account.shadow_work.value)
    scale = 1.0 + max(float(jnp.max(jnp.abs(part))) for part in parts)
    residual = float(jnp.max(jnp.abs(account.first_law_residual(ensemble.u))))
    return residual / (scale * float(jnp.finfo(ensemble.u.dtype).eps))


def _rbm(t: float) -> RBM:
    i, j = jnp.arange(4.0), jnp.arange(3.0)
    weights = 2 * t * jnp.sin(1 + i[:, None] + 2 * j[None, :])
    visible_bias = 0.5 * t * jnp.cos(i) + 0.2 * (1 - t)
    return RBM(weights, visible_bias, -0.3 * t * (j + 1), units("binary", 4), units("binary", 3))


def _ising(t: float) -> Pairwise:
    edges = square_lattice(3, 3, periodic=False)
    couplings = t * (0.4 + 0.3 * jnp.sin(jnp.arange(len(edges)) ** 2 + 1.0))
    return Pairwise(0.3 * jnp.cos(jnp.arange(9.0)), couplings, jnp.asarray(edges), units("spin", 9))


def _draw(key: Key, model: Any, n: int) -> Array:
    """Exact samples of a model with at most 16 units, from the list of its states."""
    unit = model.visible if isinstance(model, RBM) else model.units
    low, high = unit.levels or (0.0, 1.0)
    bits = (np.arange(2**unit.size)[:, None] >> np.arange(unit.size)) & 1
    states = np.where(bits, high, low)
    u = np.asarray(jax.vmap(lambda x: model.reduced(x, 1.0))(jnp.asarray(states, float)), np.float64)
    cumulated = np.cumsum(np.exp(u.min() - u))
    uniform = np.asarray(jax.random.uniform(key, (n,)), np.float64)
    chosen = np.searchsorted(cumulated, uniform * cumulated[-1], side="right")
    return jnp.asarray(states[np.minimum(chosen, len(states) - 1)], float)
