"""The folder of downloaded ImageNet weights."""

from __future__ import annotations

from pathlib import Path


def weights_folder() -> Path:
    """Where torch, and with it mmengine, keeps weights that it has downloaded."""
    import torch  # takes seconds

    return Path(torch.hub.get_dir()) / "checkpoints"
