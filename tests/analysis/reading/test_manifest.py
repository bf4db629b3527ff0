"""Invalid manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.reading.run_table import collect
from tests.analysis.synthetic import PAPER, RunsFolder, ablation

BAD_MANIFESTS: dict[str, tuple[dict[str, Any], str]] = {
    "schema": ({"schema": 2}, "schema 2 is newer than 1"),
    "baseline": (
        {"baseline": "nobody"},
        "baseline=nobody: must be one of baseline, dla, dsl, both",
    ),
    "arms": ({"arms": ["baseline"]}, "arms=['baseline']: must be a mapping"),
    "seed": (
        {"runs": [{"arm": "dla", "seed": "x", "path": "a/b/c"}]},
        "runs[0].seed=x: must be an integer",
    ),
    "arm": ({"runs": [{"arm": "dlaa", "seed": 0, "path": "a/b/c"}]}, "runs[0].arm=dlaa: must be one of baseline, dla"),
    "baselines": ({"baselines": {"dla": ["x"]}}, "baselines.dla=['x']: must be text"),
    "itself": (
        {"baselines": {"dla": "dla"}},
        "baselines.dla=dla: must be one of baseline, dla, dsl, both, and another arm than dla",
    ),
    "timed_arms": (
        {"timed_arms": {"dla": "x"}},
        "timed_arms={'dla': 'x'}: must be given for task 'benchmark' only",
    ),
    "outside": (
        {"runs": [{"arm": "dla", "seed": 0, "path": "../../etc"}]},
        "runs[0].path=../../etc: must be <dataset>/<arm>/seed<k>-<id>",
    ),
    "paper": ({"paper": PAPER | {"rows": {"dla": 3}}}, "paper.rows.dla=3: must map metrics to numbers"),
    "place": (
        {"setting": "fffffffff0"},
        "holds the manifest of shapes/ablation-fffffffff0.grid.json; move it there",
    ),
}


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_an_invalid_manifest_is_a_problem_and_the_rest_is_read(tmp_path: Path, name: str) -> None:
    changes, expected = BAD_MANIFESTS[name]
    folder = ablation(tmp_path)
    folder.manifest("smoke")
    folder.manifest(**changes)
    records = collect(tmp_path)
    assert [grid.name for grid in records.grids] == ["smoke"]
    assert len(records.problems) == 1 and expected in records.problems[0]
    assert records.problems[0].startswith("shapes/ablation-0123456789.grid.json: ")


def test_a_run_that_is_listed_twice_is_a_problem(tmp_path: Path) -> None:
    folder = ablation(tmp_path)
    folder.manifest(runs=[*folder.cells, folder.cells[4]])
    (problem, *_) = collect(tmp_path).problems
    assert "runs=dla, seed 1: is given more than once" in problem


def test_names_that_the_launcher_rejects_are_rejected(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path, "my data")
    folder.done("baseline", 0, 0.4)
    folder.manifest()
    (problem, _) = collect(tmp_path).problems
    assert "dataset=my data: must be a plain name: letters, digits" in problem
