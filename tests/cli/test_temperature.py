"""The section `[temperature]`: what it builds, and that its run is recorded, reported and evaluated at its beta."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from quasistatic.cli.config import load_config
from quasistatic.cli.thermal import temperature_regulators
from quasistatic.regulators import EndogenousTemperature, Thermostat
from tests.cli.conftest import TINY, Cli, settings


def built(*overrides, n_samples=1000, n_units=64):
    config = load_config("digits-rbm", ["data.batch_size=128", *overrides])
    return temperature_regulators(config, n_samples, n_units)


def test_what_is_built():
    assert built() == ()
    (found,) = built("temperature.kind=thermostat", "temperature.highest=8.0", "model.beta=0.5")
    assert isinstance(found, Thermostat) and found.beta == 0.5 and found.least == 0.0
    np.testing.assert_allclose(found.most, np.log(8.0 * 0.5))  # from T = 2 to T = 8
    defaults = Thermostat()
    (found,) = built("temperature.kind=thermostat")
    names = ("set_point", "signal", "smoothing", "k_p", "k_i", "slew", "patience", "beta")
    assert [getattr(found, name) for name in names] == [getattr(defaults, name) for name in names]
    (law,) = built("temperature.kind=published")
    assert isinstance(law, EndogenousTemperature) and law == EndogenousTemperature(1000 // 128)
    (law,) = built("temperature.kind=published", "temperature.intensive=true", "data.batch_size=0")
    assert law == EndogenousTemperature(1, n_units=64)


@pytest.mark.slow
def test_a_regulated_run_from_the_command_line(cli: Cli):
    """T, norm over T and the smoothed flips are in the metrics and on the page; evaluation is at the last beta."""
    hot = ["temperature.kind=thermostat", "temperature.set_point=0.45", "training.method=jarzynski"]
    assert cli("train", *settings(*TINY, *hot), "--out", "hot").code == 0
    with open("hot/metrics.csv", encoding="utf-8") as file:
        row = list(csv.DictReader(file))[-1]
    assert float(row["temperature"]) > 1.05 and float(row["norm_over_t"]) > 0 and 0 < float(row["smoothed_signal"]) < 1
    page = Path("hot/report.html").read_text(encoding="utf-8")
    assert "Norm over T" in page and "Signal of the thermostat" in page
    found = json.loads(cli("evaluate", "hot", "--json", "--temperatures", "50", "--chains", "32").out)
    assert found["beta"] == float(row["beta"])
