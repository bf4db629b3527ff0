"""The local queue with real, tiny processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dynamic_rcnn.errors import UserError
from experiments.launching import local_queue
from experiments.launching.local_queue import Job, LocalQueue, slots_and_threads, visible_gpus
from tests.experiments.launches import wait_until

PROJECT = Path(local_queue.__file__).resolve().parents[2]

# Two jobs that write a mark when they are told to stop.
STOPPED = """
import sys
from pathlib import Path
from experiments.launching.local_queue import Job, LocalQueue
folder = Path(sys.argv[1])
code = (
    "import os, signal, sys, time; n = sys.argv[1]\\n"
    "def stop(*a): open(n + '.stopped', 'w').close(); sys.exit(130)\\n"
    "signal.signal(signal.SIGTERM, stop); open(n, 'w').write(str(os.getpid())); time.sleep(600)"
)
jobs = [Job(n, [sys.executable, "-c", code, n], folder / f"{n}.log", cwd=folder) for n in "abc"]
try:
    LocalQueue(2, 1).run(jobs)
except KeyboardInterrupt:
    sys.exit(130)
"""


def python(name: str, code: str, folder: Path, **fields: object) -> Job:
    return Job(name, [sys.executable, "-c", code, name], folder / f"{name}.log", cwd=folder, **fields)  # type: ignore[arg-type]


def has_text(path: Path) -> bool:
    return path.exists() and bool(path.read_text())


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{process}/stat").read_text().split(")")[1][:3]


def together(*names: str) -> str:
    """Code of a job that waits until each of these jobs has started; they need as many slots."""
    return (
        "import sys, time; from pathlib import Path; Path(sys.argv[1] + '.started').touch()\n"
        f"while not all(Path(name + '.started').exists() for name in {names}): time.sleep(0.01)\n"
    )


def test_slots_are_used_and_not_exceeded(tmp_path: Path) -> None:
    def check() -> None:
        started, ended = (len(list(tmp_path.glob(f"*.{what}"))) for what in ("started", "ended"))
        assert started - ended <= 2

    code = "Path(sys.argv[1] + '.ended').touch()"
    jobs = [python(n, together("a", "b") + code, tmp_path) for n in "ab"]
    jobs += [python(n, together(n) + code, tmp_path) for n in "cd"]
    errors: list[BaseException] = []
    assert LocalQueue(2, 1).run(jobs, lambda: note_error(check, errors)) == dict.fromkeys("abcd", 0)
    assert errors == []


def note_error(check: Callable[[], None], errors: list[BaseException]) -> None:
    try:
        check()
    except AssertionError as error:
        errors.append(error)


def test_threads_and_gpus_of_a_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['CUDA_VISIBLE_DEVICES'], os.environ['X'])"
    jobs = [python(name, together("a", "b") + code, tmp_path, env={"X": name}) for name in "abc"]
    LocalQueue(2, 3, gpus=["GPU-aa", "GPU-bb"]).run(jobs)
    lines = [(tmp_path / f"{name}.log").read_text().split() for name in "abc"]
    assert [line[0] for line in lines] == ["3", "3", "3"]
    assert [line[2] for line in lines] == ["a", "b", "c"]
    assert {lines[0][1], lines[1][1]} == {"GPU-aa", "GPU-bb"}


def test_the_processes_of_a_job_share_the_gpus_of_its_slot(tmp_path: Path) -> None:
    code = together("a", "b") + "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    jobs = [python(name, code, tmp_path) for name in "abc"]
    LocalQueue(2, 1, gpus=["4", "5", "6", "7", "8"], processes=2).run(jobs)
    seen = [(tmp_path / f"{name}.log").read_text().strip() for name in "abc"]
    assert set(seen[:2]) == {"4,5", "6,7"} and seen[2] in seen[:2]
    LocalQueue(3, 1, gpus=["4", "5"], processes=2).run(jobs)  # slots outnumber GPUs
    assert {(tmp_path / f"{name}.log").read_text().splitlines()[1] for name in "abc"} == {"4,5"}


@pytest.mark.parametrize(
    ("processes", "slots", "threads", "gpus", "expected"),
    [
        (1, None, None, [], (16, 1)),
        (1, None, None, ["0", "1"], (2, 8)),
        (2, None, None, ["0", "1", "2", "3", "4"], (2, 4)),
        (4, None, None, [], (4, 1)),
        (32, None, None, [], (1, 1)),
        (2, 3, None, [], (3, 2)),
        (2, 3, 5, ["0", "1"], (3, 5)),
    ],
)
def test_slots_and_threads_by_processes_gpus_and_cores(
    processes: int, slots: int | None, threads: int | None, gpus: list[str], expected: tuple[int, int]
) -> None:
    assert slots_and_threads(processes, slots, threads, gpus, cores=16) == expected


def test_more_processes_than_gpus_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"processes=3: each process needs its own GPU, and 2 are visible \(0,1\); give at most 2"
    ):
        slots_and_threads(3, None, None, ["0", "1"], cores=16)


def test_without_gpus_cuda_visible_devices_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    LocalQueue(1, 1).run([python("a", "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))", tmp_path)])
    assert (tmp_path / "a.log").read_text() == "None\n"


def test_a_failed_job_stops_only_what_comes_after_it(tmp_path: Path) -> None:
    jobs = [
        python("waits", "print('ran')", tmp_path, after=["bad"]),
        python("bad", "import sys; print('so long'); sys.exit(3)", tmp_path),
        python("other", "print('ran')", tmp_path),
        python("next", "print('ran')", tmp_path, after=["other"]),
        python("third", "print('ran')", tmp_path, after=["waits"]),
        python("both", "print('ran')", tmp_path, after=["other", "next"]),
        python("one", "print('ran')", tmp_path, after=["other", "bad"]),
    ]
    codes = LocalQueue(1, 1).run(jobs)
    assert codes == {"bad": 3, "waits": None, "other": 0, "next": 0, "third": None, "both": 0, "one": None}
    assert (tmp_path / "bad.log").read_text() == "so long\n"
    assert not (tmp_path / "waits.log").exists()


def test_output_and_errors_are_appended_to_the_log(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("before\n")
    LocalQueue(1, 1).run([python("a", "import sys; print('out', flush=True); sys.exit('err')", tmp_path)])
    assert (tmp_path / "a.log").read_text() == "before\nout\nerr\n"


def test_a_locked_job_is_started_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_queue, "BUSY_DELAY_S", 0.2)
    code = "import os, sys; sys.exit(0 if os.path.exists('seen') else open('seen', 'w').close() or 75)"
    jobs = [python("a", code, tmp_path), python("b", "", tmp_path, after=["a"])]
    assert LocalQueue(1, 1).run(jobs) == {"a": 0, "b": 0}


def test_a_job_that_is_not_ready_does_not_block_others(tmp_path: Path) -> None:
    code = "import time; print(time.time())"
    done = tmp_path / "second.log"
    jobs = [
        python("first", code, tmp_path, ready=lambda: has_text(done)),
        python("second", code, tmp_path),
    ]
    LocalQueue(1, 1).run(jobs)
    assert float((tmp_path / "first.log").read_text()) > float(done.read_text())


def test_an_error_of_the_display_is_reported_and_stops_no_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def draw() -> None:
        (tmp_path / "drawn").touch()
        raise BrokenPipeError("the terminal is gone")

    code = "import time; from pathlib import Path\nwhile not Path('drawn').exists(): time.sleep(0.01)"
    assert LocalQueue(1, 1).run([python(name, code, tmp_path) for name in "ab"], draw) == {"a": 0, "b": 0}
    text = "the progress display failed (BrokenPipeError: the terminal is gone); the runs continue\n"
    assert capsys.readouterr().err == text


def test_an_error_of_the_queue_leaves_no_job_behind(tmp_path: Path) -> None:
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    process = tmp_path / "pid"
    broken = Job("b", [str(tmp_path / "no program")], tmp_path / "b.log", ready=lambda: has_text(process))
    with pytest.raises(FileNotFoundError, match="no program"):
        LocalQueue(2, 1).run([python("a", code, tmp_path), broken])
    assert not alive(int(process.read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_jobs_and_waits_for_them(tmp_path: Path, number: signal.Signals) -> None:
    queue = subprocess.Popen([sys.executable, "-c", STOPPED, str(tmp_path)], cwd=PROJECT)
    wait_until(lambda: all(has_text(tmp_path / name) for name in "ab"))
    queue.send_signal(number)
    assert queue.wait(timeout=300) == 130
    assert {path.name for path in tmp_path.glob("*.stopped")} == {"a.stopped", "b.stopped"}
    assert not (tmp_path / "c").exists()
    assert not any(alive(int((tmp_path / name).read_text())) for name in "ab")


def test_a_second_interrupt_kills_at_once(tmp_path: Path) -> None:
    script = STOPPED.replace('sys.exit(130)\\n"\n', 'time.sleep(600)\\n"\n')
    queue = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=PROJECT, stderr=subprocess.PIPE)
    wait_until(lambda: all(has_text(tmp_path / name) for name in "ab"))
    queue.send_signal(signal.SIGINT)
    assert queue.stderr is not None and b"stopping 2 jobs" in queue.stderr.readline()
    queue.send_signal(signal.SIGINT)
    assert queue.wait(timeout=300) == 130
    assert not any(alive(int((tmp_path / name).read_text())) for name in "ab")


def test_jobs_survive_a_queue_that_is_killed(tmp_path: Path) -> None:
    queue = subprocess.Popen([sys.executable, "-c", STOPPED, str(tmp_path)], cwd=PROJECT)
    wait_until(lambda: all(has_text(tmp_path / name) for name in "ab"))
    queue.kill()
    queue.wait()
    processes = [int((tmp_path / name).read_text()) for name in "ab"]
    assert all(alive(process) for process in processes)
    for process in processes:
        os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize("script", ["#!/bin/sh\nexec sleep 30\n", "no program"])
def test_a_broken_nvidia_smi_is_reported_and_no_gpu_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], script: str
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(local_queue, "NVIDIA_SMI_S", 0.2)
    assert visible_gpus() == []
    said = capsys.readouterr().err
    assert said.startswith("nvidia-smi -L: ") and "continuing without GPUs" in said and said.count("\n") == 1


def test_visible_gpus_follow_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, expected in {"": [], "-1": [], "1,3": ["1", "3"], "GPU-ab": ["GPU-ab"]}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert visible_gpus() == expected
