"""action=advise: which runs it reads and launches, with a launcher that writes made-up logs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.run.files import TRAIN_LOG, append_jsonl
from experiments import launch
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from experiments.config.grid import Grid
from experiments.config.schema import Config
from experiments.doctor.run_findings import check_positives
from tests.experiments.planning.test_plan import make_done
from tests.experiments.views.test_advice import rows

HERE = ["cluster=local", "dataset=shapes", "base.pretrain=null"]


def write_log(run_dir: Path, positives: float = 10.0) -> None:
    (run_dir / TRAIN_LOG).unlink(missing_ok=True)
    for row in rows(rates=(0.02, 0.002)):
        append_jsonl(run_dir / TRAIN_LOG, {**row, "positives": positives})


def arguments(tmp_path: Path, *more: str) -> list[str]:
    return [*HERE, f"runs={tmp_path}", *more]


def test_the_short_runs_are_launched_in_turn_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The second one has DLA with the K_I that the first one proposes. A second call launches nothing."""
    launched: list[tuple[str, dict[str, Any]]] = []

    def train(grid: Grid, config: Config, given: Sequence[str]) -> int:
        (spec,) = grid.runs
        launched.append((spec.name, spec.config["model"]["train_cfg"]["rcnn"]["dynamic_rcnn"]))
        make_done(config.runs, grid)
        write_log(spec.directory(config.runs))
        return 0

    monkeypatch.setattr(launch, "_launch", train)
    for _ in range(2):
        assert launch.main(arguments(tmp_path, "action=advise")) == 0
        out = capsys.readouterr().out
        assert "T for each K_I, from static/seed100, 1000 iterations; should end at 0.60" in out
        assert "beta for each K_beta, from dla/seed100; should end at 0.16" in out
        (line,) = [line for line in out.splitlines() if line.startswith("  model:")]
        iou_topk = launched[1][1]["iou_topk"]
        assert line == f"  model: {{train_cfg: {{rcnn: {{dynamic_rcnn: {{iou_topk: {iou_topk}, beta_topk: 15}}}}}}}}"
        assert "note:" not in out
    assert [name for name, _ in launched] == ["static/seed100", "dla/seed100"]
    assert [method["label_assignment"] for _, method in launched] == [False, True]
    assert iou_topk in (42, 43) and launched[0][1]["iou_topk"] == 30 and not launched[1][1]["smooth_l1"]
    assert build_grid(resolve([*HERE, "grid=advise"])[0]).runs[0].config["train"]["max_iters"] == 500


def test_a_run_that_is_not_done_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """As on Slurm, where a launch submits and returns."""
    monkeypatch.setattr(launch, "_launch", lambda grid, config, given: 0)
    assert launch.main(arguments(tmp_path, "action=advise")) == 0
    assert "when this run is done, the same command continues from it" in capsys.readouterr().out


@pytest.mark.parametrize("arms", ["[baseline,dla]", "[baseline]"])
def test_runs_of_another_grid_are_read_and_never_launched(tmp_path: Path, arms: str, capsys: Any) -> None:
    given = arguments(tmp_path, "grid=ablation", "seeds=[3]", f"arms={arms}")
    grid = build_grid(resolve(given)[0])
    assert launch.main([*given, "action=advise"]) == 2
    assert "baseline/seed3: its train.jsonl has statistics by rank in 0 rows, and 10" in capsys.readouterr().err
    make_done(tmp_path, grid)
    for spec in grid.runs:
        write_log(spec.directory(tmp_path), positives=94.5)
    assert launch.main([*given, "action=advise"]) == 0
    out = capsys.readouterr().out
    source = "dla" if "dla" in arms else "baseline"
    assert f"beta for each K_beta, from {source}/seed3" in out
    assert ("note: there is no run with DLA" in out) == (source == "baseline")
    assert "note: positives are at the sampler's limit of 96 per image in 100% of the logged iterations" in out


def test_a_grid_without_a_static_arm_is_refused(tmp_path: Path, capsys: Any) -> None:
    assert launch.main(arguments(tmp_path, "grid=ablation", "arms=[both]", "action=advise")) == 2
    assert "grid=ablation: has no static arm, from which K_I is proposed; use grid=advise" in capsys.readouterr().err


@pytest.mark.parametrize(("positives", "noted"), [(96.0, True), (91.5, True), (72.0, False)])
def test_the_doctor_notes_runs_with_positives_at_their_limit(tmp_path: Path, positives: float, noted: bool) -> None:
    grid = build_grid(resolve(arguments(tmp_path, "grid=ablation", "seeds=[0,1]", "arms=[baseline,dla]"))[0])
    assert list(check_positives(grid, tmp_path)) == []
    make_done(tmp_path, grid)
    write_log(grid.runs[0].directory(tmp_path), positives)
    found = [str(finding) for finding in check_positives(grid, tmp_path)]
    expected = (
        "note  positives: in baseline, positives are at the sampler's limit of 96 per image in 100% of the logged"
    )
    assert [text.startswith(expected) for text in found] == ([True] if noted else [])


def test_a_head_without_a_limit_is_not_checked(tmp_path: Path) -> None:
    without = "~base.model.train_cfg.rcnn.sampler.num"
    grid = build_grid(resolve(arguments(tmp_path, "grid=ablation", "seeds=[0]", "arms=[baseline]", without))[0])
    make_done(tmp_path, grid)
    write_log(grid.runs[0].directory(tmp_path), 16.0)
    assert list(check_positives(grid, tmp_path)) == []
