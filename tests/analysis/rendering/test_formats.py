"""One table in every format: its text, its numbers, and the runs behind them."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
from html import unescape
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from analysis.reading.run_table import collect
from analysis.rendering import html, latex, markdown
from analysis.rendering.data import to_csv, to_json
from analysis.rendering.model import Heading, NamedTable, Number, Page, Section, table
from analysis.rendering.text import BREAK, Line, code, emphasis, join, slug, strong, to_text
from analysis.sections.page import build
from tests.analysis.synthetic import RunsFolder, ablation, edit_json, write_report
from tests.programs import program

HOSTILE = r"</script><b>&amp; \end{table} 50%_$x$ #~^ `|` *a*"


def named(page: Page, name: str) -> NamedTable:
    (found,) = [each for each in page.tables if each.name == name]
    return found


@pytest.mark.parametrize(
    ("line", "as_markdown", "as_html", "as_latex", "as_text"),
    [
        (
            strong("+1.00") + BREAK + "[-0.52, +2.52]",
            *("**+1.00**<br>[-0.52, +2.52]", "<strong>+1.00</strong> <br>[-0.52, +2.52]"),
            *(r"\textbf{+1.00} [-0.52, +2.52]", "+1.00 [-0.52, +2.52]"),
        ),
        (
            emphasis("a") + " " + code("b_c"),
            *("*a* `b_c`", "<em>a</em> <code>b_c</code>", r"\emph{a} \texttt{b\_c}", "a b_c"),
        ),
        ("1 ± 2 –", "1 ± 2 –", "1 ± 2 –", r"1 $\pm$ 2 --", "1 ± 2 –"),
        ("p < 0.10, K_I", r"p < 0.10, K\_I", "p &lt; 0.10, K_I", r"p $<$ 0.10, K\_I", "p < 0.10, K_I"),
        ("<b>|a_b*&", r"&lt;b&gt;\|a\_b\*&", "&lt;b&gt;|a_b*&amp;", r"$<$b$>$$|$a\_b*\&", "<b>|a_b*&"),
    ],
)
def test_a_line_in_each_format(line: Line, as_markdown: str, as_html: str, as_latex: str, as_text: str) -> None:
    assert markdown.inline(line) == as_markdown
    assert html.inline(line) == as_html
    assert latex.inline(line) == as_latex
    assert str(to_text(line)) == as_text


@pytest.mark.parametrize(
    "text",
    [HOSTILE, "", " ", "a\nb", "![x](y)", "[x](y)", "[x]: y", "[x][y]", "<br>", "&lt; & &#65;", "<a", "~~a~~", "[x"],
)
def test_markdown_shows_the_text_of_records_unchanged(text: str) -> None:
    """Rendered by an independent CommonMark parser."""
    for line, expected in ((to_text(text), text), (code(text), text.replace("`", "'").replace("|", "/"))):
        rendered = MarkdownIt("commonmark").render(f"a {markdown.inline(line)}")
        shown = unescape(re.sub(r"</?(p|code)>", "", rendered))
        assert shown.split() == ["a", *expected.split()] or not expected.strip()
    assert str(to_text(text)) == " ".join(text.split())


def test_lines_of_several_styles_are_joined() -> None:
    line = join(", ", ["a", code("b"), "c" + strong("d")])
    assert markdown.inline(line) == "a, `b`, c**d**" and str(join(", ", [])) == ""
    assert markdown.inline("x]" + to_text("(y)")) == r"x\](y)"


def test_tables_are_named_after_their_headings() -> None:
    one = table(["a"], [["x"]])
    blocks = [one, Heading("AP by arm"), "text", one, one, Heading("AP, by arm"), one]
    page = Page("", [Section("key", "The " + emphasis("grid") + " (shapes)", blocks)], {})
    assert [each.name for each in page.tables] == ["key", "key-ap-by-arm", "key-ap-by-arm-2", "key-ap-by-arm-3"]
    assert [each.title for each in page.tables][1] == "The grid (shapes): AP by arm"
    assert slug("K_I: 75!") == "k-i-75"


def test_small_numbers_keep_their_digits() -> None:
    made = table(["arm", "AP"], [["both", Number(0.0000055432, "p", more={"difference": 1 / 3})]])
    assert to_csv(made).splitlines()[1] == "both,5.54e-06,0.333333"


def test_csv_has_numbers_or_else_text() -> None:
    rows = [["a, " + code("b"), Number(41.0, "mean", sd=1.0), Number(3, digits=0)], ["noise", "–", "–"]]
    made = table(["arm", "AP", "n"], rows)
    assert list(csv.reader(io.StringIO(to_csv(made)))) == [
        ["arm", "AP mean", "AP sd", "n"],
        ["a, b", "41.000000", "1.000000", "3.000000"],
        ["noise", "", "", ""],
    ]


def test_a_number_shows_its_digits_sign_sd_and_interval() -> None:
    shown = {
        "–": Number(None, "mean", sd=1.0),
        "41.00 ± 1.00 (n = 2) [39.90, 42.10]": Number(41.0, "mean", sd=1.0, low=39.9, high=42.1, note=" (n = 2)"),
        "41.0 [39.9, 42.1]": Number(41.0, "mean", 1, sd=1.0, low=39.9, high=42.1, hidden=["sd"]),
        "0.00 ± 1.00": Number(-0.001, "mean", sd=1.0, low=39.9, high=42.1, hidden=["interval"]),
        "+1.50 [-0.50, 0.00]": Number(1.5, "difference", is_signed=True, low=-0.5, high=0.001),
    }
    assert {str(each.text): each for each in shown.values()} == shown
    assert Number(0.5, "sd", more={"df": 2, "p": None}).known == {"sd": 0.5, "df": 2}


def test_cells_have_their_numbers_and_runs(tmp_path: Path) -> None:
    """both minus baseline: 51 against 41, sd 0.5 in a block, df 6 (see test_report).

    p is three times that of t = 20 / sqrt(2/3) with 6 degrees of freedom, 3.04e-7.
    """
    folder = ablation(tmp_path)
    page = build(collect(tmp_path))
    content = json.loads(to_json(page))
    name = "shapes-ablation-0123456789-difference-from-the-baseline"
    (found,) = [each for each in content["tables"] if each["name"] == name]
    (row,) = [row for row in found["rows"] if row[0]["text"].startswith("both")]
    assert found["header"][1] == "AP" and row[1]["text"] == "+10.00 [+9.00, +11.00]"
    assert row[1]["numbers"] == {"difference": 10.0, "low": 9.001052, "high": 10.998948, "p_holm": 9.13e-07}
    assert row[1]["runs"] == [folder.path(arm, seed) for arm in ("baseline", "both") for seed in range(3)]
    assert set(row[1]["runs"]) <= set(content["runs"])
    facts = content["runs"][folder.path("both", 2)]
    assert facts["seed"] == 2 and facts["commit"] == "0123456789abcdef" and facts["attempts"] == 1


def test_the_text_of_a_cell_begins_with_its_first_number(tmp_path: Path) -> None:
    """This holds for every cell that has numbers."""
    ablation(tmp_path)
    cells = [cell for each in build(collect(tmp_path)).tables for row in each.table.rows for cell in row]
    with_numbers = [cell for cell in cells if cell.numbers]
    assert len(with_numbers) > 100
    for cell in with_numbers:
        shown = str(cell.text).split()[0]
        digits = len(shown.split(".")[1]) if "." in shown else 0
        assert float(shown) == pytest.approx(next(iter(cell.numbers.values())), abs=0.51 * 10**-digits)


def test_every_measured_number_is_in_the_csv_and_has_runs(tmp_path: Path) -> None:
    """A number in the text is among the cell's numbers, and a measured one has runs."""
    ablation(tmp_path)
    for each in build(collect(tmp_path)).tables:
        if not each.name.startswith("shapes") or each.name.endswith(("paper-s-numbers", "not-comparable-with-shapes")):
            continue
        for row in each.table.rows:
            for cell in row[each.table.text_columns :]:
                shows_a_decimal = re.match(r"[+-]?\d+\.\d", str(cell.text)) is not None
                assert not shows_a_decimal or (cell.numbers and cell.runs), (each.name, row)


def test_every_table_is_written(tmp_path: Path) -> None:
    ablation(tmp_path / "runs")
    write_report(tmp_path / "runs", tmp_path / "R.md")
    tables = tmp_path / "R_files/tables"
    expected = {f"{each.name}.csv" for each in build(collect(tmp_path / "runs")).tables}
    assert {path.name for path in tables.iterdir()} == expected | {"tables.json", "tables.tex"}


@pytest.mark.parametrize(
    ("text", "as_latex"),
    [
        ("ƀ ɏ 漢 😀 \ud800", "[U+0180] [U+024F] [U+6F22] [U+1F600] [U+D800]"),
        ("a\x07\0b\x1b\u200b", "ab"),
        ("e\u0301 Łþŋ ×€", "é Łþŋ ×€"),
        ("± – − β ≥", r"$\pm$ -- $-$ $\beta$ $\geq$"),
    ],
)
def test_latex_shows_the_code_of_characters_that_it_does_not_support(text: str, as_latex: str) -> None:
    assert latex.inline(text) == as_latex


def compiled(text: str, folder: Path) -> str:
    """The log of pdflatex, run as often as longtable needs it."""
    (folder / "tables.tex").write_text(text, encoding="utf-8")
    command = [program("pdflatex"), "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "tables.tex"]
    for _ in range(2):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
        assert done.returncode == 0, done.stdout[-2000:]
    return (folder / "tables.log").read_text(encoding="utf-8", errors="replace")


def test_hostile_rows_compile_and_are_shown(tmp_path: Path) -> None:
    """LaTeX reads '*' and '[length]' after a row as arguments. The rows have all characters up to U+024F."""
    known = "—‘’‚“”„†‡•…‰‹›€™←↑→↓ȘșȚț−≤≥≈∞Δαβλμστ"
    texts = ["[1cm] a", "[b", "* c", "\x01[d]", HOSTILE, *map(chr, range(0x250)), *known, "漢😀\ud800\ufeff"]
    for rows in ([[text, "1"] for text in texts], [[known, "1"]]):
        page = Page("", [Section("key", "".join(texts[:4]), [table(["[a]", "*"], rows)])], {})
        text = latex.to_latex(page)
        assert re.search(r"^\s*[\[*]", text, re.MULTILINE) is None
        compiled(text, tmp_path)


@pytest.mark.parametrize("cell", ["1.0 ± 0.1", strong("+10.00") + BREAK + "[+8.48, +11.52]"])
def test_a_long_table_continues_over_pages_and_a_short_one_floats(tmp_path: Path, cell: Line) -> None:
    long, short = (table(["arm", *["AP"] * 7], [["arm", *[cell] * 7]] * rows) for rows in (200, 40))
    text = latex.to_latex(Page("", [Section("key", "Long", [long, Heading("Short"), short])], {}))
    assert text.count(r"\begin{longtable}") == text.count(r"\begin{table}") == 1
    assert text.index(r"\endfirsthead") < text.index(r"\endhead") < text.index(r"\begin{table}")
    log = compiled(text, tmp_path)
    assert "Float too large" not in log and "Overfull" not in log


def test_latex_compiles(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path / "runs")
    folder.done("baseline", 0, 0.4)
    folder.start("dla", 0, "failed", cause=HOSTILE)
    edit_json(folder.manifest(), title=HOSTILE, arms={"baseline": HOSTILE, "dla": "β and é"})
    text = latex.to_latex(build(collect(tmp_path / "runs")))
    assert r"\toprule" in text and r"\textbackslash{}end\{table\}" in text
    compiled(text, tmp_path)
    assert (tmp_path / "tables.pdf").stat().st_size > 10_000
