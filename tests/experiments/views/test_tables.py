"""The output of the launcher: live tables on terminals of any size, plain lines in a pipe, help and completion."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dynamic_rcnn.run.spec import RunSpec
from dynamic_rcnn.run.status import Status
from experiments.config.conf_files import CONF
from experiments.planning.run_state import PlannedRun
from experiments.views import progress, tables
from tests.experiments.launches import LAUNCH, PROJECT, WITH_FAKE_TRAINER, Folder

BASES = PROJECT / "dynamic_rcnn" / "configs" / "base"


def planned(number: int, state: str) -> PlannedRun:
    spec = RunSpec(f"arm{number}", 0, {"name": "shapes"}, {})
    return PlannedRun(spec, Path("/nowhere"), state, "why [not]" if state == "failed" else "", 5, 20)


def rendered(content: object, width: int, height: int = 50) -> list[str]:
    console = Console(width=width, height=height, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(content)
    return console.export_text().splitlines()


def on_a_terminal(command: list[str], folder: Folder, rows: int, columns: int, shown: bytes) -> tuple[int, str]:
    """(exit code, output) of a launch of dla on a terminal of this size; the run is held until this is `shown`."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    env |= {"TERM": "xterm", "FAKE_TRAINER": '{"dla": {"hold": 3}}', "FAKE_CODE": "x", "PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, env=env, cwd=folder.path)
    os.close(side)
    output = b""
    try:
        while chunk := os.read(main, 65536):
            output += chunk
            if shown in output:
                folder.release("dla")
    except OSError:  # the terminal's other side is closed
        pass
    os.close(main)
    return process.wait(timeout=300), output.decode()


@pytest.mark.parametrize(("rows", "columns", "shown"), [(24, 80, b"3/20"), (4, 20, b"1 running")])
def test_a_launch_on_a_terminal_draws_a_table_that_fits(rows: int, columns: int, shown: bytes, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    command = [sys.executable, "-c", WITH_FAKE_TRAINER, *folder.arguments("arms=[dla]")]
    code, output = on_a_terminal(command, folder, rows, columns, shown)
    assert "Traceback" not in output
    assert code == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
    assert "1 running" in plain
    if columns == 80:
        # arm, seed, state, iteration, time left, loss, T, beta
        assert re.search(r"dla/seed0 +running +3/20 +0:00 +1\.000 +0\.500 +0\.250", plain)


def test_a_narrow_table_leaves_out_less_important_columns() -> None:
    plan = [planned(0, "failed"), planned(1, "running")]
    head = rendered(tables.status_table(plan, 200), 200)[0].split()
    assert " ".join(head) == "run state iteration % left loss T beta AP AP90 img/s wait% GB attempts cause"
    assert " ".join(rendered(tables.status_table(plan, 80), 80)[0].split()) == "run state iteration left loss T beta"
    assert rendered(tables.status_table(plan, 20), 20)[0].split()[:1] == ["run"]


def test_the_status_shows_speed_waiting_and_memory_where_they_were_measured(tmp_path: Path) -> None:
    status, spec = Status(state="running", iteration=5, max_iterations=20), planned(0, "running").spec
    run = replace(planned(0, "running"), path=tmp_path, status=status, spec=replace(spec, config={"train": {}}))
    row = {"iteration": 5, "loss": 1.0, "T": 0.5, "beta": 1.0, "seconds": 0.5}
    measured = {"data_seconds": 0.1, "images_per_second": 32.0, "peak_bytes": 2_560_000_000}
    for content, shown in (({**row, **measured}, ["32.0", "20", "2.6"]), (row, [])):
        (tmp_path / "train.jsonl").write_text(json.dumps(content) + "\n")
        line = rendered(tables.status_table([run], 150), 150)[1].split()
        assert line == ["arm0/seed0", "running", "5/20", "25", "0:08", "1.000", "0.500", "1.000", *shown]


def test_a_live_table_fits_the_terminal_and_shows_running_runs_first() -> None:
    plan = [planned(number, state) for number, state in enumerate(["done"] * 30 + ["new"] * 30 + ["running"] * 2)]
    lines = rendered(tables.live_table(plan, 80, 12), 80)
    assert len(lines) <= 12
    assert lines[0].rstrip() == "30 new, 2 running, 30 done (8 of 62 shown)"
    assert lines[2].startswith("arm60/seed0") and lines[3].startswith("arm61/seed0")
    assert len(rendered(tables.live_table(plan[-2:], 80, 12), 80)) == 4


def test_markup_in_messages_is_not_interpreted() -> None:
    assert "why [not]" in "\n".join(rendered(tables.status_table([planned(0, "failed")], 200), 200))
    assert "why [not]" in "\n".join(rendered(tables.failures([planned(0, "failed")]), 200))


def test_a_closed_pipe_is_not_an_error(tmp_path: Path) -> None:
    command = " ".join([*LAUNCH, "grid=ablation", "dataset=shapes", f"runs={tmp_path}", "action=plan", "| true"])
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


def test_help_lists_the_choices(tmp_path: Path) -> None:
    done = subprocess.run([*LAUNCH, "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0
    for group in ("grid", "dataset", "cluster"):
        choices = ", ".join(sorted(path.stem for path in (CONF / group).glob("*.yaml")))
        assert f"{group}: {choices}\n" in done.stdout
    assert f"base: {', '.join(sorted(path.stem for path in BASES.glob('*.yaml')))} " in " ".join(done.stdout.split())
    for name in ("action", "seeds", "arms", "runs", "rerun", "watch", "json", "run", "lines", "weights"):
        assert f"\n{name}=" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_shell_completion(tmp_path: Path) -> None:
    done = subprocess.run([*LAUNCH, "-sc", "install=bash"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "hydra_bash_completion()" in done.stdout
    line = "python experiments/launch.py grid="
    env = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    done = subprocess.run([*LAUNCH, "-sc", "query=bash"], capture_output=True, text=True, cwd=tmp_path, env=env)
    assert {"grid=ablation", "grid=smoke"} <= set(done.stdout.split())


def test_a_running_run_is_shown_again_only_after_progress(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(progress, "_LINES_S", -1.0)
    run, show = replace(planned(1, "running"), iteration=0), progress._PlainLines()
    for _ in range(3):
        show([run])
    show([replace(run, iteration=5)])
    assert capsys.readouterr().out.splitlines() == ["arm1/seed0: starting", "arm1/seed0: 5/20"]
