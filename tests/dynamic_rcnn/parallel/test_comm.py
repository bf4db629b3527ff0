"""Errors of the process group by which a rank learns that another one died."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dynamic_rcnn.parallel import comm

RANK = """
import os, sys
import torch
from dynamic_rcnn.parallel import comm
from dynamic_rcnn.parallel.rank import Rank

number = int(sys.argv[1])
comm.join(Rank(number, 2, number, "token"), lambda: None)
comm.any_of(False)
if number == 1:
    os._exit(9)
try:
    comm.any_of(False)
except Exception as error:
    print(comm.is_loss_of_another(error), type(error).__name__, str(error).splitlines()[0])
    print(comm.is_loss_of_another(RuntimeError("CUDA error: an illegal memory access was encountered")))
os._exit(0)
"""


def test_the_error_of_the_installed_torch_for_a_dead_peer_is_recognised(tmp_path: Path) -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RANK]
    ranks = [
        subprocess.Popen([*command, str(number)], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True)
        for number in range(2)
    ]
    out, _ = ranks[0].communicate(timeout=120)
    assert ranks[1].wait(timeout=60) == 9
    lost, other = out.splitlines()
    assert lost.startswith("True RuntimeError") and "/gloo/" in lost, out
    assert other == "False"


@pytest.mark.parametrize("message", ["/gloo/transport/tcp/pair.cc: Connection closed by peer", "anything"])
def test_without_a_group_no_error_is_about_another_process(message: str) -> None:
    assert not comm.is_loss_of_another(RuntimeError(message))
