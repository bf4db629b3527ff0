"""The report: its numbers, unfinished runs, figures, and reproducible bytes."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from analysis.reading.run_table import collect
from analysis.sections.page import build
from dynamic_rcnn.run.lock import locked
from tests.analysis.synthetic import (
    ARMS,
    PAPER,
    SETTING,
    START,
    RunsFolder,
    ablation,
    edit_json,
    markdown,
    row_of,
    write_json,
    write_report,
)


def test_hand_computed_numbers_are_in_the_tables(tmp_path: Path) -> None:
    """AP 40 41 42 against 51 50 52. Within a block sd 0.5 on 6 df: half width 2.4469 x 0.5 sqrt(2/3) = 0.9989.

    A mean has variance 1, of which 0.75 is the seeds': 8^2 / (0.75^2 32 + 8 (2 x 0.75 x 0.25 + 0.25^2)) = 2.977 df,
    t = 3.1966, half width 3.1966 / sqrt(3) = 1.8455.
    """
    ablation(tmp_path)
    text = markdown(tmp_path)
    assert row_of(text, "### Ablation", "baseline")[1:4] == ["3 done", "3", "41.00 ± 1.00<br>[39.15, 42.85]"]
    assert row_of(text, "### Ablation", "both")[3] == "51.00 ± 1.00<br>[49.15, 52.85]"
    assert row_of(text, "### Ablation", "both")[-1].startswith("22.00 ± 2.00<br>")
    assert row_of(text, "### AP at each IoU", "both")[1] == "71.00<br>[69.15, 72.85]"  # AP + 20 at 0.5
    assert row_of(text, "arm minus baseline | 0.50", "both")[1] == "**+10.00**<br>[+9.00, +11.00]"
    assert row_of(text, "### Difference", "both")[1:3] == [
        "**+10.00**<br>[+9.00, +11.00]",
        "**+10.00**<br>[+8.00, +12.00]",
    ]
    assert row_of(text, "### Difference", "dla")[1] == "+1.00<br>[0.00, +2.00]"  # p 0.0498, corrected for 3 arms
    assert row_of(text, "### Noise", "sd between seeds within an arm")[1] == "1.00 (2.98)"
    assert row_of(text, "### Noise", "sd between seeds within a block")[1] == "0.50 (6)"
    assert row_of(text, "### Runs", "both | 2")[-2:] == ["52.00", "24.00"]


def test_the_summary_claims_no_more_than_the_intervals(tmp_path: Path) -> None:
    ablation(tmp_path)
    text = markdown(tmp_path)
    assert "**dla**: AP +1.00 [0.00, +2.00], no significant difference from the baseline;" in text
    assert "**both**: AP +10.00 [+9.00, +11.00], above the baseline;" in text
    assert "neither confirms nor refutes a number on COCO" in text
    assert f"All runs start from the weights of one run (`{START}`)" in text


def test_contrasts_are_of_the_two_arms_that_the_grid_names(tmp_path: Path) -> None:
    """both minus dla in AP, 51 minus 42; sd 0.5 on 6 df; the contrasts are corrected among themselves."""
    ablation(tmp_path)
    (manifest,) = tmp_path.glob("*/*.grid.json")
    edit_json(manifest, contrasts=[["both", "dla"], ["dla", "dsl"]])
    text = markdown(tmp_path)
    assert row_of(text, "### Contrasts", "both minus dla")[1] == "**+9.00**<br>[+8.00, +10.00]"
    assert "**both minus dla**: AP +9.00 [+8.00, +10.00], above dla;" in text
    edit_json(manifest, contrasts=[["both", "bth"]])
    assert "contrasts[0]=['both', 'bth']: must be a pair of different arms" in "".join(collect(tmp_path).problems)


@pytest.mark.parametrize(
    ("pair", "shown"),
    [(["dla", "baseline"], "+1.00<br>[0.00, +2.00]"), (["baseline", "dla"], "-1.00<br>[-2.00, 0.00]")],
)
def test_a_contrast_with_the_baseline_is_as_bold_as_the_difference(tmp_path: Path, pair: list[str], shown: str) -> None:
    """p of dla is 0.0498: significant if corrected for one contrast, and not among the three differences."""
    ablation(tmp_path)
    (manifest,) = tmp_path.glob("*/*.grid.json")
    edit_json(manifest, contrasts=[pair])
    text = markdown(tmp_path)
    assert row_of(text, "### Difference", "dla")[1] == "+1.00<br>[0.00, +2.00]"
    assert row_of(text, "### Contrasts", " minus ".join(pair))[1] == shown


def test_contrasts_and_margins_name_the_commits_of_the_runs(tmp_path: Path) -> None:
    ablation(tmp_path)
    (manifest,) = tmp_path.glob("*/*.grid.json")
    claim = {"arms": ["baseline", "dsl"], "margins": {"AP": 0.8}}
    edit_json(manifest, contrasts=[["both", "dla"]], equivalence=[claim])
    text = markdown(tmp_path)
    assert text.count("The runs are of commit `01234567` (with uncommitted changes): the grid's file there") == 2
    for path in tmp_path.glob("shapes/both/*/provenance.json"):
        edit_json(path, commit="fedcba9876543210", dirty=False)
    several = "The runs are of commits `01234567` (with uncommitted changes) and `fedcba98`: the grid's file there"
    assert markdown(tmp_path).count(several) == 2


def test_one_grid_shows_the_factorial_and_the_disagreements_that_several_could(tmp_path: Path) -> None:
    """`controls` has the runs of `ablation` and one arm more, l1, which loses 2 AP while the paper's gains."""
    folder = ablation(tmp_path)
    for seed in range(3):
        folder.done("l1", seed, (38 + seed) / 100)
    settings = {arm: folder.spec(arm, 0).setting for arm in (*ARMS, "l1")}
    cells = [cell | {"setting": settings[cell["arm"]]} for cell in folder.cells]
    paper = {**PAPER, "rows": {**PAPER["rows"], "both": {"AP": 36.0}, "l1": {"AP": 38.0}}}
    more = {"factorial": {"DLA": ["dla", "both"], "DSL": ["dsl", "both"]}, "paper": paper}
    folder.manifest("ablation", runs=[cell for cell in cells if cell["arm"] != "l1"], **more)
    folder.manifest("controls", runs=cells, arms={**ARMS, "l1": "L1"}, **more)
    text = markdown(tmp_path)
    at = text.index("Grid `controls`")
    own, controls = text[:at], text[at:]
    there = f"[shapes-ablation-{SETTING}](shapes-ablation-{SETTING}.md)"
    assert f"DLA and DSL as two factors, from the same runs: see {there}." in controls
    assert "interaction of DLA and DSL" in own and "interaction of DLA and DSL" not in controls
    assert "-interaction.svg" in own and "-interaction.svg" not in controls
    assert row_of(own, "### Disagreement", "both")[:3] == ["both", "AP", "-1.0"]
    assert row_of(controls, "### Disagreement", "l1")[:3] == ["l1", "AP", "+1.0"]
    assert f"dla, dsl, both: see {there} (the same runs, in the grid with the fewest arms)." in controls
    assert controls.count("opposite sign |") == 1 and "AP of both" not in controls


def test_the_factorial_gives_main_effects_and_their_interaction(tmp_path: Path) -> None:
    """Means 41 42 41 51: DLA (1 + 10) / 2, DSL (0 + 9) / 2, interaction 9; sd 0.5 on 6 df, t 2.4469.

    Half widths: of a main effect 2.4469 x 0.5 / sqrt(3) = 0.7064, of the interaction twice that.
    """
    ablation(tmp_path)
    (manifest,) = tmp_path.glob("*/*.grid.json")
    assert "### Main effects" not in markdown(tmp_path)
    edit_json(manifest, factorial={"DLA": ["dla", "both"], "DSL": ["dsl", "both"]})
    text = markdown(tmp_path)
    effects = {
        "DLA, mean over DSL off and on": "**+5.50**<br>[+4.79, +6.21]",
        "DSL, mean over DLA off and on": "**+4.50**<br>[+3.79, +5.21]",
        "interaction of DLA and DSL": "**+9.00**<br>[+7.59, +10.41]",
        "DSL given DLA": "+9.00<br>[+8.00, +10.00]",  # not tested, so not bold
        "DLA given DSL": "+10.00<br>[+9.00, +11.00]",
    }
    assert {name: row_of(text, "### Main effects", name)[1] for name in effects} == effects
    assert "DSL without DLA" not in text and "DLA without DSL" not in text  # differences from the baseline
    edit_json(manifest, contrasts=[["both", "dla"]])
    assert "DSL given DLA" not in markdown(tmp_path) and "DLA given DSL" in markdown(tmp_path)
    assert "**interaction of DLA and DSL**: AP +9.00 [+7.59, +10.41], significant;" in text
    edit_json(manifest, factorial={"DLA": ["dla", "both"], "DSL": ["dsl", "baseline"]})
    assert "factorial=" in "".join(collect(tmp_path).problems)


def test_equivalence_is_tested_against_the_margin_of_the_grid(tmp_path: Path) -> None:
    """dsl and baseline: 0 with a half width of 1.9432 x 0.4082 = 0.7933 (90%); both is 9 to 10 away from the others."""
    ablation(tmp_path)
    (manifest,) = tmp_path.glob("*/*.grid.json")
    claims = [
        {"arms": ["baseline", "dsl"], "margins": {"AP": 0.8, "AP90": 0.8}},
        {"arms": ["dla", "dsl", "both"], "margins": {"AP": 0.3}},
    ]
    edit_json(manifest, equivalence=claims)
    text = markdown(tmp_path)
    found = row_of(text, "### Equivalence", "baseline, dsl | AP |")
    assert found[2:5] == ["baseline minus dsl", "0.8", "0.00<br>[-0.79, +0.79]"] and found[6] == "EQUIVALENT"
    more = row_of(text, "### Equivalence", "baseline, dsl | AP90 |")  # error 0.8165; 10 seeds: 1.77 x 1 x sqrt(2/10)
    assert more[4] == "0.00<br>[-1.59, +1.59]" and more[6] == "NOT DECIDED (7 more seeds per arm would decide)"
    assert row_of(text, "### Equivalence", "dla, dsl, both")[2:3] == ["dsl minus both"]
    assert row_of(text, "### Equivalence", "dla, dsl, both")[6] == "DIFFERENT"
    assert "baseline, dsl within 0.8 AP: **EQUIVALENT**." in text


def test_the_share_of_small_errors_is_shown_where_it_was_measured(tmp_path: Path) -> None:
    folder = ablation(tmp_path)
    assert "### Which errors" not in markdown(tmp_path)
    row = {"T": 0.5, "positives": 120, "median": 0.4, "shares": {"1.0000": 0.125, "0.1667": 0.25}}
    path = tmp_path / folder.path("baseline", 0) / "box_gradients.json"
    write_json(path, {"schema": 1, "images": 200, "below": 0.3, "thresholds": [row]})
    found = row_of(markdown(tmp_path), "### Which errors the box loss learns from", "baseline/seed0")
    assert found[1:] == ["0.50", "120", "0.400", "0.12", "0.25"]
    edit_json(path, thresholds="none")
    assert "box_gradients.json: thresholds=" in "".join(collect(tmp_path).problems)


def test_disagreements_with_the_paper_are_named(tmp_path: Path) -> None:
    """The paper's both loses 0.7 AP50; on shapes the sign alone is compared, on COCO also the size."""
    ablation(tmp_path)
    for run in (tmp_path / "shapes/both").iterdir():
        path = run / "metrics.json"
        edit_json(path, metrics=json.loads(path.read_text())["metrics"] | {"AP50": 0.51 + int(run.name[4]) / 1000})
    text = markdown(tmp_path)
    found = row_of(text, "### Disagreement", "both")
    assert found[:3] == ["both", "AP50", "-0.7"] and found[4] == "opposite sign"
    assert found[3].startswith("**+1.10**<br>[") and text.count("opposite sign |") == 1
    assert "Disagrees with the paper's differences: AP50 of both (+1.10, paper -0.7)." in text
    coco = RunsFolder(tmp_path / "coco", "coco")
    for seed in range(3):
        coco.done("baseline", seed, 0.37 + seed / 1000)
        coco.done("both", seed, 0.50 + seed / 1000 + (seed == 1) / 2000, ap90=0.20)
    coco.manifest(base="faster_rcnn_r50_fpn_1x", changed=[])
    larger = row_of(markdown(tmp_path / "coco"), "### Disagreement", "both | AP |")
    assert larger[2] == "+1.9" and larger[4] == "larger"


def test_differences_without_the_seen_seeds(tmp_path: Path) -> None:
    """Seeds 1 and 2: 41 42 (and so dla and dsl) against 50 52: squares 6 / 64 + 2 x 9 / 64 on 3 df, variance 0.125.

    Half width 3.1824 x sqrt(0.125) = 1.1252.
    """
    ablation(tmp_path)
    assert "without seed" not in markdown(tmp_path)
    (manifest,) = tmp_path.glob("*/*.grid.json")
    edit_json(manifest, seen_seeds=[0])
    found = row_of(markdown(tmp_path), "### Difference from the baseline, without seed 0", "both")
    assert found[1] == "**+9.50**<br>[+8.37, +10.63]"
    edit_json(manifest, seen_seeds=[0, 1, 2])
    assert "without seed" not in markdown(tmp_path)
    edit_json(manifest, seen_seeds="0")
    assert "seen_seeds=0: must be a list" in "".join(collect(tmp_path).problems)


def test_one_seed_gives_no_interval(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    for arm, ap in (("baseline", 0.4), ("both", 0.5)):
        folder.done(arm, 0, ap)
    folder.manifest(arms={arm: ARMS[arm] for arm in ("baseline", "both")})
    text = markdown(tmp_path)
    assert row_of(text, "### Difference", "both")[1] == "+10.00"
    assert "AP +10.00, no interval (one seed per arm)" in text
    assert "significant difference from the baseline" not in text and "**+10.00**" not in text


def test_the_papers_numbers_are_separate_and_marked(tmp_path: Path) -> None:
    ablation(tmp_path)
    text = markdown(tmp_path)
    heading = "### The paper's numbers: COCO, NOT comparable with shapes"
    assert row_of(text, heading, "both")[1:] == [
        *("38.9 (+1.9)", "57.3 (-0.7)", "53.6 (+0.1)", "47.4 (+1.4)", "36.3 (+3.7)", "15.2 (+5.5)")
    ]
    assert row_of(text, heading, "dsl")[3] == "53.5 (0.0)"


def test_missing_failed_and_running_runs_are_shown(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    for seed in range(2):
        folder.done("baseline", seed, 0.4)
    folder.done("both", 0, 0.5)
    folder.start("both", 1, "failed", cause="NaN", iteration=40)
    folder.ask("both", 2)
    held = folder.start("dsl", 0, "running", iteration=20)
    folder.ask("dla", 0)
    folder.manifest()
    with locked(held):
        text = markdown(tmp_path)
    assert row_of(text, "### Ablation", "both")[1:3] == ["1 done, 1 failed (NaN), 1 missing", "1"]
    assert row_of(text, "### Ablation", "dla")[1:4] == ["1 missing", "0", "–"]
    assert row_of(text, "### Ablation", "dsl")[1:4] == ["1 running", "0", "–"]
    assert row_of(text, "### Runs", "both | 1")[3] == "failed (NaN) at iteration 40 of 100"
    assert row_of(text, "### Runs", "dsl | 0")[3] == "running at iteration 20 of 100"
    assert row_of(text, "### Runs", "both | 2")[2:5] == [
        "`" + folder.path("both", 2)[-10:] + "`",
        "missing",
        "–",
    ]
    assert "- shapes-ablation-0123456789: both, seed 1: failed (NaN)" in text
    assert "- shapes-ablation-0123456789: dla, seed 0: missing" in text


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_figures_of_a_half_finished_grid(tmp_path: Path) -> None:
    """Figures are drawn for arms without a finished run, a single seed, and curves that log null."""
    folder = RunsFolder(tmp_path / "runs")
    log = folder.done("baseline", 0, 0.4) / "train.jsonl"
    log.write_text(re.sub(r'"(T|beta)": [0-9.]+', r'"\1": null', log.read_text()))
    folder.done("both", 0, 0.5)
    folder.ask("dla", 0)
    folder.manifest()
    write_report(tmp_path / "runs", tmp_path / "R.md")
    assert len(list((tmp_path / "R_files").glob("*.svg"))) == 5


def test_nothing_finished_yet(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    folder.ask("baseline", 0)
    folder.manifest()
    page = build(collect(tmp_path))
    assert "No run of this grid has finished" in markdown(tmp_path) and page.figures == []


def test_text_of_records_is_escaped(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    folder.done("baseline", 0, 0.4)
    folder.start("dla", 0, "failed", cause="<b>|a_b*\nc")
    folder.manifest()
    text = markdown(tmp_path)
    assert r"failed (&lt;b&gt;\|a\_b\* c)" in text and "<b>" not in text


def files_of(folder: Path) -> dict[str, bytes]:
    """The files that the report wrote into `folder`, by their path there."""
    written = [folder / "report.html", *sorted((folder / "REPORT_files").rglob("[!.]*.*"))]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in written}


def test_same_records_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ablation(tmp_path / "runs")
    (tmp_path / "runs/shapes/both/stray").write_text("")
    (tmp_path / "runs/astray").write_text("")
    shutil.copytree(tmp_path / "runs", tmp_path / "elsewhere/other")
    first = write_report(tmp_path / "runs", tmp_path / "REPORT.md")
    kept = files_of(tmp_path)
    ordered = Path.iterdir

    def shuffled(self: Path) -> Sequence[Path]:
        return random.Random(0).sample(children := list(ordered(self)), len(children))

    monkeypatch.setattr(Path, "iterdir", shuffled)
    assert write_report(tmp_path / "elsewhere/other", tmp_path / "elsewhere/REPORT.md") == first
    assert files_of(tmp_path / "elsewhere") == kept
    assert [Path(name).suffix for name in kept].count(".svg") == 5 and "report.html" in kept
    assert str(tmp_path) not in first + str(kept)


def test_links_lead_to_the_figures(tmp_path: Path) -> None:
    ablation(tmp_path / "runs")
    write_report(tmp_path / "runs", tmp_path / "my.page.md")
    main = (tmp_path / "my.page.md").read_text(encoding="utf-8")
    (page,) = set(re.findall(r"\]\((my.page_files/[^)]*\.md)\)", main))
    text = (tmp_path / page).read_text(encoding="utf-8")
    assert "Part of [Dynamic R-CNN: what was measured](../my.page.md)." in text
    links = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)
    assert len(links) == 5
    for link in links:
        assert (tmp_path / "my.page_files" / link).read_text(encoding="utf-8").startswith("<?xml")


def test_figures_that_are_no_longer_linked_are_removed_and_foreign_files_stay(tmp_path: Path) -> None:
    ablation(tmp_path / "runs")
    write_report(tmp_path / "runs", tmp_path / "R.md")
    old = tmp_path / "R_files/shapes-ablation-0123456789-training.svg"
    old.rename(old.with_name("old.svg"))
    mine = [tmp_path / "R_files" / name for name in ("mine.svg", "my-images.png", "tables/mine.csv")]
    for path in mine:
        path.write_text("<svg/>")
    (tmp_path / "R_files/tables/more").mkdir()
    tables = set((tmp_path / "R_files/tables").glob("shapes-ablation*.csv"))
    write_report(tmp_path / "runs", tmp_path / "R.md")
    assert old.exists() and not old.with_name("old.svg").exists()
    next((tmp_path / "runs").glob("*/*.grid.json")).unlink()
    write_report(tmp_path / "runs", tmp_path / "R.md")
    assert tables and not any(path.exists() for path in tables) and not old.exists()
    assert all(path.read_text() == "<svg/>" for path in mine)


def two_backbones(root: Path, dataset: str) -> RunsFolder:
    """AP 40 41 42 against 44 43 45, and 60 61 62 against 60 61 62 of another backbone; sd 0.5 on 6 df in a block."""
    folder = RunsFolder(root, dataset)
    for arm, first in (("r50", 40), ("r50_dynamic", 43), ("r101", 60), ("r101_dynamic", 60)):
        for seed in range(3):
            folder.done(arm, seed, (first + ((1, 0, 2)[seed] if arm == "r50_dynamic" else seed)) / 100)
    arms = {arm: arm.upper() for arm in ("r50", "r50_dynamic", "r101", "r101_dynamic")}
    rows = {"r50_dynamic": {"AP": 44.1}, "r101_dynamic": {"AP": 70.0}}
    test_dev = {"r101": {"AP": 39.3, "APs": 21.3}, "r101_dynamic": {"AP": 41.2, "APs": 22.5}}
    paper = {"table": "Table 1", "source": "somebody", "dataset": "COCO minival", "rows": rows, "test_dev": test_dev}
    more = {"base": "faster_rcnn_r50_fpn_1x", "changed": [], "baselines": {"r101_dynamic": "r101"}}
    folder.manifest("backbones", arms=arms, baseline="r50", paper=paper, **more)
    return folder


def test_each_arm_is_compared_with_its_own_baseline(tmp_path: Path) -> None:
    two_backbones(tmp_path, "shapes")
    text = markdown(tmp_path)
    table = text[text.index("### Difference") : text.index("### The paper")]
    assert row_of(table, "###", r"r50\_dynamic: R50\_DYNAMIC, minus r50")[1] == "**+3.00**<br>[+2.00, +4.00]"
    assert row_of(table, "###", r"r101\_dynamic: R101\_DYNAMIC, minus r101")[1] == "0.00<br>[-1.00, +1.00]"
    assert "| r101: R101" not in table
    assert r"**r101\_dynamic** against r101: AP 0.00 [-1.00, +1.00], no significant difference" in text
    assert r"r101\_dynamic minus r101: AP 0.00" in text  # the line below the grid's title


def test_numbers_on_test_dev_are_separate_and_get_no_verdict(tmp_path: Path) -> None:
    two_backbones(tmp_path, "coco")
    text = markdown(tmp_path)
    heading = "### The paper's numbers on COCO test-dev: no verdict"
    assert row_of(text, heading, r"r101\_dynamic")[1:] == ["41.2 (+1.9)", "22.5 (+1.2)"]
    assert "get no verdict (somebody)" in text
    cells = text[text.index("| Table 1, verdict") :]
    assert row_of(cells, "| Table 1", r"r50\_dynamic")[1].startswith("INCONCLUSIVE")
    assert row_of(cells, "| Table 1", r"r101\_dynamic")[1] == "NOT REPRODUCED: 70.0, measured 61.00"
    verdicts = cells[: cells.index("###")]
    assert "41.2" not in verdicts and "| r101 " not in verdicts


@pytest.mark.parametrize(("base", "comparable"), [("mask_rcnn_r50_fpn_1x", True), ("faster_rcnn_r50_fpn_1x", False)])
def test_a_grids_paper_names_the_published_base(tmp_path: Path, base: str, comparable: bool) -> None:
    coco = RunsFolder(tmp_path, "coco")
    for arm in ("baseline", "both"):
        coco.done(arm, 0, 0.4)
    coco.manifest("mask", base=base, changed=[], paper={**PAPER, "base": "mask_rcnn_r50_fpn_1x"})
    text = markdown(tmp_path)
    assert ("| Table 2, verdict" in text) == comparable
    assert ("NOT comparable with this setting" in text) != comparable


def test_masks_have_a_table_if_there_are_any(tmp_path: Path) -> None:
    folder = ablation(tmp_path)
    assert "### Masks" not in markdown(tmp_path)
    for arm, first in (("baseline", 30), ("both", 35)):
        for seed in range(3):
            path = tmp_path / folder.path(arm, seed) / "metrics.json"
            metrics = json.loads(path.read_text())["metrics"]
            segm = {"segm_AP": (first + seed) / 100, "segm_AP50": 0.5, "segm_AP75": None}
            edit_json(path, metrics={**metrics, **segm})
    text = markdown(tmp_path)
    masks = text[text.index("### Masks") : text.index("### Object sizes")]
    assert row_of(masks, "### Masks", "both")[1:] == ["3", "36.00 ± 1.00", "50.00 ± 0.00", "–"]
    assert row_of(masks, "### Masks", "dla")[1:] == ["3", "–", "–", "–"]
    below = masks[masks.index("arm minus baseline") :]
    assert row_of(below, "arm minus", "both")[1].startswith("**+5.00**<br>[")
    edit_json(path, metrics={**metrics, "segm_AP": 35.0})
    assert "metrics.segm\\_AP=35.0: must be " in markdown(tmp_path)


def test_printed_values_of_masks_get_a_verdict(tmp_path: Path) -> None:
    coco = RunsFolder(tmp_path, "coco")
    for arm, segm in (("baseline", 0.338), ("both", 0.30)):
        path = coco.done(arm, 0, 0.4) / "metrics.json"
        edit_json(path, metrics={**json.loads(path.read_text())["metrics"], "segm_AP": segm})
    rows = {"baseline": {"segm_AP": 33.8}, "both": {"AP": 40.0, "segm_AP": 34.8}}
    coco.manifest("mask", base="x", changed=[], paper={**PAPER, "rows": rows, "base": "x"})
    cells = markdown(tmp_path)
    cells = cells[cells.index("| Table 2, verdict") :]
    assert row_of(cells, "| Table 2", "baseline")[1] == "REPRODUCED: 33.8, measured 33.80"
    assert row_of(cells, "| Table 2", "both")[1] == "NOT REPRODUCED: 34.8, measured 30.00"
    assert row_of(cells, "| Table 2", "both")[2] == "REPRODUCED: 40.0, measured 40.00"


def test_many_unfinished_runs_are_counted_by_state(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    for seed in range(12):
        folder.start("both", seed, "failed", "NaN" if seed else "killed")
    folder.manifest()
    text = markdown(tmp_path)
    assert "11 runs failed (NaN), listed in its section" in text and "1 run failed (killed), listed in its" in text
    assert "both, seed 3: failed" not in text
