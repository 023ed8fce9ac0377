"""Training on a ladder of the model's past, judged by enumeration; growing and steering the ladder."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import expit
from scipy.stats import norm

import quasistatic as qs
from quasistatic._results import Estimate
from quasistatic.errors import InputError, RunFailure
from quasistatic.evaluate import log_partition_exact
from quasistatic.kernels import BlockGibbs
from quasistatic.thermo import as_samples
from quasistatic.thermo.estimators import bar, log_z_from_groups
from quasistatic.thermo.replicas import Crossings, crossings, freeze, respaced, round_trips
from quasistatic.train.ascent import Ascent, _ready
from quasistatic.train.reading import reading_of
from quasistatic.train.trajectory import Climbed, Steering, climb, on_trajectory

BETA = 0.8


def two_modes() -> np.ndarray:
    """Fourteen units, all up or all down (in 3 to 1), a twentieth of the bits wrong."""
    random = np.random.default_rng(0)
    mode = random.random(400) < 0.75
    return ((random.random((400, 14)) < 0.05) ^ mode[:, None]).astype(float)


DATA = two_modes()
OPTIMISER = optax.sgd(0.25)  # one object: both trainings share a compiled program


def trained(
    n_steps: int, steering: Steering, lr_scale: float = 1.0, method: Any = qs.pcd, file: Path | None = None
) -> Climbed:
    """A training on a growing ladder."""
    model = qs.RBM.initialise(jax.random.key(1), 14, 3, weight_scale=0.05, data=DATA)
    controls = qs.Controls.of(beta=BETA, lr_scale=lr_scale)
    plain = method(
        BlockGibbs(), OPTIMISER, n_walkers=512, auditor_groups=16, auditor_walkers=32, batch_size=50, controls=controls
    )
    trainer = on_trajectory(plain, model)
    return climb(jax.random.key(2), trainer, model, jnp.asarray(DATA), n_steps, steering=steering, file=file)


def assert_close(found: Estimate, exact: float) -> None:
    """An estimate within 4.5 of its standard errors, which are small enough to say something."""
    print(f"{found.value} +- {found.stderr}, exact {exact}")
    assert found.value is not None and found.stderr is not None
    assert abs(found.value - exact) < 4.5 * found.stderr and found.stderr < 0.3


@pytest.fixture(scope="module")
def climbed() -> Climbed:
    """A training that ends with two separate modes."""
    return trained(450, Steering(every=100, target=0.65, max_rungs=3))


@pytest.mark.slow
def test_the_ladder_grows_and_both_modes_are_kept(climbed):
    names = [event.name for event in climbed.events]
    assert "frozen" in names and climbed.kernel.n_replicas == 2 + names.count("frozen")
    acceptance, error = climbed.measured.acceptance()
    print(climbed.events, acceptance)
    assert len(acceptance) == climbed.kernel.n_replicas - 1 and acceptance.min() > 0.25 and error.max() < 0.05
    x = np.asarray(as_samples(climbed.kernel, climbed.state.ensemble).x)
    is_up = x.mean(1) > 0.5
    print(is_up.mean())
    assert abs(is_up.mean() - (DATA.mean(1) > 0.5).mean()) < 0.1
    assert round_trips(climbed.state.ensemble)[0] > 0


@pytest.mark.slow
def test_log_z_of_the_model_is_known_all_along(climbed):
    """Driver and auditor, both anchored anew at every rung, and Bennett's sum, against enumeration."""
    exact = log_partition_exact(climbed.state.model, BETA)
    assert exact is not None and bool(climbed.state.auditor.anchored)
    assert_close(log_z_from_groups(climbed.state.auditor.log_partition_groups()), exact)
    start = log_partition_exact(climbed.kernel.ladder.rung(0).energy, BETA)
    assert_close(climbed.measured.log_z(start), exact)
    with pytest.raises(AssertionError):
        assert_close(Crossings(climbed.measured.down, climbed.measured.up).log_z(start), exact)


@pytest.mark.slow
def test_freezing_keeps_the_books(climbed):
    """Log Z of every group as before; the new rung is the model; walkers of the top are dealt within their groups."""
    kernel, state = climbed.kernel, climbed.state
    potential = qs.Potential(state.model, state.controls.beta)
    grown, stacks = freeze(jax.random.key(0), kernel, potential, state.auditor)
    np.testing.assert_allclose(
        stacks.log_partition_groups(), state.auditor.log_partition_groups(), atol=2e-4 if stacks.u.dtype == "float32"
        else 1e-10
    )  # fmt: skip
    assert grown.n_replicas == kernel.n_replicas + 1 and stacks.x.shape[1] == grown.n_replicas
    acceptance, _ = crossings(grown, potential, stacks).acceptance()
    np.testing.assert_allclose(acceptance[-1], 1.0, atol=1e-4)
    for group in range(16):
        rows = slice(32 * group, 32 * group + 32)
        old, new = (np.asarray(stacks.x[rows, k]) for k in (-2, -1))
        assert sorted(map(tuple, old)) == sorted(map(tuple, new)) and not np.array_equal(old, new)


@pytest.mark.slow
def test_a_torn_ladder_is_mended_or_named():
    """A rate that tears it is halved until it holds; a rate beyond help ends the run with its name."""
    mended = trained(6, Steering(every=2, target=0.5, torn=0.3), lr_scale=64.0)
    torn = [event for event in mended.events if event.name == "ladder_torn"]
    assert torn and torn[0].lr_scale == 32 and torn[0].acceptance < 0.3 and int(mended.state.step) == 6
    assert mended.measured.acceptance()[0].min() > 0.2
    with pytest.raises(RunFailure, match="torn") as failure:
        trained(6, Steering(every=2, target=0.5, torn=0.3, max_rejections=2), lr_scale=4e4)
    assert failure.value.result == "ladder_torn"


@pytest.mark.slow
def test_a_training_goes_on_where_it_stopped(climbed, tmp_path):
    """Interrupted after the freezing of a rung: the same bits as in one piece."""
    steering, file = Steering(every=100, target=0.65, max_rungs=3), tmp_path / "climb.npz"
    stop = climbed.events[0].step + 100
    trained(stop, steering, file=file)
    whole = trained(450, steering, file=file)
    np.testing.assert_array_equal(whole.state.ensemble.x, climbed.state.ensemble.x)
    np.testing.assert_array_equal(whole.state.model.weights, climbed.state.model.weights)
    assert whole.events == climbed.events and whole.kernel.n_replicas == climbed.kernel.n_replicas


@pytest.mark.slow
def test_weighted_training_on_a_ladder():
    """Jarzynski weights of stacks: gradient and resampling by them, log Z of the auditor across a freezing.

    The driver's own log Z is bent by its feedback and is no unbiased estimate: only the auditor's is compared.
    """
    climbed = trained(200, Steering(every=100, target=0.9, max_rungs=3), method=qs.jarzynski)
    assert [event.name for event in climbed.events] == ["frozen"]
    exact = log_partition_exact(climbed.state.model, BETA)
    assert exact is not None and climbed.state.auditor is not None
    assert_close(log_z_from_groups(climbed.state.auditor.log_partition_groups()), exact)


def steered(regulator: Any) -> Ascent:
    """The host steps of a training under a regulator."""
    model = qs.RBM.initialise(jax.random.key(0), 3, 2)
    return Ascent(jax.random.key(0), on_trajectory(qs.pcd(BlockGibbs(), OPTIMISER, regulators=(regulator,)), model))


@pytest.fixture(scope="module")
def opened() -> tuple[Any, Any]:
    """A trainer of stacks without weights under the published law of temperature, and its first state."""
    model = qs.RBM.initialise(jax.random.key(0), 3, 2, weight_scale=1.0)
    plain = qs.pcd(BlockGibbs(), OPTIMISER, n_walkers=6, auditor_groups=0, regulators=(qs.EndogenousTemperature(1),))
    trainer = on_trajectory(plain, model)
    return trainer, trainer.init(jax.random.key(1), model)


def test_the_gap_is_that_of_the_replicas_at_the_model(opened):
    """What a regulator is told about data and walkers: the frozen rungs have no part in it."""
    trainer, state = opened
    state = eqx.tree_at(lambda s: (s.step, s.data_potential), state, (jnp.asarray(1), jnp.asarray(-0.7)))
    u = jax.vmap(qs.Potential(state.model, state.controls.beta))(state.ensemble.x[:, -1])
    reading = reading_of(trainer, state)
    assert jnp.shape(reading.gap) == () and abs(float(reading.gap) - (-0.7 - float(u.mean()))) < 1e-6


@pytest.mark.slow
def test_a_driver_whose_weights_are_not_used_is_frozen_as_it_is(opened):
    """Weighted stacks are resampled before a rung is made of them, others keep their places and lose their weights."""
    trainer, state = opened
    heavy = jnp.array([9.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    weights = eqx.tree_at(lambda w: w.hi, state.ensemble.account.log_weight, heavy)
    ensemble = eqx.tree_at(lambda e: e.account.log_weight, state.ensemble, weights)
    still, potential = qs.Controls.of(n_sweeps=0), qs.Potential(state.model, state.controls.beta)
    kept, resampled = (_ready(jax.random.key(0), trainer, potential, ensemble, still, flag) for flag in (False, True))
    np.testing.assert_array_equal(kept.x, ensemble.x)
    np.testing.assert_array_equal(resampled.x, jnp.broadcast_to(ensemble.x[:1], ensemble.x.shape))
    for found in (kept, resampled):
        assert float(found.ess()[0]) == pytest.approx(1.0)


def test_a_schedule_of_another_control_is_no_second_master():
    assert steered(qs.Scheduled("n_sweeps", lambda step: 1)).looks == []


def test_crossings_of_gaussian_works():
    """Works between two laws that differ by a shift: closed forms of acceptance and free energy."""
    random = np.random.default_rng(5)
    n, d, f = 200_000, 1.3, 0.7  # w_up ~ N(f + d^2/2, d^2), w_down ~ N(-f + d^2/2, d^2)
    up = f + d**2 / 2 + d * random.standard_normal((n, 1))
    down = -f + d**2 / 2 + d * random.standard_normal((n, 1))
    measured = Crossings(up, down)
    value, error = measured.acceptance()
    # the sum of both works is N(d^2, 2 d^2), and E min(1, e^-s) of N(m, 2 m) is 2 Phi(-sqrt(m / 2))
    assert abs(value[0] - 2 * norm.cdf(-d / np.sqrt(2))) < 4.5 * error[0] < 0.01
    assert_close(measured.log_z(10.0), 10.0 - f)


def test_anchors_are_unbiased_where_groups_are_pooled():
    """Bennett's ratio in small groups: its exponential is right on average, which it is not as it comes."""
    random, d, n_groups, m = np.random.default_rng(8), 2.0, 16, 16
    fair, plain = [], []
    for _ in range(40):
        up, down = d**2 / 2 + d * random.standard_normal((2, n_groups * m, 1))
        steps = Crossings(up, down).last_step_groups(n_groups)
        fair.append(np.exp(steps).mean())
        plain.append(np.exp(steps + 0.5 * steps.var(ddof=1)).mean())
    (mean, error), (biased, _) = [(np.mean(x), np.std(x, ddof=1) / np.sqrt(len(x))) for x in (fair, plain)]
    print(mean, biased, error)
    assert abs(mean - 1) < 4.5 * error < 0.15 and biased - 1 > 4.5 * error
    few = Crossings(up[: 8 * m], down[: 8 * m])
    found = [bar(a, b) for a, b in zip(few.up.reshape(8, m), few.down.reshape(8, m), strict=True)]
    wanted = [-found.value - (found.stderr or 0) ** 2 / 2 for found in found]
    np.testing.assert_allclose(few.last_step_groups(8), wanted, rtol=1e-12)


def test_equal_rejection():
    """Rejection that is steepest in the middle: after re-spacing every interval has the same share of it."""

    def barrier(beta):
        return 3 * expit(12 * (beta - 0.5))

    old = np.linspace(0.1, 1.0, 12)
    new = respaced(old, 1 - np.diff(barrier(old)))
    assert new[0] == 0.1 and new[-1] == 1.0 and np.all(np.diff(new) > 0)
    shares = np.diff(barrier(new))
    assert shares.std() / shares.mean() < 0.05 < np.diff(barrier(old)).std() / shares.mean()
    assert len(respaced(old, 1 - np.diff(barrier(old)), 7)) == 7


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Steering(target=0.1, torn=0.2), "torn < target"),
        (lambda: Steering(every=0), "at least 1"),
        (lambda: respaced(np.array([0.5, 1.0]), np.array([1.2])), "acceptances lie"),
        (lambda: respaced(np.array([1.0, 0.5]), np.array([0.2])), "increasing ratios"),
        (
            lambda: climb(
                jax.random.key(0), qs.pcd(BlockGibbs(), optax.sgd(0.1)), qs.RBM.initialise(jax.random.key(0), 3, 2),
                jnp.zeros((4, 3)), 1,
            ),
            "on_trajectory",
        ),
        (lambda: steered(qs.SpendWork(0.1)), "SpendWork"),
        (lambda: steered(qs.Scheduled("lr_scale", lambda step: 1.0)), "Scheduled"),
    ],
)  # fmt: skip
def test_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
