"""The method: the schedule of T and beta, and the RoI head that feeds it, as an mmdet extension.

Importing this package makes mmdet usable without a compiled mmcv and registers the RoI heads `dynamic_rcnn.Dynamic...`.
"""

from dynamic_rcnn.ops import install

install()

from dynamic_rcnn.method.roi_head import DynamicHead, DynamicRoIHead  # noqa: E402
from dynamic_rcnn.method.schedule import DynamicSchedule  # noqa: E402

__all__ = ["DynamicHead", "DynamicRoIHead", "DynamicSchedule"]
