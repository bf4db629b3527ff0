"""The report's section on what reproduced in comparison with another set of runs, and the same table for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from analysis.rendering.model import Block, Bullets, Heading, Number, Row, Section, TableCell, table
from analysis.rendering.terminal import str_table
from analysis.rendering.text import NOTHING, Line, code
from analysis.stats import verdict
from analysis.stats.replication import OTHER_DATA_MARGIN, Replication, Result
from dynamic_rcnn.wording import plural

VERDICTS = (verdict.REPRODUCED, verdict.NOT_REPRODUCED, verdict.INCONCLUSIVE)
HEADER = ("result", "metric", "here", "there", "margin", "here minus there, 90% interval", "within", "verdict")
RULE = (
    "Each mean of an arm and each difference of two arms, in percent and points of AP, against the other set: "
    "REPRODUCED if the gap and the half-width of its 90% interval are together within the margin, NOT REPRODUCED if "
    "the gap is larger than the margin and than the half-width of its 95% interval, INCONCLUSIVE otherwise. Both sets "
    "have noise, over the n seeds in brackets; differences are means over the seeds that both arms have. On COCO the "
    f"margins are those of claims, on other data {OTHER_DATA_MARGIN:g} point. The rows are not corrected for their "
    "number: if all gaps were noise, 1 in 20 would be significant. Within: whether the 95% interval that the set with "
    "more seeds prints contains the value of the other set. That interval is for the true value, and the other set has "
    "noise of its own, so fewer than 95% are to be expected: with 8 and 3 seeds about 75%."
)
NOTHING_FINISHED = "No grid of these runs has finished runs to compare."


def section(found: list[Replication], name: str) -> Section:
    """The section. name: of the other set."""
    compared = [each for each in found if each.results]
    blocks: list[Block] = [RULE] if compared else []
    for each in compared:
        here, there = each.machines
        text = f"{_counts(each.results)}. Here: {here}. There: {there}."
        blocks += [Heading(f"{each.grid.title} ({each.grid.dataset})"), text, table(HEADER, _rows(each), 2)]
    lines: list[Line] = [*_left_out(found)] or ([] if compared else [NOTHING_FINISHED])
    return Section(
        "against", "What reproduced, compared with " + code(name), [*blocks, *([Bullets(lines)] if lines else [])]
    )


def to_terminal(found: list[Replication], name: str) -> str:
    """One table of all grids, and lines on what cannot be compared."""
    compared = [each for each in found if each.results]
    lines = [f"what reproduced, compared with {name}:"]
    if compared:
        rows = [[each.grid.name, *row] for each in compared for row in _rows(each)]
        lines.append(str_table(table(("grid", *HEADER), rows, 3)))
    lines += [f"{each.grid.name} ({each.grid.dataset}): {_counts(each.results)}" for each in compared]
    lines += _left_out(found) or ([] if compared else [NOTHING_FINISHED])
    return "\n".join(lines)


def _counts(results: list[Result]) -> str:
    """'5 of 14 results REPRODUCED, 9 INCONCLUSIVE; significant gaps (p < 0.05): 1 of 14'."""
    counts, total = Counter(result.verdict for result in results), len(results)
    parts = [f"{counts[verdict.REPRODUCED]} of {plural('result', total)} {verdict.REPRODUCED}"]
    parts += [f"{counts[each]} {each}" for each in VERDICTS[1:] if counts[each]]
    known = [result for result in results if result.is_significant is not None]
    significant = sum(bool(result.is_significant) for result in known)
    contained = [result.is_within for result in results if result.is_within is not None]
    parts.append(f"within the printed intervals: {sum(contained)} of {len(contained)}")
    return f"{', '.join(parts)}; significant gaps (p < 0.05): {significant} of {len(known)}"


def _left_out(found: list[Replication]) -> list[str]:
    return [
        f"{each.grid.name} ({each.grid.dataset}): {'' if each.results else 'not compared: '}{reason}"
        for each in found
        for reason in each.left_out
    ]


def _rows(replication: Replication) -> Iterator[Row]:
    """One row per result."""
    for result in replication.results:
        runs, is_signed = replication.ours.paths(*result.arms), len(result.arms) > 1
        half = result.decision.half_width if result.decision else None
        limits = (None, None) if half is None else (result.gap - half, result.gap + half)
        here, there = (
            Number(each.mean, name, is_signed=is_signed, more={"n": each.n}, note=f" ({each.n})")
            for name, each in (("here", result.ours), ("there", result.theirs))
        )
        gap = Number(result.gap, "gap", is_signed=True, low=limits[0], high=limits[1])
        what: Line = " minus ".join(result.arms)
        within = {True: "yes", False: "no", None: NOTHING}[result.is_within]
        margin = Number(result.margin, digits=1)
        yield [what, result.metric, TableCell(here, runs), there, margin, TableCell(gap, runs), within, result.text]
