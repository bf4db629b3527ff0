"""Print what this machine's Python offers to runs, as one JSON object.

    python -m dynamic_rcnn.tools.describe_machine [WEIGHTS] < CONFIGS

CONFIGS  a JSON list of configurations as in a spec: model and, for runs that train, optim_wrapper and param_scheduler

Fields: torch (version), cuda (the version that torch was built for, or null), gpus (names), parameters (number per
model; models are built without loading weights), weights (per model, url and file of the backbone's pretrained weights,
or null), and fault (why the file WEIGHTS does not fit the first model, or null). It runs in a separate process for
callers that must not import torch, or must survive a driver that crashes. Exit code 2 and one line if a configuration
cannot be built.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dynamic_rcnn import cli
from dynamic_rcnn.engine import build
from dynamic_rcnn.engine.checkpoint import load_weights
from dynamic_rcnn.engine.pretrained import weights_folder, weights_url
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.spec import RunSpec


def describe(configs: list[dict[str, Any]], weights: Path | None = None) -> dict[str, Any]:
    """Describe this machine.

    Args:
        configs: configurations as in a spec.
        weights: a file to load into the first model.

    Returns:
        The fields that the module's docstring lists.

    Raises:
        UserError: a configuration cannot be built.
    """
    networks = [_build(RunSpec("", 0, {}, config)) for config in configs]
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "parameters": [sum(each.numel() for each in model.parameters()) for model in networks],
        "weights": [_weights(config["model"]["backbone"].get("init_cfg") or {}) for config in configs],
        "fault": _fault(networks[0], weights) if weights else None,
    }


def _build(spec: RunSpec) -> torch.nn.Module:
    """Build the model and, if the run trains, what trains it. Returns the model."""
    model = build.build_model(spec, initialise=False)
    if "optim_wrapper" in spec.config:
        build.build_schedulers(spec, build.build_optimizer(spec, model))
    return model


def _fault(model: torch.nn.Module, weights: Path) -> str | None:
    try:
        load_weights(model, weights)
    except UserError as error:
        return str(error)
    return None


def _weights(init: Any) -> dict[str, str] | None:
    """The URL and the local file of pretrained weights, or None if `init`, a mapping or a list of them, names none.

    mmengine looks for weights with a URL in the folder of torch.hub and downloads them if they are missing.
    """
    named = [each for each in (init if isinstance(init, list) else [init]) if each.get("type") == "Pretrained"]
    if not named:
        return None
    checkpoint = str(named[0].get("checkpoint"))
    url = weights_url(checkpoint)
    return {"url": url, "file": str(weights_folder() / url.rsplit("/", 1)[-1]) if url else checkpoint}


def main(arguments: Sequence[str]) -> int:
    """Describe the machine. Returns exit code 0."""
    weights = cli.paths(arguments, "WEIGHTS")[0] if arguments else None
    warnings.simplefilter("ignore")
    print(json.dumps(describe(json.load(sys.stdin), weights)))
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, __doc__ or ""))
