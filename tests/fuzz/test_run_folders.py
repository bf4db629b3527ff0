"""Damaged run folders: a file that cannot be read is a problem in one line, and the other runs keep their numbers."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from analysis import records
from analysis.reading.run_table import RunTable, collect
from analysis.rendering.data import to_csv, to_json
from analysis.rendering.latex import to_latex
from analysis.sections.page import build
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.state import read_state
from tests.analysis.synthetic import PAPER, RunsFolder, all_pages
from tests.fuzz.damage import assert_is_message, at_most, damaged, damaged_bytes, to_bytes

ARMS = {"baseline": "neither", "both": "DLA + DSL"}
AP = {("baseline", 0): 0.40, ("baseline", 1): 0.42, ("both", 0): 0.50, ("both", 1): 0.53}
EQUIVALENT = [{"arms": ["both", "baseline"], "margins": {"AP": 0.5}}]
OWN = ("spec.json", "status.json", "provenance.json", "train.jsonl", "metrics.json", "detections.json.gz")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Two arms of two seeds, as runs (False) and as records with checksums (True)."""
    top = tmp_path_factory.mktemp("folders")
    folder = RunsFolder(top / "runs")
    folder.shared_start()
    for (arm, seed), ap in AP.items():
        folder.done(arm, seed, ap)
    folder.manifest(
        arms=ARMS,
        contrasts=[["both", "baseline"]],
        equivalence=EQUIVALENT,
        seen_seeds=[0],
        paper=PAPER,
        base="x",
        changed=[],
    )
    records.main([f"runs={top / 'runs'}", f"out={top / 'records'}"])
    return {False: top / "runs", True: top / "records"}


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, Callable[[bytes], bytes]]:
    """A file of the run both/seed1 or of the folder, and what happens to its bytes."""
    name = draw(st.sampled_from([*OWN, "manifest", "aside.json", "SHA256SUMS"]))

    def change(data: bytes) -> bytes:
        kind = draw(st.sampled_from(["value", "value", "value", "bytes"]))
        if kind == "bytes" or name in ("SHA256SUMS", "detections.json.gz"):
            return draw(damaged_bytes(data))
        if name != "train.jsonl":
            return to_bytes(draw(damaged(json.loads(data))))
        rows = draw(damaged([json.loads(line) for line in data.splitlines()]))
        return b"".join(to_bytes(row) + b"\n" for row in rows) if isinstance(rows, list) else to_bytes(rows)

    return name, change


def read_everything(folder: Path) -> RunTable:
    """The tables, the report in every format that needs no drawing, and each run's state."""
    table = collect(folder)
    page = build(table)
    text = all_pages(page) + to_json(page) + to_latex(page)
    text += "".join(to_csv(each.table) for each in page.tables)
    text.encode()
    for path in table.runs["path"]:
        read_state(folder / path)
    return table


@at_most(25)
@given(change=changes(), is_recorded=st.booleans())
def test_a_damaged_file(folders: dict[bool, Path], change: tuple[str, Callable], is_recorded: bool) -> None:
    source = folders[is_recorded]
    folder = source.with_name("damaged")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    name, damage = change
    run = next((folder / "shapes/both").glob("seed1-*"))
    file = next(folder.glob("*/*.grid.json")) if name == "manifest" else (run if name in OWN else folder) / name
    before = file.read_bytes() if file.exists() else b'{"schema": 1, "directories": []}'
    file.write_bytes(damage(before))
    try:
        table = read_everything(folder)
    except UserError as error:
        assert_is_message(error)
        event("refused")
        return
    for line in table.problems:
        assert line.strip() and "\n" not in line and str(folder) not in line
    rows = table.runs.set_index("path")
    others = [path for path in rows.index if "/both/seed1-" not in path and "/pretrain/" not in path]
    if name != "SHA256SUMS":
        assert sorted(rows.loc[others, "AP"]) == [0.40, 0.42, 0.50]
    if is_recorded and file.read_bytes() != before:
        assert table.problems, f"{name}: changed without a problem"
    ap = rows["AP"].get(run.relative_to(folder).as_posix())
    if ap is not None and not pd.isna(ap):
        assert ap == json.loads((run / "metrics.json").read_bytes())["metrics"]["AP"] and math.isfinite(ap)
    event("read with problems" if table.problems else "read without problems")
