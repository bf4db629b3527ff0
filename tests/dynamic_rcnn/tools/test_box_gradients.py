"""The share of the box loss's gradient that comes from small errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import read_json
from dynamic_rcnn.tools import box_gradients
from tests.dynamic_rcnn.runs import prepare, small_spec, train


@pytest.mark.parametrize(
    ("beta", "share"),
    [(1.0, (0.1 + 0.2) / (0.1 + 0.2 + 0.5 + 1.0)), (0.2, (0.5 + 1.0) / (0.5 + 1.0 + 1.0 + 1.0))],
)
def test_the_share_of_small_errors(beta: float, share: float) -> None:
    errors = torch.tensor([0.1, 0.2, 0.5, 3.0])
    assert box_gradients.gradient_share(errors, beta) == pytest.approx(share)
    errors.requires_grad_()
    torch.nn.functional.smooth_l1_loss(errors, torch.zeros(4), beta=beta, reduction="sum").backward()
    assert errors.grad is not None
    assert float(errors.grad[:2].sum() / errors.grad.sum()) == pytest.approx(share)


@pytest.mark.slow
def test_of_a_trained_run(tmp_path: Path, capsys: Any) -> None:
    run_dir = prepare(tmp_path / "runs", small_spec(tmp_path / "data", train__max_iters=6))
    with pytest.raises(UserError, match="must be a finished run that trained a detector"):
        box_gradients.main([str(run_dir)])
    assert train(run_dir).returncode == 0
    assert box_gradients.main([str(run_dir), "images=8"]) == 0
    content = read_json(run_dir / "box_gradients.json")
    assert content["images"] == 8 and [row["T"] for row in content["thresholds"]] == [0.5, 0.62]
    low, high = content["thresholds"]
    assert low["positives"] >= high["positives"] > 0
    for row in (low, high):
        shares = list(row["shares"].values())
        assert 0 <= shares[0] <= shares[1] <= shares[2] <= 1  # a smaller beta shifts the gradient to small errors
    assert box_gradients.main([str(run_dir), "images=8"]) == 0
    assert read_json(run_dir / "box_gradients.json") == content
    assert "beta 0.17" in capsys.readouterr().out
