"""Training and evaluation on a CPU and on CUDA: precisions, the scaler, deterministic mode, detections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dynamic_rcnn.data import dataset
from dynamic_rcnn.engine import build, checkpoint, precision
from dynamic_rcnn.engine.inference import predict
from dynamic_rcnn.engine.precision import Precision
from dynamic_rcnn.engine.step import Step
from tests.devices import CPU, CUDA, ON_CUDA, on_devices
from tests.dynamic_rcnn.parallel.test_processes import attempts
from tests.dynamic_rcnn.runs import assert_same_run, prepare, small_spec, train

SHORT = {"train__max_iters": 8, "train__groups": 2, "train__images_per_group": 1, "train__deterministic": True}
KILLED = "iteration", 6
SLOW_ON_CPU = [pytest.param(CPU, marks=pytest.mark.slow), CUDA]
DCN = {  # a ResNet-50 with as few channels as the base's ResNet-18, whose blocks have no deformable convolution
    **{"model__backbone__depth": 50, "model__neck__in_channels": [64, 128, 256, 512]},
    "model__backbone__dcn": {"type": "DCNv2", "deform_groups": 1, "fallback_on_stride": False},
    "model__backbone__stage_with_dcn": [False, False, False, True],
}


@pytest.fixture(autouse=True)
def flags(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Restores torch's global flags."""
    monkeypatch.setenv(precision.CUBLAS, ":4096:8")
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    torch.use_deterministic_algorithms(False)


class Training:
    """A model in training on a device. changes: of `small_spec`."""

    def __init__(self, folder: Path, device: str, name: str = "fp32", **changes: Any) -> None:
        self.spec = small_spec(folder, train__precision=name, **changes)
        self.device, settings = torch.device(device), self.spec.config["train"]
        self.root, _ = dataset.prepare(self.spec.dataset)
        self.model = build.build_model(self.spec).to(device).train()
        self.precision = Precision(name, self.device)
        optimizer = build.build_optimizer(self.spec, self.model)
        self.step = Step(self.model, optimizer, self.precision, self.spec.seed)
        images = build.build_dataset(self.spec, "train", self.root)
        self.batches = build.Batches(images, self.spec.seed, settings, range(1))

    def train(self, first: int, last: int) -> list[float]:
        """The losses of iterations `first` to `last` - 1."""
        numbers = zip(range(first, last), self.batches.between(first, last), strict=True)
        return [float(self.step.train(number, batch)["loss"]) for number, batch in numbers]


PRECISIONS = [
    ("cpu", "fp32"),
    pytest.param("cpu", "bf16", marks=pytest.mark.slow),
    *[pytest.param("cuda", name, marks=ON_CUDA) for name in ("fp32", "tf32", "bf16", "fp16")],
]


@pytest.mark.parametrize(("device", "name"), PRECISIONS)
def test_statistics_t_and_beta_are_float32_in_every_precision(tmp_path: Path, device: str, name: str) -> None:
    """A window of iterations that leave the weights as they are, against fp32 on the CPU.

    All anchors are proposals: with random weights the scores are nearly the same, and rounding would decide.
    """
    fields: dict[str, Any] = {"optim_wrapper__optimizer__lr": 1e-30}
    fields |= {f"model__train_cfg__rpn_proposal__{limit}": 10_000 for limit in ("nms_pre", "max_per_img")}
    fields["model__train_cfg__rpn_proposal__nms__iou_threshold"] = 1.0
    exact, rounded = Training(tmp_path, CPU, **fields), Training(tmp_path, device, name, **fields)
    precision.configure(rounded.spec.config["train"], rounded.device)
    window = exact.model.roi_head.schedules[0].update_iter_interval
    losses = [each.train(0, window) for each in (exact, rounded)]
    assert losses[1] == pytest.approx(losses[0], rel=0.2)
    assert all(parameter.dtype == torch.float32 for parameter in rounded.model.parameters())
    found, head = rounded.model.roi_head.statistics, rounded.model.roi_head
    values = (found.ious, found.regression_error, found.max_overlaps, found.targets)
    assert all(value.dtype == torch.float32 and value.device.type == device for value in values)
    expected, thresholds = exact.model.roi_head.current_thresholds(), head.current_thresholds()
    assert head.schedules[0].updates == 1
    assert thresholds["T"] == pytest.approx(expected["T"], abs=0.02)
    assert thresholds["beta"] == pytest.approx(expected["beta"], abs=0.2)


@pytest.mark.parametrize("device", SLOW_ON_CPU)
def test_fp16_halves_its_scale_at_an_overflow_and_a_resumed_run_knows_it(tmp_path: Path, device: str) -> None:
    """On the CPU too, where a run may not use fp16 because it is slow."""
    whole, first, resumed = (Training(tmp_path, device, "fp16") for _ in range(3))
    for each in (whole, first):
        each.precision.scaler = torch.amp.GradScaler(device, init_scale=2.0**40, growth_interval=2)
        each.train(0, 2)
    state = first.precision.state_dict()
    assert state["scale"] < 2.0**40
    resumed.model.load_state_dict(first.model.state_dict())
    resumed.step.optimizer.load_state_dict(first.step.optimizer.state_dict())
    resumed.model.roi_head.load_schedules([first.model.roi_head.schedules[0].state_dict()])
    resumed.precision.load_state_dict(state)
    whole.train(2, 4)
    resumed.train(2, 4)
    assert resumed.precision.state_dict() == whole.precision.state_dict() != state


def test_the_scaler_of_other_precisions_has_no_state() -> None:
    assert Precision("bf16", torch.device(CPU)).state_dict() == {}


RUNS = [
    pytest.param("cpu", "bf16", marks=pytest.mark.slow),
    *[pytest.param("cuda", name, marks=ON_CUDA) for name in ("fp32", "tf32", "bf16", "fp16")],
]


@pytest.mark.parametrize(("device", "name"), RUNS)
def test_a_killed_run_in_deterministic_mode_ends_as_an_undisturbed_one(tmp_path: Path, device: str, name: str) -> None:
    """Equal to the last bit, T, beta and the scaler's state included; two groups of images on one device."""
    spec = small_spec(tmp_path / "data", train__precision=name, **SHORT)
    reference, run_dir = (prepare(tmp_path / folder, spec) for folder in ("reference", "killed"))
    done = train(reference, device=device)
    assert done.returncode == 0, done.stderr
    assert train(run_dir, *KILLED, device=device).returncode == -9
    data, _ = checkpoint.read_newest(run_dir / "checkpoints")
    assert data is not None
    assert bool(checkpoint.deserialise(data)["scaler"]) == (name == "fp16")
    done = train(run_dir, device=device)
    assert done.returncode == 0, done.stderr
    assert [outcome for _, _, outcome in attempts(run_dir)] == ["killed", "done"]
    assert_same_run(run_dir, reference)


@pytest.mark.parametrize("device", SLOW_ON_CPU)
def test_a_model_with_deformable_convolution_is_refused_in_deterministic_mode_on_cuda(
    tmp_path: Path, device: str
) -> None:
    run_dir = prepare(tmp_path, small_spec(tmp_path / "data", **{**SHORT, **DCN, "train__max_iters": 1}))
    ended = train(run_dir, device=device)
    if device == CPU:
        assert ended.returncode == 0, ended.stderr
        return
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    operator = "deform_conv2d_backward (DCN)"
    line = f"base.train.deterministic=true: the operator {operator} has no deterministic form"
    assert f"bad input: {line}" in ended.stderr


@on_devices
def test_a_device_detects_what_the_cpu_detects(tmp_path: Path, device: str) -> None:
    """Of a model after some iterations: 95% of the CPU's detections, of the same class, with box and score."""
    training = Training(tmp_path, CPU)
    precision.configure(training.spec.config["train"], training.device)
    training.train(0, 5)
    images = build.build_dataset(training.spec, "val", training.root)
    expected, found = (predict(training.model.to(each), images, workers=0) for each in (CPU, device))
    assert expected and found and len(found) == pytest.approx(len(expected), rel=0.05)
    agreeing = 0
    for row in expected:
        same = [each for each in found if all(each[key] == row[key] for key in ("image_id", "category_id"))]
        near = [each for each in same if each["bbox"] == pytest.approx(row["bbox"], abs=0.1)]
        agreeing += any(each["score"] == pytest.approx(row["score"], abs=1e-3) for each in near)
    assert agreeing >= 0.95 * len(expected)
