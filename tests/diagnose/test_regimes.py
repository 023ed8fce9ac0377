"""Regimes told right: by hand-made evidence and files, by models of known behaviour, and by whole tiny runs (slow)."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic.diagnose import REGIMES, Evidence, Probe, diagnose
from quasistatic.diagnose.recorded import recorded_evidence
from quasistatic.diagnose.simulated import simulated_evidence
from quasistatic.diagnose.verdict import verdict
from quasistatic.energies import RBM, Potential, units
from quasistatic.errors import InputError
from quasistatic.kernels import BlockGibbs
from quasistatic.reproduce import regimes
from quasistatic.run import Run

N, M = 10, 6


def run_of(folder: Path, outcome: str = "ok", **columns: list[float]) -> Run:
    """A run folder with these columns of metrics."""
    (folder / "config.toml").write_text('[training]\nmethod = "pcd"\n')
    (folder / "result.json").write_text(json.dumps({"result": outcome, "message": "done"}))
    n = len(next(iter(columns.values()))) if columns else 0
    table = {"step": list(range(1, n + 1)), **columns}
    lines = [",".join(table)] + [",".join(str(float(x)) for x in row) for row in zip(*table.values(), strict=True)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return Run(folder)


def speaks_for(evidence: list[Evidence]) -> set[str]:
    return {item.regime for item in evidence if item.regime}


def test_verdict_takes_the_gravest():
    def of(*regimes: str | None) -> str | None:
        items = [Evidence("x", 1.0, 0.0, None, regime, "") for regime in regimes]
        return verdict(items, has_chains=True)[0]

    assert of() == "equilibrium" and of(None, None) == "equilibrium"
    assert of("out_of_equilibrium", "frozen") == "frozen" and of("frozen", "diverging") == "diverging"
    assert all(verdict([Evidence("x", 1.0, 0.0, None, r, "")], has_chains=True)[2] for r in REGIMES)
    assert verdict([], has_chains=False)[0] is None and verdict([], has_chains=False)[1]
    with pytest.raises(InputError, match="unknown regimes"):
        of("confused")


def test_files_alone(tmp_path: Path):
    """Outcome, score, flips: enough for what diverges or is frozen, not for equilibrium."""
    rising = list(np.linspace(-40.0, -20.0, 20))
    for number, (outcome, columns, expected) in enumerate(
        [
            ("ok", {"score": rising, "flip_rate": [0.1] * 20, "gradient_norm": [1.0, 1.1] * 10}, set()),
            ("ok", {"score": rising[::-1], "flip_rate": [0.1] * 20}, {"diverging"}),
            ("ok", {"score": rising, "flip_rate": [0.1] * 19 + [1e-5]}, {"frozen"}),
            ("ok", {"score": rising, "gradient_norm": [1.0, 1.2] * 9 + [1.1, 90.0]}, set()),
            ("ok", {"score": rising, "gradient_norm": [1.0, 1.2] * 9 + [1.1, 130.0]}, {"diverging"}),
            ("nonfinite_parameters", {"score": rising}, {"diverging"}),
            ("frozen_chains", {"score": rising}, {"frozen"}),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = recorded_evidence(run_of(folder, outcome, **columns), None)
        assert speaks_for(found) == expected, (outcome, found)
    growing = recorded_evidence(run_of(tmp_path, gradient_norm=list(np.exp(np.linspace(0, 6, 40)))), None)
    growth = next(item for item in growing if item.name == "gradient growth")
    assert growth.value is not None and growth.value > 2.9 and "runs away" in growth.words
    for number, accepted in enumerate((0.04, 0.06)):
        folder = tmp_path / f"ladder-{number}"
        folder.mkdir()
        found = recorded_evidence(run_of(folder, rung_acceptance=[0.5, accepted]), None)
        (exchanges,) = (item for item in found if item.name == "exchanges")
        assert exchanges.value == accepted and ("torn" in exchanges.words) == (accepted < 0.05)


def quality_of(folder: Path, errors: list[float | None], *, k: int = 8) -> Run:
    """A run folder with the file that `quality` writes."""
    run = run_of(folder)
    last = {"scores": {"second_error": errors}, "gap": {"crossing": 8.3}, "mixing_time": None}
    (folder / "quality.json").write_text(
        json.dumps({"k": k, "times": [1, 4, 8, 16, 100], "ages": {"1": {}, "9": last}})
    )
    return run


def test_quality_against_sampling_time_is_evidence(tmp_path: Path):
    def said(*errors: float | None, k: int = 8) -> Evidence:
        found = recorded_evidence(quality_of(tmp_path, list(errors), k=k), None)
        return next(item for item in found if item.name == "quality against sampling time")

    worse = said(9.0, 2.0, 1.0, 3.0, 30.0)
    assert worse.regime == "out_of_equilibrium" and worse.value == pytest.approx(30.0)
    assert "t = 8 (k = 8)" in worse.words and "meets at t = 8.3" in worse.words
    assert said(9.0, 2.0, 1.0, 1.1, 2.9).regime is None, "worse, but less than three times"
    assert said(9.0, 5.0, 3.0, 2.0, 1.0).regime is None, "an equilibrium model gets better and stays"
    assert said(1.0, 9.0, 9.0, 9.0, 9.0, k=8).regime is None, "best, but not at k"
    assert said(None, 2.0, 1.0, 3.0, 30.0).regime == "out_of_equilibrium"
    (tmp_path / "quality.json").write_text('{"k": 8, "times": [1')
    with pytest.raises(InputError, match="damaged"):
        recorded_evidence(Run(tmp_path), None)


def rbm(scale: float) -> RBM:
    """Skewed couplings of some size around zero fields."""
    i, j = np.arange(N)[:, None], np.arange(M)[None, :]
    weights = scale * np.sin(1.0 + i + 2.3 * j)
    return RBM(
        jnp.asarray(weights), jnp.asarray(-weights.sum(1) / 2), jnp.asarray(-weights.sum(0) / 2), units("binary", N),
        units("binary", M),
    )  # fmt: skip


def exact_samples(model: RBM, beta: float, n: int = 512) -> np.ndarray:
    """Exact samples by enumeration."""
    v = ((np.arange(2**N)[:, None] >> np.arange(N)) & 1).astype(float)
    inputs = beta * (np.asarray(model.hidden_bias) + v @ np.asarray(model.weights))
    log_p = beta * v @ np.asarray(model.visible_bias) + np.logaddexp(0, inputs).sum(1)
    p = np.exp(log_p - log_p.max())
    return v[np.random.default_rng(1).choice(2**N, n, p=p / p.sum())]


def probe_of(model: RBM, walkers: np.ndarray, *, k: int = 1, restart: str | None = None, beta: float = 0.8) -> Probe:
    noise = np.random.default_rng(2).integers(0, 2, (512, N)).astype(float)
    return Probe(
        Potential(model, jnp.asarray(beta)), BlockGibbs(), exact_samples(model, beta), noise, walkers, k, restart
    )


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Evidence]]:
    """Evidence on models whose behaviour is known; all share one compiled simulation."""
    run = run_of(tmp_path_factory.mktemp("run"))
    warm = rbm(1.0)
    noise = np.random.default_rng(3).integers(0, 2, (512, N)).astype(float)
    mattis = RBM(
        jnp.full((N, M), 8.0), jnp.full(N, -4.0 * M), jnp.full(M, -4.0 * N), units("binary", N), units("binary", M)
    )
    slow = RBM(
        jnp.full((N, M), 1.6), jnp.full(N, -0.8 * M), jnp.full(M, -0.8 * N), units("binary", N), units("binary", M)
    )
    up = np.ones((512, N))
    probes = {
        "in equilibrium": probe_of(warm, exact_samples(warm, 0.8)),
        "walkers left behind": probe_of(warm, noise),
        "frozen": probe_of(mattis, up),
        "restarted and slow": probe_of(slow, up, k=2, restart="noise"),
        "restarted and fast": probe_of(rbm(0.3), up, k=5, restart="noise"),
    }
    return {name: simulated_evidence(run, probe) for name, probe in probes.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, expected",
    [
        ("in equilibrium", "equilibrium"),
        ("walkers left behind", "out_of_equilibrium"),
        ("frozen", "frozen"),
        ("restarted and slow", "out_of_equilibrium"),
        ("restarted and fast", "equilibrium"),
    ],
)
def test_known_models(verdicts, name, expected):
    evidence = verdicts[name]
    for item in evidence:
        print(item)
    assert verdict(evidence, has_chains=True)[0] == expected
    estimates = [item for item in evidence if item.name in ("still chains", "walkers against long chains")]
    assert all(item.stderr is not None for item in estimates)


def test_more_sources(tmp_path: Path):
    """Another quantity is a function; numbers that are not finite are null in JSON."""
    extra = Evidence("crossing", float("inf"), 2.0, None, "out_of_equilibrium", "seen by another method")
    found = diagnose(run_of(tmp_path, score=[-3.0, -2.0]), more=[lambda run, probe: [extra]])
    assert found.regime == "out_of_equilibrium" and extra in found.evidence
    written = json.loads(json.dumps(found.as_json()))
    assert written["evidence"][-1]["value"] is None and written["advice"]


SIZES = (
    "model.n_hidden=8 training.n_walkers=256 auditor.n_groups=0 record.every=30 record.n_ages=4 data.batch_size=100"
).split()
RUNS = {
    "equilibrium": "run.n_steps=600 training.method=pcd kernel.n_sweeps=5 optimiser.rate=0.02",
    "out_of_equilibrium": "run.n_steps=900 training.method=short-run kernel.n_sweeps=2 optimiser.rate=0.2",
    "diverging": "run.n_steps=600 training.method=pcd kernel.n_sweeps=1 optimiser.rate=50.0",
}


@pytest.mark.slow
@pytest.mark.parametrize("regime", RUNS)
def test_whole_runs(regime: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """Trained and diagnosed through the command line."""
    from quasistatic.cli.main import main

    words = [word for value in (*RUNS[regime].split(), *SIZES) for word in ("--set", value)]
    code = main(["train", "digits-rbm", *words, "--out", str(tmp_path / "run")])
    assert code in (0, 3)
    capfd.readouterr()
    assert main(["diagnose", str(tmp_path / "run"), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    for item in found["evidence"]:
        print(item)
    assert found["regime"] == regime and found["advice"]


def test_the_truth_of_the_ten_runs():
    """The model is stationary, an independent chain reaches it at once, and `k` sweeps are `k` times one."""
    rng = np.random.default_rng(4)
    model = SimpleNamespace(
        weights=rng.normal(size=(5, 3)), visible_bias=rng.normal(size=5), hidden_bias=rng.normal(size=3)
    )
    sums = regimes.Enumerated.of(model, 0.7)
    sweep = sums.hidden_given(sums.visible) @ sums.visible_given
    np.testing.assert_allclose(sums.law @ sweep, sums.law, atol=1e-14)
    v, h = sums.visible[11], np.array([1.0, 0.0, 1.0])
    u = -(v @ model.visible_bias + h @ model.hidden_bias + v @ model.weights @ h)
    joint = sums.law[11] * sums.hidden_given(v[None])[0, 0b101]
    rest = sums.law[20] * sums.hidden_given(sums.visible[20][None])[0, 0b101]
    v = sums.visible[20]
    other = -(v @ model.visible_bias + h @ model.hidden_bias + v @ model.weights @ h)
    np.testing.assert_allclose(np.log(joint / rest), -0.7 * (u - other), rtol=1e-12)
    start = np.full(32, 1 / 32)
    np.testing.assert_allclose(sums.after(sums.visible, 3), start @ np.linalg.matrix_power(sweep, 3), atol=1e-14)
    values = np.sort(np.abs(np.linalg.eigvals(sweep)))
    np.testing.assert_allclose(sums.relaxation, -1 / np.log(values[-2]), rtol=1e-10)
    free = SimpleNamespace(weights=np.zeros((5, 3)), visible_bias=model.visible_bias, hidden_bias=model.hidden_bias)
    free = regimes.Enumerated.of(free, 0.7)
    np.testing.assert_allclose(free.after(np.ones((1, 5)), 1), free.law, atol=1e-15)


@pytest.mark.slow
def test_short_runs_and_loose_data_are_told_apart(tmp_path: Path):
    rows = regimes.check(tmp_path, n_steps=400, names=regimes.QUICK)
    for row in rows:
        print(row.quantity)
    assert rows[-1].measured == 0.0
