"""The browser of detections in a real browser: toggles, filters, text alternatives, widths, dark."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.analysis.detections.test_browser import draw
from tests.analysis.rendering.test_html import COLOURS, contrast, luminance

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.html").write_text(draw(folder)[1])
    return folder / "page.html"


def labels(page: sync_api.Page) -> list[str]:
    """What the boxes on visible images are, without the text of the hostile class name."""
    texts = page.locator("figure:not([hidden]) svg title").all_text_contents()
    return [text.replace("</script><script>window.hacked=1</script>", "dog").replace("猫<b>", "cat") for text in texts]


def alternatives(page: sync_api.Page) -> list[str]:
    images = page.locator("figure:not([hidden]) img")
    return [images.nth(at).get_attribute("alt") or "" for at in range(images.count())]


def test_the_arm_is_shown_first_and_arrow_keys_switch_to_the_baseline(page: sync_api.Page) -> None:
    assert alternatives(page) == [
        "Image 3, objects: 1; both: 1 correct",
        "Image 9, objects: 4; both: 1 classification, 1 duplicate, 2 correct",
    ]
    assert labels(page)[2:6] == ["dog", "cat", "cat", "dog crowd"]
    page.get_by_role("radio", name="both").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.get_by_role("radio", name="baseline").is_checked()
    assert alternatives(page) == [
        "Image 3, objects: 1; baseline: 1 missed",
        "Image 9, objects: 4; baseline: 1 localisation, 1 background, 1 missed, 1 correct, 1 ignored",
    ]
    page.get_by_role("checkbox", name="ground truth").press("Space")
    assert labels(page) == ["dog 0.90", "cat 0.80 localisation", "cat 0.70 background", "dog 0.60 ignored"]


def test_one_over_the_other_shows_both(page: sync_api.Page) -> None:
    page.get_by_role("radio", name="one over the other").check()
    page.get_by_label("ground truth").uncheck()
    assert len(labels(page)) == 1 + 4 + 4
    assert page.locator("svg .arm0").count() == 4 and page.locator("svg .arm1").count() == 5
    assert alternatives(page)[0] == "Image 3, objects: 1; baseline: 1 missed; both: 1 correct"


def test_filters(page: sync_api.Page) -> None:
    cases: list[tuple[str, dict[str, str], list[str], str]] = [
        ("both", {"kind": "duplicate"}, ["dog 0.80 duplicate"], "1 of 2 images, matching boxes: 1"),
        ("both", {"kind": "localisation"}, [], "0 of 2 images, matching boxes: 0"),
        (
            "both",
            {"kind": "localisation", "iou": "0.90"},
            ["dog 0.80 localisation"],
            "1 of 2 images, matching boxes: 1",
        ),
        ("baseline", {"kind": "missed"}, ["cat missed", "cat missed"], "2 of 2 images, matching boxes: 2"),
        ("baseline", {"kind": "missed", "size": "large"}, ["cat missed"], "1 of 2 images, matching boxes: 1"),
        ("both", {"size": "large"}, ["cat 0.60"], "1 of 2 images, matching boxes: 3"),  # two are objects
        ("both", {"class": "猫<b>"}, ["cat 0.90", "cat 0.60"], "2 of 2 images, matching boxes: 5"),
    ]
    for arm, chosen, expected, count in cases:
        page.get_by_role("radio", name=arm).check()
        page.get_by_label("ground truth").uncheck()
        for name, option in chosen.items():
            page.locator(f"select[name={name}]").select_option(label=option)
        shown = [each for each in labels(page) if chosen.get("kind") != "missed" or each.endswith("missed")]
        assert (shown, page.get_by_role("status").inner_text()) == (expected, count)
        page.get_by_role("button", name="Reset").click()
        page.wait_for_function("document.getElementById('count').textContent.startsWith('2 of 2 images')")
        assert page.get_by_role("radio", name="both").is_checked()


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen(browser: sync_api.Browser, page_file: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(page_file.as_uri())
    page.get_by_text("How they were chosen").click()
    page.get_by_label("Width of images").press("End")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [page.locator("svg").first.bounding_box(), page.locator("figure img").first.bounding_box()]
    assert boxes[0] == boxes[1] and boxes[0] is not None and boxes[0]["width"] == pytest.approx(width - 32, abs=1)
    page.close()


def test_dark_and_light_have_contrast(browser: sync_api.Browser, page_file: Path) -> None:
    dark: dict[str, bool] = {}
    for scheme in ("dark", "light"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(page_file.as_uri())
        page.get_by_text("How they were chosen").click()
        shown = [each for each in page.evaluate(COLOURS) if each[0].split()[0].isupper()]  # not those of an SVG
        assert {"P", "DT", "LABEL", "BUTTON", "DIV", "SPAN"} <= {text.split()[0] for text, *_ in shown}
        assert [each for each in shown if contrast(*each[1:]) < 4.5] == []
        dark[scheme] = luminance(shown[0][2]) < 0.05
        page.close()
    assert dark == {"dark": True, "light": False}
