"""Small real runs for tests: a spec on tiny shapes, and a training process that can be told when to die."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dynamic_rcnn import dataset
from dynamic_rcnn.data.shapes import ShapesRecipe
from dynamic_rcnn.run.spec import RunSpec

BASES = Path(dataset.__file__).parent / "configs" / "base"
SMALL = {
    "train.max_iters": 20,
    "train.batch_size": 2,
    "train.log_interval": 1,
    "train.checkpoint_interval": 4,
    "model.train_cfg.rcnn.dynamic_rcnn.label_assignment": True,
    "model.train_cfg.rcnn.dynamic_rcnn.smooth_l1": True,
    "model.train_cfg.rcnn.dynamic_rcnn.iou_topk": 16,
    "model.train_cfg.rcnn.dynamic_rcnn.beta_topk": 5,
    "model.train_cfg.rcnn.dynamic_rcnn.update_iter_interval": 5,
    "param_scheduler": [
        {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 5},
        {"type": "MultiStepLR", "by_epoch": False, "milestones": [11], "gamma": 0.1},
    ],
}

# Runs the trainer with a SIGKILL to itself at a chosen moment: argv is moment, count, run directory.
SUICIDAL = """
import os, signal, sys
from dynamic_rcnn import checkpoint, results, train, training
moment, count, run_dir = sys.argv[1], int(sys.argv[2]), sys.argv[3]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
if moment == "iteration":
    log = training.Training._log
    def log_and_die(self, *args):
        log(self, *args)
        if self.iteration == count: die()
    training.Training._log = log_and_die
elif moment == "checkpoint":  # in the middle of writing: half of the bytes are in the temporary file
    save = checkpoint.save
    def half_save(folder, content, keep):
        if content["meta"]["iteration"] == count:
            data = checkpoint.serialise(content)
            with open(folder / f".iter_{count:06d}-00000000.pth.tmp", "wb") as file:
                file.write(data[: len(data) // 2])
                file.flush()
            die()
        return save(folder, content, keep)
    checkpoint.save = half_save
elif moment == "evaluated":  # after an evaluation on the way, before the checkpoint of that iteration
    results.evaluate_now = lambda *args, now=results.evaluate_now: (now(*args), die())
elif moment == "evaluation":
    results.predict = lambda *args: die()
sys.argv = ["train", run_dir]
sys.exit(train.main())
"""


def plain_config(base: str, classes: int, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The configuration of a RunSpec on the named base."""
    config = OmegaConf.load(BASES / f"{base}.yaml")
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


def train(run_dir: Path, moment: str = "never", count: int = 0, threads: int = 1) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own, which kills itself at the moment asked for."""
    return subprocess.run(
        [sys.executable, "-c", SUICIDAL, moment, str(count), str(run_dir)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
