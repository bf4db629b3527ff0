"""Communication between the processes that train one run together.

A run with one process has no process group: it is rank 0 of 1, and the functions return their argument. Values are
exchanged on the CPU (gloo); gradients use NCCL on GPUs.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from dynamic_rcnn.parallel import rendezvous
from dynamic_rcnn.parallel.rank import Rank

# How long a process waits for the others. It is long, because rank 0 evaluates alone; the heartbeat detects hangs.
TIMEOUT = timedelta(hours=2)
FAREWELL_S = 3.0  # how long to wait for the other processes to report how they ended
_NEVER = 2**62
_store: dist.Store | None = None

Value = TypeVar("Value")


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is rank 0, which alone writes files."""
    return rank() == 0


def join(me: Rank, check: Callable[[], None]) -> None:
    """Create the process group, and select this process's GPU if there are any. See `rendezvous.meet`."""
    global _store
    if torch.cuda.is_available():
        torch.cuda.set_device(me.local % torch.cuda.device_count())  # a process that sees only its own GPU has just 0
    if me.size > 1:
        store = rendezvous.meet(me, check)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=me.number, world_size=me.size, timeout=TIMEOUT)
        _store = store


def leave() -> None:
    """Wait until every process has finished, and close the group."""
    if dist.is_initialized():
        any_of(False)
        dist.destroy_process_group()


def any_of(flag: bool) -> bool:
    """Whether `flag` is true on any process. Waits for all of them."""
    return bool(_reduce(int(flag), dist.ReduceOp.MAX))


def earliest(iteration: int | None) -> int | None:
    """The smallest of the processes' iterations; None where all have None."""
    found = _reduce(_NEVER if iteration is None else iteration, dist.ReduceOp.MIN)
    return None if found == _NEVER else found


def mean(values: dict[str, float]) -> dict[str, float]:
    """The mean of each value over the processes, which must pass the same keys."""
    if world_size() == 1:
        return values
    total = torch.tensor(list(values.values()), dtype=torch.float64)
    dist.all_reduce(total)
    return dict(zip(values, (total / world_size()).tolist(), strict=True))


def broadcast(value: Value) -> Value:
    """Return rank 0's value on every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, 0, device=torch.device("cpu"))
    return box[0]


def gather(value: Value) -> list[Value] | None:
    """Return the values of all processes, by rank, on rank 0; None on the others."""
    if world_size() == 1:
        return [value]
    values: Any = [None] * world_size() if is_main() else None
    dist.gather_object(value, values, 0)
    return values


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Copy rank 0's tensors to every process."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def sum_gradients(gradients: list[Tensor]) -> None:
    """Replace each gradient by its sum over the processes. One collective, so that the order of summation is fixed."""
    if world_size() == 1 or not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def is_loss_of_another(error: BaseException) -> bool:
    """Whether an error of the process group means that another process died, not that this one failed.

    Gloo raises a RuntimeError for a closed connection; only the path of its source file in the message identifies it.
    """
    of_gloo = isinstance(error, RuntimeError) and "/gloo/" in str(error)
    return _store is not None and (of_gloo or isinstance(error, dist.DistError))


def exchange_ends(mine: dict[str, Any]) -> list[dict[str, Any]]:
    """Exchange how the processes ended: `mine` and the others that are known within `FAREWELL_S`, as JSON values.

    Uses the store that rank 0 serves: processes that did not fail are waiting inside the group.
    """
    if _store is None:
        return [mine]
    found, missing, deadline = [mine], set(range(world_size())) - {rank()}, time.monotonic() + FAREWELL_S
    with contextlib.suppress(RuntimeError):  # rank 0 died, and its store with it
        _store.set(f"end{rank()}", json.dumps(mine))
        while missing and time.monotonic() < deadline:
            arrived = {each for each in missing if _store.check([f"end{each}"])}
            found += [json.loads(_store.get(f"end{each}")) for each in sorted(arrived)]
            missing -= arrived
            time.sleep(0.02)
        _store.add("read", 1)
        while is_main() and _store.add("read", 0) < len(found) and time.monotonic() < deadline:
            time.sleep(0.02)
    return found


def _reduce(number: int, operation: Any) -> int:
    if world_size() == 1:
        return number
    box = torch.tensor(number)
    dist.all_reduce(box, operation)
    return int(box)
