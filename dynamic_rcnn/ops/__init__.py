"""Compiled operators for mmdet: mmcv's own where they are installed, else torchvision's.

mmcv with compiled operators has no wheel for current torch; `mmcv-lite` has the Python half only and fails on the
missing module `mmcv._ext`. `install()` puts a module there whose operators are torchvision's. It must run before
`mmcv.ops` is first imported, which importing `dynamic_rcnn.method` takes care of.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

from dynamic_rcnn.ops import torchvision_ops

NAME = "mmcv._ext"


def has_compiled_mmcv() -> bool:
    """Whether a compiled mmcv is installed (not the stand-in of `install`)."""
    module = sys.modules.get(NAME)
    if module is not None:
        return not isinstance(module, TorchvisionExt)
    return importlib.util.find_spec(NAME) is not None


def install() -> None:
    """Put the torchvision operators in the place of `mmcv._ext` where no compiled mmcv is there. Idempotent."""
    if NAME not in sys.modules and not has_compiled_mmcv():
        sys.modules[NAME] = TorchvisionExt(NAME)


OPERATORS = (
    *("nms", "roi_align_forward", "roi_align_backward"),
    *("modulated_deform_conv_forward", "modulated_deform_conv_backward"),
)


class TorchvisionExt(ModuleType):
    """The module `mmcv._ext` on torchvision, with OPERATORS.

    mmcv asks for the names of all its operators when it is imported; one that is not here fails when it is called.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, loader=None)  # mmengine looks modules up by their spec
        for operator in OPERATORS:
            setattr(self, operator, getattr(torchvision_ops, operator))

    def __getattr__(self, operator: str) -> object:
        if operator.startswith("__"):
            raise AttributeError(operator)

        def missing(*args: object, **kwargs: object) -> None:
            raise RuntimeError(
                f"the operator {operator!r} needs a compiled mmcv 2.1 (pip install mmcv==2.1.0); "
                f"on torchvision there are {', '.join(OPERATORS)}"
            )

        return missing
