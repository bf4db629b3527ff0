"""The fingerprint depends on what the code does and not on its layout. Also: provenance of a checkout."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from dynamic_rcnn.run.fingerprint import DECIDES_RESULT, PACKAGE, code_fingerprint
from dynamic_rcnn.run.provenance import Origin, collect, write

DOES_NOT_DECIDE_RESULT = (
    "",
    "data",
    "data.missing_files",  # words messages
    "data.stage",  # copies, and checks that they are equal
    "engine",
    "engine.ending",
    "engine.pace",  # what is measured
    "engine.preflight",
    "engine.pretrained",
    "engine.refusal",
    "engine.stop_signal",
    "cli",
    "errors",
    "method.statistics",  # what is logged
    "metrics",
    "parallel",
    "parallel.processes",
    "parallel.rank",
    "parallel.rendezvous",
    "run",
    "run.claim",
    "run.files",
    "run.fingerprint",
    "run.heartbeat",
    "run.lease",
    "run.lock",
    "run.process_env",
    "run.provenance",
    "run.results",
    "run.reuse",
    "run.schema",
    "run.spec",
    "run.status",
    "run.train_log",
    "run.values",
    "run.worker",
)

SOURCE = '"""Module."""\n\n\ndef f(x):\n    """Add one."""\n    return x + 1  # one\n'


def fingerprint(folder: Path, **files: str) -> str:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return code_fingerprint(folder, [name.replace("__", ".") for name in files])


@pytest.mark.parametrize(
    "text",
    [
        SOURCE.replace("# one", "# another comment"),
        SOURCE.replace("Add one.", "Add 1 to x.\n\n    Longer."),
        SOURCE.replace("Module.", "Another."),
        SOURCE.replace("return x + 1", "return (\n        x\n        + 1\n    )"),
    ],
)
def test_comments_docstrings_and_layout_do_not_change_the_fingerprint(tmp_path: Path, text: str) -> None:
    assert fingerprint(tmp_path, train=SOURCE) == fingerprint(tmp_path, train=text)


@pytest.mark.parametrize(
    "text", [SOURCE.replace("+ 1", "+ 2"), SOURCE.replace("f(x)", "f(x=0)"), SOURCE + "\n\nf(1)\n"]
)
def test_changes_of_the_code_change_the_fingerprint(tmp_path: Path, text: str) -> None:
    assert fingerprint(tmp_path, train=SOURCE) != fingerprint(tmp_path, train=text)


def test_moving_a_module_does_not_change_the_fingerprint(tmp_path: Path) -> None:
    other = "x = 1\n"
    one = fingerprint(tmp_path, train=SOURCE, method__head=other)
    assert fingerprint(tmp_path, a__b__trainer=SOURCE, head=other) == one
    assert fingerprint(tmp_path, train=SOURCE) != one


def test_only_imports_from_other_packages_change_the_fingerprint(tmp_path: Path) -> None:
    package = tmp_path / "dynamic_rcnn"
    one = fingerprint(package, train=SOURCE)
    own = "from dynamic_rcnn.a.b import c\nimport dynamic_rcnn.d\n\n\ndef"
    assert fingerprint(package, train=SOURCE.replace("def", own)) == one
    assert fingerprint(package, train=SOURCE.replace("def", "from torch import nn\n\n\ndef")) != one


def imported_by_training() -> set[str]:
    """Modules of the package that `dynamic_rcnn.train` imports, in any function, directly or through others."""
    found, waiting = set(), ["train"]
    while waiting:
        name = waiting.pop()
        path = PACKAGE.joinpath(*name.split(".")) if name else PACKAGE
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in found or not path.exists():
            continue
        found.add(name)
        waiting += [name.rpartition(".")[0]]
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dynamic_rcnn":
                module = (node.module or "").partition(".")[2]
                waiting += [module, *(f"{module}.{alias.name}".lstrip(".") for alias in node.names)]
    return found


def test_every_module_that_training_imports_is_on_one_of_the_lists() -> None:
    listed = [*DECIDES_RESULT, *DOES_NOT_DECIDE_RESULT]
    assert len(set(listed)) == len(listed)
    imported = imported_by_training()
    assert {"method.roi_head", "engine.trainer", "metrics.ap"} <= imported  # the search finds known imports
    assert sorted(imported - set(listed)) == []
    assert sorted(set(listed) - imported) == []


def test_provenance_contains_what_repeats_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNAMIC_RCNN_COMMAND", "python experiments/launch.py grid=smoke 'seeds=[0, 1]'")
    found = collect(device="cpu", threads=2, dataset_fingerprint="abc")
    assert found.command == "python experiments/launch.py grid=smoke 'seeds=[0, 1]'"
    assert found.code == code_fingerprint()
    assert {"python", "torch", "mmdet", "numpy"} <= set(found.versions)
    assert (found.device, found.threads, found.dataset_fingerprint) == ("cpu", 2, "abc")


def test_provenance_of_a_package_outside_any_checkout_names_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamic_rcnn.run.provenance.PACKAGE", tmp_path)
    found = collect(device="cpu", threads=1, dataset_fingerprint="abc")
    assert (found.commit, found.dirty, found.diff) == (None, False, "")


def test_earlier_provenance_is_kept_where_it_differs(tmp_path: Path) -> None:
    import json

    for threads in (2, 2, 4):
        write(tmp_path, Origin(threads=threads))
    found = json.loads((tmp_path / "provenance.json").read_text())
    assert found["threads"] == 4
    assert [(each["schema"], each["threads"]) for each in found["earlier"]] == [(1, 2)]


def test_the_fingerprint_is_the_same_on_every_python(tmp_path: Path) -> None:
    """A literal: syntax trees gained fields in 3.12 (type parameters of functions and classes)."""
    source = "class A(B):\n    def f(self, x: int = 1) -> int:\n        return x if x else f'{x!r:>3}'\n"
    (tmp_path / "a.py").write_text(source)
    assert code_fingerprint(tmp_path, ["a"]) == "f5705a4f19"
