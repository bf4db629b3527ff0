"""One training iteration: forward and backward passes of this process's groups, and one update of the weights.

Gradients are the mean over all groups, as DistributedDataParallel averages those of its processes. Processes add theirs
in one collective after the backward passes: DistributedDataParallel would search for unused parameters in each
iteration, and does not reduce the gradients of parameters that only some passes use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from dynamic_rcnn.engine.precision import Precision
from dynamic_rcnn.engine.seeding import seed_all
from dynamic_rcnn.method import DynamicHead
from dynamic_rcnn.parallel import comm as distributed

if TYPE_CHECKING:
    from mmdet.models.detectors import BaseDetector


class Step:
    """Trains one iteration after the other.

    Args:
        model: in training mode; its DynamicHead, if it has one, has as many groups as `own`.
        optimizer: of the model's parameters.
        precision: how the step computes.
        seed: the run's.
        groups: how many all processes have.
        own: the numbers of this process's groups.
    """

    def __init__(
        self,
        model: BaseDetector,
        optimizer: OptimWrapper,
        precision: Precision,
        seed: int,
        groups: int = 1,
        own: range = range(1),
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.precision = precision
        self.seed = seed
        self.groups = groups
        self.own = own
        self.parameters = [each for each in model.parameters() if each.requires_grad]
        self.heads = dynamic_heads(model)
        self.running = [buffer for module in model.modules() for buffer in _running_statistics(module)]

    def train(self, iteration: int, batches: list[Any]) -> dict[str, Tensor]:
        """Train on one batch per own group. Returns the losses, averaged over the own groups.

        iteration: the number of finished iterations, from which the random numbers follow.
        """
        distributed.broadcast_tensors(self.running)
        before = [buffer.clone() for buffer in self.running]
        logs = []
        for index, (group, batch) in enumerate(zip(self.own, batches, strict=True)):
            seed_all(self.seed, "iteration", iteration, group)
            for head in self.heads:
                head.use_group(index)
            self._restore(before)
            logs.append(self._forward_backward(batch))
            if index == 0:
                after = [buffer.clone() for buffer in self.running]
        self._restore(after)
        self._average_gradients()
        self.precision.step(self.optimizer)
        return {name: torch.stack([each[name] for each in logs]).mean(0) for name in logs[0]}

    def _forward_backward(self, batch: Any) -> dict[str, Tensor]:
        """Add the gradients of a group's share of the loss. Returns its losses."""
        data = self.model.data_preprocessor(batch, True)
        with self.precision.autocast():
            losses = self.model(**data, mode="loss")
        loss, logs = self.model.parse_losses(losses)
        self.precision.backward(loss / self.groups)
        return {name: value.detach() for name, value in logs.items()}

    def _average_gradients(self) -> None:
        """Sum the gradients over the processes; a parameter that no pass used gets a gradient of zero."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        distributed.sum_gradients([parameter.grad for parameter in self.parameters])

    def _restore(self, values: list[Tensor]) -> None:
        """Set the running statistics of batch normalisation: those of the first of all groups are kept."""
        for buffer, value in zip(self.running, values, strict=True):
            buffer.copy_(value)


def dynamic_heads(model: torch.nn.Module) -> list[DynamicHead]:
    """The RoI head with T and beta, if the model has one."""
    return [module for module in model.modules() if isinstance(module, DynamicHead)]


def _running_statistics(module: torch.nn.Module) -> list[Tensor]:
    """The buffers that a forward pass of this module changes."""
    return list(module.buffers(recurse=False)) if isinstance(module, _BatchNorm) and module.training else []
