"""Compiled operators for mmdet: mmcv's own if they are installed, else torchvision's and `roi_align`.

There is no wheel of mmcv with compiled operators for current torch. `mmcv-lite` has only the Python code and fails on
the missing module `mmcv._ext`. `install()` provides that module with torchvision's operators, and replaces mmcv's
`roi_align`. It must run before `mmcv.ops` is first imported; importing `dynamic_rcnn.method` does that.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

from dynamic_rcnn.ops import torchvision_ops
from dynamic_rcnn.ops.roi_align import roi_align

NAME = "mmcv._ext"


def has_compiled_mmcv() -> bool:
    """Whether a compiled mmcv is installed (not the stand-in of `install`)."""
    module = sys.modules.get(NAME)
    if module is not None:
        return not isinstance(module, TorchvisionExt)
    return importlib.util.find_spec(NAME) is not None


def install() -> None:
    """Give mmcv the operators of this package unless it is compiled. May be called repeatedly."""
    if NAME not in sys.modules and not has_compiled_mmcv():
        sys.modules[NAME] = TorchvisionExt(NAME)
        importlib.import_module("mmcv.ops.roi_align").roi_align = roi_align  # type: ignore[attr-defined]
        importlib.import_module("mmcv.ops").roi_align = roi_align  # type: ignore[attr-defined]


OPERATORS = ("nms", "modulated_deform_conv_forward", "modulated_deform_conv_backward")


class TorchvisionExt(ModuleType):
    """The module `mmcv._ext` with OPERATORS by torchvision.

    mmcv looks up all its operators when it is imported, so a missing one only fails when it is called.
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
                f"here are {', '.join((*OPERATORS, 'roi_align'))}"
            )

        return missing
