"""Where mmengine downloads pretrained weights from."""

from __future__ import annotations

import pytest

from dynamic_rcnn.engine.pretrained import weights_url


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        ("torchvision://resnet50", "https://download.pytorch.org/models/resnet50-0676ba61.pth"),
        (
            "open-mmlab://regnetx_3.2gf",
            "https://download.openmmlab.com/pretrain/third_party/regnetx_3.2gf-c2599b0f.pth",
        ),
        ("https://x/y.pth", "https://x/y.pth"),
        ("/data/weights.pth", ""),
        ("torchvision://nothing", ""),
    ],
)
def test_the_url_of_pretrained_weights(checkpoint: str, expected: str) -> None:
    assert weights_url(checkpoint) == expected
