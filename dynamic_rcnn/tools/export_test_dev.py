"""A run's detections on images without annotations, for COCO's server, which alone can score test-dev:

    python -m dynamic_rcnn.tools.export_test_dev RUN_DIR INFO images=FOLDER out=detections_test-dev2017_NAME_results.zip

RUN_DIR  a run that is done: its weights, or those that it evaluated, are loaded
INFO     a file with images and categories and no annotations, as COCO's image_info_test-dev2017.json
images   the folder of those images (test2017)
out      *.zip: the archive that the server takes, with one file of this name and .json in it; *.json: that file alone

The file has COCO's results format: image_id, category_id, bbox (x, y, width, height in pixels of the original image),
score. It is written whole or not at all; after an interruption it starts over. No score of it can be had here: the
annotations of test-dev are not public. Exit codes: 0 written, 2 bad input.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dynamic_rcnn.data.coco_format import check_image_info
from dynamic_rcnn.engine import build, checkpoint
from dynamic_rcnn.engine import setup as start
from dynamic_rcnn.engine.evaluation_run import load_given
from dynamic_rcnn.engine.inference import predict
from dynamic_rcnn.errors import UserError, unknown_name
from dynamic_rcnn.metrics.ap import results_json
from dynamic_rcnn.run.files import METRICS, WEIGHTS, write_bytes_atomic
from dynamic_rcnn.run.spec import BENCHMARK, EVALUATE, RunSpec

USAGE = "usage: python -m dynamic_rcnn.tools.export_test_dev RUN_DIR INFO images=FOLDER out=FILE.zip (or FILE.json)"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the archive's bytes depend on the detections alone


def submit(run_dir: Path, info: Path, images: Path, out: Path) -> int:
    """Write `out`. Returns the number of detections. Raises UserError before anything is loaded where it can."""
    if out.suffix not in (".zip", ".json"):
        raise UserError(f"out={out}: must end in .zip, the archive that the server takes, or in .json")
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"out={out}: must be a file in a folder that exists")
    spec = RunSpec.read(run_dir)
    if spec.task == BENCHMARK:
        raise UserError(f"{run_dir}: is a run that times its arms; give one that trained or evaluated a model")
    if not (run_dir / METRICS).exists():
        raise UserError(f"{run_dir}: is not done (it has no {METRICS}); launch its grid again, then write this")
    check_image_info(info, images, spec.dataset["classes"])
    model = build.build_model(spec, initialise=False)
    if spec.task == EVALUATE:
        load_given(model, spec)
    else:
        checkpoint.load_weights(model, run_dir / WEIGHTS)
    place = {"val_ann": str(info.absolute()), "val_img": str(images.absolute())}
    dataset = build.build_dataset(replace(spec, dataset={**spec.dataset, **place}), "val", Path())
    detections = predict(model.to(start.device()), dataset, spec.config["train"]["workers"])
    assert detections is not None  # one process
    content = results_json(detections)
    write_bytes_atomic(out, content if out.suffix == ".json" else _zipped(f"{out.stem}.json", content))
    return len(detections)


def _zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def main(arguments: Sequence[str]) -> int:
    """Exit code 0. Raises UserError for bad input."""
    pairs = [argument.split("=", 1) for argument in arguments[2:]]
    settings = {pair[0]: pair[-1] for pair in pairs if len(pair) == 2}
    unknown = [name for name in settings if name not in ("images", "out")]
    if unknown:
        raise unknown_name("argument", unknown, ("images", "out"))
    if len(arguments) != 4 or len(settings) != 2 or not all(settings.values()):
        raise UserError(USAGE)
    run_dir, info, images, out = map(Path, (*arguments[:2], settings["images"], settings["out"]))
    count = submit(run_dir, info, images, out)
    print(f"{out}: {count} detections; only COCO's server can score them")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(f"submission: {error}", file=sys.stderr)
        sys.exit(2)
