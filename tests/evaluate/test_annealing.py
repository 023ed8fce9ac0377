"""Annealing against enumeration: Z unbiased both ways, bounds on their sides, broken variants rejected.

The paths are short on purpose (weights spread, work matters) and the walkers many, so that one run has the
statistics of hundreds: single walkers show on which side log Z falls, all of them together whether Z is right.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quasistatic._results import Estimate
from quasistatic.energies import RBM, CallableEnergy, Gaussian, IndependentUnits, units
from quasistatic.errors import InputError
from quasistatic.evaluate import (
    Bracket,
    ais,
    annealed,
    annealing,
    base_at,
    equilibrated,
    log_partition_bracket,
    paths,
    reverse_ais,
)
from quasistatic.kernels import MALA, Gibbs, SiteGibbs
from tests.evaluate.models import BETA, pairwise, rbm, reduced
from tests.laws import enumeration

N_RUNS, N_CHAINS, N_TEMPERATURES = 16, 512, 4
MODELS = {
    "rbm spin-binary": rbm(5, 3, "spin", "binary", scale=1.2),
    "rbm binary-spin": rbm(4, 6, "binary", "spin", scale=1.2),
    "pairwise spin": pairwise("spin"),
    "pairwise binary lattice": pairwise("binary", "lattice", 7, scale=1.5),
}
RBMS = [name for name in MODELS if name.startswith("rbm")]


def units_of(model):
    return model.visible if hasattr(model, "visible") else model.units


def base_of(model):
    n = units_of(model).size
    return IndependentUnits(0.4 * jnp.sin(3.0 * jnp.arange(n)), units_of(model))


def exact_log_z(model):
    return enumeration.law(reduced(model, BETA)[1])[1]


def log_z_base(model):
    return float(paths.log_partition_start(model, base_of(model), BETA))


def exact_walkers(model, n, seed=0):
    x, u = reduced(model, BETA)
    return jnp.asarray(x[np.random.default_rng(seed).choice(len(x), n, p=enumeration.law(u)[0])])


def run(model, first_seed, is_reverse=False):
    """Log weights of all walkers of `N_RUNS` runs, such that `mean exp` is `Z` forwards and `1 / Z` backwards."""
    offset = -log_z_base(model) if is_reverse else log_z_base(model)
    log_weights = []
    for seed in range(first_seed, first_seed + N_RUNS):
        start = exact_walkers(model, N_CHAINS, seed) if is_reverse else None
        settings = {"beta": BETA, "n_temperatures": N_TEMPERATURES, "n_chains": N_CHAINS, "x_start": start}
        end = annealed(jax.random.key(seed), model, base_of(model), **settings)
        assert np.abs(end.account.first_law_residual(end.u)).max() < 1e-10
        log_weights.append(np.asarray(end.log_weight()) + offset)
    return np.concatenate(log_weights)


def z_score(log_weight, log_expected):
    """`mean exp(log_weight)` against its exact value, in standard errors, and the relative standard error."""
    w = np.exp(log_weight - log_expected)
    stderr = w.std(ddof=1) / np.sqrt(len(w))
    return (w.mean() - 1) / stderr, stderr


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in ("rbm binary-spin", "pairwise spin") else name
        for name in MODELS
    ],
)
@pytest.mark.parametrize("is_reverse", [False, True], ids=["forward", "reverse"])
def test_partition_function_is_unbiased(name, is_reverse):
    model = MODELS[name]
    sign = -1 if is_reverse else 1
    log_weight = run(model, 100, is_reverse)
    z, stderr = z_score(log_weight, sign * exact_log_z(model))
    assert stderr < 0.02
    assert abs(z) < 4
    # second law: single walkers put log Z too low forwards, too high backwards
    deficit = sign * exact_log_z(model) - log_weight.mean()
    assert deficit > 8 * log_weight.std() / np.sqrt(len(log_weight))


def flipped_work(monkeypatch):
    right = paths.AnnealedRBM.work
    monkeypatch.setattr(paths.AnnealedRBM, "work", lambda self, *a: -right(self, *a))


def beta_twice(monkeypatch):
    right = paths.AnnealedRBM.hidden_natural
    monkeypatch.setattr(paths.AnnealedRBM, "hidden_natural", lambda self, i, beta: right(self, i, beta * beta))


def kernel_of_another_law(monkeypatch):
    monkeypatch.setattr(paths.AnnealedRBM, "visible_inputs", lambda self, h: self.visible_bias + 0 * h.sum())


SABOTEURS = [flipped_work, beta_twice, kernel_of_another_law]


@pytest.mark.parametrize("saboteur", SABOTEURS, ids=lambda s: s.__name__)
def test_broken_variant_is_rejected(saboteur, monkeypatch):
    raw = annealing._anneal.__wrapped__
    monkeypatch.setattr(annealing, "_anneal", eqx.filter_jit(lambda *args: raw(*args)))  # its own compilation
    saboteur(monkeypatch)
    model = MODELS["rbm spin-binary"]
    log_weight = run(model, 100)
    assert abs(z_score(log_weight, exact_log_z(model))[0]) > 8


def test_estimates_carry_error_direction_and_method():
    model = MODELS["rbm spin-binary"]
    settings = {"beta": BETA, "n_temperatures": 101}
    forward = ais(jax.random.key(2), model, base_of(model), n_chains=N_CHAINS, **settings)
    backward = reverse_ais(jax.random.key(3), model, base_of(model), exact_walkers(model, N_CHAINS), **settings)
    for estimate, bias in ((forward, "low"), (backward, "high")):
        assert abs(estimate.value - exact_log_z(model)) < 4 * estimate.stderr < 0.3
        assert (estimate.bias, estimate.dof) == (bias, 15)
        assert 0 < estimate.ess <= 1
    assert "upper if the start is in equilibrium" in backward.method
    assert ais(jax.random.key(2), model, base_of(model), n_chains=N_CHAINS, **settings) == forward


@pytest.fixture(scope="module")
def brackets():
    model = MODELS["rbm spin-binary"]
    data = np.asarray(exact_walkers(model, 200, seed=5))
    settings = {"beta": BETA, "n_temperatures": 101, "n_chains": N_CHAINS, "n_equilibrate": 40}
    return [log_partition_bracket(jax.random.key(seed), model, data, **settings) for seed in range(10, 16)]


def test_bracket_holds_the_exact_value(brackets):
    expected = exact_log_z(MODELS["rbm spin-binary"])
    z_forward = np.array([(b.forward.value - expected) / b.forward.stderr for b in brackets])
    z_reverse = np.array([(b.reverse.value - expected) / b.reverse.stderr for b in brackets])
    assert z_forward.max() < 4 and z_reverse.min() > -4
    assert np.abs(z_forward).max() < 5 and np.abs(z_reverse).max() < 5  # and both are close
    assert not any(b.is_inverted for b in brackets)
    assert sum(b.note == "" and b.t_half_agreement is True for b in brackets) >= 5
    assert brackets[0].as_json()["forward"]["bias"] == "low"


def test_inverted_bracket_is_named():
    """Reverse walkers that start in a mode of little weight, and stay there, put log Z far too low."""
    # symmetric under reversal of all visible spins but for a field that leaves about 3 % to the upper mode
    fields = jnp.full(5, -0.5 * 4.0 * 3 - 0.5)
    model = RBM(jnp.full((5, 3), 4.0), fields, jnp.zeros(3), units("spin", 5), units("binary", 3))
    base = IndependentUnits(jnp.zeros(5), model.visible)
    settings = {"base": base, "beta": BETA, "n_temperatures": 301, "n_chains": N_CHAINS, "n_equilibrate": 4}
    good = log_partition_bracket(jax.random.key(4), model, **settings)
    assert not good.is_inverted and good.note == ""
    assert good.forward.value - 4 * good.forward.stderr < exact_log_z(model)
    assert good.reverse.value + 4 * good.reverse.stderr > exact_log_z(model)
    bad = log_partition_bracket(jax.random.key(4), model, x_start=jnp.ones((N_CHAINS, 5)), **settings)
    assert bad.is_inverted and bad.note.startswith("inverted_bracket: ")
    assert bad.reverse.value < exact_log_z(model) - 1
    assert bad.forward == good.forward


def judged(forward, reverse, half):
    def of(value, bias):
        return Estimate(value, None if value is None else 0.1, 0.5, bias, "m", dof=15)

    return Bracket.of(of(forward, "low"), of(reverse, "high"), of(half, "high"))


def test_judgement_of_a_bracket():
    assert (judged(1.0, 1.2, 1.3).note, judged(1.0, 1.2, 1.3).t_half_agreement) == ("", True)
    assert judged(1.0, 0.7, 0.7).note == ""  # within three combined errors
    assert judged(1.0, 0.5, 0.6).note.startswith("inverted_bracket: ")
    drifting = judged(1.0, 1.2, 2.2)
    assert drifting.note.startswith("start_not_in_equilibrium: ") and drifting.t_half_agreement is False
    assert not drifting.is_inverted and drifting.gap == pytest.approx(0.2)
    withheld = judged(1.0, None, 1.0)
    assert (withheld.gap, withheld.t_half_agreement, withheld.is_inverted) == (None, None, False)
    assert withheld.note.startswith("withheld: ")


def test_any_energy_with_a_kernel():
    """The general path: MALA from a Gaussian to another one, and site flips of a user's function."""
    base = Gaussian.from_covariance(jnp.zeros(2), jnp.eye(2))
    target = Gaussian.from_covariance(jnp.array([1.0, -0.5]), jnp.array([[0.8, 0.3], [0.3, 0.5]]))
    settings = {"beta": BETA, "n_temperatures": 41, "n_chains": 512}
    estimate = ais(jax.random.key(6), target, base, kernel=MALA(), step_size=0.3, n_sweeps=2, **settings)
    assert abs(estimate.value - float(target.log_partition(BETA))) < 4 * estimate.stderr < 0.2

    energy = CallableEnergy(lambda x: x[0] * x[1] * x[2] - 0.8 * x[1] * x[3], levels=(0.0, 1.0))
    x = enumeration.states("binary", 4)
    expected = enumeration.law(BETA * np.array([v[0] * v[1] * v[2] - 0.8 * v[1] * v[3] for v in x]))[1]
    base = base_of(rbm(4, 3))
    estimate = ais(jax.random.key(7), energy, base, kernel=SiteGibbs((0.0, 1.0)), **settings)
    assert abs(estimate.value - expected) < 4 * estimate.stderr < 0.1
    with pytest.raises(InputError, match="needs a kernel"):
        ais(jax.random.key(7), energy, base)


@pytest.mark.parametrize("kind", ["binary", "spin"])
def test_base_has_the_smoothed_means_of_the_data(kind):
    model = rbm(5, 3, kind)
    data = np.array(exact_walkers(model, 50))
    data[:, 4] = model.visible.levels[0]  # a unit that never changes
    base = base_at(data, model.visible, BETA)
    mean = (data.sum(0) + sum(model.visible.levels)) / 52
    assert np.allclose(model.visible.mean(BETA * base.fields), mean, rtol=0, atol=1e-12)


def test_kernels_are_chosen_by_the_graph():
    assert paths.default_kernel(pairwise("spin", "complete")).colours is None
    coloured = paths.default_kernel(pairwise("spin", "lattice", 20))
    assert isinstance(coloured, Gibbs) and coloured.n_colours == 2


def test_chains_move_by_whole_sweeps():
    model = MODELS["rbm spin-binary"]
    x = exact_walkers(model, 64)
    assert np.array_equal(equilibrated(jax.random.key(0), model, x, n_sweeps=0, beta=BETA), x)
    moved = equilibrated(jax.random.key(0), model, x, n_sweeps=3, beta=BETA)
    assert moved.shape == x.shape and set(np.unique(moved)) == {-1.0, 1.0} and not np.array_equal(moved, x)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"n_temperatures": 1}, "at least 2 temperatures"),
        ({"n_chains": 50}, "50 walkers cannot be split into 16"),
        ({"beta": 0.0}, "beta must be a positive number"),
        ({"kernel": Gibbs()}, "moves pairwise models"),
    ],
)
def test_wrong_input_is_named(change, message):
    model = MODELS["rbm spin-binary"]
    with pytest.raises(InputError, match=message):
        ais(jax.random.key(0), model, base_of(model), **change)
    with pytest.raises(InputError, match="needs a base"):
        log_partition_bracket(jax.random.key(0), model)
