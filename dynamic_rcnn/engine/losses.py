"""Losses that have not been checked yet: checking one makes the host wait for the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamic_rcnn.errors import NaNLossError

if TYPE_CHECKING:
    from torch import Tensor


class UncheckedLosses:
    """The scalar losses of the iterations since the last check. Imports torch only to check."""

    def __init__(self) -> None:
        self._losses: list[tuple[int, Tensor]] = []

    def add(self, iteration: int, loss: Tensor) -> None:
        self._losses.append((iteration, loss.detach()))

    def first_bad(self) -> int | None:
        """The smallest iteration with a loss that is not finite, or None. Forgets all losses; waits for the device."""
        losses, self._losses = self._losses, []
        if not losses:
            return None
        import torch

        finite = torch.isfinite(torch.stack([loss for _, loss in losses])).tolist()
        return min((iteration for (iteration, _), good in zip(losses, finite, strict=True) if not good), default=None)


def raise_if_bad(iteration: int | None) -> None:
    """Raise NaNLossError for the result of `first_bad`."""
    if iteration is not None:
        raise NaNLossError(f"the loss is not finite at iteration {iteration}")
