"""The notebooks of the site run from their first cell to their last, and are shown with outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs/pages/notebooks").glob("*.ipynb"))


def outputs(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """Kinds of what each cell shows; what it writes to its log is not kept."""
    code = (cell for cell in notebook.cells if cell.cell_type == "code")
    kinds = ([output.output_type for output in cell.outputs] for cell in code)
    return [[kind for kind in some if kind != "stream"] for some in kinds]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_is_kept_of_it(path):
    kept = nbformat.read(path, as_version=4)
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where).execute()
    assert outputs(notebook) == outputs(kept)
    assert any(outputs(kept))


def test_a_notebook_is_a_page_of_the_site(reference):
    page = reference.on_page_markdown("{{ notebook: first-run.ipynb }}")
    assert page.startswith("# A first run")
    assert "```python\nrun.report().name\n```\n\n```text\n'report.html'\n```" in page
    assert "[This page as a notebook](first-run.ipynb)" in page
