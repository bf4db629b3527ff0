"""A launch decodes the images of a data set in COCO format before anything is written or started."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from dynamic_rcnn.data import image_check
from experiments import launch
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from experiments.doctor import doctor
from experiments.launching import local
from experiments.launching.common import checked_launch
from tests.dynamic_rcnn.data.coco_fixture import LAYOUT, write_coco
from tests.dynamic_rcnn.data.images import INVALID
from tests.experiments.fake_slurm import FakeSlurm


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    write_coco(tmp_path / "data")
    paths = [f"dataset.{name}={path}" for name, path in LAYOUT.items()]
    small = ["base=shapes_r18_fpn", "base.pretrain=null", "arms=[both]", "seeds=[0]", "cluster=local"]
    root = [f"dataset.root={tmp_path / 'data'}", f"runs={tmp_path / 'runs'}"]
    return ["grid=ablation", "dataset=coco_format", *root, *paths, *small]


def damage(tmp_path: Path, split: str, name: str = "1.png") -> Path:
    path = tmp_path / "data" / LAYOUT[f"{split}_img"] / name
    path.write_bytes(INVALID["HTML"][0]())
    return path


@pytest.mark.parametrize("cluster", ["local", "slurm"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_an_undecodable_image_is_refused_before_anything_starts(
    tmp_path: Path, settings: list[str], split: str, cluster: str, slurm: FakeSlurm, capsys: Any
) -> None:
    path = damage(tmp_path, split)
    assert launch.main([*settings, f"cluster={cluster}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {split} images: image 13: file {path} is an HTML or XML page")
    assert error.count("\n") == 1 and not (tmp_path / "runs").exists()


def test_what_was_decoded_is_said(tmp_path: Path, settings: list[str], capsys: Any) -> None:
    grid = build_grid(resolve(settings)[0])
    for decode, said in (
        ("auto", "train images: a sample of 2 of 6 decoded; their sizes are as annotated; decode=all decodes every"),
        ("all", "train images: all 6 decoded; their sizes are as annotated\nval images: all 4 decoded"),
    ):
        with (
            mock.patch.multiple(image_check, SMALL_BYTES=100, SAMPLE=2),
            checked_launch(grid, tmp_path / "runs", "none", decode),
        ):
            assert said in capsys.readouterr().out


def test_decode_is_a_setting_of_the_launch(tmp_path: Path, settings: list[str], capsys: Any) -> None:
    with mock.patch.object(local, "launch", return_value=0) as launched:
        assert launch.main([*settings, "decode=all"]) == 0
    assert "all" in launched.call_args.args
    assert launch.main([*settings, "decode=some"]) == 2
    assert "decode=some" in (error := capsys.readouterr().err) and "auto" in error and "all" in error


def test_the_doctor_names_undecodable_images_and_what_it_is_doing(
    tmp_path: Path, settings: list[str], capsys: Any
) -> None:
    path = damage(tmp_path, "val")
    with mock.patch.object(doctor, "_describe_machine", lambda *given: doctor.Finding(doctor.NOTE, "machine", "")):
        assert launch.main([*settings, "action=doctor"]) == 2
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("BAD")]
    assert line.startswith(f"BAD   val images: image 13: file {path} is an HTML or XML page")
    assert "ok    train images: all 6 decoded; their sizes are as annotated" in lines
    at = lines.index("...   data: reading the annotations of coco_format")
    assert any(line.startswith("ok    data: the annotations of coco_format") for line in lines[at + 1 :])
