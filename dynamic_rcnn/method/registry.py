"""The registry scope `dynamic_rcnn`, below mmengine's root beside mmdet's."""

from mmengine.registry import MODELS as ROOT
from mmengine.registry import Registry

MODELS = Registry("model", parent=ROOT, scope="dynamic_rcnn", locations=["dynamic_rcnn.method"])
