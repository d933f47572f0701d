"""Code cells of the notebooks, executed in the tests' own process."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def cell(notebook: str, *texts: str, **names: Any) -> dict[str, Any]:
    """``names``, and those that the one cell with each text adds; they are its globals."""
    for text in texts:
        (source,) = (source for source, _ in _code(notebook) if text in source)
        exec(source, names)
    return names


def execute(
    notebook: str, parameters: Mapping[str, Any], until: str = "", **names: Any
) -> dict[str, Any]:
    """Execute all code cells, or those before one with the text ``until``; their variables."""
    for source, tags in _code(notebook):
        if until and until in source:
            break
        exec(source, names)
        if "parameters" in tags:
            names |= parameters
    return names


def _code(notebook: str) -> list[tuple[str, list[str]]]:
    cells = json.loads((NOTEBOOKS / notebook).read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    return [("".join(cell["source"]), cell["metadata"].get("tags", [])) for cell in code]
