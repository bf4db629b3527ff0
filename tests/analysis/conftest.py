"""A real browser for the pages that `analysis` writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.programs import program


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = program("chromium")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, page_file: Path) -> Iterator[Any]:
    """`page_file` at the width of a desktop. An error in its script, or anything that it loads, fails the test."""
    shown = browser.new_page(viewport={"width": 1280, "height": 900})
    faults: list[str] = []
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    shown.on("request", lambda request: faults.append(request.url) if request.url.startswith("http") else None)
    shown.goto(page_file.as_uri())
    yield shown
    assert faults == [] and shown.evaluate("window.hacked") is None
    shown.close()
