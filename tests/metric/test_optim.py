"""Steps: what an Optax transformation makes of scores, in the limit of infinitely many walkers.

Digest of minimal-dissipation learning, acceptance tests:

| test of the digest | here |
|---|---|
| 4, 5 discrete optimum of the trap, target unknown | `test_trap_is_driven_at_least_work` |
| 15 (weighted walkers drop the friction) | `test_weighted_walkers_have_no_friction` |
| 19 reparametrisation invariance | `test_natural_path_does_not_depend_on_the_parameters` |
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import quasistatic as qs
from quasistatic.errors import InputError
from quasistatic.metric import minimal_dissipation, natural_gradient, scores_of, solve
from quasistatic.metric.optim import dissipation_rate, reduction_ratio
from tests.laws.battery import quick_jit
from tests.laws.enumeration import states
from tests.metric.battery import family, flat
from tests.metric.exact import Bent, Quartic, exact_scores, relative_entropy

TARGET = Quartic(jnp.asarray([0.5, -2.0]))


@quick_jit
def path_of(optimiser, start, n_steps, rate):
    """Model after `n_steps` updates with exact walkers, those of an optimiser of rate 1 times `rate`."""

    def body(_, carry):
        energy, state = carry
        scores = exact_scores(energy, TARGET)
        trained = eqx.filter(energy, eqx.is_inexact_array)
        updates, state = optax.with_extra_args_support(optimiser).update(
            scores.gradient(), state, trained, scores=scores
        )
        return eqx.apply_updates(energy, jax.tree.map(lambda u: rate * u, updates)), state

    start_state = optimiser.init(eqx.filter(start, eqx.is_inexact_array))
    return jax.lax.fori_loop(0, jnp.asarray(n_steps), body, (start, start_state))[0]


def natural(rate, **options):
    return natural_gradient(rate, damping=1e-9, solver="dense", metric="model", **options)


PSI = jnp.asarray([0.0, 0.5])  # theta = (0, 1)
NATURAL, PLAIN = natural(1.0), optax.sgd(1.0)  # one program each, at any rate


@pytest.mark.parametrize("name", ["natural", "plain"])
def test_natural_path_does_not_depend_on_the_parameters(name):
    """Test 19: the gap between the paths in theta and in psi is O(step), and for plain descent it is not."""
    gaps = []
    for n in (16, 32, 64):
        optimiser, rate = NATURAL if name == "natural" else PLAIN, jnp.asarray(1.0 / n)
        starts = Bent(PSI), Quartic(Bent(PSI).theta)
        ends = [np.asarray(path_of(optimiser, start, jnp.asarray(n), rate).theta) for start in starts]
        gaps.append(np.abs(ends[0] - ends[1]).max())
    ratios = np.array(gaps[:-1]) / np.array(gaps[1:])
    if name == "natural":
        assert gaps[-1] < 0.02 and np.all(np.abs(ratios - 2) < 0.25)  # halved with the step
    else:
        assert gaps[-1] > 0.05 and np.all(ratios < 1.1)


def test_newton_like_convergence():
    """After as many updates the natural gradient is a thousand times nearer to the target than the best plain one."""
    start = Quartic(jnp.asarray([0.0, 1.0]))

    def gap(optimiser, rate):
        return float(relative_entropy(path_of(optimiser, start, jnp.asarray(25), jnp.asarray(rate)), TARGET))

    natural_gap, plain = gap(NATURAL, 0.5), [gap(PLAIN, rate) for rate in (0.3, 1.0, 3.0)]
    assert 0 <= natural_gap + 1e-15 and natural_gap < 1e-3 * min(plain)


def rbm_gap(optimiser, n_steps, is_natural):
    """`KL(target || model)` of an RBM after updates with all its states as walkers and as data, at exact weights."""
    rng = np.random.default_rng(11)
    x = jnp.asarray(states("binary", 6))
    target = qs.RBM(
        jnp.asarray(rng.normal(scale=2.0, size=(6, 3))), jnp.asarray(rng.normal(size=6) - 1.0), jnp.zeros(3),
        qs.Binary(6), qs.Binary(3),
    )  # fmt: skip
    p = jax.nn.softmax(-jax.vmap(lambda v: target.reduced(v, 0.9))(x))
    start = qs.RBM(jnp.asarray(0.1 * rng.normal(size=(6, 3))), jnp.zeros(6), jnp.zeros(3), qs.Binary(6), qs.Binary(3))

    def run(rate):
        def body(_, carry):
            rbm, state = carry
            q = jax.nn.softmax(-jax.vmap(lambda v: rbm.reduced(v, 0.9))(x))
            scores = scores_of(qs.Potential(rbm, 0.9), x, x, q, p, is_centred=True)
            gradient = scores.to_step(scores.gradient())  # the centred gradient: the better of the plain ones
            updates, state = optax.with_extra_args_support(optimiser).update(gradient, state, rbm, scores=scores)
            return jax.tree.map(lambda a, d: a + rate * d, rbm, updates), state

        rbm, _ = jax.lax.fori_loop(0, n_steps, body, (start, optimiser.init(start)))
        log_q = jax.nn.log_softmax(-jax.vmap(lambda v: rbm.reduced(v, 0.9))(x))
        return jnp.sum(p * (jnp.log(p) - log_q))

    rates = jnp.asarray([1.0]) if is_natural else jnp.asarray([0.1, 0.3, 1.0, 3.0, 10.0])
    return np.asarray(jax.jit(jax.vmap(run))(rates))


def test_an_rbm_needs_fewer_updates_than_at_the_best_plain_rate():
    """Exact walkers: 150 natural updates come ten times nearer than 600 plain ones at the best of five rates."""
    natural_gap = rbm_gap(natural_gradient(1.0, damping=1e-3), 150, True)[0]
    plain = rbm_gap(optax.sgd(1.0), 600, False)
    assert -1e-12 < natural_gap < 0.1 * np.nanmin(plain)


@pytest.mark.parametrize(
    "n_relax, expected, inflation", [(40, 1.6311233276, 1), (25, 1.6200576430, 1), (40, 1.6311233276, 3.7)]
)
def test_trap_is_driven_at_least_work(n_relax, expected, inflation):
    """Test 4: mu = 1.3, kappa = 0.7, tau = 2, D = 3; two walkers at +-sigma are a population with exact moments.

    Rows whose metric is 3.7 times that of the law lead along the same way, at the same work, once this is known.
    """
    mu, kappa, tau, beta, target = 1.3, 0.7, 2.0, 0.6, 3.0
    a = 1 - mu * kappa * tau / n_relax
    spread = jnp.asarray([[-1.0], [1.0]]) * np.sqrt(inflation / (beta * kappa))
    optimiser = minimal_dissipation(
        n_relax + 1, relaxation=a / (1 - a), has_jumps=True, inflation=inflation, damping=1e-14, solver="dense",
        metric="model",
    )  # fmt: skip

    @eqx.filter_jit
    def run(trap):
        half = jnp.full(2, 0.5)

        def update(_, carry):
            trap, state, u, work = carry
            scores = scores_of(qs.Potential(trap, beta), u + spread, target + spread, half, half)
            updates, state = optimiser.update(scores.gradient(), state, None, scores=scores)
            moved = eqx.apply_updates(trap, updates)
            work = work + jnp.mean(jax.vmap(moved)(u + spread) - jax.vmap(trap)(u + spread))
            return moved, state, moved.mean + a * (u - moved.mean), work

        return jax.lax.fori_loop(0, n_relax + 1, update, (trap, optimiser.init(trap), jnp.zeros(1), jnp.zeros(())))

    end, _, _, work = run(Trap(jnp.zeros(1), kappa))
    np.testing.assert_allclose(end.mean, [target], rtol=1e-9)
    np.testing.assert_allclose(work, expected, rtol=1e-9)


class Trap(qs.AbstractEnergy):
    """Trap of fixed stiffness."""

    mean: jax.Array
    kappa: float = eqx.field(static=True)

    def __call__(self, x):
        return 0.5 * self.kappa * jnp.sum((x - self.mean) ** 2)


def test_a_friction_matrix_is_the_proxy_when_it_is_proportional():
    """`Z = (1/2 + r) F` given as a matrix makes the steps of the rate law, jumps included; another Z does not."""
    scores = family("rbm").scores
    f = solve.metric_matrix(scores, "model") + 1e-6 * jnp.eye(23)
    r, n = 1.7, 6
    options = {"damping": 1e-6, "solver": "dense", "metric": "model"}
    for has_jumps in (False, True):
        optimiser = minimal_dissipation(n, relaxation=r, has_jumps=has_jumps, **options)
        trained = eqx.filter(scores.energy, eqx.is_inexact_array)
        state = optimiser.init(trained)
        step = quick_jit(functools.partial(made, optimiser))
        for count in (0, 2, n - 1):
            state = state._replace(count=jnp.asarray(count, jnp.int32))
            proxy, _ = step(scores, state, None)
            exact, _ = step(scores, state, (0.5 + r) * f)
            np.testing.assert_allclose(flat(exact), flat(proxy), rtol=1e-6, atol=1e-9)
            other, _ = step(scores, state, (0.6 + r) * f)
            assert np.abs(flat(other) - flat(proxy)).max() > 1e-3 * np.abs(flat(proxy)).max()


def made(optimiser, scores, state, friction):
    trained = eqx.filter(scores.energy, eqx.is_inexact_array)
    return optimiser.update(trained, state, trained, scores=scores, friction=friction)


def test_weighted_walkers_have_no_friction():
    scores = family("rbm").scores
    weighted = type(scores)(
        **{f: getattr(scores, f) for f in scores.__dataclass_fields__ if f != "is_weighted"}, is_weighted=True
    )
    optimiser = minimal_dissipation(10, relaxation=3.0, offset=2.0, damping=0.1)
    trained = eqx.filter(scores.energy, eqx.is_inexact_array)
    direction, step = flat(quick_jit(solve.samples)(scores, 0.1)), quick_jit(functools.partial(made, optimiser))
    for given, rate in ((scores, 1 / 13.5), (weighted, 1 / 11)):
        moved, _ = step(given, optimiser.init(trained), None)
        np.testing.assert_allclose(flat(moved), -rate * direction, rtol=1e-9)
    with pytest.raises(InputError, match="no lag"):
        optimiser.update(trained, optimiser.init(trained), trained, scores=weighted, friction=jnp.eye(23))


def test_rates_of_the_law():
    """First and last jump, in units of a full natural-gradient step: digest 2.3 (i) with a = 1/2."""
    rates = [float(dissipation_rate(left, 5, 1.0, has_jumps=True)) for left in (5, 4, 1)]
    np.testing.assert_allclose(rates, [2 / 7, 1 / 6, 2 / 3])


@quick_jit
def updated(optimiser, scores, state):
    return optimiser.update(scores.gradient(), state, None, scores=scores)


def test_trust_region_and_reduction_ratio():
    """A step is shortened to the relative entropy allowed, and what it gains is compared with the exact gain."""
    start = Quartic(jnp.asarray([0.0, 1.0]))
    scores = exact_scores(start, TARGET)
    for max_kl in (0.5, 1e-3):
        optimiser = natural(1.0, max_kl=max_kl)
        step, state = updated(optimiser, scores, optimiser.init(start))
        np.testing.assert_allclose(state.kl, max_kl, rtol=1e-9)
        np.testing.assert_allclose(0.5 * solve.curvature(scores, step), max_kl, rtol=1e-9)
        moved = eqx.apply_updates(start, step)
        gain = relative_entropy(moved, TARGET) - relative_entropy(start, TARGET)
        predicted = scores.signed @ scores.push(step) + state.kl
        np.testing.assert_allclose(reduction_ratio(scores, step, state.kl), gain / predicted, rtol=1e-9)
    # the second, short step stays inside the region where the metric describes the likelihood
    assert abs(float(reduction_ratio(scores, step, state.kl)) - 1) < 0.05


def test_damping_follows_success():
    start = Quartic(jnp.asarray([0.0, 1.0]))
    optimiser = natural_gradient(1.0, damping=0.5, solver="dense", metric="model", is_adaptive=True)
    scores = exact_scores(start, TARGET)
    _, state = updated(optimiser, scores, optimiser.init(start))
    factor = 2 / 3 if state.ratio > 0.75 else 1.5 if state.ratio < 0.25 else 1.0
    np.testing.assert_allclose(state.damping, 0.5 * factor)
    bold = state._replace(damping=jnp.asarray(1e-9))
    _, after = updated(optimiser, scores, bold)
    assert after.ratio < state.ratio  # a bolder step is predicted worse
    cautious = state._replace(damping=jnp.asarray(10.0))
    _, after = updated(optimiser, scores, cautious)
    np.testing.assert_allclose(after.damping, 10.0 * 2 / 3)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: natural_gradient(0.0), "rate"),
        (lambda: natural_gradient(1.0, damping=0.0), "damping"),
        (lambda: natural_gradient(1.0, solver="magic"), "unknown solver"),
        (lambda: natural_gradient(1.0, metric="data"), "unknown metric"),
        (lambda: natural_gradient(1.0, metric="model"), "pooled metric"),
        (lambda: natural_gradient(2.0, is_adaptive=True), "at most 1"),
        (lambda: natural_gradient(1.0, max_kl=-1.0), "max_kl"),
        (lambda: natural_gradient(1.0, memory=1.0), "memory"),
        (lambda: minimal_dissipation(1), "at least 2"),
        (lambda: minimal_dissipation(5, relaxation=-1.0), "relaxation"),
        (lambda: minimal_dissipation(5, inflation=0.0), "inflation"),
        (lambda: natural_gradient(1.0).update({}, natural_gradient(1.0).init({})), "does not hand over"),
    ],
)
def test_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_measured_relaxation_is_used():
    """`relaxation = None` takes what the trainer hands over; weighted walkers need none."""
    scores = family("rbm").scores
    trained = eqx.filter(scores.energy, eqx.is_inexact_array)
    optimiser = minimal_dissipation(10, relaxation=None, damping=0.1)

    @quick_jit
    def both(scores, relaxation):
        step, _ = optimiser.update(trained, optimiser.init(trained), trained, scores=scores, relaxation=relaxation)
        return step, solve.samples(scores, 0.1)

    step, direction = both(scores, jnp.asarray(3.0))
    np.testing.assert_allclose(flat(step), -flat(direction) / 13.5, rtol=1e-9)
    with pytest.raises(InputError, match="memory > 0"):
        optimiser.update(trained, optimiser.init(trained), trained, scores=scores)
