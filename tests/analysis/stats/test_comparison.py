"""Which runs the statistics of a grid are over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis.reading.run_table import collect
from analysis.stats.comparison import Comparison
from tests.analysis.synthetic import ARMS, RunsFolder, markdown, row_of


def cells(folder: RunsFolder, seeds: dict[str, int]) -> list[dict[str, Any]]:
    """The cells of a manifest with the first `seeds` of each arm, as a launch writes them."""
    specs = [folder.spec(arm, seed) for arm, count in seeds.items() for seed in range(count)]
    return [{"arm": s.arm, "seed": s.seed, "setting": s.setting, "path": folder.path(s.arm, s.seed)} for s in specs]


def two_grids(root: Path) -> RunsFolder:
    """`ablation` has four seeds of baseline and both, `controls` three of baseline, both and dla; one run failed."""
    folder = RunsFolder(root)
    for arm, count in (("baseline", 4), ("both", 3), ("dla", 3)):
        for seed in range(count):
            folder.done(arm, seed, (40 + seed + 5 * (arm == "both") + (arm == "dla" and seed == 1)) / 100)
    folder.start("both", 3, "failed", "NaN")
    folder.manifest("ablation", runs=cells(folder, {"baseline": 4, "both": 4}), paper=None)
    own = cells(folder, {"baseline": 3, "both": 2, "dla": 3})
    folder.manifest("controls", runs=own, arms={arm: ARMS[arm] for arm in ("baseline", "both", "dla")}, paper=None)
    return folder


def test_a_grid_uses_finished_runs_of_its_arms_that_other_grids_asked_for(tmp_path: Path) -> None:
    two_grids(tmp_path)
    table = collect(tmp_path)
    ablation, controls = table.grids
    found = Comparison(table, controls)
    assert [found.summary("AP", arm).n for arm in ("baseline", "both", "dla")] == [4, 3, 3]
    assert [found.states(arm) for arm in ("both", "dla")] == [[("done", 3)], [("done", 3)]]  # not the failed run
    assert len(Comparison(table, ablation).grid.cells) == 8  # dla is no arm with runs there
    own = Comparison(table, controls, all_seeds=False)
    assert [own.summary("AP", arm).n for arm in ("baseline", "both", "dla")] == [3, 2, 3]
    text = markdown(tmp_path)
    assert row_of(text, "Grid `controls`", "baseline")[1:3] == ["4 done", "4"]


def test_seen_seeds_stay_out_if_another_grid_has_them(tmp_path: Path) -> None:
    two_grids(tmp_path)
    table = collect(tmp_path)
    (_, controls) = table.grids
    unseen = Comparison(table, controls.model_copy(update={"seen_seeds": [0]})).without_seen_seeds()
    assert unseen is not None and sorted(unseen.values("AP", "baseline")) == [1, 2, 3]


def test_arms_that_share_their_runs_are_one_arm(tmp_path: Path) -> None:
    """`twin` has the runs of the baseline: it has no difference, and adds nothing to the noise."""
    folder = RunsFolder(tmp_path)
    for seed, (one, other) in enumerate(((40, 50), (41, 52), (43, 51))):
        folder.done("baseline", seed, one / 100)
        folder.done("both", seed, other / 100)
    alone = {"arms": {arm: arm for arm in ("baseline", "both")}, "paper": None}
    folder.manifest("alone", **alone)
    twins = [cell | {"arm": "twin"} for cell in folder.cells if cell["arm"] == "baseline"]
    folder.manifest("twins", arms={**alone["arms"], "twin": "twin"}, paper=None, runs=[*folder.cells, *twins])
    table = collect(tmp_path)
    first, second = (Comparison(table, grid) for grid in table.grids)
    assert second.same_runs("twin") and second.difference("AP", "twin") is None
    assert first.sd_within_blocks("AP") == second.sd_within_blocks("AP")
    ours, theirs = first.difference("AP", "both"), second.difference("AP", "both")
    assert ours is not None and theirs is not None and (ours.value, ours.error) == (theirs.value, theirs.error)
    assert second.mean("AP", "twin") == second.mean("AP", "baseline")
