"""The HTML page, in a real browser: folding, printing, links below what stays on the screen, accessibility."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.rendering.model import Heading, table
from tests.analysis.rendering.in_browser import ARE_UNPACKED, UNFOLD, collect_errors, write_page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def test_a_link_unfolds_its_section_each_time(browser: sync_api.Browser, page_file: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(page_file.as_uri())
    table = page.locator("details[id^=shapes] table").first
    for link in ("nav a[href^='#shapes']", "nav a[href^='#shapes']", "#answers a[href^='#shapes']"):
        page.locator(link).first.click()
        assert table.is_visible()
        page.locator("details[id^=shapes] summary p").click()
        assert not table.is_visible()
    page.close()


@pytest.mark.parametrize(("target", "is_open"), [("#runs", True), ("#run-3", True), ("#%", False), ("#no", False)])
def test_the_address_of_a_part_unfolds_it(
    browser: sync_api.Browser, page_file: Path, target: str, is_open: bool
) -> None:
    page = browser.new_page()
    errors = collect_errors(page)
    page.goto(page_file.as_uri() + target)
    assert page.locator("#run-3").is_visible() == is_open and errors == []
    page.close()


def test_printing_unfolds_all_sections_and_folds_them_again(browser: sync_api.Browser, page_file: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    page.locator("#runs summary p").click()
    count = "document.querySelectorAll('details:not([open])').length"
    page.evaluate(f"addEventListener('beforeprint', () => {{ window.foldedInPrint = {count} }})")
    page.wait_for_function(ARE_UNPACKED)  # also figures of folded sections, while the browser is idle
    assert page.pdf().startswith(b"%PDF")
    assert page.evaluate("window.foldedInPrint") == 0
    assert page.locator("details[open]").count() == 1 < page.locator("details").count()
    page.close()


def test_printing_ignores_the_filter(page: sync_api.Page) -> None:
    grid = page.locator("details[id^=shapes]")
    rows, titles = grid.locator("tbody tr:visible"), grid.locator("thead th:visible")
    before = rows.count(), titles.count()
    grid.get_by_label("Rows with").fill("both")
    grid.get_by_label("Columns with").fill("AP90")
    assert 0 < rows.count() < before[0] and 0 < titles.count() < before[1]
    page.emulate_media(media="print")
    assert (rows.count(), titles.count()) == before


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1000, 800), (1280, 900)])
def test_what_a_link_leads_to_is_not_hidden(
    browser: sync_api.Browser, page_file: Path, width: int, height: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(page_file.as_uri())
    page.evaluate(UNFOLD)
    page.get_by_label("Rows with").first.fill("both")  # the filter is highest while it says what it found
    below = [page.locator("details[id^=shapes] > :is(h3, figure)[id]").nth(at) for at in (1, 4, 6)]
    for target in (*below, page.locator("#accounting"), page.locator("#run-2")):
        page.evaluate("id => { location.hash = id }", target.get_attribute("id"))
        top = bottom_of(page, "nav") if width < 1150 else 0
        if target in below:
            top = max(top, bottom_of(page, "details[id^=shapes] .filter"))
        box = target.bounding_box()
        assert box is not None and top <= box["y"] < height / 2
    page.close()


def bottom_of(page: sync_api.Page, selector: str) -> float:
    box = page.locator(selector).bounding_box()
    assert box is not None
    return float(box["y"] + box["height"])


def test_the_contents_fit_a_narrow_screen_and_show_what_is_marked(browser: sync_api.Browser, page_file: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(page_file.as_uri())
    page.evaluate(UNFOLD)
    links = page.locator("nav a")
    assert all(links.nth(at).bounding_box()["width"] < 390 for at in range(links.count()))  # type: ignore[index]
    page.evaluate("location.hash = 'accounting'")
    page.wait_for_function("document.querySelector('nav [href=\"#accounting\"]').ariaCurrent === 'true'")
    box = page.locator("nav [aria-current]").first.bounding_box()
    assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390
    page.close()


def test_tables_have_the_names_of_their_headings_and_rows_have_headers(
    browser: sync_api.Browser, tmp_path: Path
) -> None:
    rows = table(["arm", "AP"], [["dla", "41"], ["both", "51"]])
    page = browser.new_page()
    page.goto(write_page(tmp_path, Heading("AP by arm"), rows, table(["arm", "n"], [["dla", "3"]])))
    first = page.get_by_role("region", name="The grid: AP by arm", exact=True)
    assert first.get_by_role("rowheader").all_inner_texts() == ["dla", "both"]
    assert page.get_by_role("region", name="The grid: AP by arm, table 2", exact=True).count() == 1
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("state", ["folded", "unfolded", "dialog"])
def test_the_rules_of_accessibility_hold(
    browser: sync_api.Browser, page_file: Path, state: str, width: int, scheme: str
) -> None:
    axe = pytest.importorskip("axe_core_python.sync_playwright", reason="axe-core-python is not installed")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(page_file.as_uri())
    if state != "folded":
        page.evaluate(UNFOLD)
        page.wait_for_function(ARE_UNPACKED)
    if state == "dialog":
        page.locator("td a").first.click()
    found = axe.Axe().run(page)
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]] == []
    page.close()
