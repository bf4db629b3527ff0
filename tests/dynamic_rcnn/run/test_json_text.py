"""What JSON from outside may not hold."""

from __future__ import annotations

import pytest

from dynamic_rcnn.run.json_text import parse


def test_what_json_holds() -> None:
    text = '{"a": [1, -2.5, null, true, "\\u00e9\\ud83d\\ude00"], "n": 123456789012345678}'
    assert parse(text) == {"a": [1, -2.5, None, True, "é😀"], "n": 123456789012345678}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a":\n1,}', "line 2: "),
        ("1" * 19, "an integer of 19 digits"),
        ("-" + "1" * 6000, "an integer of 6000 digits"),
        ("[" * 100_000, "nested too deeply"),
        ('"\\ud800"', "half a surrogate pair in a text"),
        ('{"\\uDC00": 1}', "half a surrogate pair in a text"),
    ],
)
def test_what_no_record_holds(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        parse(text)
