"""Annealed importance sampling, forward and reverse, and the bracket the two put around log Z.

Walkers start as exact samples of a base with known Z and are carried along a path to the model, one switch and one
relaxation per temperature. The work of the switches makes

    forward:   Z = Z_base mean(exp(-work))            its log is low on average
    reverse:   1/Z = mean(exp(-work)) / Z_base        log Z high on average, *if* its walkers start in equilibrium

Forward values need no assumption. Reverse ones do: a start outside equilibrium can put them on either side of the
truth, which is why the bracket runs its chains for two lengths, and calls an inverted bracket by its name.

Reference:
    R. M. Neal, Stat. Comput. 11, 125 (2001); R. Salakhutdinov and I. Murray, ICML 2008;
    Y. Burda, R. Grosse and R. Salakhutdinov, AISTATS 2015 (arXiv:1412.8566) (reverse annealing).
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quasistatic._keys import named
from quasistatic._numerics import ess_fraction
from quasistatic._results import Estimate
from quasistatic._types import Key
from quasistatic.energies.base import AbstractEnergy, AbstractTractable
from quasistatic.energies.neural import Neural
from quasistatic.energies.pairwise import Pairwise
from quasistatic.energies.potential import Potential
from quasistatic.energies.rbm import RBM
from quasistatic.errors import InputError
from quasistatic.evaluate.paths import base_at, default_kernel, log_partition_start, path_at, switch_along
from quasistatic.kernels.base import AbstractKernel
from quasistatic.thermo.controls import Controls
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.estimators import log_z_from_groups
from quasistatic.thermo.process import relax

N_TEMPERATURES = 1001
N_CHAINS = 512
N_GROUPS = 16
FORWARD = "annealed importance sampling"
REVERSE = "reverse annealed importance sampling (upper if the start is in equilibrium)"
SIGNIFICANT = 3.0
"""Combined standard errors beyond which two values disagree..."""
ROUNDING = 1e-6
"""... and the fraction of the value itself that is put down to rounding."""


def ais(
    key: Key,
    energy: AbstractEnergy,
    base: AbstractTractable,
    *,
    beta: float = 1.0,
    n_temperatures: int = N_TEMPERATURES,
    n_chains: int = N_CHAINS,
    n_groups: int = N_GROUPS,
    kernel: AbstractKernel | None = None,
    n_sweeps: int = 1,
    step_size: float = 0.01,
) -> Estimate:
    """`log Z(beta)` by annealing from a base with known Z.

    Args:
        key: random key.
        energy: the model.
        base: law to start from, used at the same beta (`base_at`, or `energy.base()`).
        beta: inverse temperature.
        n_temperatures: number of laws on the path, both ends included.
        n_chains: number of walkers, a multiple of `n_groups`.
        n_groups: independent groups that carry the standard error (16 or more).
        kernel: Markov kernel; by default block Gibbs for RBMs and Gibbs for pairwise models.
        n_sweeps: sweeps per temperature.
        step_size: step of Langevin kernels.

    Returns:
        The estimate; `Z` is unbiased, so its log is low on average.

    Raises:
        InputError: impossible sizes, or an energy for which a kernel must be named.
    """
    end = annealed(
        key, energy, base, beta=beta, n_temperatures=n_temperatures, n_chains=n_chains, n_groups=n_groups,
        kernel=kernel, n_sweeps=n_sweeps, step_size=step_size,
    )  # fmt: skip
    return _estimate(end, FORWARD)


def reverse_ais(
    key: Key,
    energy: AbstractEnergy,
    base: AbstractTractable,
    x_start: Float[Array | np.ndarray, "n ..."],
    *,
    beta: float = 1.0,
    n_temperatures: int = N_TEMPERATURES,
    n_groups: int = N_GROUPS,
    kernel: AbstractKernel | None = None,
    n_sweeps: int = 1,
    step_size: float = 0.01,
) -> Estimate:
    """`log Z(beta)` by annealing walkers of the model back to the base.

    Args:
        key: random key.
        energy: the model.
        base: law with known Z to arrive at.
        x_start: walkers **assumed in equilibrium** under the model, groups contiguous and independent of each other.
        beta: inverse temperature.
        n_temperatures: number of laws on the path.
        n_groups: independent groups.
        kernel: as in `ais`.
        n_sweeps: sweeps per temperature.
        step_size: step of Langevin kernels.

    Returns:
        The estimate, high on average (an upper bound) if the start is in equilibrium, of no known direction otherwise.
    """
    end = annealed(
        key, energy, base, x_start=x_start, beta=beta, n_temperatures=n_temperatures, n_groups=n_groups,
        kernel=kernel, n_sweeps=n_sweeps, step_size=step_size,
    )  # fmt: skip
    return float(log_partition_start(energy, base, beta)) - _estimate(end, REVERSE)


def annealed(
    key: Key,
    energy: AbstractEnergy,
    base: AbstractTractable,
    *,
    x_start: Float[Array | np.ndarray, "n ..."] | None = None,
    beta: float = 1.0,
    n_temperatures: int = N_TEMPERATURES,
    n_chains: int = N_CHAINS,
    n_groups: int = N_GROUPS,
    kernel: AbstractKernel | None = None,
    n_sweeps: int = 1,
    step_size: float = 0.01,
) -> Ensemble:
    """Walkers carried along the whole path, with their books: from the base, or from `x_start` backwards to the base.

    Args: as in `ais` and `reverse_ais`.

    Returns:
        The ensemble at the end of the path. `log_partition_groups()` is `log Z` of the model forwards, and
        `log(Z_base / Z)` backwards.
    """
    if n_temperatures < 2:
        raise InputError(
            f"a path has at least 2 temperatures (its ends), got {n_temperatures}; 1000 and more are usual"
        )
    if not (np.isfinite(beta) and beta > 0):
        raise InputError(f"beta must be a positive number, got {beta}")
    kernel = default_kernel(energy) if kernel is None else kernel
    kernel.check(energy)
    dtype = _dtype(energy)
    number = jnp.asarray(beta, dtype)
    controls = Controls.of(n_sweeps=n_sweeps, step_size=step_size)
    with jax.default_matmul_precision("highest"):
        if x_start is None:
            x, log_z = _start(named(key, "start"), energy, base, number, n_chains)
        else:
            x, log_z = jnp.asarray(x_start, dtype), jnp.zeros((), dtype)
        protocol = (jnp.asarray(n_temperatures, jnp.int32), jnp.asarray(x_start is not None))
        return _anneal(named(key, "anneal"), kernel, energy, base, number, x, log_z, protocol, controls, n_groups)


def equilibrated(
    key: Key,
    energy: AbstractEnergy,
    x: Float[Array | np.ndarray, "n ..."],
    *,
    n_sweeps: int,
    beta: float = 1.0,
    kernel: AbstractKernel | None = None,
    step_size: float = 0.01,
) -> Float[Array, "n ..."]:
    """Walkers after `n_sweeps` sweeps under the model (whether that is equilibrium is for the caller to know)."""
    kernel = default_kernel(energy) if kernel is None else kernel
    kernel.check(energy)
    dtype = _dtype(energy)
    controls = Controls.of(n_sweeps=n_sweeps, step_size=step_size)
    with jax.default_matmul_precision("highest"):
        return _relaxed(key, kernel, energy, jnp.asarray(beta, dtype), jnp.asarray(x, dtype), controls)


@dataclass(frozen=True)
class Bracket:
    """Forward and reverse annealing around `log Z`, in nats.

    Args:
        forward: forward value, low on average.
        reverse: reverse value from the full-length chains, high on average if these are in equilibrium.
        reverse_half: reverse value from the same chains at half their length.
        gap: `reverse - forward`, or None when either is withheld.
        gap_stderr: its standard error.
        t_half_agreement: whether the two reverse values agree; False says that the chains are still on their way.
        is_inverted: whether the reverse value lies significantly below the forward one: a failure, not a result.
        note: empty, or the name of what is wrong with the bracket, a colon, and what to do.
    """

    forward: Estimate
    reverse: Estimate
    reverse_half: Estimate
    gap: float | None
    gap_stderr: float | None
    t_half_agreement: bool | None
    is_inverted: bool
    note: str

    def as_json(self) -> dict[str, Any]:
        """Mapping of the fields, estimates as mappings."""
        estimates = {name: getattr(self, name).as_json() for name in ("forward", "reverse", "reverse_half")}
        others = ("gap", "gap_stderr", "t_half_agreement", "is_inverted", "note")
        return estimates | {name: getattr(self, name) for name in others}

    @classmethod
    def of(cls, forward: Estimate, reverse: Estimate, reverse_half: Estimate) -> "Bracket":
        """Bracket judged from its three values."""
        gap, gap_stderr = _difference(reverse, forward)
        drift, drift_stderr = _difference(reverse, reverse_half)
        if gap is None or gap_stderr is None or drift is None or drift_stderr is None:
            reasons = "; ".join(e.reason for e in (forward, reverse, reverse_half) if e.reason)
            return cls(forward, reverse, reverse_half, gap, gap_stderr, None, False, f"withheld: {reasons}")
        rounding = ROUNDING * max(1.0, abs(forward.value or 0.0))
        is_inverted = gap < -(SIGNIFICANT * gap_stderr + rounding)
        agrees = abs(drift) <= SIGNIFICANT * drift_stderr + rounding
        note = ""
        if is_inverted:
            note = (
                f"inverted_bracket: the reverse value lies {-gap:.3g} +- {gap_stderr:.2g} nats below the forward one, "
                "so its walkers did not start in equilibrium; raise n_equilibrate and n_temperatures"
            )
        elif not agrees:
            note = (
                f"start_not_in_equilibrium: the reverse value moved by {drift:.3g} +- {drift_stderr:.2g} nats over the "
                "second half of the chains; raise n_equilibrate"
            )
        return cls(forward, reverse, reverse_half, gap, gap_stderr, agrees, is_inverted, note)


def log_partition_bracket(
    key: Key,
    energy: AbstractEnergy,
    data: Float[Array | np.ndarray, "n_samples n"] | None = None,
    *,
    base: AbstractTractable | None = None,
    x_start: Float[Array | np.ndarray, "n_chains ..."] | None = None,
    beta: float = 1.0,
    n_temperatures: int = 10001,
    n_chains: int = 128,
    n_groups: int = N_GROUPS,
    n_equilibrate: int = 2000,
    kernel: AbstractKernel | None = None,
    n_sweeps: int = 1,
    step_size: float = 0.01,
) -> Bracket:
    """Forward and reverse annealing with one path.

    The reverse walkers are chains of `n_equilibrate` sweeps under the model. They start at the ends of the forward run
    (resampled by weight inside each group, so that modes get their due and groups stay independent) or at `x_start`.

    Args:
        key: random key.
        energy: the model.
        data: training data, for a base at their means.
        base: base to use instead.
        x_start: where the chains of the reverse run start, instead of the ends of the forward run.
        beta: inverse temperature.
        n_temperatures: laws on the path.
        n_chains: walkers of each run.
        n_groups: independent groups.
        n_equilibrate: sweeps of the chains; the reverse value is also taken at half of them.
        kernel: as in `ais`.
        n_sweeps: sweeps per temperature.
        step_size: step of Langevin kernels.

    Raises:
        InputError: neither data nor base was given, or impossible sizes.
    """
    base = _base(energy, data, beta) if base is None else base
    settings: dict[str, Any] = {"beta": beta, "kernel": kernel, "step_size": step_size}
    path: dict[str, Any] = settings | {"n_temperatures": n_temperatures, "n_groups": n_groups, "n_sweeps": n_sweeps}
    end = annealed(named(key, "forward"), energy, base, n_chains=n_chains, **path)
    forward = _estimate(end, FORWARD)
    x = _resampled(named(key, "resample"), end) if x_start is None else x_start
    values = []
    for part, n_part in (("half", n_equilibrate // 2), ("full", n_equilibrate - n_equilibrate // 2)):
        x = equilibrated(named(key, f"chains {part}"), energy, x, n_sweeps=n_part, **settings)
        values.append(reverse_ais(named(key, f"reverse {part}"), energy, base, x, **path))
    return Bracket.of(forward, values[1], values[0])


def _base(energy: AbstractEnergy, data: Any, beta: float) -> AbstractTractable:
    if isinstance(energy, Neural):
        return energy.base()
    if data is None:
        raise InputError("annealing needs a base: give training data (for a base at their means) or base=energy.base()")
    if isinstance(energy, RBM):
        return base_at(data, energy.visible, beta)
    if isinstance(energy, Pairwise):
        return base_at(data, energy.units, beta)
    raise InputError(f"a {type(energy).__name__} has no base at the data means; give base= (a Gaussian, a uniform box)")


def _difference(a: Estimate, b: Estimate) -> tuple[float | None, float | None]:
    """`a - b` of independent estimates and its standard error."""
    value = None if a.value is None or b.value is None else a.value - b.value
    stderr = None if a.stderr is None or b.stderr is None else float(np.hypot(a.stderr, b.stderr))
    return value, stderr


def _dtype(energy: AbstractEnergy) -> Any:
    leaves = [leaf for leaf in jax.tree.leaves(energy) if eqx.is_inexact_array(leaf)]
    return jnp.result_type(*leaves) if leaves else jnp.result_type(float)


def _estimate(ensemble: Ensemble, method: str) -> Estimate:
    """`log Z` of the law the walkers arrived at."""
    groups, ess = _read(ensemble)
    return log_z_from_groups(np.asarray(groups), ess=float(ess), bias="low", method=method)


@eqx.filter_jit
def _start(key, energy, base, beta, n_chains):
    """Exact samples of the base, and `log Z` there."""
    x = base.sample_exact(key, beta, n_chains).astype(beta.dtype)
    return x, log_partition_start(energy, base, beta).astype(beta.dtype)


@eqx.filter_jit
def _anneal(key, kernel, energy, base, beta, x, log_z, protocol, controls, n_groups):
    """One compilation for both directions and any number of temperatures."""
    n_temperatures, is_reverse = protocol
    last = n_temperatures - 1
    matrix = energy.coupling_matrix() if isinstance(energy, Pairwise) else None

    def law(i):
        # the same fractions in both directions, exactly 0 and 1 at the ends
        fraction = jnp.where(is_reverse, last - i, i).astype(x.dtype) / last.astype(x.dtype)
        return path_at(energy, base, fraction, matrix)

    def temperature(i, ensemble):
        here = law(i)
        ensemble, _ = relax(jax.random.fold_in(key, i), kernel, Potential(here, beta), ensemble, controls)
        return switch_along(kernel, here, law(i + 1), beta, ensemble)

    opened = Ensemble.open(kernel, Potential(law(0), beta), x, n_groups=n_groups, log_z=log_z)
    first = switch_along(kernel, law(0), law(1), beta, opened)
    # relax here, then switch: the cumulant functions at the new positions serve both
    return jax.lax.fori_loop(1, last, temperature, first)


@eqx.filter_jit
def _read(ensemble):
    """Free energies of the groups, and the effective sample size of all walkers together (none was resampled)."""
    return ensemble.log_partition_groups(), ess_fraction(ensemble.log_weight())


@eqx.filter_jit
def _resampled(key, ensemble):
    return ensemble.resampled(key, below=2.0)[0].x


@eqx.filter_jit
def _relaxed(key, kernel, energy, beta, x, controls):
    potential = Potential(energy, beta)
    return relax(key, kernel, potential, Ensemble.open(kernel, potential, x), controls)[0].x
