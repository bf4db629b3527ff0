"""Say why an image file that the annotations name is not found."""

from __future__ import annotations

import errno
import unicodedata
from pathlib import Path, PurePosixPath
from urllib.parse import unquote


def why_missing(folder: Path, name: str) -> str:
    """The reason why a file is missing or empty, as far as the disk shows it: text that begins with ": ", or "".

    Args:
        folder: the folder of the images.
        name: the name of the file in the annotations, relative to the folder.
    """
    path = folder / name
    try:
        hint = _what_is_there(path) or _similar_name(folder, name)
    except OSError as error:
        hint = f"the folder {path.parent} cannot be read: {error.strerror}" if error.errno == errno.EACCES else ""
    except ValueError:  # a name that no file can have
        hint = ""
    return f": {hint}" if hint else ""


def _what_is_there(path: Path) -> str:
    if path.is_symlink():
        target = path.readlink()
        try:
            path.stat()
        except OSError as error:
            fault = "leads back to itself" if error.errno == errno.ELOOP else "does not exist"
            return f"it is a link to {target}, which {fault}"
    if path.is_dir():
        return "it is a folder"
    if path.is_file():
        return "it is empty; download it again"
    return "it is not a regular file" if path.exists() else ""


def _similar_name(folder: Path, name: str) -> str:
    """A file in the folder that the annotations may mean."""
    first, *rest = PurePosixPath(name).parts
    if rest and first == folder.name and (folder / Path(*rest)).is_file():
        return f"file_name repeats the folder {first}; leave it out of the annotations or of the image folder's path"
    if (folder / name.replace("\\", "/")).is_file():
        return "file_name must have / instead of \\"
    if (folder / unquote(name)).is_file():
        return f"file_name is escaped as in a URL; the file is {unquote(name)}"
    path = folder / name
    others = sorted(other.name for other in path.parent.iterdir()) if path.parent.is_dir() else []
    for other in others:
        if _composed(other) == _composed(path.name):
            return "its name has another Unicode form on the disk (such as NFD of macOS); rename the files or file_name"
    for other in others:
        if _composed(other).casefold() == _composed(path.name).casefold():
            return f"upper and lower case differ from {other}"
    same = [other for other in others if Path(other).stem == path.stem]
    return f"there is {same[0]}" if same else ""


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
