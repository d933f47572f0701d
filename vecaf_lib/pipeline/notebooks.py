"""Notebooks as files: one reader, and two forms whose bytes depend on nothing volatile."""

import json
import re
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbstripout import strip_output

from vecaf_lib.errors import BadInput

INJECTED_TAG = "injected-parameters"

_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
_KERNEL_FOLDER = re.compile(r"[^\s\"'<>]*ipykernel_\d+/")  # of a cell, with the process id


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook, to be run by the kernel of this environment whatever kernel it names.

    Cells that an old format left without an id get their number as id.

    Raises:
        BadInput: the file is missing, not JSON, or not a version 4 notebook.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"Notebook {path} does not exist; check the path.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"Notebook {path} is not readable JSON ({error}); restore it.") from error
    if not isinstance(content, dict) or content.get("nbformat") != 4:
        raise BadInput(f"{path} is not a notebook of format 4; save it again in JupyterLab.")
    try:
        for number, cell in enumerate(content["cells"]):
            cell.setdefault("id", str(number))
        content["nbformat_minor"] = 5
        notebook = nbformat.reads(json.dumps(content), as_version=4)
        nbformat.validate(notebook)
    except (nbformat.ValidationError, KeyError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(
            f"{path} is not a valid notebook ({reason}); save it again in JupyterLab."
        ) from error
    notebook.metadata = nbformat.from_dict(_METADATA)
    return notebook


def notebook_bytes(notebook: NotebookNode) -> bytes:
    """The bytes of a notebook file, keys sorted."""
    return (nbformat.writes(notebook).rstrip("\n") + "\n").encode()


def source_only(notebook: NotebookNode) -> NotebookNode:
    """Keep what an author writes: cells and their tags. Changes and returns ``notebook``.

    Outputs, counts, other metadata and cell ids (which Jupyter draws at random) go, so that
    saving a notebook in JupyterLab without a change of its source changes nothing here.
    """
    for cell in notebook.cells:
        cell.metadata = _authored_metadata(cell)
    return strip_output(notebook, keep_output=False, keep_count=False, keep_id=False)


def executed(notebook: NotebookNode) -> NotebookNode:
    """Drop what differs between two executions of one notebook. Changes and returns ``notebook``.

    Times, paths and durations that papermill records, the random id of the injected cell and
    the kernel's process id in warnings go; outputs and execution counts stay.
    """
    for cell in notebook.cells:
        cell.metadata = _authored_metadata(cell)
        if INJECTED_TAG in cell.metadata.get("tags", []):
            cell.id = INJECTED_TAG
        if cell.cell_type == "code":
            cell.outputs = [_without_process_id(output) for output in cell.outputs]
    return notebook


def _authored_metadata(cell: NotebookNode) -> NotebookNode:
    kept = {key: cell.metadata.get(key) for key in ("tags", "mystnb")}
    return nbformat.from_dict({key: value for key, value in kept.items() if value})


def _without_process_id(output: Any) -> Any:
    if isinstance(output, str):
        return _KERNEL_FOLDER.sub("ipykernel/", output)
    if isinstance(output, list):
        return [_without_process_id(item) for item in output]
    if isinstance(output, dict):
        clean = {k: v if _is_image(k) else _without_process_id(v) for k, v in output.items()}
        return nbformat.from_dict(clean)
    return output


def _is_image(key: str) -> bool:
    return key.startswith("image/")
