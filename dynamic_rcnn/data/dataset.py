"""The data set of a run: its description in a RunSpec, and the checked folder on this machine. Torch-free.

`spec.dataset` has the fields name, root, classes, fingerprint and the paths train_ann, val_ann, train_img and val_img,
relative to the root; for shapes also the recipe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dynamic_rcnn import PROJECT
from dynamic_rcnn.data import coco_format
from dynamic_rcnn.data.shapes import CLASSES, ShapesRecipe, ensure_shapes
from dynamic_rcnn.errors import UserError

PATHS = ("train_ann", "val_ann", "train_img", "val_img")
SHAPES_ROOT = PROJECT / "data" / "shapes"


def shapes(recipe: ShapesRecipe, root: str | None) -> dict[str, Any]:
    """Describe the shapes data set for a spec, without drawing it. root: None for data/shapes in the project."""
    return {
        "name": "shapes",
        "root": root,
        "recipe": recipe.to_dict(),
        "fingerprint": recipe.hash,
        "classes": list(CLASSES),
        "train_ann": "annotations/train.json",
        "val_ann": "annotations/val.json",
        "train_img": "train",
        "val_img": "val",
    }


def coco_format_dataset(root: Path, paths: dict[str, str]) -> dict[str, Any]:
    """Describe a data set in COCO format for a spec, without its name.

    Args:
        root: folder of the data set.
        paths: train_ann, val_ann, train_img and val_img, relative to root.

    Raises:
        UserError: an annotation file is missing or has no categories.
    """
    fingerprint = coco_format.fingerprint(root, paths["train_ann"], paths["val_ann"])
    classes = coco_format.read_classes(root / paths["val_ann"])
    return {"root": str(root), "fingerprint": fingerprint, "classes": list(classes), **paths}


def to_draw(dataset: dict[str, Any]) -> Path | None:
    """The folder that `prepare` will draw into, or None if nothing has to be drawn."""
    if "recipe" not in dataset:
        return None
    folder = _shapes_root(dataset) / ShapesRecipe.from_dict(dataset["recipe"]).hash
    return None if folder.exists() else folder


def check(dataset: dict[str, Any], training: bool = True, masks: bool = False) -> None:
    """Check everything before a run starts: draw and verify shapes, or read annotations and list images.

    Args:
        dataset: `dataset` of a spec.
        training: False for runs that do not train; the training images may be missing then.
        masks: whether the models have masks; shapes have them always.

    Raises:
        UserError: something is missing or breaks a rule.
    """
    if "recipe" in dataset:
        prepare(dataset)
    else:
        paths = {key: dataset[key] for key in PATHS}
        coco_format.validate(Path(dataset["root"]), **paths, training=training, masks=masks)


def prepare(dataset: dict[str, Any]) -> tuple[Path, str]:
    """Draw or verify the data on this machine.

    Returns:
        The folder to which the paths are relative, and the fingerprint of the content.

    Raises:
        UserError: the data are missing, damaged or have changed since the run was planned.
    """
    if "recipe" in dataset:
        return ensure_shapes(_shapes_root(dataset), ShapesRecipe.from_dict(dataset["recipe"]))
    root = Path(dataset["root"])
    found = coco_format.fingerprint(root, dataset["train_ann"], dataset["val_ann"])
    if found != dataset["fingerprint"]:
        raise UserError(
            f"{root}: the annotations have changed since this run was planned (fingerprint {found[:10]}, "
            f"planned {dataset['fingerprint'][:10]}); launch again for a new run"
        )
    return root, found


def _shapes_root(dataset: dict[str, Any]) -> Path:
    return Path(dataset["root"] or SHAPES_ROOT)
