"""The read-outs by which the recipe of shapes was chosen (trajectory.yaml) hold in the committed ablation."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.frames import load_curves, load_runs
from dynamic_rcnn import PROJECT

RECORDS = PROJECT / "analysis/records"


@pytest.fixture(scope="module")
def curves() -> pd.DataFrame:
    """The logged iterations of baseline and both, with the share of the training that was done: 0 to 1."""
    runs = load_runs(RECORDS)
    runs = runs[runs["grids"].map(lambda keys: any(key.startswith("shapes-ablation-") for key in keys))]
    rows = load_curves(RECORDS)
    rows = rows[rows["path"].isin(runs["path"]) & rows["arm"].isin(["baseline", "both"])]
    return rows.assign(share=rows["iteration"] / rows.groupby("path")["iteration"].transform("max"))


def test_t_rises_through_at_least_a_third_of_the_training(curves: pd.DataFrame) -> None:
    """Of each run: by at least 0.10 from its floor; at a third of the training, less than 90% of the rise is done."""
    both = curves[(curves["arm"] == "both") & (curves["iteration"] >= 25)]  # T is 0.5 before its first update
    assert both["path"].nunique() == 8
    for path, run in both.groupby("path"):
        floor, top = run["T"].min(), run["T"].max()
        assert top - floor >= 0.10, path
        assert run.loc[run["share"] <= 1 / 3, "T"].max() < floor + 0.9 * (top - floor), path


def test_beta_falls_to_about_a_fifth(curves: pd.DataFrame) -> None:
    """From above 0.5 at its first update; mean over seeds of the last tenth of the training."""
    both = curves[curves["arm"] == "both"]
    first = both[both["iteration"] <= 30].groupby("path")["beta"].last()
    assert (first > 0.5).all()
    last = both[both["share"] > 0.9].groupby("path")["beta"].mean()
    assert 0.15 <= last.mean() <= 0.25


def test_proposals_at_least_double(curves: pd.DataFrame) -> None:
    early = curves[(curves["iteration"] > 50) & (curves["iteration"] <= 100)].groupby("path")["proposals_50"].mean()
    late = curves[curves["share"] > 0.9].groupby("path")["proposals_50"].mean()
    assert (late >= 2 * early).all()


def test_the_limit_on_positives_is_rarely_reached(curves: pd.DataFrame) -> None:
    """Of the baseline, whose T is 0.5: an image at the limit has fewer positives than proposals with this IoU."""
    baseline = curves[curves["arm"] == "baseline"]
    lost = baseline["proposals_50"] - baseline["positives"]
    assert (lost > 1e-3).mean() <= 0.10
    assert lost.clip(lower=0).sum() / baseline["proposals_50"].sum() <= 0.01
