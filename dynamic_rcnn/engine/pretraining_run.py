"""A run that pretrains a backbone by classification. Its loop is that of a run that trains a detector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from dynamic_rcnn.engine import build, checkpoint
from dynamic_rcnn.engine.trainer import TrainingRun
from dynamic_rcnn.parallel import comm as distributed
from dynamic_rcnn.run.files import WEIGHTS
from dynamic_rcnn.run.heartbeat import beat
from dynamic_rcnn.run.results import PretrainingResults

_AT_ONCE = 16  # images


class PretrainingRun(TrainingRun):
    """One process's share of the pretraining; implements `train.Task`."""

    def finish(self) -> None:
        """Write the weights, and metrics.json with the accuracy on the validation split."""
        results = None
        with self.stop.at_once("in the evaluation after the last iteration"):
            if distributed.is_main():
                checkpoint.save_weights(Path(WEIGHTS), self.spec.id, self.iteration, self.model)
                correct, objects = self._count_correct()
                results = PretrainingResults(iteration=self.iteration, accuracy=correct / objects, objects=objects)
        self.write_results(results)

    def _count_correct(self) -> tuple[int, int]:
        """The number of objects of the validation split that are classified correctly, and of all."""
        split = {f"train_{part}": self.spec.dataset[f"val_{part}"] for part in ("ann", "img")}  # with their boxes
        images = build.build_dataset(replace(self.spec, dataset={**self.spec.dataset, **split}), "train", self.root)
        items = [(index, 0) for index in range(len(images))]
        data = build.SeededDataset(images, self.spec.seed)
        loader = DataLoader(data, batch_size=_AT_ONCE, sampler=items, collate_fn=pseudo_collate)
        counts = torch.zeros(2, dtype=torch.int64)
        self.model.eval()
        with torch.no_grad():
            for batch in loader:
                prepared = self.model.data_preprocessor(batch, False)
                counts += torch.tensor(self.model.count_correct(prepared["inputs"], prepared["data_samples"]))
                beat()
        return int(counts[0]), int(counts[1])
