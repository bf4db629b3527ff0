"""The claim on a run, and how a lost copy is kept from writing into it. With real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dynamic_rcnn.run.claim import claimed, is_superseded
from dynamic_rcnn.run.files import append_jsonl, read_jsonl, write_json_atomic
from dynamic_rcnn.run.lock import Holder, RunLockedError, last_holder
from dynamic_rcnn.run.spec import is_moved_aside

# Claims the run as job 7_0's first start and then writes, as fast as it can, all that a trainer writes.
WRITER = """
import os, sys
from pathlib import Path
from dynamic_rcnn.run.claim import claimed
from dynamic_rcnn.run.lock import Holder
from dynamic_rcnn.run.files import append_jsonl, write_bytes_atomic, write_json_atomic
with claimed(Path(sys.argv[1]), Holder("node1", os.getpid(), "7_0", 0)):
    print("claimed", flush=True)
    number = 0
    while True:
        number += 1
        write_json_atomic(Path("status.json"), {"schema": 1, "writer": "old", "number": number})
        write_bytes_atomic(Path("checkpoints") / f"iter_{number:06d}-00000000.pth", b"old")
        append_jsonl(Path("train.jsonl"), {"iteration": number, "writer": "old"})
"""


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "seed0-0123456789"
    (path / "checkpoints").mkdir(parents=True)
    (path / "checkpoints" / "iter_000001-11111111.pth").write_bytes(b"weights")
    append_jsonl(path / "train.jsonl", {"iteration": 1, "writer": "before"})
    write_json_atomic(path / "spec.json", {"schema": 1})
    return path


def wait_for_writes(folder: Path) -> None:
    """Return when the old copy has written all of its files ten times more into a folder."""

    def number() -> int:
        status = folder / "status.json"
        return int(json.loads(status.read_text()).get("number", 0)) if status.exists() else 0

    enough = number() + 10
    while number() < enough:
        time.sleep(0.01)


def lost(holder: Holder) -> bool | None:
    return False


def test_the_holder_works_in_the_run_directory_and_releases_its_claim(run_dir):
    home = Path.cwd()
    with claimed(run_dir, Holder("here", 12, "3_4", 2)) as claim:
        assert Path.cwd() == run_dir and claim.note is None
        assert last_holder(run_dir) == Holder("here", 12, "3_4", 2)
        assert not is_superseded(run_dir)
    assert Path.cwd() == home and last_holder(run_dir) is None


def test_a_second_claim_is_refused_and_names_the_holder(run_dir):
    with claimed(run_dir), pytest.raises(RunLockedError) as error, claimed(run_dir, patience_s=0.1):
        pass
    assert f"process {os.getpid()} on" in str(error.value)


def test_a_holder_that_slurm_still_runs_is_not_taken_over(run_dir):
    second = claimed(run_dir, Holder("node2", 2, "7_0", 1), lambda holder: True, patience_s=0.1)
    with claimed(run_dir, Holder("node1", 1, "7_0", 0)), pytest.raises(RunLockedError, match="job 7_0"), second:
        pass


def test_a_dead_holder_on_this_host_needs_no_new_directory(run_dir):
    me = Holder.this_process()
    (run_dir / "lock").write_text(Holder(me.host, 1).to_line())
    with claimed(run_dir) as claim:
        assert claim.note is None
    assert list(run_dir.parent.iterdir()) == [run_dir]


def test_the_same_attempt_claims_again(run_dir):
    """The batch script concludes an attempt whose supervisor was killed."""
    (run_dir / "lock").write_text(Holder("node1", 1, "7_0", 3).to_line())
    with claimed(run_dir, Holder("node2", 2, "7_0", 3)) as claim:
        assert claim.note is None


def test_a_holder_on_another_host_that_may_be_alive_keeps_the_old_directory(run_dir):
    (run_dir / "lock").write_text(Holder("elsewhere", 1).to_line())
    with claimed(run_dir) as claim:
        assert claim.note is not None and "took over from process 1 on elsewhere" in claim.note
    aside = run_dir.with_name("seed0-0123456789.lost1")
    assert aside.is_dir() and is_moved_aside(aside)


def test_a_lost_copy_that_still_runs_cannot_overwrite_its_successor(run_dir):
    old = subprocess.Popen([sys.executable, "-c", WRITER, str(run_dir)], stdout=subprocess.PIPE, text=True)
    assert old.stdout is not None and old.stdout.readline() == "claimed\n"
    wait_for_writes(run_dir)
    try:
        for stop in (False, True):  # once while it writes, once while it is suspended
            if stop:
                old.send_signal(signal.SIGSTOP)
            with claimed(run_dir, Holder("node2", os.getpid(), "7_0", 1), lost, patience_s=0.1):
                write_json_atomic(Path("status.json"), {"schema": 1, "writer": "new"})
                Path("train.jsonl").write_text(json.dumps({"iteration": 1, "writer": "new"}) + "\n")
                before = sorted(path.name for path in Path("checkpoints").iterdir())
                old.send_signal(signal.SIGCONT)
                wait_for_writes(next(run_dir.parent.glob("*.lost2" if stop else "*.lost1")))
                assert old.poll() is None
                assert json.loads(Path("status.json").read_text())["writer"] == "new"
                assert read_jsonl(Path("train.jsonl")) == [{"iteration": 1, "writer": "new"}]
                assert sorted(path.name for path in Path("checkpoints").iterdir()) == before
                assert "iter_000001-11111111.pth" in before
            if not stop:  # give the old one the new directory to write into, as if it had been the second of three
                old.kill()
                old.wait()
                old = subprocess.Popen([sys.executable, "-c", WRITER, str(run_dir)], stdout=subprocess.PIPE, text=True)
                assert old.stdout is not None and old.stdout.readline() == "claimed\n"
    finally:
        old.kill()
        old.wait()
    assert sorted(path.name for path in run_dir.parent.iterdir()) == [
        "seed0-0123456789",
        "seed0-0123456789.lost1",
        "seed0-0123456789.lost2",
    ]


def test_the_lost_copy_detects_that_it_was_superseded(run_dir, monkeypatch):
    with claimed(run_dir, Holder("node1", 1, "7_0", 0)):
        assert not is_superseded(run_dir)
        with claimed(run_dir, Holder("node2", 2, "7_0", 1), lost, patience_s=0.1):
            pass
        os.chdir(run_dir.with_name(f"{run_dir.name}.lost1"))
        assert is_superseded(run_dir)


def test_an_interrupted_swap_is_completed(run_dir):
    run_dir.rename(run_dir.with_name(f".{run_dir.name}.next"))
    with claimed(run_dir):
        assert Path("spec.json").exists()
