"""The family the laws are checked on: one row per kernel and kind of energy.

A row is a path of potentials, `s` in [0, 1], that starts at a law sampled exactly and whose `log Z` is known at every
`s` from NumPy alone. Parameters **and** beta move along it. The rows are ugly on purpose: beta starts at 0.7, sizes
differ, energies are skewed, one unit is isolated. All rows share a few compiled functions (`opened`, `step`,
`refreshed`, `resampled`), so that a further law on the whole family costs next to nothing.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import quad
from scipy.special import logsumexp

from quasistatic.energies import (
    RBM,
    AbstractEnergy,
    CallableEnergy,
    Gaussian,
    Interpolated,
    Pairwise,
    Potential,
    UniformBox,
    complete_graph,
    square_lattice,
    units,
)
from quasistatic.kernels import HMC, MALA, AbstractKernel, AuxiliaryGibbs, BlockGibbs, Gibbs, Langevin, SiteGibbs
from quasistatic.thermo import Controls, Ensemble, advance, switch
from tests.laws import enumeration

N, N_GROUPS = 20_000, 20
METHODS = ("systematic", "stratified", "residual", "multinomial")
# Compiling dozens of small functions takes longer than running them: 4 times less without optimisation. The long
# runs of other files (Gaussian protocols, float32) are compiled as users compile them.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
quick_jit = functools.partial(eqx.filter_jit, compiler_options=QUICK)


@dataclass(frozen=True, eq=False)
class Case:
    """One row.

    Attributes:
        name: kernel and energy.
        kernel: the kernel under test.
        path: potential at `s`, which may be traced.
        reduced: reduced potential of samples at a number `s`, in NumPy.
        start: exact samples at `s = 0`, from a key and a number; discrete and Gaussian rows take any `s`.
        n: number of visible units, or dimensions.
        step_size: for Langevin kernels.
        units: unit type of discrete samples; None for continuous ones.
        log_z: `log Z` at a number `s`, by enumeration or quadrature.
    """

    name: str
    kernel: AbstractKernel
    path: Callable[[Any], Potential]
    reduced: Callable[[float, np.ndarray], np.ndarray]
    start: Callable[..., jax.Array]
    n: int
    log_z: Callable[[float], float]
    step_size: float = 0.1
    units: str | None = None

    @property
    def is_balanced(self) -> bool:
        """Whether heat is `du`: a kernel in detailed balance that switches before it moves."""
        is_exact = not isinstance(self.kernel, Langevin | AuxiliaryGibbs)
        return is_exact and getattr(self.kernel, "is_adjusted", True)

    @property
    def states(self) -> np.ndarray:
        """All states of a discrete row."""
        return enumeration.states(self.units, self.n)

    def law(self, s: float) -> np.ndarray:
        """Probability of every state of a discrete row."""
        return enumeration.law(self.reduced(s, self.states))[0]


def beta_of(s: Any) -> Any:
    """Inverse temperature along every path: 0.7 to 1.2."""
    return jnp.asarray(0.7 + 0.5 * s, float)


def _discrete(name, kernel, path, reduced, *, units: str, n: int) -> Case:
    all_states = enumeration.states(units, n)

    def start(key, count, s=0.0):
        law, _ = enumeration.law(reduced(s, all_states))
        chosen = jax.random.choice(key, len(all_states), (count,), p=jnp.asarray(law))
        return jnp.asarray(all_states)[chosen]

    def log_z(s):
        return enumeration.law(reduced(s, all_states))[1]

    return Case(name, kernel, path, reduced, start, n, log_z, units=units)


def rbm_at(s: Any, visible: str = "binary", hidden: str = "binary") -> RBM:
    """RBM 4x3 along its path: skewed weights that grow, biases that turn; the last visible unit is isolated."""
    i, j = np.arange(4)[:, None], np.arange(3)[None, :]
    weights = np.sin(1.0 + i + 2.0 * j) * (i < 3)
    b, c = 0.4 * np.cos(i[:, 0]) - 0.1, -0.3 * (j[0] + 1.0)
    parameters = ((0.3 + 1.2 * s) * weights, b * (1 - 2 * s), c * (1 + s))
    return RBM(*(jnp.asarray(a) for a in parameters), units(visible, 4), units(hidden, 3))


def _rbm(visible: str, hidden: str, kernel: AbstractKernel) -> Case:
    def reduced(s, v):
        m = rbm_at(s, visible, hidden)
        return enumeration.rbm_marginal(m.weights, m.visible_bias, m.hidden_bias, 0.7 + 0.5 * s, v, hidden)

    def path(s):
        return Potential(rbm_at(s, visible, hidden), beta_of(s))

    name = {BlockGibbs: "block-gibbs", SiteGibbs: "site-gibbs"}.get(type(kernel), "auxiliary-gibbs")
    if isinstance(kernel, AuxiliaryGibbs):
        name = f"{kernel.variant}-{name}"
    return _discrete(f"{name} rbm {visible}-{hidden}", kernel, path, reduced, units=visible, n=4)


def pairwise_at(s: Any, kind: str, edges: np.ndarray, n: int) -> Pairwise:
    """Frustrated couplings that grow, and fields that turn, on the given edges."""
    couplings = np.sin(1.0 + 1.7 * np.arange(len(edges)))
    fields = 0.5 * np.cos(2.0 * np.arange(n)) - 0.15
    parameters = (fields * (1 - 1.5 * s), (0.2 + 0.7 * s) * couplings)
    return Pairwise(*(jnp.asarray(a) for a in parameters), jnp.asarray(edges), units(kind, n))


def _pairwise(kind: str, graph: str) -> Case:
    # all pairs of five units; or two colours of a square, and an isolated fifth unit
    edges = complete_graph(5) if graph == "complete" else square_lattice(2, 2, periodic=False)
    kernel = Gibbs() if graph == "complete" else Gibbs.coloured(pairwise_at(0.0, kind, edges, 5))

    def reduced(s, x):
        m = pairwise_at(s, kind, edges, 5)
        return (0.7 + 0.5 * s) * enumeration.pairwise(m.fields, m.couplings, edges, x)

    def path(s):
        return Potential(pairwise_at(s, kind, edges, 5), beta_of(s))

    name = "gibbs" if graph == "complete" else "coloured-gibbs"
    return _discrete(f"{name} pairwise {kind}", kernel, path, reduced, units=kind, n=5)


class ThreeBody(eqx.Module):
    """A user's module: `E(x) = a.x + g x_0 x_1 x_2 - 0.6 x_1 x_3`."""

    fields: jax.Array
    triple: jax.Array

    def __call__(self, x):
        return self.fields @ x + self.triple * x[0] * x[1] * x[2] - 0.6 * x[1] * x[3]


def three_body_at(s: Any, kind: str) -> AbstractEnergy:
    """The module above along its path."""
    fields = jnp.asarray(np.array([0.5, -0.3, 0.8, -0.2]) * (1 + s))
    return CallableEnergy(ThreeBody(fields, jnp.asarray(0.4 - 1.5 * s, float)), levels=enumeration.LEVELS[kind])


def _three_body(kind: str) -> Case:
    def reduced(s, x):
        fields = np.array([0.5, -0.3, 0.8, -0.2]) * (1 + s)
        triple = (0.4 - 1.5 * s) * x[:, 0] * x[:, 1] * x[:, 2]
        return (0.7 + 0.5 * s) * (x @ fields + triple - 0.6 * x[:, 1] * x[:, 3])

    def path(s):
        return Potential(three_body_at(s, kind), beta_of(s))

    kernel = SiteGibbs(levels=enumeration.LEVELS[kind])
    return _discrete(f"site-gibbs callable {kind}", kernel, path, reduced, units=kind, n=4)


def _gaussian(name: str, kernel: AbstractKernel, step_size: float = 0.15) -> Case:
    """Correlated Gaussian in two dimensions whose mean, precision and beta move."""
    root = np.array([[1.2, 0.0], [-0.5, 0.8]])

    def parameters(s):
        return np.array([0.5, 0.0]) + np.array([-1.0, 0.7]) * s, root * (1 + 0.4 * s)

    def path(s):
        return Potential(Gaussian(*(jnp.asarray(a) for a in parameters(s))), beta_of(s))

    def reduced(s, x):
        mean, factor = parameters(s)
        return (0.7 + 0.5 * s) * 0.5 * (((x - mean) @ factor) ** 2).sum(1)

    def log_z(s):
        return float(np.log(2 * np.pi / (0.7 + 0.5 * s)) - np.linalg.slogdet(parameters(s)[1])[1])

    def start(key, n, s=0.0):
        mean, factor = parameters(s)
        spread = np.linalg.inv(factor) / np.sqrt(0.7 + 0.5 * s)
        return jnp.asarray(mean) + jax.random.normal(key, (n, 2)) @ jnp.asarray(spread)

    return Case(f"{name} gaussian", kernel, path, reduced, start, 2, log_z, step_size=step_size)


class Skewed(eqx.Module):
    """A user's module: `E(x) = x^2 / 2 + c x^3 + d x^4` of a sample of shape (1,)."""

    cubic: jax.Array
    quartic: jax.Array

    def __call__(self, x):
        return jnp.sum(0.5 * x**2 + self.cubic * x**3 + self.quartic * x**4)


def _by_quadrature(reduced, low: float, high: float) -> Callable[[float], float]:
    def log_z(s):
        def density(x):
            return float(np.exp(-reduced(s, np.full((1, 1), x)))[0])

        return float(np.log(quad(density, low, high, epsabs=1e-13, epsrel=1e-12, limit=200)[0]))

    return log_z


def _skewed(name: str, kernel: AbstractKernel) -> Case:
    """From a Gaussian to a skewed quartic, without closed form."""

    def path(s):
        module = Skewed(jnp.asarray(-0.35 * s, float), jnp.asarray(0.15 * s, float))
        return Potential(CallableEnergy(module), beta_of(s))

    def reduced(s, x):
        x = x[:, 0]
        return (0.7 + 0.5 * s) * (0.5 * x**2 - 0.35 * s * x**3 + 0.15 * s * x**4)

    def start(key, n):
        return jax.random.normal(key, (n, 1)) / np.sqrt(0.7)

    return Case(f"{name} skewed", kernel, path, reduced, start, 1, _by_quadrature(reduced, -12, 12), step_size=0.08)


def _box(name: str, kernel: AbstractKernel) -> Case:
    """From the uniform law on an interval to a skewed quartic confined to it."""
    box = UniformBox(jnp.asarray([-1.5]), jnp.asarray([2.5]))
    target = CallableEnergy(Skewed(jnp.asarray(-0.35), jnp.asarray(0.15)))

    def path(s):
        return Potential(Interpolated(box, target, jnp.asarray(s, float)), beta_of(s))

    def reduced(s, x):
        x = x[:, 0]
        return s * (0.7 + 0.5 * s) * (0.5 * x**2 - 0.35 * x**3 + 0.15 * x**4)

    def start(key, n):
        return jax.random.uniform(key, (n, 1), minval=-1.5, maxval=2.5)

    log_z = _by_quadrature(reduced, -1.5, 2.5)
    return Case(f"{name} box", kernel, path, reduced, start, 1, log_z, step_size=0.2)


DISCRETE = [
    _rbm("binary", "binary", BlockGibbs()),
    _rbm("spin", "spin", BlockGibbs()),
    _rbm("binary", "spin", BlockGibbs()),
    _rbm("spin", "binary", BlockGibbs()),
    _pairwise("spin", "complete"),
    _pairwise("binary", "complete"),
    _pairwise("spin", "lattice"),
    _pairwise("binary", "lattice"),
    _rbm("binary", "binary", SiteGibbs()),
    _three_body("spin"),
    _three_body("binary"),
    _rbm("spin", "binary", AuxiliaryGibbs("joint")),
    _rbm("binary", "spin", AuxiliaryGibbs("fused")),
]
CONTINUOUS = [
    _gaussian("langevin", Langevin()),
    _gaussian("fused-langevin", Langevin(is_fused=True)),
    _gaussian("mala", MALA()),
    _skewed("langevin", Langevin()),
    _skewed("fused-langevin", Langevin(is_fused=True)),
    _skewed("mala", MALA()),
    _box("mala", MALA()),
    _gaussian("hmc", HMC(n_leapfrog=3, preconditioner=jnp.asarray([0.6, 1.4])), 0.5),
    _gaussian("preconditioned-langevin", Langevin(is_fused=True, preconditioner=jnp.asarray([0.6, 1.4]))),
    _gaussian("unadjusted-hmc", HMC(n_leapfrog=2, is_adjusted=False), 0.5),
    _skewed("clipped-langevin", Langevin(clip=0.6)),
    _box("boxed-langevin", Langevin(box=(-1.5, 2.5))),
]
CASES = DISCRETE + CONTINUOUS


def label(case: Case) -> str:
    """Name of a row in pytest's output."""
    return case.name.replace(" ", "_")


def one_per_kernel() -> list[Case]:
    """The first row of every kernel."""
    return list({case.name.split()[0]: case for case in reversed(CASES)}.values())


def controls(case: Case, n_sweeps: int = 1) -> Controls:
    """Controls of a row."""
    return Controls.of(n_sweeps=n_sweeps, step_size=case.step_size)


def opened(case: Case, key: Any, n: int = N, n_groups: int = N_GROUPS, *, s: float = 0.0) -> Ensemble:
    """Walkers at exact samples of the law at `s` (0 where no other can be sampled), with books."""
    x = case.start(key, n, s) if s else case.start(key, n)
    return _opened(case, x, s, case.log_z(s), n_groups)


@functools.partial(jax.jit, static_argnums=(0, 4), compiler_options=QUICK)
def _opened(case, x, s, log_z, n_groups):
    return Ensemble.open(case.kernel, case.path(s), x, n_groups=n_groups, log_z=log_z)


def step(key: Any, case: Case, ensemble: Ensemble, s: float, given: int | Controls = 1) -> Ensemble:
    """One update of all walkers: switch to the potential at `s`, then relax (`given` sweeps, or all controls)."""
    return _step(key, case, ensemble, s, given if isinstance(given, Controls) else controls(case, given))


@functools.partial(jax.jit, static_argnums=1, compiler_options=QUICK)
def _step(key, case, ensemble, s, given):
    return advance(key, case.kernel, case.path(s), ensemble, given)[0]


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def refreshed(case: Case, ensemble: Ensemble, s: Any) -> tuple[Ensemble, jax.Array]:
    """The walkers switched to the potential at `s`, and their work."""
    return switch(case.kernel, case.path(s), ensemble)


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def restarted(case: Case, ensemble: Ensemble, x: jax.Array, s: Any) -> Ensemble:
    """The walkers put at `x` under the potential at `s`."""
    return ensemble.restarted(case.kernel, case.path(s), x)


@functools.partial(jax.jit, static_argnames=("below", "method"), compiler_options=QUICK)
def resampled(key: Any, ensemble: Ensemble, below: float = 1.1, *, method: str = "systematic") -> Ensemble:
    """Groups resampled below this ESS fraction (all of them by default)."""
    return ensemble.resampled(key, below=below, method=method)[0]


@quick_jit
def advanced(key: Any, kernel: AbstractKernel, potential: Potential, ensemble: Ensemble, given: Controls) -> Ensemble:
    """One update of walkers that belong to no row."""
    return advance(key, kernel, potential, ensemble, given)[0]


@quick_jit
def opened_at(
    kernel: AbstractKernel, potential: Potential, x: jax.Array, log_z: Any = 0.0, n_groups: int = 1
) -> Ensemble:
    """Walkers that belong to no row, with books."""
    return Ensemble.open(kernel, potential, x, log_z=log_z, n_groups=n_groups)


def driven(key: Any, case: Case, ensemble: Ensemble, values: Any, n_sweeps: int = 1) -> Ensemble:
    """The walkers taken along the path through these values of `s`."""
    for i, s in enumerate(values):
        ensemble = step(jax.random.fold_in(key, i), case, ensemble, float(s), n_sweeps)
    return ensemble


def log_mean_with_error(log_weight: Any) -> tuple[float, float]:
    """Log of the mean weight and its standard error, from independent log weights."""
    a = np.asarray(log_weight, np.float64).ravel()
    log_mean = float(logsumexp(a) - np.log(a.size))
    return log_mean, float(np.exp(a - log_mean).std(ddof=1) / np.sqrt(a.size))
