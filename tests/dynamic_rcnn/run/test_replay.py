"""Whether a run trained with the T and beta of the run that it replays."""

from __future__ import annotations

import pytest

from dynamic_rcnn.run.replay import is_replay

SOURCE = {10: (0.4, 1.0), 20: (0.5, 0.5), 30: (0.6, 0.2)}
FIXED = dict.fromkeys(SOURCE, (0.6, 0.2))
REVERSED = {10: (0.6, 0.2), 20: (0.5, 0.5), 30: (0.4, 1.0)}
CHANGED = {**SOURCE, 20: (0.5, 0.4)}


@pytest.mark.parametrize(
    ("values", "valid"),
    [
        (None, [FIXED]),
        ("final", [FIXED]),
        ("all", [SOURCE]),
        ("reversed", [SOURCE, REVERSED]),
        ("shuffled", [SOURCE, REVERSED]),
    ],
)
def test_which_states_a_replay_may_have(values: str | None, valid: list[dict[int, tuple[float, float]]]) -> None:
    cases = [FIXED, SOURCE, REVERSED, CHANGED]
    assert [case for case in cases if is_replay(case, SOURCE, values)] == [case for case in cases if case in valid]


def test_a_source_whose_values_never_moved_has_one_state_in_any_order() -> None:
    assert is_replay(FIXED, FIXED, "shuffled") and not is_replay(SOURCE, FIXED, "shuffled")
