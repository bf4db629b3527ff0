"""weights=FILE: the weights that a grid with `task: evaluate` evaluates, and whether they are what their name says."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.digest import file_digest, named_digest
from dynamic_rcnn.run.spec import EVALUATE
from experiments.config.schema import checked_task

EXAMPLE = "weights=/data/dynamic_rcnn_r50_fpn_1x-62a3f276.pth"


def evaluates(config: DictConfig) -> bool:
    """Whether the grid's runs evaluate weights from a file. Raises UserError for an unknown task."""
    return checked_task(config.grid) == EVALUATE


def settle_weights(config: DictConfig) -> list[str]:
    """Check `config.weights`, and make it {file, sha256}, what such a run starts from. Returns a line on the file.

    OpenMMLab's names end in the first 8 hex digits of the file's sha256. Raises UserError where they are others, for a
    file that is missing, and for a grid that takes none.
    """
    given, grid = config.weights, config.choices.grid
    if not evaluates(config):
        if given is not None:
            raise UserError(
                f"weights={given}: grid={grid} trains its runs; only a grid with task: evaluate takes weights"
            )
        return []
    if not isinstance(given, str) or not given:
        raise UserError(f"weights={given}: grid={grid} evaluates a file of weights; give its path, e.g. {EXAMPLE}")
    path = Path(given).expanduser().absolute()
    if not path.is_file():
        fault = "a directory or a device, not a file" if path.exists() else "no such file"
        raise UserError(f"weights={given}: {fault}; give the path of a file of weights, e.g. {EXAMPLE}")
    try:
        found, named = file_digest(path), named_digest(path)
    except OSError as error:
        raise UserError(f"weights={given}: cannot be read ({error.strerror})") from None
    if named is not None and not found.startswith(named):
        raise UserError(
            f"weights={given}: its sha256 begins with {found[:8]}, its name says {named}: damaged, or not complete; "
            "get it again (or rename it, if these digits are no digest)"
        )
    config.weights = {"file": str(path), "sha256": found}
    said = "as its name says" if named else "not checked, for its name says none"
    return [f"weights={path.name}: sha256 {found[:8]}, {said}"]
