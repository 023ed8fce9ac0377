"""Solvable models of training with k steps: what they learn and how they generate, beside reference values.

The identity of the two models in the paper is not known to us; these are derived here, and the reference values come
from an independent calculation.

Reference:
    E. Agoritsas, G. Catania, A. Decelle, B. Seoane, ICML 2023 (arXiv:2301.09428), for what is at stake: fixed-time
    training encodes the data in the dynamics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from quasistatic.evaluate.dynamics import (
    BernoulliRBM,
    BoltzmannMachine,
    CurieWeiss,
    CurieWeissLimit,
    GaussianModel,
    GaussianRBMMode,
    IndependentSpin,
    IsingRing,
    LangevinMode,
    UnadjustedMode,
    divergence,
    equilibrium_learning,
    gaussian_divergence,
    persistent_learning,
    persistent_limits,
    restarted_learning,
)
from quasistatic.reproduce import short_run_tables as tables
from quasistatic.reproduce.rows import Row

QUICK = (("short-run", 5), ("equilibrium", 1))
"""Trainings of the enumerated RBM that a quick reproduction repeats."""


def rows(quick: bool = False) -> list[Row]:
    """All rows. Args: quick: two of the seven trainings of the enumerated RBM (seconds instead of half a minute)."""
    return [
        *langevin(),
        *unadjusted(),
        *gaussian_rbm(),
        *spins(),
        *boltzmann(),
        *bernoulli(),
        *rbm_training(QUICK if quick else tuple(tables.RBM_TRAINING)),
    ]


def langevin() -> Iterator[Row]:
    """2A: learned stiffness, generation, learning, matrix, persistent walkers."""
    for (d, s), values in tables.STIFFNESS.items():
        for k, j in {**values, **({8: tables.LONG[d, s]} if (d, s) in tables.LONG else {})}.items():
            yield _row(f"Langevin, d = {d:g}, s = {s:g}, k = {k:g}: j*", j, LangevinMode(start=s).learned(d, k))
    unit = LangevinMode(start=1.0)
    for (d, s, k), curve in tables.GENERATED.items():
        for t, c in curve.items():
            found = float(LangevinMode(start=s).generated(d, k, float(t)))
            yield _row(f"Langevin, d = {d:g}, k = {k:g}: variance at t = {t:g}", c, found)
    for t, value in tables.DIVERGENCE.items():
        found = gaussian_divergence(unit.generated(2.0, 1.0, float(t)), 2.0)
        yield _row(f"Langevin, d = 2, k = 1: divergence at t = {t:g} [nats]", value, float(found))
    modes, model = np.diag(tables.MODES), GaussianModel(unit)
    for j, d in zip(tables.MODES_STIFFNESS, tables.MODES, strict=True):
        yield _row(f"four modes, k = 2: j* of d = {d:g}", j, unit.learned(d, 2))
    for k, errors in tables.MODES_ERROR.items():
        learned, _ = model.learned(np.zeros(4), modes, k)
        for share, error in zip((0.25, 0.5, 1, 2), errors, strict=True):
            found = model.second_error(learned, share * k, modes)
            digits = 1e-10 if error > 1e-3 else 6e-11
            yield _row(
                f"four modes, k = {k}: second-moment error at t/k = {share:g}", error, found, digits + 1e-8 * error
            )
    for (d, k, s), rate in tables.RATES.items():
        mode = LangevinMode(start=s)
        yield _row(f"Langevin, d = {d:g}, k = {k:g}: learning rate", rate, -mode.slope(mode.learned(d, k), k))
    times = np.array(tables.LEARNING_TIMES)
    curves = {
        "k = inf": (tables.LEARNING, equilibrium_learning(2.0, 1.0, times)),
        "k = 1": (tables.LEARNING_SHORT, unit.learning(2.0, 1.0, 1.0, times)),
    }
    for name, (expected, found) in curves.items():
        for t, a, b in zip(times, expected, found, strict=True):
            yield _row(f"Langevin, d = 2, {name}: j at learning time {t:g}", a, float(b), 1e-11)
    covariance = np.array(tables.COVARIANCE)
    for k, upper in tables.MATRIX.items():
        learned, _ = model.learned(np.zeros(3), covariance, k)
        for (i, j), value in zip(zip(*np.triu_indices(3), strict=True), upper, strict=True):
            yield _row(f"matrix, k = {k:g}: J*_{i + 1}{j + 1}", value, float(learned[i, j]))
    field = GaussianModel(unit).learned(np.ones(1), np.array([[float(unit.moment(0.5, 1.0))]]), 1)[1]
    yield _row("Langevin, j = 0.5, k = 1: field of a mean of 1", tables.FIELD, float(field[0]))
    path = persistent_learning(1.0, 1.0, 0.5, theta=0.5, variance=1.0, n_updates=10)
    for n, (j, c) in tables.PERSISTENT.items():
        yield _row(f"persistent walkers: j after {n} updates", j, float(path[n, 0]))
        yield _row(f"persistent walkers: variance after {n} updates", c, float(path[n, 1]))
    for s, j in tables.RESTARTED.items():
        found = restarted_learning(LangevinMode(start=s), 1.0, 1.0, 0.5, theta=0.5, n_updates=10)[-1]
        yield _row(f"restarted walkers, s = {s:g}: j after 10 updates", j, float(found))
    for (t, d), limit in tables.OSCILLATION.items():
        yield _row(
            f"persistent walkers, T = {t:g}, d = {d:g}: g d^2 of oscillation", limit, persistent_limits(d, t)[0] * d**2
        )


def unadjusted() -> Iterator[Row]:
    """2A, discrete: learned stiffness of the chain that is really run."""
    for (d, n, s, eps), j in tables.UNADJUSTED.items():
        found = UnadjustedMode(start=s, step=eps).learned(d, n)
        yield _row(f"unadjusted Langevin, d = {d:g}, s = {s:g}, {n} moves of {eps:g}: j*", j, found)


def gaussian_rbm() -> Iterator[Row]:
    """2B: learned coupling and learning curves."""
    mode = GaussianRBMMode()
    for d, values in tables.RHO.items():
        for n, rho in values.items():
            yield _row(f"Gaussian RBM, d = {d:g}, n = {n}: rho*", rho, mode.learned(d, n))
        yield _row(f"Gaussian RBM, d = {d:g}, equilibrium: rho*", 1 - 1 / d, mode.learned(d, math.inf))
    times = np.array([1.0, 2.0, 3.0, 5.0])
    for n, curve in tables.RHO_LEARNING.items():
        found = mode.learning(3.0, float(n), 1e-4, times)
        for t, a, b in zip(times, curve, found, strict=True):
            yield _row(f"Gaussian RBM, d = 3, n = {n}: rho at learning time {t:g}", a, float(b), 3e-11)


def spins() -> Iterator[Row]:
    """2C, 2D, 2E: independent spins, Curie-Weiss, ring."""
    for (mean, k), theta in tables.SPIN.items():
        yield _row(f"spin, mean {mean:g}, k = {k:g}: field", theta, IndependentSpin().learned(mean, k))
    for teacher, values in tables.CURIE_WEISS.items():
        for k, coupling in values.items():
            found = CurieWeissLimit().learned(1 / (1 - teacher), k)
            yield _row(f"Curie-Weiss, J_T = {teacher:g}, k = {k:g}: J*", coupling, found)
    finite = CurieWeiss(n_spins=20)
    data = finite.equilibrium(0.5)
    yield _row("Curie-Weiss, N = 20, J_T = 0.5: <M^2>/N", tables.CW_DATA, data)
    for k, (coupling, moment) in tables.CW_FINITE.items():
        found = finite.learned(data, k)
        yield _row(f"Curie-Weiss, N = 20, k = {k:g}: J*", coupling, found, 1e-10)
        yield _row(f"Curie-Weiss, N = 20, k = {k:g}: equilibrium <M^2>/N", moment, finite.equilibrium(found), 1e-9)
    for n, coupling in tables.CW_ATTEMPTS.items():
        found = CurieWeiss(n_spins=20, in_attempts=True).learned(data, n)
        yield _row(f"Curie-Weiss, N = 20, {n} attempts: J*", coupling, found, 1e-10)
    ring = IsingRing()
    for k, ceiling in tables.CEILING.items():
        yield _row(f"Ising ring, k = {k:g}: largest correlation", ceiling, ring.reach(k)[1])
    for data, k in tables.LEAST_TIME.items():
        yield _row(f"Ising ring, C = {data:g}: least k", k, ring.least_time(data), 1e-10)
    for data, values in tables.RING.items():
        for k, (coupling, correlation) in values.items():
            found = ring.learned(data, k)
            yield _row(f"Ising ring, C = {data:g}, k = {k:g}: K*", coupling, found, 1e-10)
            if correlation is not None:
                where = f"Ising ring, C = {data:g}, k = {k:g}: equilibrium correlation"
                yield _row(where, correlation, ring.equilibrium(found), 1e-10)
    for (t, gamma), correlation in tables.RING_CURVE.items():
        found = float(ring.moment(math.atanh(gamma) / 2, t))
        yield _row(f"Ising ring, gamma = {gamma:g}: correlation at t = {t:g}", correlation, found)


def boltzmann() -> Iterator[Row]:
    """2F: three spins under sequential sweeps."""
    machine, teacher = BoltzmannMachine(n_units=3), np.array(tables.TEACHER)
    data = machine.equilibrium(teacher)
    names = ("h_0", "h_1", "h_2", "J_01", "J_02", "J_12")
    for name, a, b in zip(names, tables.TEACHER_MOMENTS, machine.moments(teacher, data), strict=True):
        yield _row(f"three spins: moment of {name}", a, float(b), 1e-10)
    for k, values in tables.LEARNED.items():
        found = machine.learned(data, k, teacher)
        for name, a, b in zip(names, values, found, strict=True):
            yield _row(f"three spins, k = {k}: {name}*", a, float(b), 1e-10)
        for t, error in zip((0, 1, 2, 3, 4, math.inf), tables.MOMENT_ERRORS.get(k, ()), strict=False):
            law = machine.equilibrium(found) if t == math.inf else machine.law(found, int(t))
            largest = float(np.max(np.abs(machine.moments(found, law - data))))
            yield _row(f"three spins, k = {k}: largest error of a moment at t = {t:g}", error, largest, 1e-8)


def bernoulli() -> Iterator[Row]:
    """2G: an RBM of fixed parameters."""
    rbm = BernoulliRBM(n_visible=3, n_hidden=2)
    theta = rbm.packed(*(np.array(x) for x in (tables.WEIGHTS, tables.VISIBLE_BIAS, tables.HIDDEN_BIAS)))
    yield _row("RBM 3+2: log Z [nats]", tables.LOG_Z, rbm.log_partition(theta))
    yield _row("RBM 3+2: free energy of 101 [nats]", tables.FREE_ENERGY_101, float(rbm.reduced(theta)[5]))
    for i, (a, b) in enumerate(zip(tables.PROBABILITIES, rbm.equilibrium(theta), strict=True)):
        yield _row(f"RBM 3+2: p({i:03b})", a, float(b), 1e-10)
    yield _row("RBM 3+2: second eigenvalue", tables.SECOND_EIGENVALUE, rbm.chain(theta).second_eigenvalue(), 1e-9)
    for k, means in tables.VISIBLE_MEANS.items():
        moments = rbm.moments(theta, rbm.law(theta, k))
        expected = (*tables.PRODUCTS, *means, *tables.HIDDEN_MEANS) if k == 1 else means
        for i, (a, b) in enumerate(zip(expected, moments if k == 1 else moments[6:9], strict=True)):
            yield _row(f"RBM 3+2 after {k} steps: moment {i}", a, float(b), 1e-10)


def training_data() -> tuple[BernoulliRBM, np.ndarray, np.ndarray]:
    """The RBM of 4 + 2 units, its initial parameters, and data with two modes of unequal weight."""
    rbm = BernoulliRBM(n_visible=4, n_hidden=2)
    data = np.full(16, 0.01)
    data[0], data[15] = 0.41, 0.45
    mean = data @ rbm.states()
    weights = 0.01 * np.array([[1.0, -1.0], [1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    return rbm, rbm.packed(weights, np.log(mean / (1 - mean)), np.zeros(2)), data


def rbm_training(which: tuple[tuple[str, int], ...]) -> Iterator[Row]:
    """2G: noise-free training, quality against sampling time. Args: which: rules and steps of the table."""
    rbm, start, data = training_data()
    for rule, k in which:
        expected, tau, (n_updates, rate, tolerance) = tables.RBM_TRAINING[rule, k]
        theta = rbm.ascended(start, data, k, rate=rate, n_updates=n_updates, rule=rule)
        found = [*rbm.divergences(theta, data, tables.RBM_TIMES), divergence(data, rbm.equilibrium(theta))]
        for t, a, b in zip((*tables.RBM_TIMES, math.inf), expected, found, strict=True):
            # the references have six digits, four where they are large
            digits = max(1e-6, tolerance * a if a > 1 and t == math.inf else tolerance)
            yield _row(f"RBM 4+2, {rule}, k = {k}: divergence at t = {t:g} [nats]", a, float(b), digits)
        yield _row(f"RBM 4+2, {rule}, k = {k}: relaxation time", tau, rbm.chain(theta).relaxation_time(), 0.005 * tau)


def figures(folder: Path | str) -> list[Path]:
    """Writes the figures as PNG and SVG. Args: folder: made when it does not exist. Returns: paths."""
    from quasistatic.plots import write_figures

    return write_figures(drawings(), folder)


def drawings() -> dict[str, Any]:
    """Figures by name: learned parameters, quality against sampling time, thresholds."""
    from quasistatic.reproduce import short_run_figures as draw

    rbm, start, data = training_data()
    curves = {}
    for rule, k in (("short-run", 2), ("short-run", 5), ("short-run", 50), ("equilibrium", 1)):
        n_updates, rate, _ = tables.RBM_TRAINING[rule, k][2]
        theta = rbm.ascended(start, data, k, rate=rate, n_updates=n_updates // 2, rule=rule)
        curves[f"k = {k}" if rule == "short-run" else "equilibrium"] = (
            k if rule == "short-run" else None,
            rbm.divergences(theta, data, draw.TIMES),
        )
    return {
        "short-run-stiffness": draw.stiffness(),
        "short-run-quality": draw.quality(curves),
        "short-run-thresholds": draw.thresholds(),
    }


def _row(quantity: str, expected: float, found: float, tolerance: float = 1e-12) -> Row:
    return Row(quantity, float(expected), float(found), 0.0, tolerance * max(1.0, abs(expected)) + 1e-15)
