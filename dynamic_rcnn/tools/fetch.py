"""Fetch COCO 2017 and ImageNet weights.

    python -m dynamic_rcnn.tools.fetch root=data/coco [source=...] [keep=true]    COCO (20 GB) and the weights
    python -m dynamic_rcnn.tools.fetch only=resnet50,resnet101                    some of it

root    where to put COCO, in its usual layout; default, if only= is given: data/coco in the project
source  a folder with the files, or the URL of a mirror; default: the publishers' URLs
only    some of annotations, val2017, train2017, resnet50, resnet101; default: all
keep    true: keep the archives after unpacking; default: false

Repeating the command resumes interrupted downloads; broken connections are retried. Checksums are verified
before unpacking. Archives are unpacked completely or not at all, and existing files and folders are left alone. Proxies
are taken from http_proxy and https_proxy. No other command downloads COCO.
Exit codes: 0 everything exists, 2 bad input or a failed download, 130 interrupted.
"""

from __future__ import annotations

import errno
import http.client
import shutil
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dynamic_rcnn import PROJECT, cli
from dynamic_rcnn.engine.pretrained import weights_folder
from dynamic_rcnn.errors import UserError, unknown_name
from dynamic_rcnn.run.files import file_digest

_BLOCK = 1 << 20
_TIMEOUT_S = 60.0
_ATTEMPTS = 5  # number of attempts in a row that may receive no data
_PAUSE_S = 3.0
_PROGRESS_S = 5.0
_UNREACHABLE = (socket.gaierror, ConnectionRefusedError, ssl.SSLError)
_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Item:
    """A file to fetch: weights, or an archive of a folder with the item's name."""

    name: str  # its name in `only=`
    url: str  # the publisher's
    algorithm: str  # algorithm of the checksum
    digest: str  # the md5, or the first digits of the sha256
    archive: bool = False

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[-1]


_COCO, _TORCH = "http://images.cocodataset.org", "https://download.pytorch.org/models"
ITEMS = (
    Item(
        "annotations",
        f"{_COCO}/annotations/annotations_trainval2017.zip",
        "md5",
        "f4bbac642086de4f52a3fdda2de5fa2c",
        True,
    ),
    Item("val2017", f"{_COCO}/zips/val2017.zip", "md5", "442b8da7639aecaf257c1dceb8ba8c80", True),
    Item("train2017", f"{_COCO}/zips/train2017.zip", "md5", "cced6f7f71b7629ddf16f17bbcfab6b2", True),
    Item("resnet50", f"{_TORCH}/resnet50-0676ba61.pth", "sha256", "0676ba61"),
    Item("resnet101", f"{_TORCH}/resnet101-63fe2227.pth", "sha256", "63fe2227"),
)


def fetch(item: Item, root: Path, source: str | None, keep: bool) -> str:
    """Download, verify and unpack `item`. Returns one line about it; raises UserError if it cannot be fetched."""
    target = root / item.name if item.archive else weights_folder() / item.file
    if target.exists():
        return f"{target}: exists"
    target.parent.mkdir(parents=True, exist_ok=True)
    local = _find_in_source(item, source)
    file = local or _download(item, target.parent, source)
    _check(item, file, delete=local is None)
    if item.archive:
        _unpack(file, item.name, root)
        if local is None and not keep:
            file.unlink()
    elif local is None:
        file.rename(target)
    else:
        part = target.with_name(f".{target.name}.part")
        shutil.copyfile(file, part)
        part.rename(target)
    return f"{target}: fetched, {item.algorithm} verified"


def _find_in_source(item: Item, source: str | None) -> Path | None:
    """The file in the source folder; None if the source is a URL."""
    if source is None or "://" in source:
        return None
    path = Path(source) / item.file
    if not path.is_file():
        raise UserError(f"source={source}: has no {item.file}; put it there, or leave {item.name} out with only=")
    return path


def _download(item: Item, folder: Path, source: str | None) -> Path:
    """Download the file to `folder`, resuming an earlier partial download. Its checksum is not verified.

    Broken connections are retried. Raises UserError if the host cannot be reached or refuses, or if the disk is full.
    """
    url = item.url if source is None else f"{source.rstrip('/')}/{item.file}"
    whole, part = folder / f".{item.file}", folder / f".{item.file}.part"
    if whole.exists():
        return whole
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _transfer(url, part, before)
            return part.rename(whole)
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            if final := _final_fault(error, url, part):
                raise UserError(final) from None
            got = part.stat().st_size if part.exists() else 0
            failures = 0 if got > before else failures + 1
            if failures == _ATTEMPTS:
                raise UserError(
                    f"{url}: {_reason(error)}; {_size(got)} are kept; repeat the command to resume"
                ) from None
            print(f"{item.file}: {_reason(error)}; resuming at {_size(got)}", file=sys.stderr, flush=True)
            time.sleep(_PAUSE_S)


def _final_fault(error: Exception, url: str, part: Path) -> str | None:
    """The message about an error that a retry cannot mend, or None."""
    if isinstance(error, urllib.error.HTTPError):
        return f"{url}: HTTP {error.code} {error.reason}; choose another source=" if error.code < 500 else None
    if isinstance(error, urllib.error.URLError):
        unreachable = isinstance(error.reason, _UNREACHABLE) or getattr(error.reason, "errno", None) in _NO_ROUTE
        way_out = "without internet access, set http_proxy and https_proxy, or give source=FOLDER with the files"
        return f"{url}: cannot be reached ({_reason(error)}); {way_out}" if unreachable else None
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
        return f"{part}: {error.strerror}"
    return None


def _reason(error: Exception) -> str:
    """What an error says, without the names and numbers of Python's classes."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(getattr(cause, "strerror", None) or cause)


def _transfer(url: str, part: Path, start: int) -> None:
    """Append the bytes of `url` from `start` on to `part`. Raises OSError if the connection ends early."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # the file is complete; the checksum is verified later
            return
        raise
    with answer:
        if answer.status != 206:
            start = 0  # the server does not support ranges
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        if total is not None and total - start > (free := shutil.disk_usage(part.parent).free):
            raise UserError(f"{part.parent}: needs {_size(total - start)}, only {_size(free)} are free")
        with part.open("ab" if start else "wb") as file:
            _copy(answer, file, part.name.strip("."), start, total)
    if total is not None and part.stat().st_size != total:
        raise ConnectionError(f"the connection ended at {_size(part.stat().st_size)} of {_size(total)}")


def _copy(answer: http.client.HTTPResponse, file: IO[bytes], name: str, done: int, total: int | None) -> None:
    shown = time.monotonic()
    while block := answer.read1(_BLOCK):
        file.write(block)
        done += len(block)
        if time.monotonic() - shown > _PROGRESS_S:
            shown = time.monotonic()
            print(f"{name}: {_size(done)}{f' of {_size(total)}' if total else ''}", flush=True)


def _check(item: Item, file: Path, delete: bool) -> None:
    """Verify the checksum. delete: remove a wrong file, so that the next call downloads it again."""
    found = file_digest(file, item.algorithm)
    if not found.startswith(item.digest):
        if delete:
            file.unlink()
        way_out = "it was deleted; repeat the command to download it again" if delete else "get it again"
        raise UserError(f"{file}: {item.algorithm} is {found[: len(item.digest)]}, must be {item.digest}; {way_out}")


def _unpack(archive: Path, folder: str, root: Path) -> None:
    """Unpack beside the target, then rename, so that the folder is complete or absent. zipfile checks each CRC."""
    part = root / f".{folder}.unpacking"
    shutil.rmtree(part, ignore_errors=True)
    print(f"{archive.name.strip('.')}: unpacking", flush=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(part)
    except (zipfile.BadZipFile, OSError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise UserError(f"{archive}: cannot be unpacked: {error}") from None
    if not (part / folder).is_dir():
        shutil.rmtree(part)
        raise UserError(f"{archive}: has no folder {folder}")
    (part / folder).rename(root / folder)
    shutil.rmtree(part)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def main(arguments: Sequence[str]) -> int:
    """Fetch what the arguments ask for. Returns exit code 0; raises UserError for bad input and failed downloads."""
    if not arguments:
        items = ", ".join(item.name for item in ITEMS)
        raise UserError(
            f"give root=FOLDER to fetch COCO (20 GB) and weights, or only= with some of {items}; see --help"
        )
    defaults = {"root": str(PROJECT / "data" / "coco"), "source": "", "only": "", "keep": "false"}
    values = cli.parse(arguments, defaults)
    keep = cli.boolean("keep", values["keep"])
    names = [name for name in values["only"].split(",") if name]
    known = [item.name for item in ITEMS]
    if unknown := [name for name in names if name not in known]:
        raise unknown_name("item", unknown, known, "only")
    for item in ITEMS:
        if not names or item.name in names:
            print(fetch(item, Path(values["root"]), values["source"] or None, keep), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, __doc__ or ""))
