"""Draw the picture on the front page: T, beta and AP by IoU threshold for each arm of the ablation.

    python docs/picture.py [out=docs/picture.svg]

The numbers come from the committed records in analysis/records. A digest of the numbers is stored in the file, so that
a test can check that the committed picture shows them.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from dynamic_rcnn import PROJECT, cli

if __name__ == "__main__":
    cli.prepare_process()

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from analysis.reading.run_table import collect
from analysis.stats.comparison import Comparison

RECORDS, GRID = PROJECT / "analysis/records", "ablation"
ARMS = {  # label, colour, line width and dashes: lines of different arms may coincide
    "baseline": ("baseline", "#000000", 2.4, "-"),
    "dla": ("DLA only", "#0072B2", 1.6, "-"),
    "dsl": ("DSL only", "#E69F00", 1.6, (0, (4, 2))),
    "both": ("DLA + DSL", "#D55E00", 1.6, (0, (4, 2))),
}
METRICS = {0.50: "AP50", 0.60: "AP60", 0.70: "AP70", 0.75: "AP75", 0.80: "AP80", 0.90: "AP90"}
STYLE = {
    "svg.hashsalt": "dynamic-rcnn",
    "font.family": "DejaVu Sans",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
}


def panels(folder: Path = RECORDS) -> dict[str, pd.DataFrame]:
    """Return the numbers of each panel: one column per arm, indexed by iteration or IoU threshold.

    T and beta are means over seeds. Differences in AP are the report's, estimated by least squares: the arms have
    different seeds, whose effects a difference of means would contain.
    """
    records = collect(folder)
    comparison = Comparison(records, records.choose_grids(GRID)[0])
    curves = comparison.averaged[["path", "arm"]].merge(records.curves, on="path")
    means = curves.groupby(["iteration", "arm"])[["T", "beta"]].mean()
    gains = {arm: [_gain(comparison, metric, arm) for metric in METRICS.values()] for arm in ARMS}
    tables = {
        "T": means["T"].unstack(),
        "beta": means["beta"].unstack(),
        "AP": pd.DataFrame(gains, index=list(METRICS)),
    }
    return {name: table[list(ARMS)] for name, table in tables.items()}


def _gain(comparison: Comparison, metric: str, arm: str) -> float:
    """AP of the arm minus that of the baseline, in points; NaN if it is not known."""
    if arm == comparison.grid.baseline:
        return 0.0
    found = comparison.difference(metric, arm)
    return found.value if found else math.nan


def draw(tables: dict[str, pd.DataFrame], out: Path) -> None:
    """Write the picture as SVG."""
    titles = {
        "T": ("IoU threshold T", "iteration"),
        "beta": ("beta of SmoothL1", "iteration"),
        "AP": ("AP minus baseline (points)", "IoU threshold of the evaluation"),
    }
    with rc_context(STYLE):
        fig = Figure(figsize=(11, 3.6))
        axes = fig.subplots(1, 3)
        for ax, (name, (title, xlabel)) in zip(axes, titles.items(), strict=True):
            for arm, (label, colour, width, dashes) in ARMS.items():
                line = tables[name][arm]
                ax.plot(line.index, line, label=label, color=colour, linewidth=width, linestyle=dashes)
            ax.set_title(title, loc="left", fontsize=11)
            ax.set_xlabel(xlabel)
        fig.legend(*axes[0].get_legend_handles_labels(), loc="upper center", ncols=4, frameon=False)
        fig.subplots_adjust(left=0.05, right=0.99, bottom=0.15, top=0.82)
        fig.savefig(out, metadata={"Date": None, "Identifier": f"numbers-{digest(tables)}"})
    out.write_text("\n".join(line.rstrip() for line in out.read_text().splitlines()) + "\n")


def digest(tables: dict[str, pd.DataFrame]) -> str:
    """Return a digest of the numbers that the picture shows."""
    return hashlib.sha256("".join(table.round(6).to_csv() for table in tables.values()).encode()).hexdigest()[:16]


def main(arguments: Sequence[str]) -> int:
    """Draw the picture. Returns exit code 0."""
    out = Path(cli.parse(arguments, {"out": str(PROJECT / "docs/picture.svg")})["out"])
    draw(panels(), out)
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, __doc__ or ""))
