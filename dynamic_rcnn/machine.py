"""What this machine's Python offers a run: `python -m dynamic_rcnn.machine [WEIGHTS]`, a model config on its input.

Prints one JSON object: torch, cuda (what torch was built for, or null), gpus (names, as torch sees them), parameters
(of the model, built without loading anything), weights (url and file of the backbone's, if they are torchvision's),
fault (why the file WEIGHTS does not fit the model, or null).
It is a process of its own for who must not import torch, or wants to survive a driver that crashes.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from dynamic_rcnn.build import use_mmdet_scope
from dynamic_rcnn.checkpoint import load_weights
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.fetch import weights_folder

_TORCHVISION = "torchvision://"


def describe(model: dict[str, Any], weights: Path | None = None) -> dict[str, Any]:
    """What the module's head lists, for a model config as in a spec."""
    use_mmdet_scope()
    init = model["backbone"].get("init_cfg") or {}
    built = MODELS.build(ConfigDict(model))
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "parameters": sum(parameter.numel() for parameter in built.parameters()),
        "weights": _weights(str(init.get("checkpoint"))) if init.get("type") == "Pretrained" else None,
        "fault": _fault(built, weights) if weights else None,
    }


def _fault(model: torch.nn.Module, weights: Path) -> str | None:
    try:
        load_weights(model, weights)
    except UserError as error:
        return str(error)
    return None


def _weights(checkpoint: str) -> dict[str, str]:
    """Where weights come from and lie. mmengine takes torchvision's from the folder of torch.hub, else from the web."""
    if not checkpoint.startswith(_TORCHVISION):
        return {"url": "", "file": checkpoint}
    from mmengine.runner.checkpoint import get_torchvision_models

    url = get_torchvision_models()[checkpoint.removeprefix(_TORCHVISION)]
    return {"url": url, "file": str(weights_folder() / url.rsplit("/", 1)[-1])}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(describe(json.load(sys.stdin), *map(Path, sys.argv[1:]))))
