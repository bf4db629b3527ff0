"""Writes REPORT.md, report.html, their figures and tables from run directories.

    python analysis/report.py [runs=runs] [out=runs/REPORT.md] [check=true]

runs   the folder of runs, relative to the current directory; default: runs in the project's root
out    the Markdown file; default: REPORT.md in the folder of runs. Beside it: report.html, a page that needs no other
       file; in <out without .md>_files the figures, and in its folder tables each table as CSV, and all of them as
       JSON and as LaTeX (booktabs). A folder of records needs out=: it holds nothing but records.
check  true: write nothing and compare `out` with the records. Defaults: runs=analysis/records and the project's
       REPORT.md. Exit code 0 if they agree; 1 with one line on the first difference if they do not.

The committed report is written by: python analysis/report.py runs=analysis/records out=REPORT.md
"""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from urllib.parse import quote, unquote

from dynamic_rcnn import cli

if __name__ == "__main__":
    cli.exit_quietly_on_interrupt()

from analysis.reading import checksums
from analysis.reading.records import collect
from analysis.reading.run_files import REPORT
from analysis.rendering.data import to_csv, to_json
from analysis.rendering.latex import to_latex
from analysis.rendering.markdown import to_markdown
from analysis.rendering.model import IDENTIFIER, Figure, Page
from analysis.sections.page import TITLE, build
from dynamic_rcnn import PROJECT as ROOT
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import read_json, write_bytes_atomic
from dynamic_rcnn.wording import plural

RECORDS = ROOT / "analysis/records"
TABLES = "tables"
DEFAULTS = {"runs": "", "out": "", "check": "false"}


def main(arguments: Sequence[str]) -> int:
    """Exit code 0, or 1 where check=true finds a difference. Raises UserError for bad input."""
    values = cli.parse(arguments, DEFAULTS)
    check = cli.boolean("check", values["check"])
    runs = Path(values["runs"]) if values["runs"] else (RECORDS if check else ROOT / "runs")
    out = Path(values["out"]) if values["out"] else _default_out(runs, check)
    if not cli.is_text(values["out"]):
        raise UserError(f"out={values['out']!a}: its name is not valid UTF-8; give another name")
    if values["out"] and (out.is_dir() or not out.parent.is_dir() or out.suffix != ".md"):
        raise UserError(f"{out}: cannot be the report; out= must name a file in an existing folder, ending in .md")
    records = collect(runs)
    if check:
        return report_difference(build(records), out)
    _check_replaced(out)
    write(build(records), out)
    counts = (("grid", records.grids), ("run", records.runs), ("problem", records.problems))
    print(f"{out}: {', '.join(plural(noun, len(found)) for noun, found in counts)}")
    return 0


def _default_out(runs: Path, check: bool) -> Path:
    """The report beside the runs. For the committed records, which are only checked, the committed report."""
    if check and runs.resolve() == RECORDS:
        return ROOT / REPORT
    if (runs / checksums.NAME).exists():
        raise UserError(f"out= must be given for the records in runs={runs}: a report does not belong among records")
    return runs / REPORT


def _check_replaced(out: Path) -> None:
    """Raises UserError if what would be replaced is no report, or cannot be."""
    for path, sign in ((out, f"# {TITLE}\n"), (html_page(out), f"<title>{TITLE}</title>")):
        if path.exists() and (not path.is_file() or (path.stat().st_size and sign not in _beginning(path))):
            raise UserError(
                f"{path}: no report of this suite, and would be replaced; move it away or choose another out="
            )
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"{out.parent}: cannot be written to; out= must name a file in a folder that can")


def _beginning(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(1000)


def figure_folder(out: Path) -> Path:
    return out.with_name(f"{out.stem}_files")


def html_page(out: Path) -> Path:
    return out.with_name(f"{out.stem.lower()}.html")


def write(page: Page, out: Path) -> None:
    """Write the figures and tables, then the pages that show them; remove files of the previous report."""
    from analysis.rendering.html import to_html
    from analysis.rendering.plots import draw

    folder = figure_folder(out)
    previous = _previous_files(out)
    figures = {figure.name: draw(figure) for figure in page.figures}
    tables = {f"{each.name}.csv": to_csv(each.table) for each in page.tables}
    tables |= {"tables.json": to_json(page), "tables.tex": to_latex(page)}
    files = {folder / picture.name: picture.png for picture in page.pictures}
    files |= {folder / name: figure.svg for name, figure in figures.items()}
    files |= {folder / TABLES / name: text.encode() for name, text in tables.items()}
    files |= {html_page(out): to_html(page, figures).encode(), out: to_markdown(page, folder.name).encode()}
    for path, content in files.items():
        write_bytes_atomic(path, content)
    for path in previous - set(files):
        path.unlink(missing_ok=True)


def _previous_files(out: Path) -> set[Path]:
    """The figures, pictures and tables of the report at `out`: own drawings, what it links to, and its tables."""
    folder = figure_folder(out)
    drawn = {path for path in folder.glob("*.svg") if IDENTIFIER in path.read_text(encoding="utf-8", errors="replace")}
    text = out.read_text(encoding="utf-8", errors="replace") if out.exists() else ""
    links = re.findall(rf"]\({re.escape(quote(folder.name))}/([^/)]+)\)", text)
    try:
        tables = [f"{Path(each['name']).name}.csv" for each in read_json(folder / TABLES / "tables.json")["tables"]]
    except (UserError, LookupError, TypeError):
        tables = []
    return drawn | {folder / unquote(link) for link in links} | {folder / TABLES / name for name in tables}


def report_difference(page: Page, out: Path) -> int:
    """0 if `out` and its figures say what `page` does; else 1, and one line on stderr."""
    difference = first_difference(page, out)
    if difference:
        print(difference, file=sys.stderr)
    return 1 if difference else 0


def first_difference(page: Page, out: Path) -> str | None:
    """Where `out` and its figures differ from `page`, or None. Figures are compared by their numbers."""
    if not out.is_file():
        return f"{out}: missing"
    committed = out.read_bytes().decode(errors="replace")
    expected = to_markdown(page, figure_folder(out).name)
    if committed != expected:
        return f"{out}: {_first_line(committed.split(chr(10)), expected.split(chr(10)))}"
    folder = figure_folder(out)
    different = [figure.name for figure in page.figures if not _is_drawn(figure, folder)]
    different += [each.name for each in page.pictures if not _is_same(folder / each.name, each.png)]
    return f"{folder / different[0]}: not drawn from these records" if different else None


def _first_line(committed: list[str], expected: list[str]) -> str:
    pairs = enumerate(zip_longest(committed, expected, fillvalue=None), start=1)
    number, (ours, theirs) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    return f"line {number} is {_shown(ours)}, the records say {_shown(theirs)}"


def _shown(line: str | None) -> str:
    return "missing" if line is None else repr(line if len(line) <= 160 else line[:157] + "...")


def _is_same(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _is_drawn(figure: Figure, folder: Path) -> bool:
    path = folder / figure.name
    return path.is_file() and figure.identifier in path.read_text(encoding="utf-8", errors="replace")


if __name__ == "__main__":
    gc.disable()  # it ends soon, and looking for cycles among millions of rows takes a fifth of its time
    sys.exit(cli.run(main, __doc__ or ""))
