"""The first section of the report on a terminal."""

from __future__ import annotations

import pytest

from analysis.rendering.markdown import to_markdown
from analysis.rendering.model import Bullets, Heading, Page, Section, table
from analysis.rendering.terminal import to_terminal
from analysis.rendering.text import strong

BLOCKS = [
    "Three words here.",
    Bullets(["Why? " + strong("YES") + ".", "one two three four five six"], ["because +1.0", ""]),
    Heading("left out"),
    table(["arm", "AP"], [["both", "46.5"]]),
]


def test_text_is_wrapped_and_the_details_of_a_list_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    expected = "Three words here.\n\n- Why? YES.\n- one two three four\n  five six\n\narm     AP\nboth  46.5"
    assert to_terminal(BLOCKS) == expected


def test_markdown_shows_details_behind_their_item() -> None:
    pages = to_markdown(Page("title", [Section("s", "S", BLOCKS)], {}), "REPORT.md", "REPORT_files")
    assert "- Why? **YES**. because +1.0\n- one two three four five six\n" in pages[""]
