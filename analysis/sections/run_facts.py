"""The facts about each run that the report shows behind its numbers."""

from __future__ import annotations

import shlex
from typing import Any

import pandas as pd

from analysis.reading.run_table import RunTable

FACTS = ("id", "arm", "seed", "state", "attempts", "commit", "dirty", "device", "torch", "command")


def run_facts(records: RunTable) -> dict[str, dict[str, Any]]:
    """Path -> the known FACTS of each run; `command` repeats this run alone."""
    trained = {cell.path for grid in records.grids if grid.trains for cell in grid.cells}
    known_runs = records.runs.dropna(subset=["id", "arm"])
    arms = dict(zip(known_runs["id"], known_runs["arm"], strict=True))
    facts = {}
    for row in records.runs[["path", "replay", *FACTS]].to_dict("records"):
        known = {name: _plain(row[name]) for name in FACTS if pd.notna(row[name])}
        if row["path"] in trained and known.keys() >= {"arm", "seed", "command"}:
            replayed = [arms[row["replay"]]] if row["replay"] in arms else []
            known["command"] = repeat_command(known["command"], [known["arm"], *replayed], known["seed"])
        facts[str(row["path"])] = known
    return facts


def repeat_command(launch: str, arms: list[str], seed: int) -> str:
    """The command that launched a run among others, limited to `arms` and `seed`; other commands unchanged."""
    try:
        words = shlex.split(launch)
    except ValueError:  # not written by the launcher
        return launch
    if not any(word.startswith("grid=") for word in words):
        return launch
    kept = [word for word in words if not word.startswith(("arms=", "seeds="))]
    return shlex.join([*kept, f"arms=[{','.join(arms)}]", f"seeds=[{seed}]"])


def _plain(value: Any) -> Any:
    """An integer from a column with gaps, where it is a float, as an integer."""
    return int(value) if isinstance(value, float) else value
