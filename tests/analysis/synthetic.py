"""Small run folders for the tests of `analysis`: the test chooses the numbers, everything else is made up."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis import report
from analysis.reading.run_table import collect
from analysis.rendering.markdown import to_markdown
from analysis.rendering.model import Page
from analysis.sections.page import build
from dynamic_rcnn.metrics.names import BOX_METRICS, IOU_THRESHOLDS
from dynamic_rcnn.run.spec import RunSpec

SETTING = "0123456789"
ARMS = {"baseline": "neither", "dla": "DLA only", "dsl": "DSL only", "both": "DLA + DSL"}
PAPER = {
    "table": "Table 2",
    "source": "arXiv 2004.06002",
    "dataset": "COCO val2017, R-50-FPN",
    "rows": {
        "baseline": {"AP": 37.0, "AP50": 58.0, "AP60": 53.5, "AP70": 46.0, "AP80": 32.6, "AP90": 9.7},
        "dsl": {"AP": 38.0, "AP50": 57.6, "AP60": 53.5, "AP70": 46.7, "AP80": 34.4, "AP90": 13.2},
        "dla": {"AP": 38.2, "AP50": 57.5, "AP60": 53.6, "AP70": 47.1, "AP80": 35.2, "AP90": 12.6},
        "both": {"AP": 38.9, "AP50": 57.3, "AP60": 53.6, "AP70": 47.4, "AP80": 36.3, "AP90": 15.2},
    },
}
START = RunSpec("pretrain", 0, {"name": "shapes"}, {"of": "pretrain"}).id


def edit_json(path: Path, **changes: Any) -> None:
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | changes)


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def make_another_run(run: Path, **changes: Any) -> Path:
    """Change a run's spec and thus its id, and adapt its directory and the manifests."""
    root, spec = run.parents[2], replace(RunSpec.read(run), **changes)
    spec.write(run)
    moved = run.rename(spec.directory(root))
    for manifest in root.glob("*/*.grid.json"):
        manifest.write_text(manifest.read_text().replace(f'/{run.name}"', f'/{moved.name}"'))
    return moved


class RunsFolder:
    """Writes runs and manifests below `root`, as the launcher would. fields: of RunSpec, for all runs."""

    def __init__(self, root: Path, dataset: str = "shapes", fields: dict[str, Any] | None = None) -> None:
        self.root, self.dataset, self.fields = root, dataset, fields or {}
        self.cells: list[dict[str, Any]] = []

    def path(self, arm: str, seed: int) -> str:
        return self.spec(arm, seed).directory(Path()).as_posix()

    def spec(self, arm: str, seed: int) -> RunSpec:
        own = {"dataset": {"name": self.dataset}, "config": {"of": arm}, "init": {"run": START}}
        return RunSpec(arm, seed, **{**own, **self.fields})

    def ask(self, arm: str, seed: int) -> Path:
        """Add a run to the manifest that was never started."""
        self.cells.append({"arm": arm, "seed": seed, "path": self.path(arm, seed)})
        return self.root / self.path(arm, seed)

    def start(self, arm: str, seed: int, state: str, cause: str | None = None, iteration: int = 40) -> Path:
        """Write a run that was started. state: in its status."""
        run = self.ask(arm, seed)
        self._write(run, self.spec(arm, seed), state, cause, iteration)
        return run

    def done(self, arm: str, seed: int, ap: float, ap90: float | None = 0.1) -> Path:
        """Write a finished run with this AP and AP90 (fractions)."""
        run = self.start(arm, seed, "done", iteration=100)
        self._metrics(run, ap, ap90)
        return run

    def shared_start(self) -> Path:
        """Write the run that all others start from; no manifest names it."""
        spec = RunSpec("pretrain", 0, {"name": self.dataset}, {"of": "pretrain"})
        run = spec.directory(self.root)
        self._write(run, spec, "done", None, 100)
        self._metrics(run, 0.3, 0.05)
        return run

    def manifest(self, name: str = "ablation", **changes: Any) -> Path:
        """Write the manifest of all runs so far."""
        path = self.root / self.dataset / f"{name}-{SETTING}.grid.json"
        value = {
            "schema": 1,
            "grid": name,
            "title": "Which component does it?",
            "setting": SETTING,
            "dataset": self.dataset,
            "baseline": "baseline",
            "arms": ARMS,
            "seeds": sorted({cell["seed"] for cell in self.cells}),
            "runs": self.cells,
            "paper": PAPER,
        }
        write_json(path, value | changes)
        return path

    def _write(self, run: Path, spec: RunSpec, state: str, cause: str | None, iteration: int) -> None:
        spec.write(run)
        attempt = {"number": 1, "started": 1.0, "ended": 2.0, "from_iteration": 0, "to_iteration": iteration}
        status = {"schema": 1, "state": state, "iteration": iteration, "max_iterations": 100, "cause": cause}
        write_json(run / "status.json", {**status, "message": None, "heartbeat": 2.0, "attempts": [attempt]})
        provenance = {"schema": 1, "commit": "0123456789abcdef", "dirty": True, "device": "cpu", "code": "c0dec0dec0"}
        provenance |= {"versions": {"torch": "2.9.0"}, "init_sha256": spec.init and "5ha256c0" * 8}
        write_json(run / "provenance.json", provenance)
        rows = [json.dumps(curve_row(spec.arm, spec.seed, i)) for i in range(10, iteration + 1, 10)]
        (run / "train.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")

    def _metrics(self, run: Path, ap: float, ap90: float | None) -> None:
        metrics = dict.fromkeys(BOX_METRICS, 0.5) | {"AP": ap, "AP90": ap90, "ARs": None}
        by_iou = [max(0.0, ap + 0.2 - 0.06 * step) for step in range(len(IOU_THRESHOLDS))]
        value = {
            "schema": 1,
            "iteration": 100,
            "split": "val",
            "images": 5000 if self.dataset == "coco" else 30,
            "metrics": metrics,
            "by_iou": by_iou,
        }
        classes = {"circle": {"AP": ap, "AP50": 0.9, "AP75": 0.5, "AP90": ap90}}
        write_json(run / "metrics.json", value | {"per_class": classes})
        (run / "detections.json.gz").write_bytes(gzip.compress(b"[]", mtime=0))


def curve_row(arm: str, seed: int, iteration: int) -> dict[str, Any]:
    """A logged iteration: T rises and beta falls in the arms that move them."""
    moves_t, moves_beta = arm in ("dla", "both"), arm in ("dsl", "both")
    wave = ((iteration * 7919 + seed * 104729) % 100) / 1000
    names = ("loss_cls", "loss_bbox", "loss_rpn_cls", "loss_rpn_bbox")
    losses = {name: (1 + k) / 10 + 5 / iteration + wave for k, name in enumerate(names)}
    return {
        "iteration": iteration,
        "loss": sum(losses.values()),
        **losses,
        "acc": 90.0,
        "lr": 0.02,
        "T": 0.4 + 0.002 * iteration + wave / 10 if moves_t else 0.5,
        "beta": max(0.1, 1.0 - 0.01 * iteration + wave) if moves_beta else 1.0,
        "iou_statistic": 0.5,
        "error_statistic": None,
        "positives": 12.0 + 10 * wave,
        "proposals_50": 30.0,
        "proposals_60": 20.0,
        "proposals_70": 10.0,
        "iou_histogram": [100, *[10] * 18, 5],
        "target_histogram": [12, *[iteration // 10] * 28, 3],
        "seconds": 0.25,
    }


def ablation(root: Path) -> RunsFolder:
    """Four arms, three seeds, one start. AP in percent: baseline 40 41 42, dla 41 42 43, dsl 40 41 42, both 51 50 52.

    The sd within an arm is 1, within a block 0.5 on 6 df: `both` is off by 3/4, -3/4, 0, the others by -1/4, 1/4, 0.
    """
    folder = RunsFolder(root)
    folder.shared_start()
    for arm, first in (("baseline", 40), ("dla", 41), ("dsl", 40), ("both", 50)):
        for seed in range(3):
            rank = (1, 0, 2)[seed] if arm == "both" else seed
            folder.done(arm, seed, (first + rank) / 100, ap90=(first - 30 + 2 * rank) / 100)
    folder.manifest()
    return folder


def uneven(root: Path, **changes: Any) -> RunsFolder:
    """Seeds 0, 1, 2 of baseline (AP and AP90 40, 41, 48) and both, seed 0 of dla, 0 and 1 of dsl.

    The effects of arms add to those of seeds: dla +1, dsl +2, both +4. The means are 43, 41, 42.5 and 47.
    """
    folder = RunsFolder(root)
    for arm, gain, seeds in (("baseline", 0, 3), ("dla", 1, 1), ("dsl", 2, 2), ("both", 4, 3)):
        for seed in range(seeds):
            ap = ((40, 41, 48)[seed] + gain) / 100
            folder.done(arm, seed, ap, ap90=ap)
    folder.manifest(**changes)
    return folder


def markdown(runs: Path) -> str:
    """The pages of the report as Markdown, one after the other, without its files."""
    return all_pages(build(collect(runs)))


def all_pages(page: Page) -> str:
    return "\n".join(to_markdown(page, "REPORT.md", "REPORT_files").values())


def row_of(text: str, heading: str, start: str) -> list[str]:
    """The cells of the first table row below `heading` that begins with `start`."""
    lines = text[text.index(heading) :].splitlines()
    return [cell.strip() for cell in next(line for line in lines if line.startswith(f"| {start}")).split("|")[1:-1]]


def write_report(runs: Path, out: Path) -> str:
    """The Markdown that the command writes."""
    assert report.main([f"runs={runs}", f"out={out}"]) == 0
    return read_report(out)


def panels_of_page(page: str) -> list[dict[str, Any]]:
    """The panels of the figures of report.html, unpacked as the page's script does."""
    packed = re.findall(r'<script type="text/plain" id="[^"]+">([^<]+)</script>', page)
    return [panel for each in packed for panel in json.loads(gzip.decompress(b64decode(each)))["panels"]]


def read_report(out: Path) -> str:
    """All pages of a report, one after the other."""
    return "\n".join(path.read_text("utf-8") for path in (out, *sorted(report.figure_folder(out).glob("*.md"))))
