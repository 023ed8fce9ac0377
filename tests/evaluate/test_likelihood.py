"""Likelihoods from bounds, and the pseudo-likelihood against the enumerated law."""

import numpy as np
import pytest

from quasistatic._results import Estimate
from quasistatic.energies import CallableEnergy
from quasistatic.errors import InputError
from quasistatic.evaluate import Bracket, log_likelihood, pseudo_likelihood, reconstruction_error
from tests.evaluate.models import BETA, pairwise, rbm, reduced
from tests.laws import enumeration

MODELS = {
    "rbm binary-spin": rbm(5, 3, "binary", "spin"),
    "rbm spin-binary": rbm(4, 6, "spin", "binary"),
    "pairwise spin": pairwise("spin"),
    "pairwise binary": pairwise("binary", "lattice", 5),
}


def rows_of(model, n=29):
    x, u = reduced(model, BETA)
    p, log_z = enumeration.law(u)
    rows = np.random.default_rng(1).integers(0, len(x), n)
    return x, p, log_z, rows


@pytest.mark.parametrize("name", MODELS)
def test_pseudo_likelihood_equals_conditionals_of_the_enumerated_law(name):
    model = MODELS[name]
    x, p, _, rows = rows_of(model)
    levels = sorted({float(value) for value in x.ravel()})
    number = {tuple(state): i for i, state in enumerate(x)}
    expected = 0.0
    for row in rows:
        for site in range(x.shape[1]):
            flipped = x[row].copy()
            flipped[site] = sum(levels) - flipped[site]
            expected += np.log(p[row] / (p[row] + p[number[tuple(flipped)]])) / len(rows)
    assert pseudo_likelihood(model, x[rows], BETA) == pytest.approx(expected, rel=0, abs=1e-10)
    assert pseudo_likelihood(model, x[rows], BETA, n_per_chunk=8) == pytest.approx(expected, rel=0, abs=1e-10)
    assert abs(pseudo_likelihood(model, x[rows], BETA**2) - expected) > 0.01


def test_reconstruction_goes_there_and_back_through_means():
    model = rbm(5, 3, "spin", "binary")
    x = reduced(model, BETA)[0][[3, 17, 30]]
    weights, b, c = (np.asarray(a) for a in (model.weights, model.visible_bias, model.hidden_bias))
    h = 1 / (1 + np.exp(-BETA * (c + x @ weights)))
    expected = np.mean((np.tanh(BETA * (b + h @ weights.T)) - x) ** 2)
    assert reconstruction_error(model, x, BETA) == pytest.approx(expected, rel=0, abs=1e-12)


def test_likelihood_turns_bounds_of_log_z_around():
    model = MODELS["rbm binary-spin"]
    x, p, log_z, rows = rows_of(model)
    expected = np.log(p[rows]).mean()
    exact = log_likelihood(model, x[rows], log_z, beta=BETA)
    assert exact.value.value == pytest.approx(expected, rel=0, abs=1e-10)
    assert (exact.value.stderr, exact.value.bias) == (0.0, "none") and exact.lower == exact.upper == exact.value
    assert exact.data_stderr == pytest.approx(np.log(p[rows]).std(ddof=1) / np.sqrt(len(rows)), rel=1e-9)

    forward = Estimate(log_z - 0.3, 0.1, 0.5, "low", "forward", dof=15)
    reverse = Estimate(log_z + 0.2, 0.1, 0.5, "high", "reverse", dof=15)
    one = log_likelihood(model, x[rows], forward, beta=BETA)
    assert one.lower is None and one.upper == one.value and one.value.bias == "high"
    both = log_likelihood(model, x[rows], Bracket.of(forward, reverse, reverse), beta=BETA)
    assert both.value.value == both.upper.value == pytest.approx(expected + 0.3, rel=0, abs=1e-10)
    assert both.lower.value == pytest.approx(expected - 0.2, rel=0, abs=1e-10)
    assert (both.lower.bias, both.upper.bias, both.note) == ("low", "high", "")
    assert both.lower.stderr == both.upper.stderr == 0.1


@pytest.mark.parametrize(
    "score, model, data, message",
    [
        (pseudo_likelihood, MODELS["pairwise spin"], np.zeros((3, 6)), "binarise"),
        (pseudo_likelihood, MODELS["pairwise spin"], np.ones((3, 5)), "shape"),
        (pseudo_likelihood, MODELS["pairwise spin"], np.ones((0, 6)), "empty"),
        (pseudo_likelihood, CallableEnergy(np.sum), np.ones((3, 6)), "RBM or a pairwise"),
        (reconstruction_error, MODELS["pairwise spin"], np.ones((3, 6)), "hidden units"),
    ],
)
def test_wrong_input_is_named(score, model, data, message):
    with pytest.raises((InputError, TypeError), match=message):
        score(model, data)
