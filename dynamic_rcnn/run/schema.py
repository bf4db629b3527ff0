"""Validates the content of files and command lines against declared models, with error messages for users.

The writer and the reader of a file share one `Schema`. `validate` reports all faults at once, each as
`field=value: rule`, with the valid names where a name is unknown.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from dynamic_rcnn.errors import UserError

_UNIONS = (Annotated, Union, UnionType)
_MEMBERS = (
    "int",
    "float",
    "str",
    "bool",
)  # pydantic's names of union members; also possible keys of a user
_WRAPPERS = ("function-", "constrained-")
_LONGEST = 200  # largest number of characters of a value in a message


class Schema(BaseModel):
    """Base class of declared content, with strict types and without unknown fields. Instances cannot be changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True)


Fault = tuple[tuple[str | int, ...], Any, str]  # place relative to the value that a validator checks, value, rule


class BrokenRulesError(ValueError):
    """Raised by a validator whose value has fields that break rules."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(rule for _, _, rule in faults))
        self.faults = faults


T = TypeVar("T")
_PLAIN = {  # pydantic's words -> the words of our messages
    "a valid dictionary or instance of": "a mapping",
    "a valid dictionary": "a mapping",
    "a valid string": "text",
    "a valid integer": "an integer",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid list": "a list",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
}


def validate(kind: type[T], content: Any, where: str = "", way_out: str = "", file: Path | None = None) -> T:
    """Check plain values against a Schema, or any type that pydantic knows. Raises UserError that names every fault.

    where: prefix of the field names in messages, such as "grid". way_out: what the user can do, appended to the
    faults. file: the file that contains the content; the message starts with its path.
    """
    try:
        value: T = _adapter(kind).validate_python(content)  # type: ignore[arg-type]  # classes are hashable
        return value
    except ValidationError as error:
        lines = _fault_lines(error, kind, where)
    prefix = f"{file}: " if file else ""
    raise UserError(prefix + "; ".join(filter(None, [*lines, way_out]))) from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def faults(kind: Any, content: Any, where: str = "") -> list[str]:
    """One text per fault of `content`, as `validate` would report them; [] if there are none."""
    try:
        _adapter(kind).validate_python(content)
    except ValidationError as error:
        return _fault_lines(error, kind, where)
    return []


def _fault_lines(error: ValidationError, kind: Any, where: str = "") -> list[str]:
    """One text per fault of a ValidationError: the field, its value and the rule; unknown names with the valid ones."""
    lines: list[str] = []
    for fault in error.errors(include_url=False):
        place = _without_tags(kind, fault["loc"])
        if fault["type"] == "extra_forbidden":
            lines.append(_unknown(place, list(_fields(_kind_at(kind, place[:-1]))), where))
        elif fault["type"] == "literal_error":
            lines.append(f"{_dotted(place, where)}={_shown(fault['input'])}: {_unknown_literal(place, fault)}")
        elif fault["type"] == "missing":
            lines.append(f"{_dotted(place, where)}: must be given")
        elif isinstance(raised := fault.get("ctx", {}).get("error"), BrokenRulesError):
            for below, value, rule in raised.faults:
                lines.append(f"{_dotted([*place, *below], where)}={_shown(value)}: {rule}")
        else:
            rule = _rule(fault)
            if rule.startswith("must be") and "null" not in rule and type(None) in get_args(_kind_at(kind, place)):
                rule += ", or null"
            lines.append(f"{_dotted(place, where)}={_shown(fault['input'])}: {rule}")
    return list(dict.fromkeys(lines))


def _rule(fault: Any) -> str:
    text = str(fault["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    for theirs, ours in _PLAIN.items():
        if theirs in text:
            return f"must be {ours}" if theirs.endswith("instance of") else text.replace(theirs, ours)
    return text


def _unknown_literal(place: Sequence[Any], fault: Any) -> str:
    valid = re.findall(r"'([^']*)'", fault["ctx"]["expected"])
    kind = place[-1] if place and isinstance(place[-1], str) else "value"
    return f"unknown {kind}{similar_hint(str(fault['input']), valid)}; valid: {', '.join(valid)}"


def similar_hint(name: str, valid: Sequence[str]) -> str:
    """The hint after an unknown name if a valid one is similar, else nothing."""
    near = difflib.get_close_matches(name, valid, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _unknown(place: Sequence[Any], valid: Sequence[str], where: str) -> str:
    name, folder = str(place[-1]), _dotted(place[:-1], where)
    within = f" in {folder}" if folder else ""
    return f"unknown setting {name!r}{within}{similar_hint(name, valid)}; valid: {', '.join(sorted(valid))}"


def _dotted(place: Sequence[Any], where: str) -> str:
    text = where
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text


def _without_tags(kind: Any, location: Sequence[str | int]) -> list[str | int]:
    """A location without the parts that pydantic adds: which member of a union was tried, or that a key was."""
    place: list[str | int] = []
    for part in location:
        added = isinstance(part, str) and ("[" in part or part.startswith(_WRAPPERS))
        if not added and not (part in _MEMBERS and get_origin(_kind_at(kind, place)) in _UNIONS):
            place.append(part)
    return place


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _fields(kind: Any) -> dict[str, Any]:
    """The fields of the Schema that `kind` is, by the name that a file gives them."""
    model = _model(kind)
    return {field.alias or name: field for name, field in model.model_fields.items()} if model else {}


def _kind_at(kind: Any, place: Sequence[Any]) -> Any:
    """The type of what lies at `place` in `kind`; None if unknown."""
    for part in place:
        fields = _fields(kind)
        kind = fields[part].annotation if part in fields else _item(kind)
    return kind


def _model(kind: Any) -> Any:
    """The Schema that `kind` is, or that a union such as `Schema | None` holds; None without one."""
    if isinstance(kind, type):
        return kind if issubclass(kind, BaseModel) else None
    return next((model for each in get_args(kind) if get_origin(kind) in _UNIONS and (model := _model(each))), None)


def _item(kind: Any) -> Any:
    """The type of the values of a mapping or list, which may be optional."""
    for each in (kind, *get_args(kind)):
        if get_args(each):
            return get_args(each)[-1]
    return None
