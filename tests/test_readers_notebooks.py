"""The notebooks as their readers get them, executed in processes apart from the tests'."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbformat import NotebookNode

from vecaf_lib.results import compare
from vecaf_lib.results.frame import label

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STAGES = [path.stem for path in NOTEBOOKS if path.stem[0] != "0"]

pytestmark = pytest.mark.timeout(400)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def figures_without_picture(notebook: NotebookNode) -> list[str]:
    """Outputs that name a figure in words, such as ``<Figure size ...>``, and show none."""
    return [
        output.data["text/plain"]
        for cell in code_cells(notebook)
        for output in cell.outputs
        if re.match(r"<Figure|<matplotlib", output.get("data", {}).get("text/plain", ""))
        and not any(kind.startswith("image/") for kind in output.data)
    ]


def run_python(code: str, given: Any, folder: Path, **environment: str) -> str:
    """Standard output of some code run in ``folder``, which has ``given`` in its arguments."""
    own = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-c", code, json.dumps(given)]
    done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


ONE_KERNEL = """
import json, sys, tempfile, nbformat
from nbclient import NotebookClient
from traitlets.config import Config
path, config = json.loads(sys.argv[1]), Config()
with tempfile.TemporaryDirectory() as folder:
    config.KernelManager.transport = "ipc"  # ports collide when tests start side by side
    config.KernelManager.connection_file = folder + "/kernel.json"
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, kernel_name="python3", allow_errors=True, config=config).execute()
nbformat.write(notebook, path)
"""


def execute_all(
    sources: Sequence[Path],
    folder: Path,
    values: Mapping[str, Any] | None = None,
    **environment: str,
) -> dict[str, str]:
    """Run notebooks from their own folder, as a person would; what went wrong, by notebook.

    One kernel, its names deleted in between, takes all, as each new one would import for seconds.
    """
    given = "\n".join(f"{name} = {value!r}" for name, value in (values or {}).items())
    parts = {}
    for source in sources:
        cells = nbformat.read(source, as_version=4).cells
        parameters = next(at for at, cell in enumerate(cells) if cell.cell_type == "code")
        cells.insert(parameters + 1, nbformat.v4.new_code_cell(given))
        parts[source.stem] = [*cells, nbformat.v4.new_code_cell("%reset -f")]
    together = nbformat.v4.new_notebook(cells=[*chain(*parts.values())])
    for number, cell in enumerate(together.cells):
        cell.id = str(number)
    folder.mkdir(exist_ok=True)
    nbformat.write(together, folder / "together.ipynb")
    run_python(ONE_KERNEL, str(folder / "together.ipynb"), sources[0].parent, **environment)
    done, wrong = iter(nbformat.read(folder / "together.ipynb", as_version=4).cells), {}
    for name, cells in parts.items():
        own = nbformat.v4.new_notebook(cells=[*islice(done, len(cells))])
        nbformat.write(own, folder / f"{name}.ipynb")
        errors = [o for cell in code_cells(own) for o in cell.outputs if o.output_type == "error"]
        if errors:  # the first; those after it follow from it
            wrong[name] = "\n".join(errors[0].traceback)
    return wrong


def few_digits(project: Path) -> None:
    """Give a project the data of this one, but of the digits 300 images, and 100 to test on."""
    (project / "data" / "digits").mkdir(parents=True)
    for path in (ROOT / "data").iterdir():
        if path.name not in ("generated", "digits"):
            (project / "data" / path.name).symlink_to(path)
    for path in (ROOT / "data" / "digits").glob("*.csv"):
        few = pd.read_csv(path).groupby("label").head(30 if path.stem == "train" else 10)
        few.to_csv(project / "data" / "digits" / path.name, index=False)


def texts(notebook: NotebookNode) -> str:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.get("text", "") for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_values_for_its_parameters_and_compiles(path):
    cells = code_cells(nbformat.read(path, as_version=4))
    assert cells[0].metadata.tags == ["parameters"]
    for statement in ast.parse(cells[0].source).body:
        assert isinstance(statement, ast.Assign)
        assert ast.literal_eval(statement.value) is not None
    for cell in cells:
        compile(cell.source, path.name, "exec")


@pytest.mark.parametrize("name", STAGES)
def test_by_hand_a_stage_writes_to_the_scratch_folder_alone(name):
    source = code_cells(nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4))[0].source
    values = {
        target.id: ast.literal_eval(statement.value)
        for statement in ast.parse(source).body
        for target in statement.targets
    }
    assert values["output"].startswith("data/generated/scratch/")


def test_a_figure_of_pyplot_is_a_picture_and_a_bare_one_is_found_out(tmp_path):
    plots = {"pyplot": "import matplotlib.pyplot as plt\nplt.plot([1, 2]);"}
    plots["bare"] = "from matplotlib.figure import Figure\nFigure()"
    for name, code in plots.items():
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        notebook.cells[0].metadata.tags = ["parameters"]
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    assert execute_all([*tmp_path.glob("*.ipynb")], tmp_path / "done") == {}
    read = {name: nbformat.read(tmp_path / f"done/{name}.ipynb", as_version=4) for name in plots}
    assert figures_without_picture(read["pyplot"]) == []
    assert any("image/png" in output.get("data", {}) for output in read["pyplot"].cells[0].outputs)
    assert figures_without_picture(read["bare"]) == ["<Figure size 640x480 with 0 Axes>"]


SLIDERS = """
shown = []
draw_map = lambda chosen: shown.append(chosen["ODS, as the sliders say"])
sliders["loss_power"].value = 4.0
sliders["lambda_"].value = 0.1
print(len(plt.get_fignums()), len(shown), sorted(shown[0].tolist()) != sorted(shown[1].tolist()))
"""


def test_the_interactive_notebook_runs_with_a_changed_ratio_and_its_sliders_act(tmp_path):
    """In IPython itself, without a kernel: nbclient may wait for ever for a slider's answer."""
    notebook = nbformat.read(ROOT / "notebooks" / "00_explore.ipynb", as_version=4)
    parameters = code_cells(notebook)[0]
    assert "ratio = 2.0" in parameters.source
    parameters.source = parameters.source.replace("ratio = 2.0", "ratio = 3.0")
    notebook.cells.append(nbformat.v4.new_code_cell(SLIDERS))
    (tmp_path / "notebooks").mkdir()
    few_digits(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):  # what makes a folder a project
        (tmp_path / name).symlink_to(ROOT / name)
    nbformat.write(notebook, tmp_path / "notebooks" / "explore.ipynb")
    own = {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "IPYTHONDIR": str(tmp_path)}
    own |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", "explore.ipynb"],
        cwd=tmp_path / "notebooks",
        env=os.environ | own,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert "300 images, 9 to choose" in done.stdout, done.stdout + done.stderr
    figures, moved, differs = done.stdout.strip().splitlines()[-1].split()
    assert int(figures) >= 3
    assert (moved, differs) == ("2", "True")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project with the real notebooks and settings, and no results."""
    tmp_path = tmp_path_factory.mktemp("project")
    (tmp_path / "notebooks").mkdir()
    for path in NOTEBOOKS:
        (tmp_path / "notebooks" / path.name).write_bytes(path.read_bytes())
    shutil.copy(ROOT / "notebooks" / "figures.mplstyle", tmp_path / "notebooks")
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    few_digits(tmp_path)
    return tmp_path


def test_missing_results_are_named_with_the_command_that_makes_them(project):
    names = ["10_captions", "40_tables"]
    sources = [project / "notebooks" / f"{name}.ipynb" for name in names]
    wrong = execute_all(sources, project / "done")
    assert wrong.keys() == set(names)
    for sentence in wrong.values():
        assert "missing" in sentence
        assert "dvc repro" in sentence


HOSTILE = "<script>alert(1)</script> [a](javascript:b) `c` $d$ *e*"
LINE = {"labels_seen": "all", "loops": 3, "n": 3, "standard_error": 0.5, "runs": "a b"}
LINE |= {"sets": "fresh", "training": "", "empty_centroids": 0.05}


def table_line(method: str, selection: str, ratio: float | None, mean: float, *gap: float) -> dict:
    cell = f"table1/{method}/{selection}/{'all' if ratio is None else f'r{ratio:g}'}"
    place = {"cell": cell, "method": method, "selection": selection, "ratio": ratio}
    line = LINE | place | {"mean": mean, "label": label(method)}
    return line | dict(zip(("difference", "low", "high"), gap, strict=False))


@pytest.fixture(scope="module")
def front_page(project) -> str:
    """The front page of a report of three rows and one figure."""
    report, sections = project / "reports" / "tiny", project / "sections"
    for part in ("tables", "figures", "notebooks", "claims"):
        (report / part).mkdir(parents=True)
    table = pd.DataFrame(
        [
            table_line("activeft", "multi", 2.0, 50.0),
            table_line("activeft", "multi", 5.0, 60.0),
            table_line("full", "single", None, 70.0),
            table_line("vecaf", "multi", 2.0, 49.0, -1.0, -3.0, 1.0) | {"n": 2},
            table_line("vecaf", "multi", 5.0, 58.0, -2.0, -3.0, -1.0),
        ]
    )
    columns = (table[name] for name in ("mean", "standard_error", "n"))
    table["printed"] = [compare.number(*line) for line in zip(*columns, strict=True)]
    for rival in ("random", "full", "vecaf"):
        table[[f"{part}_{rival}" for part in ("difference", "low", "high")]] = float("nan")
    table.to_csv(report / "tables" / "table1.csv", index=False)
    (report / "figures" / "figure4.png").write_bytes(b"drawn")
    (report / "figures" / "figure4.txt").write_text(HOSTILE + "\n")
    (report / "notebooks" / "40_tables.ipynb").write_text("{}")
    claims = pd.DataFrame({"id": ["a", "b"], "verdict": ["reproduced", "undecided"]})
    claims.to_csv(report / "claims" / "claims.csv", index=False)
    sections.mkdir()
    settings: dict[str, Any] = {
        "profile": "tiny",
        "dataset": {"name": "digits", "image_size": 32, "blind": False},
        "training": {"steps": 36, "batch_size": 12},
        "seeds": [0, 1, 2],
        "stands_for": None,
    }
    for name, content in settings.items():
        (sections / f"{name}.json").write_text(json.dumps(content))
    wrong = execute_all(
        [project / "notebooks" / "60_report.ipynb"],
        project / "done",
        {"output": "reports/{profile}/README.md"},
        VECAF_SETTINGS=str(sections),
    )
    assert wrong == {}
    return (report / "README.md").read_text(encoding="utf-8")


def test_the_front_page_by_hand(front_page):
    lines = front_page.splitlines()
    assert lines[2].startswith("> Profile tiny: digits at 32 px, 36 steps of 12 images, 3 seeds.")
    assert lines[4].startswith("VeCAF (ACM MM 2024)")  # nothing to warn of
    assert (
        "- **VeCAF against multi-run ActiveFT**: of 2, *is behind* in 1, *cannot be told apart* in "
        "1. fresh sets, 2 %: −1.00 [−3.00, +1.00] ○; fresh sets, 5 %: −2.00 [−3.00, −1.00] ▼."
    ) in lines
    assert not [line for line in lines if "against random" in line]
    assert "| **VeCAF** | 49.00 ± 0.50 (n = 2) | 58.00 ± 0.50 (n = 3) | – |" in lines
    assert "![Figure 4](figures/figure4.png)" in lines
    assert "[40_tables](notebooks/40_tables.ipynb)" in front_page
    assert "1 reproduced; 1 undecided" in front_page


def test_a_caption_on_the_front_page_is_text(front_page):
    assert r"\<script\>alert(1)\</script\> \[a\](javascript:b) \`c\` \$d\$ \*e\*" in front_page
    assert "<script" not in front_page.replace(r"\<script", "")
