"""The checks of `make lint`, and notebooks that hold neither outputs nor logic."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from vecaf_lib.pipeline.notebooks import read_notebook

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LONGEST = 12  # lines of a function in a notebook: enough to plot or to save


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "--no-fix", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["nbstripout", "--verify", *(str(path) for path in NOTEBOOKS)],
    ],
    ids=lambda command: "-".join(command[:2]),
)
def test_a_check_finds_nothing(command: list[str]) -> None:
    tool = Path(sys.executable).with_name(command[0])
    done = subprocess.run([tool, *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_explains_and_computes_nothing(path: Path) -> None:
    cells = read_notebook(path).cells
    assert cells[0].cell_type == "markdown", "say first what this stage does"
    assert cells[0].source.startswith("# ")
    for cell in cells:
        if cell.cell_type != "code":
            continue
        assert cell.execution_count is None
        assert cell.outputs == []
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.ClassDef | ast.AsyncFunctionDef)
            if isinstance(node, ast.FunctionDef):
                lines = len(ast.unparse(node).splitlines())  # neither blank ones nor comments
                assert lines <= LONGEST, f"{node.name} has {lines} lines; move it to vecaf_lib"
