"""The page says what the files say, loads nothing, believes nothing, and says what it does not show."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from quasistatic._results import RESULTS
from quasistatic.errors import InputError
from quasistatic.report import write_report
from quasistatic.report.markup import decimals_of, number, tables
from quasistatic.report.summary import summarise
from quasistatic.run import Run

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><script>alert(2)</script>",
    "' onmouseover='alert(3)",
    "{{plotly}} &lt;b&gt; \u2028",
]


class Page(HTMLParser):
    """Tags, texts and machine-readable numbers of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.values, self.scripts, self.styles, self._inside = [], [], [], [], [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "data":
            self.values.append(float(dict(attrs)["value"]))

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        bins = {"script": self.scripts, "style": self.styles}
        bins.get(self._inside, self.texts).append(data)

    @property
    def text(self):
        return " ".join(self.texts)

    @property
    def charts(self):
        return {chart["id"]: chart for chart in json.loads(self.scripts[0])["charts"]}

    @property
    def places(self):
        ids = [attrs.get("id") or "" for _, attrs in self.tags]
        return {name.removeprefix("chart-") for name in ids if name.startswith("chart-")}


@pytest.fixture(autouse=True)
def small_page(request, monkeypatch):
    """Stands in for the five megabytes of Plotly, except where the test is about them."""
    if "real_plotly" not in request.keywords and not request.node.name.startswith("test_loads_nothing"):
        monkeypatch.setattr("quasistatic.report.page.get_plotlyjs", lambda: "/* plotly */")


def written(folder):
    path = write_report(folder)
    assert path == folder / "report.html"
    return Page(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", ["rbm", "pairwise", "mixture"])
def test_final_numbers_are_those_of_the_result(fake_run, kind):
    folder = fake_run(kind)
    page, final = written(folder), json.loads((folder / "result.json").read_text())["final"]
    for name in ("ll_heldout", "ll_train", "log_z"):
        assert final[name]["value"] in page.values and final[name]["stderr"] in page.values
    bias = final["driver"].pop("feedback_bias")
    assert bias["value"] in page.values and bias["stderr"] in page.values
    for source in (final["driver"], final["exact"]):
        assert all(value in page.values for value in source.values())
    assert final["ess_driver"] in page.values and final["ess_auditor"] in page.values
    assert final["ll_heldout"]["value"] + 1e-9 not in page.values, "the saboteur: a number that is not there"
    off = final["ll_heldout"]["value"] - final["exact"]["ll_heldout"]
    assert off in page.values and off / final["ll_heldout"]["stderr"] in page.values


@pytest.mark.parametrize("kind", ["rbm", "mixture"])
def test_curves_are_those_of_the_table(fake_run, kind):
    folder = fake_run(kind)
    charts, table = written(folder).charts, Run(folder).metrics
    columns = {
        ("likelihood", "train, live"): "ll_train",
        ("likelihood", "held-out, live"): "ll_heldout",
        ("likelihood", "held-out, driver's own (optimistic)"): "ll_heldout_driver",
        ("log_z", "live (auditor)"): "log_z",
        ("feedback", "estimated"): "feedback_bias",
        ("ess", "driver"): "ess_driver",
        ("ess", "auditor"): "ess_auditor",
        ("work", "work"): "work",
        ("work", "heat"): "heat",
        ("excess_work", "excess work"): "excess_work",
        ("excess_work", "shadow work"): "shadow_work",
        ("excess_work", "excess work by linear response"): "predicted_work",
        ("excess_work", "least work for this distance"): "minimal_work",
        ("bias", "without weights"): "excess_work",
        ("efficiency", "efficiency"): "efficiency",
    }
    for (name, label), column in columns.items():
        curve = next(curve for curve in charts[name]["curves"] if curve["label"] == label)
        assert curve["x"] == table["step"].tolist() and curve["y"] == table[column].tolist(), label
    measured = next(curve for curve in charts["feedback"]["curves"] if curve["label"] == "driver - live (auditor)")
    assert measured["y"] == (table["log_z_driver"] - table["log_z"]).tolist()
    exact = next(curve for curve in charts["log_z"]["curves"] if curve["label"] == "exact")
    known = np.isfinite(table["log_z_exact"])
    assert exact["y"] == table["log_z_exact"][known].tolist() and exact["x"] == table["step"][known].tolist()


def test_long_table_is_thinned_to_rows_of_itself(fake_run):
    folder = fake_run(n_rows=7000)
    curve, table = written(folder).charts["work"]["curves"][0], Run(folder).metrics
    assert len(curve["x"]) == 3000 and curve["x"][-1] == table["step"][-1]
    pairs = dict(zip(table["step"].tolist(), table["work"].tolist(), strict=True))
    assert all(pairs[x] == y for x, y in zip(curve["x"], curve["y"], strict=True))


def test_loads_nothing(fake_run):
    page = written(fake_run())
    for tag, attrs in page.tags:
        assert tag not in {"iframe", "object", "embed", "video", "audio", "base", "form"}
        for name in ("src", "href", "srcset", "action", "data", "poster", "background"):
            link = attrs.get(name)
            assert link is None or link.startswith(("#", "data:")), (tag, link)
        assert not any(name.startswith("on") for name in attrs)
    assert not re.search(r"url\(|@import|https?:", "".join(page.styles))
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'") and "http" not in policy and "*" not in policy
    assert len(page.scripts) == 3 and "plotly.js v" in page.scripts[1]
    assert sum("plotly.js v" in script for script in page.scripts) == 1, "Plotly stands in the page once"
    assert "https:" not in page.scripts[2] and "plotlyServerURL" in page.scripts[2]
    buttons = re.search(r"modeBarButtons: (\[\[.*?\]\])", page.scripts[2])
    assert buttons and set(re.findall(r'"(\w+)"', buttons[1])) == {"toImage", "zoom2d", "pan2d", "resetScale2d"}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(fake_run, text):
    folder = fake_run()
    clean = [tag for tag, _ in written(folder).tags]
    quoted = json.dumps(text)
    config = (folder / "config.toml").read_text()
    config = config.replace('"digits-rbm"', quoted).replace('"pcd"', quoted)
    (folder / "config.toml").write_text(config + f"\n[model.{quoted}]\n{quoted} = [{quoted}]\n")
    environment = json.loads((folder / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps({**environment, text: text}))
    result = json.loads((folder / "result.json").read_text())
    result["final"]["ll_train"] = {"value": None, "reason": text, "method": text, "bias": text, "parameters": text}
    result["final"][text] = {"log_z": 1.5}
    (folder / "result.json").write_text(json.dumps(result))
    page = written(folder)
    dirty = [tag for tag, _ in page.tags]
    for tag in ("script", "img", "style"):
        assert dirty.count(tag) == clean.count(tag)
    assert set(dirty) == set(clean)
    assert page.text.count(text) >= 6
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)


def test_hostile_failure(fake_run):
    folder = fake_run()
    result = json.loads((folder / "result.json").read_text())
    result.update(result=HOSTILE[0], message=HOSTILE[1])
    (folder / "result.json").write_text(json.dumps(result))
    page = written(folder)
    assert len(page.scripts) == 3 and HOSTILE[0] in page.text and HOSTILE[1] in page.text


@pytest.mark.parametrize("name", [name for name in RESULTS.__members__ if name != "ok"])
def test_failure_has_its_name_and_remedy(fake_run, name):
    folder = fake_run(result=name)
    page, table = written(folder), Run(folder).metrics
    assert name in page.text and RESULTS[name].message in page.text
    assert page.text.count(RESULTS[name].remedy) == 1, "said once, though the message of the run has it too"
    assert table["ll_heldout"][-1] in page.values, "the last good numbers"
    assert name not in written(fake_run()).text


def test_withheld_number_gives_its_reason(fake_run):
    page = written(fake_run(has_auditor=False, has_exact=False))
    assert "withheld" in page.text and "the run has no auditor." in page.text
    assert "live_error" not in page.places and "the exact log Z is not known" in page.text


def test_unfinished_run_shows_its_last_row(fake_run):
    folder = fake_run(result=None, has_exact=False)
    page, table = written(folder), Run(folder).metrics
    assert "not finished" in page.text
    for column in ("ll_heldout", "ll_train", "log_z", "ll_heldout_driver", "ess_driver", "ess_auditor"):
        assert table[column][-1] in page.values, column


def test_cut_off_line_is_mentioned(fake_run):
    folder = fake_run()
    text = (folder / "metrics.csv").read_text()
    (folder / "metrics.csv").write_text(text[:-4])
    assert "was cut off" in written(folder).text


def test_parameters_of_every_likelihood(fake_run):
    folder = fake_run()
    result = json.loads((folder / "result.json").read_text())
    result["final"]["ema"] = {"ll_heldout": {"value": -17.25, "stderr": 0.25, "method": "auditor"}}
    (folder / "result.json").write_text(json.dumps(result))
    summary = summarise(Run(folder))
    assert {n.parameters for n in summary.numbers if n.source != "ema"} == {"raw"}
    averaged = summary.find("ll_heldout", "ema")
    assert averaged is not None and averaged.parameters == "averaged" and averaged.estimate.value == -17.25
    page = written(folder)
    assert -17.25 in page.values and "averaged" in page.text


MISSING = {
    "metrics.csv": "no metrics.csv yet",
    "checkpoints/last.npz": "no checkpoint",
    "checkpoints/best.npz": "Filters",
    "environment.json": "no environment.json",
    "result.json": "not finished",
    "ages": "Filters",
}


@pytest.mark.parametrize("lost", [*MISSING, "everything"])
@pytest.mark.parametrize("kind", ["rbm", "mixture"])
def test_missing_pieces_are_said_not_drawn(fake_run, kind, lost):
    folder = fake_run(kind)
    for name in MISSING if lost == "everything" else [lost]:
        for path in [folder / name] if (folder / name).is_file() else (folder / name).glob("*"):
            path.unlink()
    page = written(folder)
    for name, says in MISSING.items():
        if says != "Filters" and lost in (name, "everything"):
            assert says in page.text
    assert page.places == set(page.charts), "every chart has its place and every place its chart"
    for chart in page.charts.values():
        shown = next(chart[key] for key in ("curves", "bars", "values", "clouds") if key in chart)
        assert shown, f"{chart['id']} is empty"


def test_header_without_rows(fake_run):
    folder = fake_run(result=None)
    text = (folder / "metrics.csv").read_text()
    (folder / "metrics.csv").write_text(text.splitlines()[0] + "\n")
    page = written(folder)
    assert "curves" not in {chart["kind"] for chart in page.charts.values()}


def test_images_only_of_images(fake_run):
    def count(folder):
        return sum(tag == "img" for tag, _ in written(folder).tags)

    assert count(fake_run("rbm")) == 4, "driver, auditor, filters, filters through training"
    assert count(fake_run("rbm", has_auditor=False)) == 3
    assert count(fake_run("rbm", has_images=False)) == 0
    assert count(fake_run("mixture")) == 0
    assert "its events are not images" in written(fake_run("rbm", has_images=False)).text


def test_tables_hold_every_key(fake_run):
    folder = fake_run()
    page, run = written(folder), Run(folder)
    for section, content in run.config.items():
        assert section in page.texts
        assert all(key in page.texts for key in content)
    assert "1437" in page.texts and "float32" in page.texts and "0.0001" in page.texts


@pytest.mark.parametrize("name", ["checkpoints/last.npz", "checkpoints/best.npz", "ages/age-00008000.npz"])
def test_damaged_archive_leaves_the_old_page(fake_run, name):
    folder = fake_run()
    (folder / "report.html").write_text("old")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=name):
        write_report(folder)
    assert (folder / "report.html").read_text() == "old"
    assert not list(folder.glob(".report*"))


def test_result_that_is_not_one(fake_run):
    folder = fake_run()
    (folder / "result.json").write_text("{}")
    with pytest.raises(InputError, match="names no result"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_page_that_cannot_be_written(fake_run):
    folder = fake_run()
    (folder / "report.html").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        write_report(folder)
    assert not list(folder.glob(".report*"))


@pytest.mark.parametrize(
    "stderr, decimals", [(0.13, 2), (0.013, 3), (1.3, 1), (13.0, 0), (130.0, 0), (1e-12, 6), (None, 2), (0.0, 2)]
)
def test_two_digits_of_the_error_are_shown(stderr, decimals):
    assert decimals_of(stderr) == decimals


def test_number_keeps_every_digit_for_machines():
    assert number(-1.23456789, 2) == '<data value="-1.23456789">\u22121.23</data>'
    assert ">0.00<" in number(-0.0004, 2), "no minus before a zero"
    assert number(None) == number(float("nan")) == "\u2013"


def test_values_look_like_the_configuration():
    shown = tables({"seed": 1, "model": {"on": True, "list": [1, "a"], "deep": {"x": None}}}, rest="top")
    for text in ("<h3>top</h3>", "<td>1</td>", "<td>true</td>", "[1, &quot;a&quot;]", ">deep.x<"):
        assert text in shown
