"""The trainer, disturbed as requested: DISTURB="MOMENT COUNT RANK" in the environment, RANK a number or "all".

MOMENT is one of the functions below: what happens, at iteration COUNT where that matters, to the process of that rank.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from dynamic_rcnn import cli, train
from dynamic_rcnn.parallel import processes as spawn
from dynamic_rcnn.run.spec import RunSpec


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def iteration(count: int) -> None:
    """SIGKILL after the log of an iteration, before its checkpoint."""
    from dynamic_rcnn.engine.trainer import TrainingRun

    def log_and_die(self: Any, *args: Any, log: Any = TrainingRun._log) -> None:
        log(self, *args)
        if self.iteration == count:
            die()

    TrainingRun._log = log_and_die


def checkpoint(count: int) -> None:
    """SIGKILL in the middle of writing a checkpoint: half of the bytes are in the temporary file."""
    from dynamic_rcnn.engine import checkpoint

    def half_save(folder: Path, content: dict[str, Any], keep: int, save: Any = checkpoint.save) -> Path:
        if content["meta"]["iteration"] == count:
            data = checkpoint.serialise(content)
            with (folder / f".iter_{count:06d}-00000000.pth.tmp").open("wb") as file:
                file.write(data[: len(data) // 2])
                file.flush()
            die()
        return save(folder, content, keep)

    checkpoint.save = half_save


def evaluation(count: int) -> None:
    """SIGKILL in place of an evaluation."""
    from dynamic_rcnn.engine import results

    results.predict = lambda *args: die()


def evaluated(count: int) -> None:
    """SIGKILL after the row of an evaluation on the way."""
    from dynamic_rcnn.engine import results

    results.evaluate_during_training = lambda *args, now=results.evaluate_during_training: (now(*args), die())


def nan(count: int) -> None:
    """The loss of an iteration is not a number, and with it the gradients of all processes."""
    _loss_in_iteration(count, lambda losses: {**losses, "loss_cls": losses["loss_cls"] * float("nan")})


def error(count: int) -> None:
    """An exception in an iteration."""

    def fail(losses: Any) -> Any:
        raise RuntimeError("a device that does not do what it should")

    _loss_in_iteration(count, fail)


def overtaken(count: int) -> None:
    """Another attempt puts a copy in the run directory's place."""
    from dynamic_rcnn.engine.trainer import TrainingRun
    from dynamic_rcnn.run import claim

    def log_in_another_place(self: Any, *args: Any, log: Any = TrainingRun._log) -> None:
        if self.iteration == count:
            claim._swap(Path.cwd())
        log(self, *args)

    TrainingRun._log = log_in_another_place


def hold(count: int) -> None:
    """Wait before the log of an iteration until a file named `released` is in the run directory."""
    from dynamic_rcnn.engine.trainer import TrainingRun

    def wait_and_log(self: Any, *args: Any, log: Any = TrainingRun._log) -> None:
        while self.iteration == count and not Path("released").exists():
            time.sleep(0.02)
        log(self, *args)

    TrainingRun._log = wait_and_log


def stop_at_start(count: int) -> None:
    """SIGTERM as soon as it is handled, before torch is imported."""
    from dynamic_rcnn.engine.stop_signal import StopSignal

    def install_and_stop(self: Any, install: Any = StopSignal.install) -> None:
        install(self)
        os.kill(os.getpid(), signal.SIGTERM)

    StopSignal.install = install_and_stop


def stop(count: int) -> None:
    """SIGTERM in an iteration."""
    _loss_in_iteration(count, lambda losses: os.kill(os.getpid(), signal.SIGTERM) or losses)


def stop_in_evaluation(count: int) -> None:
    """SIGTERM while the images of an evaluation are looked at."""
    from dynamic_rcnn.engine import inference as predict

    def rows(*args: Any, rows: Any = predict._rows) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return rows(*args)

    predict._rows = rows


def stop_in_last_evaluation(count: int) -> None:
    """The same in the evaluation of the final weights."""
    from dynamic_rcnn.engine import results

    def final(*args: Any, final: Any = results.evaluate_final) -> Any:
        stop_in_evaluation(0)
        return final(*args)

    results.evaluate_final = final


def _loss_in_iteration(count: int, change: Any) -> None:
    """Put the head's losses of this process's first group in an iteration through `change`."""
    from dynamic_rcnn.method.roi_head import DynamicRoIHead

    calls = iter(range(1, 1_000_000))
    whole = DynamicRoIHead.loss

    def loss(self: Any, *args: Any) -> Any:
        first, losses = self.group == 0, whole(self, *args)
        return change(losses) if first and next(calls) == count else losses

    DynamicRoIHead.loss = loss


def main() -> int:
    moment, count, rank = os.environ["DISTURB"].split()
    spawn.TRAINER = [sys.executable, "-m", "tests.dynamic_rcnn.disturbed"]
    starts_others = "RANK" not in os.environ and (Path(sys.argv[1]) / "spec.json").exists()
    starts_others = starts_others and RunSpec.read(Path(sys.argv[1])).processes > 1
    if moment != "never" and not starts_others and rank in ("all", os.environ.get("RANK", "0")):
        globals()[moment](int(count))
    return cli.run(train.main, train.__doc__ or "")


if __name__ == "__main__":
    sys.exit(main())
