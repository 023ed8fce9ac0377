"""Figures show what they say: each curve leaves its ink, each derived number agrees with its definition."""

import xml.etree.ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from scipy.stats import t as student

from quasistatic import plots
from quasistatic.errors import InputError
from quasistatic.plots import figures, save_figures, views
from quasistatic.plots.panels import PALETTE, band_factor, exact_likelihood, panels
from quasistatic.run import Run

CURVES = {"likelihood", "log_z", "live_error", "feedback", "ess", "work", "excess_work", "gradient_norm", "score"}
CURVES |= {"bias", "efficiency"}
EXPECTED = {
    "rbm": CURVES | {"flip_rate", "weights", "walkers", "filters"},
    "pairwise": CURVES | {"flip_rate", "weights", "couplings"},
    "mixture": CURVES | {"weights", "scatter"},
}


def ink(pixels, colour, tolerance=0.12):
    """Number of pixels of a colour."""
    return int((np.abs(pixels[..., :3] - to_rgb(colour)).max(axis=-1) < tolerance).sum())


@pytest.mark.parametrize("kind", EXPECTED)
def test_every_kind_of_model_has_its_figures(fake_run, kind):
    assert set(figures(Run(fake_run(kind, n_rows=20)))) == EXPECTED[kind]


SOME = {"likelihood", "ess"}  # the curves of all kinds are drawn by the same lines


@pytest.mark.parametrize(
    "kind, drawn",
    [("rbm", SOME), ("pairwise", set()), ("mixture", set()), pytest.param("rbm", CURVES, marks=pytest.mark.slow)],
)
def test_every_figure_has_ink(fake_run, tmp_path, monkeypatch, kind, drawn):
    run, expected = Run(fake_run(kind, n_rows=60)), EXPECTED[kind]
    if drawn != CURVES:
        monkeypatch.setattr(plots, "panels", lambda run: [panel for panel in panels(run) if panel.name in drawn])
        expected = EXPECTED[kind] - CURVES - {"flip_rate"} | drawn
    paths = save_figures(run, tmp_path / "figures")
    assert {path.stem for path in paths} == expected
    assert {path.suffix for path in paths} == {".png", ".svg"} and len(paths) == 2 * len(expected)
    by_name = {panel.name: panel for panel in panels(run)}
    for path in paths:
        if path.suffix == ".svg":
            root = xml.etree.ElementTree.parse(path).getroot()
            links = [v for e in root.iter() for k, v in e.attrib.items() if k.endswith("href")]
            assert all(link.startswith(("#", "data:")) for link in links)
            continue
        pixels = imread(path)
        assert pixels.shape[1] > 900, "too few pixels for print"
        if path.stem in by_name:
            for curve in by_name[path.stem].curves:
                assert ink(pixels, PALETTE[curve.role][0]) > 150, f"{path.stem}: no ink of {curve.label}"
            # A saboteur: the colour of a role that is not in the panel must not be found.
            absent = set(PALETTE) - {c.role for c in by_name[path.stem].curves} - {"exact"}
            assert all(ink(pixels, PALETTE[role][0], 0.02) < 20 for role in absent), path.stem
        else:
            assert pixels[..., :3].std() > 0.02, f"{path.stem} is blank"


def test_figures_leave_matplotlib_as_it_was(fake_run):
    before, backend = dict(matplotlib.rcParams), matplotlib.get_backend(auto_select=False)
    figures(Run(fake_run(n_rows=20)))
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.get_backend(auto_select=False) == backend


def test_same_run_same_files(fake_run, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "panels", lambda run: panels(run)[:1])
    run = Run(fake_run("mixture", n_rows=20))
    first, second = save_figures(run, tmp_path / "a"), save_figures(run, tmp_path / "b")
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))


def test_nothing_to_draw(fake_run, tmp_path):
    folder = fake_run()
    for name in ("metrics.csv", "checkpoints/last.npz"):
        (folder / name).unlink()
    with pytest.raises(InputError, match="nothing to draw"):
        save_figures(Run(folder), tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_figures_into_a_file(fake_run, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        save_figures(Run(fake_run(n_rows=20)), tmp_path / "taken")


@pytest.mark.parametrize("has_auditor", [True, False])
def test_exact_likelihood_does_not_depend_on_the_estimate(fake_run, has_auditor):
    """Its residual against the fabricated truth is rounding, though the live number is off by nats."""
    table = Run(fake_run(has_auditor=has_auditor)).metrics
    step = table["step"]
    truth = -44.4 + 26.2 * (1 - np.exp(-5 * (step / step[-1]) ** 0.6))
    at = np.isfinite(table["log_z_exact"])
    assert at.sum() >= 15
    np.testing.assert_allclose(exact_likelihood(table, "heldout")[at], truth[at], atol=1e-10)
    assert np.isnan(exact_likelihood(table, "heldout")[~at]).all()
    assert np.abs(table["ll_heldout_driver"] - truth).max() > 20, "the saboteur: the driver's own number"


def test_band_is_students_interval(fake_run):
    run = Run(fake_run())
    assert band_factor(run) == pytest.approx(student.ppf(0.975, 15), rel=1e-12)
    likelihood = next(panel for panel in panels(run) if panel.name == "likelihood")
    live = next(curve for curve in likelihood.curves if curve.label == "held-out, live")
    np.testing.assert_allclose(live.half_width, student.ppf(0.975, 15) * run.metrics["ll_stderr"], rtol=1e-12)


def test_missing_columns_are_explained(fake_run):
    found = {panel.name: panel for panel in panels(Run(fake_run(has_auditor=False, has_exact=False)))}
    assert found["live_error"].curves == () and "exact" in found["live_error"].missing[0]
    assert any("the run has no auditor" in why for why in found["likelihood"].missing)
    assert [curve.role for curve in found["likelihood"].curves] == ["driver"]
    found = {panel.name: panel for panel in panels(Run(fake_run("mixture")))}
    assert found["flip_rate"].curves == () and "flip_rate" in found["flip_rate"].missing[0]


@pytest.mark.parametrize("column", ["ll_stderr", "log_z_stderr", "log_z", "ll_train", "ess_driver", "beta", "heat"])
def test_table_without_a_column(fake_run, column):
    folder = fake_run(n_rows=10)
    rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    lost = rows[0].index(column)
    text = "\n".join(",".join(row[:lost] + row[lost + 1 :]) for row in rows)
    (folder / "metrics.csv").write_text(text + "\n")
    assert any(panel.curves for panel in panels(Run(folder)))


def weight_arrays(log_weight, n_groups):
    return {
        "ensemble/account/log_weight/hi": np.asarray(log_weight),
        "ensemble/account/log_weight/lo": np.zeros(len(log_weight)),
        "ensemble/log_z/hi": np.zeros(n_groups),
    }


def test_weights_are_relative_to_their_group():
    rng = np.random.default_rng(3)
    log_weight = rng.normal(scale=0.8, size=(4, 50))
    log_weight[2, 7] = -np.inf
    w = np.exp(log_weight)
    ess = (w.sum(1) ** 2 / (50 * (w**2).sum(1))).mean()
    # Offsets of whole groups, large against float32, must not matter.
    shifted = log_weight + np.array([[900.0], [-3.0], [0.0], [-4000.0]])
    for values in (log_weight, shifted):
        found = views.weights(weight_arrays(values.ravel(), 4), "ensemble")
        assert found is not None and found.n_without == 1 and not found.are_equal
        assert found.ess == pytest.approx(ess, rel=1e-5)
        expected = np.log(w / w.mean(axis=1, keepdims=True), where=w > 0, out=np.full(w.shape, -np.inf))
        np.testing.assert_allclose(found.log_ratio, expected.ravel(), atol=2e-5)
    pooled = views.weights(weight_arrays(shifted.ravel(), 1), "ensemble")
    assert pooled is not None and abs(pooled.ess - ess) > 0.1, "the saboteur: one group for all"


def test_equal_weights_and_unusable_weights():
    equal = views.weights(weight_arrays(np.full(8, -2.0), 2), "ensemble")
    assert equal is not None and equal.are_equal and equal.ess == 1
    assert views.weights(weight_arrays(np.array([0.0, np.nan]), 1), "ensemble") is None
    assert views.weights(weight_arrays(np.zeros(5), 2), "ensemble") is None, "groups are equal in size"
    assert views.weights({}, "auditor") is None


def test_histogram_counts_every_walker_once():
    rng = np.random.default_rng(4)
    both = [views.weights(weight_arrays(rng.normal(size=64), 1), "ensemble") for _ in range(2)]
    for w in both:
        edges, share = views.histogram(w, both)
        assert len(edges) == len(share) + 1 and share.sum() == pytest.approx(1)


def test_couplings_stand_where_their_edges_say():
    edges = np.array([[0, 3], [1, 2]])
    arrays = {"model/couplings": np.array([0.5, -2.0]), "model/fields": np.zeros(4), "model/edges": edges}
    matrix = views.couplings_matrix(arrays)
    assert matrix is not None
    np.testing.assert_array_equal(matrix, matrix.T)
    assert matrix[0, 3] == 0.5 and matrix[1, 2] == -2.0 and np.isnan(matrix).sum() == 12
    del arrays["model/edges"]
    assert views.couplings_matrix(arrays) is None, "two couplings are not all pairs of four units"
    arrays["model/couplings"] = np.arange(6.0)
    full = views.couplings_matrix(arrays)
    assert full is not None and full[np.triu_indices(4, 1)].tolist() == list(range(6))


def test_image_grid_puts_tiles_in_reading_order():
    tiles = np.arange(10.0)[:, None, None] * np.ones((10, 2, 3))
    grid = views.image_grid(tiles, n_columns=4)
    assert grid.shape == (3 * 3 - 1, 4 * 4 - 1)
    assert grid[0, 0] == 0 and grid[0, 4] == 1 and grid[3, 0] == 4 and grid[7, 6] == 9
    assert np.isnan(grid[2]).all() and np.isnan(grid[:, 3]).all() and np.isnan(grid[7, 8:]).all()


def test_filters_are_the_columns_of_the_weights(fake_run):
    arrays = Run(fake_run()).checkpoint("last")
    tiles = views.filter_tiles(arrays, (8, 8))
    weights = arrays["model/weights"]
    largest = np.argmax((weights**2).sum(axis=0))
    assert tiles is not None and tiles.shape == (24, 8, 8)
    np.testing.assert_array_equal(tiles[0].ravel(), weights[:, largest])
    assert views.filter_tiles(arrays, (8, 9)) is None and views.filter_tiles(arrays, None) is None


def test_filters_through_ages_follow_the_ones_that_end_largest(fake_run):
    ages = Run(fake_run()).ages()
    found = views.filters_through_ages(ages, (8, 8), n_filters=3, n_ages=4)
    assert found is not None
    steps, tiles = found
    assert steps[-1] == 8000 and steps == sorted(set(steps)) and tiles.shape == (3 * len(steps), 8, 8)
    last = dict(ages)[8000]["model/weights"]
    largest = np.argsort(-(last**2).sum(axis=0))[:3]
    for row, step in enumerate(steps):
        expected = dict(ages)[step]["model/weights"].T[largest].reshape(-1, 8, 8)
        np.testing.assert_array_equal(tiles[3 * row : 3 * row + 3], expected)
    assert views.filters_through_ages(ages[:1], (8, 8)) is None
    assert views.filters_through_ages(ages, None) is None
