"""Pieces of HTML. Every text that comes from a file passes through `escape`; nothing else writes text."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.image import imsave

from quasistatic._results import Estimate

MINUS = "\u2212"


def escape(value: Any) -> str:
    """Text of anything, safe between tags and inside quoted attributes."""
    return html.escape(str(value), quote=True)


def number(value: float | None, decimals: int = 2) -> str:
    """Number with its full value for machines and a rounded one for people; a dash when there is none."""
    if value is None or not math.isfinite(value):
        return "\u2013"
    shown = f"{value:.{decimals}f}"
    if float(shown) == 0:
        shown = shown.lstrip("-")
    return f'<data value="{value!r}">{shown.replace("-", MINUS)}</data>'


def decimals_of(stderr: float | None) -> int:
    """Decimals that show two digits of the standard error."""
    if not stderr or not math.isfinite(stderr):
        return 2
    return min(6, max(0, 1 - math.floor(math.log10(stderr))))


def with_error(estimate: Estimate, unit: str = "") -> str:
    """`value +- standard error unit`, or why it is withheld."""
    if estimate.value is None:
        return f'<span class="value none">withheld</span><p class="small">{escape(why_withheld(estimate))}</p>'
    decimals = decimals_of(estimate.stderr)
    error = f"\u00b1 {number(estimate.stderr, decimals)} {unit}" if estimate.stderr else unit
    return f'<p class="value">{number(estimate.value, decimals)} <span class="error">{error}</span></p>'


def why_withheld(estimate: Estimate) -> str:
    """Reason in the run's words."""
    return (estimate.reason or "the run gives no reason").rstrip(".") + "."


def interval(estimate: Estimate) -> str:
    """95 % interval, or a dash."""
    ends = estimate.interval() if estimate.stderr else None
    if ends is None:
        return "\u2013"
    decimals = decimals_of(estimate.stderr)
    return f"{number(ends[0], decimals)} to {number(ends[1], decimals)}"


def card(name: str, content: str, note: str = "", *, is_first: bool = False) -> str:
    """Headline card; `content` and `note` are HTML."""
    kind = "card first" if is_first else "card"
    small = f'<p class="small">{note}</p>' if note else ""
    return f'<div class="{kind}"><p class="name">{escape(name)}</p>{content}{small}</div>'


def figure(title: str, content: str, notes: Iterable[str], *, is_full: bool = False) -> str:
    """Figure with heading and caption; `content` is HTML, the notes are text."""
    kind = "card full" if is_full else "card"
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in notes if text)
    caption = f"<figcaption>{paragraphs}</figcaption>"
    return f'<figure class="{kind}"><h3>{escape(title)}</h3>{content}{caption}</figure>'


def chart(name: str, label: str, *, is_square: bool = False) -> str:
    """Place that `page.js` draws a chart in."""
    kind = "chart square" if is_square else "chart"
    return f'<div class="{kind}" id="chart-{escape(name)}" role="img" aria-label="{escape(label)}"></div>'


def absences(found: Mapping[str, str]) -> str:
    """What is not shown and why."""
    if not found:
        return ""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(why)}</dd>" for name, why in found.items())
    return f'<div class="card full absent"><dl>{rows}</dl></div>'


def image(
    grid: Float[np.ndarray, "rows columns"],
    label: str,
    *,
    colours: str,
    limits: tuple[float, float],
    kind: str,
) -> str:
    """Array as an embedded PNG of whole pixels; `nan` is transparent."""
    scale = max(1, 960 // grid.shape[1])
    buffer = io.BytesIO()
    pixels = np.kron(grid, np.ones((scale, scale)))
    imsave(buffer, pixels, cmap=colours, vmin=limits[0], vmax=limits[1], format="png")
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    frame = "image" if kind == "ink" else "image plain"
    return f'<div class="{frame}"><img class="{kind}" alt="{escape(label)}" src="{source}"></div>'


def tables(content: Mapping[str, Any], *, rest: str) -> str:
    """One small table for every object in `content`; plain values at the top go to a table called `rest`."""
    plain = {key: value for key, value in content.items() if not isinstance(value, Mapping)}
    sections = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    named = ([(rest, plain)] if plain else []) + list(sections.items())
    blocks = []
    for name, section in named:
        rows = "".join(
            f'<tr><th scope="row">{escape(key)}</th><td>{escape(_as_written(value))}</td></tr>'
            for key, value in _flat(section)
        )
        body = f"<table><tbody>{rows}</tbody></table>" if rows else '<p class="small">empty</p>'
        blocks.append(f'<div class="card"><h3>{escape(name)}</h3>{body}</div>')
    return f'<div class="pairs">{"".join(blocks)}</div>'


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _as_written(value: Any) -> str:
    """Value as a configuration file has it; text without quotes."""
    if value is None:
        return "\u2013"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
