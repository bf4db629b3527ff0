"""Two sets of runs, compared: against scipy's tests, by simulation, and what cannot be compared."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_ind

from analysis.reading.run_table import collect
from analysis.stats.replication import Replication, Result, _compare, replications
from tests.analysis.synthetic import RunsFolder, edit_json, make_another_run


def by_seed(values: list[float], first: int = 0) -> dict[int, float]:
    return dict(enumerate(values, start=first))


def compare(ours: list[float], theirs: list[float], on_coco: bool = False, looks: int = 1) -> Result:
    return _compare(("both",), "AP", by_seed(ours), by_seed(theirs, 10), False, on_coco, looks)


@pytest.mark.parametrize("seed", range(20))
def test_the_verdict_is_that_of_scipys_tests(seed: int) -> None:
    """REPRODUCED: two one-sided t tests at the margins; NOT REPRODUCED: a two-sided t test, beyond the margin."""
    generator = np.random.default_rng(seed)
    ours = 50 + generator.uniform(-1.5, 1.5) + 0.4 * generator.standard_normal(generator.integers(2, 6))
    theirs = 50 + 0.4 * generator.standard_normal(generator.integers(2, 9))
    found = compare(ours.tolist(), theirs.tolist())
    above = ttest_ind(ours + 1.0, theirs, alternative="greater").pvalue
    below = ttest_ind(ours - 1.0, theirs, alternative="less").pvalue
    differs = ttest_ind(ours, theirs).pvalue
    expected = "INCONCLUSIVE"
    if max(above, below) <= 0.05:
        expected = "REPRODUCED"
    elif differs < 0.05 and abs(ours.mean() - theirs.mean()) > 1.0:
        expected = "NOT REPRODUCED"
    assert found.verdict == expected and found.margin == 1.0
    assert found.is_significant == (differs < 0.05)
    low, high = ttest_ind(ours, theirs).confidence_interval(0.90)
    assert found.decision is not None and found.decision.half_width == pytest.approx((high - low) / 2)
    assert found.gap == pytest.approx((low + high) / 2)


def test_all_verdicts_occur_among_these_cases() -> None:
    assert compare([50.0, 50.1], [50.0, 50.2]).verdict == "REPRODUCED"
    assert compare([48.0, 48.1], [50.0, 50.2]).verdict == "NOT REPRODUCED"
    assert compare([52.0, 52.1], [50.0, 50.2]).verdict == "NOT REPRODUCED"  # higher does not reproduce either
    undecided = compare([50.0, 51.0], [50.0, 50.4, 50.8, 51.2, 51.0])
    assert undecided.verdict == "INCONCLUSIVE" and "would decide" in undecided.text


def test_one_run_each_decides_nothing_unless_it_has_the_same_digits() -> None:
    assert compare([50.0], [50.0]).text == "INCONCLUSIVE (noise unknown)"  # of another seed
    same = _compare(("both",), "AP", {0: 50.0}, {0: 50.0, 1: 53.0}, same=True)
    assert same.text == "REPRODUCED (same digits)" and same.gap == 0 and same.theirs.n == 1
    assert compare([50.0], [50.0, 50.1, 49.9]).verdict == "REPRODUCED"  # the noise of the other set


def test_on_coco_the_prior_sd_counts_and_the_margin_is_that_of_claims() -> None:
    # s^2 = (10 x 0.15^2 + 0) / 10, df = 10: t(.95) = 1.8125: half-width 1.8125 x 0.15 x sqrt(2)
    found = compare([38.9], [38.85], on_coco=True)
    assert found.decision is not None and found.decision.half_width == pytest.approx(0.3845, abs=1e-4)
    assert found.verdict == "REPRODUCED" and found.margin == 0.5
    difference = _compare(("both", "baseline"), "AP", {0: 1.9}, {1: 1.9}, on_coco=True)  # of two runs: sqrt(2) as large
    assert difference.decision is not None and difference.decision.half_width == pytest.approx(0.5437, abs=1e-4)


def test_a_further_look_is_widened() -> None:
    first, second = (compare([50.0, 50.5], [50.0, 50.4], looks=looks).decision for looks in (1, 2))
    assert first and second and first.half_width and second.half_width
    assert second.half_width / first.half_width == pytest.approx(4.3027 / 2.9200, abs=1e-4)  # t(.975, 2) / t(.95, 2)


@pytest.mark.parametrize(("gap", "verdict", "most"), [(1.0, "REPRODUCED", 0.06), (0.0, "NOT REPRODUCED", 0.01)])
def test_wrong_verdicts_are_rare(gap: float, verdict: str, most: float) -> None:
    generator, wrong, trials = np.random.default_rng(0), 0, 2000
    for _ in range(trials):
        ours, theirs = gap + 0.4 * generator.standard_normal(3), 0.4 * generator.standard_normal(5)
        wrong += compare(ours.tolist(), theirs.tolist()).verdict == verdict
    assert wrong / trials <= most


def fill(root: Path, shift: float = 0.0, seeds: range = range(3), code: str | None = None) -> RunsFolder:
    """Baseline 40.0 40.2 40.4 plus shift, both 42.0 42.3 42.6 plus shift."""
    folder = RunsFolder(root)
    for arm, first, step in (("baseline", 40.0, 0.2), ("both", 42.0, 0.3)):
        for seed in seeds:
            run = folder.done(arm, seed, (first + shift + step * seed) / 100, ap90=0.1 + seed / 1000)
            if code:
                edit_json(run / "provenance.json", code=code)
    folder.manifest()
    return folder


def replicate(here: Path, there: Path) -> Replication:
    (found,) = replications(collect(here), collect(there))
    return found


def by_name(found: Replication) -> dict[tuple[str, str], Result]:
    return {(" minus ".join(result.arms), result.metric): result for result in found.results}


def test_the_printed_interval_of_the_larger_set_is_compared(tmp_path: Path) -> None:
    """Of 5 seeds the mean of both is 42.6 with a half width of about 0.5; 3 seeds have 42.3 plus the shift."""
    fill(tmp_path / "there", seeds=range(5))
    for shift, expected in ((0.0, True), (-3.0, False)):
        fill(tmp_path / f"here{shift}", shift=shift)
        found = by_name(replicate(tmp_path / f"here{shift}", tmp_path / "there"))
        assert found["both", "AP"].is_within is expected
        assert found["both minus baseline", "AP"].is_within is True
        turned = by_name(replicate(tmp_path / "there", tmp_path / f"here{shift}"))
        assert turned["both", "AP"].is_within is expected


def test_levels_and_paired_differences_are_compared(tmp_path: Path) -> None:
    fill(tmp_path / "here", shift=-3.0)
    fill(tmp_path / "there", seeds=range(5))
    found = replicate(tmp_path / "here", tmp_path / "there")
    results = by_name(found)
    assert list(results) == [
        (name, metric) for name in ("baseline", "both", "both minus baseline") for metric in ("AP", "AP90")
    ]
    assert results["both", "AP"].verdict == "NOT REPRODUCED" and results["both", "AP90"].verdict == "REPRODUCED"
    assert not any(result.is_identical for result in results.values())  # AP90 has the same values, but AP differs
    gain = results["both minus baseline", "AP"]
    assert gain.text == "REPRODUCED" and (gain.ours.n, gain.theirs.n) == (3, 5)
    assert gain.ours.mean == pytest.approx(2.1) and gain.ours.sd == pytest.approx(0.1)  # of the differences by seed
    assert found.left_out == [] and found.machines == ["torch 2.9.0"] * 2


def test_runs_with_the_same_digits_reproduce_whatever_the_noise(tmp_path: Path) -> None:
    fill(tmp_path / "here", seeds=range(1))
    fill(tmp_path / "there", seeds=range(5))
    results = replicate(tmp_path / "here", tmp_path / "there").results
    assert len(results) == 6 and all(result.text == "REPRODUCED (same digits)" for result in results)
    assert all(result.gap == 0 and result.theirs.n == 1 for result in results)


def test_other_settings_and_other_code_are_named(tmp_path: Path) -> None:
    fill(tmp_path / "here")
    other = RunsFolder(tmp_path / "setting", fields={"config": {"of": "something else"}})
    for arm in ("baseline", "both"):
        other.done(arm, 0, 0.4)
    other.manifest()
    found = replicate(tmp_path / "here", tmp_path / "setting")
    assert found.results == [] and found.left_out[0].startswith("other settings: baseline, both (baseline: ")
    fill(tmp_path / "code", code="0ther0c0de")
    found = replicate(tmp_path / "here", tmp_path / "code")
    assert (found.results, found.left_out) == ([], ["other code: c0dec0dec0 here and 0ther0c0de there"])
    fill(tmp_path / "grid").manifest("another")
    (tmp_path / "grid/shapes/ablation-0123456789.grid.json").unlink()
    assert replicate(tmp_path / "here", tmp_path / "grid").left_out == ["it has no runs of this grid"]


def test_one_arm_of_another_setting_leaves_the_others(tmp_path: Path) -> None:
    fill(tmp_path / "here")
    there = fill(tmp_path / "there")
    for seed in range(3):
        make_another_run(tmp_path / "there" / there.path("both", seed), config={"of": "both", "more": 1})
    found = replicate(tmp_path / "here", tmp_path / "there")
    assert list(by_name(found)) == [("baseline", "AP"), ("baseline", "AP90")]
    assert len(found.left_out) == 1 and found.left_out[0].startswith("other settings: both (both: ")
    assert all(math.isclose(result.gap, 0) for result in found.results)
