"""RoIAlign with average pooling, with the calling convention of mmcv's `roi_align`.

RoIAlign is linear in the features: bin b of the output is a weighted sum of a few pixels,

    output = S @ features,        gradient of the features = S^T @ gradient of the output,

where the rows of the sparse matrix S are bins and its columns pixels. torchvision's CPU kernels loop over channels,
bins and samples one number at a time; on small images their backward pass is a third of a training step. Here each entry
of S adds a whole row of channels, by `embedding_bag`. Bilinear weights are separable, so S is built from one small array
per axis.

No two threads add to the same number, so the gradient is the same in every run, on CUDA too. There, torchvision's
kernels are faster and are used unless deterministic algorithms are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torchvision import ops


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: str = "avg",
    aligned: bool = True,
) -> Tensor:
    """Pool the features of each RoI into a grid of bins.

    Args:
        features: [N, C, H, W].
        rois: [K, 5], image index and xyxy in pixels of the image.
        output_size: bins, (vertical, horizontal) or one number for both.
        spatial_scale: pixels of the features per pixel of the image.
        sampling_ratio: samples per bin and direction; 0 for one sample per pixel, rounded up.
        pool_mode: must be "avg".
        aligned: shift RoIs by half a pixel, so that pixel centers are at integer coordinates.

    Returns:
        [K, C, vertical bins, horizontal bins].

    Raises:
        RuntimeError: another pool_mode.
    """
    if pool_mode != "avg":
        raise RuntimeError(f"RoIAlign with pool_mode={pool_mode!r} needs a compiled mmcv 2.1; torchvision has 'avg'")
    bins = (output_size, output_size) if isinstance(output_size, int) else output_size
    sampling = Sampling(bins, spatial_scale, sampling_ratio, aligned)
    if not features.requires_grad or (features.is_cuda and not torch.are_deterministic_algorithms_enabled()):
        return ops.roi_align(features, rois, bins, spatial_scale, sampling_ratio, aligned)
    precision = torch.promote_types(features.dtype, torch.float32)
    pooled: Tensor = SparseRoIAlign.apply(features.to(precision), rois.to(precision), sampling)
    return pooled.to(features.dtype)


@dataclass(frozen=True)
class Sampling:
    """How RoIs are sampled; see `roi_align`. bins: (vertical, horizontal)."""

    bins: tuple[int, int]
    spatial_scale: float
    sampling_ratio: int
    aligned: bool


class SparseRoIAlign(torch.autograd.Function):
    """RoIAlign as the product with the sparse matrix of `sparse_matrix`."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rois: Tensor, sampling: Sampling) -> Tensor:
        _, channels, height, width = features.shape
        ctx.shape = features.shape
        if len(rois) == 0:
            return features.new_zeros(0, channels, *sampling.bins)
        pixels, weights = sparse_matrix(rois, sampling, height, width)
        ctx.save_for_backward(pixels, weights)
        rows = features.permute(0, 2, 3, 1).reshape(-1, channels)
        pooled = functional.embedding_bag(pixels, rows, mode="sum", per_sample_weights=weights)
        return pooled.view(len(rois), *sampling.bins, channels).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        images, channels, height, width = ctx.shape
        if len(gradient) == 0:
            return gradient.new_zeros(ctx.shape), None, None
        pixels, weights = ctx.saved_tensors
        by_pixel, order = pixels.flatten().sort(stable=True)
        starts = torch.searchsorted(by_pixel, torch.arange(images * height * width, device=pixels.device))
        rows = functional.embedding_bag(
            order // pixels.shape[1],
            gradient.permute(0, 2, 3, 1).reshape(-1, channels),
            starts,
            mode="sum",
            per_sample_weights=weights.flatten()[order],
        )
        return rows.view(images, height, width, channels).permute(0, 3, 1, 2), None, None


def sparse_matrix(rois: Tensor, sampling: Sampling, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The entries of S by row, one row per bin in the order (RoI, vertical bin, horizontal bin).

    Args:
        rois: [K, 5], K > 0.
        height: of the features in pixels.
        width: of the features in pixels.

    Returns:
        Pixels [rows, E], int32 indices into the pixels of all images, and their weights [rows, E]. E is the largest
        number of pixels that a bin needs; rows with fewer have weights of 0.
    """
    y, y_weights = axis_weights(rois[:, 2], rois[:, 4], height, sampling.bins[0], sampling)
    x, x_weights = axis_weights(rois[:, 1], rois[:, 3], width, sampling.bins[1], sampling)
    rows = (rois[:, :1, None].int() * height + y) * width
    pixels = rows[:, :, None, :, None] + x[:, None, :, None, :]
    weights = y_weights[:, :, None, :, None] * x_weights[:, None, :, None, :]
    entries = y.shape[2] * x.shape[2]
    return pixels.reshape(-1, entries), weights.reshape(-1, entries)


def axis_weights(low: Tensor, high: Tensor, size: int, bins: int, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The pixels along one axis that each bin averages, and their weights.

    Args:
        low: [K], where the RoIs begin, in pixels of the image.
        high: [K], where they end.
        size: length of the axis in pixels of the features.
        bins: bins per RoI along this axis.

    Returns:
        Pixels [K, bins, P], int32, and weights [K, bins, P].
    """
    # the order of operations is that of torchvision, because rounding decides the number of samples
    offset = 0.5 if sampling.aligned else 0.0
    start = (low * sampling.spatial_scale - offset)[:, None, None]
    length = (high * sampling.spatial_scale - offset)[:, None, None] - start
    if not sampling.aligned:
        length = length.clamp(min=1.0)
    ratio = sampling.sampling_ratio
    samples = torch.full_like(length, ratio) if ratio > 0 else (length / bins).ceil().clamp(min=0.0).nan_to_num()
    number = torch.arange(max(int(samples.max()), 1), device=low.device)
    taken = number < samples
    samples = samples.clamp(min=1.0)
    size_of_bin = length / bins
    places = torch.arange(bins, device=low.device)[:, None] * size_of_bin + start
    places = places + (torch.minimum(number, samples - 1) + 0.5) * size_of_bin / samples  # [K, bins, samples]
    taken = taken & (places >= -1.0) & (places <= size)
    places = places.nan_to_num().clamp(0.0, size - 1.0)
    first = places.amin(dim=2, keepdim=True).floor()
    pixels = torch.arange(int((places - first).max()) + 2, device=low.device)
    weights = (1.0 - ((places - first)[..., None] - pixels).abs()).clamp(min=0.0)  # bilinear: a triangle
    weights = (weights * (taken / samples)[..., None]).sum(dim=2)
    return (first.int() + pixels.int()).clamp(max=size - 1), weights
