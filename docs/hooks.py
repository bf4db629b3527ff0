"""MkDocs hook: takes files at the top of the project into the site, README.md as its front page, and the notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"index.md": "README.md", "results.md": "REPORT.md", "CHANGELOG.md": "CHANGELOG.md"}  # page: file


def on_files(files: Files, config: Any) -> Files:
    """Add the pages, and those of the report's grids with their figures."""
    report = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "REPORT_files").glob("*.*")}
    for name, path in {**{name: ROOT / source for name, source in PAGES.items()}, **report}.items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    for path in sorted((ROOT / "docs").glob("*.ipynb")):
        text, resources = MarkdownExporter().from_filename(str(path))
        pictures = {f"{path.stem}/{name}": content for name, content in resources["outputs"].items()}
        for name in resources["outputs"]:
            text = text.replace(f"]({name})", f"]({path.stem}/{name})")
        for name, content in {f"{path.stem}.md": text, **pictures}.items():
            files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Rewrite the links between the top of the project and docs/, which are one folder in the site."""
    if page.file.src_uri.startswith("REPORT_files/"):
        return markdown.replace("](../REPORT.md)", "](../results.md)")
    for name, source in PAGES.items():
        markdown = markdown.replace(f"]({source})", f"]({name})").replace(f"](../{source})", f"]({name})")
    return markdown.replace("](docs/", "](").replace(".ipynb)", ".md)")
