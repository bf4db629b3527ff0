"""Stands in for the trainer of one rank in tests of jobs: same files, heartbeat and exit codes, no torch.

Each iteration depends on the one before, so that a run which was resumed wrongly ends with other results.
FAKE_JOURNAL names a file to which a run that finishes appends its name.

The run directory's behaviour.json, or else the environment variable FAKE_TRAINER, configures it:

    seconds, iterations, checkpoint_every   seconds per iteration, number of iterations, iterations between checkpoints
    deaf       true: never handles signals
    hold       {"at": iteration, "until": file, "attempts": [1, ...]}: waits before this iteration, with heartbeats,
               until the file exists or a signal asks it to stop
    events     [{"what": "kill", "error", "nan", "hang", "memory" or "stubborn", "rank", "iteration", "attempts"}]
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dynamic_rcnn.run.files import METRICS, PROVENANCE, write_json_atomic
from dynamic_rcnn.run.heartbeat import beat
from dynamic_rcnn.run.lock import RunLockedError
from dynamic_rcnn.run.status import StatusFile

RANK = int(os.environ["RANK"])
CHECKPOINT = Path("checkpoints/iteration.pth")
stop: list[int] = []


def train(behaviour: dict[str, Any]) -> int:
    start, state = 0, hashlib.sha256(Path.cwd().name.encode()).hexdigest()
    if CHECKPOINT.exists():
        number, state = CHECKPOINT.read_text().split()
        start = int(number)
    record = StatusFile(Path(), behaviour["iterations"])
    attempt = len(record.attempts)
    if RANK == 0:
        record.start(start)
        record.forget_after(start)
        write_json_atomic(Path(PROVENANCE), {"schema": 1, "code": os.environ.get("FAKE_CODE", "fake")})
    for iteration in range(start + 1, behaviour["iterations"] + 1):
        beat()
        hold(behaviour.get("hold"), iteration, start, attempt)
        for event in behaviour.get("events", []):
            if iteration == max(event["iteration"], start + 1) and attempt in event["attempts"]:
                happen(event, record)
        time.sleep(behaviour["seconds"])
        state = hashlib.sha256(f"{iteration} {state}".encode()).hexdigest()  # depends on every earlier iteration
        if RANK == 0:
            loss = int(state[:8], 16) / 16**8
            record.log({"iteration": iteration, "loss": loss, "T": 0.5, "beta": 0.25, "seconds": 0.005})
            record.progress(iteration)
        if stop or iteration % behaviour["checkpoint_every"] == 0:
            save(iteration, state)
        if stop:
            if RANK == 0:
                record.end("interrupted", f"stopped by a signal after iteration {iteration}")
            return 130
    if RANK == 0:
        save(behaviour["iterations"], state)
        metrics = {"AP": int(state[:8], 16) / 16**8, "AP90": 0.25}
        write_json_atomic(Path(METRICS), {"schema": 1, "iteration": behaviour["iterations"], "metrics": metrics})
        if "FAKE_JOURNAL" in os.environ:
            with Path(os.environ["FAKE_JOURNAL"]).open("a") as journal:
                journal.write(f"{Path.cwd().parent.name}/{Path.cwd().name}\n")
        record.end("done")
    return 0


def save(iteration: int, state: str) -> None:
    if RANK == 0:
        CHECKPOINT.parent.mkdir(exist_ok=True)
        temporary = CHECKPOINT.with_suffix(".tmp")
        temporary.write_text(f"{iteration} {state}")
        temporary.replace(CHECKPOINT)


def wait_until_stopped(released: Callable[[], bool] = lambda: False) -> None:
    while not stop and not released():
        beat()
        time.sleep(0.05)


def hold(point: dict[str, Any] | None, iteration: int, start: int, attempt: int) -> None:
    if point is None or iteration != max(point["at"], start + 1) or attempt not in point["attempts"]:
        return
    wait_until_stopped(Path(point["until"]).exists)


def happen(event: dict[str, Any], record: StatusFile) -> None:
    what = event["what"]
    if event["rank"] != RANK:
        if what != "stubborn":  # as in a collective operation, which never completes
            wait_until_stopped()
    elif what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "error":
        raise RuntimeError("an error of the trainer")
    elif what == "nan":
        if RANK == 0:
            record.end("NaN", "the loss is not finite at iteration 7")
        sys.exit(1)
    elif what == "hang":
        while True:
            time.sleep(1)
    elif what == "memory":
        eaten = []
        while True:
            eaten.append(b"x" * 10_000_000)
            time.sleep(0.01)
    elif what == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


if __name__ == "__main__":
    own = Path("behaviour.json")
    asked = json.loads(own.read_text() if own.exists() else os.environ["FAKE_TRAINER"])
    if asked.get("deaf"):
        time.sleep(3600)
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
    try:
        sys.exit(train(asked))
    except RunLockedError as error:
        print(error, file=sys.stderr)
        sys.exit(75)
