"""The check of a node: it passes on this machine, and each fault names the node."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dynamic_rcnn import train as train_module
from dynamic_rcnn.engine import preflight
from dynamic_rcnn.engine.ending import End, UncheckedLosses, classify
from dynamic_rcnn.errors import PreflightError
from dynamic_rcnn.parallel import comm
from dynamic_rcnn.parallel.rank import Rank
from dynamic_rcnn.run.files import read_json
from tests.devices import on_devices
from tests.dynamic_rcnn.runs import prepare, small_spec, train

RANK = """
import sys
from dynamic_rcnn.engine import preflight
from dynamic_rcnn.parallel import comm
from dynamic_rcnn.parallel.rank import Rank

comm.join(Rank(int(sys.argv[1]), 2, 0, "token"), lambda: None)
print(preflight.check(None))
"""


@pytest.fixture(autouse=True)
def _node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "node7")
    monkeypatch.setattr(preflight, "select_device", lambda: torch.device("cpu"))


def fault() -> PreflightError:
    with pytest.raises(PreflightError) as caught:
        preflight.check(None)
    return caught.value


@pytest.mark.slow
def test_two_processes_pass(tmp_path: Path) -> None:
    env, start = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}, [sys.executable, "-c", RANK]
    pipe: Any = {"cwd": tmp_path, "env": env, "stdout": subprocess.PIPE, "text": True}
    ranks = [subprocess.Popen([*start, str(number)], **pipe) for number in range(2)]
    lines = [each.communicate(timeout=120)[0] for each in ranks]
    for line in lines:
        assert line.startswith("preflight of node7 passed in ")
        assert "2 processes reach each other, the matrix product on cpu is right, " in line


@on_devices
def test_one_process_passes(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "1" if device == "cuda" else "0")
    monkeypatch.setattr(preflight, "select_device", lambda: torch.device(device))
    assert f"one process, the matrix product on {device} is right, " in preflight.check(None)


def test_deterministic_mode_is_set_before_the_matrix_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch decides at the first one whether cuBLAS is deterministic."""
    monkeypatch.setenv("DYNAMIC_RCNN_PREFLIGHT", "1")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(preflight, "check", lambda stage: os.environ["CUBLAS_WORKSPACE_CONFIG"])
    try:
        assert train_module._check_node(small_spec(tmp_path, train__deterministic=True), None) == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)


def test_it_changes_no_random_numbers_and_checks_the_folder_of_the_copy(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    line = preflight.check(str(tmp_path / "stage"))
    assert torch.equal(torch.rand(4), expected)
    assert " GB free in the run folder, " in line and line.endswith(f" GB free in {tmp_path / 'stage'}")
    assert list((tmp_path / "stage").iterdir()) == []


def test_a_wrong_product_is_a_fault_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    def multiply(left: Any, right: Any, right_one: Any = preflight._multiply) -> Any:
        found = right_one(left, right)
        found[3, 4] += 1
        return found

    monkeypatch.setattr(preflight, "_multiply", multiply)
    error = fault()
    assert (str(error), error.node) == ("node7: the matrix product on cpu is wrong", "node7")
    assert classify(error, Rank(), UncheckedLosses()) == End("preflight failed", str(error), node="node7")


def test_a_device_that_fails_is_a_fault_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    def multiply(left: Any, right: Any) -> Any:
        raise RuntimeError("CUDA error: an uncorrectable ECC error\nCompile with ...")

    monkeypatch.setattr(preflight, "_multiply", multiply)
    assert str(fault()) == "node7: the matrix product failed (CUDA error: an uncorrectable ECC error)"


@pytest.mark.parametrize(("nodes", "node"), [("1", "node7"), ("2", None)])
def test_a_sum_that_hangs_names_the_node_if_there_is_only_one(
    monkeypatch: pytest.MonkeyPatch, nodes: str, node: str | None
) -> None:
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", nodes)
    monkeypatch.setattr(preflight, "_SUM_S", 0.1)
    monkeypatch.setattr(comm, "sum_gradients", lambda tensors: time.sleep(5))
    error = fault()
    assert error.node == node and str(error).endswith("the sum over 1 processes took over 0 s")


def test_a_wrong_sum_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comm, "world_size", lambda: 2)
    monkeypatch.setattr(comm, "sum_gradients", lambda tensors: tensors[0].fill_(2.0))
    assert str(fault()) == "node7: the sum over 2 processes is wrong"


def test_a_folder_of_the_copy_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PreflightError, match=r"^node7: dataset\.stage: cannot write to .*/file/x \(Not a directory\)$"):
        preflight.check(str(tmp_path / "file" / "x"))


def test_a_full_run_folder_is_no_fault_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=5e8))
    with pytest.raises(OSError, match=r"the run folder has 0\.50 GB free, less than 1 GB") as caught:
        preflight.check(None)
    assert caught.value.errno == errno.ENOSPC
    assert classify(caught.value, Rank(), UncheckedLosses()).cause == "disk"


def test_the_result_is_recorded_with_the_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First on a node whose GPU torch does not see, then on one that was given none."""
    run_dir = prepare(tmp_path, small_spec(tmp_path / "data", train__max_iters=1))
    monkeypatch.setenv("DYNAMIC_RCNN_PREFLIGHT", "1")
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "2")
    assert train(run_dir).returncode == 1
    status = read_json(run_dir / "status.json")
    message = "node7: Slurm allocated GPUs (2), and torch sees none"
    assert (status["cause"], status["message"]) == ("preflight failed", message)
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "0")
    assert train(run_dir).returncode == 0
    failed, done = read_json(run_dir / "status.json")["attempts"]
    assert (failed["outcome"], failed["bad_node"]) == ("preflight failed", "node7")
    assert (done["outcome"], done["bad_node"]) == ("done", None)
    assert any(note.startswith("preflight of node7 passed in ") for note in done["notes"])
