"""Damaged grid files, data sets and cluster profiles: refused in one line, or a grid whose runs have ids."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import event, given, note
from hypothesis import strategies as st

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.spec import RunSpec
from experiments.config import compose, conf_files
from experiments.config.build import build_grid
from tests.fuzz.damage import assert_is_message, at_most, damaged, damaged_bytes

CONF = conf_files.CONF
FILES = {  # file -> the arguments that choose its copy
    "grid/controls": ["grid=fuzzed", "dataset=shapes_tiny", "cluster=local"],
    "grid/speed": ["grid=fuzzed", "dataset=shapes", "cluster=local"],
    "grid/mask": ["grid=fuzzed", "dataset=shapes", "cluster=local"],
    "cluster/slurm": ["grid=smoke", "dataset=shapes", "cluster=fuzzed"],
    "dataset/shapes": ["grid=smoke", "dataset=fuzzed", "cluster=local"],
}
HEADER = "# @package _global_\n"


@pytest.fixture(scope="module", autouse=True)
def conf(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A copy of the configuration files, which is read instead of them."""
    folder = tmp_path_factory.mktemp("experiments") / "conf"
    shutil.copytree(CONF, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conf_files, "CONF", folder)
        yield folder
    conf_files.load.cache_clear()


@st.composite
def texts(draw: st.DrawFn, name: str) -> bytes:
    """A damaged YAML file: its values, or its bytes."""
    data = (CONF / f"{name}.yaml").read_bytes()
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged_bytes(data))
    content = draw(damaged(yaml.safe_load(data), most=2))
    header = HEADER if data.startswith(HEADER.encode()) or not name.startswith("cluster") else ""
    return (header + yaml.safe_dump(content, allow_unicode=True, sort_keys=False)).encode()


@at_most(40)
@given(st.data())
def test_a_damaged_configuration_file(conf: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(FILES)))
    content = data.draw(texts(name))
    (conf / name).with_name("fuzzed.yaml").write_bytes(content)
    note(content.decode(errors="replace"))
    conf_files.load.cache_clear()
    try:
        config, lines = compose.resolve(FILES[name])
        grid = build_grid(config)
        for spec in grid.runs:
            assert isinstance(spec, RunSpec) and len(spec.id) == 10
            json.dumps(spec.config, allow_nan=False)
        event(f"{name}: accepted")
        assert all("\n" not in line for line in lines)
    except UserError as error:
        assert_is_message(error)
        event(f"{name}: refused")
    finally:
        (conf / name).with_name("fuzzed.yaml").unlink()
