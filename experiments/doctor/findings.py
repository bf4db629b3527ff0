"""A finding of action=doctor, and those on weights: which runs start from, and which are evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dynamic_rcnn.run.files import file_digest, named_digest
from experiments.config.grid import Grid

OK, NOTE, BAD, DOING = "ok", "note", "BAD", "..."  # DOING: no result yet
_FETCH = "(python -m dynamic_rcnn.tools.fetch only=resnet50,resnet101 does for torchvision's)"


@dataclass(frozen=True)
class Finding:
    """One line: how serious it is (`level`), what was checked, and the result."""

    level: str
    what: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<5} {self.what}: {self.text}"


def check_pretrained_weights(weights: dict[str, dict[str, str] | None]) -> Iterator[Finding]:
    """Yield a finding for each file of ImageNet weights. weights: url and file of each arm's, or None."""
    files = {each["file"]: each["url"] for each in weights.values() if each is not None}
    for file, url in files.items():
        arms = [arm for arm, each in weights.items() if each is not None and each["file"] == file]
        what = "pretrained weights" if len(files) == 1 else f"pretrained weights of {', '.join(arms)}"
        yield _check_file(what, Path(file), url)


def _check_file(what: str, path: Path, url: str) -> Finding:
    if not path.is_file():
        advice = f"download {url} {_FETCH}" if url else "give its path in base.model.backbone.init_cfg.checkpoint"
        return Finding(BAD, what, f"{path}: no such file; {advice} (jobs may have no internet access)")
    named, actual = named_digest(path), file_digest(path)
    if named is None:
        return Finding(NOTE, what, f"{path}: sha256 {actual[:8]}; not checked, because its name has no digest")
    if actual.startswith(named):
        return Finding(OK, what, f"{path}: its sha256 matches its name")
    text = f"{path}: sha256 {actual[:8]}, unlike its name; delete it and download {url} again {_FETCH}"
    return Finding(BAD, what, text)


def check_evaluated_weights(path: Path, fault: str | None) -> Finding:
    """Check the weights to evaluate. fault: why they do not fit the model, if so. Their sha256 was checked before."""
    if fault:
        return Finding(BAD, "weights", f"{fault}; choose the base= that they were trained with, or other weights")
    if named_digest(path) is None:
        return Finding(NOTE, "weights", f"{path}: fits the model; sha256 not checked, because its name has no digest")
    return Finding(OK, "weights", f"{path}: fits the model; its sha256 matches its name")


def check_paper_weights(grid: Grid) -> Iterator[Finding]:
    """Yield a note if the paper's numbers belong to other weights than those to evaluate."""
    wanted, init = grid.paper.weights if grid.paper else None, grid.runs[0].init or {}
    if wanted and grid.dataset == "coco" and not init["sha256"].startswith(wanted):
        text = f"the published numbers belong to other weights (sha256 {wanted}): NOT COMPARABLE with them"
        yield Finding(NOTE, "weights", text)
