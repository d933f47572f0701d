"""The interactive notebook runs from top to bottom, and its sliders change the selection."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]

MOVE = """
shown = []
show_map = lambda chosen: shown.append(chosen["ODS, as the sliders say"])
sliders["loss_power"].value = 4.0
sliders["lambda_"].value = 0.1
print(len(shown), sorted(shown[0].tolist()) != sorted(shown[1].tolist()))
"""


def test_the_interactive_notebook_runs_and_its_sliders_act():
    notebook = nbformat.read(ROOT / "notebooks" / "00_explore.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(MOVE))
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": ROOT}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    last = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    assert last.strip().endswith("2 True")
