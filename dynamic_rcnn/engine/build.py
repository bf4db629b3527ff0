"""From a RunSpec to mmdet's objects: model, data sets, batches, optimizer and learning rate schedules."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import cv2
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import BaseDataset, Compose, DefaultSampler, pseudo_collate
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import OPTIMIZERS, PARAM_SCHEDULERS, DefaultScope, init_default_scope
from torch.utils.data import BatchSampler, DataLoader, Dataset

from dynamic_rcnn import method  # noqa: F401  registers the head and the operators
from dynamic_rcnn.engine import object_classifier  # noqa: F401  registers the model of pretrainings
from dynamic_rcnn.engine.pretrained import weights_folder
from dynamic_rcnn.engine.refusal import as_user_error, check_type
from dynamic_rcnn.engine.seeding import seed_all
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.ops.faster_modules import can_be_channels_last, use_faster_modules
from dynamic_rcnn.run.spec import RunSpec
from dynamic_rcnn.run.worker import start_worker

if TYPE_CHECKING:
    from mmdet.models.detectors import BaseDetector


def use_mmdet_scope() -> None:
    """Make mmdet the default scope of mmengine's registries."""
    import mmdet.datasets
    import mmdet.models  # noqa: F401

    if DefaultScope.get_current_instance() is None:
        init_default_scope("mmdet")


def build_model(spec: RunSpec, initialise: bool = True) -> BaseDetector:
    """Build the detector of `spec`, with weights from its seed and, if configured, a pretrained backbone.

    initialise: False if all weights will be loaded from a file. Raises UserError if mmdet refuses the
    configuration, and for missing pretrained weights.
    """
    use_mmdet_scope()
    MMLogger.get_current_instance().setLevel(logging.WARNING)  # it logs three lines per parameter
    seed_all(spec.seed, "weights")
    with as_user_error("base.model", spec.config["model"]):
        model = MODELS.build(_mutable(spec.config["model"]))
    use_faster_modules(model)
    if not torch.cuda.is_available() and can_be_channels_last(model):
        model.to(memory_format=torch.channels_last)
    if initialise:
        try:
            model.init_weights()
        except (URLError, FileNotFoundError) as error:
            raise UserError(_pretrained_fault(spec, error)) from None
    return model


def _pretrained_fault(spec: RunSpec, error: URLError | FileNotFoundError) -> str:
    field = f"base.model.backbone.init_cfg={spec.config['model']['backbone'].get('init_cfg')}"
    if isinstance(error, FileNotFoundError):
        return f"{field}: no such file ({error}); give its absolute path"
    return (
        f"{field}: cannot be downloaded here ({error.reason}); put the file into {weights_folder()} "
        "(python -m dynamic_rcnn.tools.fetch only=resnet50,resnet101 does for torchvision's), or set another one"
    )


class SeededDataset(Dataset):
    """A training set, indexed by (index, epoch), whose augmentation depends only on (run seed, epoch, index)."""

    def __init__(self, dataset: BaseDataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: tuple[int, int]) -> Any:
        index, epoch = item
        seed_all(self.seed, "sample", epoch, index)
        return self.dataset[index]


def build_dataset(spec: RunSpec, split: str, root: Path) -> BaseDataset:
    """Build mmdet's CocoDataset for `split`, "train" or "val". root: folder of the paths in `spec.dataset`."""
    use_mmdet_scope()
    from dynamic_rcnn.engine.coco_dataset import Utf8CocoDataset

    cv2.setNumThreads(0)  # forked workers inherit the locks of OpenCV's threads, but not the threads
    data = spec.config["data"]
    train = split == "train"
    name = f"{'train' if train else 'test'}_pipeline"
    pipeline = _sizes_as_tuples(data[name])
    with as_user_error(f"base.data.{name}", pipeline):
        transforms = Compose(pipeline).transforms
    config = {
        "type": Utf8CocoDataset,
        "ann_file": str(root / spec.dataset[f"{split}_ann"]),
        "data_prefix": {"img": str(root / spec.dataset[f"{split}_img"])},
        "metainfo": {"classes": tuple(spec.dataset["classes"])},
        "filter_cfg": data["filter_cfg"] if train else None,
        "test_mode": not train,
        "pipeline": transforms,
    }
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        return DATASETS.build(config)


class GroupSampler(DefaultSampler):
    """The order of one group's images: that of mmengine's DefaultSampler for the process of this number.

    All groups have the same number of images.
    """

    def __init__(self, dataset: Dataset, seed: int, group: int, groups: int) -> None:
        super().__init__(dataset, shuffle=True, seed=seed)
        self.rank, self.world_size = group, groups
        self.num_samples = -(-len(dataset) // groups)  # type: ignore[arg-type]
        self.total_size = self.num_samples * groups


class Batches:
    """The training batches of one process, addressed by iteration.

    An item is a list with one batch per group, whose images follow from the seed, the epoch and the group alone. All
    groups have the same number of batches of the same sizes.

    Args:
        dataset: the training set.
        seed: the run's.
        settings: the section `train` of the run's configuration: groups, images_per_group, workers, prefetch and
            group_by_aspect_ratio.
        own: the numbers of this process's groups.
    """

    def __init__(self, dataset: BaseDataset, seed: int, settings: dict[str, Any], own: Sequence[int]) -> None:
        self.dataset = SeededDataset(dataset, seed)
        self.settings = settings
        self.samplers = [GroupSampler(dataset, seed, group, settings["groups"]) for group in own]
        self.listed: tuple[int, list[Any]] | None = None  # an epoch and its batches, because listing them is slow

    def __len__(self) -> int:
        """Iterations per epoch."""
        return -(-len(self.samplers[0]) // self.settings["images_per_group"])

    def between(self, first: int, last: int) -> Iterator[list[Any]]:
        """The batches of iterations `first` to `last` - 1, counted from 0 over all epochs; no others are loaded.

        The same workers load all epochs, and the first batches of an epoch while the one before it is trained on.
        """
        workers = self.settings["workers"]
        return iter(
            DataLoader(
                self.dataset,
                batch_sampler=map(self._indices, range(first, last)),
                num_workers=workers,
                prefetch_factor=self.settings["prefetch"] if workers else None,
                collate_fn=partial(_collate_groups, len(self.samplers)),
                pin_memory=torch.cuda.is_available(),
                worker_init_fn=start_worker,
            )
        )

    def _indices(self, iteration: int) -> list[tuple[int, int]]:
        """(index, epoch) of each image of an iteration, group after group."""
        epoch, position = divmod(iteration, len(self))
        if self.listed is None or self.listed[0] != epoch:
            self.listed = (epoch, self._list_batches(epoch))
        return [(index, epoch) for index in self.listed[1][position]]

    def _list_batches(self, epoch: int) -> list[list[int]]:
        """The indices of each iteration's images, group after group."""
        by_group = []
        for sampler in self.samplers:
            sampler.set_epoch(epoch)
            by_group.append(self._batch_sampler(sampler))
        return [[index for batch in batches for index in batch] for batches in zip(*by_group, strict=True)]

    def _batch_sampler(self, sampler: GroupSampler) -> Any:
        size = self.settings["images_per_group"]
        if not self.settings["group_by_aspect_ratio"]:
            return BatchSampler(sampler, size, drop_last=False)
        from mmdet.datasets.samplers import AspectRatioBatchSampler

        return AspectRatioBatchSampler(sampler, size, drop_last=False)


def _collate_groups(groups: int, samples: list[Any]) -> list[Any]:
    """One batch per group of the samples of an iteration, which are ordered by group."""
    size = len(samples) // groups
    return [pseudo_collate(samples[first : first + size]) for first in range(0, len(samples), size)]


def build_optimizer(spec: RunSpec, model: BaseDetector) -> OptimWrapper:
    """Build the optimizer. Raises UserError if mmengine or torch refuses its configuration."""
    config = spec.config["optim_wrapper"]
    check_type("base.optim_wrapper.optimizer.type", config["optimizer"].get("type"), OPTIMIZERS)
    mutable = _mutable(config)
    if mutable.optimizer.type == "SGD" and not torch.cuda.is_available() and "foreach" not in mutable.optimizer:
        mutable.optimizer.setdefault("fused", True)  # the same update, in one pass over each weight
    with as_user_error("base.optim_wrapper", config):
        return build_optim_wrapper(model, mutable)


def build_schedulers(spec: RunSpec, optimizer: OptimWrapper) -> list[Any]:
    """Build the learning rate schedules; those with `by_epoch` step at the end of an epoch.

    Raises UserError if mmengine refuses the configuration of one.
    """
    schedulers = []
    for number, config in enumerate(spec.config["param_scheduler"]):
        with as_user_error(f"base.param_scheduler[{number}]", config):
            schedulers.append(PARAM_SCHEDULERS.build(_mutable(config), default_args={"optimizer": optimizer}))
    return schedulers


def _sizes_as_tuples(value: Any) -> Any:
    """A pipeline with its (width, height) lists as tuples, which mmcv's transforms require."""
    if isinstance(value, dict):
        return {key: _sizes_as_tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        numbers = all(isinstance(item, int | float) for item in value)
        return tuple(value) if numbers else [_sizes_as_tuples(item) for item in value]
    return value


def _mutable(config: Any) -> Any:
    """A deep copy as mmengine's ConfigDict, because mmdet's constructors modify their configuration."""
    return Config({"value": copy.deepcopy(config)}).value
