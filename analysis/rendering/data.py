"""The report's tables for other programs: each as CSV, and all of them as JSON."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from analysis.rendering.model import Page, Table, TableCell

SCHEMA = 1
SMALL = 1e-4
VALUE = "value"  # the name of a number that is alone in its cell


def to_csv(table: Table) -> str:
    """A table as CSV.

    Each kind of number of a column has a column of its own ("AP mean", "AP sd"), with six decimals, empty where a cell
    has no such number. A column without numbers has its text.
    """
    kinds = [
        list(dict.fromkeys(name for row in table.rows for name in row[index].numbers)) or [""]
        for index in range(len(table.header))
    ]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = [(title, name) for title, names in zip(table.header, kinds, strict=True) for name in names]
    writer.writerow([f"{title} {name}" if name not in ("", VALUE) else str(title) for title, name in columns])
    for row in table.rows:
        cells = [(cell, name) for cell, names in zip(row, kinds, strict=True) for name in names]
        writer.writerow([_csv_number(cell.numbers.get(name)) if name else str(cell.text) for cell, name in cells])
    return buffer.getvalue()


def to_json(page: Page) -> str:
    """All tables with the text, numbers (to six decimals) and runs of each cell, and the facts about each run."""
    tables = [
        {
            "name": each.name,
            "title": each.title,
            "header": [str(title) for title in each.table.header],
            "rows": [[_json_cell(cell) for cell in row] for row in each.table.rows],
        }
        for each in page.tables
    ]
    content = {"schema": SCHEMA, "title": page.title, "tables": tables, "runs": page.runs}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _json_cell(cell: TableCell) -> dict[str, Any]:
    numbers = {name: _rounded(value) for name, value in cell.numbers.items()}
    known = {"numbers": numbers, "runs": list(cell.runs)}
    return {"text": str(cell.text), **{name: value for name, value in known.items() if value}}


def _rounded(value: float) -> float:
    """To six decimals; a small value, as p may be, to three digits."""
    return float(f"{value:.3g}") if 0 < abs(value) < SMALL else round(value, 6) + 0.0


def _csv_number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if 0 < abs(value) < SMALL else f"{_rounded(value):.6f}"
