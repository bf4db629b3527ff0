"""Changes of the base that have no effect on arms which set these fields themselves are reported."""

from __future__ import annotations

import pytest

from experiments.config.compose import resolve
from experiments.config.overrides import describe_overruled

METHOD = "base.model.train_cfg.rcnn.dynamic_rcnn"
BETA = "base.model.roi_head.bbox_head.loss_bbox.beta"
SCORE = "base.model.test_cfg.rcnn.score_thr"


@pytest.mark.parametrize(
    ("overrides", "arms"),
    [
        ([f"{METHOD}.smooth_l1=true"], "dsl, both"),
        ([f"{METHOD}.smooth_l1=true", "arms=[baseline,dla]"], None),
        (["base.train.max_iters=9"], None),
        (
            [f"{BETA}=0.5", "grid=controls"],
            "faster_rcnn, l1, beta_1_2, beta_1_4, beta_1_6, beta_1_9",
        ),  # l1 by the mapping
        ([f"{METHOD}.iou_topk=80", "grid=iou_topk"], "ki_64, ki_75, ki_100"),
        (["base.model.backbone.base_channels=4", "grid=mask"], "r101, r101_dynamic"),  # they set it in set_for
        ([f"{SCORE}=0.1", "grid=speed"], None),  # arms that set test_cfg.rcnn take it from the base
        (["base.model.roi_head.bbox_head.fc_out_channels=64", "grid=speed"], None),
        ([f"{BETA}=0.5", "grid=speed"], "cascade, cascade_mask"),  # the others take the base's head
        ([f"{SCORE}=0.1", "grid=speed", f"++grid.arms.both.set={{{SCORE[5:]}: 0.2}}"], "both"),
    ],
)
def test_arms_that_a_changed_field_does_not_reach(overrides: list[str], arms: str | None) -> None:
    config, _ = resolve(["dataset=shapes", "cluster=local", *overrides])
    field = overrides[0].split("=")[0]
    found = [line.removeprefix(f"{field}: has no effect on ") for line in describe_overruled(config, [field])]
    assert [set(line.removesuffix(", which set it themselves").split(", ")) for line in found] == (
        [set(arms.split(", "))] if arms else []
    )
