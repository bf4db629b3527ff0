"""The committed page of the rule's operating characteristics, against its script and against simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.stats import operating_characteristics
from analysis.stats.operating_characteristics import ARMS, CLAIMED, PLANNED_SEEDS, chances, page, planned_chances
from analysis.stats.seeds import pool_sd, summarize
from analysis.stats.verdict import decide, decide_difference
from experiments.planning import chance

PAGE = Path(__file__).resolve().parents[3] / "docs/operating-characteristics.md"


def test_the_committed_page_is_what_the_script_writes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_launcher_knows_the_same_chances() -> None:
    assert {name: list(row) for name, row in chance.CHANCES.items()} == planned_chances()
    assert max(PLANNED_SEEDS) == chance.MOST_SEEDS


@pytest.mark.parametrize(
    ("gap", "sd", "n", "differences", "looks"),
    [(0.0, 0.25, 1, False, 1), (-0.3, 0.15, 3, False, 1), (-0.5, 0.25, 2, False, 2), (-0.6, 0.25, 3, True, 1)],
)
def test_chances_against_simulation(gap: float, sd: float, n: int, differences: bool, looks: int) -> None:
    generator, trials = np.random.default_rng(0), 4000
    counts: dict[str, int] = {}
    for _ in range(trials):
        values = sd * generator.standard_normal((ARMS, n))
        values[0] += gap
        ours, theirs = summarize((CLAIMED + values[0]).tolist()), summarize(values[1].tolist())
        noise = pool_sd(values.tolist())
        if differences:
            found = decide_difference("AP", CLAIMED, ours, theirs, noise, looks)
        else:
            found = decide("AP", CLAIMED, ours, noise, looks)
        counts[found.verdict] = counts.get(found.verdict, 0) + 1
    for verdict, expected in chances(gap, sd, n, differences, looks).items():
        error = 4 * (expected * (1 - expected) / trials) ** 0.5 + 1 / trials
        assert counts.get(verdict, 0) / trials == pytest.approx(expected, abs=error), verdict


def test_a_chance_computed_by_hand() -> None:
    # one seed: 38.9 +- (0.5 - 1.8125 x 0.15) = 0.22813; at a sd of 0.15 these are 1.5209 sds: 2 x 0.93586 - 1 = 0.8717
    assert chances(0.0, 0.15, 1)["REPRODUCED"] == pytest.approx(0.8717, abs=1e-4)


def test_the_integral_has_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (-0.3, 0.25, 2)
    usual = chances(*arguments)
    operating_characteristics._legendre.cache_clear()
    chances.cache_clear()
    monkeypatch.setattr(operating_characteristics, "_NODES", 1500)
    assert chances(*arguments) == pytest.approx(usual, abs=1e-5)
    operating_characteristics._legendre.cache_clear()
    chances.cache_clear()
