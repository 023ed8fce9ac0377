"""One spin that relaxes completely between updates: excess work is a sum of divergences, its metric is Fisher's."""

import numpy as np
import pytest

from quasistatic.dissipation import bounds


def excess(path):
    """Excess work of each switch of `E = -th s`, `beta = 1`, from exact averages, nats."""
    path = np.asarray(path)
    magnetisation, free_energy = np.tanh(path), -np.log(2 * np.cosh(path))
    return -np.diff(path) * magnetisation[:-1] - np.diff(free_energy)


def geodesic(n):
    psi = np.linspace(0, 2 * np.arctan(np.tanh(1.0)), n + 1)
    return 2 * np.arctanh(np.tan(psi / 2))


@pytest.mark.parametrize("n, linear", [(5, 1.02640), (20, 0.97952), (100, 0.96713)])
def test_linear_path(n, linear):
    found = excess(np.linspace(0, 2, n + 1))
    assert abs(n * found.sum() - linear) < 6e-6
    assert abs(linear - np.tanh(2.0)) < 0.35 / n


@pytest.mark.parametrize("n, published", [(20, 0.86654), (100, 0.85105)])
def test_geodesic(n, published):
    found = excess(geodesic(n))
    assert abs(n * found.sum() - published) < 6e-6
    limit = 0.5 * (2 * np.arctan(np.tanh(1.0))) ** 2
    assert abs(limit - 0.84729) < 6e-6 and 0 < published - limit < 0.4 / n
    assert n * found.sum() < n * excess(np.linspace(0, 2, n + 1)).sum()


def test_excess_work_is_a_sum_of_divergences():
    path = np.array([0.0, 0.7, 0.2, 1.9, -0.4])
    up = 1 / (1 + np.exp(-2 * path))
    p = np.stack([up, 1 - up])
    divergences = (p[:, :-1] * np.log(p[:, :-1] / p[:, 1:])).sum(0)
    np.testing.assert_allclose(excess(path), divergences, atol=1e-12)


def test_length_bounds_the_work():
    """`L^2 / K <= W`, with equality when every update costs the same: the geodesic, nearly."""
    linear, even = excess(np.linspace(0, 2, 101)), excess(geodesic(100))
    bound = bounds.length_work(bounds.length(linear), 100)
    assert bound < linear.sum() * 0.9
    assert 0.999 < bounds.length_work(bounds.length(even), 100) / even.sum() <= 1
    assert abs(bound / even.sum() - 1) < 0.01
