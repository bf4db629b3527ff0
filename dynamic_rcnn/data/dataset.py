"""The data set of a run: what a RunSpec says of it, and the checked folder on this machine.

`spec.dataset` holds name, root, classes, fingerprint and the paths train_ann, val_ann, train_img, val_img below the
root; for shapes also the recipe. Torch-free.
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
    """The `dataset` of a spec for generated shapes; nothing is drawn yet. root None: data/shapes in the project."""
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
    """The `dataset` of a spec for a data set in COCO format, but for its name; only the categories are parsed.

    paths: train_ann, val_ann, train_img and val_img, relative to root. Raises UserError for what is missing.
    """
    fingerprint = coco_format.fingerprint(root, paths["train_ann"], paths["val_ann"])
    classes = coco_format.read_classes(root / paths["val_ann"])
    return {"root": str(root), "fingerprint": fingerprint, "classes": list(classes), **paths}


def to_draw(dataset: dict[str, Any]) -> Path | None:
    """The folder that `prepare` will draw into; None where nothing has to be drawn."""
    if "recipe" not in dataset:
        return None
    folder = _shapes_root(dataset) / ShapesRecipe.from_dict(dataset["recipe"]).hash
    return None if folder.exists() else folder


def check(dataset: dict[str, Any], training: bool = True, masks: bool = False) -> None:
    """Look at everything before a run is started: draw and compare shapes, read annotations and list images.

    training: false for runs that train nothing; images to train on need not be there. masks: whether models learn or
    predict masks, which shapes have.
    Raises UserError where something is missing or breaks a rule.
    """
    if "recipe" in dataset:
        prepare(dataset)
    else:
        paths = {key: dataset[key] for key in PATHS}
        coco_format.validate(Path(dataset["root"]), **paths, training=training, masks=masks)


def prepare(dataset: dict[str, Any]) -> tuple[Path, str]:
    """Draw or check the data on this machine. Returns the root of its paths and the content's fingerprint.

    Raises UserError where the data are missing, damaged or not those that the run was planned with.
    """
    if "recipe" in dataset:
        drawn = ensure_shapes(_shapes_root(dataset), ShapesRecipe.from_dict(dataset["recipe"]))
        return drawn.root, drawn.fingerprint
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
