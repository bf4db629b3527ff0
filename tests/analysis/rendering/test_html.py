"""The HTML page, in a real browser: sorting, filters, the runs behind a number, copying, widths, dark, print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis.rendering.model import Number, TableCell, table
from tests.analysis.rendering.in_browser import ARE_UNPACKED, HOSTILE, UNFOLD, collect_errors, write_page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
# Of every element with text of its own: its text, its colour, and the first background behind it that is there.
COLOURS = """() => [...document.querySelectorAll("body *:not(script)")]
  .filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
  .map((element) => {
    const background = (at) => getComputedStyle(at).backgroundColor;
    let behind = element;
    while (behind.parentElement && background(behind) === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
    return [element.tagName + " " + element.textContent.trim(), getComputedStyle(element).color, background(behind)];
  })"""
PLOT = ".plot[aria-label^='AP against the IoU threshold']"


def test_text_of_records_is_not_run_as_html(page: sync_api.Page) -> None:
    assert page.evaluate("window.hacked") is None
    assert HOSTILE in page.locator("main").inner_text()


def column(page: sync_api.Page, name: str) -> list[str]:
    return page.locator("[id^=shapes] table").nth(0).locator(f"tbody td:nth-child({name})").all_inner_texts()


def test_a_column_sorts_both_ways(page: sync_api.Page) -> None:
    title = page.locator("[id^=shapes] table").nth(0).locator("th").nth(3)
    assert title.inner_text() == "AP"
    before = column(page, "4")
    title.locator("button").click()
    assert column(page, "4") == sorted(before, key=lambda text: float(text.split()[0]))
    assert title.get_attribute("aria-sort") == "ascending"
    title.locator("button").click()
    assert column(page, "4")[0].startswith("51.00") and title.get_attribute("aria-sort") == "descending"


@pytest.mark.parametrize(
    ("at", "rising", "falling"),
    [
        (1, ["0f48", "21f0", "8c77", "9e01", "–"], ["9e01", "8c77", "21f0", "0f48", "–"]),
        (2, ["2", "3", "10", "11", "–"], ["11", "10", "3", "2", "–"]),
        (3, ["-1.50", "9.0 ± 1", "10.0 ± 1", "–", "never"], ["10.0 ± 1", "9.0 ± 1", "-1.50", "–", "never"]),
        (4, ["no", "no", "no", "yes", "–"], ["yes", "no", "no", "no", "–"]),
    ],
)
def test_text_and_numbers_sort_by_value_and_missing_values_last(
    browser: sync_api.Browser, tmp_path: Path, at: int, rising: list[str], falling: list[str]
) -> None:
    ten, nine = (Number(value, "mean", 1, note=" ± 1") for value in (10, 9))
    measured = ["–", ten, "never", nine, "-1.50"]
    ids, seeds = ["–", "8c77", "21f0", "9e01", "0f48"], ["2", "–", "11", "10", "3"]
    within = ["yes", "no", "–", "no", "no"]
    rows = list(zip(ids, seeds, measured, within, strict=True))
    page = browser.new_page()
    page.goto(write_page(tmp_path, table(["id", "seed", "AP", "within"], rows, 2)))
    for expected in (rising, falling):
        page.locator(f"th:nth-child({at}) button").click()
        assert page.locator(f"tbody tr > :nth-child({at})").all_inner_texts() == expected
    page.close()


def test_a_number_shows_its_runs(page: sync_api.Page) -> None:
    page.locator("td a", has_text="51.00 ± 1.00").first.click()
    dialog = page.locator("dialog")
    assert dialog.is_visible() and dialog.locator(".run").count() == 3
    text = dialog.inner_text()
    assert "shapes/both/seed2-" in text and "0123456789abcdef" in text and "attempts" in text
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()
    assert page.locator("#runs .run").count() == 13


def test_without_javascript_a_number_links_to_its_first_run(browser: sync_api.Browser, page_file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.locator("details.section > summary").first.click()
    page.locator("td a", has_text="51.00 ± 1.00").first.click()
    target = page.locator(page.url[page.url.index("#") :])
    assert "shapes/both/seed0-" in target.inner_text()
    context.close()


def test_lists_have_bullets_and_the_contents_stay_in_sight(browser: sync_api.Browser, page_file: Path) -> None:
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 844})
        page.goto(page_file.as_uri())
        assert page.locator("main li").first.evaluate("item => getComputedStyle(item).display") == "list-item"
        page.locator("nav a", has_text="How to rebuild this page").click()
        box = page.locator("nav").bounding_box()
        assert box is not None and abs(box["y"]) < 100
        page.close()


def test_the_first_screen_answers_and_grids_are_folded(browser: sync_api.Browser, page_file: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(page_file.as_uri())
    for text in ("Does Dynamic R-CNN work?", "What does it cost?", "COCO, on which the paper's claims are decided"):
        box = page.get_by_text(text).first.bounding_box()
        assert box is not None and box["y"] + box["height"] <= 900
    shown = page.locator("#answers :is(figure img, tbody tr)")
    bottoms = shown.evaluate_all("all => all.map((each) => each.getBoundingClientRect().bottom)")
    assert len(bottoms) == 2 + 4 and max(bottoms) <= 900  # two figures and four arms
    grid = page.locator("details[id^=shapes]")
    assert (
        not grid.locator("table").first.is_visible() and "both minus baseline" in grid.locator("summary").inner_text()
    )
    page.locator("#answers a", has_text="Does Dynamic R-CNN work?").click()
    assert grid.locator("table").first.is_visible()
    page.close()


def test_tables_are_filtered_by_arm_and_metric(page: sync_api.Page) -> None:
    grid = page.locator("details[id^=shapes]")
    grid.get_by_label("Rows with").fill("both dla")
    grid.get_by_label("Columns with").fill("ap90")
    shown = grid.locator("table").first
    assert [text.strip() for text in shown.locator("thead th:visible").all_inner_texts()] == ["arm", "runs", "AP90"]
    assert [text.split(":")[0] for text in shown.locator("tbody th:visible").all_inner_texts()] == [
        "dla",
        "both",
    ]
    grid.get_by_label("Rows with").fill("")
    grid.get_by_label("Columns with").fill("")
    assert shown.locator("thead th:visible").count() > 5 and shown.locator("tbody tr:visible").count() == 4


def test_any_text_cell_is_filtered_and_the_page_says_what_it_found(browser: sync_api.Browser, tmp_path: Path) -> None:
    rows = [["0.5", "baseline/seed0", "-", "41", "10"], ["0.75", "both", "dla, dsl", "51", "20"]]
    url = write_page(tmp_path, table(["IoU", "arm", "parts", "AP", "AP90"], rows, 3), summary="one line")
    page = browser.new_page()
    page.goto(url)
    page.evaluate(UNFOLD)
    found, row, status = page.get_by_label("Rows with"), page.locator("tbody tr:visible"), page.get_by_role("status")
    for words, expected, said in [
        ("seed0", ["0.5"], "Rows: 1."),
        ("BASELINE/seed0", ["0.5"], "Rows: 1."),
        ("dsl", ["0.75"], "Rows: 1."),
        ("41", [], "No row matches."),
        ("both, baseline", ["0.5", "0.75"], "Rows: 2."),
        ("", ["0.5", "0.75"], ""),
    ]:
        found.fill(words)
        assert row.locator("th").all_inner_texts() == expected and status.inner_text() == said
        content = page.locator("tbody").evaluate("body => getComputedStyle(body, '::after').content")
        assert ("No row matches." in content) == (expected == [])
    columns, text = page.get_by_label("Columns with"), ["IoU", "arm", "parts"]
    for words, expected in [("ap90", [*text, "AP90"]), ("nothing", [*text, "AP", "AP90"])]:
        columns.fill(words)
        assert page.locator("thead th:visible").all_inner_texts() == expected
    assert status.inner_text() == "No column matches."
    assert page.locator("form.filter").get_attribute("autocomplete") == "off"
    page.close()


def test_a_click_marks_the_cell_and_headings_have_links(page: sync_api.Page) -> None:
    for text in ("51.00 ± 1.00", "42.00 ± 1.00"):
        page.locator("td a", has_text=text).first.click()
        page.get_by_role("button", name="Close").click()
        assert page.locator(".clicked").all_inner_texts()[0].startswith(text)
    headings = page.locator("main :is(h2, h3, figcaption)")
    anchors = headings.locator(".anchor").evaluate_all("links => links.map(link => link.hash.slice(1))")
    assert len(set(anchors)) == len(anchors) == headings.count() - page.locator("#runs .run h3").count()
    assert "runs" in anchors and sum("-figure-" in anchor for anchor in anchors) == page.locator("figure").count() > 3
    assert all(page.locator(f'[id="{anchor}"]').count() == 1 for anchor in anchors)


def test_a_button_copies_a_command(browser: sync_api.Browser, page_file: Path) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.locator("#answers .copy").first.click()
    page.get_by_text("Copied").wait_for()
    command = "python experiments/launch.py grid=ablation dataset=coco dataset.root=/data/coco"
    assert page.evaluate("navigator.clipboard.readText()") == command
    context.close()


def test_commands_in_the_dialog_are_copied_and_the_page_says_so(browser: sync_api.Browser, tmp_path: Path) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(write_with_a_run(tmp_path))
    page.locator("td a").click()
    dialog = page.locator("dialog")
    assert dialog.get_by_role("status").inner_text() == ""
    dialog.get_by_role("button", name="Copy this command").click()
    dialog.get_by_role("status").get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "python run.py arm=both"
    context.close()


def write_with_a_run(folder: Path) -> str:
    """A page with one number, and one run behind it with its command."""
    cells = table(["arm", "AP"], [["both", TableCell(Number(1.0), ["run"])]])
    return write_page(folder, cells, runs={"run": {"command": "python run.py arm=both"}})


@pytest.mark.parametrize("clipboard", ["undefined", "{ writeText: () => Promise.reject(new Error('denied')) }"])
def test_a_command_that_cannot_be_copied_is_selected(
    browser: sync_api.Browser, page_file: Path, clipboard: str
) -> None:
    page = browser.new_page()
    errors = collect_errors(page)
    page.add_init_script(f"Object.defineProperty(navigator, 'clipboard', {{ value: {clipboard} }})")
    page.goto(page_file.as_uri())
    page.locator("#rebuild .copy").click()
    page.locator("#rebuild").get_by_role("status").get_by_text("Not copied, but selected").wait_for()
    assert page.evaluate("getSelection().toString().trim()") == page.locator("#rebuild pre").inner_text().strip()
    assert errors == []
    page.close()


def test_ctrl_click_on_a_number_opens_its_link(browser: sync_api.Browser, tmp_path: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(write_with_a_run(tmp_path))
    with context.expect_page(timeout=5000) as opened:
        page.locator("td a").click(modifiers=["Control"])
    opened.value.wait_for_url("**#run-0")
    assert not page.locator("dialog").is_visible() and not page.locator("#run-0").is_visible()
    context.close()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_screen(browser: sync_api.Browser, page_file: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(page_file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(UNFOLD)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert all(page.locator("main img").nth(at).bounding_box()["width"] > 250 for at in range(5))  # type: ignore[index]
    page.close()


def test_dark_and_light_have_contrast_and_print_is_complete(browser: sync_api.Browser, page_file: Path) -> None:
    dark: dict[str, bool] = {}
    for scheme in ("dark", "light"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(page_file.as_uri())
        page.evaluate(UNFOLD)
        page.wait_for_function(ARE_UNPACKED)
        page.locator(PLOT).first.press("ArrowRight")
        shown = page.evaluate(COLOURS)
        assert {"P", "LI", "TD", "A", "BUTTON", "FIGCAPTION", "DT", "DIV"} <= {text.split()[0] for text, *_ in shown}
        assert [each for each in shown if contrast(*each[1:]) < 4.5] == []
        dark[scheme] = luminance(shown[0][2]) < 0.05
        page.emulate_media(media="print")
        assert not page.locator("nav").is_visible() and page.locator("#runs .run").first.is_visible()
        assert page.pdf().startswith(b"%PDF")
        page.close()
    assert dark == {"dark": True, "light": False}


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio of two colours, from 1 to 21; text needs 4.5."""
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance of rgb(r, g, b)."""
    shares = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_first_column_stays_in_place_when_a_table_is_scrolled(page: sync_api.Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    frame = page.locator(".scroll", has=page.locator("th", has_text="0.95")).first
    assert frame.evaluate("frame => { frame.scrollLeft = 200; return frame.scrollLeft }") == 200
    arm, edge = frame.locator("tbody th").first.bounding_box(), frame.bounding_box()
    assert arm is not None and edge is not None and arm["x"] == edge["x"]
