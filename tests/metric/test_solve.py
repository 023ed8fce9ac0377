"""Solves against NumPy's dense solution, to 1e-9 (digest of minimal-dissipation learning, test 18)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import quasistatic as qs
from quasistatic.errors import InputError
from quasistatic.metric import scores_of, solve
from tests.laws.battery import quick_jit
from tests.metric.battery import DAMPING, NAMES, family, flat

CUTS = (0, 1, 2, 3)
TIGHT = {"rtol": 1e-9, "atol": 1e-9}


@quick_jit
def all_steps(scores, right, friction):
    zero = jax.tree.map(jnp.zeros_like, right)
    return {
        "dense": solve.dense(scores, DAMPING),
        "dense_model": solve.dense(scores, DAMPING, metric="model"),
        "friction": solve.dense(scores, DAMPING, matrix=friction),
        "samples": solve.samples(scores, DAMPING),
        "noise": solve.samples_and_noise(scores, DAMPING).noise,
        "norm": solve.samples_and_noise(scores, DAMPING).norm,
        "woodbury": solve.woodbury(scores, DAMPING, gradient=right),
        "robust": solve.robust(scores, DAMPING),
        "cg": solve.conjugate_gradients(scores, DAMPING, zero, max_iterations=400, tolerance=1e-13),
        "minres": solve.minimal_residual(scores, DAMPING, zero, max_iterations=400, tolerance=1e-13),
        "cg cut off": [solve.conjugate_gradients(scores, DAMPING, zero, max_iterations=n, tolerance=0.0) for n in CUTS],
        "minres cut off": [
            solve.minimal_residual(scores, DAMPING, zero, max_iterations=n, tolerance=0.0) for n in CUTS
        ],
        "diagonal": solve.diagonal(scores, DAMPING),
        "curvature": solve.curvature(scores, right),
    }


@pytest.fixture(scope="module", params=NAMES)
def solved(request):
    member = family(request.param)
    rng = np.random.default_rng(3)
    n = member.rows.shape[1]
    extra, right, root = rng.normal(size=n), rng.normal(size=n), rng.normal(size=(n, n))
    extra = member.unravel(jnp.asarray(extra))
    scores = eqx.tree_at(lambda s: s.extra, member.scores, extra, is_leaf=lambda leaf: leaf is None)
    friction = root @ root.T
    got = all_steps(scores, member.unravel(jnp.asarray(right)), jnp.asarray(friction))
    return member, member.gradient + flat(extra), right, friction, got


def test_dense(solved):
    """With a penalty in the gradient, coordinates of its own, and a friction matrix."""
    member, g, _, friction, got = solved
    damping = DAMPING * member.own
    for name, matrix in (
        ("dense", member.metric("pooled")),
        ("dense_model", member.metric("model")),
        ("friction", member.metric("pooled") + friction),
    ):
        np.testing.assert_allclose(flat(got[name]), np.linalg.solve(matrix + damping, g), **TIGHT)


def test_sample_space(solved):
    """The kernel trick of the pooled metric is the dense solution, penalty included."""
    member, g, _, _, got = solved
    expected = np.linalg.solve(member.metric("pooled") + DAMPING * member.own, g)
    np.testing.assert_allclose(flat(got["samples"]), expected, **TIGHT)
    wrong = np.linalg.solve(member.metric("pooled") + DAMPING * member.own, member.gradient)
    assert np.abs(expected - wrong).max() > 1e-3  # the penalty matters


def test_what_the_step_makes_of_noise(solved):
    """`n'(F + damping)^-1 n` for the weighted difference of the two halves of the walkers, penalty or not."""
    member, _, _, _, got = solved
    w, half = member.weights, len(member.weights) // 2
    a, b = w[:half].sum(), w[half:].sum()
    n = np.sqrt(a * b) * (w[:half] @ member.rows[:half] / a - w[half:] @ member.rows[half : len(w)] / b)
    expected = n @ np.linalg.solve(member.metric("pooled") + DAMPING * member.own, n)
    np.testing.assert_allclose(float(got["noise"]), expected, **TIGHT)


def test_length_of_the_gradient(solved):
    """`|A'g|` without the gradient, penalty included."""
    member, g, _, _, got = solved
    np.testing.assert_allclose(float(got["norm"]), np.linalg.norm(member.coordinates.T @ g), **TIGHT)
    without = np.linalg.norm(member.coordinates.T @ member.gradient)
    assert abs(without / float(got["norm"]) - 1) > 1e-3  # the penalty matters


def test_woodbury(solved):
    member, _, right, _, got = solved
    expected = np.linalg.solve(member.metric("model") + DAMPING * member.own, right)
    np.testing.assert_allclose(flat(got["woodbury"]), expected, **TIGHT)


def test_robust_filter(solved):
    """Digest 5.3: every curvature c is multiplied by 1 - c/(c+l) + c/(c+l)^2, in the scores' coordinates."""
    member, g, _, _, got = solved
    a = member.coordinates
    c, u = np.linalg.eigh(a.T @ member.metric("model") @ a)
    gain = 1 - c / (c + DAMPING) + c / (c + DAMPING) ** 2
    np.testing.assert_allclose(flat(got["robust"]), a @ (u @ (gain * (u.T @ (a.T @ g)))), **TIGHT)


def test_conjugate_gradients(solved):
    member, g, _, _, got = solved
    expected = np.linalg.solve(member.metric("pooled") + DAMPING * member.own, g)
    np.testing.assert_allclose(flat(got["cg"]), expected, rtol=1e-8, atol=1e-8)


def test_minimal_residuals(solved):
    """Run to the end they solve the system; cut off, no step of the same Krylov space leaves a smaller residual."""
    member, g, _, _, got = solved
    matrix = member.metric("pooled") + DAMPING * member.own
    np.testing.assert_allclose(flat(got["minres"]), np.linalg.solve(matrix, g), rtol=1e-8, atol=1e-8)
    preconditioner = np.linalg.inv(member.own)
    root, krylov = np.linalg.cholesky(preconditioner).T, [preconditioner @ g]  # residuals in the scores' coordinates
    for n, (cg, minres) in enumerate(zip(got["cg cut off"], got["minres cut off"], strict=True)):
        space = np.linalg.qr(np.stack(krylov, 1))[0][:, :n]
        least = space @ np.linalg.lstsq(root @ matrix @ space, root @ g, rcond=None)[0]
        expected, *found = (np.linalg.norm(root @ (g - matrix @ step)) for step in (least, flat(minres), flat(cg)))
        np.testing.assert_allclose(found[0], expected, rtol=1e-7)
        np.testing.assert_allclose(flat(minres), least, rtol=1e-6, atol=1e-7)
        if n == 2:  # the saboteur: conjugate gradients have the least error, not the least residual
            assert found[1] > expected * (1 + 1e-4)
        krylov.append(preconditioner @ matrix @ krylov[-1])


def test_diagonal_and_curvature(solved):
    member, g, right, _, got = solved
    a = member.coordinates
    own = np.diag(a.T @ member.metric("pooled") @ a)
    np.testing.assert_allclose(flat(got["diagonal"]), a @ ((a.T @ g) / (own + DAMPING)), **TIGHT)
    np.testing.assert_allclose(got["curvature"], right @ member.metric("model") @ right, **TIGHT)


def test_without_the_pooled_rows_the_gradient_leaves_the_span():
    """The saboteur of 5.2: with the walkers' metric a small damping blows the step up, with the pooled one it does
    not."""
    scores = family("pairwise").scores
    sizes = {
        name: [float(np.linalg.norm(flat(step(scores, jnp.asarray(damping))))) for damping in (1e-2, 1e-4)]
        for name, step in (("pooled", quick_jit(solve.samples)), ("model", quick_jit(solve.woodbury)))
    }
    assert sizes["model"][1] > 50 * sizes["model"][0]
    assert sizes["pooled"][1] < 10 * sizes["pooled"][0]


def test_a_warm_start_saves_iterations():
    """Begun at the solution, one iteration stays there; begun at zero, it is far away."""
    scores = family("rbm-mixed-centred").scores
    exact = quick_jit(solve.dense)(scores, DAMPING)
    zero = jax.tree.map(jnp.zeros_like, exact)
    one = quick_jit(lambda scores, start: solve.conjugate_gradients(scores, DAMPING, start, max_iterations=1))
    errors = [np.abs(flat(one(scores, start)) - flat(exact)).max() for start in (exact, zero)]
    assert errors[0] < 1e-9 < 1e-2 < errors[1]


def test_a_dense_metric_of_a_large_model_is_refused():
    rbm = qs.RBM.initialise(jax.random.key(0), 200, 50)
    x, w = jnp.zeros((2, 200)), jnp.full(2, 0.5)
    with pytest.raises(InputError, match="use solver = 'samples'"):
        solve.dense(scores_of(qs.Potential(rbm, 1.0), x, x, w, w), 1.0)
