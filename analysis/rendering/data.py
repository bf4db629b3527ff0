"""The report's tables for other programs: a CSV a table, and all of them as one JSON."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from analysis.rendering.inline import plain
from analysis.rendering.model import Cell, Page, Table

SCHEMA = 1
SMALL = 1e-4
VALUE = "value"  # the number of a cell that has one alone


def to_csv(table: Table) -> str:
    """A column's numbers in columns of their own ('AP mean', 'AP sd'), to six decimals; its text where it has none.

    In a column of numbers, cells without one are empty.
    """
    kinds = [
        list(dict.fromkeys(name for row in table.rows for name in row[index].numbers))
        for index in range(len(table.header))
    ]
    header = [
        f"{plain(title)} {name}" if name not in ("", VALUE) else plain(title)
        for title, names in zip(table.header, kinds, strict=True)
        for name in names or [""]
    ]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for row in table.rows:
        cells = [
            _written(cell.numbers.get(name)) if name else plain(cell.text)
            for cell, names in zip(row, kinds, strict=True)
            for name in names or [""]
        ]
        writer.writerow(cells)
    return buffer.getvalue()


def to_json(page: Page) -> str:
    """All tables, with each cell's text, numbers (to six decimals) and runs; and what is known of each run."""
    tables = [
        {
            "name": each.name,
            "title": each.title,
            "header": [plain(title) for title in each.table.header],
            "rows": [[_cell(cell) for cell in row] for row in each.table.rows],
        }
        for each in page.tables
    ]
    content = {"schema": SCHEMA, "title": page.title, "tables": tables, "runs": page.runs}
    return json.dumps(content, indent=1, ensure_ascii=False, sort_keys=False) + "\n"


def _cell(cell: Cell) -> dict[str, Any]:
    numbers = {name: rounded(value) for name, value in cell.numbers.items()}
    known = {"numbers": numbers, "runs": list(cell.runs)}
    return {"text": plain(cell.text), **{name: value for name, value in known.items() if value}}


def rounded(value: float) -> float:
    """To six decimals; a small one, as p may be, to three digits."""
    return float(f"{value:.3g}") if 0 < abs(value) < SMALL else round(value, 6) + 0.0


def _written(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if 0 < abs(value) < SMALL else f"{rounded(value):.6f}"
