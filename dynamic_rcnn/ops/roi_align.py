"""RoIAlign with average pooling, as a product with a sparse matrix.

RoIAlign is linear in the features: a bin of the output is a weighted sum of a few pixels,

    output = S @ features,        gradient of the features = S^T @ gradient of the output,

where the rows of the sparse matrix S are bins and its columns are pixels. torchvision's CPU kernels loop over channels,
bins and samples one number at a time; on small images their backward pass is a third of a training step. Here each
entry of S adds a whole row of channels, by `embedding_bag`. Bilinear weights are separable, so S is built from one
small array per axis. All levels of a feature pyramid are one product.

No two threads add to the same number, so the gradient is the same in every run, on CUDA too. There, torchvision's
kernels are faster and are used unless deterministic algorithms are asked for. Their forward pass is deterministic;
torchvision's function nevertheless replaces it in deterministic mode, by one that needs many times the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: str = "avg",
    aligned: bool = True,
) -> Tensor:
    """Pool the features of each RoI into a grid of bins, with the calling convention of mmcv's `roi_align`.

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
    if not sparse_is_better(features):
        return torch.ops.torchvision.roi_align(features, rois, spatial_scale, *bins, sampling_ratio, aligned)
    level = torch.zeros(len(rois), dtype=torch.long, device=rois.device)
    return roi_align_levels([features], rois, level, [spatial_scale], Sampling(bins, sampling_ratio, aligned))


def sparse_is_better(features: Tensor) -> bool:
    """Whether to use the sparse product: for gradients on a CPU, and where they must be deterministic."""
    return features.requires_grad and (not features.is_cuda or torch.are_deterministic_algorithms_enabled())


@dataclass(frozen=True)
class Sampling:
    """How RoIs are sampled; see `roi_align`. bins: (vertical, horizontal)."""

    bins: tuple[int, int]
    ratio: int
    aligned: bool


def roi_align_levels(
    features: Sequence[Tensor], rois: Tensor, levels: Tensor, scales: Sequence[float], sampling: Sampling
) -> Tensor:
    """RoIAlign on a feature pyramid.

    Args:
        features: [N, C, H, W] of each level.
        rois: [K, 5], image index and xyxy in pixels of the image.
        levels: [K], the level of each RoI.
        scales: pixels of the features per pixel of the image, of each level.

    Returns:
        [K, C, vertical bins, horizontal bins].
    """
    channels, dtype = features[0].shape[1], features[0].dtype
    precision = torch.promote_types(dtype, torch.float32)
    rows = torch.cat([each.permute(0, 2, 3, 1).reshape(-1, channels) for each in features]).to(precision)
    if len(rois) == 0:
        return (rows[:0].sum() + rows.new_zeros(0, channels, *sampling.bins)).to(dtype)
    matrix = sparse_matrix(rois.to(precision), levels, [each.shape for each in features], scales, sampling)
    pooled: Tensor = SparseProduct.apply(rows, *matrix)
    return pooled.to(dtype).view(len(rois), *sampling.bins, channels).permute(0, 3, 1, 2)


class SparseProduct(torch.autograd.Function):
    """S @ rows [M, C], differentiable in rows [R, C].

    S is in compressed rows: counts [M] entries in each row, and of all entries the columns [E] and weights [E].
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
        ctx.save_for_backward(columns, weights, counts)
        ctx.number = len(rows)
        starts = _starts(counts).to(columns.dtype)
        return functional.embedding_bag(columns, rows, starts, mode="sum", per_sample_weights=weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        columns, weights, counts = ctx.saved_tensors
        by_column, order = columns.sort(stable=True)
        starts = torch.searchsorted(by_column, torch.arange(ctx.number, device=columns.device))
        rows = torch.repeat_interleave(counts).index_select(0, order)
        entries = weights.index_select(0, order)
        gradients = functional.embedding_bag(rows, gradient, starts, mode="sum", per_sample_weights=entries)
        return gradients, None, None, None


def sparse_matrix(
    rois: Tensor, levels: Tensor, shapes: Sequence[torch.Size], scales: Sequence[float], sampling: Sampling
) -> tuple[Tensor, Tensor, Tensor]:
    """S in compressed rows. Its rows are the bins in the order (RoI, vertical bin, horizontal bin).

    Args:
        rois: [K, 5], K > 0.
        levels: [K], the level of each RoI.
        shapes: (N, C, H, W) of each level.
        scales: of each level.

    Returns:
        For each entry its pixel, int32, among those of all images and levels, and its weight; the entries of each bin.
    """
    first, rows = 0, []
    for shape in shapes:
        rows.append((first, shape[2], shape[3]))
        first += shape[0] * shape[2] * shape[3]
    table = torch.tensor(rows, dtype=torch.int32, device=rois.device)[levels]
    offset, height, width = (table[:, at, None, None] for at in range(3))
    edges = rois[:, 1:] * torch.tensor(scales, dtype=rois.dtype, device=rois.device)[levels, None]
    y, y_weights = axis_weights(edges[:, 1], edges[:, 3], height, sampling.bins[0], sampling)
    x, x_weights = axis_weights(edges[:, 0], edges[:, 2], width, sampling.bins[1], sampling)
    y = (rois[:, 0, None, None].int() * height + y) * width + offset
    return _pairs(y, y_weights, x, x_weights)


def _pairs(y: Tensor, y_weights: Tensor, x: Tensor, x_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs of a y and an x of the same bin whose weights are not 0, with the product of these weights.

    On a CPU index_select is five times as fast as [...].

    Args:
        y, y_weights: [K, vertical bins, P].
        x, x_weights: [K, horizontal bins, P'].

    Returns:
        y + x [E], weights [E], and the number of pairs of each of the K * vertical * horizontal bins.
    """
    used_y, used_x = y_weights != 0, x_weights != 0
    number_y, number_x = used_y.sum(2, keepdim=True), used_x.sum(2)[:, None]  # [K, bins, 1], [K, 1, bins]
    counts = (number_y * number_x).flatten()
    bins = torch.repeat_interleave(counts)
    place = torch.arange(len(bins), device=bins.device) - _starts(counts).index_select(0, bins)
    columns = number_x.expand(-1, number_y.shape[1], -1).flatten().index_select(0, bins)
    row = place // columns
    at_y = _starts(number_y).expand(-1, -1, number_x.shape[2]).flatten().index_select(0, bins) + row
    at_x = _starts(number_x).expand(-1, number_y.shape[1], -1).flatten().index_select(0, bins)
    at_x = at_x + place - row * columns  # the remainder, which takes ten times as long as //
    pixels = y[used_y].index_select(0, at_y) + x[used_x].index_select(0, at_x)
    weights = y_weights[used_y].index_select(0, at_y) * x_weights[used_x].index_select(0, at_x)
    return pixels, weights, counts


def _starts(counts: Tensor) -> Tensor:
    """Where the entries of each bin begin in a list of all; of the shape of `counts`."""
    return (counts.flatten().cumsum(0) - counts.flatten()).view_as(counts)


def axis_weights(low: Tensor, high: Tensor, size: Tensor, bins: int, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The pixels along one axis that each bin averages, and their weights.

    Args:
        low: [K], where the RoIs begin, in pixels of the features.
        high: [K], where they end.
        size: [K, 1, 1], length of the axis.
        bins: bins per RoI along this axis.

    Returns:
        Pixels [K, bins, P], int32, and weights [K, bins, P].
    """
    # the order of operations is that of torchvision, because rounding decides the number of samples
    offset = 0.5 if sampling.aligned else 0.0
    start = (low - offset)[:, None, None]
    length = (high - offset)[:, None, None] - start
    if not sampling.aligned:
        length = length.clamp(min=1.0)
    ratio = sampling.ratio
    samples = torch.full_like(length, ratio) if ratio > 0 else (length / bins).ceil().clamp(min=0.0).nan_to_num()
    number = torch.arange(max(int(samples.max()), 1), device=low.device)
    taken = number < samples
    samples = samples.clamp(min=1.0)
    size_of_bin = length / bins
    places = torch.arange(bins, device=low.device)[:, None] * size_of_bin + start
    places = places + (torch.minimum(number, samples - 1) + 0.5) * size_of_bin / samples  # [K, bins, samples]
    taken = taken & (places >= -1.0) & (places <= size)
    places = places.nan_to_num().clamp(min=0.0).minimum((size - 1).to(places.dtype))
    first = places.amin(dim=2, keepdim=True).floor()
    pixels = torch.arange(int((places - first).max()) + 2, device=low.device)
    weights = (1.0 - ((places - first)[..., None] - pixels).abs()).clamp(min=0.0)  # bilinear: a triangle
    weights = (weights * (taken / samples)[..., None]).sum(dim=2)
    return (first.int() + pixels.int()).minimum(size - 1), weights
