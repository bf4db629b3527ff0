"""What a run's train.jsonl says about its positives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dynamic_rcnn.run.files import TRAIN_LOG, read_jsonl
from dynamic_rcnn.run.spec import RunSpec

MOST = 0.5  # the share of logged iterations from which positives at the limit are worth a note
_NEARLY = 0.95  # of the limit: in some iterations one of several images has fewer positives


def logged_rows(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of a run's train.jsonl; [] without one."""
    return read_jsonl(run_dir / TRAIN_LOG) if (run_dir / TRAIN_LOG).exists() else []


def positives_limit(spec: RunSpec) -> int | None:
    """The largest number of positives per image that the sampler takes; None if the head has no such limit."""
    rcnn = spec.config["model"].get("train_cfg", {}).get("rcnn")
    first = rcnn["stages"][0] if isinstance(rcnn, dict) and "stages" in rcnn else rcnn  # of Cascade R-CNN
    sampler = first.get("sampler", {}) if isinstance(first, dict) else {}
    return int(sampler["num"] * sampler["pos_fraction"]) if {"num", "pos_fraction"} <= sampler.keys() else None


def at_limit(rows: Sequence[Mapping[str, Any]], limit: int) -> float:
    """The share of logged iterations whose positives per image are at the sampler's limit."""
    counts = [row["positives"] for row in rows if row.get("positives") is not None]
    return sum(count >= _NEARLY * limit for count in counts) / len(counts) if counts else 0.0


def limit_text(limit: int, share: float) -> str:
    """That the positives are at the limit in this share of iterations, and what to do about it."""
    return (
        f"positives are at the sampler's limit of {limit} per image in {share:.0%} of the logged iterations, so T "
        "changes which proposals are sampled but not how many; a larger sampler.num or pos_fraction shows more of DLA"
    )
