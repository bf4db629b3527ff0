"""Whether a run trained with the T and beta of the run that it replays. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

from dynamic_rcnn.run.spec import FINAL_VALUES

Logged = Mapping[int, tuple[float, float]]  # iteration -> T and beta
_IN_ORDER = "all"


def is_replay(trained: Logged, source: Logged, values: str | None) -> bool:
    """Whether the T and beta of a run are those that it should replay.

    Args:
        trained: of the run.
        source: of the run that it replays.
        values: which ones it replays: FINAL_VALUES or None, the last ones; "all", each at its iteration; otherwise all
            in another order.
    """
    if values in (None, FINAL_VALUES):
        return set(trained.values()) == {source[max(source)]}
    if values == _IN_ORDER:
        return all(source.get(iteration, state) == state for iteration, state in trained.items())
    found, allowed = set(trained.values()), set(source.values())
    return found <= allowed and (len(found) > 1 or len(allowed) == 1)
