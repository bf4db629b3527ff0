"""From the content of an mmdet config to a base: what is taken, what is changed, and what is refused by name.

Taken: the model, both pipelines, the batch, the optimizer, its schedule and the length. The rest (data set, evaluation,
hooks, logging, environment) belongs to the suite. The RoI head becomes the dynamic one with the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

DETECTORS = ("CascadeRCNN", "FasterRCNN", "MaskRCNN", "TwoStageDetector")
CASCADE = "dynamic_rcnn.DynamicCascadeRoIHead"
HEADS = {
    "CascadeRoIHead": CASCADE,
    "DoubleHeadRoIHead": "dynamic_rcnn.DynamicDoubleHeadRoIHead",
    "DynamicRoIHead": "dynamic_rcnn.DynamicRoIHead",
    "StandardRoIHead": "dynamic_rcnn.DynamicRoIHead",
}
_SWITCHES = ("label_assignment", "smooth_l1", "all_reduce", "statistic")
_NOT_EMPTY = {  # fields that must be absent or empty -> what to do instead
    "custom_hooks": "hooks are not run; remove them",
    "custom_imports": "only classes of mmdet can be built",
    "load_from": "all arms start from the backbone's weights; remove it",
    "model_wrapper_cfg": "remove it",
    "strategy": "the suite trains groups of images (base.train.groups); remove it",
    "tta_model": "the grid test_time has test-time augmentation; remove it",
    "tta_pipeline": "the grid test_time has test-time augmentation; remove it",
}
_HOOKS = (
    *("CheckpointHook", "DetVisualizationHook", "DistSamplerSeedHook"),
    *("IterTimerHook", "LoggerHook", "ParamSchedulerHook"),
)
_LOOPS = {"EpochBasedTrainLoop": "max_epochs", "IterBasedTrainLoop": "max_iters"}
_OPTIMIZER = ("clip_grad", "optimizer", "paramwise_cfg", "type")
_WRAPPERS = ("ClassBalancedDataset", "ConcatDataset", "MultiImageMixDataset", "RepeatDataset")
_OF_SEVERAL_IMAGES = ("CachedMixUp", "CachedMosaic", "CopyPaste", "LoadProposals", "MixUp", "Mosaic")

Config = dict[str, Any]


def find_faults(config: Config) -> list[str]:
    """What neither the trainer nor the method honours, each as `field=value: rule`; [] if the config can be used."""
    model = config.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("roi_head"), dict) or "rpn_head" not in model:
        return ["model: must be a two-stage detector, with rpn_head and roi_head"]
    return [*_model_faults(model), *_runtime_faults(config), *_data_faults(config)]


def _model_faults(model: Config) -> Iterator[str]:
    head = model["roi_head"]
    yield from _unless_in("model.type", model.get("type"), DETECTORS)
    yield from _unless_in("model.roi_head.type", head.get("type"), tuple(HEADS))
    for box_head in _listed(head.get("bbox_head")):
        coder = (box_head.get("bbox_coder") or {}).get("type", "DeltaXYWHBBoxCoder")
        yield from _unless_in("model.roi_head.bbox_head.bbox_coder.type", coder, ("DeltaXYWHBBoxCoder",))
    for stage in _listed((model.get("train_cfg") or {}).get("rcnn")):
        yield from _unless_in("model.train_cfg.rcnn.assigner.type", stage["assigner"]["type"], ("MaxIoUAssigner",))
    for place, kind in _types(model, "model"):
        if kind in ("SyncBN", "MMSyncBN"):
            yield f"{place}={kind}: each group of images is normalised by itself, as on one GPU; use BN"
        if "." in kind and kind.split(".")[0] != "mmdet":
            yield f"{place}={kind}: only classes of mmdet can be built"


def _runtime_faults(config: Config) -> Iterator[str]:
    for field, rule in _NOT_EMPTY.items():
        if config.get(field):
            yield f"{field}={_short(config[field])}: {rule}"
    for name, hook in (config.get("default_hooks") or {}).items():
        if hook:
            yield from _unless_in(f"default_hooks.{name}.type", hook.get("type"), _HOOKS)
    loop = config.get("train_cfg") or {}
    yield from _unless_in("train_cfg.type", _loop(loop), tuple(_LOOPS))
    wrapper = config.get("optim_wrapper") or {}
    kind = wrapper.get("type", "OptimWrapper")
    if kind == "AmpOptimWrapper":
        yield f"optim_wrapper.type={kind}: use OptimWrapper, and base.train.precision=fp16 or bf16"
    else:
        yield from _unless_in("optim_wrapper.type", kind, ("OptimWrapper",))
        for name in sorted(wrapper.keys() - _OPTIMIZER):
            yield f"optim_wrapper.{name}={_short(wrapper[name])}: not supported; valid: {', '.join(_OPTIMIZER)}"


def _data_faults(config: Config) -> Iterator[str]:
    loader, tested = config.get("train_dataloader") or {}, config.get("test_dataloader") or {}
    dataset = loader.get("dataset") or {}
    if "batch_size" not in loader or "pipeline" not in (tested.get("dataset") or {}):
        yield "train_dataloader, test_dataloader: must be given, with batch_size and dataset.pipeline"
    if dataset.get("type") in _WRAPPERS or "pipeline" not in dataset:
        yield f"train_dataloader.dataset.type={dataset.get('type')}: must be a plain data set; dataset= replaces it"
    yield from _unless_in(
        "train_dataloader.sampler.type", (loader.get("sampler") or {}).get("type"), ("DefaultSampler",)
    )
    batches = loader.get("batch_sampler")
    if batches:
        yield from _unless_in("train_dataloader.batch_sampler.type", batches["type"], ("AspectRatioBatchSampler",))
    for kind in (step["type"] for step in dataset.get("pipeline") or []):
        if kind in _OF_SEVERAL_IMAGES:
            yield f"train_pipeline: {kind} is not supported; remove it"
    size, images = (config.get("auto_scale_lr") or {}).get("base_batch_size"), loader.get("batch_size", 1)
    if size and size % images:
        yield f"auto_scale_lr.base_batch_size={size}: must be a multiple of train_dataloader.batch_size={images}"


def to_base(config: Config, template: Config) -> Config:
    """A base from the content of a config without faults. template: the base that has what the config lacks."""
    loader, train = config["train_dataloader"], dict(template["train"])
    loop, size = config["train_cfg"], (config.get("auto_scale_lr") or {}).get("base_batch_size")
    train |= {"max_epochs": None, "max_iters": None, _LOOPS[_loop(loop)]: loop[_LOOPS[_loop(loop)]]}
    train["images_per_group"] = loader["batch_size"]
    train["groups"] = train["processes"] = size // loader["batch_size"] if size else train["groups"]
    train["group_by_aspect_ratio"] = bool(loader.get("batch_sampler"))
    return {
        "model": _dynamic(config["model"], template["model"]["train_cfg"]["rcnn"]["dynamic_rcnn"]),
        "data": {
            "train_pipeline": _pipeline(loader["dataset"]["pipeline"]),
            "test_pipeline": _pipeline(config["test_dataloader"]["dataset"]["pipeline"], without="LoadAnnotations"),
            "filter_cfg": loader["dataset"].get("filter_cfg"),
        },
        "train": train,
        "optim_wrapper": {"type": "OptimWrapper", "clip_grad": None, **config["optim_wrapper"]},
        "param_scheduler": _listed(config.get("param_scheduler")),
        "pretrain": None,
    }


def _dynamic(model: Config, constants: Config) -> Config:
    """The model with the dynamic head, both components off, its constants, and a box loss that has a beta."""
    head = {**model["roi_head"], "type": HEADS[model["roi_head"]["type"].removeprefix("mmdet.")]}
    for name in ("bbox_head", "mask_head"):
        if head.get(name):
            parts = [_open_classes(part) for part in _listed(head[name])]
            head[name] = parts if isinstance(head[name], list) else parts[0]
    rcnn = model["train_cfg"]["rcnn"]
    if head["type"] == CASCADE:
        rcnn = {"stages": _listed(rcnn), "dynamic_rcnn": {**constants, "initial_iou": None, "stages": "all"}}
    else:
        own = {**constants, **rcnn.get("dynamic_rcnn", {})}
        rcnn = {**rcnn, "dynamic_rcnn": {**own, **{name: constants[name] for name in _SWITCHES}}}
    return {**model, "roi_head": head, "train_cfg": {**model["train_cfg"], "rcnn": rcnn}}


def _open_classes(head: Config) -> Config:
    """A box or mask head without its number of classes, which the data set gives, and with SmoothL1 instead of L1."""
    found = {**head, "num_classes": None}
    loss = head.get("loss_bbox") or {}
    if loss.get("type") == "L1Loss":
        found["loss_bbox"] = {**loss, "type": "SmoothL1Loss", "beta": 1.0}
    return found


def _pipeline(steps: list[Config], without: str = "") -> list[Config]:
    """A pipeline without the backends that it does not set, and without the transform of this type."""
    kept = [step for step in steps if step["type"] != without]
    return [{key: value for key, value in step.items() if (key, value) != ("backend_args", None)} for step in kept]


def _loop(loop: Config) -> str:
    return str(loop.get("type") or ("EpochBasedTrainLoop" if loop.get("by_epoch") else "IterBasedTrainLoop"))


def box_losses(model: dict[str, Any]) -> list[str]:
    """The type of the box loss of each stage of a model's RoI head."""
    return [head.get("loss_bbox", {}).get("type", "SmoothL1Loss") for head in _listed(model["roi_head"]["bbox_head"])]


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _types(node: Any, place: str) -> Iterator[tuple[str, str]]:
    """(field, value) of each `type` below `node`."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, item in items:
        if key == "type" and isinstance(item, str):
            yield f"{place}.type", item
        yield from _types(item, f"{place}[{key}]" if isinstance(node, list) else f"{place}.{key}")


def _unless_in(field: str, value: Any, valid: tuple[str, ...]) -> Iterator[str]:
    if not isinstance(value, str) or value.removeprefix("mmdet.") not in valid:
        yield f"{field}={value}: not supported; valid: {', '.join(valid)}"


def _short(value: Any) -> str:
    """The types in a list of hooks, or the value itself."""
    items = _listed(value)
    typed = all(isinstance(item, dict) and "type" in item for item in items)
    return ", ".join(item["type"] for item in items) if typed else str(value)
