"""The notebook of the documentation: executed on the committed records, it gives the outputs that it shows."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat

DOCS = Path(__file__).parents[1] / "docs"


def outputs(notebook: nbformat.NotebookNode) -> list[str]:
    """The tables and numbers as text. Pictures depend on the version of matplotlib."""
    found = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["data"]["text/plain"] for output in found if output["output_type"] == "execute_result"]


def test_the_notebook_gives_the_outputs_that_it_shows() -> None:
    notebook = nbformat.read(DOCS / "pretraining-and-gain.ipynb", as_version=4)
    shown = outputs(notebook)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": DOCS}}).execute()
    assert len(shown) == 4 and outputs(notebook) == shown
