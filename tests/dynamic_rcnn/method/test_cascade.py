"""The Cascade head: mmdet's to the last bit with both components off, and T and beta of each stage with them on."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from dynamic_rcnn.engine.seeding import seed_all
from tests.dynamic_rcnn.method.test_roi_head import ODD, ORDINARY, batch, config

OURS = "dynamic_rcnn.DynamicCascadeRoIHead"
OFF = {"label_assignment": False, "smooth_l1": False}
STAGES = ((0.5, 1.0), (0.6, 0.5), (0.7, 0.33))  # threshold, and the scale of the box coder's stds


def make(kind: str, count: int = 3, **settings: Any) -> Any:
    """A Cascade head of `count` stages with the parts of `config`; settings: of dynamic_rcnn."""
    content = config(kind)
    head, training = content["bbox_head"], content["train_cfg"]
    constants = {**training.pop("dynamic_rcnn"), **settings}
    heads, trainings = [], []
    for threshold, scale in STAGES[:count]:
        heads.append(copy.deepcopy(head) | {"reg_class_agnostic": True})
        heads[-1]["bbox_coder"]["target_stds"] = [scale * std for std in head["bbox_coder"]["target_stds"]]
        trainings.append(copy.deepcopy(training))
        trainings[-1]["assigner"] |= dict.fromkeys(("pos_iou_thr", "neg_iou_thr", "min_pos_iou"), threshold)
    content |= {"num_stages": count, "stage_loss_weights": [1, 0.5, 0.25][:count], "bbox_head": heads}
    content["train_cfg"] = {"stages": trainings, "dynamic_rcnn": constants} if kind == OURS else trainings
    seed_all(0, "weights")
    built = MODELS.build(ConfigDict(content))
    for parameter in built.parameters():
        parameter.data.normal_(0, 0.05)
    return built


def trace(head: Any, objects: list[tuple[int, ...]], first: int = 0) -> list[dict[str, Any]]:
    """Losses and gradients over seeded iterations, and of our head the thresholds after them."""
    rows = []
    for iteration, counts in enumerate(objects, start=first):
        features, proposed, samples = batch(iteration, counts)
        seed_all(0, "iteration", iteration)
        head.zero_grad()
        losses = head.loss(features, proposed, samples)
        sum(value for name, value in losses.items() if "loss" in name).backward()
        row = {name: value.detach().clone() for name, value in losses.items()}
        row |= {f"grad {name}": each.grad.clone() for name, each in head.named_parameters() if each.grad is not None}
        rows.append(row | (head.current_thresholds() if hasattr(head, "stages") else {}))
    return rows


def assert_tensors_equal(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        names = {name for name in other if torch.is_tensor(other[name])}
        assert names == {name for name in mine if torch.is_tensor(mine[name])}
        assert [name for name in names if not torch.equal(mine[name], other[name])] == []


@pytest.mark.parametrize("objects", [ORDINARY, ODD], ids=["ordinary", "odd"])
def test_both_off_is_mmdets_cascade_head_to_the_last_bit(objects: list[tuple[int, ...]]) -> None:
    head, theirs = make(OURS, initial_iou=None, **OFF), make("mmdet.CascadeRoIHead")
    assert head.state_dict().keys() == theirs.state_dict().keys()
    ours = trace(head, objects)
    assert_tensors_equal(ours, trace(theirs, objects))
    thresholds = {name: value for name, value in ours[-1].items() if not torch.is_tensor(value)}
    assert [thresholds[name] for name in ("T", "T_stage2", "T_stage3")] == [0.5, 0.6, 0.7]
    assert [thresholds[name] for name in ("beta", "beta_stage2", "beta_stage3")] == [1.0] * 3


def test_one_stage_is_the_dynamic_head_to_the_last_bit() -> None:
    """The same losses, T and beta as DynamicRoIHead, which is mmdet's."""
    single = config("dynamic_rcnn.DynamicRoIHead")
    single["bbox_head"]["reg_class_agnostic"] = True
    seed_all(0, "weights")
    plain: Any = MODELS.build(ConfigDict(single))
    for parameter in plain.parameters():
        parameter.data.normal_(0, 0.05)
    ours, theirs = trace(make(OURS, count=1), ORDINARY), trace(plain, ORDINARY)
    for mine, other in zip(ours, theirs, strict=True):
        assert all(torch.equal(mine[f"s0.{name}"], other[name]) for name in ("loss_cls", "loss_bbox", "acc"))
        assert (mine["T"], mine["beta"]) == (other["T"], other["beta"])
    assert ours[-1]["T"] != 0.5 and ours[-1]["beta"] < 1.0


def test_each_stage_has_its_own_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """T of a stage is the mean of its own statistics, at least its own threshold; beta the median of its own errors."""
    head = make(OURS, initial_iou=None, iou_topk=5, beta_topk=4, initial_beta=100.0)
    measured: list[list[tuple[float, float]]] = [[], [], []]
    for stage, own in zip(head.stages, measured, strict=True):
        add = stage.schedules[0].add

        def record(ious: Any, error: Any, add: Any = add, own: Any = own) -> None:
            own.append((float(ious.mean()), float(error)))
            add(ious, error)

        monkeypatch.setattr(stage.schedules[0], "add", record)
    trace(head, ORDINARY[:3])
    for stage, own, floor in zip(head.stages, measured, (0.5, 0.6, 0.7), strict=True):
        ious, errors = zip(*own, strict=True)
        expected = max(floor, sum(ious) / 3), sorted(errors)[1]
        assert stage.current_thresholds() == pytest.approx(expected, abs=1e-6)
    assert len({stage.current_thresholds() for stage in head.stages}) == 3


def test_stages_first_leaves_the_later_stages_static() -> None:
    last = trace(make(OURS, stages="first"), ORDINARY)[-1]
    assert last["T"] != 0.5 and last["beta"] < 1.0
    assert [last[name] for name in ("T_stage2", "T_stage3", "beta_stage2", "beta_stage3")] == [0.6, 0.7, 1.0, 1.0]


def test_a_cascade_in_the_middle_of_a_window_continues_bit_for_bit() -> None:
    whole, first, resumed = (make(OURS, initial_iou=None) for _ in range(3))
    rows = trace(whole, ORDINARY)
    trace(first, ORDINARY[:4])
    resumed.load_schedules([copy.deepcopy(each.state_dict()) for each in first.schedules])
    assert_tensors_equal(trace(resumed, ORDINARY[4:], first=4), rows[4:])
    assert resumed.current_thresholds() == whole.current_thresholds()


def test_groups_have_schedules_for_each_stage() -> None:
    head = make(OURS, initial_iou=None)
    head.set_groups(2)
    assert len(head.schedules) == 6
    for iteration in range(2 * head.stages[0].settings["update_iter_interval"]):
        head.use_group(iteration % 2)
        head.loss(*batch(iteration, (2, 3)))
    assert [each.updates for each in head.schedules] == [1] * 6
    assert head.schedules[0].beta != head.schedules[3].beta  # the first stage of each group
