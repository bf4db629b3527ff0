"""From the command line to the plan: one composition, one check and one plan, without unnecessary imports."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn import PROJECT
from experiments import launch
from experiments.config import compose
from experiments.config.grid import Grid
from experiments.launching import slurm as slurm_launching
from experiments.planning import plan
from experiments.planning.run_state import PlannedRun
from experiments.views import progress
from slurm.submission_record import FOLDER
from tests.experiments.coco_layout import write_coco_2017
from tests.experiments.fake_slurm import FakeSlurm
from tests.experiments.launches import Folder

SUBMITTED = [
    "2 queued",
    "the jobs run without this terminal; action=status shows them; launch again to submit missing runs",
]


@pytest.mark.parametrize(
    "arguments",
    [["grid=ablation"], ["grid=backbones", "dataset=shapes"], ["grid=smoke", "base.train.max_iters=4", "seeds=[1]"]],
)
def test_a_plan_takes_one_composition_one_check_and_one_plan(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _counted(monkeypatch, [*arguments, f"runs={tmp_path}"]) == {
        "merged_content": 1,
        "check": 1,
        "plan_or_disk": 1,
    }


def test_coco_that_is_found_takes_no_second_composition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCO_ROOT", str(write_coco_2017(tmp_path / "coco")))
    arguments = ["grid=backbones", "arms=[r50_1x]", f"runs={tmp_path / 'runs'}"]
    assert _counted(monkeypatch, arguments) == {"merged_content": 1, "check": 1, "plan_or_disk": 1}


def test_a_local_launch_plans_once_and_once_per_tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan is made under the launcher's lock; its end is read from the directories of the runs that have run."""
    folder = Folder(tmp_path)
    calls = _count(monkeypatch, (compose, "merged_content"), (plan, "disk_plan"), (progress, "disk_plan", "tick"))
    shown = _count(monkeypatch, (progress._PlainLines, "__call__"))
    code, out, _ = folder.launch("arms=[dla,dsl]")
    assert (code, out.count("  done  ")) == (0, 2)
    assert calls.pop("tick", 0) == shown["__call__"]
    assert calls == {"merged_content": 1, "disk_plan": 1}
    calls.clear()
    assert folder.launch("arms=[dla,dsl]")[0] == 0
    assert calls == {"merged_content": 1, "disk_plan": 1}


def test_a_slurm_launch_plans_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm) -> None:
    submitted: list[str] = []

    def submit(grid: Grid, runs: Path, plan: list[PlannedRun], *rest: Any) -> None:
        submitted.extend(run.spec.arm for run in plan)

    monkeypatch.setattr(slurm_launching, "_submit", submit)
    calls = _count(monkeypatch, (plan, "disk_plan"))
    code, out, _ = Folder(tmp_path).launch("cluster=slurm", "arms=[dla,dsl]")
    assert (code, out.splitlines()[-2:]) == (0, SUBMITTED)
    assert (submitted, calls) == (["dla", "dsl"], {"disk_plan": 1})


def _counted(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> Counter[str]:
    """The calls of a plan on this machine."""
    calls = _count(monkeypatch, (compose, "merged_content"), (compose, "check"), (launch, "plan_or_disk"))
    assert launch.main([*arguments, "cluster=local", "action=plan"]) == 0
    return calls


def _count(monkeypatch: pytest.MonkeyPatch, *functions: tuple[Any, ...]) -> Counter[str]:
    """Count the calls of functions: (where it is looked up, its name, and the name to count it under)."""
    calls: Counter[str] = Counter()
    for place, name, *other in functions:
        monkeypatch.setattr(place, name, _counting(getattr(place, name), other[0] if other else name, calls))
    return calls


def _counting(function: Callable[..., Any], name: str, calls: Counter[str]) -> Callable[..., Any]:
    def counting(*arguments: Any, **options: Any) -> Any:
        calls[name] += 1
        return function(*arguments, **options)

    return counting


def test_a_local_launch_imports_nothing_of_slurm(tmp_path: Path) -> None:
    code = (
        "import sys; from experiments import launch; import experiments.launching.local\n"
        f"code = launch.main(['grid=smoke', 'cluster=local', 'action=plan', 'runs={tmp_path}'])\n"
        "print(code, [name for name in sys.modules if name.split('.')[0] in ('slurm', 'submitit', 'torch')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    assert plan._SUBMISSIONS == FOLDER


def test_an_action_without_a_function_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No action falls through to another one, least of all to cancel."""
    monkeypatch.delitem(launch._ACTIONS, "why")
    with pytest.raises(KeyError, match="why"):
        launch.main(["grid=smoke", "cluster=local", "action=why", f"runs={tmp_path}"])


def test_flags_see_the_arguments_of_main(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.main(["--cfg", "job", "grid=smoke", "cluster=local"]) == 0
    assert "max_iters: 20" in capsys.readouterr().out
