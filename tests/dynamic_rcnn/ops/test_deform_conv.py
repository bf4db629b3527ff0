"""DCNv1 and v2 as mmcv's layers have them, on torchvision's operator: values, gradients, names of the weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dynamic_rcnn import ops
from dynamic_rcnn.ops import torchvision_ops

ops.install()
from mmcv.ops import (  # noqa: E402
    DeformConv2dPack,
    ModulatedDeformConv2dPack,
    deform_conv2d,
    modulated_deform_conv2d,
)

# stride, padding, dilation, groups, deformable groups, bias
CASES = [
    (1, 1, 1, 1, 1, False),
    (2, 1, 1, 1, 1, True),
    (1, 2, 2, 2, 1, True),
    (2, 0, 1, 1, 2, False),
    (1, 1, 1, 2, 2, True),
]


def inputs(case: tuple[Any, ...], moved: float, plain_mask: bool) -> dict[str, Tensor | None]:
    """Tensors of a layer of 4 channels to 6 with a kernel of 3 x 2, on features of 7 x 6, in double."""
    stride, padding, dilation, groups, deform_groups, bias = case
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    height = (7 + 2 * padding - dilation * 2 - 1) // stride + 1
    width = (6 + 2 * padding - dilation - 1) // stride + 1
    mask = torch.ones(2, deform_groups * 6, height, width, dtype=torch.float64)
    return {
        "features": normal(2, 4, 7, 6),
        "offset": moved * normal(2, deform_groups * 12, height, width),
        "mask": mask if plain_mask else normal(2, deform_groups * 6, height, width).sigmoid(),
        "weight": normal(6, 4 // groups, 3, 2),
        "bias": normal(6) if bias else None,
    }


def convolve(case: tuple[Any, ...], tensors: dict[str, Tensor | None]) -> Tensor:
    stride, padding, dilation, groups, deform_groups, _ = case
    return modulated_deform_conv2d(*tensors.values(), stride, padding, dilation, groups, deform_groups)


@pytest.mark.parametrize("case", CASES)
def test_without_offsets_and_with_a_mask_of_ones_it_is_a_plain_convolution(case: tuple[Any, ...]) -> None:
    """Values, and the gradients that a plain convolution has too."""
    found = {key: t if t is None else t.requires_grad_() for key, t in inputs(case, 0.0, True).items()}
    plain = {key: t if t is None else t.detach().clone().requires_grad_() for key, t in found.items()}
    output = convolve(case, found)
    expected = functional.conv2d(plain["features"], plain["weight"], plain["bias"], *case[:3], case[3])
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    slopes = torch.randn(output.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (output * slopes).sum().backward()
    (expected * slopes).sum().backward()
    for key in ("features", "weight", "bias"):
        if plain[key] is not None:
            torch.testing.assert_close(found[key].grad, plain[key].grad, rtol=0, atol=1e-11)


def test_offsets_move_a_tap_down_and_right_in_that_order() -> None:
    """By hand: a kernel of 1 x 1 and weight 1 reads row + dy, column + dx, times the mask; outside is 0."""
    features = torch.arange(12.0, dtype=torch.float64).reshape(1, 1, 3, 4)
    weight, mask = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.full((1, 1, 3, 4), 0.5, dtype=torch.float64)
    offset = torch.zeros(1, 2, 3, 4, dtype=torch.float64)
    offset[:, 0], offset[:, 1] = 1.0, -0.5  # a row down, half a column to the left
    output = modulated_deform_conv2d(features, offset, mask, weight, None, 1, 0, 1, 1, 1)
    # row 0 reads row 1 (4 5 6 7) between its columns: (0 + 4)/2, (4 + 5)/2, ...; half of that; row 2 reads row 3
    expected = [[1.0, 2.25, 2.75, 3.25], [2.0, 4.25, 4.75, 5.25], [0.0, 0.0, 0.0, 0.0]]
    assert output[0, 0].tolist() == expected


@pytest.mark.parametrize("case", CASES)
def test_gradients(case: tuple[Any, ...]) -> None:
    """Against finite differences in double, of all five inputs, with offsets that are no whole pixels."""
    tensors = inputs(case, 0.7, False)
    given = [key for key, tensor in tensors.items() if tensor is not None]

    def run(*values: Tensor) -> Tensor:
        return convolve(case, {**tensors, **dict(zip(given, values, strict=True))})

    assert torch.autograd.gradcheck(run, [tensors[key].requires_grad_() for key in given], fast_mode=False)


def test_the_layer_has_mmcvs_names_and_starts_as_half_a_convolution() -> None:
    """Published checkpoints have weight, conv_offset.weight and conv_offset.bias; the mask begins at sigmoid(0)."""
    layer = ModulatedDeformConv2dPack(4, 6, 3, stride=2, padding=1, deform_groups=2, bias=False)
    assert sorted(layer.state_dict()) == ["conv_offset.bias", "conv_offset.weight", "weight"]
    assert layer.conv_offset.weight.shape == (2 * 3 * 9, 4, 3, 3)
    features = torch.randn(2, 4, 9, 8)
    expected = 0.5 * functional.conv2d(features, layer.weight, None, 2, 1)
    torch.testing.assert_close(layer(features), expected, rtol=0, atol=1e-5)
    layer(features).square().sum().backward()
    assert layer.conv_offset.weight.grad.any() and layer.weight.grad.any()


@pytest.mark.parametrize("case", [case for case in CASES if not case[-1]])  # DCNv1 has no bias
def test_version_1_is_version_2_with_a_mask_of_ones(case: tuple[Any, ...]) -> None:
    """Values, and the gradients of features, offsets and weights, through mmcv's own layers' calls."""
    stride, padding, dilation, groups, deform_groups, _ = case
    given = inputs(case, 0.7, True)
    first, second = ({key: t if t is None else t.clone().requires_grad_() for key, t in given.items()} for _ in "12")
    tensors = (first["features"], first["offset"], first["weight"])
    output = deform_conv2d(*tensors, stride, padding, dilation, groups, deform_groups, False, 32)
    expected = convolve(case, second)
    assert torch.equal(output, expected)
    output.square().sum().backward()
    expected.square().sum().backward()
    for key in ("features", "offset", "weight"):
        torch.testing.assert_close(first[key].grad, second[key].grad, rtol=0, atol=1e-11)
        assert first[key].grad.any()


@pytest.mark.parametrize("layer_type", [DeformConv2dPack, ModulatedDeformConv2dPack])
def test_in_bfloat16_the_layers_compute_in_float32(layer_type: Any) -> None:
    torch.manual_seed(0)
    layer, features = layer_type(4, 6, 3, padding=1, bias=False), torch.randn(2, 4, 9, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(features)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), layer(features), rtol=0.02, atol=0.02)


def test_the_layer_of_version_1_has_mmcvs_names_and_starts_as_a_convolution() -> None:
    layer = DeformConv2dPack(4, 6, 3, stride=2, padding=1, deform_groups=2)
    assert sorted(layer.state_dict()) == ["conv_offset.bias", "conv_offset.weight", "weight"]
    assert layer.conv_offset.weight.shape == (2 * 2 * 9, 4, 3, 3)
    features = torch.randn(2, 4, 9, 8)
    expected = functional.conv2d(features, layer.weight, None, 2, 1)
    torch.testing.assert_close(layer(features), expected, rtol=0, atol=1e-5)


@pytest.mark.skipif(not ops.has_compiled_mmcv(), reason="no compiled mmcv is installed (mmcv-lite is)")
@pytest.mark.parametrize("case", CASES)
def test_equal_to_compiled_mmcv(case: tuple[Any, ...]) -> None:
    t = {key: value if value is None else value.float() for key, value in inputs(case, 0.7, False).items()}
    given = (t["features"], t["offset"], t["mask"], t["weight"], t["bias"], *case[:5])
    torch.testing.assert_close(torchvision_ops.modulated_deform_conv2d(*given), modulated_deform_conv2d(*given))
