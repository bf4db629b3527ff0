"""analysis.stats.blocks against statsmodels' least squares and mixed model, and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

from analysis.stats.blocks import Blocks, Cell
from analysis.stats.estimate import Estimate

INCOMPLETE = {"baseline": 8, "dla": 5, "dsl": 5, "both": 8}  # seeds per arm


def drawn(sizes: dict[str, int], seed: int = 0) -> dict[Cell, float]:
    rng = np.random.default_rng(seed)
    blocks = rng.normal(0, 1, max(sizes.values()))
    return {(arm, n): 50 + blocks[n] + rng.normal(0, 0.4) for arm, size in sizes.items() for n in range(size)}


def known(estimate: Estimate | None) -> Estimate:
    assert estimate is not None
    return estimate


def test_two_complete_blocks_by_hand() -> None:
    """a: 1 5, b: 2 8. Differences b - a: 1 and 3, mean 2. Residuals +-0.5: 4 x 0.25 on 1 df, so sd 1."""
    blocks = Blocks({("a", 0): 1.0, ("a", 1): 5.0, ("b", 0): 2.0, ("b", 1): 8.0})
    found = known(blocks.contrast({"b": 1, "a": -1}))
    assert (found.value, found.spread) == (pytest.approx(2), pytest.approx(1))
    assert (blocks.residual.sd, blocks.residual.df) == (pytest.approx(1), 1)
    # within arms: deviations 2 and 3, twice each: 26 on 2 df, which are worth less, since both arms have these seeds
    assert blocks.level.sd == pytest.approx(13**0.5) and 1 < blocks.level.df < 1.2
    mean = known(blocks.mean([("b", 0), ("b", 1)]))
    assert (mean.value, mean.spread) == (5.0, 0.5)


def test_an_incomplete_block_by_hand() -> None:
    """a: 1 5 9, b: 2 8. Seed 2 has no partner: the difference is that of seeds 0 and 1, not of the means (0)."""
    found = known(
        Blocks({("a", 0): 1.0, ("a", 1): 5.0, ("a", 2): 9.0, ("b", 0): 2.0, ("b", 1): 8.0}).contrast({"b": 1, "a": -1})
    )
    assert (found.value, found.spread, found.noise.df) == (pytest.approx(2), pytest.approx(1), 1)


@pytest.mark.parametrize("sizes", [dict.fromkeys(INCOMPLETE, 5), INCOMPLETE, {"baseline": 6, "dla": 3, "both": 2}])
def test_contrasts_are_those_of_least_squares(sizes: dict[str, int]) -> None:
    """Value, standard error, df, p and interval of each difference, and the residual variance, as statsmodels' OLS."""
    runs = drawn(sizes)
    frame = pd.DataFrame([(arm, seed, value) for (arm, seed), value in runs.items()], columns=["arm", "seed", "AP"])
    fit = smf.ols("AP ~ C(arm, Treatment('baseline')) + C(seed)", frame).fit()
    blocks = Blocks(runs)
    assert blocks.residual.sd == pytest.approx(fit.mse_resid**0.5) and blocks.residual.df == fit.df_resid
    anova = anova_lm(fit, typ=2)
    assert blocks.residual.df == anova.loc["Residual", "df"]
    for arm in (arm for arm in sizes if arm != "baseline"):
        name = f"C(arm, Treatment('baseline'))[T.{arm}]"
        found = known(blocks.contrast({arm: 1, "baseline": -1}))
        assert found.value == pytest.approx(fit.params[name], rel=1e-8)
        assert found.error == pytest.approx(fit.bse[name], rel=1e-8)
        assert found.p == pytest.approx(fit.pvalues[name], rel=1e-6)
        assert found.interval(0.95) == pytest.approx(tuple(fit.conf_int(0.05).loc[name]), rel=1e-6)


def test_effects_of_two_factors_are_those_of_least_squares() -> None:
    runs = drawn(INCOMPLETE)
    frame = pd.DataFrame(
        [(arm in ("dla", "both"), arm in ("dsl", "both"), seed, value) for (arm, seed), value in runs.items()],
        columns=["dla", "dsl", "seed", "AP"],
    )
    frame[["dla", "dsl"]] = frame[["dla", "dsl"]] - 0.5  # coded -1/2 and 1/2, so that the coefficients are main effects
    fit = smf.ols("AP ~ dla * dsl + C(seed)", frame).fit()
    blocks = Blocks(runs)
    contrasts = {
        "dla": {"dla": 0.5, "baseline": -0.5, "both": 0.5, "dsl": -0.5},
        "dsl": {"dsl": 0.5, "baseline": -0.5, "both": 0.5, "dla": -0.5},
        "dla:dsl": {"both": 1, "dla": -1, "dsl": -1, "baseline": 1},
    }
    for name, contrast in contrasts.items():
        found = known(blocks.contrast(contrast))
        assert (found.value, found.error) == (pytest.approx(fit.params[name]), pytest.approx(fit.bse[name]))
        assert found.p == pytest.approx(fit.pvalues[name], rel=1e-6)


def test_variances_are_those_of_a_mixed_model() -> None:
    """Complete blocks: REML has the same variance between seeds and within blocks, and the same error of a mean."""
    runs = drawn(dict.fromkeys(INCOMPLETE, 8))
    frame = pd.DataFrame([(arm, seed, value) for (arm, seed), value in runs.items()], columns=["arm", "seed", "AP"])
    fit = smf.mixedlm("AP ~ 0 + C(arm)", frame, groups="seed").fit(reml=True)
    blocks = Blocks(runs)
    assert blocks.residual.sd is not None and blocks.level.sd is not None
    assert blocks.residual.sd**2 == pytest.approx(fit.scale, rel=1e-3)
    assert blocks.level.sd**2 == pytest.approx(fit.scale + float(fit.cov_re.iloc[0, 0]), rel=1e-3)
    mean = known(blocks.mean([cell for cell in runs if cell[0] == "both"]))
    assert mean.value == pytest.approx(fit.fe_params["C(arm)[both]"], rel=1e-6)
    assert mean.error == pytest.approx(fit.bse_fe["C(arm)[both]"], rel=1e-3)


def test_the_degrees_of_freedom_of_a_mean_lie_between_those_of_one_arm_and_of_all() -> None:
    """Noise of the seeds alone: 4 arms know no more than one, 7 df. No noise of the seeds: 28."""
    common = Blocks({(arm, seed): float(seed**2) for arm in "abcd" for seed in range(8)})
    assert (common.level.df, common.residual.sd) == (pytest.approx(7), 0)
    rng = np.random.default_rng(3)
    own = {(arm, seed): rng.normal() for arm in "abcd" for seed in range(8)}
    assert 20 < Blocks(own).level.df <= 28


def test_images_add_what_runs_have_in_common() -> None:
    """Two arms of two seeds. Covariance: 4 of all runs (images), 1 of an arm (arm x image), 0.5 of a run alone.

    A difference has 2 x 1 of the arms; a mean 4 + 1. The part of a run, 0.5, is in the noise between seeds already.
    """
    arms = ["a", "a", "b", "b"]
    same = np.array([[one == other for other in arms] for one in arms])
    covariance = 4.0 + 1.0 * same + 0.5 * np.eye(4)
    runs = {("a", 0): 1.0, ("a", 1): 2.0, ("b", 0): 3.0, ("b", 1): 5.0}
    blocks = Blocks(runs, covariance, 99)
    assert blocks.has_images and not Blocks(runs).has_images
    difference = known(blocks.contrast({"b": 1, "a": -1}))
    assert (difference.images, difference.images_df) == (pytest.approx(2.0), 99)
    assert known(blocks.mean([("a", 0), ("a", 1)])).images == pytest.approx(5.0)
    independent = Blocks(runs, np.eye(4), 99)  # nothing in common: no more than the noise between seeds
    assert known(independent.contrast({"b": 1, "a": -1})).images == pytest.approx(0, abs=1e-12)


def test_arms_that_no_seed_connects_have_no_difference() -> None:
    blocks = Blocks({("a", 0): 1.0, ("b", 1): 2.0})
    assert blocks.contrast({"a": 1, "b": -1}) is None and blocks.contrast({"a": 1, "c": -1}) is None
    chained = Blocks({("a", 0): 1.0, ("c", 0): 2.0, ("c", 1): 4.0, ("b", 1): 7.0})
    assert known(chained.contrast({"b": 1, "a": -1})).value == pytest.approx(4.0)  # (7 - 4) + (2 - 1), through c
    assert blocks.mean([]) is None


def test_one_seed_per_arm_has_no_noise_estimate() -> None:
    blocks = Blocks({("a", 0): 1.0, ("b", 0): 3.0}, np.eye(2), 99)
    found = known(blocks.contrast({"b": 1, "a": -1}))
    assert (found.value, found.error, found.images) == (2.0, None, None)
    assert (blocks.level.sd, blocks.residual.sd) == (None, None)


def test_the_order_of_runs_does_not_change_the_result() -> None:
    runs = drawn(INCOMPLETE)
    one, other = (known(Blocks(each).contrast({"both": 1, "dsl": -1})) for each in (runs, dict(reversed(runs.items()))))
    assert one.value == other.value and one.error == pytest.approx(other.error, rel=1e-12)
