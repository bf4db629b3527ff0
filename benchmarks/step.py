"""Times a training step on the shapes base: mmdet's model on torchvision's operators, and this suite's.

    python -m benchmarks.step [images=4] [rois=128] [rounds=20] [iterations=2] [warmup=20] [threads=1] [seed=0]
        [profile=12]

images, rois         images per iteration, RoIs sampled per image
rounds, iterations   each round times one block of so many iterations of every model, on the same batches
profile              how many of the largest operators to print; 0 for none

The models train in one process and take turns, so that a disturbance slows all of them; the ratios are medians over the
rounds. CPU time is what the process used, and does not count waiting for a busy processor.
"""

from __future__ import annotations

import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper, build_optim_wrapper
from omegaconf import OmegaConf
from torch import Tensor

from dynamic_rcnn.cli import count, parse, run
from dynamic_rcnn.data import dataset
from dynamic_rcnn.data.shapes import ShapesRecipe
from dynamic_rcnn.engine import build
from dynamic_rcnn.engine.precision import Precision
from dynamic_rcnn.engine.seeding import seed_all
from dynamic_rcnn.engine.step import Step
from dynamic_rcnn.ops import torchvision_ops
from dynamic_rcnn.run.spec import RunSpec
from dynamic_rcnn.train import keep_freed_memory
from experiments.config.conf_files import load_base

DEFAULTS = {
    **{"images": "4", "rois": "128", "rounds": "20", "iterations": "2", "warmup": "20"},
    **{"threads": "1", "seed": "0", "profile": "12"},
}
PEER = "mmdet's model and head, torchvision's operators"
BEFORE = "this suite's head, mmdet's model, torchvision's operators"
AFTER = "this suite's model"


def main(arguments: Sequence[str]) -> int:
    """Exit code 0. Raises UserError for an argument that is not a number."""
    values = parse(arguments, DEFAULTS)
    size = {name: count(name, value, 0 if name in ("seed", "profile") else 1) for name, value in values.items()}
    torch.set_num_threads(size["threads"])
    keep_freed_memory()  # for all models
    with tempfile.TemporaryDirectory() as folder:
        spec = make_spec(Path(folder), size)
        root, _ = dataset.prepare(spec.dataset)
        images = build.build_dataset(spec, "train", root)
        batches = build.Batches(images, spec.seed, spec.config["train"], range(1))
        loaded = list(batches.between(0, size["warmup"] + size["iterations"]))
    models = {PEER: peer(spec), BEFORE: peer(spec, own_head=True), AFTER: own(spec)}
    for model in models.values():
        model.work(loaded[: size["warmup"]])
    print_table(time_rounds(models, loaded[size["warmup"] :], size["rounds"]))
    if size["profile"]:
        for name in (PEER, AFTER):
            print_profile(name, models[name], loaded[size["warmup"] :], size["profile"])
    return 0


def make_spec(folder: Path, size: dict[str, int]) -> RunSpec:
    """A run with both components on the shapes base."""
    recipe = ShapesRecipe(train_images=size["images"] * (size["warmup"] + size["iterations"]), val_images=1)
    data = dataset.shapes(recipe, str(folder))
    config = OmegaConf.create(load_base("shapes_r18_fpn"))
    config.model.roi_head.bbox_head.num_classes = len(data["classes"])
    config.model.train_cfg.rcnn.sampler.num = size["rois"]
    config.train.images_per_group = size["images"]
    config.model.train_cfg.rcnn.dynamic_rcnn.update(label_assignment=True, smooth_l1=True)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return RunSpec("both", size["seed"], data, plain)


class Training:
    """A model in training, with its optimizer and the NMS that mmcv calls."""

    def __init__(self, spec: RunSpec, model: Any, optimizer: OptimWrapper, nms: Any) -> None:
        self.nms = nms
        precision = Precision(spec.config["train"]["precision"], torch.device("cpu"))
        self.step = Step(model.train(), optimizer, precision, spec.seed)
        self.iteration = 0

    def work(self, batches: list[Any]) -> tuple[float, float]:
        """Train an iteration on each batch. Returns CPU and wall-clock seconds per iteration."""
        copies = copy.deepcopy(batches)
        sys.modules["mmcv._ext"].nms = self.nms  # type: ignore[attr-defined]
        cpu, wall = time.process_time(), time.perf_counter()
        for batch in copies:
            self.step.train(self.iteration, batch)
            self.iteration += 1
        return (time.process_time() - cpu) / len(batches), (time.perf_counter() - wall) / len(batches)


def own(spec: RunSpec) -> Training:
    """The detector and the optimizer of `spec` as the trainer builds them."""
    model = build.build_model(spec)
    return Training(spec, model, build.build_optimizer(spec, model), torchvision_ops.nms)


def peer(spec: RunSpec, own_head: bool = False) -> Training:
    """The detector of `peer_model`, with the optimizer as mmengine builds it."""
    model = peer_model(spec, own_head)
    return Training(spec, model, build_optim_wrapper(model, ConfigDict(spec.config["optim_wrapper"])), plain_nms)


def peer_model(spec: RunSpec, own_head: bool = False) -> Any:
    """The detector of `spec` as mmdet builds it, with torchvision's RoIAlign; own_head: with this suite's head."""
    build.use_mmdet_scope()
    config = ConfigDict(copy.deepcopy(spec.config["model"]))
    config.roi_head.bbox_roi_extractor.roi_layer.use_torchvision = True
    if not own_head:
        config.roi_head.type = "mmdet.DynamicRoIHead"
        for switch in ("label_assignment", "smooth_l1", "all_reduce"):
            config.train_cfg.rcnn.dynamic_rcnn.pop(switch)
    seed_all(spec.seed, "weights")
    model = MODELS.build(config)
    model.init_weights()
    return model


def plain_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """torchvision's NMS, with mmcv's calling convention."""
    assert offset == 0
    return torchvision.ops.nms(boxes, scores, iou_threshold)


def time_rounds(models: dict[str, Training], batches: list[Any], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """CPU and wall-clock seconds per iteration of each model in each round."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            times[name].append(model.work(batches))
    return times


def print_table(times: dict[str, list[tuple[float, float]]]) -> None:
    """Print a row per model: medians, and the median ratio to the peer in the same round."""
    print(f"{'seconds per iteration':58} {'CPU':>7} {'ratio':>6} {'wall':>7} {'ratio':>6}")
    for name, rows in times.items():
        columns = []
        for clock in (0, 1):
            own, peer = [row[clock] for row in rows], [row[clock] for row in times[PEER]]
            ratio = statistics.median(mine / theirs for mine, theirs in zip(own, peer, strict=True))
            columns.append(f"{statistics.median(own):7.3f} {ratio:6.2f}")
        print(f"{name:58} {columns[0]} {columns[1]}", flush=True)


def print_profile(name: str, model: Training, batches: list[Any], number: int) -> None:
    """Print the operators that take the largest share of the time, without the operators they call."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        model.work(batches)
    rows = sorted(profiler.key_averages(), key=lambda row: row.self_cpu_time_total, reverse=True)
    total = sum(row.self_cpu_time_total for row in rows)
    print(f"\nlargest operators: {name}")
    for row in rows[:number]:
        share, calls = row.self_cpu_time_total / total, row.count / len(batches)
        print(f"{share:7.1%} {calls:7.1f} calls per iteration  {row.key}")


if __name__ == "__main__":
    sys.exit(run(main, __doc__ or ""))
