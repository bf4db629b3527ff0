"""The launcher: `python experiments/launch.py grid=ablation`. See `--help`.

Exit codes: 0 done, 1 some run is not done, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig

from dynamic_rcnn.errors import UserError
from experiments import local, tables
from experiments.grid import Grid, build
from experiments.locks import cancel
from experiments.origin import CONF
from experiments.plan import make_plan, nearest_differences, remaining_hours, seconds_per_iteration
from experiments.settings import runs_folder, settle

_FLAGS = ("--help", "-h", "--cfg", "-c", "--info", "--shell-completion", "-sc")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


def main(arguments: Sequence[str]) -> int:
    """Settle the configuration and do what `action` says. Returns the exit code."""
    try:
        flags = [argument for argument in arguments if argument.startswith("-")]
        return _show(flags) if flags else _settle_and_act(arguments)
    except UserError as error:
        print(f"launch.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `| head` has seen enough
        return 1
    except OSError as error:
        if error.errno not in _DISK:
            raise
        where = error.filename or "a file"
        print(f"launch.py: {where}: {error.strerror}; make room or choose another runs=", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _show(flags: Sequence[str]) -> int:
    """What Hydra's flags ask for: help, the configuration, shell completion."""
    unknown = [flag for flag in flags if flag.split("=")[0] not in _FLAGS]
    if unknown:
        raise UserError(f"{unknown[0]}: unknown flag; valid: {', '.join(_FLAGS)}; settings have the form name=value")
    try:
        _hydra_flags()
    except (HydraException, ValueError) as error:
        raise UserError(str(error)) from None
    return 0


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _hydra_flags(config: DictConfig) -> None:
    """Not reached: each of _FLAGS makes Hydra print something instead."""


def _settle_and_act(arguments: Sequence[str]) -> int:
    config, chosen = settle(arguments)
    grid, runs = build(config), runs_folder(config)
    for line in chosen:
        print(line)
    return _act(config, grid, runs, arguments)


def _act(config: DictConfig, grid: Grid, runs: Path, arguments: Sequence[str]) -> int:
    match config.action:
        case "launch":
            return local.launch(grid, runs, config.cluster, config.rerun, arguments)
        case "plan":
            return _plan(grid, runs)
        case "status":
            return _status(grid, runs, config.watch)
        case "why":
            return _why(grid, runs)
        case _:
            stopped = cancel(grid, runs)
            print(f"stopped {', '.join(stopped)}" if stopped else "nothing of this grid is running")
            return 0


def _plan(grid: Grid, runs: Path) -> int:
    plan = make_plan(grid, runs)
    tables.console().print(tables.plan_table(plan))
    shared = " + 1 shared pretraining" if grid.pretrain else ""
    size = f"{len(grid.runs)} runs ({len(grid.runs) // len(grid.seeds)} arms x {len(grid.seeds)} seeds){shared}"
    print(f"{size}: {tables.counts(plan)}")
    if "recipe" not in grid.runs[0].dataset:
        print("data: annotations and images are checked when launching, before anything starts")
    seconds, source = seconds_per_iteration(grid, runs)
    hours = remaining_hours(plan, seconds)
    if hours is None:
        print("cost: not known before the first run has measured it")
    else:
        print(f"cost: {hours:.2f} slot-hours left to launch, at {seconds:.3f} s an iteration ({source})")
    return 0


def _status(grid: Grid, runs: Path, watch: bool) -> int:
    console = tables.console()
    while True:
        plan = make_plan(grid, runs)
        if watch and console.is_terminal:
            console.clear()
        console.print(tables.status_table(plan, console.width))
        if not watch or not any(run.state == "running" for run in plan):
            return 0
        time.sleep(2)


def _why(grid: Grid, runs: Path) -> int:
    """For each run, the fields in which it differs from the nearest other run of its arm and seed."""
    for run in make_plan(grid, runs):
        print(f"{run.spec.name} {run.spec.id}: {run.state}{' (' + run.why + ')' if run.why else ''}")
        found = nearest_differences(run.spec, run.path)
        if found is not None:
            for field, other, own in found[1]:
                print(f"    {field}: {other} in {found[0].name}, {own} here")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
