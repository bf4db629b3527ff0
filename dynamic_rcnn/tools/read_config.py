"""Print the content of one of mmdet's config files, or of one that inherits from them, as a JSON document.

    python -m dynamic_rcnn.tools.read_config FILE

It runs in a separate process for callers that must not import mmengine, because a config file is a program. Exit code 2
and one line if the file cannot be read.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from dynamic_rcnn import cli
from dynamic_rcnn.errors import UserError


def read_config(path: Path) -> str:
    """The content of `path` as JSON. Raises UserError if it cannot be read."""
    try:
        if re.search(r"^\s*with read_base\(\)", path.read_text("utf-8"), re.MULTILINE):
            raise UserError(f"{path}: inherits by read_base(); write it with _base_")
        return json.dumps(Config.fromfile(path, import_custom_modules=False).to_dict())
    except UserError:
        raise
    except Exception as error:  # a config file is a program
        text = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as a config of mmdet ({type(error).__name__}: {text})") from None


def main(arguments: Sequence[str]) -> int:
    """Print the content of the file that is the only argument. Returns exit code 0."""
    (path,) = cli.paths(arguments, "FILE")
    print(read_config(path))
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, __doc__ or ""))
