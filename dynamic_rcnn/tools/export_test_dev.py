"""Write a run's detections on images without annotations, for COCO's evaluation server.

    python -m dynamic_rcnn.tools.export_test_dev RUN_DIR INFO images=FOLDER out=detections_test-dev2017_NAME_results.zip

RUN_DIR  a finished run: its final weights, or those that it evaluated, are used
INFO     a file with images and categories but no annotations, such as COCO's image_info_test-dev2017.json
images   the folder of those images (test2017)
out      *.zip: the archive that the server expects, with a JSON file of the same name in it; *.json: only that file

The JSON file has COCO's results format: image_id, category_id, bbox (x, y, width, height in pixels of the original
image), score. An interrupted export starts over. Only the server can score the detections, because the annotations of
test-dev are not public. Exit codes: 0 written, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dynamic_rcnn import cli

if __name__ == "__main__":
    cli.prepare_process()

from dynamic_rcnn.data.coco_format import check_image_info
from dynamic_rcnn.data.image_check import check_images
from dynamic_rcnn.engine import build, checkpoint, start
from dynamic_rcnn.engine.inference import predict
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.detections import results_json
from dynamic_rcnn.run.files import METRICS, WEIGHTS, write_bytes_atomic
from dynamic_rcnn.run.spec import BENCHMARK, EVALUATE, RunSpec

_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed time, so that equal detections give equal archives


def export(run_dir: Path, info: Path, images: Path, out: Path) -> int:
    """Write the run's detections on `images` to `out`.

    Args:
        run_dir: a finished run.
        info: the file that lists the images.
        images: their folder.
        out: *.zip or *.json.

    Returns:
        The number of detections.

    Raises:
        UserError: an argument does not fit, or an image does not decode. Raised before anything is predicted.
    """
    spec = _checked_spec(run_dir, info, images, out)
    model = build.build_model(spec, initialise=False)
    if spec.task == EVALUATE:
        start.load_evaluated_weights(model, spec, run_dir)
    else:
        checkpoint.load_weights(model, run_dir / WEIGHTS)
    paths = {"val_ann": str(info.absolute()), "val_img": str(images.absolute())}
    dataset = build.build_dataset(replace(spec, dataset={**spec.dataset, **paths}), "val", Path())
    detections = predict(model.to(start.select_device()), dataset, spec.config["train"]["workers"])
    assert detections is not None  # one process
    content = results_json(detections, out)
    write_bytes_atomic(out, content if out.suffix == ".json" else _zipped(f"{out.stem}.json", content))
    return len(detections)


def _checked_spec(run_dir: Path, info: Path, images: Path, out: Path) -> RunSpec:
    if out.suffix not in (".zip", ".json"):
        raise UserError(f"out={out}: must end in .zip, which the server expects, or in .json")
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"out={out}: must be a file in a folder that exists")
    spec = RunSpec.read(run_dir)
    if spec.task == BENCHMARK:
        raise UserError(f"{run_dir}: is a timing run; give a run that trained or evaluated a model")
    if not (run_dir / METRICS).exists():
        raise UserError(f"{run_dir}: is not done (it has no {METRICS}); launch its grid again first")
    check_image_info(info, images, spec.dataset["classes"])
    report = check_images(info, images, spec.config["data"]["test_pipeline"], every=True)
    if report.problems.count:
        raise UserError(f"{info}: {report}")
    return spec


def _zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def main(arguments: Sequence[str]) -> int:
    """Export as the arguments ask. Returns exit code 0; raises UserError for bad input."""
    if not arguments:
        raise UserError("give RUN_DIR INFO images=FOLDER out=FILE.zip; --help explains them")
    run_dir, info = cli.paths(arguments[:2], "RUN_DIR", "INFO")
    settings = cli.parse(arguments[2:], {"images": "", "out": ""})
    missing = [name for name, value in settings.items() if not value]
    if missing:
        raise UserError(f"{missing[0]}=: must be given; --help explains it")
    count = export(run_dir, info, Path(settings["images"]), Path(settings["out"]))
    print(f"{settings['out']}: {count} detections; only COCO's server can score them")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, __doc__ or ""))
