"""The frame of the page: sections, styles and scripts put together into one text that loads nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files

from plotly.offline import get_plotlyjs

from quasistatic.report.charts import as_script
from quasistatic.report.markup import escape
from quasistatic.report.sections import Section


def page_of(name: str, header: str, sections: Sequence[Section]) -> str:
    """The page as text. Args: name of the run; header, HTML; sections in order."""
    parts = {
        "title": f"{escape(name)} \u00b7 quasistatic",
        "header": header,
        "nav": "".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in sections),
        "main": "\n".join(s.html for s in sections),
        "footer": "Written by quasistatic. Logarithms are natural: 1 nat is 1.4427 bits.",
        "charts": as_script(chart for s in sections for chart in s.charts),
        "plotly": get_plotlyjs(),
        "css": _resource("page.css"),
        "js": _resource("page.js"),
    }
    # One pass: text of the run that looks like a place in the template stays text.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _resource("page.html"))


def _resource(name: str) -> str:
    return (files("quasistatic.report") / name).read_text(encoding="utf-8")
