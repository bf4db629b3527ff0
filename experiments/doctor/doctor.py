"""action=doctor: what would spoil the runs of a grid, looked for before anything is submitted.

Each finding is a line: `ok`, `note` (worth knowing), or `BAD` with what to do about it. Nothing is changed, and nothing
is fetched. What jobs will find on other machines than this one is not looked at, and said so.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from dynamic_rcnn import PROJECT
from dynamic_rcnn.data import dataset as datasets
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.spec import BENCHMARK, EVALUATE, TRAIN
from experiments.config import cluster as executor
from experiments.config.grid import Grid
from experiments.config.weights import evaluates
from experiments.doctor.findings import BAD, NOTE, OK, Finding
from experiments.doctor.weights import given_weights, other_weights, weights_of_arms
from experiments.launching.machine import visible_gpus
from experiments.planning.cost import COCO_TRAINED_ON

COCO = {"train": (118_287, 860_001), "val": (5_000, 36_781)}  # images and annotations of COCO 2017
_SPOT_CHECK = 20
_NMS = ("train_cfg.rpn_proposal", "test_cfg.rpn")
_VERSIONS = {"mmdet": "3.3.0", "mmcv-lite": "2.1.0"}
_BYTES = 4  # of a parameter, and of its momentum


def doctor(grid: Grid, runs: Path, config: DictConfig) -> int:
    """Print the findings. Returns 2 if one of them would spoil the result, else 0."""
    bad = 0
    for finding in findings(grid, runs, config):
        print(finding, flush=True)
        bad += finding.level == BAD
    print(f"{bad} of these would spoil the result" if bad else "nothing found that would spoil the result")
    return 2 if bad else 0


def findings(grid: Grid, runs: Path, config: DictConfig) -> Iterator[Finding]:
    spec, trains = grid.runs[0], grid.task != EVALUATE
    yield from _data(grid, trains)
    yield _setting(grid)
    if trains:
        yield _proposals(grid, {arm: model for each in grid.specs.values() for arm, model in each.models.items()})
    yield from _versions()
    given = spec.init["file"] if spec.init and not trains else None
    models = {arm: model for each in grid.all_runs for arm, model in each.models.items()}
    machine = _machine(list(models.values()), *([given] if given else []))
    if isinstance(machine, Finding):
        yield machine
        return
    if given:
        yield given_weights(Path(given), machine["fault"])
        yield from other_weights(grid)
    else:
        yield from weights_of_arms(dict(zip(models, machine["weights"], strict=True)))
    yield _devices(machine, config)
    if grid.task == TRAIN:
        yield _disk(grid, runs, dict(zip(models, machine["parameters"], strict=True)))


def _data(grid: Grid, trains: bool) -> Iterator[Finding]:
    dataset, filter_cfg = grid.runs[0].dataset, grid.runs[0].config["data"]["filter_cfg"]
    name = dataset["name"]
    if datasets.to_draw(dataset) is not None:
        yield Finding(OK, "data", f"{name} is not drawn yet; the first launch draws it")
        return
    try:
        datasets.check(dataset, trains, grid.has_masks)
    except UserError as error:
        yield Finding(BAD, "data", str(error))
        return
    root, _ = datasets.prepare(dataset)
    yield Finding(OK, "data", f"annotations of {name} in {root} are sound, and every image is there")
    for split in ("train", "val") if trains else ("val",):
        content = json.loads((root / dataset[f"{split}_ann"]).read_bytes())
        if name == "coco":
            yield _counts(split, content, filter_cfg)
        yield _spot_check(split, content["images"], root / dataset[f"{split}_img"])


def _counts(split: str, content: dict[str, Any], filter_cfg: dict[str, Any] | None) -> Finding:
    images, annotations = len(content["images"]), len(content["annotations"])
    found, expected = f"{images:,} images, {annotations:,} annotations", COCO[split]
    what = f"{split}2017"
    if (images, annotations) != expected:
        wanted = f"{expected[0]:,} images, {expected[1]:,} annotations"
        return Finding(
            BAD, what, f"{found}; COCO 2017 has {wanted}: get the annotations anew, or use dataset=coco_format"
        )
    if split == "val":
        return Finding(OK, what, found)
    kept = _trained_on(content, (filter_cfg or {}).get("min_size", 0))
    if kept != COCO_TRAINED_ON:
        return Finding(BAD, what, f"{kept:,} images to train on; published runs have {COCO_TRAINED_ON:,}")
    return Finding(OK, what, f"{found}; {kept:,} images to train on")


def _trained_on(content: dict[str, Any], min_size: int) -> int:
    boxed = {annotation["image_id"] for annotation in content["annotations"]}
    return sum(image["id"] in boxed and min(image["width"], image["height"]) >= min_size for image in content["images"])


def _spot_check(split: str, images: list[dict[str, Any]], folder: Path) -> Finding:
    """Decode a few images, the same ones each time, and compare their sizes with the annotations'."""
    chosen = random.Random(0).sample(images, min(_SPOT_CHECK, len(images)))
    for image in chosen:
        path = folder / image["file_name"]
        size = _decoded_size(path)
        if size is None:
            return Finding(BAD, f"{split} images", f"{path}: cannot be decoded; get it anew")
        width, height = size
        if (width, height) != (image["width"], image["height"]):
            sizes = f"{width} x {height}, annotated as {image['width']} x {image['height']}"
            return Finding(BAD, f"{split} images", f"{path}: is {sizes}; images and annotations do not belong together")
    return Finding(OK, f"{split} images", f"{len(chosen)} of {len(images):,} decoded, sizes as annotated")


def _decoded_size(path: Path) -> tuple[int, int] | None:
    """(width, height) as stored, whatever a camera says of the orientation; None if it is no image."""
    import cv2  # a tenth of a second

    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if image is None else (image.shape[1], image.shape[0])


def _setting(grid: Grid) -> Finding:
    """Batch, learning rate, processes, schedule: whatever differs from the files, on COCO, is another experiment."""
    config = grid.runs[0].config
    batch, rate = config["train"]["batch_size"], config["optim_wrapper"]["optimizer"]["lr"]
    text = f"{batch} images an iteration on {_processes(config['train']['processes'])}, learning rate {rate}"
    if grid.task == EVALUATE:
        text = f"nothing is trained; evaluated with {_processes(config['train']['processes'])}"
    if grid.dataset != "coco":
        return Finding(OK, "setting", f"{text}; on {grid.dataset} nothing is compared with the paper")
    if grid.changed:
        return Finding(BAD, "setting", f"{text}; changed: {', '.join(grid.changed)}: NOT COMPARABLE with the paper")
    return Finding(OK, "setting", f"{text}, as published")


def _proposals(grid: Grid, models: dict[str, dict[str, Any]]) -> Finding:
    """RPN NMS in training and test, of every arm: a baseline with another one is no control. models: of each arm."""
    nms = {arm: tuple(_at(model, place) for place in _NMS) for arm, model in models.items()}
    base = nms[grid.specs[grid.baseline].config[BENCHMARK]["baseline"] if grid.task == BENCHMARK else grid.baseline]
    others = [arm for arm, found in nms.items() if found != base]
    unequal = [arm for arm, (in_training, in_test) in nms.items() if in_training != in_test]
    text = f"{base[0]} in training, {base[1]} in test, in the baseline"
    if unequal:
        said = f"{text}; Dynamic R-CNN has the same in both, which {', '.join(unequal)} {_have(unequal)} not"
        return Finding(BAD, "RPN NMS", said)
    if others:
        return Finding(NOTE, "RPN NMS", f"{text}; another one, on purpose, in {', '.join(others)}")
    return Finding(OK, "RPN NMS", f"{text} and in every arm")


def _have(arms: list[str]) -> str:
    return "has" if len(arms) == 1 else "have"


def _at(model: dict[str, Any], place: str) -> float:
    first, second = place.split(".")
    return float(model[first][second]["nms"]["iou_threshold"])


def _versions() -> Iterator[Finding]:
    for package, wanted in _VERSIONS.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            if package == "mmdet":
                yield Finding(BAD, package, f"is not installed; pip install {package}=={wanted}")
            continue
        level, rest = (OK, "") if found == wanted else (BAD, f"; pip install {package}=={wanted}")
        yield Finding(level, package, f"{found}{rest}")


def _machine(models: list[dict[str, Any]], *weights: str) -> dict[str, Any] | Finding:
    """What `dynamic_rcnn.tools.describe_machine` says, also of weights for the first model; a finding if it fails.

    It does with a torchvision that is not torch's.
    """
    command = [sys.executable, "-m", "dynamic_rcnn.tools.describe_machine", *weights]
    done = subprocess.run(command, input=json.dumps(models), capture_output=True, text=True, cwd=PROJECT, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return Finding(BAD, "torch and mmdet", f"{lines[-1]}; install anew: pip install -e .")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _devices(machine: dict[str, Any], config: DictConfig) -> Finding:
    built = f"torch {machine['torch']} for " + (f"CUDA {machine['cuda']}" if machine["cuda"] else "the CPU alone")
    seen, present = machine["gpus"], visible_gpus()
    if config.cluster.executor == executor.SLURM:
        return Finding(NOTE, "GPUs", f"{built}; {len(seen)} seen here; those of the jobs' nodes are not looked at")
    if present and len(seen) < len(present):
        text = (
            f"{built} sees {len(seen)} of {len(present)} GPUs; install a torch for this driver (nvidia-smi says which)"
        )
        return Finding(BAD, "GPUs", text)
    processes = config.base.train.processes
    if seen:
        return Finding(OK, "GPUs", f"{built}; {len(seen)} of {seen[0]}, {processes} a run")
    if config.dataset.name == "coco":
        if evaluates(config):
            return Finding(NOTE, "GPUs", f"{built}; none is here: on the CPU this takes far longer than minutes")
        times_arms = config.grid.get("task") == BENCHMARK
        why = "a CPU's speed is not compared" if times_arms else "a run on COCO would take months"
        return Finding(BAD, "GPUs", f"{built}; none is here: {why}; use cluster=slurm")
    return Finding(OK, "GPUs", f"{built}; none is here, runs use the CPU")


def _disk(grid: Grid, runs: Path, parameters: dict[str, int]) -> Finding:
    """Room for the checkpoints at once and the final weights of all runs. parameters: of each arm's model."""
    keep = grid.runs[0].config["train"]["keep_checkpoints"]
    weights = _BYTES * sum(parameters[spec.arm] for spec in grid.all_runs)
    place = next(folder for folder in (runs, *runs.parents) if folder.exists())
    need, free = weights * (2 * (keep + 1) + 1), shutil.disk_usage(place).free
    text = f"{len(grid.all_runs)} runs need up to {_size(need)}, {_size(free)} are free in {place}"
    if free < need:
        return Finding(BAD, "disk", f"{text}; make room or choose another runs=")
    return Finding(OK, "disk", text)


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
