"""What action=doctor says of weights: those that runs start from, and those that are evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dynamic_rcnn.run.digest import file_digest, named_digest
from experiments.config.grid import Grid
from experiments.doctor.findings import BAD, NOTE, OK, Finding


def weights_of_arms(weights: dict[str, dict[str, str] | None]) -> Iterator[Finding]:
    """The ImageNet weights that arms start from, a finding a file. weights: by arm."""
    known = {each["file"]: each for each in weights.values() if each is not None}
    for file, found in known.items():
        arms = [arm for arm, each in weights.items() if each is not None and each["file"] == file]
        yield _weights(found, "" if len(known) == 1 else f" of {', '.join(arms)}")


def _weights(weights: dict[str, str], whose: str) -> Finding:
    what = f"pretrained weights{whose}"
    path, url = Path(weights["file"]), weights["url"]
    if not path.is_file():
        way = (
            f"python -m dynamic_rcnn.tools.fetch brings {url}"
            if url
            else "give its absolute path in base.model.backbone.init_cfg.checkpoint"
        )
        return Finding(BAD, what, f"{path}: no such file; {way} (jobs may have no way to the web)")
    named, found = named_digest(path), file_digest(path)
    if named is None:
        return Finding(NOTE, what, f"{path}: sha256 {found[:8]}; its name says nothing to compare with")
    if found.startswith(named):
        return Finding(OK, what, f"{path}: sha256 as its name says")
    return Finding(
        BAD, what, f"{path}: sha256 is {found[:8]}; delete it and get {url} again: python -m dynamic_rcnn.tools.fetch"
    )


def given_weights(path: Path, fault: str | None) -> Finding:
    """The weights that are evaluated; a file that is not what its name says has been refused before."""
    if fault:
        return Finding(BAD, "weights", f"{fault}; choose the base= that they were trained with, or other weights")
    if named_digest(path) is None:
        return Finding(NOTE, "weights", f"{path}: fit the model; their name says no digest to compare with")
    return Finding(OK, "weights", f"{path}: fit the model, sha256 as their name says")


def other_weights(grid: Grid) -> Iterator[Finding]:
    """Whether the printed numbers are of other weights than those that are evaluated."""
    wanted, init = (grid.paper or {}).get("weights"), grid.runs[0].init or {}
    if wanted and grid.dataset == "coco" and not init["sha256"].startswith(wanted):
        text = f"the printed numbers are of other ones (sha256 {wanted}): NOT COMPARABLE with them"
        yield Finding(NOTE, "weights", text)
