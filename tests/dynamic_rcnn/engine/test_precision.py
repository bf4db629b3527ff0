"""Precision and deterministic mode: what they set, what they refuse, and that statistics stay float32."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from dynamic_rcnn.data import dataset
from dynamic_rcnn.engine import build, precision
from dynamic_rcnn.engine.precision import Precision
from dynamic_rcnn.engine.step import Step
from dynamic_rcnn.errors import UserError
from tests.dynamic_rcnn.parallel.test_processes import attempts
from tests.dynamic_rcnn.runs import assert_same_run, prepare, small_spec, train

CPU = torch.device("cpu")
BF16 = {"train__precision": "bf16", "train__max_iters": 8}


@pytest.fixture
def flags() -> Any:
    """Restores torch's global flags."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", ["tf32", "fp16"])
def test_a_precision_that_needs_a_gpu_is_refused_on_a_cpu(name: str, flags: Any) -> None:
    with pytest.raises(UserError, match=rf"base.train.precision={name}: needs a GPU; on a CPU use fp32 or bf16"):
        precision.configure({"precision": name, "deterministic": False}, CPU)


def test_tf32_is_used_only_where_it_is_asked_for(flags: Any) -> None:
    torch.backends.cudnn.allow_tf32 = True  # torch's default
    precision.configure({"precision": "fp32", "deterministic": False}, CPU)
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert not torch.are_deterministic_algorithms_enabled()


def test_deterministic_mode_sets_torchs_flags(flags: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    precision.configure({"precision": "fp32", "deterministic": True}, CPU)
    assert torch.are_deterministic_algorithms_enabled() and os.environ[precision.CUBLAS] == ":4096:8"
    precision.configure({"precision": "fp32", "deterministic": False}, CPU)
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_environment_without_deterministic_matrix_products_is_refused(flags: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv(precision.CUBLAS, ":0:0")
    with pytest.raises(UserError, match=r"^CUBLAS_WORKSPACE_CONFIG=:0:0: base.train.deterministic=true needs :4"):
        precision.configure({"precision": "fp32", "deterministic": True}, CPU)


def first_window(tmp_path: Any, name: str) -> Any:
    """The head after a window of iterations on the same images, which leave the weights as they are."""
    spec = small_spec(tmp_path, train__precision=name, optim_wrapper__optimizer__lr=1e-30)
    root, _ = dataset.prepare(spec.dataset)
    model = build.build_model(spec).train()
    step = Step(model, build.build_optimizer(spec, model), Precision(name, CPU), spec.seed)
    images = build.build_dataset(spec, "train", root)
    batches = build.Batches(images, spec.seed, spec.config["train"], range(1)).between(0, 12)
    for iteration in range(model.roi_head.schedules[0].update_iter_interval):
        step.train(iteration, next(batches))
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    return model.roi_head


def test_statistics_of_bf16_are_float32_and_t_close_to_that_of_fp32(tmp_path: Any) -> None:
    exact, rounded = (first_window(tmp_path, name) for name in ("fp32", "bf16"))
    for head in (exact, rounded):
        found = head.statistics
        assert found.ious.dtype == found.max_overlaps.dtype == found.targets.dtype == torch.float32
        assert found.regression_error.dtype == torch.float32
        assert head.schedules[0].updates == 1
    assert not torch.equal(exact.statistics.ious, rounded.statistics.ious)  # the proposals differ
    assert rounded.current_thresholds()["T"] == pytest.approx(exact.current_thresholds()["T"], abs=0.02)


def test_a_killed_run_in_bf16_ends_as_an_undisturbed_one(tmp_path: Any) -> None:
    reference, run_dir = (prepare(tmp_path / name, small_spec(tmp_path / "data", **BF16)) for name in ("one", "other"))
    assert train(reference).returncode == 0
    assert train(run_dir, "iteration", 6).returncode == -9
    assert train(run_dir).returncode == 0
    assert [outcome for _, _, outcome in attempts(run_dir)] == ["killed", "done"]
    assert_same_run(run_dir, reference)
