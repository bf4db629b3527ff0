"""The arms of a timing run: what one does in training and at inference, and what is equal between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dynamic_rcnn.engine import build
from dynamic_rcnn.engine.ending import UncheckedLosses
from dynamic_rcnn.engine.precision import Precision
from dynamic_rcnn.engine.step import Step
from dynamic_rcnn.run.heartbeat import beat
from dynamic_rcnn.run.spec import RunSpec

if TYPE_CHECKING:
    from mmdet.models.detectors import BaseDetector

PAIRS = 2  # per proposal; with 1, NMS left fewer than the most allowed detections in some arms on shapes, not in all


class TrainingArm:
    """An arm in training: its model, optimizer and learning rate schedule."""

    def __init__(self, spec: RunSpec, device: torch.device, losses: UncheckedLosses) -> None:
        self.spec = spec
        self.model = build.build_model(spec).to(device)
        self.model.train()
        self.optimizer = build.build_optimizer(spec, self.model)
        self.step = Step(self.model, self.optimizer, Precision(spec.config["train"]["precision"], device), spec.seed)
        self.schedulers = [each for each in build.build_schedulers(spec, self.optimizer) if not each.by_epoch]
        self.iteration = 0
        self.losses = losses

    def work(self, batch: list[Any]) -> None:
        """Train one iteration as a training run does. In the same iteration all arms draw the same random numbers."""
        logs = self.step.train(self.iteration, batch)
        self.iteration += 1
        self.losses.add(self.iteration, logs["loss"])
        for scheduler in self.schedulers:
            scheduler.step()
        beat()


class InferenceArm:
    """An arm at inference: its model, and how much post-processing its heads leave."""

    def __init__(self, spec: RunSpec, device: torch.device) -> None:
        self.model = build.build_model(spec).to(device)
        self.model.eval()
        self.proposals = self.score_thr = self.detections = 0.0

    def work(self, batch: Any) -> None:
        """Detect on a batch of one image: preprocessing, network and post-processing."""
        with torch.no_grad():
            self.model.test_step(batch)
        beat()

    def calibrate(self, batches: list[Any]) -> None:
        """Set the score threshold, so that all arms have the same number of boxes to post-process.

        With random weights that number would be arbitrary. Over these images, PAIRS (box, class) pairs per proposal
        pass the threshold. NMS and the maximum number of detections per image stay as configured.
        """
        head = self.model.roi_head
        pairs, proposals = [], 0
        with torch.no_grad():
            for batch in batches:
                scores, count = raw_scores(self.model, batch)
                pairs.append(scores.flatten())
                proposals += count
            every = torch.cat(pairs)
            kept = min(PAIRS * proposals + 1, len(every))  # a score must be above the threshold
            head.test_cfg.score_thr = self.score_thr = float(every.topk(kept).values[-1])
            found = [detect(self.model, batch) for batch in batches]
        self.proposals = proposals / len(batches)
        self.detections = sum(len(each["scores"]) for each in found) / len(batches)


def raw_scores(model: BaseDetector, batch: Any) -> tuple[Tensor, int]:
    """Scores [N, classes], without the background's, of the N proposals of one image, before any threshold; and N."""
    data = model.data_preprocessor(batch, False)
    features = model.extract_feat(data["inputs"])
    proposals = model.rpn_head.predict(features, data["data_samples"], rescale=False)
    metas = [sample.metainfo for sample in data["data_samples"]]
    (found,) = model.roi_head.predict_bbox(features, metas, proposals, rcnn_test_cfg=None)
    return found.scores[:, :-1], len(found.scores)


def detect(model: BaseDetector, batch: Any) -> dict[str, Tensor]:
    """Detect on one image: bboxes [N, 4] xyxy in pixels, scores [N], labels [N], and masks if the model has them."""
    (sample,) = model.test_step(batch)
    instances = sample.pred_instances
    return {name: instances[name] for name in ("bboxes", "scores", "labels", "masks") if name in instances}


def group_same_networks(arms: dict[str, BaseDetector], batches: list[Any]) -> list[list[str]]:
    """Group the names of arms whose models are the same network at inference.

    Two models are the same network if their parameters and buffers have the same names and shapes, and if with the
    weights of the first in both every detection on `batches` is equal to the last bit. Changes the models' weights.
    """
    groups: list[list[str]] = []
    for name, model in arms.items():
        for group in groups:
            if is_same_network(arms[group[0]], model, batches):
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


def is_same_network(first: BaseDetector, second: BaseDetector, batches: list[Any]) -> bool:
    """See `group_same_networks`; copies the weights of `first` to `second`."""
    weights, others = first.state_dict(), second.state_dict()
    if {key: value.shape for key, value in weights.items()} != {key: value.shape for key, value in others.items()}:
        return False
    second.load_state_dict(weights)
    with torch.no_grad():
        pairs = [(detect(first, batch), detect(second, batch)) for batch in batches]
    return all(
        ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        for ours, theirs in pairs
    )
