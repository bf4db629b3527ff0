"""What a reader may want to know of each run that a number was made of."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.collect import Records

FACTS = ("id", "arm", "seed", "state", "attempts", "commit", "dirty", "device", "torch", "command")


def run_facts(records: Records) -> dict[str, dict[str, Any]]:
    """Path -> FACTS (those that are known) of each run; command: what launched it, to be given again."""
    return {
        str(row["path"]): {name: _plain(row[name]) for name in FACTS if pd.notna(row[name])}
        for row in records.runs[["path", *FACTS]].to_dict("records")
    }


def _plain(value: Any) -> Any:
    """A number read into a column with gaps is a float."""
    return int(value) if isinstance(value, float) else value
