"""Runs the Python of pages that promise it, and prints below what it printed: a page that fails fails the build."""

import contextlib
import io
import re

PAGES = ("own-energy.md", "non-convergent.md")
"""Pages whose code is run, top to bottom, in one namespace per page."""


def on_page_markdown(markdown: str, page, **_) -> str:
    """Puts the output of each block of Python below it."""
    if page.file.src_uri not in PAGES:
        return markdown
    names = {"__name__": page.file.src_uri}

    def run(block: re.Match) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(block[1], page.file.src_uri, "exec"), names)
        text = printed.getvalue().rstrip()
        return block[0] + (f"\n\n```text\n{text}\n```" if text else "")

    return re.sub(r"^```python\n(.*?)^```$", run, markdown, flags=re.DOTALL | re.MULTILINE)
