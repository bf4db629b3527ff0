"""JSON that came from outside: what is not valid, or no record could hold, is a ValueError with a reason."""

from __future__ import annotations

import json
from typing import Any

_MOST_DIGITS = 18  # of an integer: 64 bits hold it


def parse(text: str) -> Any:
    """The value of JSON `text`.

    Raises:
        ValueError: it is not valid, nested too deeply, or holds an integer of over 18 digits or half a surrogate pair.
    """
    try:
        value = json.loads(text, parse_int=_integer)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("half a surrogate pair in a text") from None
    return value


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > _MOST_DIGITS:
        raise ValueError(f"an integer of {len(digits.lstrip('-'))} digits")
    return int(digits)
