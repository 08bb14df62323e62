"""Runs the notebooks from a clean kernel and stores them with what they showed: `python notebooks/build.py`."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
CHARTS = "NOTEBOOK_CHARTS"  # the variable that `picture` looks at
SECONDS = 60  # for one cell


def source_digest(notebook: NotebookNode) -> str:
    """Of the kinds and sources of all cells."""
    return hashlib.sha256(repr([(cell.cell_type, cell.source) for cell in notebook.cells]).encode()).hexdigest()


def executed(notebook: NotebookNode) -> NotebookNode:
    """A copy as a clean kernel leaves it.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    ran = nbformat.from_dict(notebook)
    for cell in ran.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    resources = {"metadata": {"path": str(HERE)}}
    client = NotebookClient(
        ran, timeout=SECONDS, kernel_name="python3", record_timing=False, coalesce_streams=True, resources=resources
    )
    client.execute()
    return ran


def stored(notebook: NotebookNode) -> NotebookNode:
    """The same without what differs between machines."""
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
        built_from=source_digest(notebook),
    )
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
    return notebook


def main() -> None:
    """Builds the notebooks that are named, in place, or all."""
    os.environ.setdefault(CHARTS, "png")
    for path in map(Path, sys.argv[1:] or sorted(HERE.glob("*.ipynb"))):
        nbformat.write(stored(executed(nbformat.read(path, as_version=4))), path)
        print(f"{path.name}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
