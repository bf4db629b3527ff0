"""Fetch COCO 2017 and ImageNet weights.

    python -m dynamic_rcnn.tools.fetch [root=data/coco] [source=...] [only=...] [keep=true]

root    where COCO is put, in its usual layout; default: data/coco in the project
source  a folder with the files, or the URL of a mirror; default: the publishers'
only    of annotations, val2017, train2017, resnet50, resnet101; default: all
keep    true: keep the archives after unpacking; default: false

An interrupted transfer goes on where it stopped when the command is given again, and by itself when the connection
breaks. Checksums are verified before anything is unpacked; what is unpacked is there whole or not at all, and what is
there already is left alone. Proxies are taken from http_proxy and https_proxy. Nothing else in the suite fetches COCO.
Exit codes: 0 all is there, 2 bad input or something could not be fetched, 130 interrupted.
"""

from __future__ import annotations

import errno
import http.client
import shutil
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dynamic_rcnn import PROJECT
from dynamic_rcnn.errors import UserError, unknown_name
from dynamic_rcnn.run.digest import file_digest

_BLOCK = 1 << 20
_TIMEOUT_S = 60.0
_ATTEMPTS = 5  # without a byte in between
_PAUSE_S = 3.0
_PROGRESS_S = 5.0
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Item:
    """A file to fetch. digest: of its md5, or the begin of its sha256; unpacks: the folder in it, None for weights."""

    name: str
    url: str
    algorithm: str
    digest: str
    unpacks: str | None = None

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
        "annotations",
    ),
    Item("val2017", f"{_COCO}/zips/val2017.zip", "md5", "442b8da7639aecaf257c1dceb8ba8c80", "val2017"),
    Item("train2017", f"{_COCO}/zips/train2017.zip", "md5", "cced6f7f71b7629ddf16f17bbcfab6b2", "train2017"),
    Item("resnet50", f"{_TORCH}/resnet50-0676ba61.pth", "sha256", "0676ba61"),
    Item("resnet101", f"{_TORCH}/resnet101-63fe2227.pth", "sha256", "63fe2227"),
)


def fetch(item: Item, root: Path, source: str | None, keep: bool) -> str:
    """Have `item` in its place. Returns what was done in a few words; raises UserError where it cannot be had."""
    target = root / item.unpacks if item.unpacks else weights_folder() / item.file
    if target.exists():
        return f"{target}: there already"
    target.parent.mkdir(parents=True, exist_ok=True)
    local = _in_folder(item, source)
    file = local or _downloaded(item, target.parent, source)
    _check(item, file, delete=local is None)
    if item.unpacks:
        _unpack(file, item.unpacks, root)
        if local is None and not keep:
            file.unlink()
    elif local is None:
        file.rename(target)
    else:
        part = target.with_name(f".{target.name}.part")
        shutil.copyfile(file, part)
        part.rename(target)
    return f"{target}: fetched, {item.algorithm} verified"


def weights_folder() -> Path:
    """Where torch, and mmengine with it, looks for ImageNet weights."""
    import torch  # seconds

    return Path(torch.hub.get_dir()) / "checkpoints"


def _in_folder(item: Item, source: str | None) -> Path | None:
    """The file in a source that is a folder; None if the source is a URL."""
    if source is None or "://" in source:
        return None
    path = Path(source) / item.file
    if not path.is_file():
        raise UserError(f"source={source}: holds no {item.file}; put it there, or leave {item.name} out with only=")
    return path


def _downloaded(item: Item, folder: Path, source: str | None) -> Path:
    """The file in `folder`, whole by its length; a part that an earlier call left is gone on with."""
    url = item.url if source is None else f"{source.rstrip('/')}/{item.file}"
    whole, part = folder / f".{item.file}", folder / f".{item.file}.part"
    if whole.exists():
        return whole
    fruitless = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _transfer(url, part, before)
            return part.rename(whole)
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise UserError(f"{url}: HTTP {error.code} {error.reason}; give another source=") from None
            if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
                raise UserError(f"{part}: {error.strerror}") from None
            got = part.stat().st_size if part.exists() else 0
            fruitless = 0 if got > before else fruitless + 1
            if fruitless == _ATTEMPTS:
                raise UserError(f"{url}: {error}; {_size(got)} are kept, calling again goes on from there") from None
            print(f"{item.file}: {error}; going on at {_size(got)}", file=sys.stderr, flush=True)
            time.sleep(_PAUSE_S)


def _transfer(url: str, part: Path, start: int) -> None:
    """Append what is missing of `url` from byte `start` on; raises OSError if the connection ends before the file."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing is missing; whether it is right is for the checksum to say
            return
        raise
    with answer:
        if answer.status != 206:
            start = 0  # the server knows no ranges
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        if total is not None and total - start > (free := shutil.disk_usage(part.parent).free):
            raise UserError(f"{part.parent}: {_size(total - start)} are needed, {_size(free)} are free")
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
    """Compare the checksum. delete: remove a file that is wrong, so that the next call fetches it anew."""
    found = file_digest(file, item.algorithm)
    if not found.startswith(item.digest):
        if delete:
            file.unlink()
        way = "it is deleted; call again to fetch it anew" if delete else "get it anew"
        raise UserError(
            f"{file}: {item.algorithm} is {found[: len(item.digest)]}, and must be {item.digest}: damaged in the "
            f"transfer, or another file; {way}"
        )


def _unpack(archive: Path, folder: str, root: Path) -> None:
    """Unpack beside the target, then rename: an interrupted call leaves no half a folder. zipfile checks each CRC."""
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
        raise UserError(f"{archive}: holds no folder {folder}")
    (part / folder).rename(root / folder)
    shutil.rmtree(part)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _settings(arguments: Sequence[str]) -> dict[str, str]:
    values = {"root": str(PROJECT / "data" / "coco"), "source": "", "only": "", "keep": "false"}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or name not in values:
            raise unknown_name("argument", [argument], [f"{name}=..." for name in values])
        values[name] = value
    if values["keep"] not in ("true", "false"):
        raise UserError(f"keep={values['keep']}: must be true or false")
    return values


def main(arguments: Sequence[str]) -> int:
    if set(arguments) & {"-h", "--help"}:
        print(__doc__)
        return 0
    try:
        values = _settings(arguments)
        names = [name for name in values["only"].split(",") if name]
        unknown = [name for name in names if name not in {item.name for item in ITEMS}]
        if unknown:
            raise unknown_name("item", unknown, [item.name for item in ITEMS], "only")
        for item in ITEMS:
            if not names or item.name in names:
                print(fetch(item, Path(values["root"]), values["source"] or None, values["keep"] == "true"), flush=True)
    except UserError as error:
        print(f"fetch: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; calling again goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
