"""What a run begins with: device, data, and the model as built from the seed or with the weights of another run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

import torch

from dynamic_rcnn.data import dataset
from dynamic_rcnn.engine import build, checkpoint
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.parallel import comm as distributed
from dynamic_rcnn.run import provenance
from dynamic_rcnn.run.files import METRICS, TRAIN_LOG, WEIGHTS, read_json, read_jsonl
from dynamic_rcnn.run.spec import RunSpec
from dynamic_rcnn.tools.fetch import weights_folder

if TYPE_CHECKING:
    from mmdet.models.detectors import BaseDetector

_AGAIN = "if that run is done, move its directory away and launch again: it is made again"


def device() -> torch.device:
    """The GPU of this process, where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def write_provenance(on: torch.device, fingerprint: str, init_sha256: str | None) -> None:
    """Record what it takes to repeat this attempt, whose directory is the working directory."""
    if distributed.is_main():
        name = torch.cuda.get_device_name() if on.type == "cuda" else "cpu"
        provenance.write(Path(), provenance.collect(name, torch.get_num_threads(), fingerprint, init_sha256))


def prepared(spec: RunSpec) -> tuple[Path, str]:
    """The data's root and fingerprint; where they have to be drawn, rank 0 draws and the others find the drawing."""
    found = dataset.prepare(spec.dataset) if distributed.is_main() else None
    distributed.any_of(False)
    return found or dataset.prepare(spec.dataset)


def built(spec: RunSpec) -> BaseDetector:
    """The model of `spec`. Raises UserError where the weights of its backbone cannot be had."""
    try:
        return build.build_model(spec)
    except (URLError, FileNotFoundError) as error:
        source = f"base.model.backbone.init_cfg={spec.config['model']['backbone'].get('init_cfg')}"
        if isinstance(error, FileNotFoundError):
            raise UserError(f"{source}: no such file ({error}); give its absolute path") from None
        raise UserError(
            f"{source}: cannot be downloaded here ({error.reason}); put the file into {weights_folder()} "
            "(python -m dynamic_rcnn.tools.fetch does), or set another one"
        ) from None


def load_start(model: BaseDetector, spec: RunSpec) -> None:
    """Load the weights of the run that this one starts from."""
    try:
        checkpoint.load_weights(model, start_weights(spec))
    except UserError as error:
        raise UserError(str(error) if _AGAIN in str(error) else f"{error}; {_AGAIN}") from None


def replayed(spec: RunSpec) -> tuple[float, float] | None:
    """(T, beta) at the end of the run that this one replays, as its first process had them; None if it replays none.

    Rank 0 reads, and hands it to the others: shared file systems may show files to them late. Raises UserError on all
    processes where that run is not done, or its record does not reach its last iteration.
    """
    if spec.replay is None:
        return None
    found: tuple[float, float] | None = None
    fault = None
    if distributed.is_main():
        try:
            found = _final_state(spec.replay["run"])
        except UserError as error:
            fault = str(error)
    found, fault = distributed.broadcast((found, fault))
    if fault is not None:
        raise UserError(fault)
    return found


def _final_state(run: str) -> tuple[float, float]:
    found = sorted(Path.cwd().parent.parent.glob(f"*/seed*-{run}/{METRICS}"))
    if not found:
        raise UserError(f"run {run}, whose final T and beta this one replays, is not done; launch again when it is")
    log = found[0].with_name(TRAIN_LOG)
    rows, iteration = read_jsonl(log), read_json(found[0]).get("iteration")
    last = rows[-1] if rows else {}
    threshold, beta = last.get("T"), last.get("beta")
    if last.get("iteration") != iteration or threshold is None or beta is None:
        raise UserError(f"{log}: does not reach iteration {iteration}, whose T and beta run {run} ended with; {_AGAIN}")
    return float(threshold), float(beta)


def start_weights(spec: RunSpec) -> Path:
    """The file of those weights, beside this run's directory, which is the working directory."""
    assert spec.init is not None
    found = sorted(Path.cwd().parent.parent.glob(f"*/seed*-{spec.init['run']}/{WEIGHTS}"))
    if not found:
        raise UserError(f"the weights of run {spec.init['run']}, which this one starts from, are missing; {_AGAIN}")
    return found[0]
