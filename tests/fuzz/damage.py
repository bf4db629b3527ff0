"""Changes of a decoded JSON or YAML value, and of the bytes of a file, as editors, programs and disks make them."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from dynamic_rcnn.errors import UserError

MORE = int(os.environ.get("FUZZ_EXAMPLES", 0))  # examples per test; 0 for the few of CI
NAN, INF = float("nan"), float("inf")
ODD = st.one_of(
    st.sampled_from([None, True, False, "", "a", "0", "é 猫 $x$", "a\nb", [], {}, [[]], {"a": 1}, [None], "1e400"]),
    st.sampled_from([-1, 0, 1, 2, 3, 2**31, 2**53 + 1, 10**17, 2**63, 2**64, 10**30, -(2**63) - 1]),
    st.sampled_from([0.5, -0.5, 1e-300, 1e38, 1e300, -1e300, NAN, INF, -INF, 1.0000000001]),
)


def at_most(examples: int) -> settings:
    """The number of examples of a slow test in CI."""
    return settings(max_examples=MORE or examples)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


@st.composite
def damaged(draw: st.DrawFn, value: Any, most: int = 3) -> Any:
    """`value` with up to `most` entries replaced, removed, given twice, or exchanged with others."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, most))):
        found = list(places(value))
        if not found:
            return draw(ODD)
        container, key = found[draw(st.integers(0, len(found) - 1))]
        match draw(st.sampled_from(["replace", "replace", "remove", "repeat", "exchange"])):
            case "remove":
                del container[key]
            case "repeat" if isinstance(container, list):
                container.append(copy.deepcopy(container[key]))
            case "exchange":
                other, at = found[draw(st.integers(0, len(found) - 1))]
                container[key] = copy.deepcopy(other[at])
            case _:
                container[key] = draw(ODD)
    return value


@st.composite
def damaged_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` cut, with a piece overwritten, or with a piece given twice."""
    start = draw(st.integers(0, max(0, len(data) - 1)))
    match draw(st.sampled_from(["cut", "overwrite", "repeat"])):
        case "cut":
            return data[:start]
        case "overwrite":
            piece = draw(st.binary(min_size=1, max_size=8))
            return data[:start] + piece + data[start + len(piece) :]
        case _:
            return data[:start] + data[max(0, start - draw(st.integers(1, 40))) :]


def to_bytes(value: Any) -> bytes:
    """JSON as Python writes it: NaN and Infinity stay."""
    return json.dumps(value).encode()


def assert_is_message(error: UserError) -> None:
    """Check that a UserError, which commands print on one line, has a text that is not as long as the file."""
    assert 0 < len(str(error).strip()) < 20_000
