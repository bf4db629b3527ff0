"""Fetching from an HTTP server on this machine that closes connections, ignores ranges, or sends damaged files."""

from __future__ import annotations

import errno
import hashlib
import io
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn import cli
from dynamic_rcnn.tools import fetch

WEIGHTS = bytes(range(256)) * 3000


class Server(ThreadingHTTPServer):
    """Serves `files` by the last part of their URL.

    Attributes:
        files: file name -> content.
        breaks: the number of bytes after which to close the connection, one for each of the next answers.
        ranges: whether requests for a part of a file are honoured.
        asked: path and Range header of each request.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.breaks: list[int] = []
        self.ranges = True
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        content = self.server.files.get(self.path.rsplit("/", 1)[-1])
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        most = self.server.breaks.pop(0) if self.server.breaks else len(content)
        self.wfile.write(content[start : start + most])

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for number in range(3):
            opened.writestr(f"val2017/{number:012d}.jpg", bytes([number]) * 1000)
    return file.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server that has val2017 and weights, and a module that expects their checksums."""
    server = Server()
    items = {item.name: item for item in fetch.ITEMS}
    val = replace(items["val2017"], digest=hashlib.md5(archive()).hexdigest())
    digest = hashlib.sha256(WEIGHTS).hexdigest()[:8]
    weights = replace(items["resnet50"], url=f"https://x/resnet50-{digest}.pth", digest=digest)
    server.files = {val.file: archive(), weights.file: WEIGHTS}
    monkeypatch.setattr(fetch, "ITEMS", (val, weights))
    monkeypatch.setattr(fetch, "_PAUSE_S", 0.0)
    monkeypatch.setattr(fetch, "weights_folder", lambda: tmp_path / "hub")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def call(tmp_path: Path, *arguments: str) -> int:
    return cli.report_errors(lambda: fetch.main([f"root={tmp_path / 'coco'}", *arguments]))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_items_are_fetched_once(server: Server, tmp_path: Path, capsys: Any) -> None:
    assert call(tmp_path, f"source={server.url}") == 0
    assert names(tmp_path / "coco") == ["val2017"] and len(names(tmp_path / "coco" / "val2017")) == 3
    (weights,) = (tmp_path / "hub").iterdir()
    assert weights.read_bytes() == WEIGHTS
    asked = len(server.asked)
    assert call(tmp_path, f"source={server.url}") == 0
    assert len(server.asked) == asked and capsys.readouterr().out.count(": exists") == 2


def test_a_broken_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    server.breaks = [100_000, 200_000, 1]
    assert call(tmp_path, f"source={server.url}", "only=resnet50") == 0
    assert [wanted for _, wanted in server.asked] == [None, "bytes=100000-", "bytes=300000-", "bytes=300001-"]
    assert next((tmp_path / "hub").iterdir()).read_bytes() == WEIGHTS


def test_a_later_call_resumes_an_interrupted_download(server: Server, tmp_path: Path, capsys: Any) -> None:
    server.breaks = [100_000] + [0] * 5
    assert call(tmp_path, f"source={server.url}", "only=resnet50") == 2
    assert "0.1 MB are kept; repeat the command to resume" in capsys.readouterr().err
    assert call(tmp_path, f"source={server.url}", "only=resnet50") == 0
    assert server.asked[-1][1] == "bytes=100000-" and len(names(tmp_path / "hub")) == 1


def test_without_range_support_the_download_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges, server.breaks = False, [100_000]
    assert call(tmp_path, f"source={server.url}", "only=resnet50") == 0
    assert next((tmp_path / "hub").iterdir()).read_bytes() == WEIGHTS


@pytest.mark.parametrize("only", ["val2017", "resnet50"])
def test_a_damaged_download_is_deleted_and_repeated(only: str, server: Server, tmp_path: Path, capsys: Any) -> None:
    good = dict(server.files)
    server.files = {name: content[:50] + b"x" + content[51:] for name, content in good.items()}
    assert call(tmp_path, f"source={server.url}", f"only={only}") == 2
    message = capsys.readouterr().err
    assert "it was deleted; repeat the command" in message and message.count("\n") == 1
    assert names(tmp_path / ("coco" if only == "val2017" else "hub")) == []
    server.files = good
    assert call(tmp_path, f"source={server.url}", f"only={only}") == 0


def test_a_partial_download_of_another_file_is_detected(server: Server, tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / ".val2017.zip.part").write_bytes(b"x" * 10)
    assert call(tmp_path, f"source={server.url}", "only=val2017") == 2
    assert call(tmp_path, f"source={server.url}", "only=val2017") == 0


def test_a_source_folder_is_not_modified(server: Server, tmp_path: Path, capsys: Any) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for name, content in server.files.items():
        (mirror / name).write_bytes(content)
    assert call(tmp_path, f"source={mirror}") == 0
    assert names(mirror) == sorted(server.files) and server.asked == []
    (mirror / "val2017.zip").write_bytes(b"no archive")
    assert call(tmp_path / "again", f"source={mirror}") == 2
    assert "md5 is" in capsys.readouterr().err and (mirror / "val2017.zip").exists()


def test_a_proxy_is_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "_opener", None)  # it was made when there was no proxy
    monkeypatch.setenv("http_proxy", server.url)
    assert call(tmp_path, "only=val2017") == 0
    assert server.asked == [("http://images.cocodataset.org/zips/val2017.zip", None)]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("only=val", "unknown item 'val' in only; valid: resnet50, val2017"),
        (
            None,
            "give root=FOLDER to fetch COCO (20 GB) and weights, or only= with some of val2017, resnet50; see --help",
        ),
        ("sauce=x", "unknown argument 'sauce'; valid: keep, only, root, source"),
        ("keep=yes", "argument 'keep' is 'yes'; it must be true or false"),
        ("source=/nowhere", "source=/nowhere: has no val2017.zip; put it there, or leave val2017 out with only="),
    ],
)
def test_bad_input(argument: str | None, expected: str, server: Server, tmp_path: Path, capsys: Any) -> None:
    """Without any argument, nothing is fetched."""
    code = cli.report_errors(lambda: fetch.main([])) if argument is None else call(tmp_path, argument)
    assert code == 2 and server.asked == []
    assert capsys.readouterr().err == f"error: {expected}\n"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "Network is unreachable"),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), "certificate verify failed"),
    ],
)
def test_without_internet_access_there_is_one_line_and_no_retry(
    reason: OSError, expected: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError(reason)

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    assert call(tmp_path, "only=val2017") == 2
    out, err = capsys.readouterr()
    url = "http://images.cocodataset.org/zips/val2017.zip"
    way_out = "without internet access, set http_proxy and https_proxy, or give source=FOLDER with the files"
    assert (out, err) == ("", f"error: {url}: cannot be reached ({expected}); {way_out}\n")


def test_a_timeout_is_retried(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError(TimeoutError("timed out"))

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    assert call(tmp_path, "only=val2017") == 2
    err = capsys.readouterr().err.splitlines()
    assert err[:-1] == ["val2017.zip: timed out; resuming at 0.0 MB"] * 4
    assert err[-1].endswith("val2017.zip: timed out; 0.0 MB are kept; repeat the command to resume")


def test_a_file_missing_on_the_server_is_an_error(server: Server, tmp_path: Path, capsys: Any) -> None:
    server.files.clear()
    assert call(tmp_path, f"source={server.url}", "only=val2017") == 2
    assert "HTTP 404 Not Found; choose another source=" in capsys.readouterr().err


def test_archives_are_kept_with_keep(server: Server, tmp_path: Path) -> None:
    assert call(tmp_path, f"source={server.url}", "only=val2017", "keep=true") == 0
    assert names(tmp_path / "coco") == [".val2017.zip", "val2017"]


def test_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "dynamic_rcnn.tools.fetch", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "only    some of annotations, val2017, train2017" in done.stdout


def test_the_weights_are_those_that_mmengine_loads_for_the_bases() -> None:
    """URLs and hashes are those of torchvision, which mmengine uses for torchvision:// paths."""
    from mmengine.runner.checkpoint import get_torchvision_models
    from torchvision.models import ResNet50_Weights, ResNet101_Weights

    items, known = {item.name: item for item in fetch.ITEMS}, get_torchvision_models()
    for name, weights in (("resnet50", ResNet50_Weights), ("resnet101", ResNet101_Weights)):
        assert items[name].url == known[name] == weights.IMAGENET1K_V1.url
        assert items[name].file == f"{name}-{items[name].digest}.pth"
