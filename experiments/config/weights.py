"""weights=FILE: the weights that a grid with `task: evaluate` evaluates, checked against the digest in their name."""

from __future__ import annotations

from pathlib import Path

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import file_digest, named_digest
from dynamic_rcnn.run.spec import EVALUATE
from experiments.config.schema import Settings

EXAMPLE = "weights=/data/dynamic_rcnn_r50_fpn_1x-62a3f276.pth"


def resolve_weights(settings: Settings, grid: str) -> tuple[dict[str, str] | None, str | None]:
    """Read the file of weights, if the grid's runs evaluate one.

    OpenMMLab's file names end in the first 8 hex digits of the file's sha256.

    Args:
        settings: the checked settings.
        grid: the name of the grid file.

    Returns:
        {file, sha256}, what such a run starts from, and a line about the file; None, None for other grids.

    Raises:
        UserError: the file is missing, cannot be read, or has another digest than its name.
    """
    given = settings.weights
    if settings.task != EVALUATE:
        return None, None
    if not given:
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
            f"weights={given}: its sha256 begins with {found[:8]}, its name has {named}: damaged or incomplete; "
            "get it again (or rename it, if these digits are not a digest)"
        )
    checked = "as in its name" if named else "not checked, since its name has no digest"
    return {"file": str(path), "sha256": found}, f"weights={path.name}: sha256 {found[:8]}, {checked}"
