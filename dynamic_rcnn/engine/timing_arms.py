"""The arms of a timing run: what one does in training and at inference, and what is equal between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dynamic_rcnn.engine import build
from dynamic_rcnn.engine import setup as start
from dynamic_rcnn.engine.seeding import seed_all
from dynamic_rcnn.run.heartbeat import beat
from dynamic_rcnn.run.spec import RunSpec

if TYPE_CHECKING:
    from mmdet.models.detectors import BaseDetector

PAIRS = 2  # with one a proposal NMS left fewer detections than are allowed in some arms on shapes, and all in others
OF_RESULT = ("bboxes", "scores", "labels")


class TrainingArm:
    """An arm in training: its model and optimizer, and the losses of its iterations that nobody has looked at yet."""

    def __init__(self, spec: RunSpec, device: torch.device) -> None:
        self.spec = spec
        self.model = start.built(spec).to(device)
        self.model.train()
        self.optimizer = build.build_optimizer(spec, self.model)
        self.schedulers = [each for each in build.build_schedulers(spec, self.optimizer) if not each.by_epoch]
        self.iteration = 0
        self.losses: list[tuple[int, Tensor]] = []

    def work(self, batch: Any) -> None:
        """One iteration, as a training run does it; arms draw the same random numbers in the same iteration."""
        seed_all(self.spec.seed, "iteration", self.iteration, 0)
        logs = self.model.train_step(batch, self.optimizer)
        self.iteration += 1
        self.losses.append((self.iteration, logs["loss"].detach()))
        for scheduler in self.schedulers:
            scheduler.step()
        beat()


class InferenceArm:
    """An arm at inference."""

    def __init__(self, spec: RunSpec, device: torch.device) -> None:
        self.model = start.built(spec).to(device)
        self.model.eval()
        self.proposals = self.score_thr = self.detections = 0.0

    def work(self, batch: Any) -> None:
        """Detect on a batch of one image: preprocessing, network and post-processing; the result is dropped."""
        with torch.no_grad():
            self.model.test_step(batch)
        beat()

    def calibrate(self, batches: list[Any]) -> None:
        """Fix how much there is to do after the heads, which random weights would leave to chance.

        The score threshold is set so that over these images PAIRS times as many (box, class) pairs pass it as there are
        proposals, the same number in every arm. NMS and the most detections an image stay as configured.
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
    """([N, classes] scores of the N proposals of one image before any threshold, without the background's; N)."""
    data = model.data_preprocessor(batch, False)
    features = model.extract_feat(data["inputs"])
    proposals = model.rpn_head.predict(features, data["data_samples"], rescale=False)
    metas = [sample.metainfo for sample in data["data_samples"]]
    (found,) = model.roi_head.predict_bbox(features, metas, proposals, rcnn_test_cfg=None)
    return found.scores[:, :-1], len(found.scores)


def detect(model: BaseDetector, batch: Any) -> dict[str, Tensor]:
    """bboxes [N, 4] xyxy, scores and labels [N] of one image, and its masks where the model has them."""
    (sample,) = model.test_step(batch)
    instances = sample.pred_instances
    return {name: instances[name] for name in (*OF_RESULT, "masks") if name in instances}


def same_networks(arms: dict[str, BaseDetector], batches: list[Any]) -> list[list[str]]:
    """The names in groups of one network each, in order.

    Two are one network if their parameters and buffers have the same names and shapes and if, with the weights of the
    first in both, every detection on `batches` is equal to the last bit. Models get such weights.
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
    """See `same_networks`."""
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
