"""The fingerprint of the code that decides a run's result: a done run whose fingerprint differs is stale."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
_NOT_IN_RESULT = ("run", "__init__.py", "errors.py")


def code_fingerprint(package: Path = PACKAGE) -> str:
    """Ten hex digits over the syntax trees of the package; comments, docstrings and layout do not count."""
    total = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if name.split("/")[0] not in _NOT_IN_RESULT:
            total.update(f"{name} {_dump(_without_docstrings(path.read_text('utf-8')))}".encode())
    return total.hexdigest()[:10]


def _dump(node: object) -> str:
    """A syntax tree as text, the same for every Python: `ast.dump` shows fields that only newer ones have."""
    if isinstance(node, ast.AST):
        fields = (
            f"{name}={_dump(value)}" for name, value in ast.iter_fields(node) if value is not None and value != []
        )
        return f"{type(node).__name__}({', '.join(fields)})"
    if isinstance(node, list):
        return f"[{', '.join(_dump(item) for item in node)}]"
    return repr(node)


def _without_docstrings(source: str) -> ast.Module:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body[0] = ast.Expr(ast.Constant("", lineno=0, col_offset=0))
    return tree
