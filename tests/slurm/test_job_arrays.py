"""How runs are divided into job arrays, their record, and their batch script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from experiments.config.conf_files import CONF
from slurm import code_snapshot as snapshot
from slurm.attempt import killed_here
from slurm.cli import QueuedJob, SlurmError, _jobs, active, ask, fields
from slurm.job_arrays import Array, arrays, begin, script
from slurm.site_profile import Profile
from slurm.submission_record import Chunk, Submission, jobs_by_run, last_job, read_all

RUNS = [f"shapes/arm{number}/seed0-0123456789" for number in range(10)]


def profile(**changes) -> Profile:
    settings = OmegaConf.to_container(OmegaConf.load(CONF / "cluster" / "slurm.yaml"))
    assert isinstance(settings, dict)
    return Profile.from_dict({**settings, "gpus_per_node": 2, **changes})


def submission(folder: Path, *chunks: Chunk) -> Submission:
    first = begin(folder, folder, "ablation", [], folder / "code", ["-m", "x"], profile())
    return first.model_copy(update={"folder": folder / "20260101-000000-abcdef", "chunks": list(chunks)})


def test_one_array_if_the_runs_fit_into_it():
    assert arrays([], RUNS, [], [], 1001, None) == [Array(RUNS, 10)]
    assert arrays([], RUNS, [], [], 1001, 4) == [Array(RUNS, 4)]
    assert arrays([], RUNS[:2], [], [], 1001, 4) == [Array(RUNS[:2], 2)]


def test_several_arrays_share_one_limit():
    parts = arrays([], RUNS, [], [], 4, 5)
    assert [part.runs for part in parts] == [RUNS[:4], RUNS[4:8], RUNS[8:]]
    assert [part.throttle for part in parts] == [2, 2, 1]
    assert sum(part.throttle for part in parts) == 5
    assert all(part.after == () and part.behind == () for part in parts)


def test_more_arrays_than_may_run_at_a_time_wait_for_each_other():
    parts = arrays([], RUNS, [], [], 3, 2)
    assert [(part.throttle, part.behind) for part in parts] == [(1, ()), (1, ()), (1, (0,)), (1, (1,))]
    assert not any(part.needs for part in parts)


def test_jobs_in_the_queue_count_for_the_limit():
    assert [part.throttle for part in arrays([], RUNS, [], ["7_0", "7_1"], 100, 5)] == [3]
    (waiting,) = arrays([], RUNS, [], ["7_0", "7_1", "8_0"], 100, 3)
    assert waiting.after == ("afterany:7", "afterany:8") and waiting.throttle == 3


def test_runs_wait_for_the_run_that_they_start_from():
    start, rest = arrays(["shapes/pretrain/seed0-0123456789"], RUNS, [], [], 1001, None)
    assert start.runs == ["shapes/pretrain/seed0-0123456789"]
    assert (rest.needs, rest.behind) == ((0,), ())
    (rest,) = arrays([], RUNS, ["9_0"], [], 1001, None)
    assert rest.after == ("afterok:9_0",)


def test_several_pretrainings_are_arrays_that_all_others_wait_for():
    first, second, rest = arrays(RUNS[:3], RUNS[3:], ["9_0", "9_1"], [], 2, 7)[:3]
    assert [first.runs, second.runs, second.behind] == [RUNS[:2], RUNS[2:3], (0,)]
    assert rest.needs == (0, 1) and rest.after == ("afterok:9_0", "afterok:9_1")


def test_no_array_starts_without_the_run_that_all_start_from():
    parts = arrays(["shapes/pretrain/seed0-0123456789"], RUNS, [], [], 3, 2, ["x"])
    assert [(part.needs, part.behind) for part in parts[1:-1]] == [((0,), ()), ((0,), ()), ((0,), (1,)), ((0,), (2,))]
    assert (parts[-1].needs, parts[-1].behind) == ((0,), (1, 2, 3, 4))
    parts = arrays([], RUNS, ["9_0"], [], 3, 2, ["x"])
    assert all(part.after == ("afterok:9_0",) for part in parts)


def test_runs_that_need_others_of_the_grid_come_after_all_of_them():
    *_, last = arrays(["shapes/pretrain/seed0-0123456789"], RUNS, [], ["7_0", "7_3"], 1001, None, ["x", "y"])
    assert (last.runs, last.throttle, last.after, last.behind) == (["x", "y"], 2, ("afterany:7",), (1,))
    assert last.needs == (0,)
    parts = arrays([], RUNS[:2], [], [], 2, 1, ["x", "y", "z"])
    assert [(part.runs, part.throttle, part.behind) for part in parts[1:]] == [(["x", "y"], 1, (0,)), (["z"], 1, (1,))]
    assert arrays([], [], [], [], 1001, None, ["x"]) == [Array(["x"], 1)]


def test_the_batch_script(tmp_path):
    site = profile(
        account="vision",
        partition="gpu",
        qos="high",
        constraint="a100",
        nodes=2,
        mem="64G",
        time="1-00:00:00",
        setup=["module load cuda/12.4"],
        sbatch={"reservation": "spring"},
        srun=["--mpi=none"],
        python="apptainer exec --nv image.sif python",
    )
    array = Array(RUNS, 4)
    text = script(begin(tmp_path, tmp_path, "ablation", [array], tmp_path / "code", [], site), 0, array, site)
    lines = text.splitlines()
    flags = "account=vision partition=gpu qos=high constraint=a100 nodes=2 ntasks-per-node=2 gpus-per-node=2 mem=64G "
    flags += "time=1440 reservation=spring array=0-9%4 signal=USR2@120 requeue open-mode=append"
    assert {f"#SBATCH --{flag}" for flag in [*flags.split(), f"chdir={tmp_path}/code"]} <= set(lines)
    assert "submitit" not in " ".join(line for line in lines if line.startswith("#SBATCH --wckey"))
    commands = [line for line in lines if line and not line.startswith("#")]
    assert "module load cuda/12.4" in commands
    (srun,) = [line for line in commands if line.startswith("srun")]
    assert "--kill-on-bad-exit=1" in srun and "--mpi=none" in srun
    assert "apptainer exec --nv image.sif python -u -m slurm.supervisor" in srun
    assert commands[-2] == "code=$?" and "-m slurm.epilogue" in commands[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_submission_is_read_as_it_was_written(tmp_path):
    written = submission(
        tmp_path / "shapes" / ".slurm", Chunk(name="g-abcdef-0", runs=RUNS[:2]), Chunk(name="g-abcdef-1", runs=RUNS[2:])
    )
    written = written.with_job(0, "71")
    written.write()
    assert read_all(tmp_path, "shapes") == [written]
    assert last_job([written]) == {RUNS[0]: "71_0", RUNS[1]: "71_1"}


def test_jobs_are_found_by_name_if_their_id_was_not_recorded(tmp_path):
    """The launcher was killed after sbatch, before it recorded the id."""
    known = submission(tmp_path, Chunk(name="g-abcdef-0", runs=RUNS[:3]))
    job = QueuedJob("55_2", "g-abcdef-0", "PENDING", "Priority", "")
    other = QueuedJob("56_0", "something else", "RUNNING", "None", "node1")
    assert jobs_by_run([known], [job, other]) == {RUNS[2]: job}


def test_the_output_of_squeue_and_scontrol_is_parsed():
    text = "12_3|RUNNING|node[1-2]|g-1-0|None\n13|PENDING|||(Dependency)\n"
    assert _jobs(text) == [
        QueuedJob("12_3", "g-1-0", "RUNNING", "None", "node[1-2]"),
        QueuedJob("13", "", "PENDING", "(Dependency)", ""),
    ]
    assert _jobs(text)[0].array == "12" and _jobs(text)[0].index == 3
    assert fields("JobId=1 JobState=RUNNING Command=/a b=c JobState=X")["JobState"] == "RUNNING"


def put_command(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_names_of_jobs_that_are_not_utf8_do_no_harm(tmp_path, monkeypatch):
    put_command(tmp_path, "squeue", r"printf '12_0|RUNNING|n1|caf\351|None\n13_0|RUNNING|n2|g-1-0|None\n'", monkeypatch)
    assert [job.name for job in active()] == ["caf\ufffd", "g-1-0"]


def test_the_user_of_a_container_needs_no_name(tmp_path, monkeypatch):
    put_command(tmp_path, "squeue", 'echo "1|RUNNING|n1|$*|None"', monkeypatch)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert "--user=54321" in active()[0].name


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        (
            "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
            "scontrol: no answer from Slurm (Unable to contact slurm controller (connect failure)); try again later",
        ),
        (
            "scontrol: error: Socket timed out\nscontrol: error: Socket timed out\nslurm_update error: Zero bytes sent",
            "scontrol: no answer from Slurm (Socket timed out; Zero bytes sent); try again later",
        ),
        ("scontrol: error: Invalid job id specified", "scontrol: Invalid job id specified"),
        ("", "scontrol: exit code 3"),
    ],
)
def test_an_error_of_slurm_is_one_line(tmp_path, monkeypatch, printed, message):
    put_command(tmp_path, "scontrol", f"echo -n '{printed}' >&2; exit 3", monkeypatch)
    with pytest.raises(SlurmError) as raised:
        ask("scontrol", "show", "config")
    assert str(raised.value) == message


def run_setup(tmp_path, monkeypatch, *lines, **changes):
    """(exit code, error output, what ran) of the batch script with these lines of setup."""
    for name in ("srun", "epilogue"):
        put_command(tmp_path, name, f'echo {name} "${{@: -2}}" >> {tmp_path}/ran; exit 0', monkeypatch)
    (tmp_path / "code").mkdir()
    site, array = profile(setup=list(lines), **changes), Array(RUNS, 4)
    text = script(begin(tmp_path, tmp_path, "g", [array], tmp_path / "code", [], site), 0, array, site)
    (tmp_path / "script").write_text(text.replace(f"{sys.executable} -m slurm.epilogue", "epilogue"))
    done = subprocess.run(["bash", "script"], capture_output=True, text=True, cwd=tmp_path)
    ran = [line.split()[0] + " " + " ".join(line.split()[-2:]) for line in (tmp_path / "ran").read_text().splitlines()]
    return done.returncode, done.stderr, ran


@pytest.mark.parametrize(
    ("lines", "error", "code"),
    [
        (["true", "module_load() { return 1; }", "module_load cuda"], "exit code 1: ", 1),
        (["exit 3"], "exit code 3: exit 3", 3),
        (["if true; then", "  ls /no/such/file 2> /dev/null", "fi"], "exit code 2: ls /no/such/file", 2),
    ],
)
def test_a_line_of_setup_that_fails_ends_the_attempt(tmp_path, monkeypatch, lines, error, code):
    _, printed, ran = run_setup(tmp_path, monkeypatch, *lines)
    assert f"cluster.setup: {error}" in printed and ran == [f"epilogue {code} 0"]


def test_setup_that_succeeds_or_need_not_is_followed_by_srun(tmp_path, monkeypatch):
    (tmp_path / "activate").write_text("false\ntrue\n")
    _, printed, ran = run_setup(tmp_path, monkeypatch, f"source {tmp_path}/activate", "false || true", "cd /")
    assert printed == "" and ran[0].startswith("srun") and ran[1:] == ["epilogue 0 1"]
    other = tmp_path / "other"
    other.mkdir()
    _, printed, ran = run_setup(other, monkeypatch, "false", setup_must_succeed=False)
    assert ran[0].startswith("srun") and ran[1:] == ["epilogue 0 1"]


def test_frozen_code_is_a_copy_by_content(tmp_path, monkeypatch):
    project = tmp_path / "project"
    for name in ("dynamic_rcnn/a.py", "slurm/b.py", "dynamic_rcnn/conf.yaml", "slurm/__pycache__/b.pyc"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    monkeypatch.setattr(snapshot, "PROJECT", project)
    first = snapshot.freeze(tmp_path / "code")
    assert sorted(path.relative_to(first).as_posix() for path in first.rglob("*") if path.is_file()) == [
        "dynamic_rcnn/a.py",
        "dynamic_rcnn/conf.yaml",
        "frozen.json",
        "slurm/b.py",
    ]
    assert snapshot.freeze(tmp_path / "code") == first
    (project / "slurm" / "b.py").write_text("edited")
    assert snapshot.freeze(tmp_path / "code") != first
    assert (first / "slurm" / "b.py").read_text() == "slurm/b.py"


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("0::/system.slice/slurmstepd.scope/job_7/step_0", "memory.events"),
        ("4:memory:/slurm/uid_0/job_7", "memory.oom_control"),
    ],
)
def test_an_oom_kill_is_seen_in_the_jobs_control_group(tmp_path, line, file):
    own = tmp_path / "cgroup"
    own.write_text(line + "/user/task_0\n")
    place = tmp_path / "fs" / ("memory" if "memory" in line else ".") / line.split(":")[2].strip("/")
    (place / "user" / "task_0").mkdir(parents=True)
    assert not killed_here(tmp_path / "fs", own)
    (place / file).write_text("low 0\noom 1\noom_kill 0\n")
    assert not killed_here(tmp_path / "fs", own)
    (place / file).write_text("low 0\noom 1\noom_kill 1\n")
    assert killed_here(tmp_path / "fs", own)
