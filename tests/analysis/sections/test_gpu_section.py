"""The report on gpu.json: verdict, table, what does not decide, and that records keep it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis import records
from dynamic_rcnn.errors import UserError
from tests.analysis.synthetic import ablation, edit_json, markdown, row_of, write_json

GPU = "NVIDIA H100"
OVERHEAD = ("## The paper's headline claims", "no extra overhead")


def comparison(title: str, **arms: tuple[float, int | None]) -> dict[str, Any]:
    """Four rounds; seconds and bytes of each arm, the first arm being the reference."""
    blocks = [
        {"round": number, "arm": arm, "seconds": seconds * (1 + number / 10), "peak_bytes": peak}
        for number in range(4)
        for arm, (seconds, peak) in arms.items()
    ]
    fixed = {"unit": "iteration", "block": 5, "warmup": 10, "reference": next(iter(arms))}
    return {"title": title, "arms": {arm: f"the arm {arm}" for arm in arms}, **fixed, "blocks": blocks}


def write_times(runs: Path, both: float = 0.101, base: str = "faster_rcnn_r50_fpn_1x", device: str = GPU) -> None:
    peak = None if device == "cpu" else 4_000_000_000
    arithmetic = {"precision": "fp32", "cuda": "13.0", "cudnn": 91000, "driver": "580.1"}
    origin = {"schema": 1, "commit": "0123456789", "device": device, "versions": {"torch": "2.11.0"}}
    comparisons = {
        "components": comparison("components", baseline=(0.1, peak), both=(both, peak)),
        "loading": comparison("loading", loaded=(0.1, None), workers_2=(0.15, None)),
    }
    value = {"schema": 1, "base": base, "images": "64 drawn images", "comparisons": comparisons}
    write_json(runs / "gpu.json", {**value, "origin": {**origin, "arithmetic": arithmetic}})


@pytest.mark.parametrize(("both", "decided"), [(0.101, "REPRODUCED"), (0.12, "NOT REPRODUCED")])
def test_no_extra_overhead_is_decided_by_time_and_memory_on_a_gpu(tmp_path: Path, both: float, decided: str) -> None:
    ablation(tmp_path)
    write_times(tmp_path, both)
    text = markdown(tmp_path)
    cell = row_of(text, *OVERHEAD)[2]
    assert cell.startswith(f"**{decided}**: training time ") and "training memory REPRODUCED: 1.000 times" in cell
    assert cell.endswith("margin 1.05 (one NVIDIA H100, 64 drawn images)")
    heading = "## Training on one GPU, timed in turns"
    assert "torch 2.11.0, CUDA 13.0, cuDNN 91000, driver 580.1, commit `01234567`" in text[text.index(heading) :]
    row = row_of(text, heading, "components | the arm both")
    time = f"{both / 0.1:.3f}<br>[{both / 0.1:.3f}, {both / 0.1:.3f}]"
    assert row[2:] == ["4 of 5 iterations", f"{both * 1.15:.3f}", time, "4000", "1.000<br>[1.000, 1.000]"]
    assert row_of(text, heading, "loading | the arm workers")[4:] == ["1.500<br>[1.500, 1.500]", "–", "–"]
    assert "`python -m benchmarks.gpu`" not in text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"device": "cpu"}, "on a CPU"), ({"base": "shapes_r18_fpn"}, "base `shapes_r18_fpn`")],
)
def test_another_base_or_device_decides_nothing(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    ablation(tmp_path)
    write_times(tmp_path, **changes)
    text = markdown(tmp_path)
    assert row_of(text, *OVERHEAD)[2] == "**NOT RUN**"
    assert f"No extra overhead: NOT COMPARABLE: {reason}: training time: 1.010 times" in text
    assert "- NOT RUN: training on a GPU, timed on drawn images: `python -m benchmarks.gpu`" in text


def test_without_a_record_it_is_listed_as_not_run_and_a_damaged_one_is_a_problem(tmp_path: Path) -> None:
    ablation(tmp_path)
    text = markdown(tmp_path)
    assert "- NOT RUN: training on a GPU" in text and "## Training on one GPU" not in text
    write_times(tmp_path)
    edit_json(tmp_path / "gpu.json", comparisons={"components": {**comparison("x", a=(1.0, None)), "reference": "b"}})
    text = markdown(tmp_path)
    assert "- NOT RUN: training on a GPU" in text
    assert (
        "gpu.json: comparisons.components" in text and "arms must contain every arm that was timed; missing: b" in text
    )


def test_records_keep_it(tmp_path: Path) -> None:
    runs, out = tmp_path / "runs", tmp_path / "records"
    ablation(runs)
    write_times(runs)
    assert records.main([f"runs={runs}", f"out={out}"]) == 0
    assert (out / "gpu.json").read_bytes() == (runs / "gpu.json").read_bytes()
    assert "  gpu.json\n" in (out / "SHA256SUMS").read_text()
    (runs / "gpu.json").unlink()
    with pytest.raises(
        UserError, match=r"gpu.json: would be lost \(1 such record\): it is missing or unreadable in runs="
    ):
        records.main([f"runs={runs}", f"out={out}"])
