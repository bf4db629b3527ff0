"""Launch grids with real processes of a fake trainer (see fake_trainer.py)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.experiments.launches import LAUNCH, Folder, end, listing, wait_for_line, wait_until

ARMS = ("pretrain", "baseline", "dla", "dsl", "both")
HELD = {"hold": 3}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def with_shared_start(tmp_path: Path) -> Folder:
    return Folder(tmp_path, pretrain=True)


def test_a_launch_completes_and_a_relaunch_starts_nothing(with_shared_start: Folder) -> None:
    folder = with_shared_start
    code, out, err = folder.launch()
    assert (code, err) == (0, "")
    assert "drawing 3 images of shapes into" in out
    assert "5 runs to go, 2 at a time" in out
    assert all(folder.status(arm)["state"] == "done" for arm in ARMS)
    manifest = json.loads(next(folder.runs.glob("*/smoke-*.grid.json")).read_text())
    assert [run["arm"] for run in manifest["runs"]] == list(ARMS[1:])
    assert all((folder.runs / run["path"]).is_dir() for run in manifest["runs"])
    before = {name: stamp for name, stamp in listing(folder.runs).items() if "launcher" not in name}
    code, out, err = folder.launch()
    assert (code, err) == (0, "")
    assert "to go" not in out and "drawing" not in out
    after = {name: stamp for name, stamp in listing(folder.runs).items() if "launcher" not in name}
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert all(
        name.endswith(".grid.json") or name == "shapes_tiny" for name in changed
    )  # rewritten with the same content


def test_the_record_has_the_typed_command_and_runs_use_this_checkout(folder: Folder) -> None:
    folder.launch("arms=[both]", "seeds=[0, 1]")
    provenance = json.loads((folder.run("both", 1) / "provenance.json").read_text())
    assert provenance["command"].startswith("python experiments/launch.py grid=smoke ")
    assert provenance["command"].endswith("'arms=[both]' 'seeds=[0, 1]'")
    assert (Path(provenance["cwd"]) / "experiments" / "launch.py").exists()


def test_seeds_launched_later_join_the_manifest(folder: Folder) -> None:
    folder.launch("arms=[both]")
    folder.launch("arms=[baseline]", "seeds=[1]")
    manifest = json.loads(next(folder.runs.glob("*/smoke-*.grid.json")).read_text())
    assert [(run["arm"], run["seed"]) for run in manifest["runs"]] == [("baseline", 1), ("both", 0)]
    assert manifest["seeds"] == [0, 1]


def test_one_failed_run_does_not_stop_the_others(folder: Folder) -> None:
    code, out, _ = folder.launch("arms=[dla,dsl]", dla={"fail": 7})
    assert code == 1
    assert "dla/seed0 NaN: the loss is not finite at iteration 7" in out
    assert "    about to fail" in out  # the log's last lines
    assert "1 of 2 runs are not done" in out
    assert folder.status("dsl")["state"] == "done"
    code, out, _ = folder.launch("arms=[dla,dsl]")
    assert code == 0
    assert "1 run to go" in out
    assert len(folder.status("dla")["attempts"]) == 2


def test_runs_that_die_without_a_status_are_failed(folder: Folder) -> None:
    code, out, _ = folder.launch("arms=[dla,dsl]", dla={"crash": True}, dsl={"killed": 3})
    assert code == 1
    assert "dla/seed0 error: the process exited with code 1 before it wrote a status" in out
    assert "    ImportError: no module named torch" in out
    assert "dsl/seed0 killed: the process died without writing its status" in out and "signal 9" in out
    assert "2 of 2 runs are not done" in out
    assert folder.launch("arms=[dla,dsl]")[0] == 0
    assert [attempt["outcome"] for attempt in folder.status("dsl")["attempts"]] == ["killed", "done"]


def test_a_run_that_is_killed_before_its_first_status_is_recorded(folder: Folder) -> None:
    assert folder.launch("arms=[dla]", dla={"kill": True})[0] == 1
    message = "the process was killed by SIGKILL before it wrote a status"
    assert f"killed: {message}" in folder.launch("arms=[dla]", "action=status")[1]
    (folder.run("dla") / "status.json").unlink()  # the launcher was killed too, so only the log shows the attempt
    assert folder.launch("arms=[dla]")[0] == 0
    attempts = [(each["number"], each["outcome"], each["log"]) for each in folder.status("dla")["attempts"]]
    assert attempts == [(1, "killed", "logs/attempt1.log"), (2, "done", "logs/attempt2.log")]


def test_runs_wait_if_their_shared_start_fails(with_shared_start: Folder) -> None:
    folder = with_shared_start
    code, out, _ = folder.launch(pretrain={"fail": 3})
    assert code == 1
    assert out.count("waits for pretrain/seed0, which is not done") >= 4
    assert "5 of 5 runs are not done" in out
    assert not (folder.run("both") / "logs").exists()
    _, out, _ = folder.launch("action=status")
    assert "waits for pretrain/seed0, which is not done" in out


def test_ctrl_c_stops_the_runs_and_a_relaunch_resumes_them(folder: Folder) -> None:
    process = folder.start("arms=[dla,dsl]", dla=HELD, dsl=HELD)
    wait_until(lambda: folder.iteration("dla") == 3 and folder.iteration("dsl") == 3)
    code, _, err = end(process, signal.SIGINT)
    assert code == 130
    assert "the same command resumes them from their checkpoints" in err and "Traceback" not in err
    assert folder.status("dla")["cause"] == folder.status("dsl")["cause"] == "interrupted"
    reached = int((folder.run("dla") / "checkpoint").read_text())
    _, out, _ = folder.launch("action=status", "arms=[dla,dsl]")
    assert "interrupted: stopped by a signal" in out
    code, _, err = folder.launch("arms=[dla,dsl]")
    assert (code, err) == (0, "")
    attempts = folder.status("dla")["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["interrupted", "done"]
    assert attempts[1]["from_iteration"] == reached
    assert [attempt["log"] for attempt in attempts] == ["logs/attempt1.log", "logs/attempt2.log"]


AS_A_SCRIPT = f"""
import runpy, sys
sys.argv[0] = {LAUNCH[1]!r}
print("begun", flush=True)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def at_its_imports(process: subprocess.Popen[str]) -> bool:
    """Whether the launcher has reset Ctrl-C to its default in its first lines, or has ended."""
    if process.poll() is not None:
        return True
    caught = int(Path(f"/proc/{process.pid}/status").read_text().split("SigCgt:")[1].split()[0], 16)
    return not caught >> (signal.SIGINT - 1) & 1


@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.4])
def test_ctrl_c_during_startup_prints_no_traceback(folder: Folder, seconds: float) -> None:
    command = [sys.executable, "-c", AS_A_SCRIPT, *folder.arguments("action=plan")]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=folder.path)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    wait_until(lambda: at_its_imports(process), every=0.002)
    time.sleep(seconds)
    code, _, err = end(process, signal.SIGINT)
    assert code in (0, 130, -signal.SIGINT)
    assert "Traceback" not in err


def test_cancel_stops_launcher_and_runs(folder: Folder) -> None:
    assert "no run of this grid is running" in folder.launch("action=cancel")[1]
    process = folder.start("arms=[dla]", dla=HELD)
    wait_until(lambda: folder.iteration("dla") == 3)
    code, out, _ = folder.launch("action=cancel")
    assert code == 0
    assert f"stopped the launcher (process {process.pid})" in out
    assert process.wait(timeout=300) == 130  # cancel returned only after it had ended
    assert folder.status("dla")["cause"] == "interrupted"
    assert folder.launch("arms=[dla]")[0] == 0


def test_a_second_launcher_of_the_same_grid_is_refused(folder: Folder) -> None:
    process = folder.start("arms=[dla]", dla=HELD)
    wait_until(lambda: folder.iteration("dla") == 3)
    code, _, err = folder.launch("seeds=[5]")
    assert code == 2
    assert err.count("\n") == 1
    assert f"grid=smoke: another launcher is running this grid (process {process.pid} on " in err
    assert not list(folder.runs.glob("*/*/seed5-*"))
    code, out, _ = folder.launch("action=plan")  # planning is not refused
    assert code == 0 and "running" in out
    end(process)


def test_two_grids_that_share_a_run_do_not_run_it_twice(folder: Folder) -> None:
    first = folder.start("arms=[dla]", dla=HELD)
    wait_until(lambda: folder.iteration("dla") == 3)
    second = folder.start("arms=[dla]", "grid.name=other")
    wait_for_line(second, "1 run to go")
    folder.release("dla")
    assert second.communicate(timeout=300)[1] == ""
    assert (first.wait(timeout=300), second.returncode) == (0, 0)
    assert len(folder.status("dla")["attempts"]) == 1
    assert len(list(folder.runs.glob("*/other-*.grid.json"))) == 1


def test_runs_survive_a_killed_launcher_and_the_next_launcher_waits_for_them(folder: Folder) -> None:
    process = folder.start("arms=[dla]", dla=HELD)
    wait_until(lambda: folder.iteration("dla") == 3)
    process.kill()
    process.wait()
    attempt = folder.status("dla")["attempts"][0]
    os.kill(attempt["pid"], 0)  # still there
    _, out, _ = folder.launch("action=plan")
    assert "running" in out
    second = folder.start("arms=[dla]")
    wait_for_line(second, "1 run to go")
    folder.release("dla")
    assert second.communicate(timeout=300)[1] == ""
    assert second.returncode == 0
    attempts = folder.status("dla")["attempts"]
    assert [item["pid"] for item in attempts] == [attempt["pid"]]


def test_runs_of_a_killed_launcher_can_be_cancelled(folder: Folder) -> None:
    process = folder.start("arms=[dla]", dla=HELD)
    wait_until(lambda: folder.iteration("dla") == 3)
    process.kill()
    process.wait()
    code, out, _ = folder.launch("action=cancel")
    assert code == 0
    assert "stopped dla/seed0 (process " in out
    assert folder.status("dla")["cause"] == "interrupted"


def test_arms_with_the_same_identity_share_one_run(folder: Folder) -> None:
    arms = ("arms=[baseline,twin]", "+grid.arms.twin={title: as the baseline, set: {}}")
    assert "the same run as baseline/seed0" in folder.launch("action=plan", *arms)[1]
    code, out, _ = folder.launch(*arms)
    assert code == 0 and "1 run to go" in out
    manifest = json.loads(next(folder.runs.glob("*/smoke-*.grid.json")).read_text())
    paths = {run["arm"]: run["path"] for run in manifest["runs"]}
    assert paths["baseline"] == paths["twin"] and (folder.runs / paths["twin"] / "metrics.json").exists()


def test_a_relaunch_updates_the_neutral_fields_of_specs(folder: Folder) -> None:
    """The data set moves between two attempts. A run that is done keeps its spec."""
    folder.launch("arms=[dla,dsl]", dla={"fail": 7})
    done = (folder.run("dsl") / "spec.json").read_bytes()
    moved = folder.path / "moved"
    (folder.path / "shapes").rename(moved)
    code, out, _ = folder.launch("arms=[dla,dsl]", f"dataset.root={moved}", "base.train.log_interval=3")
    assert code == 0 and "1 run to go" in out
    spec = json.loads((folder.run("dla") / "spec.json").read_text())
    assert spec["dataset"]["root"] == str(moved) and spec["config"]["train"]["log_interval"] == 3
    assert folder.run("dla").name.endswith(spec["id"]) and spec["arm"] == "dla"
    assert (folder.run("dsl") / "spec.json").read_bytes() == done


def test_the_spec_of_a_running_run_is_not_rewritten(folder: Folder) -> None:
    process = folder.start("arms=[dla]", dla=HELD)
    wait_until(lambda: folder.iteration("dla") == 3)
    before = (folder.run("dla") / "spec.json").read_bytes()
    second = folder.start("arms=[dla]", "grid.name=other", "base.train.log_interval=3")
    wait_for_line(second, "1 run to go")
    folder.release("dla")
    assert process.wait(timeout=300) == second.wait(timeout=300) == 0
    assert (folder.run("dla") / "spec.json").read_bytes() == before


def test_a_stale_run_of_two_arms_is_moved_aside_once(folder: Folder) -> None:
    arms = ("arms=[baseline,twin]", "+grid.arms.twin={title: as the baseline, set: {}}")
    folder.launch(*arms)
    path = folder.run("baseline")
    provenance = json.loads((path / "provenance.json").read_text())
    (path / "provenance.json").write_text(json.dumps({**provenance, "code": "0123456789"}))
    code, out, _ = folder.launch(*arms, "rerun=stale")
    assert code == 0 and out.count("stale, moved to") == 1
    assert sorted(other.name for other in path.parent.iterdir()) == [path.name, f"{path.name}.stale1"]


def test_stale_runs_are_moved_aside_and_kept(folder: Folder) -> None:
    folder.launch("arms=[dla]")
    path = folder.run("dla")
    provenance = json.loads((path / "provenance.json").read_text())
    (path / "provenance.json").write_text(json.dumps({**provenance, "code": "0123456789"}))
    _, out, _ = folder.launch("arms=[dla]", "action=plan")
    assert "made by different code (0123456789, now " in out and ": 1 stale" in out
    code, out, _ = folder.launch("arms=[dla]")
    assert code == 0 and "to go" not in out  # a launch does not rerun stale runs by itself
    assert "1 of 1 runs are stale" in out
    code, out, _ = folder.launch("arms=[dla]", "rerun=stale")
    assert code == 0 and f"moved to {path.name}.stale1" in out
    aside = path.with_name(path.name + ".stale1")
    assert json.loads((aside / "provenance.json").read_text())["code"] == "0123456789"
    assert (aside / "metrics.json").exists()
    assert len(folder.status("dla")["attempts"]) == 1
    assert "stale" not in folder.launch("arms=[dla]", "action=plan")[1].replace("rerun=stale", "")


def test_a_file_instead_of_the_runs_folder_is_an_error(folder: Folder) -> None:
    folder.runs.write_text("a file")
    code, _, err = folder.launch()
    assert code == 2
    assert err == f"error: runs={folder.runs}: is a file; runs= must name a folder of runs\n"


def test_relative_folders_start_in_the_working_directory(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.path)
    code, _, err = folder.launch("arms=[dla]", "runs=elsewhere/runs", "dataset.root=data")
    assert (code, err) == (0, "")
    assert len(list(folder.path.glob("elsewhere/runs/shapes_tiny/dla/seed0-*/metrics.json"))) == 1
    assert len(list(folder.path.glob("data/*/annotations/train.json"))) == 1
    assert not folder.runs.exists()
