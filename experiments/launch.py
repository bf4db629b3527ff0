"""The launcher: `python experiments/launch.py grid=ablation`. See `--help`.

Exit codes: 0 done, 1 some run is not done, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dynamic_rcnn import cli

if __name__ == "__main__":
    cli.prepare_process()

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.spec import EVALUATE
from dynamic_rcnn.wording import plural
from experiments.config.annotations import shared_images
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from experiments.config.conf_files import CONF
from experiments.config.grid import Grid
from experiments.config.overrides import describe_overruled
from experiments.config.schema import Config, LocalCluster
from experiments.launching.output import output_may_close
from experiments.planning import cost
from experiments.planning.chance import chance_lines
from experiments.planning.directories import Directories, nearest_differences
from experiments.planning.plan import in_progress, is_submitted, plan_or_disk, plan_reporting_errors, refresh_seconds
from experiments.planning.run_state import PlannedRun, lost_copies
from experiments.planning.trajectory import trajectory_lines
from experiments.views import tables

_FLAGS = ("--help", "-h", "--cfg", "-c", "--info", "--shell-completion", "-sc")
_LAUNCHING = ("launch", "advise")
_CHANGING = (*_LAUNCHING, "cancel")  # these actions handle Ctrl-C themselves
_DISK_HINT = "free some space or choose another runs="


def main(arguments: Sequence[str]) -> int:
    """Do what `action` says, or print what a flag such as --help asks for. Returns the exit code."""
    has_flags = any(argument.startswith("-") for argument in arguments)
    return cli.report_errors(lambda: _show(arguments) if has_flags else _act(arguments), _DISK_HINT)


def _show(arguments: Sequence[str]) -> int:
    """Let Hydra print its help, the configuration, or shell completion, for these arguments."""
    flags = [argument for argument in arguments if argument.startswith("-")]
    unknown = [flag for flag in flags if flag.split("=")[0] not in _FLAGS]
    if unknown:
        raise UserError(f"{unknown[0]}: unknown flag; valid: {', '.join(_FLAGS)}; settings have the form name=value")
    original = sys.argv
    sys.argv = [original[0], *arguments]  # Hydra reads the arguments there
    try:
        _hydra_flags()
    except (HydraException, ValueError) as error:
        raise UserError(str(error)) from None
    finally:
        sys.argv = original
    return 0


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _hydra_flags(config: DictConfig) -> None:
    """Never called: each of _FLAGS makes Hydra print something instead."""


def _act(arguments: Sequence[str]) -> int:
    with cli.handle_signals([signal.SIGINT], _end_interrupted):
        config, lines = resolve(arguments)
        grid = build_grid(config)
        lines += describe_overruled(config, grid.changed)
    settings = config.settings
    machine_readable = settings.json_output or settings.action == "script"
    with output_may_close() if settings.action in _LAUNCHING else contextlib.nullcontext():
        for line in lines:
            print(line, file=sys.stderr if machine_readable else sys.stdout, flush=True)
        if settings.action in _CHANGING:
            return _ACTIONS[settings.action](grid, config, arguments)
    with cli.handle_signals([signal.SIGINT], _end_interrupted):
        return _ACTIONS[settings.action](grid, config, arguments)


def _end_interrupted(number: int) -> None:
    """End the process at once: there is nothing to clean up, and OmegaConf would raise an error of its own."""
    os.write(sys.stderr.fileno(), b"interrupted\n")
    os._exit(cli.EXIT_INTERRUPTED)


def _launch(grid: Grid, config: Config, arguments: Sequence[str]) -> int:
    rerun, decode = config.settings.rerun, config.settings.decode
    if isinstance(config.cluster, LocalCluster):
        from experiments.launching import local

        return local.launch(grid, config.runs, config.cluster, rerun, decode, arguments)
    from experiments.launching import slurm

    return slurm.launch(grid, config.runs, config.cluster, rerun, decode, arguments)


def _plan(grid: Grid, config: Config, arguments: Sequence[str]) -> int:
    profile = config.profile
    if profile is not None:
        from slurm.submission_record import check_runs_folder

        check_runs_folder(config.runs)
    plan, slurm_error = plan_or_disk(grid, config.runs)
    left = cost.estimate(grid, config.runs, plan, gpus=profile.gpus > 0 if profile else None)
    if config.settings.json_output:
        from experiments.views.json_output import cost_fields, document

        print(document(plan, grid, config.runs, slurm_error, cost_fields(left, plan, profile)))
    else:
        console = tables.console()
        console.print(tables.plan_table(plan, console.width))
        lines = [*_summary(grid, plan, slurm_error), *chance_lines(grid), *cost.cost_lines(left, plan, profile)]
        print("\n".join(lines), flush=True)
    if profile is not None:
        cost.refuse(left, plan, profile)
    return 0


def _summary(grid: Grid, plan: list[PlannedRun], slurm_error: str | None) -> list[str]:
    """The lines below the plan's table, except the cost."""
    shared = f" + {plural('pretraining', len(grid.seeds))}" if grid.pretrain else ""
    evaluations = sum(spec.task == EVALUATE for spec in grid.runs)
    shared += f"; {evaluations} of the runs only evaluate weights of others" if evaluations else ""
    size = f"{len(grid.runs)} runs ({len(grid.runs) // len(grid.seeds)} arms x {len(grid.seeds)} seeds){shared}"
    if grid.task == EVALUATE:
        size = f"{len(grid.runs)} evaluation{'s' if len(grid.runs) > 1 else ''} of given weights"
    lines = [f"{size}: {tables.counts(plan)}", *([slurm_error] if slurm_error else [])]
    if "recipe" not in grid.runs[0].dataset:
        lines.append("data: annotations and images are checked when launching, before anything starts")
        lines += [f"note: {note}"] if (note := shared_images(grid.runs[0].dataset)) else []
    return lines


def _doctor(grid: Grid, config: Config, arguments: Sequence[str]) -> int:
    from experiments.doctor.doctor import doctor

    return doctor(grid, config.runs, config)


def _status(grid: Grid, config: Config, arguments: Sequence[str]) -> int:
    console = tables.console()
    if config.settings.watch:
        from experiments.views.watch import can_watch, watch

        if can_watch(console) and watch(grid, config.runs, console):
            return 0
    while True:
        plan, slurm_error = plan_or_disk(grid, config.runs)
        if config.settings.json_output:
            from experiments.views.json_output import document

            print(document(plan, grid, config.runs, slurm_error))
            return 0
        console.print(tables.status_table(plan, console.width))
        causes = tables.hidden_causes(plan, console.width)
        for line in filter(None, [*causes, *trajectory_lines(plan), lost_copies(plan), slurm_error]):
            print(line, flush=True)
        if not config.settings.watch or not in_progress(plan):
            return 0
        time.sleep(refresh_seconds(plan))


def _advise(grid: Grid, config: Config, arguments: Sequence[str]) -> int:
    from experiments.launching.advise import advise

    return advise(grid, config, arguments, _launch)


def _logs(grid: Grid, config: Config, arguments: Sequence[str]) -> int:
    from experiments.views.logs import print_logs

    print_logs(plan_reporting_errors(grid, config.runs), grid, config.runs, config.settings.run, config.settings.lines)
    return 0


def _cancel(grid: Grid, config: Config, arguments: Sequence[str]) -> int:
    """Stop the grid's runs on this machine, and cancel its jobs in Slurm's queue if any were submitted."""
    from experiments.launching import lock

    cancelled: list[str] = []
    try:
        if is_submitted(grid, config.runs):
            from experiments.launching import slurm

            cancelled = slurm.cancel(grid, config.runs)
    finally:
        stopped = lock.cancel(grid, config.runs)
    lines = [f"{done} {', '.join(names)}" for done, names in (("cancelled", cancelled), ("stopped", stopped)) if names]
    print("\n".join(lines or ["no run of this grid is running"]))
    return 0


def _why(grid: Grid, config: Config, arguments: Sequence[str]) -> int:
    """Print for each run the fields in which it differs from the nearest other run of its arm and seed."""
    directories = Directories(config.runs, grid.dataset)
    for run in plan_reporting_errors(grid, config.runs):
        print(f"{run.spec.name} {run.spec.id}: {run.state}{' (' + run.why + ')' if run.why else ''}")
        nearest = nearest_differences(run.spec, run.path, directories)
        if nearest is not None:
            path, fields = nearest
            for field, value_there, value_here in fields:
                print(f"    {field}: {value_there} in {path.name}, {value_here} here")
        else:
            print(f"    nothing to compare with: there is no other run of {run.spec.name}")
    return 0


def _script(grid: Grid, config: Config, arguments: Sequence[str]) -> int:
    from experiments.launching import slurm

    assert config.profile is not None
    print(slurm.script(grid, config.runs, config.profile))
    return 0


_ACTIONS = {
    "launch": _launch,
    "plan": _plan,
    "doctor": _doctor,
    "status": _status,
    "advise": _advise,
    "logs": _logs,
    "cancel": _cancel,
    "why": _why,
    "script": _script,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
