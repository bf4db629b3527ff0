"""The launcher: `python experiments/launch.py grid=ablation`. See `--help`.

Exit codes: 0 done, 1 some run is not done, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dynamic_rcnn import cli

if __name__ == "__main__":
    cli.exit_quietly_on_interrupt()

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.spec import EVALUATE
from experiments.config import cluster as executor
from experiments.config.compose import runs_folder, settle
from experiments.config.grid import Grid, build
from experiments.config.overrides import CONF, overruled
from experiments.launching import local
from experiments.launching import lock as locks
from experiments.planning import cost
from experiments.planning.plan import plan_or_disk
from experiments.planning.run_state import Directories, PlannedRun, disk_plan, nearest_differences, trajectory_lines
from experiments.planning.slurm_state import submitted
from experiments.views import tables
from experiments.views.logs import print_logs
from slurm.site_profile import Profile

_FLAGS = ("--help", "-h", "--cfg", "-c", "--info", "--shell-completion", "-sc")
_CHANGING = ("launch", "cancel")  # Ctrl-C is theirs to handle
_WATCH_S, _WATCH_SLURM_S = 2.0, 10.0  # a cluster's controller is asked less often
_DISK_HINT = "make room or choose another runs="


def main(arguments: Sequence[str]) -> int:
    """Settle the configuration and do what `action` says. Returns the exit code."""
    flags = [argument for argument in arguments if argument.startswith("-")]
    return cli.report_errors(lambda: _show(flags) if flags else _settle_and_act(arguments), _DISK_HINT)


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
    with cli.handle_signals([signal.SIGINT], _end_interrupted):
        config, chosen = settle(arguments)
        grid, runs = build(config), runs_folder(config)
        chosen += overruled(dict(OmegaConf.to_container(config, resolve=True)), grid.changed)  # type: ignore[arg-type]
    for line in chosen:
        print(line, file=sys.stderr if config.json or config.action == "script" else sys.stdout, flush=True)
    if config.action in _CHANGING:
        return _act(config, grid, runs, arguments)
    with cli.handle_signals([signal.SIGINT], _end_interrupted):
        return _act(config, grid, runs, arguments)


def _end_interrupted(number: int) -> None:
    """End the process at once where nothing has to be put in order: OmegaConf would raise an error of its own."""
    os.write(sys.stderr.fileno(), b"interrupted\n")
    os._exit(cli.EXIT_INTERRUPTED)


def _act(config: DictConfig, grid: Grid, runs: Path, arguments: Sequence[str]) -> int:
    match config.action:
        case "launch" if config.cluster.executor == executor.SLURM:
            from experiments.launching import slurm as cluster  # submitit: a tenth of a second

            return cluster.launch(grid, runs, config.cluster, config.rerun, arguments)
        case "launch":
            return local.launch(grid, runs, config.cluster, config.rerun, arguments)
        case "plan":
            return _plan(grid, runs, config)
        case "doctor":
            from experiments.doctor.doctor import doctor

            return doctor(grid, runs, config)
        case "status":
            return _status(grid, runs, config)
        case "logs":
            print_logs(_current(grid, runs), grid, runs, config.run, config.lines)
            return 0
        case "why":
            return _why(grid, runs)
        case "script":
            return _script(grid, runs, config.cluster)
        case _:
            return _cancel(grid, runs)


def _current(grid: Grid, runs: Path) -> list[PlannedRun]:
    plan, slurm_error = plan_or_disk(grid, runs)
    if slurm_error is not None:
        print(slurm_error, file=sys.stderr, flush=True)
    return plan


def _plan(grid: Grid, runs: Path, config: DictConfig) -> int:
    plan, slurm_error = plan_or_disk(grid, runs)
    profile = _profile(config.cluster)
    left = cost.estimate(grid, runs, plan, gpus=profile.gpus > 0 if profile else None)
    if config.json:
        from experiments.views.json_output import cost_fields, document

        print(document(plan, grid, runs, slurm_error, cost_fields(left, plan, profile)))
    else:
        console = tables.console()
        console.print(tables.plan_table(plan, console.width))
        print("\n".join(_summary(grid, plan, slurm_error, left, profile)), flush=True)
    if profile is not None:
        cost.refuse(left, plan, profile)
    return 0


def _summary(
    grid: Grid, plan: list[PlannedRun], slurm_error: str | None, left: cost.Cost, profile: Profile | None
) -> list[str]:
    """The lines under the plan's table."""
    shared = " + 1 shared pretraining" if grid.pretrain else ""
    size = f"{len(grid.runs)} runs ({len(grid.runs) // len(grid.seeds)} arms x {len(grid.seeds)} seeds){shared}"
    if grid.task == EVALUATE:
        size = f"{len(grid.runs)} evaluation{'s' if len(grid.runs) > 1 else ''} of given weights"
    lines = [f"{size}: {tables.counts(plan)}", *([slurm_error] if slurm_error else [])]
    if "recipe" not in grid.runs[0].dataset:
        lines.append("data: annotations and images are checked when launching, before anything starts")
    return lines + cost.lines(left, plan, profile)


def _status(grid: Grid, runs: Path, config: DictConfig) -> int:
    console = tables.console()
    while True:
        plan, slurm_error = plan_or_disk(grid, runs)
        if config.json:
            from experiments.views.json_output import document

            print(document(plan, grid, runs, slurm_error))
            return 0
        if config.watch and console.is_terminal:
            console.clear()
            console.print(tables.live_table(plan, console.width, console.height))
        else:
            console.print(tables.status_table(plan, console.width))
        for line in trajectory_lines(plan):
            print(line, flush=True)
        if slurm_error is not None:
            print(slurm_error, flush=True)
        if not config.watch or not any(run.state in ("queued", "running") for run in plan):
            return 0
        time.sleep(_WATCH_SLURM_S if any(run.in_queue for run in plan) else _WATCH_S)


def _cancel(grid: Grid, runs: Path) -> int:
    """Stops what runs on this machine, and cancels the grid's jobs in Slurm's queue where any were submitted."""
    cancelled: list[str] = []
    try:
        if submitted(disk_plan(grid, runs), grid, runs):
            from experiments.launching import slurm as cluster

            cancelled = cluster.cancel(grid, runs)
    finally:
        stopped = locks.cancel(grid, runs)
    if cancelled:
        print(f"cancelled {', '.join(cancelled)}")
    if stopped:
        print(f"stopped {', '.join(stopped)}")
    if not cancelled and not stopped:
        print("nothing of this grid is running")
    return 0


def _script(grid: Grid, runs: Path, settings: DictConfig) -> int:
    from experiments.launching import slurm as cluster

    print(cluster.script(grid, runs, settings))
    return 0


def _profile(cluster: DictConfig) -> Profile | None:
    """What jobs ask Slurm for; None on this machine."""
    if cluster.executor != executor.SLURM:
        return None
    return Profile.from_dict(OmegaConf.to_container(cluster, resolve=True))


def _why(grid: Grid, runs: Path) -> int:
    """For each run, the fields in which it differs from the nearest other run of its arm and seed."""
    directories = Directories(runs, grid.dataset)
    for run in _current(grid, runs):
        print(f"{run.spec.name} {run.spec.id}: {run.state}{' (' + run.why + ')' if run.why else ''}")
        found = nearest_differences(run.spec, run.path, directories)
        if found is not None:
            for field, other, own in found[1]:
                print(f"    {field}: {other} in {found[0].name}, {own} here")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
