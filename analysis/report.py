"""Write REPORT.md and report.html with their figures and tables from run directories.

    python analysis/report.py [runs=runs] [out=runs/REPORT.md] [against=FOLDER] [check=true]

runs     the folder of runs, relative to the current directory; default: runs in the project's root
out      the Markdown file; default: REPORT.md in the folder of runs. Beside it: report.html, a page that needs no other
         file; in <out without .md>_files the figures, and in its folder tables each table as CSV, and all of them as
         JSON and as LaTeX (booktabs). A folder of records needs out=: it holds nothing but records.
against  another folder of runs or records: say which means and differences of `runs` reproduce those of this folder, on
         the terminal and in a section of the report. What cannot be compared is named, and is no error.
check    true: write nothing and compare `out` with the records. Defaults: runs=analysis/records, the project's
         REPORT.md and against=analysis/replication. Exit code 0 if they agree; 1 with one line on the first difference
         if they do not.

Problems found while reading are printed and listed in the report. The committed report is written by:
    python analysis/report.py runs=analysis/records against=analysis/replication out=REPORT.md
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
    cli.prepare_process()

from analysis.reading import checksums
from analysis.reading.image_statistics import ImageStatistics
from analysis.reading.reader import REPORT
from analysis.reading.run_table import collect
from analysis.rendering.data import to_csv, to_json
from analysis.rendering.latex import to_latex
from analysis.rendering.markdown import to_markdown
from analysis.rendering.model import IDENTIFIER, Page
from analysis.rendering.terminal import to_terminal
from analysis.sections import replication_section
from analysis.sections.page import TITLE, build
from analysis.stats.replication import replications
from dynamic_rcnn import PROJECT as ROOT
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import read_json, write_bytes_atomic
from dynamic_rcnn.wording import plural

RECORDS = ROOT / "analysis/records"
REPLICATION = "analysis/replication"  # of the ablation in other arithmetic; the committed report compares the two
TABLES = "tables"
DEFAULTS = {"runs": "", "out": "", "against": "", "check": "false"}


def main(arguments: Sequence[str]) -> int:
    """Exit code 0, or 1 if check=true finds a difference. Raises UserError for bad input."""
    values = cli.parse(arguments, DEFAULTS)
    check = cli.boolean("check", values["check"])
    runs = Path(values["runs"]) if values["runs"] else (RECORDS if check else ROOT / "runs")
    out = Path(values["out"]) if values["out"] else _default_out(runs, check)
    if not cli.is_text(values["out"]):
        raise UserError(f"out={values['out']!a}: its name is not valid UTF-8; choose another name")
    if values["out"] and (out.is_dir() or not out.parent.is_dir() or out.suffix != ".md"):
        raise UserError(f"out={out}: must name a file in an existing folder, ending in .md")
    records, given = collect(runs), values["against"]
    records.images = {key: _relative(each, runs, out) for key, each in records.images.items()}
    is_committed = check and runs.resolve() == RECORDS and (ROOT / REPLICATION).is_dir()
    other = given or (REPLICATION if is_committed else "")
    found = replications(records, collect(Path(given or ROOT / REPLICATION), "against")) if other else []
    page = build(records, replication_section.section(found, other) if other else None)
    if check:
        if difference := first_difference(page, out):
            print(difference, file=sys.stderr)
            return 1
        print(f"{out}: up to date")
        return 0
    _check_replaced(out)
    write(page, out)
    counts = (("grid", records.grids), ("run", records.runs), ("problem", records.problems))
    print(to_terminal(page.sections[0].blocks) + "\n")
    print(f"{out}, {html_page(out)}: {', '.join(plural(noun, len(found)) for noun, found in counts)}")
    records.print_problems()
    if other:
        print(replication_section.to_terminal(found, other))
    return 0


def _relative(statistics: ImageStatistics, runs: Path, out: Path) -> ImageStatistics:
    """The path of the page to browse detections, relative to the folder of the report."""
    path = statistics.browser and os.path.relpath(runs / statistics.browser, out.parent)
    return statistics.model_copy(update={"browser": path})


def _default_out(runs: Path, check: bool) -> Path:
    """The report beside the runs. For the committed records, which are only checked, the committed report."""
    if check and runs.resolve() == RECORDS:
        return ROOT / REPORT
    if (runs / checksums.NAME).exists():
        raise UserError(f"out= must be given for the records in runs={runs}: reports must not be written among records")
    return runs / REPORT


def _check_replaced(out: Path) -> None:
    """Raise UserError if a file that is not a report would be replaced, or if the folder is not writable."""
    for path, mark in ((out, f"# {TITLE}\n"), (html_page(out), f"<title>{TITLE}</title>")):
        if path.exists() and (not path.is_file() or (path.stat().st_size and mark not in _text(path)[:1000])):
            raise UserError(f"{path}: not a report of this suite; move it away or choose another out=")
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"{out.parent}: not writable; out= must name a file in a writable folder")


def _text(path: Path) -> str:
    """The text of a file; empty if there is none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def figure_folder(out: Path) -> Path:
    return out.with_name(f"{out.stem}_files")


def html_page(out: Path) -> Path:
    return out.with_name(f"{out.stem.lower()}.html")


def write(page: Page, out: Path) -> None:
    """Write the figures and tables, then the pages that show them; remove files of the previous report."""
    from analysis.rendering.html import to_html
    from analysis.rendering.plots import draw_all

    folder = figure_folder(out)
    previous = _previous_files(out)
    figures = draw_all(page.figures)
    tables = {f"{each.name}.csv": to_csv(each.table) for each in page.tables}
    tables |= {"tables.json": to_json(page), "tables.tex": to_latex(page)}
    files = {folder / picture.name: picture.png for picture in page.pictures}
    files |= {folder / name: figure.svg for name, figure in figures.items()}
    files |= {folder / TABLES / name: text.encode() for name, text in tables.items()}
    files |= {html_page(out): to_html(page, figures).encode()}
    files |= {path: text.encode() for path, text in reversed(_markdown_pages(page, out).items())}  # main page last
    for path, content in files.items():
        write_bytes_atomic(path, content)
    for path in previous - set(files):
        path.unlink(missing_ok=True)


def _markdown_pages(page: Page, out: Path) -> dict[Path, str]:
    """The main page and those of its sections."""
    folder = figure_folder(out)
    return {folder / name if name else out: text for name, text in to_markdown(page, out.name, folder.name).items()}


def _previous_files(out: Path) -> set[Path]:
    """What the report at `out` consists of: its pages, its figures, the pictures that they show, and its tables."""
    folder = figure_folder(out)
    drawn = {path for path in folder.glob("*.svg") if IDENTIFIER in _text(path)}
    links = re.findall(rf"]\({re.escape(quote(folder.name))}/([^/)]+)\)", _text(out))
    for name in [unquote(link) for link in links if link.endswith(".md")]:
        links += re.findall(r"!\[[^]]*]\(([^/)]+)\)", _text(folder / name))
    try:
        tables = [f"{Path(each['name']).name}.csv" for each in read_json(folder / TABLES / "tables.json")["tables"]]
    except (UserError, LookupError, TypeError):
        tables = []
    return drawn | {folder / unquote(link) for link in links} | {folder / TABLES / name for name in tables}


def first_difference(page: Page, out: Path) -> str | None:
    """Where `out` and its figures differ from `page`, or None. Figures are compared by the numbers behind them."""
    folder = figure_folder(out)
    for path, expected in _markdown_pages(page, out).items():
        if difference := _first_different_line(path, expected):
            return difference
    different = [figure.name for figure in page.figures if figure.identifier not in _text(folder / figure.name)]
    for picture in page.pictures:
        path = folder / picture.name
        different += [] if path.is_file() and path.read_bytes() == picture.png else [picture.name]
    return f"{folder / different[0]}: not drawn from these records" if different else None


def _first_different_line(path: Path, expected: str) -> str | None:
    if not path.is_file():
        return f"{path}: missing"
    lines = path.read_bytes().decode(errors="replace").split("\n"), expected.split("\n")
    for number, (ours, theirs) in enumerate(zip_longest(*lines), start=1):
        if ours != theirs:
            return f"{path}: line {number} is {_shown(ours)}, the records give {_shown(theirs)}"
    return None


def _shown(line: str | None) -> str:
    return "missing" if line is None else repr(line if len(line) <= 160 else line[:157] + "...")


if __name__ == "__main__":
    gc.disable()  # collecting among millions of rows takes a fifth of the time of this short process
    sys.exit(cli.run(main, __doc__ or ""))
