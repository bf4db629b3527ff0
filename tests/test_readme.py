"""The README's commands are run as they stand, on small data and into a folder of the test."""

from __future__ import annotations

import hashlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.dynamic_rcnn.data.coco_fixture import write_coco
from tests.experiments.coco_layout import write_coco_2017

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.M | re.S)
COMMANDS = [
    line.split("   #")[0].strip()
    for language, block in BLOCKS
    if not language
    for line in block.replace("\\\n", " ").splitlines()
]


def run(command: str, *more: str) -> subprocess.CompletedProcess[str]:
    program, *arguments = shlex.split(command)
    assert program == "python"
    whole = [sys.executable, *arguments, *more]
    return subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, timeout=120)


def starting(prefix: str) -> list[str]:
    return [command for command in COMMANDS if command.startswith(prefix)]


def test_every_command_is_covered_here_or_by_ci():
    """`make ablation` is the main job, `make test` runs this; tests/slurm/test_launch.py and
    tests/dynamic_rcnn/tools/test_fetch.py have what needs a cluster and a server, test_submission.py what needs a run.
    """
    known = (
        "python -m dynamic_rcnn.tools.fetch",
        "python -m dynamic_rcnn.tools.export_test_dev",
        "make ablation",
        "make test",
        "make slurm-",
        "python experiments/launch.py",
        "python analysis/",
    )
    assert [command for command in COMMANDS if not command.startswith(known)] == []
    assert len(starting("python experiments/launch.py")) == 12 and len(starting("python analysis/")) == 5


@pytest.mark.parametrize(
    "command",
    [c for c in starting("python experiments/launch.py") if ("action=" in c or "--" in c) and "cluster=slurm" not in c],
)
def test_launcher_commands_that_start_nothing(tmp_path, command):
    more = [] if "--help" in command else [f"runs={tmp_path}"]
    result = run(command, *more)
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_for_a_data_set_in_coco_format(tmp_path):
    layout = write_coco(tmp_path / "mine")
    for given, name in (("annotations/train.json", "train_ann"), ("annotations/val.json", "val_ann")):
        (tmp_path / "mine" / given).parent.mkdir(exist_ok=True)
        (tmp_path / "mine" / layout[name]).rename(tmp_path / "mine" / given)
    for given, name in (("train", "train_img"), ("val", "val_img")):
        (tmp_path / "mine" / layout[name]).rename(tmp_path / "mine" / given)
    (command,) = [c for c in starting("python experiments/launch.py") if "coco_format" in c]
    here = command.replace("/data/mine", str(tmp_path / "mine"))
    result = run(here, "action=plan", f"runs={tmp_path / 'runs'}")
    assert result.returncode == 0, result.stderr
    assert "12 runs (4 arms x 3 seeds)" in result.stdout


def test_the_command_for_weights_trained_elsewhere(tmp_path):
    write_coco_2017(tmp_path / "coco")
    weights = tmp_path / f"model-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth"
    weights.write_bytes(b"weights")
    (command,) = [c for c in starting("python experiments/launch.py") if "grid=released" in c]
    here = command.replace("/data/coco", str(tmp_path / "coco"))
    here = here.replace("/data/dynamic_rcnn_r50_fpn_1x-62a3f276.pth", str(weights))
    result = run(here, "action=plan", "cluster=local", f"runs={tmp_path / 'runs'}")
    assert result.returncode == 0, result.stderr
    assert "1 evaluation of given weights: 1 new" in result.stdout


@pytest.mark.slow
def test_the_command_for_cocos_server_is_understood():
    (command,) = starting("python -m dynamic_rcnn.tools.export_test_dev")
    result = run(command)
    assert result.returncode == 2 and "RUN_DIR/spec.json: missing" in result.stderr


def test_the_example_of_an_arm_fits_the_base(tmp_path):
    (example,) = [yaml.safe_load(block) for language, block in BLOCKS if language == "yaml" and "grid:" in block]
    base = yaml.safe_load((ROOT / "dynamic_rcnn/configs/base/faster_rcnn_r50_fpn_1x.yaml").read_text())
    for arm in example["grid"]["arms"].values():
        for path in arm["set"]:
            node = base
            for part in path.split("."):
                node = node[part]


def test_the_verdicts_are_the_reports():
    report = (ROOT / "REPORT.md").read_text()
    table = README.split("| claim | data | verdict |")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert len(rows) == 5
    for claim, _, verdict in rows:
        parts = claim.split("; ") if "NOT RUN" in verdict else verdict.split("; ")
        assert [part for part in parts if part.split(" and ")[0] not in report] == []
    assert report.count("**NOT RUN**") == 16  # 7 claims, 9 tables


@pytest.mark.slow
def test_the_main_job_and_the_report_at_the_smallest_scale(tmp_path):
    """`launch.py grid=ablation` as `grid=smoke`, then the report's five commands, as the README has them."""
    (main_job,) = [c for c in starting("python experiments/launch.py") if c.endswith("grid=ablation")]
    result = run(main_job.replace("grid=ablation", "grid=smoke"), f"runs={tmp_path / 'runs'}")
    assert result.returncode == 0, result.stdout + result.stderr
    runs, records, out = tmp_path / "runs", tmp_path / "records", tmp_path / "REPORT.md"
    images, write, copy, rebuild, check = starting("python analysis/")
    assert run(f"{images} runs={runs} resamples=20").returncode == 0
    assert run(f"{write} runs={runs} out={out}").returncode == 0
    assert (
        run(
            copy.replace("runs=runs", f"runs={runs}").replace("analysis/records ", "").split(" out=")[0],
            f"out={records}",
        ).returncode
        == 0
    )
    first = out.read_bytes()
    assert run(rebuild.replace("analysis/records", str(records)), f"out={out}").returncode == 0
    assert out.read_bytes() == first
    assert run(check, f"runs={records}", f"out={out}").returncode == 0
    assert b"4 of 4 runs done" in first and b"### Bootstrap over images" in first and b"Not computed" not in first


def test_the_example_in_python(tmp_path):
    (block,) = [block for language, block in BLOCKS if language == "python"]
    code = block.replace('"analysis/records"', repr(str(ROOT / "analysis/records")))
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "AP90" in result.stdout and (tmp_path / "t.svg").read_text().startswith("<?xml")
