"""The environment variables between the processes of a run."""

from __future__ import annotations

import pytest

from dynamic_rcnn.run.process_env import ProcessEnv

FULL = ProcessEnv(
    True, "7_0.1", "a note", 5, "7_0", 0, "node[1-2]", "logs/attempt1.log", "launch.py grid=smoke", 1.5, True
)


@pytest.mark.parametrize("given", [ProcessEnv(), FULL])
def test_what_is_written_is_read(given: ProcessEnv) -> None:
    assert ProcessEnv.from_env(given.to_env({})) == given


def test_other_variables_stay_and_variables_of_the_parent_do_not() -> None:
    parent = {"PATH": "/bin", "DYNAMIC_RCNN_NOTE": "old", "DYNAMIC_RCNN_LOG": "old"}
    assert ProcessEnv(log="new").to_env(parent) == {"PATH": "/bin", "DYNAMIC_RCNN_LOG": "new"}


def test_values_of_another_type_are_ignored() -> None:
    env = {"DYNAMIC_RCNN_HEARTBEAT": "five", "DYNAMIC_RCNN_BEGAN": "", "DYNAMIC_RCNN_CLAIMED": "yes"}
    assert ProcessEnv.from_env(env) == ProcessEnv(claimed=False)
