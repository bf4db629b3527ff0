"""Configuration files as people write them: one line names file, line and column, and no setting is lost or misread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments import launch
from experiments.config.compose import resolve
from experiments.config.conf_files import merge

HEAD = "# @package _global_\n"
ARMS = "  title: t\n  baseline: a\n  seeds: [0]\n  arms:\n    a: {title: a, set: {}}\n"
SLURM = "defaults: [slurm, _self_]\n"


def write_grid(conf: Path, text: str, name: str = "mine") -> None:
    (conf / "grid" / f"{name}.yaml").write_bytes(text.encode())


@pytest.mark.parametrize(
    ("text", "expected_text"),
    [
        (f"grid:\n  name: mine\n{ARMS}", "mine.yaml: its first line must be '# @package _global_', or its settings"),
        (f"\ufeff{HEAD}grid:\n  name: mine\n{ARMS}", "mine.yaml: begins with a byte order mark; save it as UTF-8"),
        (f"{HEAD}grid:\n  name: [mine\n{ARMS}", "mine.yaml: line 4, column 8: did not find expected ',' or ']'"),
        (f"{HEAD}grid:\n  name: mine\n  name: mine\n", "mine.yaml: line 4, column 3: found duplicate key name"),
        (f"{HEAD}- grid\n", "mine.yaml: must be a mapping of settings"),
        (f"{HEAD}grid:\n\tname: mine\n", "mine.yaml: line 3, column 1: found character that cannot start any token"),
        (
            f"{HEAD}grid:\n  name: mine\n  seeds: [010]\n",
            "line 4, column 11: 010 is read as the number 8; write",
        ),
        (
            f"{HEAD}grid:\n  arms:\n    64: {{}}\n",
            "line 4, column 5: the key 64 is read as int, not as text; write",
        ),
        (
            f"{HEAD}grid:\n  arms:\n    on: {{}}\n",
            "line 4, column 5: the key on is read as bool, not as text",
        ),
        (
            f"{HEAD}grid:\n  arms:\n    null: {{}}\n",
            "the key null is read as null, not as text; write 'null'",
        ),
        (
            f"{HEAD}grid:\n  name: ablation\n{ARMS}",
            "grid.name=ablation: must be the name of the file, mine;",
        ),
        (f"{HEAD}defaults: [ablation]\ngrid: {{title: x}}\n", "grid.name=ablation: must be the name of the file, mine"),
        (f"{HEAD}defaults: ablation\n", "mine.yaml: defaults=ablation: must be a list, such as [slurm, _self_]"),
        (
            f"{HEAD}defaults: [ablatoin]\n",
            "mine.yaml: defaults: grid=ablatoin: unknown grid (did you mean 'ablation'?)",
        ),
        ("", "mine.yaml: its first line must be '# @package _global_'"),
    ],
)
def test_a_broken_grid_file_is_reported(text: str, expected_text: str, conf: Path, tmp_path: Path, capsys: Any) -> None:
    write_grid(conf, text)
    assert launch.main(["grid=mine", "cluster=local", f"runs={tmp_path / 'runs'}"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and expected_text in message


def test_a_file_that_is_not_utf8_is_reported(conf: Path, tmp_path: Path, capsys: Any) -> None:
    (conf / "grid" / "mine.yaml").write_bytes(f"{HEAD}# caf\u00e9\n".encode("latin-1"))
    assert launch.main(["grid=mine", f"runs={tmp_path / 'runs'}"]) == 2
    assert "mine.yaml: is not UTF-8 (invalid continuation byte at byte 25)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected_text"),
    [
        ("account: x\n", "site.yaml: must begin with `defaults: [slurm, _self_]`, or [local, _self_] for this machine"),
        (
            "defaults: [_self_, slurm]\naccount: x\n",
            "_self_ must come last, or slurm.yaml replaces this file's",
        ),
        (
            f"{SLURM}account: 012345\n",
            "site.yaml: line 2, column 10: 012345 is read as the number 5349; write",
        ),
        (
            f"{SLURM}time: 12:30:00\n",
            "line 2, column 7: 12:30:00 is read as the number 45000; write '12:30:00'",
        ),
    ],
)
def test_a_broken_site_file_is_reported(text: str, expected_text: str, conf: Path, tmp_path: Path, capsys: Any) -> None:
    (conf / "cluster" / "site.yaml").write_text(text)
    assert launch.main(["cluster=site", "action=plan", f"runs={tmp_path / 'runs'}"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and expected_text in message


def test_setup_lines_are_shell_and_not_interpolated(conf: Path) -> None:
    (conf / "cluster" / "site.yaml").write_text(f"{SLURM}setup: ['cd ${{DATA}}', 'ls \\${{HOME:-/}}']\n")
    profile = resolve(["grid=smoke", "cluster=site"])[0].profile
    assert profile is not None and [str(line) for line in profile.setup] == ["cd ${DATA}", "ls ${HOME:-/}"]


@pytest.mark.parametrize("name", ["~/r", "lr=0.1", "a(1)", "it's", "jos\u00e9/runs", "a#1", "a,b", "[x", "a b", "r~1"])
def test_paths_need_no_quotes(name: str, conf: Path, tmp_path: Path) -> None:
    given = name if name.startswith("~") else f"{tmp_path}/{name}"
    config = resolve(["grid=smoke", "cluster=local", f"runs={given}", f"dataset.root={given}"])[0]
    expected = tmp_path / "home" / "r" if name.startswith("~") else tmp_path / name
    assert config.runs == expected
    assert config.settings.dataset.root == str(expected)


@pytest.mark.parametrize(
    ("argument", "seeds", "arms"),
    [
        ("seeds=0,1,2", [0, 1, 2], 4),
        ("seeds=range(3)", [0, 1, 2], 4),
        ("seeds=range(1,3)", [1, 2], 4),
        ("arms=dla,both", [0], 2),
        ("arms=both", [0], 1),
    ],
)
def test_lists_are_accepted_without_brackets(argument: str, seeds: list[int], arms: int) -> None:
    settings = resolve(["grid=smoke", "cluster=local", argument])[0].settings
    assert (settings.chosen_seeds, len(settings.chosen_arms)) == (seeds, arms)


def test_settings_without_effect_are_reported() -> None:
    given = ["run=foo", "lines=9", "watch=true", "rerun=stale", "action=plan", "json=true"]
    lines = resolve(["grid=smoke", "cluster=local", *(each for each in given if each != "watch=true")])[1]
    assert lines == [
        "rerun=stale: has no effect with action=plan, only with launch",
        "run=foo: has no effect with action=plan, only with logs",
        "lines=9: has no effect with action=plan, only with logs",
    ]


def test_why_says_that_there_is_nothing_to_compare_with(tmp_path: Path, capsys: Any) -> None:
    given = ["grid=smoke", "cluster=local", "base.pretrain=null", "arms=[dla]", "action=why", f"runs={tmp_path}"]
    assert launch.main(given) == 0
    assert "    nothing to compare with: there is no other run of dla/seed0\n" in capsys.readouterr().out


def test_a_mapping_is_merged_unless_it_has_delete() -> None:
    base = {"a": {"b": 1, "c": {"d": 2}}, "e": [1]}
    assert merge(base, {"a": {"c": {"f": 3}}, "e": [2]}) == {"a": {"b": 1, "c": {"d": 2, "f": 3}}, "e": [2]}
    assert merge(base, {"a": {"_delete_": True, "c": {"f": 3}}}) == {"a": {"c": {"f": 3}}, "e": [1]}
