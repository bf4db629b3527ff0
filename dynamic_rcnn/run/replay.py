"""Whether a run trained with the T and beta of the run that it replays. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from dynamic_rcnn.run.spec import FINAL_VALUES

State = tuple[float | None, float | None]  # T and beta


def is_replay(trained: Sequence[State], source: Sequence[State], values: str | None) -> bool:
    """Whether all T and beta of a run are those that it should replay.

    Args:
        trained: T and beta of the run at each logged iteration.
        source: those of the run that it replays.
        values: which ones it replays: FINAL_VALUES or None, the last ones; otherwise all, in some order.
    """
    allowed = source[-1:] if values in (None, FINAL_VALUES) else source
    return set(trained) <= set(allowed)
