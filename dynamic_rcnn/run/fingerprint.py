"""The fingerprint of the code that decides a run's result: a done run whose fingerprint differs is stale.

The fingerprint covers the content of the modules in `DECIDES_RESULT`, not their names: moving or renaming a module does
not change it, nor do comments, docstrings, layout and imports from the package. A test checks that every module that
training imports is in this list, or in the test's list of modules that do not decide the result.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]

DECIDES_RESULT = (
    "data.annotations",
    "data.coco_checks",
    "data.coco_format",
    "data.coco_masks",
    "data.dataset",
    "data.outlines",
    "data.scene",
    "data.shapes",
    "data.shapes_files",
    "data.shared_images",
    "data.usable",
    "engine.build",
    "engine.coco_dataset",
    "engine.checkpoint",  # loads the weights that a run starts from
    "engine.evaluation_run",
    "engine.inference",
    "engine.object_classifier",
    "engine.precision",
    "engine.pretraining_run",
    "engine.results",
    "engine.seeding",
    "engine.start",
    "engine.step",
    "engine.test_time_aug",
    "engine.timing_arms",
    "engine.timing_run",
    "engine.trainer",
    "method",
    "method.author",
    "method.registry",
    "method.roi_head",
    "method.schedule",
    "method.stage",
    "metrics.ap",
    "metrics.columns",
    "metrics.detections",
    "metrics.masks",
    "metrics.names",
    "metrics.precision",
    "ops",
    "ops.faster_modules",
    "ops.roi_align",
    "ops.rpn_head",
    "ops.soft_nms",
    "ops.torchvision_ops",
    "parallel.comm",  # averages gradients and statistics
    "run.batch",
    "run.statistic",
    "train",
)


def code_fingerprint(package: Path = PACKAGE, modules: Sequence[str] = DECIDES_RESULT) -> str:
    """Ten hex digits: a hash of the syntax trees of `modules` (names relative to `package`), in any order."""
    contents = sorted(_dump(_reduced(_source(package, name), package.name)) for name in modules)
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()[:10]


def _source(package: Path, name: str) -> str:
    path = package.joinpath(*name.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8")


def _dump(node: object) -> str:
    """A syntax tree as text, the same on every Python: `ast.dump` also shows fields that only newer versions have."""
    if isinstance(node, ast.AST):
        fields = (
            f"{name}={_dump(value)}" for name, value in ast.iter_fields(node) if value is not None and value != []
        )
        return f"{type(node).__name__}({', '.join(fields)})"
    if isinstance(node, list):
        return f"[{', '.join(_dump(item) for item in node)}]"
    return repr(node)


def _reduced(source: str, package: str) -> ast.Module:
    """The syntax tree without docstrings, and without imports from the package, which contain names of its modules."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            if body and _is_docstring(body[0]):
                body[0] = ast.Expr(ast.Constant("", lineno=0, col_offset=0))
            body[:] = [item for item in body if not _imports_from(item, package)]
    return tree


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imports_from(node: ast.AST, package: str) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.level > 0 or (node.module or "").split(".")[0] == package
    return isinstance(node, ast.Import) and all(alias.name.split(".")[0] == package for alias in node.names)
