"""What is installed: the version, the ranges for users, the lock for exact repetition, and what is built from it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import dynamic_rcnn
from dynamic_rcnn.run.provenance import compare_with_lock, read_lock

PROJECT = dynamic_rcnn.PROJECT
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def read_pyproject() -> dict[str, Any]:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())


def locked_versions(python: str) -> dict[str, Version]:
    """The lock's packages for a Python on Linux."""
    environment = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux"}
    found: dict[str, Version] = {}
    for line in (PROJECT / "requirements.lock").read_text().splitlines():
        if line and not line.lstrip().startswith("#"):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(environment):
                assert requirement.name not in found, f"two versions of {requirement.name} for Python {python}"
                found[requirement.name] = Version(str(requirement.specifier).removeprefix("=="))
    return found


def test_the_version_is_that_of_pyproject() -> None:
    assert dynamic_rcnn.__version__ == read_pyproject()["project"]["version"]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_satisfies_every_requirement_of_pyproject(python: str) -> None:
    """If this fails, add what is missing with `make lock`."""
    project = read_pyproject()["project"]
    assert Version(f"{python}.9") in SpecifierSet(project["requires-python"])
    extras = project["optional-dependencies"]
    groups = [project["dependencies"], *(extras[name] for name in ("dev", "docs", "tensorboard"))]
    locked = locked_versions(python)
    for requirement in (Requirement(line) for group in groups for line in group):
        if requirement.marker and not requirement.marker.evaluate({"python_version": python}):
            continue
        name = requirement.name.lower()
        assert name in locked and locked[name] in requirement.specifier, requirement


def test_ci_takes_turns_between_the_oldest_and_the_newest_python() -> None:
    text = (PROJECT / ".ci" / "run").read_text()
    assert f"oldest={PYTHONS[0]} newest={PYTHONS[-1]}\n" in text
    supported = SpecifierSet(read_pyproject()["project"]["requires-python"])
    assert not any(Version(version) in supported for version in ("3.9.25", "3.14.0"))
    assert subprocess.run(["bash", "-n", str(PROJECT / ".ci" / "run")]).returncode == 0


def test_a_lock_is_compared_with_what_is_installed(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    assert compare_with_lock(lock) is None
    installed = Version(dynamic_rcnn.run.provenance.metadata.version("packaging"))
    lock.write_text(
        "# made by hand\nnumpy==0.1\nnot-installed==1.0\n"
        f"packaging=={installed}\npytest==0.1 ; python_version < '3'\nRich==0.2 ; python_version > '3'\n"
    )
    assert [requirement.name for requirement in read_lock(lock)] == ["numpy", "not-installed", "packaging", "Rich"]
    compared = compare_with_lock(lock)
    assert compared is not None and len(compared["sha256"]) == 64
    assert {name: found["locked"] for name, found in compared["differences"].items()} == {
        "numpy": "==0.1",
        "Rich": "==0.2",
    }


def test_both_containers_are_built_from_the_lock_in_the_same_way() -> None:
    docker = (PROJECT / "containers" / "Dockerfile").read_text()
    apptainer = (PROJECT / "containers" / "apptainer.def").read_text()
    assert re.findall(r"^FROM (.*)$", docker, re.M) == re.findall(r"^From: (.*)$", apptainer, re.M)
    (python,) = re.findall(r"^FROM python:(\d+\.\d+)-", docker, re.M)
    assert python in PYTHONS
    assert "\nCOPY requirements.lock /opt/requirements.lock\n" in docker
    assert "\n%files\n    requirements.lock /opt/requirements.lock\n" in apptainer
    sections = re.findall(r"^%(\w+)$", apptainer, re.M)
    assert sections == ["files", "post", "environment", "test"] and apptainer.count("\nBootstrap: docker\n") == 1
    installs = [re.findall(r"(pip install .*?)(?: \\)?$", text, re.M) for text in (docker, apptainer)]
    assert "\nENV PYTHONPATH=" in docker and "export PYTHONPATH=" in apptainer
    assert installs[0] == installs[1] and installs[0][0].endswith("-r /opt/requirements.lock")
    (post,) = re.findall(r"^%post\n(.*?)^%", apptainer, re.M | re.S)
    assert subprocess.run(["sh", "-n"], input=post, text=True).returncode == 0
