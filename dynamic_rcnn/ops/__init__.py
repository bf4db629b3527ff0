"""Compiled operators for mmdet: mmcv's own if they are installed, else torchvision's and those of this package.

There is no wheel of mmcv with compiled operators for current torch. `mmcv-lite` has only the Python code and fails on
the missing module `mmcv._ext`. `install()` provides that module with NMS and Soft-NMS, and replaces mmcv's functions in
REPLACED. It must run before `mmcv.ops` is first imported; importing `dynamic_rcnn.method` does that.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType

from torch import Tensor

from dynamic_rcnn.ops import torchvision_ops
from dynamic_rcnn.ops.roi_align import roi_align
from dynamic_rcnn.ops.soft_nms import softnms

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
        for module, function in REPLACED.items():
            for name in (f"mmcv.ops.{module}", "mmcv.ops"):
                setattr(importlib.import_module(name), function.__name__, function)


OPERATORS: dict[str, Callable[..., Tensor]] = {"nms": torchvision_ops.nms, "softnms": softnms}
REPLACED: dict[str, Callable[..., Tensor]] = {  # by module of mmcv.ops
    "roi_align": roi_align,
    "deform_conv": torchvision_ops.deform_conv2d,
    "modulated_deform_conv": torchvision_ops.modulated_deform_conv2d,
}


class TorchvisionExt(ModuleType):
    """The module `mmcv._ext` with OPERATORS.

    mmcv looks up all its operators when it is imported, so a missing one only fails when it is called.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, loader=None)  # mmengine looks modules up by their spec
        for operator, function in OPERATORS.items():
            setattr(self, operator, function)

    def __getattr__(self, operator: str) -> object:
        if operator.startswith("__"):
            raise AttributeError(operator)

        def missing(*args: object, **kwargs: object) -> None:
            raise RuntimeError(
                f"the operator {operator!r} needs a compiled mmcv 2.1 (pip install mmcv==2.1.0); "
                f"here are {', '.join((*OPERATORS, *(each.__name__ for each in REPLACED.values())))}"
            )

        return missing
