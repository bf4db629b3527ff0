"""The file of a run's detections: COCO results as gzipped JSON. Torch-free."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics import masks
from dynamic_rcnn.run.files import parse_json, write_bytes_atomic

Detection = dict[str, Any]

_AGAIN = "move the run's directory away and launch the run again"


def write_detections(path: Path, detections: Iterable[Mapping[str, Any]]) -> None:
    """Write COCO results as gzipped JSON, atomically; equal detections give equal bytes.

    Boxes and scores are rounded to float32, the precision of the models, and written with the fewest digits.

    Raises:
        UserError: a box or a score is not finite.
        OSError: the file cannot be written.
    """
    # mtime=0 and no file name in the header, so that the bytes depend only on the content
    write_bytes_atomic(path, gzip.compress(results_json(detections, path), compresslevel=6, mtime=0))


def results_json(detections: Iterable[Mapping[str, Any]], path: Path) -> bytes:
    """Detections as JSON. Raises UserError, which names the file `path`, if a box or a score is not finite."""
    rows = [_row(item) for item in detections]
    check_finite(rows, f"{path}: ")
    return json.dumps(rows, separators=(",", ":"), allow_nan=False).encode()


def read_detections(path: Path) -> list[Detection]:
    """Read a file written by `write_detections`.

    Raises:
        UserError: the file is missing, truncated, or contains anything else.
    """
    try:
        text = gzip.decompress(path.read_bytes()).decode()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise UserError(f"{path}: broken or cut off; {_AGAIN}") from error
    try:
        rows = parse_json(text)
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); {_AGAIN}") from error
    if not isinstance(rows, list) or not all(_is_detection(row) for row in rows):
        raise UserError(
            f"{path}: not detections; it must be a list of image_id, category_id, bbox (4 numbers) and score"
        )
    check_finite(rows, f"{path}: ")
    return rows


def check_finite(detections: Iterable[Mapping[str, Any]], where: str = "detections: ") -> None:
    """Raise UserError for the first detection whose score or box is not finite. where: what the message starts with."""
    for item in detections:
        if not all(map(math.isfinite, (item["score"], *item["bbox"]))):
            is_score = not math.isfinite(item["score"])
            fault = f"score is {item['score']}" if is_score else f"bbox is {list(item['bbox'])}"
            raise UserError(f"{where}image {item['image_id']}: {fault}; scores and boxes must be finite numbers")


def _row(item: Mapping[str, Any]) -> Detection:
    return {
        "image_id": int(item["image_id"]),
        "category_id": int(item["category_id"]),
        "bbox": [_shortest(value) for value in item["bbox"]],
        "score": _shortest(item["score"]),
        **({"segmentation": dict(item["segmentation"])} if "segmentation" in item else {}),
    }


def _shortest(value: Any) -> float:
    """The float with the fewest digits that rounds to the same float32."""
    return float(str(np.float32(value)))


def _is_detection(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and type(row.get("image_id")) is int  # a bool is an int too
        and type(row.get("category_id")) is int
        and type(row.get("score")) in (int, float)
        and isinstance(row.get("bbox"), list)
        and len(row["bbox"]) == 4
        and all(type(value) in (int, float) for value in row["bbox"])
        and ("segmentation" not in row or masks.is_mask(row["segmentation"]))
    )
