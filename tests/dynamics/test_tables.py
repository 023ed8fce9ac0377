"""Every reference value of the solvable models, to the printed digits: the rows of `reproduce`."""

import numpy as np
import pytest

from quasistatic.evaluate.dynamics import divergence
from quasistatic.reproduce import short_run_tables as tables
from quasistatic.reproduce import short_run_theory as theory

PARTS = {  # rows that each part must have, so that none of the table is passed over
    "langevin": 115,
    "unadjusted": 5,
    "gaussian_rbm": 36,
    "spins": 57,
    "boltzmann": 42,
    "bernoulli": 28,
}


def failures(rows):
    return [f"{row.quantity}: {row.measured!r}, expected {row.expected!r}" for row in rows if not row.ok]


@pytest.mark.parametrize("part", PARTS)
def test_reference_values(part):
    rows = list(getattr(theory, part)())
    assert len(rows) == PARTS[part] and len({row.quantity for row in rows}) == len(rows)
    assert not failures(rows)


def test_quality_of_the_enumerated_rbm_is_best_at_t_equal_k():
    """A tenth of the training of the table: the phenomenon is there, the numbers are still moving."""
    rbm, start, data = theory.training_data()
    short = rbm.ascended(start, data, 5, rate=1.5, n_updates=1200)
    likeliest = rbm.ascended(start, data, 1, rate=0.5, n_updates=1200, rule="equilibrium")
    by_short, by_likeliest = (rbm.divergences(theta, data, range(51)) for theta in (short, likeliest))
    assert np.argmin(by_short) == 5 and by_short[10] > 3 * by_short[5]
    assert np.argmin(by_likeliest) > 15 and by_likeliest[50] < 1.05 * by_likeliest.min()
    assert by_short[5] < by_likeliest[5] / 5  # at five steps the short run generates better
    assert divergence(data, rbm.equilibrium(short)) > divergence(data, rbm.equilibrium(likeliest))


@pytest.mark.slow
def test_all_trainings_of_the_enumerated_rbm():
    rows = list(theory.rbm_training(tuple(tables.RBM_TRAINING)))
    assert len(rows) == 70 and not failures(rows)
    values = [float(row.measured or 0.0) for row in rows]
    by_rule = {rule: values[10 * i : 10 * i + 9] for i, rule in enumerate(tables.RBM_TRAINING)}
    for k in (1, 2, 5):
        curve = by_rule["short-run", k]
        assert min(curve) == curve[tables.RBM_TIMES.index(k)] and curve[-1] > 100 * by_rule["equilibrium", 1][-1]


@pytest.mark.slow
def test_figures_are_written(tmp_path):
    names = {path.name for path in theory.figures(tmp_path)}
    stems = ("short-run-stiffness", "short-run-quality", "short-run-thresholds")
    assert names == {f"{stem}{suffix}" for stem in stems for suffix in (".png", ".svg")}
