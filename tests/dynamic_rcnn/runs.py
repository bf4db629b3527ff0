"""Small real runs for tests: a spec on tiny shapes, and a training process that can be disturbed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from dynamic_rcnn.data import dataset
from dynamic_rcnn.data.shapes import ShapesRecipe
from dynamic_rcnn.run.files import read_jsonl
from dynamic_rcnn.run.spec import RunSpec
from dynamic_rcnn.run.train_log import TIMING
from experiments.config.conf_files import load_base
from tests.dynamic_rcnn.fork_server import ForkedProcess

PROJECT = Path(__file__).resolve().parents[2]
SMALL = {
    "train.max_iters": 20,
    "train.groups": 1,
    "train.images_per_group": 2,
    "train.log_interval": 1,
    "train.checkpoint_interval": 4,
    "model.train_cfg.rcnn.dynamic_rcnn.label_assignment": True,
    "model.train_cfg.rcnn.dynamic_rcnn.smooth_l1": True,
    "model.train_cfg.rcnn.dynamic_rcnn.iou_topk": 8,
    "model.train_cfg.rcnn.dynamic_rcnn.beta_topk": 5,
    "model.train_cfg.rcnn.dynamic_rcnn.update_iter_interval": 5,
    "param_scheduler": [
        {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 5},
        {"type": "MultiStepLR", "by_epoch": False, "milestones": [11], "gamma": 0.1},
    ],
}


def plain_config(base: str, classes: int, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The configuration of a RunSpec on the named base."""
    config = OmegaConf.create(load_base(base))
    config.pop("pretrain")
    for path, value in (changes or {}).items():
        OmegaConf.update(config, path, value, merge=False)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    plain["model"]["roi_head"]["bbox_head"]["num_classes"] = classes
    return plain


def small_spec(root: Path, seed: int = 0, **changes: Any) -> RunSpec:
    """A run of 20 iterations on tiny shapes below `root`; changes: dotted paths with __ for the dots."""
    data = {**dataset.shapes(ShapesRecipe(train_images=24, val_images=8), str(root)), "name": "shapes_tiny"}
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    config = plain_config("shapes_r18_fpn", len(data["classes"]), {**SMALL, **dotted})
    return RunSpec("both", seed, data, config)


def prepare(folder: Path, spec: RunSpec) -> Path:
    """The run directory of `spec` below `folder`, ready to train."""
    run_dir = spec.directory(folder)
    run_dir.mkdir(parents=True, exist_ok=True)
    spec.write(run_dir)
    return run_dir


def train(
    run_dir: Path,
    moment: str = "never",
    count: int = 0,
    threads: int = 1,
    rank: int | str = "all",
    device: str = "cpu",
) -> subprocess.CompletedProcess[str]:
    """Train in a separate process, disturbed at `moment` (see the module `disturbed`)."""
    process = start(run_dir, moment, count, threads, rank, device=device)
    stdout, stderr = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def start(
    run_dir: Path,
    moment: str = "never",
    count: int = 0,
    threads: int = 1,
    rank: int | str = "all",
    forked: bool = True,
    device: str = "cpu",
) -> subprocess.Popen[str] | ForkedProcess:
    """Like `train`, and does not wait. threads: of each of the run's processes; forked: see `fork_server`.

    device: the fork server, and with it every process that it forks, sees no GPU.
    """
    processes = RunSpec.read(run_dir).processes if (run_dir / "spec.json").exists() else 1
    env = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads * processes),
        "OMP_WAIT_POLICY": "PASSIVE",
        **({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}),
        "PYTHONPATH": str(PROJECT),
        "DISTURB": f"{moment} {count} {rank}",
    }
    if forked and threads == 1 and device == "cpu":
        return ForkedProcess(run_dir, env)
    command = [sys.executable, "-m", "tests.dynamic_rcnn.disturbed", str(run_dir)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def curve(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of train.jsonl without what is measured."""
    return [
        {key: value for key, value in row.items() if key not in TIMING} for row in read_jsonl(run_dir / "train.jsonl")
    ]


def assert_same_run(run_dir: Path, reference: Path) -> None:
    """Equal to the last bit: weights, metrics, detections and what was logged."""
    weights, expected = (
        torch.load(folder / "checkpoints" / "weights.pth", weights_only=True)["state_dict"]
        for folder in (run_dir, reference)
    )
    assert weights.keys() == expected.keys()
    assert [name for name in weights if not torch.equal(weights[name], expected[name])] == []
    for name in ("metrics.json", "detections.json.gz"):
        files = [folder / name for folder in (run_dir, reference)]  # a pretraining has no detections
        assert [path.exists() and path.read_bytes() for path in files] == [
            files[1].exists() and files[1].read_bytes()
        ] * 2
    assert curve(run_dir) == curve(reference)
