"""Plan and status of many runs open each file once, because opening files is slow on a cluster's file system."""

from __future__ import annotations

import builtins
import io
import os
import pathlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from experiments.config.build import build_grid
from experiments.config.compose import resolve
from experiments.config.grid import Grid
from experiments.planning import run_state as disk
from experiments.planning.plan import make_plan
from experiments.views.tables import state_counts, status_table
from tests.experiments.many_runs import make_runs

RUNS = 80


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Grid]:
    runs = tmp_path_factory.mktemp("many")
    seeds = f"seeds={list(range(RUNS // 4))}".replace(" ", "")
    grid = build_grid(resolve(["grid=smoke", "base.pretrain=null", "cluster=local", seeds])[0])
    make_runs(runs, grid)
    return runs, grid


@contextmanager
def counted(below: Path) -> Iterator[Counter[str]]:
    """How often each name of a file below a folder is opened, and folders are listed ("listed")."""
    opened: Counter[str] = Counter()
    real_open, real_scan, real_list = io.open, os.scandir, os.listdir

    def count_open(file: Any, *arguments: Any, **options: Any) -> Any:
        if str(file).startswith(str(below)):
            opened[Path(file).name] += 1
        return real_open(file, *arguments, **options)

    def counting(real: Any) -> Any:
        def count(path: Any = ".", *arguments: Any) -> Any:
            opened["listed"] += str(path).startswith(str(below))
            return real(path, *arguments)

        return count

    with (
        mock.patch.object(io, "open", count_open),
        mock.patch.object(builtins, "open", count_open),
        mock.patch.object(os, "scandir", counting(real_scan)),
        mock.patch.object(os, "listdir", counting(real_list)),
        ExitStack() as stack,
    ):
        if accessor := getattr(pathlib, "_NormalAccessor", None):  # Python 3.10's Path keeps these functions of its own
            stack.enter_context(mock.patch.object(accessor, "open", staticmethod(count_open)))
            for name, real in (("scandir", real_scan), ("listdir", real_list)):
                stack.enter_context(mock.patch.object(accessor, name, staticmethod(counting(real))))
        yield opened


def test_each_file_is_opened_once(many: tuple[Path, Grid]) -> None:
    runs, grid = many
    disk.code_now()
    with counted(runs) as opened:
        plan = make_plan(grid, runs)
        status_table(plan, 200)
    states = state_counts(plan)
    assert states == {"new": 10, "stale": 0, "failed": 30, "queued": 0, "running": 0, "done": 40}
    begun, done = RUNS - states["new"], states["done"]
    assert opened["spec.json"] == opened["status.json"] == opened["train.jsonl"] == begun
    assert opened["metrics.json"] == opened["provenance.json"] == done
    assert opened["lock"] <= begun
    assert opened["listed"] <= 1 + len(grid.arms) + 1  # the data set, its arms, and a manifest beside them
    assert sum(opened.values()) <= 4 * begun + 2 * done + opened["listed"]


def test_evaluations_are_read_only_if_runs_evaluate_during_training(many: tuple[Path, Grid]) -> None:
    runs, grid = many
    with counted(runs) as opened:
        status_table(make_plan(grid, runs), 200)
    assert "evaluations.jsonl" not in opened
