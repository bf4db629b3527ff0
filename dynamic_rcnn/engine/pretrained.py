"""Downloaded ImageNet weights: where they come from, and the folder that keeps them."""

from __future__ import annotations

from pathlib import Path


def weights_folder() -> Path:
    """Where torch, and with it mmengine, keeps weights that it has downloaded."""
    import torch  # takes seconds

    return Path(torch.hub.get_dir()) / "checkpoints"


def weights_url(checkpoint: str) -> str:
    """The URL of pretrained weights as mmengine resolves it: https:, torchvision: or open-mmlab:; "" for a path."""
    from mmengine.runner import checkpoint as known  # takes seconds

    scheme, _, name = checkpoint.partition("://")
    if scheme == "torchvision":
        return str(known.get_torchvision_models().get(name, ""))
    if scheme in ("open-mmlab", "openmmlab"):
        return str(known.get_external_models().get(known.get_deprecated_model_names().get(name, name), ""))
    return checkpoint if scheme in ("http", "https") else ""
