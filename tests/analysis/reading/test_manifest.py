"""What a grid's manifest may not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.reading.records import collect
from tests.analysis.synthetic import PAPER, RunsFolder, ablation

BAD_MANIFESTS: dict[str, tuple[dict[str, Any], str]] = {
    "schema": ({"schema": 2}, "schema 2 is newer than 1"),
    "baseline": (
        {"baseline": "nobody"},
        "field 'baseline' is 'nobody'; it must be one of baseline, dla, dsl, both",
    ),
    "arms": ({"arms": ["baseline"]}, "field 'arms' is ['baseline']; it must be an object"),
    "seed": (
        {"runs": [{"arm": "dla", "seed": "x", "path": "a/b/c"}]},
        "a run's seed is 'x'; it must be an integer",
    ),
    "arm": ({"runs": [{"arm": ["dla"], "seed": 0, "path": "a/b/c"}]}, "a run's arm is ['dla']; it must be one of"),
    "baselines": ({"baselines": {"dla": ["x"]}}, "field 'baselines' has ['x']; each must be one of baseline, dla"),
    "itself": ({"baselines": {"dla": "dla"}}, "field 'baselines' has 'dla'; each must be one of baseline, dla"),
    "timed_arms": (
        {"timed_arms": {"dla": "x"}},
        "field 'timed_arms' is {'dla': 'x'} where 'task' is 'train'; only 'benchmark' has it",
    ),
    "outside": ({"runs": [{"arm": "dla", "seed": 0, "path": "../../etc"}]}, "a run's path is '../../etc'"),
    "paper": ({"paper": PAPER | {"rows": {"dla": 3}}}, "field 'paper.rows.dla' is 3; it must map metrics to numbers"),
    "place": (
        {"setting": "fffffffff0"},
        "holds the manifest of shapes/ablation-fffffffff0.grid.json; move it there",
    ),
}


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_a_bad_manifest_is_named_and_the_rest_goes_on(tmp_path: Path, name: str) -> None:
    changes, expected = BAD_MANIFESTS[name]
    folder = ablation(tmp_path)
    folder.manifest("smoke")
    folder.manifest(**changes)
    records = collect(tmp_path)
    assert [grid.name for grid in records.grids] == ["smoke"]
    assert len(records.problems) == 1 and expected in records.problems[0]
    assert records.problems[0].startswith("shapes/ablation-0123456789.grid.json: ")


def test_a_run_asked_for_twice_is_named(tmp_path: Path) -> None:
    folder = ablation(tmp_path)
    folder.manifest(runs=[*folder.cells, folder.cells[4]])
    (problem, *_) = collect(tmp_path).problems
    assert "field 'runs' has arm dla, seed 1 more than once" in problem


def test_names_that_the_launcher_refuses_are_refused(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path, "my data")
    folder.done("baseline", 0, 0.4)
    folder.manifest()
    (problem, _) = collect(tmp_path).problems
    assert "field 'dataset' is 'my data'; it must be a plain name: letters, digits" in problem
