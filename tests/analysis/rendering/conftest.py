"""A page of a small ablation, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.analysis.rendering.in_browser import ARE_UNPACKED, HOSTILE, UNFOLD
from tests.analysis.synthetic import ablation, edit_json, write_report


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    runs = ablation(folder / "runs")
    edit_json(folder / "runs" / runs.path("dsl", 2) / "status.json", state="failed", cause=HOSTILE)
    (folder / "runs" / runs.path("dsl", 2) / "metrics.json").unlink()
    (manifest,) = (folder / "runs").glob("*/*.grid.json")
    edit_json(manifest, title=f"Which? {HOSTILE}")
    write_report(folder / "runs", folder / "REPORT.md")
    return folder / "report.html"


@pytest.fixture
def page(page: Any) -> Any:
    """The page with all sections unfolded."""
    page.evaluate(UNFOLD)
    page.wait_for_function(ARE_UNPACKED)
    return page
