"""Checkpoints: damaged ones are skipped, and weights load strictly from mmdet's models and into them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mmdet
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import load_checkpoint

from dynamic_rcnn.engine import build, checkpoint
from dynamic_rcnn.errors import NaNLossError, UserError
from dynamic_rcnn.run.files import file_digest
from dynamic_rcnn.run.spec import RunSpec
from tests.dynamic_rcnn.runs import plain_config

build.use_mmdet_scope()
from mmdet.registry import MODELS  # noqa: E402

CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs"
PUBLISHED = {
    "Faster R-CNN": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "Dynamic R-CNN": "dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco.py",
}


def mmdet_model(name: str) -> Any:
    config = Config.fromfile(CONFIGS / PUBLISHED[name]).model
    config.backbone.init_cfg = None
    torch.manual_seed(1)
    return MODELS.build(config)


def our_model() -> Any:
    config = plain_config("faster_rcnn_r50_fpn_1x", classes=80)
    config["model"]["backbone"]["init_cfg"] = None
    return build.build_model(RunSpec("both", 0, {}, config))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_load_strictly_and_ours_load_into_mmdet(tmp_path, name):
    """A file as OpenMMLab publishes it (meta and state_dict) for mmdet's own class and config."""
    theirs, ours = mmdet_model(name), our_model()
    published = tmp_path / "published.pth"
    torch.save({"meta": {"CLASSES": ("person",), "config": "..."}, "state_dict": theirs.state_dict()}, published)
    checkpoint.load_weights(ours, published)
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())

    for value in ours.parameters():
        value.data.add_(1.0)
    made_here = tmp_path / "weights.pth"
    made_here.write_bytes(checkpoint.serialise({"meta": {"run": "x"}, "state_dict": ours.state_dict()}))
    load_checkpoint(theirs, str(made_here), strict=True)
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


def test_a_checkpoint_of_mmengines_runner_loads(tmp_path):
    history = HistoryBuffer()
    history.update(0.5)
    content = {
        "message_hub": {"log_scalars": {"train/loss": history}},
        "state_dict": torch.nn.Linear(2, 1).state_dict(),
    }
    torch.save(content, tmp_path / "epoch_12.pth")
    model = torch.nn.Linear(2, 1)
    checkpoint.load_weights(model, tmp_path / "epoch_12.pth")
    assert torch.equal(model.weight, content["state_dict"]["weight"])


class Harmful:
    def __reduce__(self) -> Any:
        return (getattr, (Path, "unlink"))


def test_code_in_a_checkpoint_is_refused(tmp_path):
    torch.save({"state_dict": {}, "extra": Harmful()}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match=r"bad.pth: not a readable checkpoint"):
        checkpoint.load_weights(torch.nn.Linear(2, 1), tmp_path / "bad.pth")


def test_weights_that_do_not_fit_are_named(tmp_path):
    torch.save({"state_dict": torch.nn.Linear(3, 1).state_dict()}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other.pth: does not fit the model: .*size mismatch for weight"):
        checkpoint.load_weights(torch.nn.Linear(2, 1), tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"no such weights file"):
        checkpoint.load_weights(torch.nn.Linear(2, 1), tmp_path / "none.pth")


def test_weights_of_the_authors_code_are_refused_by_name(tmp_path):
    theirs = {"module.backbone.body.stem.conv1.weight": torch.zeros(1), "module.rpn.head.conv.weight": torch.zeros(1)}
    torch.save({"model": theirs, "iteration": 90_000}, tmp_path / "model_final.pth")
    with pytest.raises(UserError) as error:
        checkpoint.load_weights(torch.nn.Linear(2, 1), tmp_path / "model_final.pth")
    assert "2 of its 2 keys are missing: weight, bias; 2 keys are not the model's: module.backbone" in str(error.value)
    assert "they are maskrcnn-benchmark's" in str(error.value)


def test_weights_that_have_changed_since_they_were_planned_with(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": torch.nn.Linear(2, 1).state_dict()}, path)
    checkpoint.load_weights(torch.nn.Linear(2, 1), path, file_digest(path))
    with pytest.raises(UserError, match=r"has changed since this run was planned \(sha256 \w{10}, planned 0{10}\)"):
        checkpoint.load_weights(torch.nn.Linear(2, 1), path, "0" * 64)


@pytest.mark.parametrize("other", [[1, 2], {"state_dict": {"weight": 3}}])
def test_a_file_without_a_state_dict_is_refused(tmp_path, other):
    torch.save(other, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other.pth: (not a readable checkpoint|does not fit)"):
        checkpoint.load_weights(torch.nn.Linear(2, 1), tmp_path / "other.pth")


@pytest.mark.parametrize("data", [b"", b"junk", b"PK\x03\x04 cut"])
def test_a_file_that_torch_did_not_make_is_refused_in_one_line(tmp_path, data):
    (tmp_path / "weights.pth").write_bytes(data)
    with pytest.raises(UserError) as error:
        checkpoint.load_weights(torch.nn.Linear(2, 1), tmp_path / "weights.pth")
    said = str(error.value)
    assert "weights.pth: not a readable checkpoint (" in said and said.endswith("; torch.save must have made it")
    assert "\n" not in said


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, value):
    weights = torch.nn.Linear(2, 1).state_dict()
    weights["bias"][0] = value
    torch.save({"state_dict": weights}, tmp_path / "bad.pth")
    model = torch.nn.Linear(2, 1)
    before = model.bias.item()
    with pytest.raises(UserError, match=r"bad.pth: does not fit the model: 1 of its weights are not finite: bias$"):
        checkpoint.load_weights(model, tmp_path / "bad.pth")
    assert model.bias.item() == before


def content(iteration: int) -> dict[str, Any]:
    return {"meta": {"iteration": iteration}, "state_dict": {"w": torch.full((100,), float(iteration))}}


def test_the_newest_intact_checkpoint_is_used(tmp_path):
    for iteration in (100, 200, 300):
        checkpoint.save(tmp_path, content(iteration), keep=3)
    newest = max(tmp_path.glob("*.pth"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1  # one flipped bit
    newest.write_bytes(data)
    second = sorted(tmp_path.glob("*.pth"))[1]
    second.write_bytes(b"")
    loaded, damaged = checkpoint.read_newest(tmp_path)
    assert loaded is not None and checkpoint.deserialise(loaded)["meta"]["iteration"] == 100
    assert [line.split()[1] for line in damaged] == [newest.name, second.name]
    assert all(line.endswith("is truncated or corrupt; falling back to the one before") for line in damaged)


def test_after_a_corrupt_one_the_next_is_kept(tmp_path):
    """A corrupt file of a later iteration must not push out what the resumed run saves."""
    for iteration in (100, 200):
        checkpoint.save(tmp_path, content(iteration), keep=2)
    max(tmp_path.glob("*.pth")).write_bytes(b"cut")
    checkpoint.read_newest(tmp_path)
    checkpoint.save(tmp_path, content(110), keep=1)
    loaded, damaged = checkpoint.read_newest(tmp_path)
    assert loaded is not None and checkpoint.deserialise(loaded)["meta"]["iteration"] == 110 and damaged == []


def test_weights_that_a_nan_has_reached_are_noticed():
    model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1))
    checkpoint.check_finite(model)
    model[0].bias.data[0] = float("inf")
    with pytest.raises(NaNLossError, match=r"the weights are not finite \(0.bias\)"):
        checkpoint.check_finite(model)


def test_only_the_newest_are_kept(tmp_path):
    for iteration in (5, 100, 20):
        checkpoint.save(tmp_path, content(iteration), keep=2)
    assert [path.name[:11] for path in sorted(tmp_path.glob("*.pth"))] == ["iter_000020", "iter_000100"]


def test_without_checkpoints_there_is_none(tmp_path):
    assert checkpoint.read_newest(tmp_path / "absent") == (None, [])


def test_a_failed_write_leaves_the_old_ones(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, content(100), keep=1)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(tmp_path, content(200), keep=1)
    assert [path.name[:11] for path in tmp_path.iterdir()] == ["iter_000100"]
