"""Launch the real trainer on a tiny grid: NaN, Ctrl-C, cancel, and resuming."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.experiments.launches import Folder, end, wait_until

pytestmark = pytest.mark.slow

TINY = ("base.train.log_interval=1", "base.train.checkpoint_interval=50", "cluster.threads=1")
DIVERGES = "++grid.arms.dla.set={optim_wrapper.optimizer.lr: 1e12, optim_wrapper.clip_grad: null}"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_nan_fails_one_run_at_its_iteration_and_not_the_other(folder: Folder) -> None:
    process = folder.start("arms=[dla,dsl]", DIVERGES, *TINY, fake=False)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    status = folder.status("dla")
    assert (status["state"], status["cause"]) == ("failed", "NaN")
    assert status["message"].startswith("the loss is not finite at iteration ")
    assert f"dla/seed0 NaN: {status['message']}" in out
    assert f"    NaN: {status['message']}" in out  # the log's last line
    assert "1 of 2 runs are not done" in out
    assert folder.status("dsl")["state"] == "done"
    rows = [json.loads(line) for line in (folder.run("dsl") / "train.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == list(range(1, 21))


def test_interrupted_and_cancelled_runs_resume(folder: Folder) -> None:
    arguments = ("arms=[dla]", "base.train.max_iters=60", *TINY)
    process = folder.start(*arguments, fake=False)
    wait_until(lambda: folder.iteration("dla") > 2)
    code, _, err = end(process, signal.SIGINT)
    assert code == 130 and "Traceback" not in err
    first = folder.status("dla")
    assert (first["cause"], list((folder.run("dla") / "checkpoints").glob("iter_*.pth")) != []) == ("interrupted", True)

    process = folder.start(*arguments, fake=False)
    wait_until(lambda: folder.iteration("dla") > first["iteration"] + 2)
    code, out, _ = folder.launch("action=cancel", *arguments)
    assert code == 0 and "stopped the launcher" in out
    assert process.wait(timeout=300) == 130
    second = folder.status("dla")
    assert second["cause"] == "interrupted" and second["iteration"] > first["iteration"]

    process = folder.start(*arguments, fake=False)
    process.communicate(timeout=600)
    assert process.returncode == 0
    attempts = folder.status("dla")["attempts"]
    starts = [attempt["from_iteration"] for attempt in attempts]
    assert starts == [0, first["iteration"], second["iteration"]]
    assert [attempt["outcome"] for attempt in attempts] == ["interrupted", "interrupted", "done"]
    assert len((folder.run("dla") / "train.jsonl").read_text().splitlines()) == 60
