"""The command that the report gives beside a run launches that run, and no other."""

from __future__ import annotations

import copy
import shlex
from dataclasses import replace

import pytest

from analysis.reading.run_table import collect
from analysis.sections.accounting import repeat_command, run_facts
from dynamic_rcnn import PROJECT as ROOT
from dynamic_rcnn.run.spec import RunSpec, differences
from experiments.config.build import build_grid
from experiments.config.compose import resolve

RECORDS = collect(ROOT / "analysis/records")
FACTS = run_facts(RECORDS)
RUNS = [cell.path for grid in RECORDS.grids if grid.trains for cell in grid.cells]
ONE_AN_ARM = sorted({path.split("/")[1]: path for path in RUNS}.values())


def in_todays_fields(spec: RunSpec) -> RunSpec:
    """The committed runs were made before batches had groups, and before precision and statistic were settings."""
    config = copy.deepcopy(spec.config)
    train = config["train"]
    train |= {"groups": 1, "images_per_group": train.pop("batch_size"), "precision": "fp32", "deterministic": False}
    config["model"]["train_cfg"]["rcnn"]["dynamic_rcnn"]["statistic"] = "mmdet"
    return replace(spec, config=config)


@pytest.mark.parametrize("path", ONE_AN_ARM)
def test_the_command_of_a_committed_run_makes_that_run(path: str) -> None:
    python, script, *overrides = shlex.split(FACTS[path]["command"])
    assert (python, script) == ("python", "experiments/launch.py")
    launched = build_grid(resolve(overrides)[0]).runs
    committed = in_todays_fields(RunSpec.read(ROOT / "analysis/records" / path))
    (own,) = (spec for spec in launched if (spec.arm, spec.seed) == (committed.arm, committed.seed))
    changed = {field for field, _, _ in differences(committed, own)}
    assert changed <= {"init.run", "replay.run", "replay.setting"}  # ids of runs with today's fields
    others = {spec.arm for spec in launched} - {FACTS[path]["arm"], "pretrain"}
    assert others == ({"both"} if FACTS[path]["arm"] == "replay" else set())
    assert len(launched) <= 3


def test_arms_and_seeds_of_the_launch_are_replaced() -> None:
    launch = "python experiments/launch.py grid=ablation 'seeds=[0,1]' 'arms=[both,dla]' 'base.x={a: 1}'"
    repeated = "python experiments/launch.py grid=ablation 'base.x={a: 1}' 'arms=[dla]' 'seeds=[1]'"
    assert repeat_command(launch, ["dla"], 1) == repeated


@pytest.mark.parametrize("other", ["python -m dynamic_rcnn.train runs/shapes/both/seed0-0", "echo 'grid=x"])
def test_other_commands_stay_as_they_are(other: str) -> None:
    assert repeat_command(other, ["dla"], 1) == other
