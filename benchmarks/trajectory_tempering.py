"""Jumps between two digits: replicas along the training trajectory against plain Gibbs, at equal cost.

    python -m benchmarks.trajectory_tempering [--quick] [--out DIR] [--walkers 2000] [--rounds 2000] [--chains 200]

An RBM with 200 hidden units is trained on the MNIST digits 0 and 1 (pixels above 0.3, PCD-100, rate 0.01, 10,000
updates, 2,000 walkers unless told otherwise), and its ages are stored on the way. Then stacks of replicas in ages
chosen by their acceptance, and plain chains of the last age, both from the positions at which the stacks end their
burn-in, are watched by a linear discriminant of the two digits. A jump leads from the core of one digit, where three
quarters of its pictures lie, into that of the other: a chain that dithers at the border does not jump (all changes of
side are counted, too). Reported are jumps per chain and sweep of the model (top rung), and per sweep of *all* rungs;
where plain Gibbs shows fewer than 5 jumps, its 95 % upper limit takes the place of its count. Gibbs makes as many
sweeps in all as the stacks do in all their rungs. Jumps of neighbouring replicas that trade places again and again are
cheap, so the autocorrelation time of the digit is reported, too.

Training and sampling can be interrupted: what is in DIR (default runs/trajectory-tempering) is gone on with.

Reference:
    Bereux, Decelle, Furtlehner, Rosset and Seoane 2024 (arXiv 2405.15376): 80 times as many jumps on these data.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from sklearn.datasets import load_digits

import quasistatic as qs
from quasistatic import datasets
from quasistatic._keys import named
from quasistatic.evaluate.chains import run_chains
from quasistatic.evaluate.mixing import Occupancy, autocorrelation_time, occupancy, poisson_upper
from quasistatic.evaluate.rungs import Age, Chosen, choose_rungs
from quasistatic.kernels import AbstractKernel, BlockGibbs, independent_rbm
from quasistatic.run import Archive
from quasistatic.thermo import as_samples
from quasistatic.thermo.ensemble import Ensemble
from quasistatic.thermo.replicas import crossings, round_trips
from quasistatic.train import checkpoint

GOAL_TOP, GOAL_TOTAL = 20.0, 4.0
FULL = {
    "n_hidden": 200,
    "n_walkers": 2000,
    "batch_size": 2000,
    "n_sweeps": 100,
    "rate": 0.01,
    "n_steps": 10_000,
    "n_ages": 60,
}
QUICK = {"n_hidden": 16, "n_walkers": 100, "batch_size": 100, "n_sweeps": 5, "rate": 0.3, "n_steps": 600, "n_ages": 10}


class Discriminant(eqx.Module):
    """Where a picture lies along Fisher's linear discriminant of two classes.

    0: core of the first class, 1: its side, 2: side of the second class, 3: its core.
    """

    direction: Float[Array, " n"]
    edges: Float[Array, " 3"]

    @classmethod
    def of(cls, x: np.ndarray, labels: np.ndarray) -> "Discriminant":
        """Discriminant of labelled pictures, with a ridge for pixels that never change."""
        zero, one = x[labels == 0], x[labels == 1]
        within = np.cov(zero, rowvar=False) + np.cov(one, rowvar=False)
        direction = np.linalg.solve(within + 0.05 * np.eye(x.shape[1]), one.mean(0) - zero.mean(0))
        border = 0.5 * direction @ (zero.mean(0) + one.mean(0))
        edges = (np.quantile(zero @ direction, 0.75), border, np.quantile(one @ direction, 0.25))
        return cls(jnp.asarray(direction, jnp.float32), jnp.asarray(edges, jnp.float32))

    def __call__(self, x: Float[Array, " n"]) -> Int[Array, ""]:
        return jnp.sum(self.direction @ x > self.edges).astype(jnp.int32)


def last_core(places: np.ndarray) -> np.ndarray:
    """Class in whose core each chain was last, of what `Discriminant` said; before that, the side it was on."""
    records = np.arange(len(places))[:, None]
    is_core = (places == 0) | (places == 3)
    is_core[0] = True
    latest = np.maximum.accumulate(np.where(is_core, records, 0), axis=0)
    return (np.take_along_axis(places, latest, axis=0) >= 2).astype(int)


def digits(is_quick: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and labels of the two digits; the small embedded digits for a quick run."""
    if is_quick:
        pictures, labels = load_digits(return_X_y=True)
        keep = labels <= 1
        return (pictures[keep] > 7).astype(np.float32), labels[keep]
    mixture = datasets.mnist_mixture([0, 1], binary=False)
    return (np.asarray(mixture.dataset.train) > 2 * 0.3 - 1).astype(np.float32), mixture.labels["train"]


def trained(folder: Path, x: np.ndarray, sizes: dict[str, Any], seed: int) -> list[Age]:
    """Ages of the training, from the folder where they are, else from going on with it."""
    model = qs.RBM.initialise(jax.random.key(seed), x.shape[1], sizes["n_hidden"], weight_scale=1e-4, data=x)
    trainer = qs.pcd(
        BlockGibbs(), optax.sgd(sizes["rate"]), k=sizes["n_sweeps"], centred=True, n_walkers=sizes["n_walkers"],
        batch_size=min(sizes["batch_size"], len(x)), auditor_groups=0,
    )  # fmt: skip
    # log-spaced ages are dense where the model is young; the later half of the training needs rungs too
    n = sizes["n_ages"]
    spaced = np.concatenate([np.geomspace(1, sizes["n_steps"], n), np.linspace(0, sizes["n_steps"], n + 1)[1:]])
    stops = sorted({round(s) for s in spaced})
    state = trainer.init(jax.random.key(seed + 1), model)
    last = folder / "last.npz"
    if last.exists():
        state = checkpoint.fill(state, Archive(last))
    data = jnp.asarray(x)
    for stop in stops:
        if stop <= int(state.step):
            continue
        started = time.perf_counter()
        n_before = int(state.step)
        state = jax.block_until_ready(qs.train.run_chunk(trainer, state, data, jnp.asarray(stop, jnp.int32)))
        checkpoint.save(folder / f"age-{stop:08d}.npz", {"model": state.model}, {"step": stop})
        checkpoint.save(last, {"": state}, {"step": stop})
        per_update = (time.perf_counter() - started) / (stop - n_before)
        print(f"update {stop:6d}  {1e3 * per_update:7.1f} ms per update", flush=True)
    beta = jnp.asarray(1.0)
    ages = [(int(path.stem[4:]), path) for path in sorted(folder.glob("age-*.npz"))]
    return [Age(step, qs.Potential(checkpoint.fill(model, Archive(path), "model"), beta)) for step, path in ages]


def ladder(folder: Path, ages: list[Age], n_chains: int, n_sweeps: int, target: float) -> Chosen:
    """Rungs of the ladder, chosen once and kept in the folder."""
    path = folder / "ladder.npz"
    base = Age(0.0, qs.Potential(independent_rbm(ages[0].potential.energy)[0], jnp.asarray(1.0)))  # pyright: ignore
    if path.exists():
        stored = np.load(path, allow_pickle=False)
        skeleton = base.potential.energy
        models = [
            eqx.tree_at(lambda m: (m.weights, m.visible_bias, m.hidden_bias), skeleton,
                        tuple(jnp.asarray(stored[name][i]) for name in ("weights", "visible_bias", "hidden_bias")))
            for i in range(len(stored["steps"]))
        ]  # fmt: skip
        rungs = [Age(s, qs.Potential(m, jnp.asarray(1.0))) for s, m in zip(stored["steps"], models, strict=True)]
        return Chosen(rungs, stored["acceptance"], jnp.asarray(stored["x"]))
    chosen = choose_rungs(
        jax.random.key(11), BlockGibbs(), ages, target=target, n_walkers=max(n_chains, 256), n_sweeps=n_sweeps
    )
    energies: list[Any] = [age.potential.energy for age in chosen.ages]
    np.savez(
        path, steps=np.array([age.step for age in chosen.ages]), acceptance=chosen.acceptance, x=np.asarray(chosen.x),
        **{name: np.stack([np.asarray(getattr(e, name)) for e in energies])
           for name in ("weights", "visible_bias", "hidden_bias")},
    )  # fmt: skip
    return chosen


def watched(
    folder: Path,
    name: str,
    kernel: AbstractKernel,
    potential: qs.Potential,
    start: Any,
    classify: Discriminant,
    *,
    n_rounds: int,
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Chains moved and placed after every sweep (or round), in pieces that are kept in the folder.

    Returns:
        The walkers at the end, places and potentials, records first.
    """
    modes, potentials = [], []
    ensemble: Any = None
    n_piece = max(2, n_rounds // 10)
    for piece in range(-(-n_rounds // n_piece)):
        path = folder / f"{name}-{piece:02d}.npz"
        key = named(jax.random.key(17), f"{name} {piece}")  # burn-in and record must not share their noise
        if path.exists():
            stored = np.load(path, allow_pickle=False)
            modes.append(stored["modes"])
            potentials.append(stored["u"])
            start, ensemble = jnp.asarray(stored["x"]), None
            continue
        opened = ensemble if ensemble is not None else start
        chains = run_chains(key, kernel, potential, opened, n_records=n_piece, observe=classify)
        ensemble = chains.ensemble
        np.savez(path, modes=chains.observed, u=chains.u, x=np.asarray(ensemble.x))
        modes.append(chains.observed)
        potentials.append(chains.u)
        seen = occupancy(last_core(np.concatenate(modes)), 2)
        print(f"{name:6s} record {(piece + 1) * n_piece:6d}  {seen.n_switches} jumps", flush=True)
    if ensemble is None:
        ensemble = Ensemble.open(kernel, potential, start)
    return ensemble, np.concatenate(modes), np.concatenate(potentials)


def rate_of(found: Occupancy) -> tuple[float, float, bool]:
    """Jumps per chain and record, their relative error, and whether they are only an upper limit."""
    is_limit = found.n_switches < 5
    count = poisson_upper(found.n_switches) if is_limit else found.n_switches
    return count / found.n_steps, 1 / np.sqrt(max(found.n_switches, 1)), is_limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8x8 digits, a small model: minutes of one core")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--walkers", type=int, default=None, help="of the training (the paper has 2,000)")
    parser.add_argument("--rounds", type=int, default=None, help="rounds of the stacks after as many of burn-in / 4")
    parser.add_argument("--chains", type=int, default=None)
    parser.add_argument("--acceptance", type=float, default=0.3, help="of exchanges, by which ages are chosen")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sizes = dict(QUICK if options.quick else FULL)
    sizes["n_walkers"] = options.walkers or sizes["n_walkers"]
    n_rounds = options.rounds or (200 if options.quick else 2000)
    n_chains = options.chains or (50 if options.quick else 200)
    folder = options.out or Path("runs") / ("trajectory-tempering" + ("-quick" if options.quick else ""))
    folder.mkdir(parents=True, exist_ok=True)
    x, labels = digits(options.quick)
    classify = Discriminant.of(x, labels)
    right = float(np.mean((np.asarray(jax.vmap(classify)(jnp.asarray(x))) >= 2) == labels))
    print(f"{len(x)} pictures, {x.shape[1]} pixels; the discriminant tells {right:.2%} of them apart", flush=True)
    ages = trained(folder, x, sizes, options.seed)
    chosen = ladder(folder, ages, n_chains, sizes["n_sweeps"], options.acceptance)
    rungs = [float(age.step) for age in chosen.ages]
    print(f"rungs {rungs}\nacceptance {np.round(chosen.acceptance, 2).tolist()}", flush=True)

    kernel, potential = chosen.kernel(BlockGibbs()), chosen.ages[-1].potential
    n_rungs, start = kernel.n_replicas, chosen.x[:n_chains]
    burnt, _, _ = watched(folder, "burn", kernel, potential, start, classify, n_rounds=max(10, n_rounds // 4))
    stacks, modes, u = watched(folder, "ptt", kernel, potential, burnt.x, classify, n_rounds=n_rounds)
    _, plain_modes, plain_u = watched(
        folder, "gibbs", BlockGibbs(), potential, as_samples(kernel, burnt).x, classify, n_rounds=n_rounds * n_rungs
    )
    found, plain = occupancy(last_core(modes), 2), occupancy(last_core(plain_modes), 2)
    sides, plain_sides = (int(np.abs(np.diff(m >= 2, axis=0)).sum()) for m in (modes, plain_modes))
    top, error, _ = rate_of(found)
    gibbs, gibbs_error, is_limit = rate_of(plain)
    per_top, per_total = top / gibbs, top / n_rungs / gibbs
    relative = float(np.hypot(error, 0.0 if is_limit else gibbs_error))
    # neighbours that hold different digits jump back and forth; this asks after how many sweeps the digit is a new one
    times = [autocorrelation_time(last_core(m)) for m in (modes, plain_modes)]
    gain = times[1].value / times[0].value  # pyright: ignore
    accepted, _ = crossings(kernel, potential, stacks).acceptance()
    result = {
        "n_rungs": n_rungs,
        "acceptance_min": float(accepted.min()),
        "round_trips": round_trips(stacks)[0],
        "jumps_ptt": found.n_switches,
        "jumps_gibbs": plain.n_switches,
        "changes_of_side": [sides, plain_sides],
        "gibbs_is_upper_limit": is_limit,
        "rate_ptt": top,
        "rate_gibbs": gibbs,
        "per_top_sweep": per_top,
        "per_total_sweep": per_total,
        "relative_error": relative,
        "fraction_of_ones": [float(found.fraction[1]), float(plain.fraction[1]), float(labels.mean())],
        "mean_potential": [float(u[len(u) // 2 :].mean()), float(plain_u[len(plain_u) // 2 :].mean())],
        "autocorrelation_time": [autocorrelation_time(u).as_json(), autocorrelation_time(plain_u).as_json()],
        "time_of_the_digit": [time.as_json() for time in times],
    }
    checkpoint.write_text(folder / "result.json", json.dumps(result, indent=1) + "\n")
    if options.json:
        print(json.dumps(result))
        return
    least = "at least " if is_limit else ""
    said = [f"{time.value:.3g}" + (" at least" if time.bias == "low" else "") for time in times]
    print(
        f"{n_rungs} rungs, acceptance {accepted.min():.2f} or more, {result['round_trips']:.2g} round trips per round\n"
        f"jumps: {found.n_switches} with replicas, {plain.n_switches} with Gibbs"
        f"{' (95 % upper limit used)' if is_limit else ''}; changes of side {sides} and {plain_sides}\n"
        f"per sweep of the model {least}{per_top:.1f} times (goal {GOAL_TOP:g}), per sweep of all rungs {least}"
        f"{per_total:.1f} times (goal {GOAL_TOTAL:g}); relative error {relative:.0%}\n"
        f"autocorrelation time of the digit: replicas {said[0]}, Gibbs {said[1]} sweeps: {gain:.1f} times per sweep of "
        f"the model, {gain / n_rungs:.1f} per sweep of all rungs\n"
        f"share of ones: replicas {found.fraction[1]:.3f}, Gibbs {plain.fraction[1]:.3f}, data {labels.mean():.3f}"
    )


if __name__ == "__main__":
    main()
