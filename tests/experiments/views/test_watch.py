"""action=status watch=true on a terminal: what is drawn at which width, keys, and the terminal afterwards."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console, Group

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import EVALUATIONS, TRAIN_LOG, append_jsonl
from dynamic_rcnn.run.spec import RunSpec
from dynamic_rcnn.run.status import Attempt, Status
from experiments.config.grid import Grid
from experiments.planning.run_state import PlannedRun
from experiments.views import keys, run_list, watch
from tests.experiments.launches import LAUNCH, PROJECT, Folder

GRID = cast(Grid, SimpleNamespace(name="ablation", dataset="shapes"))
CONFIG = {"model": {"train_cfg": {}, "backbone": {}}, "train": {"val_interval": 100, "max_iters": 750}}
ROW = {"iteration": 300, "loss": 0.5, "T": 0.5125, "beta": 0.25, "seconds": 0.5}
TIMING = {"data_seconds": 0.02, "images_per_second": 8.0, "peak_bytes": 1_500_000_000}
METRICS = {"AP": 0.384, "AP90": 0.1}


def planned(folder: Path, arm: str, seed: int, state: str, aps: Sequence[float] = (), **values: Any) -> PlannedRun:
    """A run at iteration 300 of 750 (done: at the end), with a log, and evaluations with these AP during training."""
    spec = RunSpec(arm, seed, {"name": "shapes"}, CONFIG)
    path = folder / arm / f"seed{seed}"
    run = PlannedRun(spec, path, state, "", 750 if state == "done" else 0, 750)
    if state != "new":
        path.mkdir(parents=True)
        append_jsonl(path / TRAIN_LOG, {**ROW, **TIMING})
        for number, ap in enumerate(aps):
            append_jsonl(path / EVALUATIONS, {"iteration": 100 * number, "AP": ap, "AP90": 0.05})
        attempt = Attempt(number=1, host="node7", to_iteration=300, outcome=None if state == "running" else "NaN")
        status = Status(state="running", iteration=300, max_iterations=750, attempts=[attempt])
        run = replace(run, status=status, iteration=max(run.iteration, 300))
    return replace(run, **values)


def example(folder: Path) -> list[PlannedRun]:
    return [
        planned(folder, "baseline", 0, "done", [0.3, 0.36], metrics=METRICS),
        planned(folder, "baseline", 1, "done", metrics={**METRICS, "AP": 0.37}),
        planned(folder, "both", 0, "running", [0.351, 0.349]),
        planned(folder, "both", 1, "failed", why="NaN: the loss is not finite", cause="NaN"),
        planned(folder, "both", 2, "new"),
    ]


def drawn(view: watch.View, width: int, height: int = 24) -> list[str]:
    console = Console(width=width, height=height, record=True, file=io.StringIO())
    console.print(Group(view.draw(width, height)))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_80_columns_show_what_matters_most(tmp_path: Path) -> None:
    assert drawn(watch.View(GRID, tmp_path, example(tmp_path), None), 80) == [
        "ablation on shapes: 1 new, 1 failed, 1 running, 2 done",
        "  run    state    progress          left      T   beta      AP  img/s  wait%",
        "baseline: 2 of 2 seeds done, mean AP 37.7 (37.0 to 38.4)",
        "  seed0  done     ━━━━━━━━ 100%           0.512  0.250  38.4 ↑    8.0      4",
        "  seed1  done     ━━━━━━━━ 100%           0.512  0.250  37.0      8.0      4",
        "both: 0 of 3 seeds done, 1 new, 1 failed, 1 running",
        "> seed0  running  ━━━─────  40%     3:45  0.512  0.250  34.9 ↓    8.0      4",
        "  seed1  failed   ━━━─────  40%           0.512  0.250            8.0      4",
        "  seed2  new      ────────   0%",
        "both/seed0: running",
        "up/down or j/k: select  l: log  c: cause  q: quit",
    ]


def test_160_columns_show_all_columns_and_causes(tmp_path: Path) -> None:
    lines = drawn(watch.View(GRID, tmp_path, example(tmp_path), None), 160)
    head = "run state progress iteration left loss T beta AP AP90 img/s wait% GB attempts why"
    assert lines[1].split() == head.split()
    assert " ".join(lines[6].split()) == (
        "> seed0 running ━━━───── 40% 300/750 3:45 0.500 0.512 0.250 34.9 ↓ 5.0 8.0 4 1.5 1"
    )
    assert lines[7].endswith("1  NaN: the loss is not finite")
    assert max(map(len, lines)) <= 160


def test_columns_are_left_out_in_the_stated_order(tmp_path: Path) -> None:
    plan = [replace(run, job="123_4", node="node7") for run in example(tmp_path)]
    view, hidden = watch.View(GRID, tmp_path, plan, None), list[str]()
    for width in range(200, 12, -4):
        lines = drawn(view, width)
        hidden += [name for name in run_list.LESS_IMPORTANT if name not in (*lines[1].split(), *hidden)]
        assert max(map(len, lines)) <= width and len(lines) == 11
    assert hidden == list(run_list.LESS_IMPORTANT)
    assert drawn(view, 16)[1].split() == ["run", "state"]


@pytest.mark.parametrize(
    ("aps", "final", "trend"),
    [
        ([], None, ""),
        ([0.3], None, ""),
        ([0.1, 0.3, 0.31], None, "↑"),
        ([0.3004, 0.3001], None, "="),  # both are shown as 30.0
        ([0.3], 0.2, "↓"),
        ([], 0.2, ""),
    ],
)
def test_the_trend_compares_the_last_two_evaluations(
    aps: list[float], final: float | None, trend: str, tmp_path: Path
) -> None:
    run = planned(tmp_path, "both", 0, "running", aps, metrics={} if final is None else {"AP": final})
    assert run_list._trend(run) == trend


def test_the_summary_of_an_arm(tmp_path: Path) -> None:
    """By hand: the mean of 38.4 and 37.0 is 37.7. A run that is not done has no part in it."""
    runs = example(tmp_path)
    assert run_list.summary("a", runs[:1]) == "a: 1 of 1 seed done, AP 38.4"
    assert run_list.summary("a", runs[:3]) == "a: 2 of 3 seeds done, 1 running, mean AP 37.7 (37.0 to 38.4)"
    assert run_list.summary("a", [replace(runs[0], metrics={})]) == "a: 1 of 1 seed done"
    assert run_list.summary("a", [replace(runs[0], state="stale")]) == "a: 0 of 1 seed done, 1 stale"


def test_an_evaluation_of_weights_has_no_bar(tmp_path: Path) -> None:
    run = planned(tmp_path, "released", 0, "new", iterations=None)
    run = replace(run, spec=replace(run.spec, task="evaluate"))
    assert drawn(watch.View(GRID, tmp_path, [run], None), 80)[3] == "> seed0  new      not evaluated"


def test_what_a_terminal_sends_is_read_as_keys() -> None:
    sent = b"j\x1b[A\x1bOB\x1b[6~\x1b[Hl\x1bq"
    assert keys.names(sent) == ["down", "up", "down", "page down", "home", "l", "escape", "q"]


def test_the_list_scrolls_with_the_selection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the runs on the screen are read: a list of a thousand is as quick as one of twenty."""
    plan = [planned(tmp_path, f"arm{arm}", seed, "new") for arm in range(200) for seed in range(5)]
    view, read = watch.View(GRID, tmp_path, plan, None), list[str]()
    real = run_list._cells
    monkeypatch.setattr(run_list, "_cells", lambda run: read.append(run.spec.name) or real(run))

    def at(*pressed: str) -> str:
        read.clear()
        for key in pressed:
            view.press(key)
        lines = drawn(view, 80, 24)
        assert len(lines) == 24 and len(read) <= 20
        (selected,) = [line for line in lines if line.startswith(">")]
        assert selected.split()[1] == lines[-2].split("/")[1].split(":")[0]
        return lines[-2].split(":")[0]

    assert at() == "arm0/seed0"
    assert at("down", "down") == "arm0/seed2"
    assert at("up") == "arm0/seed1"
    assert at("page down") == "arm4/seed1"
    assert at("end") == at("down") == "arm199/seed4"
    assert at("page up") == "arm195/seed4"
    assert at("home") == at("up") == "arm0/seed0" and drawn(view, 80)[2].startswith("arm0: ")
    assert len(drawn(view, 20, 3)) >= 3  # a terminal that is too small shows what it can


def test_the_log_and_the_cause_of_the_selected_run(tmp_path: Path) -> None:
    runs = example(tmp_path)
    (runs[3].path / "logs").mkdir()
    log = runs[3].path / "logs" / "attempt1.log"
    log.write_text("".join(f"line {number}\n" for number in range(50)) + "\x1b[31mred\x1b[0m\x1b[2Jend" + 70 * "x")
    view = watch.View(GRID, tmp_path, runs, None)
    view.press("down")
    view.press("l")
    lines = drawn(view, 60, 12)
    assert lines[0] == "both/seed1: failed: NaN: the loss is not finite"
    assert lines[8:] == [
        "line 49",
        "redend" + 54 * "x",
        16 * "x",
        "up/down or j/k: other run  l: log  c: cause  escape: back  …",
    ]
    view.press("c")
    assert drawn(view, 80, 12)[1:4] == [
        "NaN: the loss is not finite",
        "",
        "attempt 1: NaN, iterations 0 to 300, on node7",
    ]
    view.press("up")
    assert drawn(view, 80, 12)[0] == "both/seed0: running"
    view.press("escape")
    assert drawn(view, 80)[0].startswith("ablation on shapes: ")
    view.press("end")
    view.press("l")
    assert drawn(view, 80)[1] == "no log: no attempt has started"


def test_an_update_keeps_the_selection(tmp_path: Path) -> None:
    runs = example(tmp_path)
    view = watch.View(GRID, tmp_path, runs, None)
    view.update([replace(run, state="done") for run in runs], "Slurm does not answer")
    lines = drawn(view, 80)
    assert lines[:2] == ["ablation on shapes: 5 done", "Slurm does not answer"]
    assert lines[-2] == "both/seed0: done"


class Screen:
    """Runs `watch` in this process with plans as given, the last one again and again, and keys as given.

    q is pressed when the screen shows `quit_at`.
    """

    quit_at: str | None = None

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, plans: list[list[PlannedRun] | Exception], *pressed: str
    ) -> None:
        self.plans, self.pressed = plans, [*pressed]
        self.console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
        monkeypatch.setattr(watch, "plan_or_disk", self.plan)
        monkeypatch.setattr(watch, "refresh_seconds", lambda plan: 0.0)
        monkeypatch.setattr(watch, "_FIRST_PAUSE_S", 0.0)
        monkeypatch.setattr(watch, "pressed_keys", self.keys)

    def plan(self, grid: Grid, runs: Path) -> tuple[list[PlannedRun], None]:
        plan = self.plans.pop(0) if len(self.plans) > 1 else self.plans[0]
        if isinstance(plan, Exception):
            raise plan
        return plan, None

    @contextmanager
    def keys(self) -> Iterator[Callable[[float], list[str]]]:
        def read(seconds: float) -> list[str]:
            if self.quit_at and self.quit_at in self.output:
                return ["q"]
            return [self.pressed.pop(0)] if self.pressed else []

        yield read

    def watch(self, folder: Path) -> bool:
        return watch.watch(GRID, folder, self.console)

    @property
    def output(self) -> str:
        return str(cast(io.StringIO, self.console.file).getvalue())


def test_without_a_key_it_ends_with_the_last_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = [planned(tmp_path, "both", 0, "running")]
    done = [replace(running[0], state="done", iteration=750)]
    screen = Screen(monkeypatch, [running, running, done])
    assert not screen.watch(tmp_path)
    assert "1 running" in screen.output and "1 done" not in screen.output  # launch.py prints the final table


@pytest.mark.parametrize("state", ["running", "done"])
def test_with_a_key_or_if_nothing_was_running_it_ends_with_q(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(tmp_path, "both", 0, state)
    done = replace(run, state="done", why="made by hand")
    screen = Screen(monkeypatch, [[run], [done]], *(["c"] if state == "running" else []))
    screen.quit_at = "made by hand"
    assert screen.watch(tmp_path)


def test_an_error_of_reading_the_plan_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch, [[planned(tmp_path, "both", 0, "running")], UserError("no code")], "c")
    with pytest.raises(UserError, match="no code"):
        screen.watch(tmp_path)
    assert screen.output.endswith("\x1b[?25h\x1b[?1049l")


class Terminal:
    """A pseudo-terminal of 80 x 24 that controls the process that is started on it."""

    def __init__(self) -> None:
        self.main, self.side = pty.openpty()
        fcntl.ioctl(self.side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self.side)
        self.output = ""

    def start(self, command: list[str], folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=self.side,
            stdout=self.side,
            stderr=self.side,
            env={**os.environ, "TERM": "xterm", "PYTHONPATH": str(PROJECT), "COLUMNS": "", "LINES": ""},
            cwd=folder,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def read_until(self, text: str) -> None:
        while text not in self.output:
            self.output += os.read(self.main, 65536).decode(errors="replace")

    def send(self, pressed: bytes) -> None:
        self.output = ""
        os.write(self.main, pressed)

    def is_as_before(self) -> bool:
        """Whether modes, cursor and screen are those from before the command."""
        shown = self.output.rfind("\x1b[?25h") > self.output.rfind("\x1b[?25l")
        left = self.output.rfind("\x1b[?1049l") > self.output.rfind("\x1b[?1049h")
        return shown and left and termios.tcgetattr(self.side) == self.before


def test_the_terminal_is_as_before_after_ctrl_c(tmp_path: Path) -> None:
    folder, terminal = Folder(tmp_path), Terminal()
    process = terminal.start([*LAUNCH, *folder.arguments("action=status", "watch=true")], tmp_path)
    terminal.read_until("q: quit")
    assert termios.tcgetattr(terminal.side) != terminal.before
    terminal.send(b"c")
    terminal.read_until("escape: back")
    os.write(terminal.main, b"\x03")
    terminal.read_until("interrupted")
    assert process.wait(timeout=300) == 130
    assert terminal.is_as_before() and "Traceback" not in terminal.output
