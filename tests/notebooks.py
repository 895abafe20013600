"""Notebooks for tests, written cell by cell."""

from __future__ import annotations

import os
import time
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook


def write_notebook(path: Path, *cells: str, parameters: str | None = None) -> str:
    """Write code cells to ``path``, the first of them tagged ``parameters`` if it is given."""
    code = [new_code_cell(source) for source in cells]
    if parameters is not None:
        code.insert(0, new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=code, metadata={"kernelspec": kernel})
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return str(path)


def written(path: Path) -> str:
    """Return what a kernel writes to ``path``, as soon as it is there."""
    for _ in range(600):
        if path.exists() and (text := path.read_text()).endswith("\n"):
            return text.strip()
        time.sleep(0.05)
    raise TimeoutError(f"Nobody wrote {path} within 30 s.")


def ends(pid: int) -> bool:
    """Whether a process ends within 30 s; one that nobody waited for has ended too."""
    for _ in range(600):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False
