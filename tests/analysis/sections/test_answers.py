"""The answers to the five questions, from numbers for which each answer is known by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.reading.run_table import collect
from analysis.sections.answers import (
    COMPONENTS,
    COST,
    DYNAMICS,
    SMALL_BETA,
    SMALLER_BETA,
    STATISTIC,
    WORKS,
    Answer,
    answers,
)
from analysis.stats.comparison import Comparison
from analysis.stats.timing import TimingComparison
from dynamic_rcnn import PROJECT
from tests.analysis.synthetic import RunsFolder, ablation, edit_json

NOISE = (0.0, 0.001, -0.001)  # of three seeds, in AP as a fraction
EXACT = {"AP": 0.5, "AP90": 1.0}  # margins


def answered(root: Path) -> dict[str, Answer]:
    records = collect(root)
    assert records.problems == []
    return {each.question: each for each in answers([Comparison(records, grid) for grid in records.grids], [])}


def grid(root: Path, name: str, levels: dict[str, tuple[float, float]], **declared: Any) -> dict[str, Answer]:
    """The answers from a grid with three seeds, whose arms have these AP and AP90 in percent."""
    folder = RunsFolder(root)
    for arm, (ap, ap90) in levels.items():
        for seed, noise in enumerate(NOISE):
            own = noise * (1 + len(arm) % 3) / 10  # so that differences have noise
            folder.done(arm, seed, ap / 100 + noise + own, ap90 / 100 + noise + own)
    folder.manifest(name, arms={arm: arm for arm in levels}, paper=None, **declared)
    return answered(root)


def test_without_runs_each_question_names_the_grid_that_answers(tmp_path: Path) -> None:
    found = answers([], [])
    assert [each.question for each in found] == [WORKS, COMPONENTS, DYNAMICS, STATISTIC, SMALL_BETA, COST]
    assert {each.verdict for each in found} == {"NOT RUN"}
    needed = ["ablation", "ablation", "dynamics", "dynamics", "dsl", "speed"]
    assert [each.sentence for each in found] == [f"Needs grid={name}." for name in needed]


def test_grids_without_the_arms_or_the_runs_that_decide(tmp_path: Path) -> None:
    found = grid(tmp_path / "other", "ablation", {"baseline": (40, 10), "mine": (42, 12)})
    assert {each.verdict for each in found.values()} == {"NOT RUN"}
    folder = RunsFolder(tmp_path / "half")
    folder.done("baseline", 0, 0.4)
    folder.ask("both", 0)
    folder.manifest(factorial={"DLA": ["dla", "both"], "DSL": ["dsl", "both"]})
    found = answered(tmp_path / "half")
    assert found[WORKS].verdict == found[COMPONENTS].verdict == "NOT DECIDED"
    assert found[WORKS].sentence == "On shapes, the runs that decide are not done."


@pytest.mark.parametrize(
    ("both", "verdict", "sentence"),
    [
        ((42, 12), "YES", "AP and AP90 are above the baseline by 2.00 and 2.00 points"),
        ((42, 10), "PARTLY", "AP is above the baseline by 2.00 points"),
        ((40, 10), "NOT DECIDED", "no significant difference from the baseline in AP or AP90"),
        ((38, 10), "NO", "AP is below the baseline by 2.00 points"),
        ((38, 12), "PARTLY", "AP90 is above the baseline by 2.00 points, AP is below the baseline by 2.00 points"),
    ],
)
def test_it_works_if_ap_and_ap90_are_above_the_baseline(tmp_path: Path, both: Any, verdict: str, sentence: str) -> None:
    found = grid(tmp_path, "ablation", {"baseline": (40, 10), "both": both})[WORKS]
    assert (found.verdict, found.sentence) == (verdict, f"On shapes, {sentence}.")
    assert f"both minus baseline: AP {both[0] - 40:+.2f}".replace("+0.00", "0.00") in str(found.numbers)


def test_components_are_the_factors_with_a_positive_main_effect(tmp_path: Path) -> None:
    """ablation(): main effects of 5.5 and 4.5 AP, an interaction of 9."""
    ablation(tmp_path)
    assert answered(tmp_path)[COMPONENTS].verdict == "NOT RUN"  # without factors
    (manifest,) = tmp_path.glob("*/*.grid.json")
    edit_json(manifest, factorial={"DLA": ["dla", "both"], "DSL": ["dsl", "both"]})
    found = answered(tmp_path)[COMPONENTS]
    assert found.verdict == "DLA and DSL"
    assert (
        found.sentence
        == "On average over the other component: DLA raises AP and AP90; DSL raises AP and AP90. They interact."
    )
    assert "DLA AP +5.50 [+4.79, +6.21]" in str(found.numbers) and "interaction AP +9.00" in str(found.numbers)


def test_one_component_without_interaction(tmp_path: Path) -> None:
    factors = {"DLA": ["dla", "both"], "DSL": ["dsl", "both"]}
    levels = {"baseline": (40, 10), "dla": (42, 13), "dsl": (40, 10), "both": (42, 13)}
    found = grid(tmp_path, "ablation", levels, factorial=factors)[COMPONENTS]
    assert found.verdict == "DLA"
    assert (
        found.sentence
        == "On average over the other component: DLA raises AP and AP90. Whether they interact is NOT DECIDED."
    )


@pytest.mark.parametrize(
    ("end_point", "open_loop", "verdict"),
    [
        ((44, 14), (44, 14), "END POINT"),
        ((42, 14), (44, 14), "SCHEDULE"),
        ((42, 12), (42, 12), "DYNAMICS"),
        ((46, 14), (44, 14), "END POINT"),
        ((42, 14), (46, 14), "SCHEDULE"),
    ],
)
def test_dynamics_from_the_controls(tmp_path: Path, end_point: Any, open_loop: Any, verdict: str) -> None:
    levels = {"baseline": (40, 10), "both": (44, 14), "end_point": end_point, "open_loop": open_loop}
    pairs = [["both", "end_point"], ["both", "open_loop"]]
    claims = [{"arms": pair, "margins": EXACT} for pair in pairs]
    found = grid(tmp_path, "dynamics", levels, contrasts=pairs, equivalence=claims)
    assert found[DYNAMICS].verdict == verdict
    assert found[STATISTIC].verdict == "NOT DECIDED"  # the grid has no such arm


def test_further_controls_are_named_with_what_they_are(tmp_path: Path) -> None:
    levels = {"baseline": (40, 10), "both": (44, 14), "end_point": (42, 12), "shuffled": (42, 12)}
    found = grid(tmp_path, "dynamics", levels, contrasts=[["both", "end_point"], ["both", "shuffled"]])
    assert str(found[DYNAMICS].numbers).endswith(": end_point is worse. Other controls: shuffled worse.")


def test_equivalence_that_is_not_shown_is_not_decided(tmp_path: Path) -> None:
    """Differences of 0 with intervals that are wider than the margin of 0.01."""
    levels = {"baseline": (40, 10), "both": (44, 14), "end_point": (44, 14)}
    claims = [{"arms": ["both", "end_point"], "margins": {"AP": 0.01}}]
    found = grid(tmp_path, "dynamics", levels, contrasts=[["both", "end_point"]], equivalence=claims)[DYNAMICS]
    assert found.verdict == "NOT DECIDED" and "would " in str(found.numbers)


def test_that_the_end_point_is_worse_is_an_answer_although_the_schedule_is_not_decided(tmp_path: Path) -> None:
    levels = {"baseline": (40, 10), "both": (44, 14), "end_point": (42, 12), "open_loop": (44, 14)}
    pairs = [["both", "end_point"], ["both", "open_loop"]]
    claims = [{"arms": pair, "margins": {"AP": 0.01}} for pair in pairs]
    assert (
        grid(tmp_path, "dynamics", levels, contrasts=pairs, equivalence=claims)[DYNAMICS].verdict == "NOT THE END POINT"
    )


@pytest.mark.parametrize(("author", "verdict"), [((44, 14), "NO"), ((42, 14), "YES"), ((44, 16), "YES")])
def test_whether_the_statistics_differ(tmp_path: Path, author: Any, verdict: str) -> None:
    levels = {"baseline": (40, 10), "both": (44, 14), "author": author}
    claims = [{"arms": ["both", "author"], "margins": EXACT}]
    found = grid(tmp_path, "dynamics", levels, contrasts=[["both", "author"]], equivalence=claims)
    assert found[STATISTIC].verdict == verdict


@pytest.mark.parametrize(
    ("beta_4", "beta_1_6", "t_62_beta_1_6", "verdict"),
    [
        (10, 10, 10, "CANNOT BE SEEN HERE"),
        (8, 10, 10, "NOT DECIDED"),
        (8, 10, 12, "AT A HIGHER T"),
        (8, 12, 12, "ALSO WITH A FIXED T"),
    ],
)
def test_when_a_smaller_beta_helps(
    tmp_path: Path, beta_4: float, beta_1_6: float, t_62_beta_1_6: float, verdict: str
) -> None:
    ap90 = {"baseline": 10, "beta_4": beta_4, "beta_1_6": beta_1_6, "t_62": 10, "t_62_beta_1_6": t_62_beta_1_6}
    levels = {arm: (40.0, value) for arm, value in ap90.items()}
    found = grid(tmp_path, "dsl", levels, contrasts=[["t_62_beta_1_6", "t_62"]])
    assert found[SMALL_BETA].verdict == verdict
    assert found[SMALL_BETA].sentence.startswith(SMALLER_BETA[verdict])
    assert f"changes AP90 in {0 if verdict == 'CANNOT BE SEEN HERE' else 1} of 4 controls" in found[SMALL_BETA].sentence


def test_the_cost_of_the_committed_records(tmp_path: Path) -> None:
    """On a CPU no memory is measured; both arms are one network at inference, so its time does not count."""
    records = collect(PROJECT / "analysis/records")
    (timing,) = [TimingComparison(records, grid) for grid in records.grids if grid.name == "speed"]
    found = {each.question: each for each in answers([], [timing])}[COST]
    ratio = timing.costs("both")[0].ratio
    assert ratio is not None and ratio.high < 1.05
    assert found.verdict == "NO EXTRA TIME"
    assert f"raining time {ratio.value:.3f} times the baseline's, training memory not measured" in found.sentence
    assert "inference time: same network" in str(found.numbers)
