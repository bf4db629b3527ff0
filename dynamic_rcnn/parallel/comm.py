"""What the processes that train one run together tell each other on the way.

A run with one process has no process group: it is rank 0 of 1, and nothing here does anything. What is exchanged here
goes over the CPU (gloo); gradients go over NCCL where there are GPUs.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from dynamic_rcnn.parallel import rendezvous
from dynamic_rcnn.parallel.rank import Rank

# How long a process waits for the others in the group: rank 0 evaluates alone. Hangs are noticed by the heartbeat.
TIMEOUT = timedelta(hours=2)
FAREWELL_S = 3.0  # for the other processes to say how they ended
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
    """Make the process group of the run's processes, and take this one's GPU where there are any.

    check: called while waiting for the others, and may end it with an exception.
    Raises UserError and LostProcessError as `rendezvous.meet`.
    """
    global _store
    if torch.cuda.is_available():
        torch.cuda.set_device(me.local % torch.cuda.device_count())  # a process that is shown its own GPU only has 0
    if me.size > 1:
        store = rendezvous.meet(me, check)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=me.number, world_size=me.size, timeout=TIMEOUT)
        _store = store


def leave() -> None:
    """Wait until every process has come to its end, and close the group."""
    if dist.is_initialized():
        any_of(False)
        dist.destroy_process_group()


def any_of(flag: bool) -> bool:
    """Whether `flag` is true on any process. Waits for all of them."""
    return bool(_reduced(int(flag), dist.ReduceOp.MAX))


def earliest(iteration: int | None) -> int | None:
    """The smallest of the processes' iterations; None where all have None."""
    found = _reduced(_NEVER if iteration is None else iteration, dist.ReduceOp.MIN)
    return None if found == _NEVER else found


def mean(values: dict[str, float]) -> dict[str, float]:
    """Each value's mean over the processes, which must have the same keys."""
    if world_size() == 1:
        return values
    total = torch.tensor(list(values.values()), dtype=torch.float64)
    dist.all_reduce(total)
    return dict(zip(values, (total / world_size()).tolist(), strict=True))


def broadcast(value: Value) -> Value:
    """Rank 0's value, on every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, 0, device=torch.device("cpu"))
    return box[0]


def gather(value: Value) -> list[Value] | None:
    """Every process's value by rank, on rank 0; None on the others."""
    if world_size() == 1:
        return [value]
    values: Any = [None] * world_size() if is_main() else None
    dist.gather_object(value, values, 0)
    return values


def broadcast_buffers(model: nn.Module) -> None:
    """Give every process rank 0's buffers: statistics of batch normalisation differ, as the batches do."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def is_loss_of_another(error: BaseException) -> bool:
    """Whether an error in the group says that another process is gone, and nothing about this one."""
    of_gloo = isinstance(error, RuntimeError) and "/gloo/" in str(error)
    return _store is not None and (of_gloo or isinstance(error, dist.DistError))


def exchange_ends(mine: dict[str, Any]) -> list[dict[str, Any]]:
    """What the processes say of their ends, as far as they say so in a few seconds: at least `mine`.

    By the store that rank 0 keeps, because those that have not failed wait for the others within the group.
    """
    if _store is None:
        return [mine]
    found, missing, deadline = [mine], set(range(world_size())) - {rank()}, time.monotonic() + FAREWELL_S
    with contextlib.suppress(RuntimeError):  # rank 0 is gone, and its store with it
        _store.set(f"end{rank()}", json.dumps(mine))
        while missing and time.monotonic() < deadline:
            come = {each for each in missing if _store.check([f"end{each}"])}
            found += [json.loads(_store.get(f"end{each}")) for each in sorted(come)]
            missing -= come
            time.sleep(0.02)
        _store.add("read", 1)
        while is_main() and _store.add("read", 0) < len(found) and time.monotonic() < deadline:
            time.sleep(0.02)
    return found


def _reduced(number: int, operation: Any) -> int:
    if world_size() == 1:
        return number
    box = torch.tensor(number)
    dist.all_reduce(box, operation)
    return int(box)
