"""The data set of a run: its description in a RunSpec, and the checked folder on this machine. Torch-free.

`spec.dataset` has the fields name, root, classes, fingerprint and the paths train_ann, val_ann, train_img and val_img,
relative to the root; for shapes also the recipe, for other data train_fingerprint, the digest of the training
annotations alone; stage, if data are copied to the node (see `stage`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from dynamic_rcnn import PROJECT
from dynamic_rcnn.data import coco_format
from dynamic_rcnn.data.annotations import read_classes
from dynamic_rcnn.data.shapes import CLASSES, ShapesRecipe, ensure_shapes
from dynamic_rcnn.data.shapes_files import content_fingerprint
from dynamic_rcnn.errors import UserError

PATHS = ("train_ann", "val_ann", "train_img", "val_img")
SHAPES_ROOT = PROJECT / "data" / "shapes"


def shapes(recipe: ShapesRecipe, root: str | None) -> dict[str, Any]:
    """Describe the shapes data set for a spec, without drawing it. root: None for data/shapes in the project.

    Runs are evaluated on its test split; without one, on its validation split.
    """
    evaluated = "test" if recipe.test_images else "val"
    return {
        "name": "shapes",
        "root": root,
        "recipe": recipe.content,
        "fingerprint": recipe.hash,
        "classes": list(CLASSES),
        "train_ann": "annotations/train.json",
        "val_ann": f"annotations/{evaluated}.json",
        "train_img": "train",
        "val_img": evaluated,
    }


def evaluated_split(dataset: dict[str, Any]) -> str:
    """The name of the split on which runs are evaluated, of `dataset` of a spec: val or test."""
    return "test" if dataset.get("recipe", {}).get("test_images") else "val"


def coco_format_dataset(root: Path, paths: dict[str, str]) -> dict[str, Any]:
    """Describe a data set in COCO format for a spec, without its name.

    Args:
        root: folder of the data set.
        paths: train_ann, val_ann, train_img and val_img, relative to root.

    Raises:
        UserError: an annotation file is missing or has no categories.
    """
    digests = coco_format.fingerprint(root, paths["train_ann"], paths["val_ann"])
    classes = read_classes(root / paths["val_ann"])
    fingerprints = {"fingerprint": digests.both, "train_fingerprint": digests.train}
    return {"root": str(root), **fingerprints, "classes": list(classes), **paths}


def to_draw(dataset: dict[str, Any]) -> Path | None:
    """The folder that `prepare` will draw into, or None if nothing has to be drawn."""
    if "recipe" not in dataset:
        return None
    folder = _shapes_root(dataset) / ShapesRecipe.from_dict(dataset["recipe"]).hash
    return None if folder.exists() else folder


def check(dataset: dict[str, Any], training: bool = True, masks: bool = False, min_size: float = 0) -> list[str]:
    """Check everything before a run starts: draw and verify shapes, or read annotations and list images.

    Args:
        dataset: `dataset` of a spec.
        training: False for runs that do not train; the training images may be missing then.
        masks: whether the models have masks; shapes always have them.
        min_size: training leaves out images whose shorter side is smaller.

    Returns:
        Notes for the user, on boxes that are not used and on images that both splits have.

    Raises:
        UserError: something is missing or breaks a rule.
    """
    if "recipe" in dataset:
        prepare(dataset)
        return []
    paths = {key: dataset[key] for key in PATHS}
    return coco_format.validate(Path(dataset["root"]), **paths, training=training, masks=masks, min_size=min_size)


class PreparedData(NamedTuple):
    """The folder to which the paths are relative, and the fingerprint of the content."""

    root: Path
    fingerprint: str


def prepare(dataset: dict[str, Any]) -> PreparedData:
    """Draw or verify the data on this machine.

    Raises:
        UserError: the data are missing, damaged or have changed since the run was planned.
    """
    found, way_out = find(dataset)
    if found.fingerprint != dataset["fingerprint"] and "recipe" not in dataset:
        raise UserError(f"{found.root}: {way_out}")
    return found


def find(dataset: dict[str, Any]) -> tuple[PreparedData, str | None]:
    """Like `prepare`, but annotations may have changed. Returns what was found, and a line on what has changed."""
    if "recipe" in dataset:
        return PreparedData(*ensure_shapes(_shapes_root(dataset), ShapesRecipe.from_dict(dataset["recipe"]))), None
    root = Path(dataset["root"])
    digests = coco_format.fingerprint(root, dataset["train_ann"], dataset["val_ann"])
    found = PreparedData(root, digests.both)
    if digests.both == dataset["fingerprint"]:
        return found, None
    only_val = digests.train == dataset.get("train_fingerprint")
    what = f"the {'validation ' if only_val else ''}annotations have changed since this run was planned"
    again = "only the evaluation is repeated, if the training is complete" if only_val else "this makes a new run"
    planned = f"fingerprint {digests.both[:10]}, planned {dataset['fingerprint'][:10]}"
    return found, f"{what} ({planned}); launch again: {again}"


def content_digest(root: Path, dataset: dict[str, Any]) -> str:
    """The fingerprint of the data in `root`. Raises UserError if a file is missing or damaged."""
    if "recipe" in dataset:
        return content_fingerprint(root)
    return coco_format.fingerprint(root, dataset["train_ann"], dataset["val_ann"]).both


def _shapes_root(dataset: dict[str, Any]) -> Path:
    return Path(dataset["root"] or SHAPES_ROOT)
