"""How runs are divided into job arrays, their record, and their batch script."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from experiments.config.conf_files import CONF
from slurm import code_snapshot as snapshot
from slurm.attempt import killed_here
from slurm.cli import QueuedJob, _jobs, fields
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
    assert arrays(None, RUNS, None, [], 1001, None) == [Array(RUNS, 10)]
    assert arrays(None, RUNS, None, [], 1001, 4) == [Array(RUNS, 4)]
    assert arrays(None, RUNS[:2], None, [], 1001, 4) == [Array(RUNS[:2], 2)]


def test_several_arrays_share_one_limit():
    parts = arrays(None, RUNS, None, [], 4, 5)
    assert [part.runs for part in parts] == [RUNS[:4], RUNS[4:8], RUNS[8:]]
    assert [part.throttle for part in parts] == [2, 2, 1]
    assert sum(part.throttle for part in parts) == 5
    assert all(part.after == () and part.behind == () for part in parts)


def test_more_arrays_than_may_run_at_a_time_wait_for_each_other():
    parts = arrays(None, RUNS, None, [], 3, 2)
    assert [(part.throttle, part.behind) for part in parts] == [(1, ()), (1, ()), (1, (0,)), (1, (1,))]
    assert not any(part.behind_must_succeed for part in parts)


def test_jobs_in_the_queue_count_for_the_limit():
    assert [part.throttle for part in arrays(None, RUNS, None, ["7_0", "7_1"], 100, 5)] == [3]
    (waiting,) = arrays(None, RUNS, None, ["7_0", "7_1", "8_0"], 100, 3)
    assert waiting.after == ("afterany:7", "afterany:8") and waiting.throttle == 3


def test_runs_wait_for_the_run_that_they_start_from():
    start, rest = arrays("shapes/pretrain/seed0-0123456789", RUNS, None, [], 1001, None)
    assert start.runs == ["shapes/pretrain/seed0-0123456789"]
    assert (rest.behind, rest.behind_must_succeed) == ((0,), True)
    (rest,) = arrays(None, RUNS, "9_0", [], 1001, None)
    assert rest.after == ("afterok:9_0",)


def test_runs_that_need_others_of_the_grid_come_after_all_of_them():
    *_, last = arrays("shapes/pretrain/seed0-0123456789", RUNS, None, ["7_0", "7_3"], 1001, None, ["x", "y"])
    assert (last.runs, last.throttle, last.after, last.behind) == (["x", "y"], 2, ("afterany:7",), (0, 1))
    assert not last.behind_must_succeed
    parts = arrays(None, RUNS[:2], None, [], 2, 1, ["x", "y", "z"])
    assert [(part.runs, part.throttle, part.behind) for part in parts[1:]] == [(["x", "y"], 1, (0,)), (["z"], 1, (1,))]
    assert arrays(None, [], None, [], 1001, None, ["x"]) == [Array(["x"], 1)]


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
    for flag in (
        "account=vision",
        "partition=gpu",
        "qos=high",
        "constraint=a100",
        "nodes=2",
        "ntasks-per-node=2",
        "gpus-per-node=2",
        "mem=64G",
        "time=1440",
        "reservation=spring",
        "array=0-9%4",
        "signal=USR2@120",
        "requeue",
        "open-mode=append",
        f"chdir={tmp_path}/code",
    ):
        assert f"#SBATCH --{flag}" in lines
    assert "submitit" not in " ".join(line for line in lines if line.startswith("#SBATCH --wckey"))
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands[0] == "module load cuda/12.4"
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
