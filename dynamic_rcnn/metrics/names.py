"""The names of the metrics in metrics.json. Imports nothing, so that planning and reporting can use it."""

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))  # of `by_iou`; AP is the mean over them
AP_THRESHOLDS = {"AP50": 0.5, "AP60": 0.6, "AP70": 0.7, "AP75": 0.75, "AP80": 0.8, "AP90": 0.9}
AP_METRICS = ("AP", *AP_THRESHOLDS)
SIZES = ("small", "medium", "large")  # of objects; the metrics by size end in the first letter
MAX_DETECTIONS = (1, 10, 100)  # per image
SIZE_METRICS = tuple(f"AP{size[0]}" for size in SIZES)
RECALL_METRICS = (*(f"AR{most}" for most in MAX_DETECTIONS), *(f"AR{size[0]}" for size in SIZES))
BOX_METRICS = (*AP_METRICS, *SIZE_METRICS, *RECALL_METRICS)
MASK_THRESHOLDS = ("AP50", "AP75")
MASK_METRICS = tuple(f"segm_{name}" for name in ("AP", *MASK_THRESHOLDS))  # only of models with masks
CLASS_THRESHOLDS = ("AP50", "AP75", "AP90")  # besides AP, for each class
