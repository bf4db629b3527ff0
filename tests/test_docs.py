"""Runs the commands in README.md and docs/ as written, on small data; checks their links, numbers and API pages."""

from __future__ import annotations

import ast
import hashlib
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.analysis.synthetic import RunsFolder, read_report, uneven
from tests.dynamic_rcnn.data.coco_fixture import write_coco
from tests.experiments.coco_layout import write_coco_2017

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {path: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))}
BLOCKS = [found for text in PAGES.values() for found in re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.M | re.S)]
COMMANDS = list(
    dict.fromkeys(
        re.sub(" +", " ", line.split("   #")[0].strip())
        for language, block in BLOCKS
        if not language
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip()
    )
)


def run(command: str, *more: str) -> subprocess.CompletedProcess[str]:
    program, *arguments = shlex.split(command)
    assert program == "python"
    whole = [sys.executable, *arguments, *more]
    return subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, timeout=600)


def starting(prefix: str) -> list[str]:
    return [command for command in COMMANDS if command.startswith(prefix)]


def test_every_command_is_covered_here_or_by_ci():
    """CI runs the make targets. Commands that need a cluster are run in tests/slurm/test_launch.py, those that need a
    server, a run or a folder in tests/dynamic_rcnn and tests/benchmarks; the script of a page in tests/analysis/stats.
    """
    known = (
        "python -m dynamic_rcnn.tools.fetch",
        "python -m dynamic_rcnn.tools.export_test_dev",
        "python -m dynamic_rcnn.train RUN_DIR",
        "python -m dynamic_rcnn.evaluate RUN_DIR",
        "python -m benchmarks.",
        "pytest -m gpu",
        "python -m tests.slurm.disturber",
        "python -m tests.slurm.testcluster",
        "python -m analysis.stats.operating_characteristics",
        "python docs/picture.py",
        "python experiments/launch.py",
        "python analysis/",
    )
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    inline = [command for text in PAGES.values() for command in re.findall(r"`((?:python|make) [^`]+)`", text)]
    others = [command for command in COMMANDS + inline if not command.startswith(known)]
    assert [command for command in others if command.split()[0] != "make" or command.split()[1] not in targets] == []
    assert len(starting("python experiments/launch.py")) == 14 and len(starting("python analysis/")) == 10


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


def test_the_results_are_the_reports():
    """The numbers, their intervals, and whether they are significant (bold)."""
    report = read_report(ROOT / "REPORT.md")
    table = README.split("## Results")[1].split("\n\n")[1].replace("&nbsp;", " ")
    *results, claims = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert len(results) == 6
    for _, *values in results:
        rows = [line for line in report.splitlines() if f"| {values[0]} |" in line]
        assert [row for row in rows if row.split(" | ")[2] == values[1]]
    assert claims[1] == "**NOT RUN**"
    assert [
        claim for claim in claims[0].removeprefix("the paper's claims on COCO: ").split("; ") if claim not in report
    ] == []
    assert report.count("**NOT RUN**") == 20  # 7 claims, 12 tables, COCO


def test_the_picture_shows_the_committed_records(tmp_path):
    assert run("python docs/picture.py", f"out={tmp_path / 'picture.svg'}").returncode == 0
    numbers = re.compile(r"numbers-[0-9a-f]{16}")
    drawn = numbers.findall((tmp_path / "picture.svg").read_text())
    assert drawn and drawn == numbers.findall((ROOT / "docs/picture.svg").read_text())


def test_the_picture_shows_the_differences_of_the_report(tmp_path):
    """dla has seed 0 alone and dsl 0 and 1: they are 1 and 2 better, and their means 2 and 0.5 below the baseline."""
    uneven(tmp_path)
    tables = runpy.run_path(str(ROOT / "docs/picture.py"))["panels"](tmp_path)
    gains = tables["AP"].loc[0.90].to_dict()
    assert gains == pytest.approx({"baseline": 0, "dla": 1, "dsl": 2, "both": 4})
    assert list(tables["AP"].index) == [0.50, 0.60, 0.70, 0.75, 0.80, 0.90]
    assert list(tables["T"].columns) == ["baseline", "dla", "dsl", "both"] and tables["T"].notna().all(axis=None)


def test_the_readme_is_short_and_every_link_leads_somewhere():
    assert len(README.splitlines()) <= 150
    links = [(path, link) for path, text in PAGES.items() for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)]
    assert len(links) > 30
    local = [(path, link) for path, link in links if "://" not in link]
    assert [f"{path.name}: {link}" for path, link in local if not (path.parent / link).exists()] == []


def test_every_file_that_is_named_exists():
    tops = "experiments|dynamic_rcnn|slurm|analysis|benchmarks|tests|docs|containers"
    named = {name for text in PAGES.values() for name in re.findall(rf"\b(?:{tops})/[\w./-]*\w", text)}
    assert len(named) > 40
    missing = [name for name in sorted(named) if not (ROOT / name).exists()]
    assert missing == ["experiments/conf/cluster/mysite.yaml"]  # an example


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page not in navigation] == []


def public_names(module: str) -> list[str]:
    """The public functions and classes of a module, and the public methods of those classes."""
    tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text())
    names = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            names.append(f"{module}.{node.name}")
            parts = node.body if isinstance(node, ast.ClassDef) else []
            methods = [part.name for part in parts if isinstance(part, ast.FunctionDef)]
            names += [f"{module}.{node.name}.{name}" for name in methods if not name.startswith("_")]
    return names


def api_modules() -> list[str]:
    """The modules of the public API."""
    packages = ("dynamic_rcnn/method", "dynamic_rcnn/metrics", "analysis/stats", "analysis/detections")
    found = [path for package in packages for path in sorted((ROOT / package).glob("*.py")) if path.stem != "__init__"]
    return ["analysis.frames", *(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found)]


def test_every_module_of_the_api_is_on_an_api_page():
    shown = [name for text in PAGES.values() for name in re.findall(r"^::: ([\w.]+)$", text, flags=re.M)]
    assert [module for module in api_modules() if not {module, module.rpartition(".")[0]} & set(shown)] == []
    paths = [ROOT / name.replace(".", "/") for name in shown]
    assert [path for path in paths if not path.is_dir() and not path.with_suffix(".py").exists()] == []


@pytest.mark.slow
def test_every_public_function_of_the_api_is_rendered(tmp_path):
    pytest.importorskip("mkdocs", reason="needs pip install -e '.[docs]'")
    result = run(f"python -m mkdocs build --strict --site-dir {tmp_path}")
    assert result.returncode == 0, result.stdout + result.stderr
    pages = "".join(page.read_text() for page in (tmp_path / "api").glob("*.html"))
    names = [name for module in api_modules() for name in public_names(module)]
    assert len(names) > 100
    assert [name for name in names if f'id="{name}"' not in pages] == []


@pytest.mark.slow
def test_the_main_job_and_the_report_at_the_smallest_scale(tmp_path):
    """Runs `launch.py grid=ablation` as `grid=smoke`, then the six commands of the report."""
    (main_job,) = [c for c in starting("python experiments/launch.py") if c.endswith("grid=ablation")]
    result = run(main_job.replace("grid=ablation", "grid=smoke"), f"runs={tmp_path / 'runs'}")
    assert result.returncode == 0, result.stdout + result.stderr
    runs, records, out = tmp_path / "runs", tmp_path / "records", tmp_path / "REPORT.md"
    images, write, copy, rebuild, against, check = (c for c in starting("python analysis/") if "export.py" not in c)
    rebuild = rebuild.replace(" against=analysis/replication", "")  # these runs have no replication
    assert run(f"{images} runs={runs} resamples=20").returncode == 0
    assert run(f"{write} runs={runs} out={out}").returncode == 0
    compared = run(f"{against} runs={runs} out={tmp_path / 'COMPARED.md'}")
    assert compared.returncode == 0
    assert compared.stdout.splitlines()[-1] == "smoke (shapes_tiny): not compared: it has no runs of this grid"
    assert (
        run(
            copy.replace("runs=runs", f"runs={runs}").replace("analysis/records ", "").split(" out=")[0],
            f"out={records}",
        ).returncode
        == 0
    )
    first = read_report(out)
    assert run(rebuild.replace("analysis/records", str(records)).replace("REPORT.md", str(out))).returncode == 0
    assert read_report(out) == first
    assert run(check, f"runs={records}", f"out={out}").returncode == 0
    assert "4 of 4 runs done" in first and "standard error over images" in first and "not computed" not in first


@pytest.mark.slow
@pytest.mark.parametrize("command", starting("python analysis/export.py"))
def test_the_commands_for_other_tools(tmp_path, command):
    (tool,) = re.findall(r"to=(\w+)", command)
    pytest.importorskip(tool, reason=f"needs pip install -e '.[{tool}]'")
    folder = RunsFolder(tmp_path / "runs")
    folder.done("both", 0, 0.4)
    folder.manifest()
    result = run(command, f"runs={folder.root}")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{folder.root}/{tool}: 1 run, 1 with something new\n")


def test_the_example_in_python(tmp_path):
    (block,) = [block for language, block in BLOCKS if language == "python"]
    code = block.replace('"analysis/records"', repr(str(ROOT / "analysis/records")))
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert "AP90" in result.stdout and (tmp_path / "t.svg").read_text().startswith("<?xml")
