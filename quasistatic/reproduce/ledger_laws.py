"""Laws of the ledger on models that can be solved.

Walkers start exactly in `exp(-u_0)`, the model is moved at finite speed to `u_K`, and whatever the speed

    mean exp(-(work + shadow work)) = Z_K / Z_0 ,      u - u_0 = work + heat + shadow work .

Six Gaussian protocols (a well that stiffens, softens, moves, or only suffers the error of the Langevin step),
a 4 x 3 RBM and a 3 x 3 Ising model; their free energies are known in closed form or by enumeration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
Path = Callable[[Array], AbstractEnergy]

# stiffness and centre of the well at the fraction s of the path, number of switches, Langevin step
GAUSSIAN: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], int, float]] = {
    "A stiffening, fast": (lambda s: 1 + 3 * s, lambda s: 0 * s, 10, 0.1),
    "B moving, fast": (lambda s: 1 + 0 * s, lambda s: 2 * s, 10, 0.1),
    "C stiffening and moving": (lambda s: 1 + 3 * s, lambda s: 2 * s, 10, 0.1),
    "D standing, coarse step": (lambda s: 1 + 0 * s, lambda s: 0 * s, 10, 0.5),
    "E stiffening, slow": (lambda s: 1 + 3 * s, lambda s: 0 * s, 200, 0.1),
    "F softening, slow": (lambda s: 4 - 3 * s, lambda s: 0 * s, 200, 0.1),
}


def check(key: Key, is_quick: bool = False) -> list[Row]:
    """All rows.

    Args:
        key: random key.
        is_quick: a tenth of the walkers.
    """
    n = N_GROUPS * (2_000 if is_quick else 20_000)
    rows = []
    for name, protocol in GAUSSIAN.items():
        rows += _gaussian(named(key, name), name, protocol, n)
    rows += _discrete(named(key, "rbm"), "RBM 4x3", BlockGibbs(), _rbm, n // 4)
    rows += _discrete(named(key, "ising"), "Ising 3x3", Gibbs.coloured(_ising(jnp.ones(()))), _ising, n // 4)
    return rows


def _gaussian(key: Key, name: str, protocol: Any, n: int) -> list[Row]:
    stiffness, centre, n_switches, step_size = protocol

    def path(s: Array) -> Gaussian:
        return Gaussian(jnp.reshape(centre(s), (1,)), jnp.reshape(jnp.sqrt(stiffness(s)), (1, 1)))

    rows = []
    for is_fused in (False, True):
        controls = Controls.of(step_size=step_size)
        start = path(jnp.zeros(())).sample_exact(named(key, "start"), 1.0, n)
        ensemble = travel(named(key, str(is_fused)), Langevin(is_fused), path, start, n_switches, controls)
        title = f"{name}, {'fused' if is_fused else 'switch, relax'}"
        exact = 0.5 * float(np.log(stiffness(0.0) / stiffness(1.0)))
        rows.append(Row.of(f"{title}: log Z1/Z0", exact, log_z_from_groups(_groups(ensemble))))
        mean = _weighted(ensemble, lambda x: x[:, 0])
        spread = _weighted(ensemble, lambda x: (x[:, 0] - centre(1.0)) ** 2)
        rows.append(Row.of(f"{title}: mean", float(centre(1.0)), mean))
        rows.append(Row.of(f"{title}: variance", 1 / float(stiffness(1.0)), spread))
        rows.append(_first_law(title, ensemble))
    return rows


def _discrete(key: Key, name: str, kernel: AbstractKernel, path: Path, n: int) -> list[Row]:
    zero, one = jnp.zeros(()), jnp.ones(())
    start = _draw(named(key, "start"), path(zero), n)
    ensemble = travel(named(key, "path"), kernel, path, start, 8, Controls.of())
    log_z = [log_partition_exact(path(s)) for s in (zero, one)]
    assert log_z[0] is not None and log_z[1] is not None
    estimate = log_z_from_groups(_groups(ensemble))
    return [Row.of(f"{name}: log Z1/Z0", log_z[1] - log_z[0], estimate), _first_law(name, ensemble)]


def travel(
    key: Key, kernel: AbstractKernel, path: Path, x: Array, n_switches: int, controls: Controls
) -> Ensemble:
    """Walkers taken along a path of models, a switch and a relaxation each; `log_z` counts from the start.

    Args:
        key: random key.
        kernel: Markov kernel.
        path: model at a fraction in [0, 1].
        x: exact samples of `path(0)`.
        n_switches: number of models after the first.
        controls: step size and sweeps.
    """

    @jax.jit
    def run(key: Key, x: Array) -> Ensemble:
        opened = Ensemble.open(kernel, Potential(path(jnp.zeros(())), 1.0), x, n_groups=N_GROUPS, log_z=0.0)

        def stride(k: Any, ensemble: Ensemble) -> Ensemble:
            model = path((k + 1) / n_switches)
            return advance(jax.random.fold_in(key, k), kernel, Potential(model, 1.0), ensemble, controls)[0]

        return jax.lax.fori_loop(0, n_switches, stride, opened)

    return run(key, x)


def _groups(ensemble: Ensemble) -> np.ndarray:
    return np.asarray(ensemble.log_partition_groups(), np.float64)


def _weighted(ensemble: Ensemble, function: Callable[[Array], Array]) -> Estimate:
    """Weighted mean over walkers, with a jackknife error over groups."""
    values = np.asarray(ensemble.by_group(function(ensemble.x)), np.float64)
    log_weight = np.asarray(ensemble.by_group(ensemble.log_weight()), np.float64)
    weight = np.exp(log_weight - log_weight.max())
    top, bottom = (weight * values).sum(1), weight.sum(1)
    left_out = (top.sum() - top) / (bottom.sum() - bottom)
    n = len(top)
    stderr = np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    return Estimate(top.sum() / bottom.sum(), stderr, None, "none", "weighted mean", dof=n - 1)


def _first_law(title: str, ensemble: Ensemble) -> Row:
    """Largest violation of the first law over walkers, in rounding errors of the energies involved."""
    residual = jnp.max(jnp.abs(ensemble.account.first_law_residual(ensemble.u)))
    account = ensemble.account
    parts = (ensemble.u, account.work.value, account.heat.value, account.shadow_work.value)
    scale = float(max(jnp.max(jnp.abs(part)) for part in parts)) + 1.0
    tolerance = 1000 * float(jnp.finfo(ensemble.u.dtype).eps) * scale
    return Row(f"{title}: first law, largest residual", 0.0, float(residual), 0.0, tolerance)


def _rbm(t: Array) -> RBM:
    i, j = jnp.arange(4.0), jnp.arange(3.0)
    weights = 2 * t * jnp.sin(1 + i[:, None] + 2 * j[None, :])
    visible_bias = 0.5 * t * jnp.cos(i) + 0.2 * (1 - t)
    return RBM(weights, visible_bias, -0.3 * t * (j + 1), units("binary", 4), units("binary", 3))


def _ising(t: Array) -> Pairwise:
    edges = square_lattice(3, 3, periodic=False)
    couplings = t * (0.4 + 0.3 * jnp.sin(jnp.arange(len(edges)) ** 2 + 1.0))
    return Pairwise(0.3 * jnp.cos(jnp.arange(9.0)), couplings, jnp.asarray(edges), units("spin", 9))


def _draw(key: Key, model: Any, n: int) -> Array:
    """Exact samples of a model with at most 16 units, from the list of its states."""
    unit = model.visible if isinstance(model, RBM) else model.units
    low, high = unit.levels
    bits = (np.arange(2**unit.size)[:, None] >> np.arange(unit.size)) & 1
    states = jnp.asarray(np.where(bits, high, low), float)
    log_p = -jax.vmap(lambda x: model.reduced(x, 1.0))(states)
    return states[jax.random.categorical(key, log_p, shape=(n,))]
