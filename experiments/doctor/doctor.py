"""action=doctor: checks for everything that would spoil a grid's runs, before any is submitted.

Each finding is a line that begins with `ok`, `note` (worth knowing) or `BAD` (with what to do about it). A line with
`...` announces a check that takes a while. Nothing is changed or downloaded. The other machines that jobs run on are
not checked.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dynamic_rcnn import PROJECT
from dynamic_rcnn.cli import EXIT_BAD_INPUT
from dynamic_rcnn.run.manifest import PUBLISHED_BASE
from dynamic_rcnn.run.spec import BENCHMARK, EVALUATE, TRAIN
from dynamic_rcnn.wording import plural
from experiments.config.grid import Grid
from experiments.config.schema import SLURM, Config
from experiments.doctor.data_findings import check_data
from experiments.doctor.findings import (
    BAD,
    DOING,
    NOTE,
    OK,
    Finding,
    check_evaluated_weights,
    check_paper_weights,
    check_pretrained_weights,
)
from experiments.doctor.run_findings import check_positives
from experiments.launching.local_queue import visible_gpus

_VERSIONS = {"mmdet": "3.3.0", "mmcv-lite": "2.1.0"}
_PARAMETER_BYTES = 4  # size of a parameter, and of its momentum


def doctor(grid: Grid, runs: Path, config: Config) -> int:
    """Print the findings. Returns 2 if one of them would spoil the result, else 0."""
    bad = 0
    for finding in findings(grid, runs, config):
        print(finding, flush=True)
        bad += finding.level == BAD
    print(f"{bad} of these would spoil the result" if bad else "nothing found that would spoil the result")
    return 2 if bad else 0


def findings(grid: Grid, runs: Path, config: Config) -> Iterator[Finding]:
    """Yield the findings on setting, versions, data, weights, GPUs and disk; quick ones come first."""
    spec, trains = grid.runs[0], grid.task != EVALUATE
    yield _check_setting(grid)
    if trains:
        yield _check_rpn_nms(grid, {arm: model for each in grid.specs.values() for arm, model in each.models.items()})
    yield from _check_versions()
    yield from check_data(grid, config.settings.decode)
    yield from check_positives(grid, runs)
    models = {arm: model for each in grid.all_runs for arm, model in each.models.items()}
    weights = None if trains or not spec.init else spec.init["file"]
    yield Finding(DOING, "torch and mmdet", f"building {plural('model', len(models))}")
    machine = _describe_machine(_configs(grid), *([weights] if weights else []))
    if isinstance(machine, Finding):
        yield machine
        return
    if weights:
        yield check_evaluated_weights(Path(weights), machine["fault"])
        yield from check_paper_weights(grid)
    else:
        yield from check_pretrained_weights(dict(zip(models, machine["weights"], strict=True)))
    yield _check_gpus(grid, machine, config)
    if grid.task == TRAIN:
        yield _check_disk(grid, runs, dict(zip(models, machine["parameters"], strict=True)))


def _check_setting(grid: Grid) -> Finding:
    """Check for changes: on COCO, other groups, learning rate or schedule make the grid a different experiment."""
    config = grid.runs[0].config
    processes = plural("process", config["train"]["processes"])
    groups, images = (config["train"][name] for name in ("groups", "images_per_group"))
    rate = config["optim_wrapper"]["optimizer"]["lr"]
    text = f"{plural('group', groups)} of {plural('image', images)} per iteration on {processes}, learning rate {rate}"
    if grid.task == EVALUATE:
        text = f"no training; evaluation on {processes}"
    if grid.dataset != "coco":
        return Finding(OK, "setting", f"{text}; results on {grid.dataset} are not compared with the paper")
    published = grid.paper.base if grid.paper else PUBLISHED_BASE
    if grid.base != published:
        return Finding(NOTE, "setting", f"{text}; base {grid.base}: results are not compared with the paper")
    if grid.changed:
        return Finding(BAD, "setting", f"{text}; changed: {', '.join(grid.changed)}: NOT COMPARABLE with the paper")
    return Finding(OK, "setting", f"{text}, as published")


def _check_rpn_nms(grid: Grid, models: dict[str, dict[str, Any]]) -> Finding:
    """Compare the RPN's NMS thresholds of all arms. A baseline with other thresholds would not be a control."""
    nms = {arm: _rpn_nms(model) for arm, model in models.items()}
    baseline = grid.specs[grid.baseline].config[BENCHMARK]["baseline"] if grid.task == BENCHMARK else grid.baseline
    text = f"{nms[baseline][0]} in training and {nms[baseline][1]} in test, in the baseline"
    unequal = [arm for arm, (in_training, in_test) in nms.items() if in_training != in_test]
    if unequal:
        rule = f"Dynamic R-CNN uses one threshold for both, unlike {', '.join(unequal)}"
        return Finding(BAD, "RPN NMS", f"{text}; {rule}")
    others = [arm for arm, values in nms.items() if values != nms[baseline]]
    if others:
        return Finding(NOTE, "RPN NMS", f"{text}; intentionally different in {', '.join(others)}")
    return Finding(OK, "RPN NMS", f"{text} and in every arm")


def _rpn_nms(model: dict[str, Any]) -> tuple[float, float]:
    """The IoU thresholds of the RPN's NMS in training and in test."""
    parts = model["train_cfg"]["rpn_proposal"], model["test_cfg"]["rpn"]
    in_training, in_test = (float(part["nms"]["iou_threshold"]) for part in parts)
    return in_training, in_test


def _check_versions() -> Iterator[Finding]:
    for package, wanted in _VERSIONS.items():
        try:
            installed = version(package)
        except PackageNotFoundError:
            if package == "mmdet":
                yield Finding(BAD, package, f"not installed; pip install {package}=={wanted}")
            continue
        level, advice = (OK, "") if installed == wanted else (BAD, f"; pip install {package}=={wanted}")
        yield Finding(level, package, f"{installed}{advice}")


def _configs(grid: Grid) -> list[dict[str, Any]]:
    """What to build, by arm: the model and, unless weights are only evaluated, the optimizer and its schedules."""
    trained = () if grid.task == EVALUATE else ("optim_wrapper", "param_scheduler")
    found = {
        arm: {"model": model, **{name: each.config[name] for name in trained}}
        for each in grid.all_runs
        for arm, model in each.models.items()
    }
    return list(found.values())


def _describe_machine(configs: list[dict[str, Any]], *weights: str) -> dict[str, Any] | Finding:
    """The output of `dynamic_rcnn.tools.describe_machine`; a finding if it fails, as with an incompatible torchvision.

    It builds the configurations, and loads the file of weights, if any, into the first model.
    """
    command = [sys.executable, "-m", "dynamic_rcnn.tools.describe_machine", *weights]
    done = subprocess.run(command, input=json.dumps(configs), capture_output=True, text=True, cwd=PROJECT, check=False)
    if done.returncode == EXIT_BAD_INPUT:
        return Finding(BAD, "configuration", done.stderr.strip().splitlines()[-1].removeprefix("error: "))
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return Finding(BAD, "torch and mmdet", f"{lines[-1]}; reinstall them: pip install -e .")
    machine: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return machine


def _check_gpus(grid: Grid, machine: dict[str, Any], config: Config) -> Finding:
    torch = f"torch {machine['torch']} for {'CUDA ' + machine['cuda'] if machine['cuda'] else 'the CPU only'}"
    seen, present = machine["gpus"], visible_gpus()
    if config.cluster.executor == SLURM:
        return Finding(NOTE, "GPUs", f"{torch}; it sees {len(seen)} GPUs here; the nodes of jobs are not checked")
    if len(seen) < len(present):
        text = f"{torch} sees {len(seen)} of {len(present)} GPUs; install a torch for this driver (see nvidia-smi)"
        return Finding(BAD, "GPUs", text)
    if seen:
        return Finding(OK, "GPUs", f"{torch}; {len(seen)} of {seen[0]}, {grid.runs[0].processes} per run")
    text = f"{torch}; there is no GPU"
    if grid.dataset != "coco":
        return Finding(OK, "GPUs", f"{text}, so runs use the CPU")
    if grid.task == EVALUATE:
        return Finding(NOTE, "GPUs", f"{text}: on the CPU this takes far longer than minutes")
    why = "the speed of a CPU is not comparable" if grid.task == BENCHMARK else "a run on COCO would take months"
    return Finding(BAD, "GPUs", f"{text}: {why}; use cluster=slurm")


def _check_disk(grid: Grid, runs: Path, parameters: dict[str, int]) -> Finding:
    """Compare the free space with the checkpoints and final weights of all runs. parameters: of each arm's model."""
    keep = grid.runs[0].config["train"]["keep_checkpoints"]
    weights = _PARAMETER_BYTES * sum(parameters[spec.arm] for spec in grid.all_runs)
    folder = next(folder for folder in (runs, *runs.parents) if folder.exists())
    need, free = weights * (2 * (keep + 1) + 1), shutil.disk_usage(folder).free
    count = plural("run", len(grid.all_runs))
    text = f"checkpoints of {count} take up to {need / 1e9:.1f} GB; {folder} has {free / 1e9:.1f} GB free"
    if free < need:
        return Finding(BAD, "disk", f"{text}; free some space or choose another runs=")
    return Finding(OK, "disk", text)
