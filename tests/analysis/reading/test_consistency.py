"""Runs that cannot be compared: an arm with two settings, other code, other start weights, one run twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.reading.run_table import collect
from analysis.sections.page import build
from dynamic_rcnn.run.spec import RunSpec
from tests.analysis.synthetic import ARMS, START, RunsFolder, ablation, all_pages, edit_json, make_another_run, row_of

GRID = "shapes-ablation-0123456789"


def report_and_problems(runs: Path) -> tuple[str, list[str]]:
    """Return the page as Markdown, and the problems."""
    records = collect(runs)
    return all_pages(build(records)), records.problems


def test_each_seed_may_start_from_a_pretraining_of_its_own(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    for seed in range(2):
        folder.fields = {"init": {"run": f"{seed:064x}"}}
        for arm in ("baseline", "both"):
            edit_json(folder.done(arm, seed, 0.4) / "provenance.json", init_sha256=f"{seed}" * 64)
    folder.manifest()
    assert not [line for line in report_and_problems(tmp_path)[1] if "start weights" in line]
    edit_json(tmp_path / folder.path("both", 1) / "provenance.json", init_sha256="2" * 64)
    (line,) = [line for line in report_and_problems(tmp_path)[1] if "start weights" in line]
    assert line.endswith("differ in start weights: 1111111111 in baseline seed 1; 2222222222 in both seed 1")


@pytest.mark.parametrize(
    ("changes", "name", "values"),
    [
        ({"code": "0ther"}, "code", ("0ther", "c0dec0dec0")),
        ({"init_sha256": "0ther"}, "start weights", ("0ther", "5ha256c05h")),
        ({"versions": {"torch": "2.10.0"}}, "torch", ("2.10.0", "2.9.0")),
        ({"versions": None}, "torch", ("not recorded", "2.9.0")),
        ({"device": "A GPU, 80GB"}, "device", ("A GPU, 80GB", "cpu")),
        ({"processor": "A fast one"}, "processor", ("A fast one", "not recorded")),
        ({"processes": 4}, "number of processes", ("4.0", "not recorded")),
        ({"arithmetic": {"precision": "bf16"}}, "precision", ("bf16", "not recorded")),
    ],
)
def test_differences_between_finished_runs_are_problems(
    tmp_path: Path, changes: dict[str, Any], name: str, values: tuple[str, str]
) -> None:
    folder = ablation(tmp_path)
    text, problems = report_and_problems(tmp_path)
    assert problems == [] and "The finished runs differ" not in text
    for seed in range(3):
        edit_json(tmp_path / folder.path("both", seed) / "provenance.json", **changes)
    text, problems = report_and_problems(tmp_path)
    groups = {"both seeds 0, 1, 2", "baseline seeds 0, 1, 2 and dla seeds 0, 1, 2 and dsl seeds 0, 1, 2"}
    (problem,) = problems
    assert problem.startswith(f"{GRID}: the finished runs differ in {name}: ")
    found = dict(part.split(" in ", 1) for part in problem.split(f" differ in {name}: ")[1].split("; "))
    assert set(found) == set(values) and set(found.values()) == groups
    assert found[values[0]] == "both seeds 0, 1, 2"
    note = text[text.index("### Difference") : text.index("### The paper's numbers")]
    assert f"**The finished runs differ in {name}** (" in note and "3 runs" in note and "9 runs" in note


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"commit": "f" * 40}, f"commit: 0123456789abcdef in {{}}; {'f' * 40} in {{}}"),
        ({"dirty": False}, "uncommitted changes: False in {}; True in {}"),
    ],
)
def test_another_checkout_is_a_problem_but_not_noted_beside_results(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = RunsFolder(tmp_path)
    folder.done("baseline", 0, 0.4)
    edit_json(folder.done("both", 0, 0.5) / "provenance.json", **changes)
    folder.manifest()
    text, problems = report_and_problems(tmp_path)
    seeds = ("both seed 0", "baseline seed 0") if "dirty" in changes else ("baseline seed 0", "both seed 0")
    assert problems == [f"{GRID}: the finished runs differ in {message.format(*seeds)}"]
    assert "The finished runs differ" not in text


def test_a_run_resumed_with_other_code_is_a_problem(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    run = folder.done("both", 0, 0.5)
    made = json.loads((run / "provenance.json").read_text())
    edit_json(run / "provenance.json", earlier=[{**made, "command": "another"}, {**made, "code": "01dc0de"}])
    folder.manifest()
    assert report_and_problems(tmp_path)[1] == [
        f"{folder.path('both', 0)}: code changed between attempts: 01dc0de, then c0dec0dec0"
    ]


def test_unfinished_runs_are_not_compared(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    folder.done("baseline", 0, 0.4)
    edit_json(folder.start("both", 0, "failed", cause="NaN") / "provenance.json", code="0ther")
    folder.manifest()
    assert report_and_problems(tmp_path)[1] == []


def check_dla_is_not_averaged(runs: Path) -> None:
    text, problems = report_and_problems(runs)
    (problem,) = [line for line in problems if "are not averaged" in line]
    assert problem.startswith(f"{GRID}: the finished runs of arm dla have 2 settings (")
    assert row_of(text, "### Ablation", "dla")[1:4] == ["3 done", "0", "–"]
    assert row_of(text, "### Difference", "dla")[1] == "–"
    assert row_of(text, "### Difference", "both")[1].startswith("**+10.00**")
    # three arms: deviations -1/3, 1/3, 0 twice and 2/3, -2/3, 0: 4/3 on 4 df
    assert row_of(text, "### Difference", "sd between seeds within a block")[1] == "0.58 (4)"
    assert "**dla has runs of 2 settings** and no mean." in text


def test_an_arm_with_two_settings_is_not_averaged(tmp_path: Path) -> None:
    folder = ablation(tmp_path)
    make_another_run(tmp_path / folder.path("dla", 1), config={"train": {"max_iters": 7}})
    check_dla_is_not_averaged(tmp_path)


def test_a_run_whose_setting_differs_from_the_manifest_is_a_problem_and_not_averaged(tmp_path: Path) -> None:
    """A cell names the run of another arm, and no cell names its own run."""
    folder = ablation(tmp_path)
    for cell in folder.cells:
        cell["setting"] = folder.spec(cell["arm"], cell["seed"]).setting
    folder.manifest()
    assert collect(tmp_path).problems == []
    (cell,) = [cell for cell in folder.cells if (cell["arm"], cell["seed"]) == ("dla", 1)]
    cell["path"] = folder.path("both", 1)
    folder.manifest()
    both = folder.spec("both", 1).setting
    message = f"{cell['path']}: setting {both} in its spec, setting {cell['setting']} in grid {GRID}"
    assert message in collect(tmp_path).problems
    check_dla_is_not_averaged(tmp_path)


def test_a_run_that_two_arms_share_counts_once(tmp_path: Path) -> None:
    """AP 40 41 42 against 50 51 52; a third arm shares the first runs, so df stays 2 and it has no difference."""
    folder = RunsFolder(tmp_path)
    for seed in range(3):
        folder.done("baseline", seed, (40 + seed) / 100)
        folder.done("both", seed, (50 + seed) / 100)
    arms = {"baseline": "neither", "twin": "the default", "both": "DLA + DSL"}
    folder.cells += [{**cell, "arm": "twin"} for cell in folder.cells if cell["arm"] == "baseline"]
    folder.manifest(arms=arms)
    text, problems = report_and_problems(tmp_path)
    assert problems == []
    assert row_of(text, "### Difference", "sd between seeds within an arm")[1] == "1.00 (2)"  # of the seeds alone
    assert row_of(text, "### Difference", "sd between seeds within a block")[1] == "0.00 (2)"
    assert row_of(text, "### Difference", "twin")[1] == "same runs"
    assert "**twin**: AP: same runs as the baseline;" in text
    assert row_of(text, "### Ablation", "twin")[3].startswith("41.00 ± 1.00<br>")


def test_an_older_manifest_is_read(tmp_path: Path) -> None:
    """It has no settings of runs, no base and no changed fields."""
    folder = ablation(tmp_path)
    value = json.loads(folder.manifest().read_text())
    assert not {"base", "changed"} & set(value) and not any("setting" in run for run in value["runs"])
    grid = collect(tmp_path).grids[0]
    assert (grid.base, grid.changed, {cell.setting for cell in grid.cells}) == (None, None, {None})
    assert len(grid.arms) == len(ARMS)


def test_the_note_on_the_start_run_ignores_a_stale_start_run(tmp_path: Path) -> None:
    ablation(tmp_path)
    start = tmp_path / f"shapes/pretrain/seed0-{START}"
    shutil.copytree(start, start.with_name(f"{start.name}.stale1"))
    assert "All runs start from the weights of one run" in report_and_problems(tmp_path)[0]


def replaying(folder: Path, values: str) -> tuple[Path, Path]:
    """The directories of a run, which changes T and beta to its end, and of one that says that it replays it."""
    runs = RunsFolder(folder)
    source, replay = runs.done("both", 0, 0.5), runs.done("baseline", 0, 0.4)
    runs.manifest()
    known = RunSpec.read(source)
    spec = replace(RunSpec.read(replay), replay={"run": known.id, "setting": known.setting, "values": values})
    moved = spec.directory(folder)
    replay.rename(moved)
    spec.write(moved)
    return source, moved


def replay_problems(folder: Path) -> list[str]:
    return [line for line in collect(folder).problems if "replays" in line]


def set_states(log: Path, states: Sequence[tuple[float, float]]) -> None:
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    changed = [{**row, "T": state[0], "beta": state[1]} for row, state in zip(rows, states, strict=True)]
    log.write_text("".join(json.dumps(row) + "\n" for row in changed))


def states_of(run_dir: Path) -> list[tuple[float, float]]:
    rows = [json.loads(line) for line in (run_dir / "train.jsonl").read_text().splitlines()]
    return [(row["T"], row["beta"]) for row in rows]


def test_a_replay_must_have_trained_with_the_final_state_of_its_source(tmp_path: Path) -> None:
    source, replay = replaying(tmp_path, "final")
    of_source = f"T and beta of {source.relative_to(tmp_path)}, which it replays"
    name = replay.relative_to(tmp_path).as_posix()
    assert replay_problems(tmp_path) == [f"{name}: did not train with the final {of_source}"]
    states = states_of(source)
    set_states(replay / "train.jsonl", [states[-1]] * len(states))
    assert replay_problems(tmp_path) == []
    for run in (source, replay):
        (run / "train.jsonl").rename(run / "away")
        message = f"{run.relative_to(tmp_path)}: no curves, so T and beta of the replay {name} are not checked against"
        assert any(line.startswith(message) for line in collect(tmp_path).problems)
        (run / "away").rename(run / "train.jsonl")
    (source / "metrics.json").unlink()
    assert any("which is missing or not finished; T and beta unchecked" in line for line in collect(tmp_path).problems)


@pytest.mark.parametrize("values", ["reversed", "shuffled"])
def test_a_replay_in_another_order_must_have_trained_with_states_of_its_source(tmp_path: Path, values: str) -> None:
    source, replay = replaying(tmp_path, values)
    states = states_of(source)
    set_states(replay / "train.jsonl", states[::-1])
    assert len(set(states)) > 1 and replay_problems(tmp_path) == []
    set_states(replay / "train.jsonl", [*states[1:], (0.123, 1.0)])
    of_source = f"T and beta of {source.relative_to(tmp_path)}, which it replays"
    name = replay.relative_to(tmp_path).as_posix()
    assert replay_problems(tmp_path) == [f"{name}: did not train with the {of_source}"]
