"""Whether the finished runs of a grid can be compared: one setting per arm; the same code, start weights and torch."""

from __future__ import annotations

import pandas as pd

from analysis.reading.run import ARITHMETIC, origin_row
from dynamic_rcnn.run.manifest import Manifest
from dynamic_rcnn.run.provenance import Provenance
from dynamic_rcnn.run.replay import Logged, is_replay
from dynamic_rcnn.run.spec import FINAL_VALUES

ORIGIN = {
    "code": "code",
    "init_sha256": "start weights",
    "torch": "torch",
    "device": "device",
    "processor": "processor",
    "processes": "number of processes",
    **ARITHMETIC,
}
CHECKOUT = {
    "commit": "commit",
    "dirty": "uncommitted changes",
}  # only listed as problems
NOT_RECORDED = "not recorded"
_SHA256_DIGITS = 64


def mixed_arms(finished: pd.DataFrame) -> dict[str, list[str]]:
    """The arms whose finished runs have several settings, and these settings. Such runs are not averaged."""
    settings = {str(arm): sorted(set(rows["setting"].dropna())) for arm, rows in finished.groupby("arm", sort=False)}
    return {arm: names for arm, names in settings.items() if len(names) > 1}


def differences(finished: pd.DataFrame, names: dict[str, str] = ORIGIN) -> dict[str, dict[str, pd.DataFrame]]:
    """The properties in which the finished runs of a grid differ: name -> value -> the rows with this value.

    names: column to compare -> its name in texts.
    """
    properties = {}
    for column, name in names.items():
        runs = _of_one_start(finished) if column == "init_sha256" else finished
        groups = {str(value): rows for value, rows in runs.groupby(runs[column].map(_text), sort=True)}
        if len(groups) > 1:
            properties[name] = groups
    return properties


def _of_one_start(finished: pd.DataFrame) -> pd.DataFrame:
    """The runs that start from one run, but not from the same weights: each seed may have a pretraining of its own."""
    starts = finished["init"].fillna("")
    return finished[finished["init_sha256"].map(_text).groupby(starts).transform("nunique") > 1]


def problems(grid: Manifest, finished: pd.DataFrame) -> list[str]:
    """One line per arm with several settings, and per column in which finished runs differ."""
    lines = [
        f"{grid.key}: the finished runs of arm {arm} have {len(settings)} settings ({', '.join(settings)}); "
        "they are not averaged"
        for arm, settings in mixed_arms(finished).items()
    ]
    for name, groups in differences(finished, ORIGIN | CHECKOUT).items():
        words = "; ".join(f"{_shorten(value)} in {_runs(rows)}" for value, rows in groups.items())
        lines.append(f"{grid.key}: the finished runs differ in {name}: {words}")
    return lines


def changed_attempts(path: str, provenance: Provenance) -> list[str]:
    """One line per property in which earlier attempts of the run at `path` differ from its last one."""
    last, earlier = origin_row(provenance), [origin_row(each) for each in provenance.earlier]
    lines = []
    for column, name in (ORIGIN | CHECKOUT).items():
        others = sorted({_text(each[column]) for each in earlier} - {_text(last[column])})
        if others:
            changed = ", ".join(map(_shorten, others)), _shorten(_text(last[column]))
            lines.append(f"{path}: {name} changed between attempts: {', then '.join(changed)}")
    return lines


def wrong_cells(runs: pd.DataFrame, grid: Manifest) -> list[str]:
    """One line per run whose seed or setting differs from that of its cell in the grid."""
    known = {path: own for path, *own in runs[["path", "seed", "setting"]].itertuples(index=False)}
    lines = []
    for cell in (cell for cell in grid.cells if cell.path in known):
        seed, setting = known[cell.path]
        if pd.notna(seed) and int(seed) != cell.seed:
            lines.append(f"{cell.path}: seed {int(seed)} in its spec, seed {cell.seed} in grid {grid.key}")
        if pd.notna(setting) and cell.setting not in (None, setting):
            lines.append(f"{cell.path}: setting {setting} in its spec, setting {cell.setting} in grid {grid.key}")
    return lines


def wrong_replays(runs: pd.DataFrame, curves: pd.DataFrame) -> list[str]:
    """One line per finished run whose T and beta are not those of the run that it replays."""
    finished = runs[runs["state"] == "done"]
    paths = dict(zip(finished["id"], finished["path"], strict=True))
    lines = []
    replays = finished.loc[finished["replay"].notna(), ["path", "replay", "replayed_values"]]
    for path, replayed, values in replays.itertuples(index=False):
        source = paths.get(replayed)
        if source is None:
            lines.append(f"{path}: replays run {replayed}, which is missing or not finished; T and beta unchecked")
        elif not (ended := _states(curves, source)) or not (trained := _states(curves, path)):
            bare = path if ended else source
            lines.append(f"{bare}: no curves, so T and beta of the replay {path} are not checked against {source}")
        elif not is_replay(trained, ended, values):
            which = "the final" if values == FINAL_VALUES else "the"
            lines.append(f"{path}: did not train with {which} T and beta of {source}, which it replays")
    return lines


def _states(curves: pd.DataFrame, path: str) -> Logged:
    rows = curves[curves["path"] == path]
    return dict(zip(rows["iteration"], zip(rows["T"], rows["beta"], strict=True), strict=True))


def _text(value: object) -> str:
    return NOT_RECORDED if value is None or value != value else str(value)  # only NaN differs from itself


def _shorten(value: str) -> str:
    return value[:10] if len(value) == _SHA256_DIGITS else value


def _runs(rows: pd.DataFrame) -> str:
    """'both seeds 0, 1 and dla seed 2', in table order."""
    arms = [(arm, [str(seed) for seed in own["seed"]]) for arm, own in rows.groupby("arm", sort=False)]
    return " and ".join(f"{arm} seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}" for arm, seeds in arms)
