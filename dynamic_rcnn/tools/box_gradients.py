"""Which errors the box loss learns from: the share of its gradient that comes from small ones.

    python -m dynamic_rcnn.tools.box_gradients RUN_DIR [images=200]

RUN_DIR  a finished run of a detector with one stage
images   number of training images, in the run's order of its first epoch

Nothing is trained: the final weights predict boxes for the positives of training images at fixed IoU thresholds. The
gradient of SmoothL1 by each predicted coordinate is min(error / beta, 1) in size. Writes box_gradients.json into
RUN_DIR, and prints it as a table. Exit codes: 0 done, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dynamic_rcnn import cli

if __name__ == "__main__":
    cli.prepare_process()

import torch
from torch import Tensor

from dynamic_rcnn.data import dataset
from dynamic_rcnn.engine import build, checkpoint
from dynamic_rcnn.engine.seeding import seed_all
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.box_gradients import BoxGradients, GradientShares
from dynamic_rcnn.run.files import BOX_GRADIENTS, METRICS, WEIGHTS, write_json_atomic
from dynamic_rcnn.run.spec import TRAIN, RunSpec

SMALL = 0.3  # an error of a regression target that was divided by the box coder's stds
THRESHOLDS = (0.5, 0.62)  # T
BETAS = (1.0, 1 / 3, 1 / 6)


def gradient_share(errors: Tensor, beta: float) -> float:
    """The share of SmoothL1's gradient, in absolute size, that comes from errors below SMALL.

    Args:
        errors: absolute errors [N] of predicted coordinates.
        beta: of SmoothL1.
    """
    gradient = (errors / beta).clamp(max=1.0)
    return float(gradient[errors < SMALL].sum() / gradient.sum())


def measure(run_dir: Path, images: int) -> BoxGradients:
    """The content of box_gradients.json. Raises UserError if the run is not done, or has no head of one stage."""
    spec = _checked_spec(run_dir)
    model = build.build_model(spec, initialise=False)
    checkpoint.load_weights(model, run_dir / WEIGHTS)
    model.train()
    prepared = dataset.prepare(spec.dataset)
    train = {**spec.config["train"], "groups": 1, "workers": 0}
    data = build.Batches(build.build_dataset(spec, "train", prepared.root), spec.seed, train, [0])
    batches = [batch for (batch,) in data.between(0, max(1, images // train["images_per_group"]))]
    rows = []
    for threshold in THRESHOLDS:
        errors = _errors(model, batches, threshold, spec.seed)
        shares = {f"{beta:.4f}": gradient_share(errors, beta) for beta in BETAS}
        median = float(errors.median())
        rows.append(GradientShares(T=threshold, positives=len(errors) // 4, median=median, shares=shares))
    return BoxGradients(images=len(batches) * train["images_per_group"], below=SMALL, thresholds=rows)


def _checked_spec(run_dir: Path) -> RunSpec:
    spec = RunSpec.read(run_dir)
    if spec.task != TRAIN or not (run_dir / METRICS).exists():
        raise UserError(f"{run_dir}: must be a finished run that trained a detector")
    head = spec.config["model"]["roi_head"]["bbox_head"]
    if isinstance(head, list) or head["loss_bbox"]["type"] != "SmoothL1Loss":
        raise UserError(f"{run_dir}: must have a RoI head of one stage with SmoothL1Loss")
    config = {**spec.config, "model": _static(spec.config["model"])}
    return replace(spec, config=config)


def _static(model: dict[str, Any]) -> dict[str, Any]:
    """The model without DLA and DSL, which would set T and beta."""
    rcnn = model["train_cfg"]["rcnn"]
    method = {**rcnn["dynamic_rcnn"], "label_assignment": False, "smooth_l1": False}
    return {**model, "train_cfg": {**model["train_cfg"], "rcnn": {**rcnn, "dynamic_rcnn": method}}}


def _errors(model: Any, batches: Sequence[Any], threshold: float, seed: int) -> Tensor:
    """The absolute errors [4 P] of all positives' coordinates, with this T."""
    model.roi_head.replay([(threshold, 1.0)])
    found: list[Tensor] = []
    loss = model.roi_head.bbox_head.loss_bbox
    hook = loss.register_forward_pre_hook(lambda _, given: found.append((given[0] - given[1]).detach().abs().flatten()))
    try:
        for number, batch in enumerate(batches):
            seed_all(seed, "iteration", number)
            data = model.data_preprocessor(batch, True)
            with torch.no_grad():
                model(**data, mode="loss")
    finally:
        hook.remove()
    return torch.cat(found)


def main(arguments: Sequence[str]) -> int:
    """Measure as the arguments ask. Returns exit code 0; raises UserError for bad input."""
    (run_dir,) = cli.paths(arguments[:1], "RUN_DIR")
    images = cli.count("images", cli.parse(arguments[1:], {"images": "200"})["images"], 1)
    content = measure(run_dir, images)
    write_json_atomic(run_dir / BOX_GRADIENTS, content.model_dump(by_alias=True))
    print(f"share of the gradient from errors below {SMALL}, {content.images} images")
    print("   T  positives  median error  " + "  ".join(f"beta {beta:.2f}" for beta in BETAS))
    for row in content.thresholds:
        shares = "  ".join(f"{share:9.2f}" for share in row.shares.values())
        print(f"{row.T:.2f}  {row.positives:9}  {row.median:12.3f}  {shares}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, __doc__ or ""))
