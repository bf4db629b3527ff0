"""Faults of declared content: all of them in one line, with field, value, rule and valid names."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import Field, field_validator, model_validator

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.schema import BrokenRulesError, Schema, validate


class SampleArm(Schema):
    title: str
    threads: int = Field(1, ge=1)


class SampleGrid(Schema):
    name: str
    arms: dict[str, SampleArm] = Field(default_factory=dict)
    seeds: list[int] | None = None

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if " " in name:
            raise ValueError("must not contain spaces")
        return name

    @model_validator(mode="after")
    def _not_named_as_the_grid(self) -> SampleGrid:
        if self.name in self.arms:
            raise BrokenRulesError([(("arms", self.name), self.arms[self.name].title, "must not be named as the grid")])
        return self


def fault(content: Any, way_out: str = "") -> str:
    with pytest.raises(UserError) as caught:
        validate(SampleGrid, content, "grid", way_out)
    return str(caught.value)


def test_valid_content_becomes_the_model() -> None:
    grid = validate(SampleGrid, {"name": "a", "arms": {"both": {"title": "Both"}}, "seeds": [0, 1]})
    assert (grid.name, grid.arms["both"], grid.seeds) == ("a", SampleArm(title="Both"), [0, 1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "grid.name: must be given"),
        ({"name": 1}, "grid.name=1: must be text"),
        ({"name": "a b"}, "grid.name=a b: must not contain spaces"),
        (
            {"name": "a", "arms": {"int": {"title": "B", "tread": 2}}},
            "unknown setting 'tread' in grid.arms.int (did you mean 'threads'?); valid: threads, title",
        ),
        ({"name": "a", "seeds": ["0"]}, "grid.seeds[0]=0: must be an integer"),
        ({"name": "a", "seeds": [True]}, "grid.seeds[0]=True: must be an integer"),
        ({"name": "a", "arms": {"b-2": {}}}, "grid.arms.b-2.title: must be given"),
        (
            {"name": "a", "arms": {"b": {"title": "B", "threads": 0}}},
            "grid.arms.b.threads=0: must be at least 1",
        ),
        (
            {"name": "a", "arms": {"b": {"title": "B", "tread": 2}}},
            "unknown setting 'tread' in grid.arms.b (did you mean 'threads'?); valid: threads, title",
        ),
        ([], "grid=[]: must be a mapping"),
        ({"name": "a", "arms": {"a": {"title": "A"}}}, "grid.arms.a=A: must not be named as the grid"),
    ],
)
def test_a_fault_is_reported_with_field_value_and_rule(content: Any, message: str) -> None:
    assert fault(content) == message


def test_all_faults_are_reported_at_once_with_the_way_out() -> None:
    text = fault({"name": 1, "arm": {}}, "delete it")
    assert text.split("; ") == [
        "grid.name=1: must be text",
        "unknown setting 'arm' in grid (did you mean 'arms'?)",
        "valid: arms, name, seeds",
        "delete it",
    ]


def test_a_long_value_is_cut() -> None:
    assert len(fault({"name": "a", "seeds": "x" * 1000})) < 300
