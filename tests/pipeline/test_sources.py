"""Source-only copies change when the source changes, and at no other time."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline.sources import main, write_sources


def write(path: Path, source: str = "loops = 3", *, used: bool = False) -> Path:
    """Write a notebook as committed, or as JupyterLab leaves it after use."""
    cells = [
        new_markdown_cell("# Runs"),
        new_code_cell(source, metadata={"tags": ["parameters"]}),
        new_code_cell("print(loops)"),
    ]
    metadata: dict[str, dict[str, Any]] = {
        "kernelspec": {"name": "python3", "display_name": "Python 3"}
    }
    if used:
        metadata = {
            "kernelspec": {"name": "conda-vecaf", "display_name": "vecaf", "language": "python"},
            "language_info": {"name": "python", "version": "3.13.1"},
            "widgets": {"state": {"5f2c": {}}},
        }
        cells[1].metadata["execution"] = {"iopub.execute_input": "2024-07-28T10:00:00Z"}
        cells[2].metadata |= {"collapsed": True, "scrolled": False, "trusted": True}
        cells[2].outputs = [new_output("stream", name="stdout", text="3\n")]
        cells[2].execution_count = 12
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path


def copy(notebook: Path, folder: Path) -> bytes:
    write_sources(folder, [notebook])
    return (folder / notebook.name).read_bytes()


def test_use_in_jupyter_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "in" / "03_runs.ipynb"
    committed = copy(write(path), tmp_path / "out")
    assert copy(write(path, used=True), tmp_path / "out") == committed
    assert copy(write(path, "loops = 4"), tmp_path / "out") != committed


def test_a_copy_is_a_valid_notebook_with_its_tags(tmp_path: Path) -> None:
    copy(write(tmp_path / "in" / "03_runs.ipynb", used=True), tmp_path / "out")
    notebook = nbformat.read(tmp_path / "out" / "03_runs.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[1].metadata == {"tags": ["parameters"]}
    assert [cell.id for cell in notebook.cells] == ["0", "1", "2"]
    assert notebook.cells[2].outputs == []
    assert notebook.cells[2].execution_count is None


def test_the_command_line_copies_all(tmp_path: Path) -> None:
    paths = [write(tmp_path / "in" / name) for name in ("a.ipynb", "b.ipynb")]
    main([str(tmp_path / "out"), *map(str, paths)])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.ipynb", "b.ipynb"]


def test_bad_input_writes_nothing(tmp_path: Path) -> None:
    good = write(tmp_path / "in" / "a.ipynb")
    out = tmp_path / "out"
    broken = tmp_path / "broken.ipynb"
    broken.write_text('{"nbformat": 4, "cells": [')
    with pytest.raises(BadInput, match=r"broken\.ipynb is not readable JSON"):
        write_sources(out, [good, broken])
    broken.write_text('{"nbformat": 4, "metadata": {}, "cells": [{"cell_type": "code"}]}')
    with pytest.raises(BadInput, match=r"broken\.ipynb is not a valid notebook"):
        write_sources(out, [good, broken])
    broken.write_text('{"nbformat": 3}')
    with pytest.raises(BadInput, match="not a notebook of format 4"):
        write_sources(out, [good, broken])
    with pytest.raises(BadInput, match=r"missing\.ipynb does not exist"):
        write_sources(out, [good, tmp_path / "missing.ipynb"])
    with pytest.raises(BadInput, match=r"Two notebooks are called a\.ipynb"):
        write_sources(out, [good, write(tmp_path / "in2" / "a.ipynb")])
    with pytest.raises(BadInput, match="would replace it"):
        write_sources(good.parent, [good])
    assert not out.exists()
