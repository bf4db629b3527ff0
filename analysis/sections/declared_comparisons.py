"""The parts of a grid's section about what the grid declares: factors, contrasts of two arms, and equivalence."""

from __future__ import annotations

from analysis.rendering.model import Block, Heading
from analysis.rendering.text import Line, code, join, link, strong
from analysis.sections import difference_tables
from analysis.sections.tables import SHORT_COMMIT
from analysis.stats.comparison import Comparison
from analysis.stats.equivalence import DIFFERENT, EQUIVALENT
from analysis.stats.seeds import ALPHA, TOST_LEVEL


def effect_blocks(comparison: Comparison) -> list[Block]:
    """The main effects, the interaction and the simple effects; or where another grid shows them."""
    deciding = comparison.factorial_grid
    if deciding is None:
        return []
    first, second = comparison.grid.factorial
    heading = Heading("Main effects and interaction")
    if not comparison.shows_factorial:
        text = f"{first} and {second} as two factors, from the same runs: see "
        return [heading, text + link(deciding.key, deciding.key) + "."]
    text = (
        f"{first} and {second} as two factors, with intervals as above; bold after Holm's correction over the rows of "
        "this table, for each metric separately. The interaction is the effect of one factor given the other one minus "
        "its effect without."
    )
    effects = difference_tables.effect_table(comparison, "effect", comparison.effects)
    simple = difference_tables.effect_table(comparison, "simple effect", comparison.simple_effects, is_tested=False)
    if not simple.rows:
        return [heading, text, effects]
    note = (
        "Simple effects that no other table has. The others are differences from the baseline or contrasts, and are "
        "tested in those tables. These are exploratory and not tested, so none is bold."
    )
    return [heading, text, effects, note, simple]


def contrast_blocks(comparison: Comparison) -> list[Block]:
    """The declared contrasts; empty without any."""
    if not comparison.grid.contrasts:
        return []
    text = (
        "Pairs of arms that the grid declares. Intervals as above; bold after Holm's correction over these pairs, for "
        "each metric separately. A pair of an arm and its baseline is tested among the differences from the baseline "
        "instead."
    )
    return [Heading("Contrasts"), text + _commits(comparison), difference_tables.contrast_table(comparison)]


def equivalence_blocks(comparison: Comparison) -> list[Block]:
    """The declared claims of equivalence; empty without any."""
    if not comparison.grid.equivalence:
        return []
    text = (
        "Arms that the grid declares to be equivalent: no two of them differ by more than the margin in points of AP. "
        + strong(EQUIVALENT)
        + f": every {TOST_LEVEL} interval is within the margin (TOST at {ALPHA}). "
        + strong(DIFFERENT)
        + f": a pair is beyond it (one-sided at {ALPHA}, corrected for the number of pairs). Neither: not decided; "
        "further seeds reduce the noise between seeds, not that over images."
    )
    return [Heading("Equivalence"), text + _commits(comparison), difference_tables.equivalence_table(comparison)]


def _commits(comparison: Comparison) -> Line:
    """'The runs are of commit `cc63d9a2`: ...'; empty if no run recorded its commit."""
    names: list[Line] = []
    for commit, rows in comparison.averaged.groupby("commit", sort=False):
        changed = " (with uncommitted changes)" if rows["dirty"].eq(True).any() else ""
        names.append(code(str(commit)[:SHORT_COMMIT]) + changed)
    if not names:
        return ""
    which = "commit" if len(names) == 1 else "commits"
    return (
        f" The runs are of {which} " + join(" and ", names) + ": the grid's file there shows what was declared before."
    )
