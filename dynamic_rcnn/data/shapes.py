"""The `shapes` data set: drawn from a recipe on first use, in COCO format, with the same content on every machine.

`ensure_shapes(root, recipe)` draws into `root/<recipe hash>/` unless that exists. On every use it compares the content
(decoded pixels and annotations; file bytes depend on the PNG encoder) with the fingerprint taken after drawing. Module
`scene` draws the images.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from dynamic_rcnn.data.outlines import CATEGORY_IDS
from dynamic_rcnn.data.shapes_files import content_fingerprint, draw_files, read_json
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.schema import Schema, validate
from dynamic_rcnn.run.spec import digest
from dynamic_rcnn.run.values import between, value_rule

CLASSES: tuple[str, ...] = tuple(CATEGORY_IDS)
DRAWING_VERSION = 1  # increase with every change of a pixel, a box or a category

# Content by recipe hash. A different drawing was made by changed code or on a faulty machine.
KNOWN_FINGERPRINTS = {
    "28ae7ffd2e": "31d748e3160872f2c8b497bb571fa185cf6aa61ccda163ba257378d4a04d8f18",  # the default recipe
    "cc93c5dba1": "bb918ab75302ed293f83eafa3db8ce6eddf8e8acea01036d54d7a2c0cad906ad",  # dataset=shapes
}


class ShapesRecipe(Schema):
    """Everything that determines the content of the data set.

    test_images: 0 for a data set without a test split, whose results are those on the validation split.
    image_size: height and width in pixels.
    """

    seed: Annotated[int, between(0, 2**32 - 1)] = 0
    train_images: Annotated[int, between(1, 1_000_000)] = 2000
    val_images: Annotated[int, between(1, 1_000_000)] = 300
    test_images: Annotated[int, between(0, 1_000_000)] = 0
    image_size: Annotated[int, between(64, 1024)] = 160
    version: Annotated[
        int, value_rule(f"must be {DRAWING_VERSION}, the drawing of this code", lambda value: value == DRAWING_VERSION)
    ] = DRAWING_VERSION

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "dataset.recipe") -> ShapesRecipe:
        """A recipe with these fields and defaults for the others. Raises UserError that names all faults."""
        return validate(cls, dict(values), where)

    @property
    def hash(self) -> str:
        """The identity of the data set, ten hex digits; known before it is drawn."""
        return digest(self.content)

    @property
    def content(self) -> dict[str, Any]:
        """The fields, without a test split that is absent, as in recipes of the first versions."""
        return self.model_dump(exclude=None if self.test_images else {"test_images"})


class DrawnShapes(NamedTuple):
    """A drawn and verified data set: its folder (absolute) and the sha256 of its content."""

    root: Path
    fingerprint: str


def ensure_shapes(root: Path, recipe: ShapesRecipe) -> DrawnShapes:
    """Draw the data set of `recipe` below `root` if it does not exist, and verify its content.

    Two processes may call this at once: both draw, and both use the drawing that is finished first.

    Raises:
        UserError: the folder cannot be written, or its content is not what was drawn.
    """
    folder = root.resolve() / recipe.hash
    try:
        if not folder.exists():
            _draw(folder, recipe)
    except OSError as error:
        raise UserError(f"{folder}: cannot draw the shapes data set: {error.strerror or error}") from error
    return DrawnShapes(folder, _checked_fingerprint(folder, recipe))


def _checked_fingerprint(folder: Path, recipe: ShapesRecipe) -> str:
    way_out = f"delete the folder {folder} and it will be drawn again"
    try:
        found = content_fingerprint(folder)
        record = read_json(folder / "dataset.json")
    except UserError as error:
        raise UserError(f"{error}; {way_out}") from error
    if record != {"recipe": recipe.content, "fingerprint": found}:
        raise UserError(f"{folder}: content is not what was drawn (now {found[:10]}); {way_out}")
    known = KNOWN_FINGERPRINTS.get(recipe.hash, found)
    if known != found:
        raise UserError(f"{folder}: fingerprint is {found[:10]}, this recipe's is {known[:10]}; {way_out}")
    return found


def _draw(folder: Path, recipe: ShapesRecipe) -> None:
    """Draw in a temporary folder and rename it, so that the folder is complete or absent."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        counts = [recipe.train_images, recipe.val_images, *filter(None, [recipe.test_images])]
        draw_files(temporary, recipe.seed, recipe.image_size, counts)
        record = {"recipe": recipe.content, "fingerprint": content_fingerprint(temporary)}
        (temporary / "dataset.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        temporary.chmod(0o755)  # mkdtemp makes it private
        temporary.rename(folder)
    except OSError:
        if not folder.exists():  # if it exists, another process was first
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove unfinished drawings of processes that were killed more than a day ago."""
    for path in folder.parent.glob(f".{folder.name}-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > 24 * 3600:
                shutil.rmtree(path)
