"""Errors of all commands end in one line and an exit code, in any locale and on any file system."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn import PROJECT, cli
from dynamic_rcnn.errors import UserError


def write(path: Path) -> Callable[[], int]:
    return lambda: path.write_text("x") and 0


def fail(error: Exception) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


def test_errors_of_the_file_system_are_one_line(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").touch()
    works = {
        "Too many levels of symbolic links; free": write(tmp_path / "loop"),
        "Not a directory; free": write(tmp_path / "file" / "x"),
        "Is a directory; free": write(tmp_path),
        "File name too long; free": write(tmp_path / ("x" * 300)),
        "No such file or directory": lambda: len((tmp_path / "gone").read_text()),
        "No space left on device": write(Path("/dev/full")),
        "is not valid UTF-8; give another name": lambda: len("a\udcff".encode()),
        "Symlink loop from '/x'; choose another path": fail(RuntimeError("Symlink loop from '/x'")),
        "first second": fail(UserError("first\nsecond")),
    }
    for expected, work in works.items():
        assert cli.report_errors(work, "free some space") == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ") and expected in message and message.count("\n") == 1
    with pytest.raises(RuntimeError, match="a fault of ours"):
        cli.report_errors(fail(RuntimeError("a fault of ours")))


COUNT_FILES = """
import sys
from pathlib import Path
from dynamic_rcnn import cli

sys.exit(cli.run(lambda given: len(list(Path(given[0]).glob("jos\\u00e9"))), ""))
"""


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_commands_are_utf8_in_every_locale(locale: str, tmp_path: Path) -> None:
    (tmp_path / "jos\u00e9").touch()
    (tmp_path / "count.py").write_text(COUNT_FILES)
    settings = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": locale, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, str(tmp_path / "count.py"), str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_user_without_a_passwd_entry_has_a_name_and_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(cli.pwd, "getpwuid", unknown)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    cli.complete_environment()
    assert getpass.getuser() == f"uid{os.getuid()}"
    assert Path.home() == Path(tempfile.gettempdir())
