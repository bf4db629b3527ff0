"""What all commands share: name=value arguments, and errors that end in one line and an exit code.

Exit codes: 0 done, 2 bad input, 130 interrupted; a command documents others of its own.
"""

from __future__ import annotations

import errno
import io
import os
import pwd
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dynamic_rcnn.errors import UserError, unknown_name

EXIT_BAD_INPUT, EXIT_INTERRUPTED = 2, 130
# errors of a disk that cannot be written to, or of a path that cannot exist
_REFUSED = ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "ENOTDIR", "EISDIR", "EEXIST", "ENAMETOOLONG", "ELOOP")
_REFUSED_NUMBERS = {getattr(errno, name) for name in _REFUSED}
_LONGEST = 200  # largest number of characters of a value in a message
_NO_DISPLAY = "agg"  # the backend of matplotlib that needs no display
_BOOLEANS = {"true": True, "false": False}


def prepare_process() -> None:
    """Prepare the process of a command; scripts call this before their other imports.

    Ctrl-C ends the process without a traceback while it imports; `run` handles it from then on. If a shell started this
    process with SIGINT ignored, as for a background job, it stays ignored.

    Figures are drawn without a display: Jupyter exports its own MPLBACKEND to the commands that it starts, and
    matplotlib cannot be imported if that backend is not installed.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ["MPLBACKEND"] = _NO_DISPLAY
    complete_environment()


def complete_environment() -> None:
    """Make up for what a container or a batch job may lack: a UTF-8 locale, a user name, a home.

    Annotations and records are UTF-8, and so are the file names in them: in another locale this process starts again in
    Python's UTF-8 mode. Libraries ask for the user's name and home, which a user id without a passwd entry does not
    have.
    """
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("LOGNAME", f"uid{os.getuid()}")
        os.environ.setdefault("HOME", tempfile.gettempdir())
    if sys.getfilesystemencoding() != "utf-8":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


@contextmanager
def handle_signals(numbers: Iterable[int], handler: Callable[[int], object]) -> Iterator[None]:
    """Call `handler` with the number of each of these signals that arrives inside the block.

    A signal that the caller ignores (nohup, a background job of a shell) stays ignored.
    """
    previous = {number: signal.getsignal(number) for number in numbers}
    handled = [number for number, action in previous.items() if action is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, lambda number, frame: handler(number))
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, previous[number])


def run(main: Callable[[Sequence[str]], int], usage: str, disk_hint: str = "") -> int:
    """Call `main` with the command line's arguments, and report its errors. Returns the exit code.

    usage: what --help prints. disk_hint: advice that ends the message if a file cannot be written.
    """
    complete_environment()
    arguments = sys.argv[1:]
    if any(argument in ("-h", "--help") for argument in arguments):
        return report_errors(lambda: print(usage.strip(), flush=True) or 0)
    return report_errors(lambda: main(arguments), disk_hint)


def report_errors(work: Callable[[], int], disk_hint: str = "") -> int:
    """Like `run`, for a command that reads its arguments itself."""
    os.environ["MPLBACKEND"] = _NO_DISPLAY
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):  # in a test or a notebook, they may be of another type
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names that are not UTF-8 can be printed
    try:
        return work()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    except BrokenPipeError:  # the program that reads the pipe, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        hint = f"; {disk_hint}" if disk_hint and error.errno in _REFUSED_NUMBERS else ""
        print(f"error: {error.filename or 'disk'}: {error.strerror or error}{hint}", file=sys.stderr)
    except UnicodeError as error:
        text = repr(getattr(error, "object", error))[:_LONGEST]
        print(f"error: {text}: is not valid UTF-8; give another name or text", file=sys.stderr)
    except RuntimeError as error:  # raised by Path.resolve until Python 3.12
        if "Symlink loop" not in str(error):
            raise
        print(f"error: {error}; choose another path", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_BAD_INPUT


def paths(arguments: Sequence[str], *names: str) -> list[Path]:
    """Read arguments that are paths. Raises UserError unless there is one for each of `names`."""
    if not arguments and names:
        raise UserError(f"give {' '.join(names)}; --help explains them")
    if len(arguments) != len(names) or any(argument.startswith("-") for argument in arguments):
        raise UserError(
            f"arguments {' '.join(arguments)}: expected {' '.join(names) or 'no arguments'}; --help explains them"
        )
    return [Path(argument) for argument in arguments]


def parse(arguments: Sequence[str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Read arguments of the form name=value. Returns `defaults`, which has every valid name, with the given values.

    Raises UserError if an argument has another form, an unknown name or no value.
    """
    values = dict(defaults)
    broken = [argument for argument in arguments if "=" not in argument]
    if broken:
        raise UserError(f"argument {broken[0]!r} is not of the form name=value; valid: {', '.join(sorted(defaults))}")
    pairs = [argument.split("=", 1) for argument in arguments]
    unknown = [name for name, _ in pairs if name not in defaults]
    if unknown:
        raise unknown_name("argument", unknown, defaults)
    for name, value in pairs:
        if not value:
            raise UserError(f"argument {name!r} is empty; give a value: {name}=...")
        values[name] = value
    return values


def count(name: str, value: str, least: int, most: int = 999_999_999) -> int:
    """Read a whole number. Raises UserError unless it is from `least` to `most`."""
    if not value.isdecimal() or len(value) > 9 or not least <= int(value) <= most:
        raise UserError(f"argument {name!r} is {value[:20]!r}; it must be a whole number from {least} to {most}")
    return int(value)


def boolean(name: str, value: str) -> bool:
    """Read true or false. Raises UserError for anything else."""
    if value.lower() not in _BOOLEANS:
        raise UserError(f"argument {name!r} is {value!r}; it must be true or false")
    return _BOOLEANS[value.lower()]


def is_text(name: str) -> bool:
    """Whether a file name is valid UTF-8, so that it can be written into a file."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
