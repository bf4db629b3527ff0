"""The report's verdicts on the paper's claims: not run, decided, not comparable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.run.published_curves import PUBLISHED
from tests.analysis.synthetic import RunsFolder, ablation, edit_json, make_another_run, markdown, row_of


def test_claims_are_not_run_without_coco(tmp_path: Path) -> None:
    ablation(tmp_path)
    text = markdown(tmp_path)
    for claim in ("38.9 AP", "+1.9 AP over", "+5.5 AP90 over", "T at iterations"):
        assert row_of(text, "headline claims", claim)[2:] == ["**NOT RUN**", "`ablation`"]
    assert row_of(text, "headline claims", "no extra overhead")[2:] == ["**NOT RUN**", "`speed`"]


def test_claims_on_coco_get_a_verdict(tmp_path: Path) -> None:
    ablation(tmp_path)
    coco = RunsFolder(tmp_path, "coco")
    for seed in range(2):
        coco.done("baseline", seed, 0.37 + seed / 1000)
        coco.done("both", seed, 0.389 + seed / 1000)
    coco.done("dla", 0, 0.383)
    coco.ask("dla", 1)
    coco.manifest(base="faster_rcnn_r50_fpn_1x", changed=[])
    text = markdown(tmp_path)
    assert row_of(text, "headline claims", "38.9 AP")[2:] == [
        # s = sqrt((10 x 0.15^2 + 2 x 0.0707^2) / 12) = 0.140, 1.782 x 0.140 / sqrt(2) = 0.176
        "**REPRODUCED**: measured 38.95 ± 0.07 (n = 2); margin 0.5, half-width 0.18 at 90%; against 38.8: REPRODUCED",
        "`ablation`",
    ]
    assert row_of(text, "headline claims", "+1.9 AP")[2] == (
        "**REPRODUCED**: measured +1.90, 95% interval [+1.90, +1.90], n = 2 and 2; margin 0.5, half-width 0.25 at 90%"
    )
    cells = row_of(text, "| Table 2, verdict", "both")
    assert cells[1] == "REPRODUCED: 38.9, measured 38.95"
    assert row_of(text, "| Table 2, verdict", "dla")[1] == "INCONCLUSIVE: 1 run not finished: 38.2, measured 38.30"
    assert "no grid that trains on it" not in text


def test_the_claim_of_38_9_names_both_sources(tmp_path: Path) -> None:
    ablation(tmp_path)
    source = row_of(markdown(tmp_path), "headline claims", "38.9 AP")[1]
    assert source == (
        "arXiv 2004.06002, abstract, Table 2; mmdet's released model<br>"
        "38.8: the author's port to mmdet v1.1 (hkzhang95/DynamicRCNN-mmdetV1.1), minival"
    )


def test_seeds_that_were_added_after_results_widen_the_verdicts(tmp_path: Path) -> None:
    coco = RunsFolder(tmp_path, "coco")
    for seed, ap in enumerate((0.3855, 0.3865)):
        coco.done("both", seed, ap)
        coco.done("baseline", seed, 0.37)
    for looks, verdict in (([], "**REPRODUCED**"), ([1], "**INCONCLUSIVE (2 more seeds would decide)**")):
        coco.manifest(base="faster_rcnn_r50_fpn_1x", changed=[], looks=looks)
        text = markdown(tmp_path)
        claim = row_of(text, "headline claims", "38.9 AP")[2]
        assert claim.startswith(f"{verdict}: measured 38.60 ± 0.07 (n = 2); margin 0.5"), claim
    # s = sqrt((10 x 0.15^2 + 2 x 0.05^2) / 12) = 0.1384: 0.3 + 1.782 x 0.1384 / sqrt(2) = 0.474; with 2.179: 0.513
    assert "half-width 0.21 at 95%, seeds were added after results of 1 seed were known; against 38.8: " in claim
    assert "at 95% instead of 90% because seeds were added after results of 1 seed were known" in text
    assert "Seeds were added after results of 1 seed were known. Verdicts on printed numbers are widened" in text


def test_a_failed_run_makes_a_claim_not_comparable_and_resumed_runs_are_counted(tmp_path: Path) -> None:
    coco = RunsFolder(tmp_path, "coco")
    resumed = coco.done("both", 0, 0.39)
    edit_json(resumed / "status.json", attempts=[{"number": 1}, {"number": 2}])
    coco.done("baseline", 0, 0.37)
    coco.start("baseline", 1, "failed", "NaN")
    coco.manifest(base="faster_rcnn_r50_fpn_1x", changed=[])
    text = markdown(tmp_path)
    assert row_of(text, "headline claims", "38.9 AP")[2] == (
        "**REPRODUCED**: measured 39.00 (n = 1); margin 0.5, half-width 0.27 at 90%, noise assumed: no arm has two "
        "seeds, 1 run resumed; against 38.8: REPRODUCED"
    )
    assert row_of(text, "headline claims", "+1.9 AP")[2].startswith(
        "**NOT COMPARABLE: 1 run of baseline failed (NaN); the others may be a biased selection**: measured +2.00"
    )


def test_an_unreadable_run_makes_a_claim_not_comparable(tmp_path: Path) -> None:
    coco = RunsFolder(tmp_path, "coco")
    for seed in range(2):
        coco.done("both", seed, 0.389)
        coco.done("baseline", seed, 0.37)
    (tmp_path / coco.path("both", 1) / "metrics.json").write_text("{")
    coco.manifest(base="faster_rcnn_r50_fpn_1x", changed=[])
    text = markdown(tmp_path)
    message = "NOT COMPARABLE: 1 run of both unreadable (metrics.json); the others may be a biased selection"
    assert row_of(text, "headline claims", "38.9 AP")[2].startswith(f"**{message}**: measured 38.90 (n = 1)")
    assert row_of(text, "| Table 2, verdict", "both")[1] == f"{message}: 38.9, measured 38.90"


def test_an_arm_of_two_settings_makes_a_claim_not_comparable(tmp_path: Path) -> None:
    coco = RunsFolder(tmp_path, "coco")
    for seed in range(2):
        coco.done("both", seed, 0.389)
        coco.done("baseline", seed, 0.37)
    coco.manifest(base="faster_rcnn_r50_fpn_1x", changed=[])
    make_another_run(tmp_path / coco.path("both", 1), config={"of": "both", "more": 1})
    text = markdown(tmp_path)
    message = "NOT COMPARABLE: runs of both have 2 settings"
    assert row_of(text, "headline claims", "38.9 AP")[2] == f"**{message}**"
    assert row_of(text, "headline claims", "+1.9 AP")[2] == f"**{message}**"
    assert row_of(text, "| Table 2, verdict", "both")[1] == f"{message}: 38.9"


def test_a_run_without_its_number_of_images_is_not_comparable(tmp_path: Path) -> None:
    coco = RunsFolder(tmp_path, "coco")
    edit_json(coco.done("both", 0, 0.389) / "metrics.json", images=None)
    coco.done("baseline", 0, 0.37)
    coco.manifest(base="faster_rcnn_r50_fpn_1x", changed=[])
    message = "**NOT COMPARABLE: evaluated on an unknown number of images; val2017 has 5000**"
    assert row_of(markdown(tmp_path), "headline claims", "38.9 AP")[2].startswith(message)


def test_another_split_is_not_comparable(tmp_path: Path) -> None:
    coco = RunsFolder(tmp_path, "coco")
    edit_json(coco.done("both", 0, 0.389) / "metrics.json", images=4)
    coco.done("baseline", 0, 0.37)
    coco.manifest(base="faster_rcnn_r50_fpn_1x", changed=[])
    text = markdown(tmp_path)
    message = "NOT COMPARABLE: evaluated on 4 images; val2017 has 5000"
    assert row_of(text, "headline claims", "38.9 AP")[2].startswith(f"**{message}**: measured 38.90")
    assert row_of(text, "| Table 2, verdict", "both")[1] == f"{message}: 38.9, measured 38.90"


@pytest.mark.parametrize(
    ("state", "final", "message"),
    [
        ("done", (0.60, 0.16), "**REPRODUCED**: 10 of 10 trends hold in 2 runs"),
        (
            "done",
            (0.60, 0.30),
            "**NOT REPRODUCED**: 9 of 10 trends hold in 2 runs (declared tolerances: T 0.03, beta 0.04)",
        ),
        ("failed", (0.60, 0.30), "**INCONCLUSIVE**: 7 of 10 trends hold in 2 runs"),
    ],
)
def test_the_trends_of_figure_5_get_a_verdict(
    tmp_path: Path, state: str, final: tuple[float, float], message: str
) -> None:
    coco = RunsFolder(tmp_path, "coco")
    first = coco.done("both", 0, 0.389)
    second = coco.done("both", 1, 0.389) if state == "done" else coco.start("both", 1, "failed", "preempted")
    for run, end in ((first, (0.60, 0.16)), (second, final)):
        points = {300: (0.5167, 0.4), 350: (0.52, 0.3), 90000: end}
        rows = [{"iteration": at, "T": t, "beta": b, "loss": 1.0, "seconds": 0.3} for at, (t, b) in points.items()]
        (run / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    coco.ask("baseline", 0)
    coco.manifest(base="faster_rcnn_r50_fpn_1x", changed=[])
    assert row_of(markdown(tmp_path), "headline claims", "T and beta move")[2].startswith(message)


@pytest.mark.parametrize(
    ("last", "shift", "message"),
    [
        (
            500,
            0.01,
            "**REPRODUCED**: 2 of 2 runs within the declared tolerance 0.03; largest gap 0.0100 at iteration 500",
        ),
        (
            300,
            0.01,
            "**INCONCLUSIVE**: 2 of 2 runs within the declared tolerance 0.03; largest gap 0.0100 at iteration 300",
        ),
        (
            300,
            0.04,
            "**NOT REPRODUCED**: 1 of 2 runs within the declared tolerance 0.03; largest gap 0.0400 at iteration 300",
        ),
    ],
)
def test_the_trajectory_of_t_gets_a_verdict_before_any_run_has_finished(
    tmp_path: Path, last: int, shift: float, message: str
) -> None:
    coco = RunsFolder(tmp_path, "coco")
    for seed in range(2):
        run = coco.start("both", seed, "failed", "preempted", iteration=last)
        published = {at: t for at, t in PUBLISHED.items() if at <= last}
        published[last] += seed * shift
        rows = [{"iteration": at, "T": t, "beta": 1.0, "loss": 1.0, "seconds": 0.3} for at, t in published.items()]
        (run / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    coco.ask("baseline", 0)
    coco.manifest(base="faster_rcnn_r50_fpn_1x", changed=[])
    found = row_of(markdown(tmp_path), "headline claims", "T at iterations 100 to 500")
    assert found[1] == "hkzhang95/DynamicRCNN issue 3" and found[2] == message


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ({}, "its manifest names no base"),
        ({"base": "shapes_r18_fpn", "changed": []}, "base `shapes_r18_fpn`"),
        ({"base": "faster_rcnn_r50_fpn_1x", "changed": ["base.train.max_epochs"]}, "changed: `base.train.max_epochs`"),
    ],
)
def test_runs_of_another_setting_decide_no_claim(tmp_path: Path, origin: dict[str, Any], message: str) -> None:
    coco = RunsFolder(tmp_path, "coco")
    for arm in ("baseline", "both"):
        coco.done(arm, 0, 0.3)
    coco.manifest(**origin)
    text = markdown(tmp_path)
    for claim in ("38.9 AP", "+1.9 AP over", "+5.5 AP90 over"):
        verdict, grid = row_of(text, "headline claims", claim)[2:]
        assert verdict == f"**NOT RUN**<br>NOT COMPARABLE: setting `0123456789`, {message}"
        assert grid == "`ablation`"
    assert "### The paper's numbers: NOT comparable with this setting" in text
    assert f"This is not the published setting ({message}); it neither confirms nor refutes" in text
    assert "COCO: these records have no grid in the published setting." in text
