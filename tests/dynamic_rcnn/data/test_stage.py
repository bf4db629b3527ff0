"""Copies on a node's disk: complete or not used, shared, and removed when they are not in use and space is needed."""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dynamic_rcnn.data import dataset as datasets
from dynamic_rcnn.data import stage as module
from dynamic_rcnn.data.shapes import ShapesRecipe
from dynamic_rcnn.data.stage import stage
from dynamic_rcnn.errors import InterruptedRunError, UserError
from tests.dynamic_rcnn.data.coco_fixture import edit_json, write_coco


@pytest.fixture(autouse=True)
def _release() -> Any:
    """End the uses of copies, as the end of a process does."""
    yield
    release()


def release() -> None:
    while module._in_use:
        module._in_use.pop().close()


class Source:
    """A data set with 6 training and 4 validation images, an unused file, and a folder to copy it to."""

    def __init__(self, root: Path, stage_in: Path | str, seed: int = 0) -> None:
        self.dataset = datasets.coco_format_dataset(root, write_coco(root, seed=seed)) | {"stage": str(stage_in)}
        (root / "img" / "train" / "unused.png").write_bytes(b"no image")
        self.files = {path.relative_to(root) for path in root.rglob("*") if path.is_file() and path.stem != "unused"}

    def stage(self, tick: Callable[[], None] = lambda: None) -> Path:
        return stage(datasets.prepare(self.dataset), self.dataset, tick).root


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path / "data", tmp_path / "scratch")


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were copied."""
    names: list[str] = []

    def copyfile(source: Path, target: Path, copy: Any = shutil.copyfile) -> None:
        names.append(source.name)
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    return names


def content(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_annotations_and_the_images_that_they_name_are_copied_once(source: Source, copied: list[str]) -> None:
    root = source.stage()
    assert set(content(root)) == source.files and len(copied) == len(source.files) == 12
    assert content(root).items() <= content(Path(source.dataset["root"])).items()
    assert source.stage() == root and len(copied) == 12
    assert root.parent == Path(source.dataset["stage"]) / f"dynamic_rcnn.{os.getuid()}"


def test_drawn_images_are_copied_with_all_their_splits(tmp_path: Path) -> None:
    """The fingerprint is that of all splits, also of the one that no run reads."""
    recipe = ShapesRecipe(train_images=3, val_images=2, test_images=2, image_size=64)
    drawn = datasets.shapes(recipe, str(tmp_path / "data")) | {"stage": str(tmp_path / "scratch")}
    found = datasets.prepare(drawn)
    copied = content(stage(found, drawn, lambda: None).root)
    assert copied == {path: data for path, data in content(found.root).items() if path.name != "dataset.json"}
    assert len(copied) == 3 + 7


def test_without_a_folder_nothing_is_copied(source: Source) -> None:
    found = datasets.prepare(source.dataset)
    assert stage(found, {**source.dataset, "stage": None}, lambda: None) == found


def test_processes_that_start_together_copy_once(source: Source, copied: list[str]) -> None:
    roots: list[Path] = []
    threads = [threading.Thread(target=lambda: roots.append(source.stage())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(roots) == 4 and len(set(roots)) == 1 and len(copied) == 12


@pytest.mark.parametrize("moment", [1, 5, 12])
def test_an_interrupted_copy_is_not_taken_for_complete(source: Source, copied: list[str], moment: int) -> None:
    ticks = iter(range(1, 100))

    def tick() -> None:
        if next(ticks) == moment:
            raise InterruptedRunError("stopped by a signal")

    with pytest.raises(InterruptedRunError):
        source.stage(tick)
    copied.clear()
    root = source.stage()
    assert set(content(root)) == source.files and len(copied) == 12


def damage_lost_image(root: Path) -> None:
    next(root.glob("img/train/*.png")).unlink()


def damage_torn_image(root: Path) -> None:
    path = next(root.glob("img/val/*.png"))
    path.write_bytes(path.read_bytes()[:-1])


def damage_annotations(root: Path) -> None:
    path = root / "ann" / "val.json"
    path.write_text(path.read_text().replace("cat", "cot", 1))


def damage_killed_while_copying(root: Path) -> None:
    root.with_name(f"{root.name}.json").unlink()
    damage_torn_image(root)


@pytest.mark.parametrize(
    "damage", [damage_lost_image, damage_torn_image, damage_annotations, damage_killed_while_copying]
)
def test_a_copy_that_is_not_complete_is_made_again(source: Source, copied: list[str], damage: Any) -> None:
    root = source.stage()
    good = content(root)
    damage(root)
    assert content(root) != good
    assert source.stage() == root and content(root) == good and len(copied) == 24


def test_corrected_annotations_and_another_root_get_copies_of_their_own(tmp_path: Path, source: Source) -> None:
    roots = {source.stage(), Source(tmp_path / "same", tmp_path / "scratch").stage()}
    root = Path(source.dataset["root"])
    edit_json(root / "ann" / "val.json", lambda content: content["annotations"].pop())
    source.dataset |= datasets.coco_format_dataset(root, {name: source.dataset[name] for name in datasets.PATHS})
    roots.add(source.stage())
    assert len(roots) == 3


def limit_space(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    def disk_usage(folder: Path) -> Any:
        used = sum(path.stat().st_size for path in folder.rglob("*.*") if path.is_file())
        return SimpleNamespace(free=max(0, size - used))

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)


def test_the_copy_not_used_for_the_longest_gives_way_if_no_run_uses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Four data sets, and space for three."""
    sources = [Source(tmp_path / f"data{number}", tmp_path / "scratch", number) for number in range(5)]
    size = sum(path.stat().st_size for path in Path(sources[0].dataset["root"]).rglob("*.*"))
    limit_space(monkeypatch, 4 * size)
    roots = [each.stage() for each in sources[:3]]
    release()
    for age, root in zip((10, 30, 20), roots, strict=True):
        os.utime(root.with_name(f"{root.name}.use"), (1e9 - age, 1e9 - age))
    in_use = sources[1].stage()
    os.utime(in_use.with_name(f"{in_use.name}.use"), (1, 1))
    abandoned = in_use.with_name("0123456789")
    abandoned.mkdir()
    new = sources[3].stage()
    folders = {path for path in new.parent.iterdir() if path.is_dir()}
    assert folders == {new, roots[0], roots[1]} and not abandoned.exists()
    assert f"removing the copy {roots[2]}, which no run uses" in capfd.readouterr().out
    assert sources[2].stage() == roots[2] and not roots[0].exists()


def test_too_little_space_is_one_line_and_removes_nothing(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = source.stage()
    release()
    limit_space(monkeypatch, 2000)
    text = f"has 0.0 GB free on {socket.gethostname()}, the data set needs 0.0 GB, and removing copies"
    with pytest.raises(UserError, match=rf"^dataset\.stage: .* {re.escape(text)} that no run uses is not enough; .*$"):
        Source(tmp_path / "other", tmp_path / "scratch").stage()
    assert root.exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device", "/x"), PermissionError(13, "denied", "/x")])
def test_a_disk_that_fails_is_one_line_and_leaves_nothing(
    source: Source, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def fail(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise error

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(UserError, match=r"^dataset\.stage=.*/scratch: /x: .*; choose another folder, or null$"):
        source.stage()
    assert [path.name for path in Path(source.dataset["stage"]).rglob("*") if path.is_file()] == ["lock"]


def test_the_folder_is_expanded_on_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(tmp_path / "data", "$NODE_SCRATCH/images")
    with pytest.raises(UserError, match=r"dataset\.stage=\$NODE_SCRATCH/images: \$NODE_SCRATCH is not set on "):
        source.stage()
    monkeypatch.setenv("NODE_SCRATCH", "scratch")
    with pytest.raises(UserError, match=r"is 'scratch/images' on .*; must be an absolute path"):
        source.stage()
    monkeypatch.setenv("NODE_SCRATCH", str(tmp_path / "local"))
    assert source.stage().is_relative_to(tmp_path / "local" / "images")


def test_an_image_outside_the_root_is_refused(source: Source) -> None:
    root = Path(source.dataset["root"])
    edit_json(root / "ann" / "train.json", lambda content: content["images"][0].update(file_name="../../../up.png"))
    source.dataset |= datasets.coco_format_dataset(root, {name: source.dataset[name] for name in datasets.PATHS})
    with pytest.raises(UserError, match=r"img/train/\.\./\.\./\.\./up\.png is not below "):
        source.stage()
