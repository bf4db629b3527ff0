"""AP after each epoch on COCO against a published log: an early check of a run, hours before its last iteration.

The log is one run of mmdet's Dynamic R-CNN, R-50-FPN 1x, evaluated on val2017. It was trained on one V100 with 2 images
per iteration and a learning rate of 0.0025, where the recipe has 16 images and 0.02. The tolerances are declared: the
noise between seeds is about 0.1 points after the last epoch, and is not published for earlier ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import EVALUATIONS, read_jsonl
from dynamic_rcnn.run.published_curves import applies as applies_t

SOURCE = "avantikamishra96/DynamicRCNN, mmdet 2.8.0 on one V100"
PUBLISHED = dict(
    enumerate((0.216, 0.259, 0.278, 0.288, 0.294, 0.302, 0.309, 0.309, 0.378, 0.383, 0.385, 0.389), start=1)
)  # epoch -> AP
FIRST_DROP = 8  # the epoch after which the learning rate falls
EARLY_TOLERANCE, LATE_TOLERANCE = 0.03, 0.01  # up to FIRST_DROP, and after it
_CONSTANTS = {"smooth_l1": True, "beta_topk": 10, "initial_beta": 1.0}


def applies(dataset: str, config: Mapping[str, Any]) -> bool:
    """Whether the published log applies to a run: COCO, R-50 1x, both components with the paper's constants."""
    method = config["model"]["train_cfg"]["rcnn"]["dynamic_rcnn"]
    is_1x = config["train"]["max_epochs"] == len(PUBLISHED)
    return is_1x and applies_t(dataset, dict(config)) and all(method[key] == _CONSTANTS[key] for key in _CONSTANTS)


def tolerance(epoch: int) -> float:
    """The largest difference in AP from the published log that still counts as agreement."""
    return EARLY_TOLERANCE if epoch <= FIRST_DROP else LATE_TOLERANCE


@dataclass(frozen=True)
class EpochAP:
    """AP of a run after its epochs, as far as evaluated: epoch -> AP as a fraction."""

    values: dict[int, float]

    @property
    def off(self) -> dict[int, float]:
        """The values outside the tolerance."""
        return {at: ap for at, ap in self.values.items() if abs(ap - PUBLISHED[at]) > tolerance(at)}

    @property
    def text(self) -> str:
        """One line: whether AP follows the published log, with its values in points."""
        if not self.values:
            return "AP not known yet after epoch 1"
        values = ", ".join(f"{100 * ap:.1f} after {at} ({100 * PUBLISHED[at]:.1f})" for at, ap in self.values.items())
        if self.off:
            return f"AP OFF the published log after epoch {', '.join(map(str, self.off))}: {values}"
        prefix = "on" if len(self.values) == len(PUBLISHED) else "so far on"
        return f"AP {prefix} the published log, by epoch: {values}"


def read_epochs(run_dir: Path, iterations: int, final: float | None) -> EpochAP:
    """AP by epoch of a run.

    Args:
        run_dir: the run's directory.
        iterations: of the whole run.
        final: AP after the last epoch; None before the run is done.

    Returns:
        The evaluations at the ends of epochs; those that cannot be read are missing.
    """
    try:
        rows = read_jsonl(run_dir / EVALUATIONS)
    except (OSError, UserError):
        rows = []
    values = {}
    for iteration, ap in ((row.get("iteration"), row.get("AP")) for row in rows if isinstance(row, dict)):
        if isinstance(iteration, int) and isinstance(ap, float):
            epoch, rest = divmod(iteration * len(PUBLISHED), iterations)
            if not rest and epoch in PUBLISHED:
                values[epoch] = ap
    return EpochAP(values if final is None else {**values, len(PUBLISHED): final})
