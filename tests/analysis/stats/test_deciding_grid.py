"""Which of several grids with the same arms shows their factorial and compares them with the paper."""

from __future__ import annotations

from typing import Any

from analysis.stats.deciding_grid import factorial_grid, paper_grid
from dynamic_rcnn.run.manifest import Manifest

FOUR = ("baseline", "dla", "dsl", "both")
FACTORIAL = {"DLA": ["dla", "both"], "DSL": ["dsl", "both"]}
PAPER = {"table": "Table 2", "source": "s", "dataset": "d", "rows": {arm: {"AP": 37.0} for arm in (*FOUR, "l1")}}


def grid(name: str, arms: tuple[str, ...], settings: dict[str, str | None] | None = None, **more: Any) -> Manifest:
    """A grid with one seed; the setting of an arm's run is its name unless `settings` has another one."""
    found = {arm: arm for arm in arms} | (settings or {})
    cells = [{"arm": arm, "seed": 0, "path": f"shapes/{arm}/seed0-0", "setting": found[arm]} for arm in arms]
    fields = {"grid": name, "title": name, "setting": "s", "dataset": "shapes", "baseline": "baseline", "runs": cells}
    return Manifest(**{**fields, "arms": {arm: arm for arm in arms}, "factorial": FACTORIAL, "paper": PAPER, **more})


def test_the_grid_with_the_fewest_arms_shows_the_factorial() -> None:
    small, large = grid("z", FOUR), grid("a", (*FOUR, "l1"))
    twin = grid("b", FOUR)
    assert factorial_grid([large, small], large) == factorial_grid([large, small], small) == small
    assert factorial_grid([large, small, twin], small) == twin  # as few arms, and the first name


def test_other_runs_factors_or_data_are_another_factorial() -> None:
    large = grid("a", (*FOUR, "l1"))
    for other in (
        grid("z", FOUR, {"dla": "changed"}),
        grid("z", FOUR, {"dla": None}),  # an older manifest
        grid("z", FOUR, factorial={"A": ["dla", "both"], "B": ["dsl", "both"]}),
        grid("z", FOUR, dataset="mine"),
    ):
        assert factorial_grid([large, other], large) == large


def test_a_printed_difference_belongs_to_the_grid_with_the_fewest_arms() -> None:
    small, large = grid("z", ("baseline", "both"), factorial={}), grid("a", (*FOUR, "l1"))
    assert [paper_grid([small, large], large, arm).name for arm in ("dla", "both", "l1")] == ["a", "z", "a"]
    other = grid("z", ("baseline", "both"), factorial={}, paper=None)
    assert paper_grid([other, large], large, "both") == large
