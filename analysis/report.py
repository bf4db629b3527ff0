"""Writes REPORT.md, report.html, their figures and tables from run directories.

    python analysis/report.py [runs=runs] [out=REPORT.md] [check=true]

runs   the folder of runs; relative to the current directory; default: runs in the project's root
out    the report; default: REPORT.md in the project's root. Beside it: report.html, one file with everything in it;
       in <out without .md>_files its figures, and in tables/ each table as CSV, all as JSON and as LaTeX (booktabs)
       Where nothing has changed since it was made, nothing is read and written again.
check  true: write nothing, compare `out` with what the records say (default runs=analysis/records);
       exit code 0 if it says the same, 1 with one line on the first difference if not
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from dynamic_rcnn import cli

if __name__ == "__main__":
    cli.exit_quietly_on_interrupt()

from analysis import unchanged
from analysis.leftovers import leftovers
from analysis.reading.records import collect
from analysis.rendering.data import to_csv, to_json
from analysis.rendering.latex import to_latex
from analysis.rendering.markdown import to_markdown
from analysis.rendering.markup import one_of
from analysis.rendering.model import IDENTIFIER, FigureFile, Page
from analysis.sections.page import TITLE, build
from dynamic_rcnn import PROJECT as ROOT
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.directory import write_bytes_atomic

RECORDS = ROOT / "analysis/records"
TABLES = "tables"
DEFAULTS = {"runs": "", "out": "", "check": "false"}


def main(arguments: Sequence[str]) -> int:
    """Exit code 0, or 1 where check=true finds a difference. Raises UserError for bad input."""
    values = cli.parse(arguments, DEFAULTS)
    check = cli.boolean("check", values["check"])
    runs = Path(values["runs"]) if values["runs"] else (RECORDS if check else ROOT / "runs")
    if values["runs"] and not values["out"] and runs.resolve() not in (ROOT / "runs", RECORDS):
        raise UserError(f"out= must be given beside runs={runs}: the default replaces the project's own REPORT.md")
    out = Path(values["out"]) if values["out"] else ROOT / "REPORT.md"
    if not cli.is_text(values["out"]):
        raise UserError(f"out={values['out']!a}: its name is no text; give another")
    if out.is_dir() or not out.parent.is_dir() or out.suffix != ".md":
        raise UserError(f"{out}: cannot be the report; out= must name a file in a folder that exists, ending in .md")
    if check:
        return report_difference(build(collect(runs)), out)
    _check_replaced(out)
    marker = figure_folder(out) / unchanged.NAME
    made_of = unchanged.inputs(runs) if runs.is_dir() else ""
    if unchanged.is_made_of(marker, made_of):
        print(f"{out}: unchanged")
        return 0
    records = collect(runs)
    written = write(build(records), out, unchanged.files_of(marker))
    is_running = (records.runs["state"] == "running").any()  # that it stops may change no file
    unchanged.remember(marker, None if is_running else made_of, written)
    counts = (("grid", records.grids), ("run", records.runs), ("problem", records.problems))
    print(f"{out}: {', '.join(one_of(noun, len(found)) for noun, found in counts)}")
    return 0


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


def write(page: Page, out: Path, earlier: set[Path]) -> list[Path]:
    """Figures and tables first, the pages that show them last, then away with what no page shows any more.

    earlier: the files that were written the last time. Returns those of now.
    """
    from analysis.rendering.html import to_html
    from analysis.rendering.plots import all_drawn

    folder = figure_folder(out)
    figures = all_drawn(page.figures)
    tables = {f"{each.name}.csv": to_csv(each.table) for each in page.tables}
    tables |= {"tables.json": to_json(page), "tables.tex": to_latex(page)}
    files = {folder / picture.name: picture.png for picture in page.pictures}
    files |= {folder / name: figure.svg for name, figure in figures.items()}
    files |= {folder / TABLES / name: text.encode() for name, text in tables.items()}
    files |= {html_page(out): to_html(page, figures).encode(), out: to_markdown(page, folder.name).encode()}
    for left in (left for path in files for left in leftovers(path, "tmp")):
        left.unlink(missing_ok=True)
    for path, content in files.items():
        write_bytes_atomic(path, content)
    drawn = {path for path in folder.glob("*.svg") if IDENTIFIER in path.read_text(encoding="utf-8", errors="replace")}
    for path in (drawn | {path for path in earlier if path.is_relative_to(folder)}) - set(files):
        path.unlink(missing_ok=True)
    return list(files)


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


def _is_drawn(figure: FigureFile, folder: Path) -> bool:
    path = folder / figure.name
    return path.is_file() and figure.identifier in path.read_text(encoding="utf-8", errors="replace")


if __name__ == "__main__":
    gc.disable()  # it ends soon, and looking for cycles among millions of rows takes a fifth of its time
    sys.exit(cli.run(main, __doc__ or ""))
