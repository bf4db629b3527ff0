"""What this machine's Python offers runs: `python -m dynamic_rcnn.tools.describe_machine [WEIGHTS]`.

Input: a list of model configs.

Prints one JSON object: torch, cuda (what torch was built for, or null), gpus (names, as torch sees them), of each model
parameters (how many; it is built without loading anything) and weights (null, or url and file of the backbone's), and
fault (why the file WEIGHTS does not fit the first model, or null).
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

from dynamic_rcnn.engine.build import use_mmdet_scope
from dynamic_rcnn.engine.checkpoint import load_weights
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.tools.fetch import weights_folder

_TORCHVISION = "torchvision://"


def describe(models: list[dict[str, Any]], weights: Path | None = None) -> dict[str, Any]:
    """What the module's head lists, for model configs as in a spec."""
    use_mmdet_scope()
    built = [MODELS.build(ConfigDict(model)) for model in models]
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "parameters": [sum(each.numel() for each in model.parameters()) for model in built],
        "weights": [_weights_of(model["backbone"].get("init_cfg") or {}) for model in models],
        "fault": _fault(built[0], weights) if weights else None,
    }


def _weights_of(init: dict[str, Any]) -> dict[str, str] | None:
    return _weights(str(init.get("checkpoint"))) if init.get("type") == "Pretrained" else None


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
