"""What the commands of this package share: key=value arguments, and errors as one line with exit code 2."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence

from dynamic_rcnn.errors import UserError, unknown_name
from dynamic_rcnn.run.fingerprint import PACKAGE

ROOT = PACKAGE.parent
BOOLEANS = {"true": True, "false": False}


def parse(arguments: Sequence[str], defaults: Mapping[str, str]) -> dict[str, str]:
    """`defaults` overridden by key=value `arguments`. Raises UserError for other forms and unknown keys."""
    values = dict(defaults)
    broken = [argument for argument in arguments if "=" not in argument]
    if broken:
        raise UserError(f"argument {broken[0]!r} is not of the form key=value; valid: {', '.join(sorted(defaults))}")
    pairs = [argument.split("=", 1) for argument in arguments]
    unknown = [key for key, _ in pairs if key not in defaults]
    if unknown:
        raise unknown_name("argument", unknown, defaults)
    for key, value in pairs:
        if not value:
            raise UserError(f"argument {key!r} is empty; give a value: {key}=...")
        values[key] = value
    return values


def count(key: str, value: str, least: int, most: int = 999_999_999) -> int:
    """Raises UserError unless `value` is a whole number from `least` to `most`."""
    if not value.isdecimal() or len(value) > 9 or not least <= int(value) <= most:
        raise UserError(f"argument {key!r} is {value[:20]!r}; it must be a whole number from {least} to {most}")
    return int(value)


def boolean(key: str, value: str) -> bool:
    """Raises UserError unless `value` is true or false."""
    if value.lower() not in BOOLEANS:
        raise UserError(f"argument {key!r} is {value!r}; it must be one of {', '.join(BOOLEANS)}")
    return BOOLEANS[value.lower()]


def is_text(name: str) -> bool:
    """Whether a name, as of a file, is text that can be written down."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def run(usage: str, main: Callable[[Sequence[str]], int]) -> int:
    """The exit code of `main`; a UserError or an unwritable disk is one line on stderr and exit code 2, Ctrl-C 130."""
    arguments = sys.argv[1:]
    if any(argument in ("-h", "--help") for argument in arguments):
        print(usage.strip())
        return 0
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as the scripts have it during their imports
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return main(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.filename or 'disk'}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 2
