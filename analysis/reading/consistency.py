"""Whether a grid's finished runs can stand against each other: one setting an arm; the same code, start and torch."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.reading.manifest import Grid

MADE_BY = {
    "code": "code",
    "init_sha256": "start weights",
    "torch": "torch",
    "device": "device",
    "processor": "processor",
}
CHECKOUT = {"commit": "commit", "dirty": "uncommitted changes"}  # named, but not beside results: `code` is what ran
NOT_RECORDED = "not recorded"
_SHA256_DIGITS = 64


def mixed_arms(done: pd.DataFrame) -> dict[str, list[str]]:
    """Arm -> its settings, for arms whose finished runs have more than one: they are not averaged.

    done: a row a finished run of one grid, with its arm and its setting.
    """
    settings = {str(arm): sorted(set(rows["setting"].dropna())) for arm, rows in done.groupby("arm", sort=False)}
    return {arm: found for arm, found in settings.items() if len(found) > 1}


def differences(done: pd.DataFrame, names: dict[str, str] = MADE_BY) -> dict[str, dict[str, pd.DataFrame]]:
    """What finished runs of one grid were made by, where that differs: its name -> value -> the runs' rows.

    names: columns of `done` and what to call them.
    """
    found = {}
    for column, name in names.items():
        values = done[column].map(_text)
        groups = {str(value): rows for value, rows in done.groupby(values, sort=True)}
        if len(groups) > 1:
            found[name] = groups
    return found


def problems(grid: Grid, done: pd.DataFrame) -> list[str]:
    """A line for each arm of several settings, and for each thing in which finished runs differ."""
    lines = [
        f"{grid.key}: the finished runs of arm {arm} have {len(settings)} settings ({', '.join(settings)}); "
        "they are not averaged"
        for arm, settings in mixed_arms(done).items()
    ]
    for name, groups in differences(done, MADE_BY | CHECKOUT).items():
        words = "; ".join(f"{_shown(value)} in {_runs(rows)}" for value, rows in groups.items())
        lines.append(f"{grid.key}: the finished runs differ in {name}: {words}")
    return lines


def changed_attempts(run: dict[str, Any], earlier: list[dict[str, Any]]) -> list[str]:
    """A line for each thing by which a run's earlier attempts were made otherwise than its last one.

    run: its row, with its path and what MADE_BY and CHECKOUT name. earlier: the latter, of attempts before.
    """
    lines = []
    for column, name in (MADE_BY | CHECKOUT).items() if earlier else ():
        others = sorted({_text(each[column]) for each in earlier} - {_text(run[column])})
        if others:
            before = ", ".join(map(_shown, others))
            lines.append(f"{run['path']}: begun with another {name} ({before}) than {_shown(_text(run[column]))}")
    return lines


def wrong_cells(runs: pd.DataFrame, grid: Grid) -> list[str]:
    """A line for each run whose seed or setting is another one than that of the grid's cell that it fills."""
    known = runs.set_index("path")[["seed", "setting"]]
    lines = []
    for cell in grid.cells:
        if cell.path not in known.index:
            continue
        seed, setting = known.loc[cell.path]
        if pd.notna(seed) and int(seed) != cell.seed:
            lines.append(f"{cell.path}: its spec says seed {int(seed)}, the grid {grid.key} says seed {cell.seed}")
        if pd.notna(setting) and cell.setting not in (None, setting):
            lines.append(f"{cell.path}: its spec is of setting {setting}, the grid {grid.key} asks for {cell.setting}")
    return lines


def wrong_replays(runs: pd.DataFrame, curves: pd.DataFrame) -> list[str]:
    """A line for each finished run that trained with other T or beta than the run that it replays ended with.

    runs: a row a run. curves: a row a logged iteration, with the run's path, T and beta.
    """
    done = runs[runs["state"] == "done"]
    paths = dict(zip(done["id"], done["path"], strict=True))
    lines = []
    for path, replayed in done.loc[done["replay"].notna(), ["path", "replay"]].itertuples(index=False):
        source = paths.get(replayed)
        if source is None:
            lines.append(f"{path}: replays run {replayed}, which is not here, finished; nothing shows its T and beta")
        elif not (ended := _states(curves, source)) or not (trained := _states(curves, path)):
            bare = path if ended else source
            lines.append(
                f"{bare}: has no curves, so nothing shows that {path} held the T and beta at which {source} ended"
            )
        elif set(trained) != {ended[-1]}:
            lines.append(f"{path}: did not train with the T and beta at which {source}, which it replays, ended")
    return lines


def _states(curves: pd.DataFrame, path: str) -> list[tuple[float, float]]:
    rows = curves[curves["path"] == path]
    return list(zip(rows["T"], rows["beta"], strict=True))


def _text(value: object) -> str:
    return NOT_RECORDED if value is None or value != value else str(value)  # NaN alone is not itself


def _shown(value: str) -> str:
    return value[:10] if len(value) == _SHA256_DIGITS else value


def _runs(rows: pd.DataFrame) -> str:
    """'both seeds 0, 1 and dla seed 2', in table order."""
    arms = [(arm, [str(seed) for seed in own["seed"]]) for arm, own in rows.groupby("arm", sort=False)]
    return " and ".join(f"{arm} seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}" for arm, seeds in arms)
