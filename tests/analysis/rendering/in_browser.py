"""What the tests of report.html share: text that must not run, scripts for the browser, and small pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.rendering.html import to_html
from analysis.rendering.model import Block, Page, Section
from analysis.rendering.plots import draw

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
UNFOLD = "document.querySelectorAll('details').forEach((each) => { each.open = true; })"
ARE_UNPACKED = "[...document.querySelectorAll('.plot img')].every((image) => image.naturalWidth)"


def write_page(
    folder: Path, *blocks: Block, summary: str | None = None, runs: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """Write a page of one section, "The grid", with these blocks. Returns its URL."""
    page = Page("", [Section("s", "The grid", blocks, summary)], runs or {})
    file = folder / "page.html"
    file.write_text(to_html(page, {figure.name: draw(figure) for figure in page.figures}), encoding="utf-8")
    return file.as_uri()


def collect_errors(page: Any) -> list[str]:
    """A list to which the page's script adds its errors from now on."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    return errors
