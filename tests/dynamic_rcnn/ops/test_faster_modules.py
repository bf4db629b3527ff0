"""The faster modules against those of mmdet that they replace."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from dynamic_rcnn.data import dataset
from dynamic_rcnn.engine import build
from dynamic_rcnn.engine.seeding import seed_all
from dynamic_rcnn.ops.faster_modules import FASTER, FasterBBoxHead, FasterRoIExtractor, use_faster_modules
from tests.dynamic_rcnn.runs import small_spec

build.use_mmdet_scope()
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead  # noqa: E402
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402

SIZES = [(23, 31), (12, 16), (6, 8)]


def extract(kind: type, sizes: list[tuple[int, int]], rois: Tensor, **layer: Any) -> tuple[Tensor, ...]:
    """The pooled features of a pyramid, and the gradient of each level."""
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(2, 3, *size, dtype=torch.float64, generator=generator) for size in sizes]
    given = tuple(each.requires_grad_() for each in features)
    settings = {
        "type": "RoIAlign",
        "output_size": 5,
        "sampling_ratio": 0,
        "use_torchvision": kind is not FasterRoIExtractor,
    }
    extractor = kind({**settings, **layer}, 3, [4, 8, 16][: len(sizes)], finest_scale=14)
    output = extractor(given, rois, 1.2 if layer else None)
    weights = torch.randn(output.shape, dtype=torch.float64, generator=generator)
    return output, *torch.autograd.grad((output * weights).sum(), given)


def random_rois(count: int, largest: float) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 120 - 15
    size = torch.rand(count, 2, generator=generator, dtype=torch.float64) * largest
    return torch.cat([torch.randint(2, (count, 1), generator=generator), corner, corner + size], dim=1)


@pytest.mark.parametrize("layer", [{}, {"sampling_ratio": 2, "aligned": False}], ids=["plain", "scaled"])
@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("count, largest", [(50, 100.0), (50, 10.0), (1, 40.0)], ids=["all", "one level", "one RoI"])
def test_the_extractor_is_mmdets_on_torchvisions_kernels(layer, levels, count, largest):
    rois = random_rois(count, largest)
    ours, theirs = (extract(kind, SIZES[:levels], rois, **layer) for kind in (FasterRoIExtractor, SingleRoIExtractor))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)


def test_the_extractor_without_rois():
    output, *gradients = extract(FasterRoIExtractor, SIZES, torch.zeros(0, 5, dtype=torch.float64))
    assert output.shape == (0, 3, 5, 5) and not any(each.any() for each in gradients)


@pytest.mark.parametrize("given", [{}, {"with_reg": False}, {"with_avg_pool": True}], ids=str)
@pytest.mark.parametrize("count", [5, 1, 0])
@pytest.mark.parametrize("channels_last", [True, False])
def test_the_box_head_is_mmdets(given, count, channels_last):
    found = []
    for kind in (FasterBBoxHead, Shared2FCBBoxHead):
        torch.manual_seed(0)
        head = kind(fc_out_channels=11, in_channels=4, roi_feat_size=(3, 2), num_classes=2, **given).double()
        rows = torch.randn(count, 3, 2, 4, dtype=torch.float64)
        x = rows.permute(0, 3, 1, 2).contiguous(
            memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )
        outputs = [each for each in head(x.requires_grad_()) if each is not None]
        sum((each * (at + 1)).sin().sum() for at, each in enumerate(outputs)).backward()
        found.append([*outputs, x.grad, *(each.grad for each in head.parameters())])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-12)


def test_a_model_has_the_same_losses_gradients_and_random_state(tmp_path):
    spec = small_spec(tmp_path)
    root, _ = dataset.prepare(spec.dataset)
    images = build.build_dataset(spec, "train", root)
    batches = [groups[0] for groups in build.Batches(images, 0, spec.config["train"], range(1)).between(0, 3)]
    seed_all(0, "weights")
    plain = MODELS.build(build._mutable(spec.config["model"]))
    plain.init_weights()
    faster = copy.deepcopy(plain)
    use_faster_modules(faster)
    assert {type(module) for module in faster.modules()} >= set(FASTER.values())
    assert faster.state_dict().keys() == plain.state_dict().keys()
    for batch in [*batches[:2], {key: value[:1] for key, value in batches[2].items()}]:
        found = [run(model.train(), copy.deepcopy(batch)) for model in (plain, faster)]
        assert found[0].keys() == found[1].keys()
        for name, value in found[0].items():
            torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-5, msg=name)


def run(model: Any, batch: Any) -> dict[str, Tensor]:
    seed_all(0, "iteration", 0, 0)
    model.zero_grad()
    loss, logs = model.parse_losses(model(**model.data_preprocessor(batch, True), mode="loss"))
    loss.backward()
    gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    return {**logs, **gradients, "random state": torch.rand(1)}


def test_a_batch_is_preprocessed_alike_each_time(tmp_path: Any) -> None:
    """Timing runs use a batch for several arms, so preprocessing must not change it."""
    spec = small_spec(tmp_path)
    root, _ = dataset.prepare(spec.dataset)
    images = build.build_dataset(spec, "train", root)
    (batch,) = next(build.Batches(images, 0, spec.config["train"], range(1)).between(0, 1))
    model = build.build_model(spec)
    first, second = (model.data_preprocessor(batch, True)["inputs"] for _ in range(2))
    assert torch.equal(first, second)
