"""How the processes of a run share its batch. Imports no torch: the plan checks it too."""

from __future__ import annotations

from dynamic_rcnn.errors import UserError


def images_per_process(batch_size: int, processes: int, rate: float) -> int:
    """Images per process and iteration. Raises UserError if `batch_size` cannot be divided evenly.

    rate: the learning rate at this batch size, for the message.
    """
    if batch_size % processes == 0:
        return batch_size // processes
    counts = [str(count) for count in range(1, batch_size + 1) if batch_size % count == 0]
    listed = " or ".join(filter(None, [", ".join(counts[:-1]), counts[-1]]))
    near = max(processes, processes * round(batch_size / processes))
    raise UserError(
        f"base.train.batch_size={batch_size} cannot be divided among {processes} processes: use {listed}, or "
        f"batch_size={near} with base.optim_wrapper.optimizer.lr={rate * near / batch_size:.6g} (scaled linearly)"
    )
