"""Configs of mmdet shrunk for tests: files that inherit from five families and train in seconds."""

from __future__ import annotations

from pathlib import Path

from experiments.config.foreign_base import find_config

_HEAD = """
_base_ = [{base!r}]
resize = dict(type="Resize", scale=(128, 96), keep_ratio=True)
train_pipeline = [
    dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True, with_mask={masks}),
    resize, dict(type="RandomFlip", prob=0.5), dict(type="PackDetInputs"),
]
meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
test_pipeline = [
    dict(type="LoadImageFromFile"), resize, dict(type="LoadAnnotations", with_bbox=True, with_mask={masks}),
    dict(type="PackDetInputs", meta_keys=meta_keys),
]
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline, filter_cfg=dict(min_size=20)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
auto_scale_lr = dict(base_batch_size=4)
extractor = dict(out_channels=16)
proposals = dict(nms_pre=1000, max_per_img=300)
sampler = dict(num=48)
resnet = dict(depth=18, base_channels=8, init_cfg=None)
model = dict(
    backbone=resnet,
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(bbox_roi_extractor=extractor),
    train_cfg=dict(rpn_proposal=proposals),
    test_cfg=dict(rpn=proposals),
)
"""
_ONE_STAGE = """
model["roi_head"]["bbox_head"] = dict(in_channels=16, fc_out_channels=32)
model["train_cfg"]["rcnn"] = dict(sampler=sampler)
"""
_MASK = """
mask_head = dict(num_convs=1, in_channels=16, conv_out_channels=16)
model["roi_head"].update(mask_roi_extractor=extractor, mask_head=mask_head)
"""
_CASCADE = """
def stage(iou, *stds):
    coder = dict(type="DeltaXYWHBBoxCoder", target_means=[0.0] * 4, target_stds=stds)
    head = dict(
        type="Shared2FCBBoxHead", in_channels=16, fc_out_channels=32, roi_feat_size=7, num_classes=80, bbox_coder=coder,
        reg_class_agnostic=True, loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
        loss_bbox=dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0),
    )
    assigner = dict(
        type="MaxIoUAssigner", pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou, match_low_quality=False,
        ignore_iof_thr=-1,
    )
    drawn = dict(type="RandomSampler", pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True, **sampler)
    return head, dict(assigner=assigner, sampler=drawn, pos_weight=-1, debug=False)

stages = [stage(0.5, 0.1, 0.1, 0.2, 0.2), stage(0.6, 0.05, 0.05, 0.1, 0.1), stage(0.7, 0.033, 0.033, 0.067, 0.067)]
model["roi_head"]["bbox_head"] = [head for head, _ in stages]
model["train_cfg"]["rcnn"] = [settings for _, settings in stages]
del stage
"""
_DOUBLE_HEAD = """
model["roi_head"]["bbox_head"] = dict(num_convs=1, in_channels=16, conv_out_channels=32, fc_out_channels=32)
model["train_cfg"]["rcnn"] = dict(sampler=sampler)
"""
_LIBRA = f"""{_ONE_STAGE}
model["neck"] = [
    dict(type="FPN", in_channels=[8, 16, 32, 64], out_channels=16, num_outs=5),
    dict(type="BFP", in_channels=16, num_levels=5, refine_level=2, refine_type="non_local"),
]
"""
_SWIN = f"""{_ONE_STAGE}{_MASK}
model["backbone"] = dict(
    embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8], window_size=4, convert_weights=False, init_cfg=None
)
"""
FAMILIES = {  # name -> mmdet's config, and what shrinks it
    "mask": ("mask-rcnn_r50_fpn_1x_coco", _ONE_STAGE + _MASK),
    "cascade": ("cascade-rcnn_r50_fpn_1x_coco", _CASCADE),
    "double_head": ("dh-faster-rcnn_r50_fpn_1x_coco", _DOUBLE_HEAD),
    "libra": ("libra-faster-rcnn_r50_fpn_1x_coco", _LIBRA),
    "swin": ("mask-rcnn_swin-t-p4-w7_fpn_1x_coco", _SWIN),
}
# what a test adds on the command line: a few iterations of each run
SMALL = (
    *("base.train.max_iters=3", "base.train.max_epochs=null", "base.train.workers=0", "base.train.log_interval=1"),
    *("base.train.val_interval=0", "base.model.train_cfg.rcnn.dynamic_rcnn.iou_topk=8"),
    *(f"base.model.train_cfg.rcnn.dynamic_rcnn.{name}" for name in ("update_iter_interval=2", "beta_topk=4")),
)


def write_config(folder: Path, family: str, more: str = "") -> Path:
    """Write the config of a family, with `more` Python at its end."""
    parent, shrunk = FAMILIES[family]
    path = folder / f"{family}.py"
    masks = "mask_head" in shrunk
    path.write_text(_HEAD.format(base=str(find_config(f"mmdet:{parent}")), masks=masks) + shrunk + more)
    return path
