"""The launcher: `python experiments/launch.py grid=ablation`. See `--help`.

Exit codes: 0 done, 1 some run is not done, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hydra
from omegaconf import DictConfig

from dynamic_rcnn.errors import UserError
from experiments import local, tables
from experiments.grid import Grid, build
from experiments.plan import make_plan, nearest_differences, remaining_hours, seconds_per_iteration
from experiments.settings import CONF, runs_folder, settle


def main(arguments: list[str]) -> int:
    """Settle the configuration and do what `action` says. Returns the exit code."""
    if any(argument.startswith("-") for argument in arguments):
        _hydra_help()  # --help, --cfg, shell completion
        return 0
    try:
        config, chosen = settle(arguments)
        for line in chosen:
            print(line)
        return _act(config, build(config), runs_folder(config))
    except UserError as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: running runs have written a checkpoint; the same command goes on", file=sys.stderr)
        return 130


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _hydra_help(config: DictConfig) -> None:
    """Reached only for Hydra's own flags, which print and end before this."""
    raise SystemExit("launch.py: flags are for --help and --cfg job only; arguments have the form name=value")


def _act(config: DictConfig, grid: Grid, runs: Path) -> int:
    match config.action:
        case "launch":
            return local.launch(grid, runs, config.cluster, config.rerun)
        case "plan":
            return _plan(grid, runs)
        case "status":
            return _status(grid, runs, config.watch)
        case "why":
            return _why(grid, runs)
        case _:
            stopped = local.cancel(grid, runs)
            print(f"{stopped} processes told to stop" if stopped else "nothing of this grid is running")
            return 0


def _plan(grid: Grid, runs: Path) -> int:
    plan = make_plan(grid, runs)
    tables.console().print(tables.plan_table(plan))
    counts = {state: sum(run.state == state for run in plan) for state in ("new", "failed", "running", "stale", "done")}
    shared = " + 1 shared pretraining" if grid.pretrain else ""
    size = f"{len(grid.runs)} runs ({len(grid.runs) // len(grid.seeds)} arms x {len(grid.seeds)} seeds){shared}"
    print(f"{size}: {', '.join(f'{count} {state}' for state, count in counts.items() if count)}")
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
        console.print(tables.status_table(plan))
        if not watch or not any(run.state == "running" for run in plan):
            return 0
        time.sleep(2)


def _why(grid: Grid, runs: Path) -> int:
    """For each run, the fields in which it differs from the nearest other run of its arm and seed."""
    for run in make_plan(grid, runs):
        print(f"{run.spec.name} {run.spec.id}: {run.state}{' (' + run.why + ')' if run.why else ''}")
        found = nearest_differences(run.spec, run.path)
        for field, other, own in found[1] if found else []:
            print(f"    {field}: {other} in {found[0].name}, {own} here")  # type: ignore[index]
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
