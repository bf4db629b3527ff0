"""Stands in for `python -m dynamic_rcnn.train RUN_DIR` in tests of launching: same files and exit codes, no torch.

FAKE_TRAINER holds JSON: arm -> {"hold", "fail" or "killed": at which iteration, "crash" or "kill": at once}. A held run
waits for the file `go` in its run directory, or for a signal. FAKE_CODE is the fingerprint of the code.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from dynamic_rcnn.run.files import METRICS, PROVENANCE, write_json_atomic
from dynamic_rcnn.run.lock import LockedError, locked
from dynamic_rcnn.run.spec import RunSpec
from dynamic_rcnn.run.status import StatusFile

GO = "go"
stop: list[int] = []


def train(run: Path) -> int:
    spec = RunSpec.read(run)
    if (run / METRICS).exists():
        return 0
    behaviour = json.loads(os.environ.get("FAKE_TRAINER", "{}")).get(spec.arm, {})
    if behaviour.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour.get("crash"):
        raise ImportError("no module named torch")
    checkpoint = run / "checkpoint"
    start = int(checkpoint.read_text()) if checkpoint.exists() else 0
    total = spec.config["train"]["max_iters"]
    record = StatusFile(run, total)
    record.start(start)
    write_json_atomic(
        run / PROVENANCE,
        {
            "schema": 1,
            "code": os.environ["FAKE_CODE"],
            "command": os.environ["DYNAMIC_RCNN_COMMAND"],
            "cwd": str(Path.cwd()),
        },
    )
    for iteration in range(start + 1, total + 1):
        if iteration == behaviour.get("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        if iteration == behaviour.get("fail"):
            print("about to fail", flush=True)
            record.end("NaN", f"the loss is not finite at iteration {iteration}")
            return 1
        record.log({"iteration": iteration, "loss": 1.0, "T": 0.5, "beta": 0.25, "seconds": 0.005})
        record.progress(iteration)
        while iteration == behaviour.get("hold") and not stop and not (run / GO).exists():
            time.sleep(0.01)
        if stop:
            checkpoint.write_text(str(iteration))
            record.end("interrupted", f"stopped by a signal after iteration {iteration}")
            return 130
    write_json_atomic(run / METRICS, {"schema": 1, "metrics": {"AP": 0.5, "AP90": 0.25}})
    record.end("done")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
    try:
        with locked(Path(sys.argv[1])):
            code = train(Path(sys.argv[1]))
    except LockedError:
        code = 75
    sys.exit(code)
