"""Prescribed paths of a Gaussian in one dimension: exact expectations of right and wrong ledgers, and Monte Carlo.

The population limit of a ledger is computed on a grid, from the package's own transition densities: with the
unnormalised density `f_k(x) = E[exp(s A_k) delta(x - X_k)]`,

    f_{k+1}(y) = int f_k(x) K(x -> y) exp(s dA(x, y)) dx ,

where the trapezoid rule converges faster than any power. `s = 1` gives `Z` ratios and weighted moments, `s = 2` the
ESS. The wrong ledgers are the mistakes that were found in published code; each has its own wrong answer.

Reference:
    Carbone, Hua, Coste, Vanden-Eijnden, NeurIPS 2023 (arXiv 2305.19414), proposition 1.
"""

import functools
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from quasistatic.energies import Gaussian, Potential
from quasistatic.kernels import AbstractKernel, KernelState, Langevin
from quasistatic.kernels.langevin import log_forward
from quasistatic.thermo import Controls, Ensemble, advance, switch

BLOCK = 50_000  # walkers that fit the cache


@dataclass(frozen=True, eq=False)
class Protocol:
    """Path of curvatures and means, `U_k = kappa_k (x - m_k)^2 / 2`, and the Langevin step."""

    name: str
    curvature: np.ndarray
    mean: np.ndarray
    step_size: float = 0.1

    @property
    def log_ratio(self) -> float:
        """`log Z_K / Z_0`."""
        return float(0.5 * np.log(self.curvature[0] / self.curvature[-1]))

    @property
    def beta(self) -> np.ndarray:
        """Inverse temperature along the path: it jumps about, the potential does not care."""
        return 1.0 + 0.3 * np.cos(2.0 * np.arange(len(self.mean)))


_SHORT, _LONG = np.arange(11.0), np.arange(201.0)
PROTOCOLS = {
    p.name: p
    for p in (
        Protocol("A", 1 + 0.3 * _SHORT, 0 * _SHORT),
        Protocol("B", 1 + 0 * _SHORT, 0.2 * _SHORT),
        Protocol("C", 1 + 0.3 * _SHORT, 0.2 * _SHORT),
        Protocol("D", 1 + 0 * _SHORT, 0 * _SHORT, 0.5),
        Protocol("E", 1 + 0.015 * _LONG, 0 * _LONG),
        Protocol("F", 4 - 0.015 * _LONG, 0 * _LONG),
    )
}
# Published to these digits: ESS fractions of both orders, and log E[exp(A)] of the wrong ledgers.
ESS = {
    "fused": dict(A=0.774077, B=0.042912, C=0.069886, D=0.912871, E=0.949927, F=0.932041),
    "unfused": dict(A=0.82943, B=0.05620, C=0.10314, D=0.91287, E=0.95870, F=0.94182),
}
FINGERPRINTS = {
    "alias": dict(A=-0.872343, B=0.120965, C=-0.511245, E=-0.942520, F=0.958143),
    "noswap": dict(A=-0.738183, B=0.031937, C=-0.582745, E=-0.774447, F=0.781496),
    "no-correction": dict(A=-0.782900, B=-0.107534, C=-0.934549, E=-0.779484, F=0.775955),
    "trapezoid": dict(A=-0.764138, B=-0.040301, C=-0.795021, E=-0.777144, F=0.778947),
}
LEDGERS = ("fused", "unfused", *FINGERPRINTS)


def potential_at(curvature: Any, mean: Any, beta: Any) -> Potential:
    """`kappa (x - m)^2 / 2` as beta times an energy."""
    factor = jnp.sqrt(jnp.asarray(curvature, float) / beta)
    return Potential(Gaussian(jnp.reshape(jnp.asarray(mean, float), (1,)), factor.reshape(1, 1)), beta)


def increments(before: Potential, after: Potential, x: Any, y: Any, h: Any) -> jax.Array:
    """Log-weight increment of a move `x -> y` in every ledger of `LEDGERS`."""
    kernel = Langevin()
    (u0x, g0x), (u1x, g1x), (u0y, g0y), (u1y, g1y) = (
        (state.u, state.cache)
        for state in (kernel.init(before, x), kernel.init(after, x), kernel.init(before, y), kernel.init(after, y))
    )

    def alpha(u, gradient, step):
        return u + 0.5 * jnp.sum(step * gradient) + h / 4 * jnp.sum(gradient**2)

    return jnp.stack(
        [
            u0x - u1y + log_forward(y, x, g1y, h) - log_forward(x, y, g0x, h),
            u0x - u1x + (u1x - u1y + log_forward(y, x, g1y, h) - log_forward(x, y, g1x, h)),
            alpha(u0y, g0y, 0.0) - alpha(u1y, g1y, 0.0),  # the old position is an alias of the new one
            alpha(u0x, g0x, y - x) - alpha(u1x, g1x, y - x),  # backward half not turned around
            u0x - u1x,  # importance weight alone, as if Langevin moves were in detailed balance
            -0.5 * ((u1x - u0x) + (u1y - u0y)),  # trapezoid rule of the continuous-time work
        ]
    )


@dataclass(frozen=True)
class Population:
    """Exact expectations: log mean weight, weighted mean and variance of x, ESS fraction."""

    log_mean: float
    mean: float
    variance: float
    ess: float


@functools.cache
def population(protocol: Protocol, *, temperature: float = 1.0) -> dict[str, Population]:
    """Population limit of every ledger; `temperature` scales the noise variance of the moves, 2h when right."""
    path = np.stack([protocol.curvature, protocol.mean, protocol.beta], 1)
    x, f = (np.asarray(a) for a in _propagated(path[0], path[:-1], path[1:], protocol.step_size, temperature))
    first, second = f[:, 0].sum(1), f[:, 1].sum(1)
    spacing = x[1] - x[0]
    mean = (f[:, 0] * x).sum(1) / first
    variance = (f[:, 0] * (x - mean[:, None]) ** 2).sum(1) / first
    return {
        name: Population(
            float(np.log(first[i] * spacing)), mean[i], variance[i], float(first[i] ** 2 * spacing / second[i])
        )
        for i, name in enumerate(LEDGERS)
    }


@jax.jit
def _propagated(start, before, after, h, temperature):
    x = jnp.linspace(-10.0, 14.0, 193)[:, None]
    kernel, powers = Langevin(), jnp.array([1.0, 2.0])

    def move(f, ends):
        old, new = (potential_at(*end) for end in ends)
        pairs = jax.vmap(jax.vmap(lambda a, b: increments(old, new, a, b, h), (None, 0)), (0, None))(x, x)

        def log_transition(potential):
            gradient = jax.vmap(lambda a: kernel.init(potential, a).cache)(x)
            rows = jax.vmap(jax.vmap(lambda a, g, b: log_forward(a, b, g, h), (None, None, 0)), (0, 0, None))
            return rows(x, gradient, x) / temperature - 0.5 * jnp.log(4 * jnp.pi * h * temperature)

        forward = [log_transition(new if name == "unfused" else old) for name in LEDGERS]
        spacing = x[1, 0] - x[0, 0]

        def one(f_ledger, log_k, d):
            return jax.vmap(lambda g, s: spacing * g @ jnp.exp(log_k + s * d))(f_ledger, powers)

        moved = [one(f[i], forward[i], pairs[..., i]) for i in range(len(LEDGERS))]
        return jnp.stack(moved), None

    reduced = jax.vmap(potential_at(*start))(x)
    law = jnp.exp(-reduced) * jnp.sqrt(start[0] / (2 * jnp.pi))
    f = jnp.broadcast_to(law, (len(LEDGERS), 2, len(x)))
    return x[:, 0], jax.lax.scan(move, f, (before, after))[0]


class BrokenLangevin(AbstractKernel):
    """Fused Langevin move with a chosen ledger of `LEDGERS` and a chosen noise variance `2 h temperature`."""

    ledger: jax.Array
    temperature: jax.Array

    @classmethod
    def of(cls, name: str, temperature: float = 1.0) -> "BrokenLangevin":
        return cls(jnp.asarray(LEDGERS.index(name)), jnp.asarray(temperature, float))

    @property
    def moves_with_switch(self):
        return True

    def init(self, potential, x, context=None):
        u, gradient = jax.value_and_grad(potential)(x)
        return KernelState(x, u, (gradient, potential))  # wrong ledgers need the old model once more

    def step(self, key, after, state, controls, context=None):
        gradient, before = state.cache
        h = controls.step_size
        noise = jnp.sqrt(2 * h * self.temperature) * jax.random.normal(key, state.x.shape, state.x.dtype)
        new = self.init(after, state.x - h * gradient + noise)
        gain = increments(before, after, state.x, new.x, h)[self.ledger]
        return new, gain + new.u - state.u, {}


def simulate(
    key: Any,
    kernel: AbstractKernel,
    protocol: Protocol,
    *,
    n_walkers: int,
    n_sweeps: int = 1,
    n_moved: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Log weights and positions of walkers taken along a protocol by the package.

    Args:
        key: random key.
        kernel: the kernel.
        protocol: the path.
        n_walkers: a multiple of `BLOCK`.
        n_sweeps: moves per switch.
        n_moved: walkers of each block that follow a switch (a fresh random subset each time); None moves all.
    """
    path = np.stack([protocol.curvature, protocol.mean, protocol.beta], 1)
    padded = jnp.asarray(np.concatenate([path, np.repeat(path[-1:], _LONG.size - len(path), 0)]))
    controls = Controls.of(n_sweeps=n_sweeps, step_size=protocol.step_size)
    blocks = [
        _simulated(block_key, kernel, padded, len(path), controls, n_moved)
        for block_key in jax.random.split(key, n_walkers // BLOCK)
    ]
    return tuple(np.concatenate(parts) for parts in zip(*blocks, strict=True))


@eqx.filter_jit
def _simulated(key, kernel, path, length, controls, n_moved):
    key_start, key_run = jax.random.split(key)
    start = potential_at(*path[0])
    x = start.energy.sample_exact(key_start, start.beta, BLOCK)
    ensemble = Ensemble.open(kernel, start, x, log_z=start.energy.log_partition(start.beta))

    def update(k, ensemble):
        key_step = jax.random.fold_in(key_run, k)
        index = None if n_moved is None else jax.random.permutation(key_step, BLOCK)[:n_moved]
        return advance(key_step, kernel, potential_at(*path[k]), ensemble, controls, index=index)[0]

    ensemble = jax.lax.fori_loop(1, jnp.asarray(length), update, ensemble)
    if n_moved is not None:
        ensemble, _ = switch(kernel, potential_at(*path[length - 1]), ensemble)
    return ensemble.log_weight(), ensemble.x[:, 0]


@dataclass(frozen=True)
class Measured:
    """Weighted averages with standard errors (delta method), `(value, error)` each."""

    log_mean: tuple[float, float]
    mean: tuple[float, float]
    variance: tuple[float, float]
    ess: tuple[float, float]


def measure(log_weight: np.ndarray, x: np.ndarray) -> Measured:
    """Estimates from independent walkers."""
    n = len(x)
    log_mean = logsumexp(log_weight) - np.log(n)
    w = np.exp(log_weight - log_mean)
    mean = float(np.mean(w * x))
    variance = float(np.mean(w * (x - mean) ** 2))
    second = float(np.mean(w**2))

    def error(influence):
        return float(np.std(influence) / np.sqrt(n))

    return Measured(
        (float(log_mean), error(w)),
        (mean, error(w * (x - mean))),
        (variance, error(w * ((x - mean) ** 2 - variance))),
        (1 / second, error(2 * w - w**2 / second) / second),
    )
