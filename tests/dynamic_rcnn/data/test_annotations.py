"""Annotations are read as UTF-8 wherever they are read: pycocotools opens files in the encoding of the locale."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.data.annotations import read_annotations, read_classes, read_json
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.ap import load_ground_truth
from tests.dynamic_rcnn.data.coco_fixture import LAYOUT, write_coco

NAME = "Fußgänger 行人"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_coco(tmp_path)
    path = tmp_path / LAYOUT["val_ann"]
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = NAME
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def test_under_a_locale_of_ascii(path: Path) -> None:
    code = "import sys; from pathlib import Path; from dynamic_rcnn.data.annotations import read_classes\n"
    code += "from dynamic_rcnn.metrics.ap import load_ground_truth\npath = Path(sys.argv[1])\n"
    code += "print(ascii([read_classes(path)[0], load_ground_truth(path).cats[3]['name'], open(path).encoding]))"
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=env, capture_output=True, text=True)
    assert done.stdout == f"[{NAME!a}, {NAME!a}, 'ANSI_X3.4-1968']\n", done.stderr


def test_neither_mmdet_nor_pycocotools_opens_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dynamic_rcnn import method  # noqa: F401  makes mmdet usable
    from dynamic_rcnn.engine.coco_dataset import Utf8Coco, Utf8CocoDataset

    def fail(*arguments: Any, **options: Any) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr(builtins, "open", fail)
    names = [load_ground_truth(path).cats[3]["name"], Utf8Coco(str(path)).cats[3]["name"]]
    assert names == [NAME, NAME] and Utf8CocoDataset.COCOAPI is Utf8Coco


def test_what_only_pythons_decoder_reads_has_the_same_values(path: Path) -> None:
    before = read_annotations(path).annotations
    content = read_json(path)
    content["annotations"][0]["score"] = float("nan")
    path.write_text(json.dumps(content))
    after = read_annotations(path).annotations
    assert [vars_of(item) for item in before] == [vars_of(item) for item in after]
    assert read_classes(path)[0] == NAME


def vars_of(item: Any) -> list[Any]:
    return [getattr(item, name) for name in item.__struct_fields__]


@pytest.mark.parametrize("text", ["", "{", "[1,]", '{"images": [], }', "[" * 100_000])
def test_what_is_not_json_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match=r"val\.json: not JSON: "):
        read_json(path)
    with pytest.raises(UserError, match=r"val\.json: not JSON: "):
        read_annotations(path)
