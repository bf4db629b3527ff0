"""The command that the report gives beside a run launches that run, and no other."""

from __future__ import annotations

import shlex

import pytest

from analysis.reading.run_table import collect
from analysis.sections.accounting import repeat_command, run_facts
from dynamic_rcnn import PROJECT as ROOT
from dynamic_rcnn.run.spec import TRAIN
from experiments.config.build import build_grid
from experiments.config.compose import resolve

FACTS = run_facts(collect(ROOT / "analysis/records"))


@pytest.mark.parametrize("grid", ["ablation", "controls", "dynamics", "dsl", "beta"])
def test_the_command_that_repeats_a_run_makes_that_run_and_those_that_it_needs(grid: str) -> None:
    launch = f"python experiments/launch.py grid={grid} dataset=shapes cluster=local seeds=[0,1,2]"
    runs = {run.id: run for run in build_grid(resolve(shlex.split(launch)[2:])[0]).all_runs}
    for run in {run.arm: run for run in runs.values() if run.task == TRAIN}.values():
        needed = [runs[name] for name in run.needs if runs[name].task == TRAIN]
        repeat = repeat_command(launch, [(each.arm, each.seed) for each in (run, *needed)])
        launched = {each.id for each in build_grid(resolve(shlex.split(repeat)[2:])[0]).all_runs}
        wanted = {run.id, *run.needs, *(name for each in needed for name in each.needs)}
        assert launched == wanted if {each.seed for each in needed} <= {run.seed} else launched > wanted


def test_every_committed_run_has_a_command() -> None:
    commands = [shlex.split(facts["command"]) for facts in FACTS.values()]
    assert commands and all(words[:2] == ["python", "experiments/launch.py"] for words in commands)


def test_arms_and_seeds_of_the_launch_are_replaced() -> None:
    launch = "python experiments/launch.py grid=ablation 'seeds=[0,1]' 'arms=[both,dla]' 'base.x={a: 1}'"
    repeated = "python experiments/launch.py grid=ablation 'base.x={a: 1}' 'arms=[dla]' 'seeds=[1]'"
    assert repeat_command(launch, [("dla", 1)]) == repeated


@pytest.mark.parametrize("other", ["python -m dynamic_rcnn.train runs/shapes/both/seed0-0", "echo 'grid=x"])
def test_other_commands_stay_as_they_are(other: str) -> None:
    assert repeat_command(other, [("dla", 1)]) == other
