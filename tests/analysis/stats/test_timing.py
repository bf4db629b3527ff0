"""The report on timing runs: ratios of paired blocks, the verdicts, and the cases without one."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from analysis import records
from analysis.reading.run_table import collect
from analysis.sections.page import build
from analysis.stats.seeds import paired_ratio
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.lock import locked
from dynamic_rcnn.run.results import read_results
from dynamic_rcnn.run.spec import RunSpec
from tests.analysis.synthetic import all_pages, edit_json, markdown, row_of, write_json

ARMS = {"baseline": "Faster R-CNN", "both": "Dynamic R-CNN", "cascade": "Cascade R-CNN"}
PAPER = {
    "table": "Table 6",
    "source": "arXiv 2004.06002",
    "dataset": "COCO val2017",
    "rows": {"both": {"images_per_second": 13.9}, "cascade": {"images_per_second": 11.2}},
}
GPU = "NVIDIA H100"
Times = dict[str, list[float]]


def part(times: Times, peaks: dict[str, int], **more: Any) -> dict[str, Any]:
    """A part of a timing run. times: arm -> its seconds by round."""
    blocks = [
        {"round": number, "arm": arm, "seconds": seconds, "peak_bytes": peaks.get(arm)}
        for arm, own in times.items()
        for number, seconds in enumerate(own)
    ]
    return {"unit": "iteration", "block": 5, "warmup": 2, "blocks": blocks, **more}


def timing_run(
    root: Path,
    training: Times,
    inference: Times,
    dataset: str = "coco",
    device: str = GPU,
    peaks: dict[str, int] | None = None,
    same: list[list[str]] | None = None,
    **manifest: Any,
) -> Path:
    """A folder with one finished timing run and its manifest. Returns the run's directory."""
    spec = RunSpec("speed", 0, {"name": dataset}, {}, task="benchmark")
    run = spec.directory(root)
    spec.write(run)
    status = {"schema": 1, "state": "done", "iteration": 4, "max_iterations": 4, "cause": None, "message": None}
    write_json(run / "status.json", {**status, "heartbeat": 2.0, "attempts": [{"number": 1}]})
    made = {"schema": 1, "commit": "0123456789abcdef", "dirty": False, "device": device, "code": "c0de"}
    write_json(run / "provenance.json", {**made, "versions": {"torch": "2.9.0"}, "init_sha256": None})
    by_arm = {field: dict.fromkeys(inference, 100.0) for field in ("proposals", "detections", "score_thr")}
    groups = same or [["baseline", "both"], ["cascade"]]
    content = {
        **{"schema": 1, "task": "benchmark", "iteration": 4, "metrics": {}, "baseline": "baseline"},
        **{"device": device, "threads": 1, "training": part(training, peaks or {}, batch_size=2)},
        "inference": part(inference, {}, same_network=groups, **by_arm),
    }
    write_json(run / "metrics.json", content)
    cells = [{"arm": "speed", "seed": 0, "path": run.relative_to(root).as_posix()}]
    grid = {"schema": 1, "grid": "speed", "title": "Cost", "setting": "0123456789", "dataset": dataset}
    grid |= {
        "baseline": "speed",
        "arms": {"speed": "Cost"},
        "task": "benchmark",
        "timed_arms": ARMS,
        "seeds": [0],
        "paper": PAPER,
    }
    grid |= {"base": "faster_rcnn_r50_fpn_1x", "changed": [], "runs": cells}
    write_json(root / dataset / "speed-0123456789.grid.json", grid | manifest)
    return run


TRAINING = {"baseline": [1.0, 2.0], "both": [1.01, 2.04]}  # ratios 1.01 and 1.02
INFERENCE = {"baseline": [1.0, 2.0], "both": [1.0, 2.0], "cascade": [1.24, 2.482]}
PEAKS = {"baseline": 1000, "both": 1001}


def test_a_ratio_of_paired_blocks_by_hand() -> None:
    """Logarithms ln 1.01 = 0.0099503 and ln 1.03 = 0.0295588, mean 0.0197546, sd 0.0138653; t(.95, 1) = 6.3138."""
    found = paired_ratio({0: 1.01, 1: 4.12, 2: 7.0}, {0: 1.0, 1: 4.0, 3: 1.0})
    assert found is not None and found.low is not None and found.high is not None
    assert (found.n, found.value) == (2, pytest.approx(math.exp(0.0197546), abs=1e-6))
    half = 6.3138 * 0.0138653 / math.sqrt(2)
    assert found.low == pytest.approx(math.exp(0.0197546 - half), abs=1e-5)
    assert found.high == pytest.approx(math.exp(0.0197546 + half), abs=1e-5)
    assert paired_ratio({0: 1.0}, {1: 1.0}) is None
    single = paired_ratio({0: 1.5}, {0: 1.0})
    assert single is not None and (single.value, single.low, single.sd) == (pytest.approx(1.5), None, None)


def test_no_overhead_on_coco_is_reproduced_where_time_and_memory_are_within_the_margin(tmp_path: Path) -> None:
    timing_run(tmp_path, TRAINING, INFERENCE, peaks=PEAKS)
    message = row_of(markdown(tmp_path), "headline claims", "no extra overhead")[2]
    assert message == (
        "**REPRODUCED**: training time REPRODUCED: 1.015 times the baseline, 90% interval [0.984, 1.047] (2 blocks); "
        "training memory REPRODUCED: 1.001 times the baseline, 90% interval [1.001, 1.001] (2 blocks); "
        "inference time: same network, 1.000 times the baseline, 90% interval [1.000, 1.000] (2 blocks); "
        "margin 1.05"
    )


@pytest.mark.parametrize(
    ("both", "peak", "verdict"),
    [
        ([1.01, 2.04], 1100, "NOT REPRODUCED"),  # memory alone
        ([1.1, 2.2002], 1001, "NOT REPRODUCED"),  # time alone
        ([1.0, 2.2], 1001, "INCONCLUSIVE"),
    ],
)
def test_time_and_memory_both_count(tmp_path: Path, both: list[float], peak: int, verdict: str) -> None:
    training = {"baseline": [1.0, 2.0], "both": both}
    timing_run(tmp_path, training, INFERENCE, peaks={"baseline": 1000, "both": peak})
    assert row_of(markdown(tmp_path), "headline claims", "no extra")[2].startswith(f"**{verdict}**")


def test_inference_counts_where_the_arms_are_different_networks(tmp_path: Path) -> None:
    slower = {**INFERENCE, "both": [1.2, 2.4]}
    timing_run(tmp_path, TRAINING, slower, peaks=PEAKS, same=[["baseline"], ["both"], ["cascade"]])
    message = row_of(markdown(tmp_path), "headline claims", "no extra")[2]
    assert message.startswith("**NOT REPRODUCED**") and "inference time NOT REPRODUCED: 1.200 times" in message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset": "shapes", "device": "cpu"}, "on shapes, on a CPU"),
        ({"device": "cpu"}, "on a CPU"),
        ({"changed": ["base.data.test_pipeline"]}, "changed: `base.data.test_pipeline`"),
    ],
)
def test_timings_elsewhere_are_not_compared(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    timing_run(tmp_path, TRAINING, INFERENCE, **changes)
    text = markdown(tmp_path)
    message = row_of(text, "headline claims", "no extra")[2]
    assert message.startswith(f"**NOT RUN**<br>NOT COMPARABLE: {reason}: training time: 1.015 times the baseline")
    assert "training memory: not measured" in message and "REPRODUCED" not in message
    assert row_of(text, "### The paper's speeds", "Dynamic")[4] == f"NOT COMPARABLE: {reason}"


def test_the_section_has_the_speeds_and_the_ratio_of_table_6(tmp_path: Path) -> None:
    timing_run(tmp_path, TRAINING, INFERENCE, peaks={name: 1000 * value for name, value in PEAKS.items()})
    text = markdown(tmp_path)
    assert row_of(text, "### Training", "both")[1:] == [
        *("1.525", "1.015<br>[0.984, 1.047]", "1", "1.001<br>[1.001, 1.001]")
    ]
    assert row_of(text, "### Inference", "both")[1:3] == ["same as the baseline", "0.67"]
    assert row_of(text, "### Inference", "cascade")[1:4] == ["", "0.54", "0.806<br>[0.804, 0.808]"]
    # 1 / 1.24 and 2 / 2.482 of the seconds: 1.2405 times as many images per second, against 13.9 / 11.2 = 1.2411
    assert row_of(text, "### The paper's speeds", "Dynamic")[1:] == [
        *("13.9, 11.2", "1.24", "1.240<br>[1.237, 1.244]", "REPRODUCED")
    ]
    assert "Ablation: AP by arm" not in text and "1 of 1 run done" in text


def test_an_unfinished_run_decides_nothing(tmp_path: Path) -> None:
    (timing_run(tmp_path, TRAINING, INFERENCE) / "metrics.json").unlink()
    text = markdown(tmp_path)
    assert row_of(text, "headline claims", "no extra")[2] == "**NOT RUN**"
    assert "No run of this grid has finished" in text


@pytest.mark.parametrize(
    ("state", "cause", "verdict"),
    [
        ("failed", "NaN", "NOT COMPARABLE: 1 run failed (NaN); the others may be a biased selection"),
        (
            "failed",
            "out of memory",
            "NOT COMPARABLE: 1 run failed (out of memory); the others may be a biased selection",
        ),
        ("running", None, "INCONCLUSIVE: 1 run not finished"),
        (None, None, "INCONCLUSIVE: 1 run not finished"),
    ],
)
def test_if_a_run_failed_or_is_unfinished_the_others_decide_nothing(
    tmp_path: Path, state: str | None, cause: str | None, verdict: str
) -> None:
    """state: of the run of the second seed; None if it was never started."""
    run = timing_run(tmp_path, TRAINING, INFERENCE, peaks=PEAKS)
    spec = RunSpec.read(run).with_seed(1)
    other = spec.directory(tmp_path)
    if state is not None:
        shutil.copytree(run, other)
        (other / "metrics.json").unlink()
        spec.write(other)
        edit_json(other / "status.json", state=state, cause=cause, iteration=1)
    path = tmp_path / "coco/speed-0123456789.grid.json"
    cells = json.loads(path.read_text())["runs"]
    edit_json(path, runs=[*cells, {"arm": "speed", "seed": 1, "path": other.relative_to(tmp_path).as_posix()}])
    with locked(other) if state == "running" else contextlib.nullcontext():
        text = markdown(tmp_path)
    assert row_of(text, "headline claims", "no extra")[2].startswith(f"**{verdict}**: training time REPRODUCED: 1.015")
    assert row_of(text, "### The paper's speeds", "Dynamic")[4] == verdict
    assert "1 of 2 runs done" in text


BLOCK = {"arm": "both", "round": 0, "seconds": 1.0, "peak_bytes": None}
BLOCKS = {"unit": "iteration", "block": 5}
PER_ARM = {"same_network": [], "proposals": {"both": 9.0}, "detections": {"both": 9.0}}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        *(
            ("training", {**BLOCKS, "blocks": [block]}, "training.blocks[0]")
            for block in (
                *(7, None, "both", [BLOCK], {}, {**BLOCK, "arm": 3}, {**BLOCK, "arm": ["both"]}),
                *({**BLOCK, "round": "0"}, {**BLOCK, "seconds": None}, {**BLOCK, "seconds": True}),
                *({**BLOCK, "seconds": math.nan}, {**BLOCK, "seconds": "1"}, {**BLOCK, "peak_bytes": "9"}),
                *({**BLOCK, "peak_bytes": 0}, {**BLOCK, "peak_bytes": False}),
            )
        ),
        ("training", {**BLOCKS, "blocks": {}}, "training.blocks={}: must be a list"),
        *(
            ("inference", {**BLOCKS, "blocks": [BLOCK], **PER_ARM, name: value}, name)
            for name in ("proposals", "detections")
            for value in (None, 3, [9.0], {}, {"both": None}, {"both": "9"}, {"both": True}, {"both": math.inf})
        ),
        (
            "inference",
            {**BLOCKS, "blocks": [BLOCK], **PER_ARM, "same_network": [1]},
            "same_network[0]=1: must be",
        ),
    ],
)
def test_invalid_blocks_and_means_are_user_errors(tmp_path: Path, field: str, value: Any, message: str) -> None:
    run = timing_run(tmp_path, TRAINING, INFERENCE)
    sound = {**BLOCKS, "blocks": [BLOCK], **PER_ARM}
    edit_json(run / "metrics.json", training=sound, inference=sound)
    assert read_results(run).training.seconds == {"both": {0: 1.0}}
    edit_json(run / "metrics.json", **{field: value})
    with pytest.raises(UserError) as error:
        read_results(run)
    assert str(error.value).startswith(f"{run / 'metrics.json'}: ") and message in str(error.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("baseline", None, "baseline=None: must be text"),
        ("training", {"unit": "iteration"}, "training.block: must be given; training.blocks: must be given"),
        ("training", part({"both": [-1.0]}, {}), "training.blocks[0].seconds=-1.0: must be a positive number"),
        (
            "inference",
            part({"both": [1.0]}, {}),
            "inference.same_network: must be given; inference.",
        ),
    ],
)
def test_invalid_timing_results_are_a_problem_and_not_shown(
    tmp_path: Path, field: str, value: Any, message: str
) -> None:
    path = timing_run(tmp_path, TRAINING, INFERENCE) / "metrics.json"
    write_json(path, json.loads(path.read_text()) | {field: value})
    found = collect(tmp_path)
    assert [line for line in found.problems if message in line] and not found.timings
    assert "unreadable" in all_pages(build(found))


def test_the_records_of_a_timing_run_can_be_committed(tmp_path: Path) -> None:
    timing_run(tmp_path / "runs", TRAINING, INFERENCE, peaks=PEAKS)
    assert records.main([f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'records'}"]) == 0
    assert markdown(tmp_path / "records") == markdown(tmp_path / "runs")
